// Azurite's blob service, with accounts that can come and go while it runs, and a cupboard for blobs that were replaced
// or deleted: documents of Azurite's own store under an account of their own, so that Azurite serves them like others.
//
// Each line on standard input is a JSON object {do, ...} and is answered with one line "done {...}" on standard output;
// the end of standard input ends the process. The command line is Azurite's own.
import readline from 'node:readline';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const accountStore = require('azurite/dist/src/common/AccountDataStore.js').default;
const blobStore = require('azurite/dist/src/blob/persistence/LokiBlobMetadataStore.js').default;
const blobHandler = require('azurite/dist/src/blob/handlers/BlobHandler.js').default;

const CUPBOARD = 'kept-'; // real names have no hyphen
const LEASE = ['leaseId', 'leaseDurationSeconds', 'leaseDurationType', 'leaseExpireTime', 'leaseBreakTime'];
let accounts = {};
let store;

accountStore.prototype.getAccount = (name) => accounts[name];

// Whether a source may be read is decided before a copy gets here.
blobHandler.prototype.validateCopySource = async () => {};

const init = blobStore.prototype.init;
blobStore.prototype.init = async function remember() {
  await init.call(this);
  store = this;
};

const blobs = () => store.db.getCollection(store.BLOBS_COLLECTION);
const containers = () => store.db.getCollection(store.CONTAINERS_COLLECTION);
const find = (account, { container, blob }, snapshot) =>
  blobs().findOne({ accountName: account, containerName: container, name: blob, snapshot });

function copyOf(document, accountName, snapshot) {
  const { $loki, meta, ...rest } = document;
  const copy = structuredClone(rest);
  for (const name of LEASE) {
    copy[name] = undefined;
  }
  Object.assign(copy.properties, { leaseState: 'available', leaseStatus: 'unlocked', leaseDuration: undefined });
  return Object.assign(copy, { accountName, snapshot });
}

function shelf(account, container) {
  const name = { accountName: CUPBOARD + account, name: container };
  if (!containers().findOne(name)) {
    const original = containers().findOne({ accountName: account, name: container });
    const { $loki, meta, ...rest } = original;
    containers().insert({ ...structuredClone(rest), ...name, publicAccess: undefined });
  }
  return name.accountName;
}

const operations = {
  accounts({ keys }) {
    accounts = {};
    for (const [name, [key1, key2]] of Object.entries(keys)) {
      for (const known of [name, CUPBOARD + name]) {
        accounts[known] = { name: known, key1: Buffer.from(key1, 'base64'), key2: Buffer.from(key2, 'base64') };
      }
    }
    return {};
  },
  // Copies a blob or snapshot into the cupboard under `key`.
  keep({ account, snapshot, key, ...place }) {
    const document = find(account, place, snapshot);
    if (!document || !document.isCommitted) {
      return { found: false };
    }
    blobs().insert(copyOf(document, shelf(account, place.container), key));
    const { lastModified, etag, blobType, contentLength } = document.properties;
    return { found: true, lastModified, etag, blobType, contentLength };
  },
  // Copies what is in the cupboard under `key` back, as the blob itself or as a snapshot of it.
  bring({ account, snapshot, key, ...place }) {
    const document = find(CUPBOARD + account, place, key);
    if (!document) {
      return { found: false };
    }
    const old = find(account, place, snapshot);
    if (old) {
      blobs().remove(old);
    }
    blobs().insert(copyOf(document, account, snapshot));
    return { found: true };
  },
  tier({ account, snapshot, tier, ...place }) {
    const document = find(account, place, snapshot);
    Object.assign(document.properties, { accessTier: tier, accessTierInferred: false, accessTierChangeTime: new Date() });
    blobs().update(document);
    return {};
  },
  // Takes the content of a copied blob aside and says that the copy is pending. Page blobs have their length from the start.
  pend({ account, ...place }) {
    const document = find(account, place, '');
    const { persistency, committedBlocksInOrder, pageRangesInOrder, properties } = document;
    const { contentLength, contentMD5, blobType } = properties;
    document.aside = { persistency, committedBlocksInOrder, pageRangesInOrder, contentLength, contentMD5 };
    Object.assign(document, { persistency: undefined, committedBlocksInOrder: undefined, pageRangesInOrder: undefined });
    Object.assign(properties, {
      contentLength: blobType === 'PageBlob' ? contentLength : 0,
      contentMD5: undefined,
      copyStatus: 'pending',
      copyProgress: `0/${contentLength}`,
      copyCompletionTime: undefined,
    });
    blobs().update(document);
    return { copyId: properties.copyId };
  },
  // The end of a pending copy: its content is there, or it never will be.
  settle({ account, status, description, ...place }) {
    const document = find(account, place, '');
    if (!document?.aside) {
      return { found: false };
    }
    const { contentLength, contentMD5, ...content } = document.aside;
    if (status === 'success') {
      Object.assign(document, content);
      Object.assign(document.properties, { contentLength, contentMD5, copyProgress: `${contentLength}/${contentLength}` });
    } else {
      document.properties.contentLength = 0;
    }
    Object.assign(document.properties, {
      copyStatus: status,
      copyStatusDescription: description,
      copyCompletionTime: new Date(),
      etag: `"0x${Date.now().toString(16).toUpperCase()}"`,
      lastModified: new Date(),
    });
    document.aside = undefined;
    blobs().update(document);
    return { found: true };
  },
  snapshots({ account, container, blob }) {
    const found = blobs().find({ accountName: account, containerName: container, name: blob });
    return { snapshots: found.map((document) => document.snapshot).filter((snapshot) => snapshot) };
  },
  // Copies a container with all that is in it to another account and name.
  copyContainer({ account, container, toAccount, toContainer }) {
    const document = containers().findOne({ accountName: account, name: container });
    if (!document) {
      return { found: false };
    }
    const { $loki, meta, ...rest } = document;
    const copy = { ...structuredClone(rest), accountName: toAccount, name: toContainer };
    Object.assign(copy.properties, { leaseState: 'available', leaseStatus: 'unlocked', leaseDuration: undefined });
    for (const name of LEASE) {
      copy[name] = undefined;
    }
    containers().insert(copy);
    for (const blob of blobs().find({ accountName: account, containerName: container })) {
      blobs().insert(Object.assign(copyOf(blob, toAccount, blob.snapshot), { containerName: toContainer }));
    }
    return { found: true };
  },
  dropContainer({ account, container }) {
    containers().findAndRemove({ accountName: account, name: container });
    blobs().findAndRemove({ accountName: account, containerName: container });
    return {};
  },
  remove({ account, ...place }) {
    blobs().remove(find(account, place, ''));
    return {};
  },
  drop({ account, key, ...place }) {
    const document = find(CUPBOARD + account, place, key);
    if (document) {
      blobs().remove(document);
    }
    return {};
  },
};

readline
  .createInterface({ input: process.stdin })
  .on('line', (line) => {
    const { do: name, ...rest } = JSON.parse(line);
    let answer;
    try {
      answer = operations[name](rest);
    } catch (error) {
      answer = { error: String(error) };
    }
    console.log(`done ${JSON.stringify(answer)}`);
  })
  .on('close', () => process.exit(0));

require('azurite/dist/src/blob/main.js');
