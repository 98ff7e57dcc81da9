// An independent resource server as a judge: does a DPoP-bound JWT access token [RFC 9068] and the
// proof that came with it [RFC 9449] satisfy libraries that share nothing with the issuer?
//
// Reads one JSON object a line from standard input and prints one verdict a line, in order:
//   issuer        expected `iss`
//   jwks          the issuer's keys inline, so that TLS trust does not matter; or
//   jwks_uri      where to fetch them (NODE_EXTRA_CA_CERTS names a private CA)
//   metadata      the issuer's published metadata, checked against `issuer` if present
//   audience      the resource that the token must name
//   method, url   the request as the client made it
//   access_token, dpop_proof
//   now_s         the judge's clock, seconds since the epoch; default: the machine's
//
//   {"ok": true, "claims": {...}, "oauth4webapi": {...}, "jose": {...}}
//   {"ok": false, "error": "...", "oauth4webapi": {"ok", "error"?, "code"?}, "jose": {...}}
//
// `ok` needs both libraries: oauth4webapi runs the whole resource-server check, jose repeats
// signature, thumbprint and `ath` on its own.

import { createHash } from 'node:crypto';
import { createInterface } from 'node:readline';

import * as jose from 'jose';
import * as oauth from 'oauth4webapi';

const ALGORITHMS = ['ES256', 'EdDSA', 'Ed25519'];
const MAX_LINE_BYTES = 256 * 1024;
const PROOF_WINDOW_S = 300;

async function keysOf(input) {
  if (input.jwks !== undefined) return input.jwks;
  const response = await fetch(input.jwks_uri, { redirect: 'error' });
  if (response.status !== 200) throw new Error(`jwks_uri answered ${response.status}`);
  return response.json();
}

async function byOauth4webapi(input, jwks, nowS) {
  const jwksUri = input.jwks_uri ?? input.metadata?.jwks_uri ?? new URL('/jwks', input.issuer).href;
  let metadata = { issuer: input.issuer, jwks_uri: jwksUri };
  if (input.metadata !== undefined) {
    metadata = await oauth.processDiscoveryResponse(
      new URL(input.issuer),
      Response.json(input.metadata),
    );
  }
  const headers = { authorization: `DPoP ${input.access_token}` };
  if (input.dpop_proof !== undefined) headers.dpop = input.dpop_proof;
  const request = new Request(input.url, { method: input.method, headers });
  return oauth.validateJwtAccessToken(metadata, request, input.audience, {
    requireDPoP: true,
    signingAlgorithms: ALGORITHMS,
    [oauth.allowInsecureRequests]: true,
    [oauth.clockSkew]: nowS - Math.floor(Date.now() / 1000),
    [oauth.customFetch]: async (url) => {
      if (url !== metadata.jwks_uri) throw new Error(`an unexpected request to ${url}`);
      return Response.json(jwks);
    },
  });
}

function refuseUnless(holds, reason) {
  if (!holds) throw new Error(reason);
}

async function byJose(input, jwks, nowS) {
  const { payload: claims } = await jose.jwtVerify(
    input.access_token,
    jose.createLocalJWKSet(jwks),
    {
      algorithms: ALGORITHMS,
      audience: input.audience,
      currentDate: new Date(nowS * 1000),
      issuer: input.issuer,
      requiredClaims: ['exp', 'iat', 'jti', 'sub', 'client_id', 'cnf'],
      typ: 'at+jwt',
    },
  );
  const { payload: proof, protectedHeader } = await jose.jwtVerify(
    input.dpop_proof,
    jose.EmbeddedJWK,
    { algorithms: ALGORITHMS, currentDate: new Date(nowS * 1000), typ: 'dpop+jwt' },
  );
  const jkt = await jose.calculateJwkThumbprint(protectedHeader.jwk, 'sha256');
  const ath = createHash('sha256').update(input.access_token, 'ascii').digest('base64url');
  const htu = new URL(input.url);
  htu.search = '';
  htu.hash = '';
  refuseUnless(claims.cnf.jkt === jkt, 'cnf.jkt is not the thumbprint of the proof\'s key');
  refuseUnless(proof.ath === ath, 'ath is not the digest of the token');
  refuseUnless(proof.htm === input.method, 'htm is not the method');
  refuseUnless(proof.htu === htu.href, 'htu is not the URL');
  refuseUnless(typeof proof.jti === 'string' && proof.jti.length > 0, 'no jti');
  refuseUnless(
    Number.isInteger(proof.iat) && Math.abs(nowS - proof.iat) <= PROOF_WINDOW_S,
    'iat is outside the window',
  );
  return claims;
}

async function attempt(check, input, jwks, nowS) {
  try {
    return { ok: true, claims: await check(input, jwks, nowS) };
  } catch (error) {
    return { ok: false, error: error.message, code: error.code };
  }
}

async function judge(line) {
  try {
    if (Buffer.byteLength(line) > MAX_LINE_BYTES) throw new Error('the line is too long');
    const input = JSON.parse(line);
    const nowS = input.now_s ?? Math.floor(Date.now() / 1000);
    const jwks = await keysOf(input);
    const { claims, ...first } = await attempt(byOauth4webapi, input, jwks, nowS);
    const { claims: same, ...second } = await attempt(byJose, input, jwks, nowS);
    const both = { oauth4webapi: first, jose: second };
    if (!first.ok) return { ok: false, error: first.error, ...both };
    if (!second.ok) return { ok: false, error: second.error, ...both };
    if (JSON.stringify(claims) !== JSON.stringify(same)) {
      return { ok: false, error: 'the two libraries read different claims', ...both };
    }
    return { ok: true, claims, ...both };
  } catch (error) {
    return { ok: false, error: error.message };
  }
}

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  process.stdout.write(`${JSON.stringify(await judge(line))}\n`);
}
