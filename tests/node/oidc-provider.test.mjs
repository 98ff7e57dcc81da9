// The provider fixture itself: the second client authentication, a resource's JWT, and its end.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import * as jose from 'jose';

const RESOURCE = 'https://api.example/contacts';

async function start(config) {
  const child = spawn(
    process.execPath,
    [fileURLToPath(new URL('oidc-provider.mjs', import.meta.url))],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  child.stdin.write(`${JSON.stringify(config)}\n`);
  const [line] = await once(createInterface({ input: child.stdout }), 'line');
  return { child, ready: JSON.parse(line) };
}

async function consent(ready, body) {
  const response = await fetch(ready.consent_url, { method: 'POST', body: JSON.stringify(body) });
  assert.equal(response.status, 200);
  return response.json();
}

test('a client authenticates by private_key_jwt and gets a JWT for the resource', async () => {
  const { privateKey, publicKey } = await jose.generateKeyPair('ES256');
  const { child, ready } = await start({
    clients: [{
      client_id: 'signer',
      token_endpoint_auth_method: 'private_key_jwt',
      jwks: { keys: [{ ...(await jose.exportJWK(publicKey)), kid: 'c1', alg: 'ES256', use: 'sig' }] },
    }],
    resources: { [RESOURCE]: { scope: 'contacts.read', jwt: true } },
  });
  const granted = await consent(ready, { client_id: 'signer', scope: 'contacts.read', resource: RESOURCE });
  const refresh = async (key) => {
    const assertion = await new jose.SignJWT({ jti: crypto.randomUUID() })
      .setProtectedHeader({ alg: 'ES256', kid: 'c1' })
      .setIssuer('signer').setSubject('signer').setAudience(ready.issuer)
      .setIssuedAt().setExpirationTime('1m')
      .sign(key);
    const response = await fetch(ready.token_endpoint, {
      method: 'POST',
      body: new URLSearchParams({
        grant_type: 'refresh_token',
        refresh_token: granted.refresh_token,
        client_assertion: assertion,
        client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      }),
    });
    return { status: response.status, body: await response.json() };
  };

  const other = await jose.generateKeyPair('ES256');
  const refused = await refresh(other.privateKey);
  assert.equal(refused.status, 401);
  assert.equal(refused.body.error, 'invalid_client');

  const { status, body } = await refresh(privateKey);
  assert.equal(status, 200, JSON.stringify(body));
  const jwks = jose.createRemoteJWKSet(new URL(`${ready.issuer}/jwks`));
  const { payload } = await jose.jwtVerify(body.access_token, jwks, { audience: RESOURCE, typ: 'at+jwt' });
  assert.equal(payload.scope, 'contacts.read');
  assert.notEqual(body.refresh_token, granted.refresh_token);
  child.stdin.end();
  assert.deepEqual(await once(child, 'close'), [0, null]);
});

test('a grant that its user takes back is dead, and SIGTERM ends the provider', async () => {
  const { child, ready } = await start({});
  const granted = await consent(ready, { client_id: 'tokenkeep', scope: 'contacts.read' });
  const revoked = await fetch(`${ready.issuer}/_test/revoke`, {
    method: 'POST',
    body: JSON.stringify({ grant_id: granted.grant_id }),
  });
  assert.equal(revoked.status, 204);
  const basic = Buffer.from('tokenkeep:a-secret-for-tests-only-0123456789').toString('base64');
  const response = await fetch(ready.token_endpoint, {
    method: 'POST',
    headers: { authorization: `Basic ${basic}` },
    body: new URLSearchParams({ grant_type: 'refresh_token', refresh_token: granted.refresh_token }),
  });
  assert.equal(response.status, 400);
  assert.equal((await response.json()).error, 'invalid_grant');
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'close'), [0, null]);
});
