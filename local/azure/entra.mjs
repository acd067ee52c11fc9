// Entra ID's stand-in: oidc-provider with the few things that Entra does differently.
//
// Reads its settings as JSON from the first argument and prints one line when it listens:
//   { issuer, tenant, prefix, audiences: [arm, storage], clients: [...], person: {...},
//     ttl: { access, refresh, device }, rotate }
// It speaks plain HTTP on a loopback port of its own; local/azure/front.py puts TLS before it.
import http from 'node:http';
import { Provider } from 'oidc-provider';

const settings = JSON.parse(process.argv[2]);
const { audiences, person, tenant, ttl, prefix } = settings;

// Entra's tokens are for one resource each; the resource is the scope without its /.default.
const resourceOf = (scopes) =>
  audiences.find((audience) => String(scopes ?? '').split(' ').includes(`${audience}/.default`));

// One sign-in is good for every resource: all are granted at the start, one is picked at the token endpoint.
function defaultResource(ctx) {
  if (ctx.oidc?.route !== 'token') return audiences;
  return resourceOf(ctx.oidc.params?.scope) ?? audiences[0];
}

const scopes = audiences.map((audience) => `${audience}/.default`);

const provider = new Provider(settings.issuer, {
  clients: settings.clients,
  scopes: ['openid', 'profile', 'offline_access', ...scopes],
  claims: { openid: ['sub', 'oid', 'tid'], profile: ['name', 'preferred_username'] },
  conformIdTokenClaims: false,
  pkce: { required: () => false },
  rotateRefreshToken: () => settings.rotate,
  issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
  ttl: {
    AccessToken: ttl.access,
    ClientCredentials: ttl.access,
    RefreshToken: ttl.refresh,
    DeviceCode: ttl.device,
    AuthorizationCode: ttl.code,
    Grant: 86_400,
    Session: 86_400,
    IdToken: 3600,
    Interaction: 3600,
  },
  cookies: { keys: ['local'] },
  findAccount: async (ctx, id) => ({
    accountId: id,
    claims: async () => ({ sub: id, ...person, preferred_username: id, tid: tenant }),
  }),
  formats: {
    customizers: {
      async jwt(ctx, token, parts) {
        const app = token.clientId;
        Object.assign(parts.payload, {
          iss: `https://sts.windows.net/${tenant}/`,
          nbf: parts.payload.iat,
          tid: tenant,
          appid: app,
          oid: token.accountId ? person.oid : app,
          ...(token.accountId ? { upn: token.accountId } : {}),
        });
        return parts;
      },
    },
  },
  features: {
    deviceFlow: { enabled: true },
    clientCredentials: { enabled: true },
    revocation: { enabled: true },
    devInteractions: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => ({
        scope: [...scopes, 'openid', 'profile', 'offline_access'].join(' '),
        audience: resource,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});
provider.proxy = true;

provider.on('server_error', (ctx, error) => console.error(error.stack));

const handle = provider.callback();
const server = http.createServer((request, response) => {
  request.originalUrl = request.url;
  if (!request.url.startsWith(prefix)) {
    response.writeHead(404).end();
    return;
  }
  request.url = request.url.slice(prefix.length) || '/';
  handle(request, response);
});
server.listen(0, '127.0.0.1', () => console.log(`ready ${server.address().port}`));
// The parent keeps our standard input open: when it is gone, so are we.
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
