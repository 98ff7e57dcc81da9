// A server that keeps what it passes on, for a harness that must see such a one: all of an answer is in memory before
// its first byte is written. `GET /MIB` is answered with so many MiB.

import { createServer } from 'node:http';

const server = createServer((request, response) => {
    const mib = Number(request.url.slice(1));
    const chunks = Array.from({ length: mib }, () => Buffer.alloc(1 << 20, '.'));
    response.end(Buffer.concat(chunks));
});
server.listen(0, '127.0.0.1', () => {
    console.log(JSON.stringify({ port: server.address().port }));
});
