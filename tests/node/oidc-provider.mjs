// A real authorization server as a process of its own: npm's oidc-provider on loopback, rotating
// refresh tokens, with a small API behind it that asks the provider's own store about each token.
//
// The first line of standard input is its configuration, a JSON object; every member may be absent:
//   clients             client metadata [RFC 7591]; default: one with client_secret_basic
//   scopes              what may be granted; default contacts.read and contacts.write
//   resources           {"https://api.example": {"scope": "...", "jwt": true}}  [RFC 8707]
//   access_token_ttl_s  default 60
//   refresh_token_ttl_s default 86400
//   rotate              default true: single use, and a reuse revokes the grant
//   tls                 {cert, key}, PEM: the provider speaks TLS and asks for client certificates [RFC 8705]; the
//                       test's own routes stay on plain HTTP
// It prints one JSON line when it listens, and ends on SIGTERM or when standard input closes.
//
// For tests only, beside the provider's own routes:
//   POST /_test/consent {client_id, scope, user?, resource?} -> {refresh_token, grant_id}
//   POST /_test/client  client metadata: registers the client, anew if it is there
//   POST /_test/revoke  {grant_id}
//   GET  /_test/ledger  how often each thing happened
//   GET  /api/contacts  needs a valid access token with scope contacts.read

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { createInterface } from 'node:readline';

import { exportJWK, generateKeyPair } from 'jose';
import { errors, Provider } from 'oidc-provider';

import { store } from './store.mjs';

const MAX_BODY_BYTES = 16 * 1024;
const CONTACTS = [
  { id: '1', name: 'Ada Lovelace', email: 'ada@example.com' },
  { id: '2', name: 'Alan Turing', email: 'alan@example.com' },
];

const lines = createInterface({ input: process.stdin, crlfDelay: Infinity });
// Watched from the start: a standard input that closes while the server comes up still ends it.
const closed = once(lines, 'close');
const first = await Promise.race([once(lines, 'line'), closed.then(() => undefined)]);
if (first === undefined) {
  process.stderr.write('no configuration: write one line of JSON to standard input\n');
  process.exit(2);
}
const config = JSON.parse(first[0]);

const scopes = config.scopes ?? ['contacts.read', 'contacts.write'];
const resources = config.resources ?? {};
const accessTokenTtl = config.access_token_ttl_s ?? 60;
const refreshTokenTtl = config.refresh_token_ttl_s ?? 86_400;
const withDefaults = (client) => ({
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  redirect_uris: ['http://127.0.0.1/callback'],
  application_type: 'native',
  ...client,
});
const clients = (
  config.clients ?? [
    {
      client_id: 'tokenkeep',
      client_secret: 'a-secret-for-tests-only-0123456789',
      token_endpoint_auth_method: 'client_secret_basic',
    },
  ]
).map(withDefaults);

async function signingKey(alg) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  return { ...(await exportJWK(privateKey)), alg, use: 'sig', kid: alg };
}

// The issuer names the port, so the socket comes first and the provider second.
async function listening(server) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server.address().port;
}
const plain = createServer();
const plainOrigin = `http://127.0.0.1:${await listening(plain)}`;
// Any client certificate passes the handshake: whose it is, the provider decides.
const tls = config.tls === undefined
  ? undefined
  : createTlsServer({ ...config.tls, requestCert: true, rejectUnauthorized: false });
const issuer = tls === undefined ? plainOrigin : `https://127.0.0.1:${await listening(tls)}`;
const servers = tls === undefined ? [plain] : [plain, tls];

const Store = store();
const provider = new Provider(issuer, {
  adapter: Store,
  clients,
  jwks: { keys: [await signingKey('ES256'), await signingKey('RS256')] },
  scopes: ['openid', 'offline_access', ...scopes],
  ttl: {
    AccessToken: accessTokenTtl,
    RefreshToken: refreshTokenTtl,
    Grant: refreshTokenTtl,
    IdToken: 60,
    Session: 60,
    Interaction: 60,
  },
  rotateRefreshToken: config.rotate ?? true,
  findAccount: async (ctx, sub) => ({ accountId: sub, claims: async () => ({ sub }) }),
  clientAuthMethods: [
    'client_secret_basic', 'client_secret_post', 'private_key_jwt', 'self_signed_tls_client_auth', 'none',
  ],
  features: {
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    revocation: { enabled: true },
    dPoP: { enabled: true },
    mTLS: {
      enabled: true,
      selfSignedTlsClientAuth: true,
      getCertificate: (ctx) => {
        if (!ctx.socket.encrypted) return undefined;
        const raw = ctx.socket.getPeerX509Certificate();
        return raw?.toString();
      },
    },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: async () => true,
      getResourceServerInfo: async (ctx, resource) => {
        const known = Object.hasOwn(resources, resource) ? resources[resource] : undefined;
        if (known === undefined) throw new errors.InvalidTarget();
        return {
          scope: known.scope,
          audience: resource,
          accessTokenTTL: accessTokenTtl,
          accessTokenFormat: known.jwt === true ? 'jwt' : 'opaque',
        };
      },
    },
  },
});

const ledger = {
  refresh_ok: 0,
  refresh_refused: 0,
  refresh_tokens_consumed: 0,
  grants_revoked: 0,
  api_calls_ok: 0,
  api_calls_refused: 0,
  presentations: {},
};
const MAX_PRESENTATIONS = 100_000;

provider.on('grant.success', (ctx) => {
  if (ctx.oidc.params?.grant_type === 'refresh_token') ledger.refresh_ok += 1;
});
provider.on('grant.error', () => {
  ledger.refresh_refused += 1;
});
provider.on('refresh_token.consumed', () => {
  ledger.refresh_tokens_consumed += 1;
});
provider.on('grant.revoked', () => {
  ledger.grants_revoked += 1;
});
provider.on('server_error', (ctx, error) => {
  process.stderr.write(`server_error: ${error.stack}\n`);
});

// Every presentation of every refresh token, by digest: a test sees double use even where the
// provider forgave it.
provider.use(async (ctx, next) => {
  await next();
  const token = ctx.oidc?.params?.refresh_token;
  if (ctx.path !== '/token' || typeof token !== 'string') return;
  const digest = createHash('sha256').update(token).digest('hex');
  const known = Object.hasOwn(ledger.presentations, digest);
  if (!known && Object.keys(ledger.presentations).length >= MAX_PRESENTATIONS) return;
  ledger.presentations[digest] = (ledger.presentations[digest] ?? 0) + 1;
});

async function json(ctx) {
  const chunks = [];
  let length = 0;
  for await (const chunk of ctx.req) {
    length += chunk.length;
    if (length > MAX_BODY_BYTES) ctx.throw(413);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    return ctx.throw(400, 'the body is not JSON');
  }
}

async function consent(ctx) {
  const { client_id: clientId, scope, user = 'alice', resource } = await json(ctx);
  const client = await provider.Client.find(clientId);
  if (client === undefined || typeof scope !== 'string') {
    ctx.throw(400, 'an unknown client, or no scope');
  }
  const grant = new provider.Grant({ accountId: user, clientId });
  if (resource === undefined) {
    grant.addOIDCScope(scope);
  } else {
    grant.addResourceScope(resource, scope);
  }
  const grantId = await grant.save();
  const refreshToken = new provider.RefreshToken({
    accountId: user,
    client,
    grantId,
    gty: 'authorization_code',
    resource,
    scope,
  });
  ctx.body = { refresh_token: await refreshToken.save(), grant_id: grantId };
}

async function register(ctx) {
  const client = withDefaults(await json(ctx));
  await new Store('Client').upsert(client.client_id, client);
  // What it says is checked by the provider when it is found.
  await provider.Client.find(client.client_id);
  ctx.status = 204;
}

async function revoke(ctx) {
  const { grant_id: grantId } = await json(ctx);
  await Promise.all([
    provider.RefreshToken.revokeByGrantId(grantId),
    provider.AccessToken.revokeByGrantId(grantId),
  ]);
  await (await provider.Grant.find(grantId))?.destroy();
  ctx.status = 204;
}

async function contacts(ctx) {
  const refuse = (status, error) => {
    ledger.api_calls_refused += 1;
    ctx.status = status;
    ctx.set('WWW-Authenticate', error === undefined ? 'Bearer' : `Bearer error="${error}"`);
    ctx.body = error === undefined ? {} : { error };
  };
  const [scheme, value, ...rest] = (ctx.get('authorization') ?? '').split(' ');
  if (scheme.toLowerCase() !== 'bearer' || value === undefined || rest.length !== 0) {
    return refuse(401);
  }
  const token = await provider.AccessToken.find(value);
  // A sender-constrained token is no bearer token [RFC 9449 §7.2].
  if (token === undefined || token.isSenderConstrained()) return refuse(401, 'invalid_token');
  if (!token.scopes.has('contacts.read')) return refuse(403, 'insufficient_scope');
  ledger.api_calls_ok += 1;
  ctx.body = { contacts: CONTACTS, owner: token.accountId, client_id: token.clientId };
}

const routes = new Map([
  ['POST /_test/consent', consent],
  ['POST /_test/client', register],
  ['POST /_test/revoke', revoke],
  ['GET /_test/ledger', async (ctx) => { ctx.body = ledger; }],
  ['GET /api/contacts', contacts],
]);

provider.use(async (ctx, next) => {
  const route = routes.get(`${ctx.method} ${ctx.path}`);
  if (route === undefined) return next();
  return route(ctx);
});

for (const server of servers) server.on('request', provider.callback());

let stopping = false;
function stop() {
  if (stopping) return;
  stopping = true;
  let open = servers.length;
  for (const server of servers) {
    server.close(() => {
      open -= 1;
      if (open === 0) process.exit(0);
    });
    server.closeAllConnections();
  }
}
process.once('SIGTERM', stop);
process.once('SIGINT', stop);

process.stdout.write(
  `${JSON.stringify({
    issuer,
    token_endpoint: `${issuer}/token`,
    revocation_endpoint: `${issuer}/token/revocation`,
    introspection_endpoint: `${issuer}/token/introspection`,
    api_url: `${issuer}/api/contacts`,
    consent_url: `${plainOrigin}/_test/consent`,
    client_url: `${plainOrigin}/_test/client`,
    ledger_url: `${plainOrigin}/_test/ledger`,
    clients: clients.map((client) => client.client_id),
    pid: process.pid,
  })}\n`,
);

await closed;
stop();
