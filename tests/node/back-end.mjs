// An API that answers everything and writes down what it was sent, a line of JSON each. It reads as forgivingly as Node
// can, so that what another server would take for a second request is one here.
//
//   node back-end.mjs LOG

import { appendFileSync } from 'node:fs';
import { createServer } from 'node:http';

const log = process.argv[2];
const write = (line) => appendFileSync(log, `${JSON.stringify(line)}\n`);

const seen = (request, bytes) => write({
    request: `${request.method} ${request.url}`,
    status: '200',
    headers: request.rawHeaders.join('\n'),
    trailers: request.rawTrailers.join('\n'),
    bytes: String(bytes),
});

const server = createServer({ insecureHTTPParser: true }, (request, response) => {
    let bytes = 0;
    request.on('data', (chunk) => { bytes += chunk.length; });
    request.on('end', () => {
        seen(request, bytes);
        response.end(`${request.url}\n`);
    });
});
server.on('checkExpectation', (request, response) => {
    seen(request, 0);
    response.end(`${request.url}\n`);
});
for (const turn of ['connect', 'upgrade']) {
    server.on(turn, (request, socket) => {
        seen(request, 0);
        socket.on('error', () => {});
        socket.destroy();
    });
}
// What is no request to Node's parser.
server.on('clientError', (error, socket) => {
    // A connection that broke off in the middle of a body is none that lost its place.
    if (!['ECONNRESET', 'HPE_INVALID_EOF_STATE'].includes(error.code)) {
        write({ request: '', status: '400', error: error.code });
    }
    socket.destroy();
});
server.listen(0, '127.0.0.1', () => {
    console.log(JSON.stringify({ port: server.address().port }));
});
