// Is the judge fair? One valid case, one change per row, and what each library must say.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import * as jose from 'jose';

const NOW_S = 1_900_000_000;
const ISSUER = 'https://issuer.example';
const AUDIENCE = 'https://gateway.example/g/1/contacts';
const URL_ = `${AUDIENCE}/people?page=2`;

const issuerKey = await jose.generateKeyPair('ES256');
const otherIssuerKey = await jose.generateKeyPair('ES256');
const clientKey = await jose.generateKeyPair('ES256');
const thiefKey = await jose.generateKeyPair('ES256');

async function mint({ key = issuerKey, typ = 'at+jwt', cnf, ...change } = {}) {
  const jkt = await jose.calculateJwkThumbprint(await jose.exportJWK(clientKey.publicKey));
  return new jose.SignJWT({
    iss: ISSUER, aud: AUDIENCE, sub: 'alice', client_id: 'crm', jti: 't1',
    iat: NOW_S, exp: NOW_S + 60, cnf: cnf ?? { jkt }, ...change,
  }).setProtectedHeader({ alg: 'ES256', typ, kid: 'k1' }).sign(key.privateKey);
}

async function prove(token, { key = clientKey, ...change } = {}) {
  return new jose.SignJWT({
    htm: 'GET', htu: `${AUDIENCE}/people`, iat: NOW_S, jti: 'p1',
    ath: createHash('sha256').update(token).digest('base64url'), ...change,
  }).setProtectedHeader({
    alg: 'ES256', typ: 'dpop+jwt', jwk: await jose.exportJWK(key.publicKey),
  }).sign(key.privateKey);
}

async function input({ token = {}, proof = {}, ...change } = {}) {
  const accessToken = await mint(token);
  const publicJwk = { ...(await jose.exportJWK(issuerKey.publicKey)), kid: 'k1', alg: 'ES256' };
  return {
    issuer: ISSUER, jwks: { keys: [publicJwk] }, audience: AUDIENCE, method: 'GET', url: URL_,
    access_token: accessToken, dpop_proof: await prove(accessToken, proof), now_s: NOW_S, ...change,
  };
}

async function verdicts(inputs) {
  const child = spawn(process.execPath, [fileURLToPath(new URL('resource-server.mjs', import.meta.url))], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const output = [];
  createInterface({ input: child.stdout }).on('line', (line) => output.push(JSON.parse(line)));
  child.stdin.end(inputs.map((one) => `${JSON.stringify(one)}\n`).join(''));
  const [code] = await once(child, 'close');
  assert.equal(code, 0);
  return output;
}

test('the valid case is accepted, with its metadata too', async () => {
  const metadata = { issuer: ISSUER, jwks_uri: `${ISSUER}/keys` };
  const [plain, withMetadata] = await verdicts([await input(), await input({ metadata })]);
  assert.equal(plain.ok, true, JSON.stringify(plain));
  assert.equal(plain.claims.sub, 'alice');
  assert.equal(withMetadata.ok, true, JSON.stringify(withMetadata));
});

test('each change alone is refused by both libraries', async () => {
  const rows = [
    ['another issuer key', { token: { key: otherIssuerKey } }, 'JWT signature verification failed', 'signature verification failed'],
    ['another typ', { token: { typ: 'JWT' } }, 'unexpected JWT "typ" header parameter value', 'unexpected "typ" JWT header value'],
    ['another iss', { token: { iss: 'https://evil.example' } }, 'unexpected JWT "iss" (issuer) claim value', 'unexpected "iss" claim value'],
    ['another aud', { token: { aud: 'https://other.example' } }, 'unexpected JWT "aud" (audience) claim value', 'unexpected "aud" claim value'],
    ['expired', { token: { iat: NOW_S - 100, exp: NOW_S - 40 } }, 'unexpected JWT "exp" (expiration time) claim value, expiration is past current timestamp', '"exp" claim timestamp check failed'],
    ['a thief\'s key', { proof: { key: thiefKey } }, 'JWT Access Token confirmation mismatch', 'cnf.jkt is not the thumbprint of the proof\'s key'],
    ['another token\'s ath', { proof: { ath: 'AAAA' } }, 'DPoP Proof ath mismatch', 'ath is not the digest of the token'],
    ['another method', { method: 'POST' }, 'DPoP Proof htm mismatch', 'htm is not the method'],
    ['another path', { url: `${AUDIENCE}/other` }, 'DPoP Proof htu mismatch', 'htu is not the URL'],
    ['a stale proof', { proof: { iat: NOW_S - 301 } }, 'DPoP Proof iat is not recent enough', 'iat is outside the window'],
    ['another issuer expected', { issuer: 'https://evil.example' }, 'unexpected JWT "iss" (issuer) claim value', 'unexpected "iss" claim value'],
  ];
  const output = await verdicts(await Promise.all(rows.map(([, change]) => input(change))));
  rows.forEach(([name, , byOauth4webapi, byJose], row) => {
    assert.equal(output[row].ok, false, name);
    assert.equal(output[row].oauth4webapi.error, byOauth4webapi, name);
    assert.equal(output[row].jose.error, byJose, name);
  });
});

test('a line that is no case gets a verdict, and the next line its own', async () => {
  const child = await verdicts(['not an object', await input()]);
  assert.equal(child[0].ok, false);
  assert.equal(child[1].ok, true);
});
