// An ordinary OAuth client that shares nothing with the issuer: npm's oauth4webapi and jose at every HTTP door.
//
// Reads one JSON object from standard input:
//   issuer               where the metadata is [RFC 8414]
//   resource, path       what the token is for, and what is called behind it
//   client_id
//   private_key, kid, alg  PKCS#8 in PEM, to sign assertions by (`private_key_jwt`); or
//   cert, key            PEM, to authenticate by the connection [RFC 8705]; the doors are then the mtls_endpoint_aliases
//   dpop_alg             ES256 or Ed25519; absent: the token is bound to the certificate
// NODE_EXTRA_CA_CERTS names the enclave's CA. Prints one JSON object, what each door said:
//   rounds, token_type, expires_in, header and claims (as jose verifies them by the published keys),
//   introspection, api: {status, body}, revoked: {introspection, api: {status}}

import { readFileSync } from 'node:fs';
import https from 'node:https';

import * as jose from 'jose';
import * as oauth from 'oauth4webapi';

const given = JSON.parse(readFileSync(0, 'utf8'));
const client = { client_id: given.client_id, use_mtls_endpoint_aliases: given.cert !== undefined };
const issuer = new URL(given.issuer);

// fetch cannot show a client certificate.
function byCertificate(url, { method, headers, body }) {
  return new Promise((resolve, reject) => {
    const request = https.request(
      url,
      { method, headers: Object.fromEntries(headers instanceof Headers ? headers : Object.entries(headers)), cert: given.cert, key: given.key },
      (answer) => {
        const chunks = [];
        answer.on('data', (chunk) => chunks.push(chunk));
        answer.on('end', () => {
          const found = new Headers();
          for (let at = 0; at < answer.rawHeaders.length; at += 2) {
            found.append(answer.rawHeaders[at], answer.rawHeaders[at + 1]);
          }
          const empty = answer.statusCode === 204;
          resolve(new Response(empty ? null : Buffer.concat(chunks), { status: answer.statusCode, headers: found }));
        });
        answer.on('error', reject);
      },
    );
    request.on('error', reject);
    request.end(body === undefined || body === null ? undefined : body.toString());
  });
}

const options = given.cert === undefined ? {} : { [oauth.customFetch]: byCertificate };

async function authentication() {
  if (given.cert !== undefined) return oauth.TlsClientAuth();
  const key = await jose.importPKCS8(given.private_key, given.alg);
  return oauth.PrivateKeyJwt(
    { key, kid: given.kid },
    { [oauth.modifyAssertion]: (_, claims) => { claims.aud = given.issuer; } },
  );
}

// Once more where a nonce is asked for, and never a third time.
async function withNonce(attempt) {
  for (let rounds = 1; ; rounds += 1) {
    try {
      return { rounds, result: await attempt() };
    } catch (error) {
      if (rounds > 1 || !oauth.isDPoPNonceError(error)) throw error;
    }
  }
}

const server = await oauth.processDiscoveryResponse(
  issuer,
  await oauth.discoveryRequest(issuer, { algorithm: 'oauth2' }),
);
const auth = await authentication();
const DPoP =
  given.dpop_alg === undefined
    ? undefined
    : oauth.DPoP(client, await oauth.generateKeyPair(given.dpop_alg));

const { rounds, result: granted } = await withNonce(async () => {
  const response = await oauth.clientCredentialsGrantRequest(
    server, client, auth, { resource: given.resource }, { DPoP, ...options },
  );
  return oauth.processClientCredentialsResponse(server, client, response);
});
const token = granted.access_token;

const keys = await (await fetch(server.jwks_uri)).json();
const verified = await jose.jwtVerify(token, jose.createLocalJWKSet(keys), {
  issuer: given.issuer, audience: given.resource, typ: 'at+jwt',
});

async function introspection() {
  const response = await oauth.introspectionRequest(server, client, auth, token, options);
  return oauth.processIntrospectionResponse(server, client, response);
}

async function api() {
  const url = new URL(given.resource + given.path);
  if (DPoP === undefined) {
    const response = await byCertificate(url, { method: 'GET', headers: { authorization: `Bearer ${token}` } });
    return { status: response.status, body: await response.text() };
  }
  try {
    const { result } = await withNonce(
      () => oauth.protectedResourceRequest(token, 'GET', url, undefined, undefined, { DPoP, ...options }),
    );
    return { status: result.status, body: await result.text() };
  } catch (error) {
    if (!(error instanceof oauth.WWWAuthenticateChallengeError)) throw error;
    return { status: error.status, body: error.cause[0].parameters.error };
  }
}

const before = { introspection: await introspection(), api: await api() };
await oauth.processRevocationResponse(await oauth.revocationRequest(server, client, auth, token, options));
const revoked = { introspection: await introspection(), api: await api() };

process.stdout.write(`${JSON.stringify({
  rounds,
  token_type: granted.token_type,
  expires_in: granted.expires_in,
  header: verified.protectedHeader,
  claims: verified.payload,
  ...before,
  revoked,
})}\n`);
