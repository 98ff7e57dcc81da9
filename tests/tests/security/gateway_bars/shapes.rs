//! Requests that two servers read differently: 400 shapes and more, from the advisories on request smuggling.

/// Stands for a credential of the client that no API may see.
pub(super) const CANARY: &str = "client-credential-canary";

/// What goes between the lines that a valid call has, and after its head.
pub(super) struct Shape {
    /// For a failed test's message.
    pub(super) name: String,
    /// The method and what follows the target in the first line.
    pub(super) method: &'static str,
    /// The target of the request: `{p}` is the path that is meant, `{h}` the gateway's host and port.
    pub(super) target: &'static str,
    pub(super) version: &'static str,
    /// Header lines, each with its end.
    pub(super) lines: String,
    /// What follows the empty line.
    pub(super) body: String,
}

/// Spellings of `Transfer-Encoding` that some server has read as chunked and another has not.
const ENCODINGS: &[(&str, &str)] = &[
    ("none", ""),
    ("plain", "Transfer-Encoding: chunked\r\n"),
    ("upper", "TRANSFER-ENCODING: CHUNKED\r\n"),
    ("space before colon", "Transfer-Encoding : chunked\r\n"),
    ("tab before colon", "Transfer-Encoding\t: chunked\r\n"),
    ("tab after colon", "Transfer-Encoding:\tchunked\r\n"),
    ("vertical tab", "Transfer-Encoding: \x0bchunked\r\n"),
    ("form feed", "Transfer-Encoding: \x0cchunked\r\n"),
    ("prefix", "Transfer-Encoding: xchunked\r\n"),
    ("suffix", "Transfer-Encoding: chunkedx\r\n"),
    ("quoted", "Transfer-Encoding: \"chunked\"\r\n"),
    (
        "identity then chunked",
        "Transfer-Encoding: identity, chunked\r\n",
    ),
    (
        "chunked then identity",
        "Transfer-Encoding: chunked, identity\r\n",
    ),
    ("gzip then chunked", "Transfer-Encoding: gzip, chunked\r\n"),
    ("chunked twice", "Transfer-Encoding: chunked, chunked\r\n"),
    (
        "two lines",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    ),
    (
        "two lines reversed",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
    ),
    ("folded", "Transfer-Encoding:\r\n chunked\r\n"),
    (
        "folded behind another",
        "X-A: b\r\n Transfer-Encoding: chunked\r\n",
    ),
    ("bare LF", "X-A: b\nTransfer-Encoding: chunked\r\n"),
    ("bare CR", "X-A: b\rTransfer-Encoding: chunked\r\n"),
    ("underscore", "Transfer_Encoding: chunked\r\n"),
    ("leading space", " Transfer-Encoding: chunked\r\n"),
    ("parameter", "Transfer-Encoding: chunked;a=b\r\n"),
    ("empty", "Transfer-Encoding:\r\n"),
    ("with NUL", "Transfer-Encoding: chunked\0\r\n"),
];

/// Spellings of `Content-Length`; `N` is the length of the body.
const LENGTHS: &[(&str, &str)] = &[
    ("none", ""),
    ("right", "Content-Length: N\r\n"),
    ("zero", "Content-Length: 0\r\n"),
    ("six", "Content-Length: 6\r\n"),
    ("twice", "Content-Length: 0\r\nContent-Length: N\r\n"),
    ("list", "Content-Length: 0, N\r\n"),
    ("plus", "Content-Length: +N\r\n"),
    ("hex", "Content-Length: 0xN\r\n"),
    ("folded", "Content-Length:\r\n N\r\n"),
];

/// Chunks that two parsers have read differently.
const CHUNKS: &[(&str, &str)] = &[
    ("leading zeros", "0000000000000000000000000\r\n\r\n"),
    ("overflow", "10000000000000000\r\n\r\n"),
    (
        "overflow to nothing",
        "100000000000000000000000000000000\r\n\r\n",
    ),
    ("negative", "-1\r\n\r\n"),
    ("plus", "+0\r\n\r\n"),
    ("prefixed", "0x0\r\n\r\n"),
    ("space before", " 0\r\n\r\n"),
    ("space behind", "0 \r\n\r\n"),
    ("tab behind", "0\t\r\n\r\n"),
    ("underscore", "0_0\r\n\r\n"),
    ("bare LF", "0\n\n"),
    ("bare LF at the end", "0\r\n\n"),
    ("bare CR", "0\r\r"),
    ("extension", "0;a=b\r\n\r\n"),
    ("quoted extension", "0;a=\"\r\n\r\n\"\r\n\r\n"),
    ("extension with LF", "0;a\nb\r\n\r\n"),
    (
        "long extension",
        "0;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n",
    ),
    ("data without end", "1\r\nAA0\r\n\r\n"),
    ("no last chunk", "1\r\nA\r\n"),
    (
        "trailer",
        "0\r\nAuthorization: Bearer client-credential-canary\r\n\r\n",
    ),
    ("trailer that frames", "0\r\nContent-Length: 5\r\n\r\n"),
    (
        "trailer that is a request",
        "0\r\nGET /api/smuggled/trailer HTTP/1.1\r\n\r\n",
    ),
];

/// Lines that name credentials, hosts, hops or protocols anew.
const LINES: &[(&str, &str)] = &[
    (
        "second authorization",
        "Authorization: Bearer client-credential-canary\r\n",
    ),
    (
        "underscore alias",
        "Authorization_: Bearer client-credential-canary\r\n",
    ),
    ("dotted alias", "X.Canary: client-credential-canary\r\n"),
    ("underscore name", "X_Canary: client-credential-canary\r\n"),
    (
        "forwarded authorization",
        "X-Forwarded-Authorization: client-credential-canary\r\n",
    ),
    (
        "original authorization",
        "X-Original-Authorization: client-credential-canary\r\n",
    ),
    (
        "proxy authorization",
        "Proxy-Authorization: Basic client-credential-canary\r\n",
    ),
    ("cookie", "Cookie: session=client-credential-canary\r\n"),
    (
        "two cookies",
        "Cookie: a=client-credential-canary\r\nCookie: b=client-credential-canary\r\n",
    ),
    ("nominated authorization", "Connection: authorization\r\n"),
    ("nominated host", "Connection: host, close\r\n"),
    (
        "nominated content type",
        "Connection: content-type\r\nContent-Type: client-credential-canary\r\n",
    ),
    (
        "upgrade",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    ),
    (
        "websocket",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: client-credential-canary\r\n",
    ),
    ("second host", "Host: evil.example\r\n"),
    ("forwarded host", "X-Forwarded-Host: evil.example\r\n"),
    (
        "original url",
        "X-Original-URL: /api/smuggled/url\r\nX-Rewrite-URL: /api/smuggled/url\r\n",
    ),
    ("method override", "X-HTTP-Method-Override: DELETE\r\n"),
    ("expect", "Expect: 100-continue\r\n"),
    ("expect other", "Expect: 200-ok\r\n"),
    (
        "expect twice",
        "Expect: 100-continue\r\nExpect: 100-continue\r\n",
    ),
    ("te trailers", "TE: trailers\r\nTrailer: Authorization\r\n"),
    ("range", "Range: bytes=0-0\r\n"),
    ("folded", "X-A: b\r\n client-credential-canary: c\r\n"),
    ("no colon", "client-credential-canary\r\n"),
    ("no name", ": client-credential-canary\r\n"),
    ("space in name", "X Canary: client-credential-canary\r\n"),
    ("NUL in value", "X-A: b\0c\r\n"),
    (
        "bare LF request",
        "X-A: b\n\nGET /api/smuggled/line HTTP/1.1\nHost: x\n\n",
    ),
    (
        "bare CR request",
        "X-A: b\r\rGET /api/smuggled/line HTTP/1.1\r\r",
    ),
];

/// Methods and versions.
const STARTS: &[(&str, &str)] = &[
    ("GET", "HTTP/1.1"),
    ("HEAD", "HTTP/1.1"),
    ("PUT", "HTTP/1.1"),
    ("PATCH", "HTTP/1.1"),
    ("DELETE", "HTTP/1.1"),
    ("OPTIONS", "HTTP/1.1"),
    ("TRACE", "HTTP/1.1"),
    ("CONNECT", "HTTP/1.1"),
    ("PRI", "HTTP/2.0"),
    ("post", "HTTP/1.1"),
    ("POST", "HTTP/1.0"),
    ("POST", "HTTP/0.9"),
    ("POST", "HTTP/1.2"),
    ("POST", "http/1.1"),
    ("POST", "HTTP/1.1 HTTP/1.1"),
    ("POST\t", "HTTP/1.1"),
];

/// The target that a client sends to an origin server [RFC 9112 §3.2.1].
const PATH: &str = "{p}";

/// Other forms, and what is none.
const TARGETS: &[&str] = &[
    "https://{h}{p}",
    "HTTPS://{h}{p}",
    "http://{h}{p}",
    "https://evil.example{p}",
    "https://{h}@evil.example{p}",
    "https://evil.example@{h}{p}",
    "https://{h}",
    "//{h}{p}",
    "/{p}",
    "{h}",
    "*",
    "{p}#fragment",
    "{p}?a=b#/../",
    "{p}?a=b\tc",
    "{p}?a=\u{7f}",
    "{p}\u{b}",
    "{p} {p}",
    "{p}\rx",
    "file://{p}",
    "{p}?x=HTTP/1.1",
];

pub(super) fn smuggled(number: usize) -> String {
    format!("GET /api/smuggled/{number} HTTP/1.1\r\nHost: x\r\nCookie: {CANARY}\r\n\r\n")
}

fn post(name: String, lines: String, body: String) -> Shape {
    Shape {
        name,
        method: "POST",
        target: PATH,
        version: "HTTP/1.1",
        lines,
        body,
    }
}

/// All of them.
pub(super) fn all() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for &(encoding, line) in ENCODINGS {
        for &(length, of_length) in LENGTHS {
            let body = format!("0\r\n\r\n{}", smuggled(shapes.len()));
            let length_line = of_length.replace('N', &body.len().to_string());
            let name = format!("{encoding}, length {length}");
            // In both orders: which one a parser keeps may hang on it.
            shapes.push(post(name.clone(), format!("{line}{length_line}"), body));
            if !line.is_empty() && !length_line.is_empty() && length != "folded" {
                let body = format!("0\r\n\r\n{}", smuggled(shapes.len()));
                let length_line = of_length.replace('N', &body.len().to_string());
                shapes.push(post(
                    format!("length {length}, {encoding}"),
                    format!("{length_line}{line}"),
                    body,
                ));
            }
        }
    }
    for &(chunk, text) in CHUNKS {
        let body = format!("{text}{}", smuggled(shapes.len()));
        let line = "Transfer-Encoding: chunked\r\n".to_owned();
        shapes.push(post(format!("chunk {chunk}"), line, body));
    }
    for &(what, line) in LINES {
        let lines = format!("{line}Content-Length: 0\r\n");
        shapes.push(post(format!("line {what}"), lines, smuggled(shapes.len())));
    }
    for &(method, version) in STARTS {
        let body = smuggled(shapes.len());
        shapes.push(Shape {
            name: format!("{method} {version}"),
            method,
            target: PATH,
            version,
            lines: format!("Content-Length: {}\r\n", body.len()),
            body,
        });
    }
    for &target in TARGETS {
        let body = smuggled(shapes.len());
        shapes.push(Shape {
            name: format!("target {target}"),
            method: "GET",
            target,
            version: "HTTP/1.1",
            lines: format!("Content-Length: {}\r\n", body.len()),
            body,
        });
    }
    shapes
}
