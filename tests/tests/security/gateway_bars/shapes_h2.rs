//! Requests in HTTP/2 that would be two, or another's, once they are written as HTTP/1.1.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "shapes are counted in hundreds"
)]

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Field, HEADERS, PADDED, PING, PRIORITY,
    RST_STREAM, SETTINGS, block, field, frame,
};
use super::shapes::{CANARY, smuggled};

/// The stream of the shape; the next honest request has [`NEXT`].
pub(super) const STREAM: u32 = 1;
pub(super) const NEXT: u32 = 3;

/// A request whose frames are still to be made.
pub(super) struct Shape {
    pub(super) name: String,
    pub(super) method: &'static str,
    /// Changes what a valid request has, and says how it is sent.
    make: Box<dyn Fn(Valid) -> Vec<u8> + Send + Sync>,
}

/// A valid request.
pub(super) struct Valid {
    pub(super) method: &'static str,
    pub(super) authority: String,
    pub(super) path: String,
    /// Token and proof.
    pub(super) credentials: Vec<Field>,
}

impl Valid {
    fn pseudo(&self) -> Vec<Field> {
        vec![
            field(":method", self.method),
            field(":scheme", "https"),
            field(":authority", &self.authority),
            field(":path", &self.path),
        ]
    }

    fn fields(&self) -> Vec<Field> {
        let mut fields = self.pseudo();
        fields.extend(self.credentials.iter().cloned());
        fields
    }

    /// As it is, without a body.
    pub(super) fn plain(&self, stream: u32) -> Vec<u8> {
        let flags = END_HEADERS | END_STREAM;
        frame(HEADERS, flags, stream, &block(&self.fields()))
    }
}

impl Shape {
    pub(super) fn frames(&self, valid: Valid) -> Vec<u8> {
        (self.make)(valid)
    }
}

/// Headers, then a body in one frame.
fn with_body(fields: &[Field], body: &str) -> Vec<u8> {
    let mut frames = frame(HEADERS, END_HEADERS, STREAM, &block(fields));
    frames.extend(frame(DATA, END_STREAM, STREAM, body.as_bytes()));
    frames
}

/// One more field behind all others, and a body that is a request of its own.
fn more(name: String, added: Vec<Field>, number: usize) -> Shape {
    let make = move |valid: Valid| {
        let mut fields = valid.fields();
        fields.extend(added.clone());
        with_body(&fields, &smuggled(number))
    };
    shape(name, "POST", make)
}

fn shape(
    name: String,
    method: &'static str,
    make: impl Fn(Valid) -> Vec<u8> + Send + Sync + 'static,
) -> Shape {
    let make = Box::new(make);
    Shape { name, method, make }
}

/// `content-length`: `N` is the length of the body.
const LENGTHS: &[&str] = &[
    "", "N", "0", "6", "99999", "0, N", "N, N", "+N", "-1", "0xN", " N", "N ", "N\r\n",
];

/// Fields that belong to a connection of HTTP/1.1 [RFC 9113 §8.2.2], and none.
const OF_CONNECTIONS: &[(&str, &str)] = &[
    ("", ""),
    ("transfer-encoding", "chunked"),
    ("transfer-encoding", "identity"),
    ("connection", "close"),
    ("connection", "authorization"),
    ("upgrade", "h2c"),
];

/// More of them, with a body of no stated length.
const FIELDS: &[(&str, &str)] = &[
    ("te", "trailers"),
    ("te", "chunked"),
    ("keep-alive", "timeout=5"),
    ("proxy-connection", "keep-alive"),
    ("connection", "transfer-encoding"),
    ("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA"),
    ("host", "evil.example"),
    ("expect", "100-continue"),
    ("expect", "200-ok"),
    ("trailer", "authorization"),
    ("authorization", "Bearer client-credential-canary"),
    ("authorization_", "Bearer client-credential-canary"),
    ("Authorization", "Bearer client-credential-canary"),
    ("AUTHORIZATION", "Bearer client-credential-canary"),
    ("x_canary", "client-credential-canary"),
    ("x-forwarded-authorization", "client-credential-canary"),
    ("proxy-authorization", "Basic client-credential-canary"),
    ("cookie", "a=client-credential-canary"),
    ("x-original-url", "/api/smuggled/url"),
    ("x-http-method-override", "DELETE"),
    ("Transfer-Encoding", "chunked"),
    ("transfer-encoding ", "chunked"),
    (" transfer-encoding", "chunked"),
    ("transfer-encoding:", "chunked"),
    ("transfer_encoding", "chunked"),
];

/// What stands between the end of one line of HTTP/1.1 and the next, to some parser.
const BREAKS: &[&str] = &[
    "\r\n", "\n", "\r", "\0", "\r\n\r\n", "\n\n", "\u{b}", "\u{c}",
];

/// Where a break may be put.
#[derive(Clone, Copy)]
enum Into {
    Value,
    ForwardedValue,
    Name,
    Path,
    Method,
    Authority,
    Scheme,
}

const PLACES: &[(&str, Into)] = &[
    ("a value", Into::Value),
    ("a value that is forwarded", Into::ForwardedValue),
    ("a name", Into::Name),
    ("the path", Into::Path),
    ("the method", Into::Method),
    ("the authority", Into::Authority),
    ("the scheme", Into::Scheme),
];

/// A second request, or a second header, behind a break.
fn broken(place: &'static str, into: Into, end: &'static str, number: usize) -> Shape {
    let make = move |valid: Valid| {
        let tail = format!("{end}transfer-encoding: chunked{end}cookie: {CANARY}");
        let second =
            format!(" HTTP/1.1{end}host: x{end}{end}GET /api/smuggled/{number} HTTP/1.1{end}x: ");
        let mut fields = valid.fields();
        let mut add = |at: usize, text: &str| {
            if let Some((_, value)) = fields.get_mut(at) {
                value.extend(text.as_bytes());
            }
        };
        match into {
            Into::Value => fields.push(field("x-a", &format!("b{tail}"))),
            Into::ForwardedValue => fields.push(field("accept", &format!("b{tail}"))),
            Into::Name => fields.push(field(&format!("x-a: b{tail}"), "c")),
            Into::Path => add(3, &second),
            Into::Method => add(0, &second),
            Into::Authority => add(2, &tail),
            Into::Scheme => add(1, &second),
        }
        with_body(&fields, &format!("0\r\n\r\n{}", smuggled(number)))
    };
    shape(format!("h2 {end:?} in {place}"), "POST", make)
}

/// Pseudo-headers that are missing, doubled, unknown, misplaced or odd.
fn pseudo(all: &mut Vec<Shape>) {
    for (at, name) in [":method", ":scheme", ":authority", ":path"]
        .into_iter()
        .enumerate()
    {
        all.push(shape(format!("h2 without {name}"), "GET", move |valid| {
            let mut fields = valid.fields();
            fields.remove(at);
            with_body(&fields, "")
        }));
        all.push(shape(format!("h2 {name} twice"), "GET", move |valid| {
            let mut fields = valid.fields();
            fields.insert(at, field(name, "/api/smuggled/twice"));
            with_body(&fields, "")
        }));
        all.push(shape(format!("h2 {name} last"), "GET", move |valid| {
            let mut fields = valid.fields();
            let moved = fields.remove(at);
            fields.push(moved);
            with_body(&fields, "")
        }));
        all.push(shape(format!("h2 {name} empty"), "GET", move |valid| {
            let mut fields = valid.fields();
            if let Some((_, value)) = fields.get_mut(at) {
                value.clear();
            }
            with_body(&fields, "")
        }));
    }
    for (name, value) in [
        (":protocol", "websocket"),
        (":status", "200"),
        (":unknown", CANARY),
        (":", CANARY),
        ("", CANARY),
    ] {
        all.push(shape(format!("h2 pseudo {name:?}"), "GET", move |valid| {
            let mut fields = valid.fields();
            fields.insert(0, field(name, value));
            with_body(&fields, "")
        }));
    }
    for (at, value) in [
        (3, "*"),
        (3, "api/smuggled/relative"),
        (3, "http://evil.example/api/smuggled/absolute"),
        (3, "//evil.example/api/smuggled/network"),
        (3, "/api/smuggled/a b"),
        (3, "/api/smuggled/#fragment"),
        (3, "/api/smuggled/\u{ff}"),
        (0, "CONNECT"),
        (0, "TRACE"),
        (0, "PRI"),
        (0, "GET /api/smuggled/method"),
        (0, "post"),
        (1, "http"),
        (1, "ftp"),
        (2, "evil.example"),
        (2, "a@evil.example"),
    ] {
        all.push(shape(
            format!("h2 pseudo {at} {value}"),
            "GET",
            move |valid| {
                let mut fields = valid.fields();
                if let Some((_, of)) = fields.get_mut(at) {
                    *of = value.as_bytes().to_vec();
                }
                with_body(&fields, "")
            },
        ));
    }
}

/// A header block in two frames, parted at each of these places.
fn parted(all: &mut Vec<Shape>) {
    for at in [0, 1, 2, 5, 9, 40, 100, 400] {
        for (name, between) in [
            ("", Vec::new()),
            (" with a ping between", frame(PING, 0, 0, &[0; 8])),
            (
                " with data between",
                frame(DATA, 0, STREAM, smuggled(at).as_bytes()),
            ),
        ] {
            all.push(shape(
                format!("h2 continued at {at}{name}"),
                "GET",
                move |valid| {
                    let bytes = block(&valid.fields());
                    let (first, rest) = bytes.split_at(at.min(bytes.len()));
                    let mut frames = frame(HEADERS, END_STREAM, STREAM, first);
                    frames.extend(&between);
                    frames.extend(frame(CONTINUATION, END_HEADERS, STREAM, rest));
                    frames
                },
            ));
        }
    }
    all.push(shape("h2 continued elsewhere".to_owned(), "GET", |valid| {
        let bytes = block(&valid.fields());
        let (first, rest) = bytes.split_at(20);
        let mut frames = frame(HEADERS, END_STREAM, STREAM, first);
        frames.extend(frame(CONTINUATION, END_HEADERS, 5, rest));
        frames
    }));
    all.push(shape("h2 continued for ever".to_owned(), "GET", |valid| {
        let mut frames = frame(HEADERS, END_STREAM, STREAM, &block(&valid.fields()));
        for _ in 0..200 {
            frames.extend(frame(CONTINUATION, 0, STREAM, &[]));
        }
        frames
    }));
}

/// Bodies, trailers and ends that HTTP/1.1 has other words for.
fn bodies(all: &mut Vec<Shape>) {
    let number = all.len();
    let head = |valid: &Valid, flags: u8| frame(HEADERS, flags, STREAM, &block(&valid.fields()));
    let open = END_HEADERS;
    for (name, trailers) in [
        (
            "credentials",
            vec![field("authorization", CANARY), field("cookie", CANARY)],
        ),
        ("a length", vec![field("content-length", "0")]),
        ("an encoding", vec![field("transfer-encoding", "chunked")]),
        (
            "a pseudo-header",
            vec![field(":path", "/api/smuggled/trailer")],
        ),
        (
            "a line",
            vec![field(
                "x",
                "a\r\n\r\nGET /api/smuggled/trailer HTTP/1.1\r\n\r\n",
            )],
        ),
    ] {
        all.push(shape(
            format!("h2 trailers with {name}"),
            "POST",
            move |valid| {
                let mut frames = head(&valid, open);
                frames.extend(frame(DATA, 0, STREAM, b"body"));
                let flags = END_HEADERS | END_STREAM;
                frames.extend(frame(HEADERS, flags, STREAM, &block(&trailers)));
                frames
            },
        ));
    }
    all.push(shape(
        "h2 trailers that do not end".to_owned(),
        "POST",
        move |valid| {
            let mut frames = head(&valid, open);
            frames.extend(frame(
                HEADERS,
                END_HEADERS,
                STREAM,
                &block(&[field("x", "y")]),
            ));
            frames.extend(frame(DATA, END_STREAM, STREAM, smuggled(number).as_bytes()));
            frames
        },
    ));
    all.push(shape(
        "h2 data behind the end".to_owned(),
        "POST",
        move |valid| {
            let mut frames = head(&valid, open | END_STREAM);
            frames.extend(frame(DATA, END_STREAM, STREAM, smuggled(number).as_bytes()));
            frames
        },
    ));
    all.push(shape(
        "h2 headers behind the end".to_owned(),
        "POST",
        move |valid| {
            let mut frames = head(&valid, open | END_STREAM);
            frames.extend(head(&valid, open | END_STREAM));
            frames
        },
    ));
    all.push(shape(
        "h2 reset in the body".to_owned(),
        "POST",
        move |valid| {
            let mut frames = head(&valid, open);
            frames.extend(frame(DATA, 0, STREAM, b"0\r\n\r\n"));
            frames.extend(frame(RST_STREAM, 0, STREAM, &[0, 0, 0, 8]));
            frames.extend(frame(DATA, END_STREAM, STREAM, smuggled(number).as_bytes()));
            frames
        },
    ));
    all.push(shape("h2 reset at once".to_owned(), "POST", move |valid| {
        let mut frames = head(&valid, open | END_STREAM);
        frames.extend(frame(RST_STREAM, 0, STREAM, &[0, 0, 0, 8]));
        frames
    }));
    all.push(shape("h2 padded".to_owned(), "POST", move |valid| {
        let mut payload = vec![16];
        payload.extend(block(&valid.fields()));
        payload.extend(b"GET /smuggled/ H");
        let flags = open | END_STREAM | PADDED;
        frame(HEADERS, flags, STREAM, &payload)
    }));
    all.push(shape("h2 padded beyond".to_owned(), "POST", move |valid| {
        let mut payload = vec![255];
        payload.extend(block(&[field("x", "y")]));
        let mut frames = head(&valid, open);
        frames.extend(frame(DATA, END_STREAM | PADDED, STREAM, &payload));
        frames
    }));
    all.push(shape(
        "h2 priority on itself".to_owned(),
        "POST",
        move |valid| {
            let mut payload = vec![0, 0, 0, 1, 16];
            payload.extend(block(&valid.fields()));
            let flags = open | END_STREAM | PRIORITY;
            frame(HEADERS, flags, STREAM, &payload)
        },
    ));
    all.push(shape(
        "h2 settings in between".to_owned(),
        "POST",
        move |valid| {
            let mut frames = head(&valid, open);
            // HEADER_TABLE_SIZE 0, INITIAL_WINDOW_SIZE 0.
            let settings = [0, 1, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];
            frames.extend(frame(SETTINGS, 0, 0, &settings));
            frames.extend(frame(DATA, END_STREAM, STREAM, b"body"));
            frames
        },
    ));
    all.push(shape(
        "h2 an even stream".to_owned(),
        "POST",
        move |valid| frame(HEADERS, open | END_STREAM, 2, &block(&valid.fields())),
    ));
    all.push(shape(
        "h2 an index of nothing".to_owned(),
        "POST",
        move |valid| {
            let mut bytes = block(&valid.fields());
            bytes.push(0xff);
            frame(HEADERS, open | END_STREAM, STREAM, &bytes)
        },
    ));
}

/// All of them.
pub(super) fn all() -> Vec<Shape> {
    let mut all = Vec::new();
    for &length in LENGTHS {
        for &(name, value) in OF_CONNECTIONS {
            let number = all.len();
            let body = smuggled(number);
            let mut added = Vec::new();
            if !length.is_empty() {
                let length = length.replace('N', &body.len().to_string());
                added.push(field("content-length", &length));
            }
            if !name.is_empty() {
                added.push(field(name, value));
            }
            all.push(more(
                format!("h2 length {length:?}, {name} {value}"),
                added,
                number,
            ));
        }
    }
    for &(name, value) in FIELDS {
        let number = all.len();
        all.push(more(
            format!("h2 {name:?}: {value}"),
            vec![field(name, value)],
            number,
        ));
    }
    for &(place, into) in PLACES {
        for &end in BREAKS {
            all.push(broken(place, into, end, all.len()));
        }
    }
    pseudo(&mut all);
    parted(&mut all);
    bodies(&mut all);
    all
}
