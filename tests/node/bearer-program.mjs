// A program that was written for a bearer API: its base URL is all that is changed. Prints what it saw.
//
//   node bearer-program.mjs BASE_URL

const base = process.argv[2];
// Whatever it has for a token: nobody looks at it.
const authorization = 'Bearer kept-in-an-environment-variable';

async function call(path, options = {}) {
    return fetch(new URL(path, base), {
        ...options,
        headers: { authorization, accept: 'application/json', ...options.headers },
    });
}

const listed = await (await call('/contacts')).json();
const contacts = Array.isArray(listed) ? listed : listed.contacts;
const created = await call('/contacts', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'Grace', email: 'grace@example.com' }),
});
const found = await (await call(created.headers.get('location'))).json();
const missing = await call('/contacts/999');
await missing.arrayBuffer();
let streamed_bytes = 0;
const stream = await call('/stream?chunks=20&chunk_bytes=10000&interval_ms=1');
for await (const chunk of stream.body) {
    streamed_bytes += chunk.length;
}
console.log(JSON.stringify({
    listed: contacts.map((contact) => contact.name),
    created: created.status,
    found: found.name,
    missing: missing.status,
    streamed_bytes,
}));
