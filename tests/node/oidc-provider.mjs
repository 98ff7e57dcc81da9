// A real authorization server as a process of its own: npm's oidc-provider on loopback, rotating
// refresh tokens, with a small API behind it that asks the provider's own store about each token.
//
// The first line of standard input is its configuration, a JSON object; every member may be absent:
//   clients             client metadata [RFC 7591]; default: one with client_secret_basic
//   scopes              what may be granted; default contacts.read and contacts.write
//   resources           {"https://api.example": {"scope": "...", "jwt": true, "alg": "ES256"}}  [RFC 8707]; default
//                       of `alg`: RS256
//   access_token_ttl_s  default 60
//   refresh_token_ttl_s default 86400
//   rotate              default true: single use, and a reuse revokes the grant; or the client_ids of which it is so
//   pages               default false: its own pages for signing in and consenting, for a person or a test's browser
//   device              default false: owners may consent by device [RFC 8628]
//   device_code_ttl_s   default 600
//   presentations       default true: the ledger counts each refresh token's
//   keep_alive_ms       how long a connection may do nothing before it is closed; default: Node's, 5 s
//   dpop_nonces         default false: proofs need a nonce of the provider's [RFC 9449 §8]
//   api_resource        the API takes JWTs of this audience only, one of `resources`
//   tls                 {cert, key}, PEM: the provider speaks TLS and asks for client certificates [RFC 8705]; the
//                       test's own routes stay on plain HTTP
// It prints one JSON line when it listens, and ends on SIGTERM or when standard input closes.
//
// For tests only, beside the provider's own routes:
//   POST /_test/consent {client_id, scope, user?, resource?} -> {refresh_token, grant_id}
//   POST /_test/client  client metadata: registers the client, anew if it is there
//   POST /_test/revoke  {grant_id}
//   POST /_test/hold    {held}: whether token requests wait, before the provider looks at them, until they may go on
//   GET  /_test/ledger  how often each thing happened
//   GET  /api/contacts  needs a valid access token with scope contacts.read; POST, contacts.write
// A token that is bound to a key needs a proof with the API's newest nonce [RFC 9449 §9], which changes with every third
// proof. JWTs are judged by oauth4webapi.

import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { createInterface } from 'node:readline';

import { calculateJwkThumbprint, decodeJwt, EmbeddedJWK, exportJWK, generateKeyPair, jwtVerify } from 'jose';
import * as oauth from 'oauth4webapi';
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
const byDevice = config.device === true ? ['urn:ietf:params:oauth:grant-type:device_code'] : [];
const withDefaults = (client) => ({
  grant_types: ['authorization_code', 'refresh_token', ...byDevice],
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

const signingKeys = [await signingKey('ES256'), await signingKey('RS256')];
const Store = store();
const provider = new Provider(issuer, {
  adapter: Store,
  clients,
  jwks: { keys: signingKeys },
  scopes: ['openid', 'offline_access', ...scopes],
  ttl: {
    AccessToken: accessTokenTtl,
    RefreshToken: refreshTokenTtl,
    DeviceCode: config.device_code_ttl_s ?? 600,
    Grant: refreshTokenTtl,
    IdToken: 60,
    Session: 60,
    Interaction: 60,
  },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  rotateRefreshToken: Array.isArray(config.rotate)
    ? (ctx) => config.rotate.includes(ctx.oidc.client.clientId)
    : config.rotate ?? true,
  findAccount: async (ctx, sub) => ({ accountId: sub, claims: async () => ({ sub }) }),
  clientAuthMethods: [
    'client_secret_basic', 'client_secret_post', 'private_key_jwt', 'self_signed_tls_client_auth', 'none',
  ],
  features: {
    deviceFlow: { enabled: config.device === true },
    devInteractions: { enabled: config.pages === true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    dPoP: config.dpop_nonces === true
      ? { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true }
      : { enabled: config.dpop !== false },
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
          ...(known.alg === undefined ? {} : { jwt: { sign: { alg: known.alg } } }),
        };
      },
    },
  },
});

const ledger = {
  held: 0,
  refresh_ok: 0,
  refresh_refused: 0,
  refresh_tokens_consumed: 0,
  nonce_challenges: 0,
  api_nonce_challenges: 0,
  api_bound_calls_ok: 0,
  grants_revoked: 0,
  api_calls_ok: 0,
  api_calls_refused: 0,
  presentations: {},
};
const MAX_PRESENTATIONS = 100_000;

provider.on('grant.success', (ctx) => {
  if (ctx.oidc.params?.grant_type === 'refresh_token') ledger.refresh_ok += 1;
});
provider.on('grant.error', (ctx, error) => {
  if (error.error === 'use_dpop_nonce') ledger.nonce_challenges += 1;
  else ledger.refresh_refused += 1;
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

let gate;
provider.use(async (ctx, next) => {
  if (ctx.path === '/token' && gate !== undefined) {
    ledger.held += 1;
    await gate.opened;
  }
  await next();
});

// Every presentation of every refresh token, by digest: a test sees double use even where the
// provider forgave it.
provider.use(async (ctx, next) => {
  await next();
  if (config.presentations === false) return;
  const token = ctx.oidc?.params?.refresh_token;
  if (ctx.path !== '/token' || typeof token !== 'string') return;
  // The provider has not looked at the token.
  if (ctx.body?.error === 'use_dpop_nonce') return;
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
    grant.addOIDCScope('offline_access');
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

async function hold(ctx) {
  const { held } = await json(ctx);
  gate?.open();
  gate = undefined;
  if (held === true) {
    gate = {};
    gate.opened = new Promise((open) => {
      gate.open = open;
    });
  }
  ctx.status = 204;
}

// The API's own nonce: used three times, then another.
const nonces = { current: randomBytes(12).toString('base64url'), uses: 0 };
const proofs = new Set();

class Refusal extends Error {
  constructor(status, error) {
    super(error);
    this.status = status;
  }
}

const publicKeys = signingKeys.map(({ d, p, q, dp, dq, qi, ...key }) => key);

/** The whole check of RFC 9068 and RFC 9449 by a library that shares nothing with the caller. */
async function judged(ctx, scheme, value) {
  const headers = { authorization: `${scheme} ${value}` };
  if (ctx.get('dpop') !== '') headers.dpop = ctx.get('dpop');
  const request = new Request(`${issuer}${ctx.url}`, { method: ctx.method, headers });
  const metadata = { issuer, jwks_uri: `${issuer}/jwks` };
  return oauth.validateJwtAccessToken(metadata, request, config.api_resource, {
    signingAlgorithms: ['ES256', 'RS256'],
    [oauth.allowInsecureRequests]: true,
    [oauth.customFetch]: async () => Response.json({ keys: publicKeys }),
  });
}

/** A proof of possession of the key with this thumbprint. */
async function checkProof(ctx, value, jkt) {
  const { payload, protectedHeader } = await jwtVerify(ctx.get('dpop'), EmbeddedJWK, {
    algorithms: ['ES256'], typ: 'dpop+jwt', maxTokenAge: '5 minutes', clockTolerance: 10,
  });
  const ath = createHash('sha256').update(value).digest('base64url');
  const holds = payload.htm === ctx.method
    && payload.htu === `${issuer}${ctx.path}`
    && payload.ath === ath
    && typeof payload.jti === 'string'
    && !proofs.has(payload.jti)
    && (await calculateJwkThumbprint(protectedHeader.jwk)) === jkt;
  if (!holds) throw new Refusal(401, 'invalid_dpop_proof');
  if (payload.nonce !== nonces.current) {
    ledger.api_nonce_challenges += 1;
    throw new Refusal(401, 'use_dpop_nonce');
  }
  proofs.add(payload.jti);
  nonces.uses += 1;
  if (nonces.uses % 3 === 0) nonces.current = randomBytes(12).toString('base64url');
  ledger.api_bound_calls_ok += 1;
}

async function authorized(ctx, needed) {
  const [scheme, value, ...rest] = (ctx.get('authorization') ?? '').split(' ');
  if (value === undefined || rest.length !== 0) throw new Refusal(401);
  const bound = scheme.toLowerCase() === 'dpop';
  if (!bound && scheme.toLowerCase() !== 'bearer') throw new Refusal(401);
  let token;
  if (config.api_resource === undefined) {
    const found = await provider.AccessToken.find(value);
    if (found === undefined) throw new Refusal(401, 'invalid_token');
    token = { scopes: found.scopes, jkt: found.jkt, owner: found.accountId, client: found.clientId };
  } else {
    const claims = await judged(ctx, scheme, value).catch((error) => {
      // The library has no say about nonces.
      process.stderr.write(`judged: ${error.message} ${JSON.stringify(decodeJwt(value))}\n`);
      throw new Refusal(401, 'invalid_token');
    });
    token = {
      scopes: new Set(claims.scope.split(' ')), jkt: claims.cnf?.jkt, owner: claims.sub, client: claims.client_id,
    };
  }
  // A bound token is no bearer token, nor the other way round [RFC 9449 §7.2].
  if (bound !== (token.jkt !== undefined)) throw new Refusal(401, 'invalid_token');
  if (bound) {
    await checkProof(ctx, value, token.jkt).catch((error) => {
      throw error instanceof Refusal ? error : new Refusal(401, 'invalid_dpop_proof');
    });
  }
  if (!token.scopes.has(needed)) throw new Refusal(403, 'insufficient_scope');
  return { ...token, bound };
}

async function api(ctx, needed, answer) {
  try {
    const token = await authorized(ctx, needed);
    ledger.api_calls_ok += 1;
    ctx.body = await answer(token);
    if (token.bound) ctx.set('DPoP-Nonce', nonces.current);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    ledger.api_calls_refused += 1;
    ctx.status = error.status;
    const scheme = ctx.get('authorization').toLowerCase().startsWith('dpop ') ? 'DPoP' : 'Bearer';
    ctx.set('WWW-Authenticate', error.message === '' ? scheme : `${scheme} error="${error.message}"`);
    if (error.message === 'use_dpop_nonce') ctx.set('DPoP-Nonce', nonces.current);
    ctx.body = error.message === '' ? {} : { error: error.message };
  }
}

const contacts = (ctx) => api(ctx, 'contacts.read', async (token) => (
  { contacts: CONTACTS, owner: token.owner, client_id: token.client, bound: token.bound }
));
const create = (ctx) => api(ctx, 'contacts.write', async (token) => (
  { created: await json(ctx), owner: token.owner }
));

const routes = new Map([
  ['POST /_test/consent', consent],
  ['POST /_test/client', register],
  ['POST /_test/revoke', revoke],
  ['POST /_test/hold', hold],
  ['GET /_test/ledger', async (ctx) => { ctx.body = ledger; }],
  ['GET /api/contacts', contacts],
  ['POST /api/contacts', create],
]);

provider.use(async (ctx, next) => {
  const route = routes.get(`${ctx.method} ${ctx.path}`);
  if (route === undefined) return next();
  return route(ctx);
});

for (const server of servers) {
  if (config.keep_alive_ms !== undefined) server.keepAliveTimeout = config.keep_alive_ms;
  server.on('request', provider.callback());
}

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
    hold_url: `${plainOrigin}/_test/hold`,
    ledger_url: `${plainOrigin}/_test/ledger`,
    clients: clients.map((client) => client.client_id),
    pid: process.pid,
  })}\n`,
);

await closed;
stop();
