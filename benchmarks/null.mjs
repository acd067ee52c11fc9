// A blob service that costs nothing: it throws uploads away, serves zeros, and lists blobs that it makes up.
// Arguments: key file, certificate file, number of blobs to list. Prints its port.
import crypto from 'node:crypto';
import fs from 'node:fs';
import https from 'node:https';

const [keyFile, certFile, count] = process.argv.slice(2);
const SIZE = 256 * 2 ** 20;
const SMALL = 4096;
const zeros = Buffer.alloc(8 * 2 ** 20);
const PAGE = 5000;
const hash = crypto.createHash('md5');
for (let left = SIZE; left > 0; left -= zeros.length) hash.update(zeros);
const md5 = hash.digest('base64');

function row(number) {
  const name = `folder-${number % 97}/blob-${String(number).padStart(7, '0')}.bin`;
  return `<Blob><Name>${name}</Name><Properties><Creation-Time>Fri, 20 Nov 2026 08:15:30 GMT</Creation-Time>`
    + `<Last-Modified>Fri, 20 Nov 2026 08:15:30 GMT</Last-Modified><Etag>0x8DE2801B6F0C1A2</Etag>`
    + `<Content-Length>${number}</Content-Length><Content-Type>application/octet-stream</Content-Type>`
    + `<Content-Encoding /><Content-Language /><Content-CRC64 /><Content-MD5>sQqNsWTwdUEFt6mb5y4/5Q==</Content-MD5>`
    + `<Cache-Control /><Content-Disposition /><BlobType>BlockBlob</BlobType><AccessTier>Hot</AccessTier>`
    + `<AccessTierInferred>true</AccessTierInferred><LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState>`
    + `<ServerEncrypted>true</ServerEncrypted></Properties><OrMetadata /></Blob>`;
}
const pages = new Map();
function page(start) {
  if (pages.has(start)) return pages.get(start);
  const end = Math.min(start + PAGE, Number(count));
  const rows = Array.from({ length: end - start }, (_, at) => row(start + at)).join('');
  const marker = end < Number(count) ? `<NextMarker>m${end}</NextMarker>` : '<NextMarker />';
  const made = Buffer.from(`<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="https://x/" ContainerName="bench">`
    + `<Blobs>${rows}</Blobs>${marker}</EnumerationResults>`);
  pages.set(start, made);
  return made;
}

const always = {
  ETag: '"0x8DE2801B6F0C1A2"', 'Last-Modified': 'Fri, 20 Nov 2026 08:15:30 GMT', 'x-ms-request-id': 'r', 'x-ms-version': '2025-11-05',
};

function read(request, response, url) {
  const size = url.pathname.includes('small') ? SMALL : SIZE;
  const range = /bytes=(\d+)-(\d*)/.exec(request.headers['x-ms-range'] ?? request.headers.range ?? '');
  const start = range ? Number(range[1]) : 0;
  const end = range && range[2] ? Math.min(Number(range[2]), size - 1) : size - 1;
  const headers = {
    ...always, 'x-ms-blob-type': 'BlockBlob', 'Content-Type': 'application/octet-stream', 'Content-Length': end - start + 1,
  };
  if (url.pathname.includes('md5')) headers['x-ms-blob-content-md5'] = md5;
  if (range) headers['Content-Range'] = `bytes ${start}-${end}/${size}`;
  response.writeHead(range ? 206 : 200, headers);
  if (request.method === 'HEAD') return response.end();
  let left = end - start + 1;
  const pump = () => {
    while (left > 0) {
      const piece = zeros.subarray(0, Math.min(left, zeros.length));
      left -= piece.length;
      if (!response.write(piece)) return response.once('drain', pump);
    }
    return response.end();
  };
  return pump();
}

const server = https.createServer({ key: fs.readFileSync(keyFile), cert: fs.readFileSync(certFile) }, (request, response) => {
  const url = new URL(request.url, 'https://x');
  request.on('data', () => {});
  request.on('end', () => {
    if (request.method === 'PUT') return response.writeHead(201, { ...always, 'Content-Length': 0 }).end();
    if (url.searchParams.get('comp') === 'list') {
      const found = page(Number((url.searchParams.get('marker') ?? 'm0').slice(1)));
      return response.writeHead(200, { ...always, 'Content-Type': 'application/xml', 'Content-Length': found.length }).end(found);
    }
    if (request.method === 'HEAD' && url.pathname.includes('new')) return response.writeHead(404, { ...always, 'x-ms-error-code': 'BlobNotFound' }).end();
    return read(request, response, url);
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
