// Entra ID's stand-in: oidc-provider with the few things that Entra does differently.
//
// Reads its settings as JSON from the first argument and prints one line when it listens:
//   { issuer, tenant, prefix, audiences: [arm, storage], clients: [...], person: {...}, login,
//     ttl: { access, refresh, device } }
// It speaks plain HTTP on a loopback port of its own; local/azure/front.py puts TLS before it, and local/azure/entra.py
// does what needs no provider. The header x-local-single-use of a token request makes its refresh token work once.
import http from 'node:http';
import { Provider } from 'oidc-provider';

const settings = JSON.parse(process.argv[2]);
const { audiences, login, person, tenant, ttl, prefix } = settings;

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
  rotateRefreshToken: () => true,
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

// Entra gives a new refresh token with every refresh and does not revoke the old one.
const { consume } = provider.RefreshToken.prototype;
provider.RefreshToken.prototype.consume = function consumeOnRequest() {
  return Provider.ctx.get('x-local-single-use') ? consume.call(this) : undefined;
};

// What the provider finds wrong (its detail or else its error), and how Entra says it: error, number, text.
const REFUSALS = {
  'client not found': ['unauthorized_client', 700016, 'Application was not found in the directory.'],
  'invalid secret provided': ['invalid_client', 7000215, 'Invalid client secret provided.'],
  invalid_client: ['invalid_client', 700027, 'The certificate or the assertion that was sent is not valid.'],
  'authorization code not found': ['invalid_grant', 9002313, 'Invalid request. Request is malformed or invalid.'],
  'authorization code already consumed': ['invalid_grant', 54005, 'OAuth2 Authorization code was already redeemed.'],
  'authorization code is expired': ['invalid_grant', 70008, 'The provided authorization code has expired.'],
  'code_verifier does not match code_challenge': ['invalid_grant', 501481, 'The Code_Verifier does not match the code_challenge.'],
  'refresh token is expired': ['invalid_grant', 700082, 'The refresh token has expired due to inactivity.'],
  'device code not found': ['bad_verification_code', 0, 'The device code is not known.'],
  invalid_grant: ['invalid_grant', 70000, 'The provided grant is not valid or has been revoked.'],
  authorization_pending: ['authorization_pending', 70016, 'Pending end-user authorization.'],
  expired_token: ['expired_token', 70020, 'The device code has expired.'],
  access_denied: ['authorization_declined', 65004, 'The user declined to consent.'],
};

function asEntraSaysIt(ctx, error) {
  const [name, number, text] = REFUSALS[error.error_detail] ?? REFUSALS[error.error] ?? [error.error, 0, error.error_description];
  ctx.body = { error: name, error_description: text, error_codes: number ? [number] : [] };
}
provider.on('grant.error', asEntraSaysIt);
provider.on('device_authorization.error', asEntraSaysIt);

// The pages ask for nothing from another host, and say who can sign in.
provider.use(async (ctx, next) => {
  await next();
  if (typeof ctx.body !== 'string' || !ctx.response.is('html')) return;
  ctx.body = ctx.body
    .replace(/@import url\([^)]*\);/g, '')
    .replace('placeholder="Enter any login"', `placeholder="${login}"`)
    .replace('placeholder="and password"', 'placeholder="any password"')
    .replace(/(<input required type="text" name="login")/, `<p>Sign in as <b>${login}</b> with any password.</p>\n  $1`);
});

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
