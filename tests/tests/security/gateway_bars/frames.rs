//! HTTP/2 written by hand [RFC 9113]: frames and header blocks that no library would send.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "lengths are those of a test's own messages"
)]

/// What a connection begins with: the preface and empty settings.
pub(crate) fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GO_AWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const PRIORITY: u8 = 0x20;

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let [_, high, middle, low] = length.to_be_bytes();
    let mut bytes = vec![high, middle, low, kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A field of a header block: name and value, any bytes at all.
pub(crate) type Field = (Vec<u8>, Vec<u8>);

pub(crate) fn field(name: &str, value: &str) -> Field {
    (name.as_bytes().to_vec(), value.as_bytes().to_vec())
}

/// A header block: literals that are not indexed, with new names, without Huffman's code [RFC 7541 §6.2.2].
pub(crate) fn block(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            length(&mut bytes, text.len());
            bytes.extend(text);
        }
    }
    bytes
}

/// An integer of a 7-bit prefix [RFC 7541 §5.1].
fn length(bytes: &mut Vec<u8>, length: usize) {
    let small = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    let Some(mut rest) = length.checked_sub(127) else {
        return bytes.push(small(length));
    };
    bytes.push(127);
    while rest >= 128 {
        bytes.push(small(rest % 128) | 128);
        rest /= 128;
    }
    bytes.push(small(rest));
}

/// What a proxy makes of frames that only writes what it read: one message of HTTP/1.1.
pub(crate) fn as_http1(frames: &[u8]) -> Vec<u8> {
    let (mut head, mut body) = (Vec::new(), Vec::<u8>::new());
    for (kind, _stream, payload) in Frames(frames) {
        match kind {
            HEADERS | CONTINUATION => head.extend(payload),
            DATA => body.extend(payload),
            _ => {}
        }
    }
    let fields = fields(&head);
    let pseudo = |name: &[u8]| {
        let found = fields.iter().find(|(of, _)| of == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let mut message = [
        &pseudo(b":method")[..],
        b" ",
        &pseudo(b":path"),
        b" HTTP/1.1\r\n",
    ]
    .concat();
    message.extend([b"host: ", &pseudo(b":authority")[..], b"\r\n"].concat());
    for (name, value) in fields.iter().filter(|(name, _)| !name.starts_with(b":")) {
        message.extend([name, &b": "[..], value, b"\r\n"].concat());
    }
    message.extend(b"\r\n");
    message.extend(body);
    message
}

/// The fields of a block that [`block`] wrote, as far as it is one.
fn fields(mut block: &[u8]) -> Vec<Field> {
    fn text<'a>(block: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (first, mut rest) = block.split_first()?;
        let mut length = usize::from(*first);
        if length == 127 {
            let mut shift = 0;
            loop {
                let (next, after) = rest.split_first()?;
                rest = after;
                length += usize::from(next & 127) << shift;
                shift += 7;
                if next & 128 == 0 {
                    break;
                }
            }
        }
        let (text, after) = rest.split_at_checked(length)?;
        *block = after;
        Some(text)
    }
    let mut fields = Vec::new();
    while let Some((0, rest)) = block.split_first() {
        block = rest;
        let (Some(name), Some(value)) = (text(&mut block), text(&mut block)) else {
            break;
        };
        fields.push((name.to_vec(), value.to_vec()));
    }
    fields
}

/// Kind, stream and payload of each whole frame.
struct Frames<'a>(&'a [u8]);

impl<'a> Iterator for Frames<'a> {
    type Item = (u8, u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.0.split_first_chunk::<9>()?;
        let [high, middle, low, kind, _flags, s1, s2, s3, s4] = *head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let (payload, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = after;
        Some((kind, u32::from_be_bytes([s1, s2, s3, s4]), payload))
    }
}

/// What came on each stream in `DATA` frames, in order, as `(stream, text)`; a stream's pieces put together.
pub(crate) fn bodies(read: &[u8]) -> Vec<(u32, String)> {
    let mut bodies: Vec<(u32, Vec<u8>)> = Vec::new();
    for (kind, stream, payload) in Frames(read) {
        if kind == DATA {
            match bodies.iter_mut().find(|(of, _)| *of == stream) {
                Some((_, body)) => body.extend(payload),
                None => bodies.push((stream, payload.to_vec())),
            }
        }
    }
    let text = |body: Vec<u8>| String::from_utf8_lossy(&body).into_owned();
    bodies
        .into_iter()
        .map(|(stream, body)| (stream, text(body)))
        .collect()
}

/// The error code of a `GOAWAY`, if one came [RFC 9113 §6.8].
pub(crate) fn go_away(read: &[u8]) -> Option<u32> {
    let mut frames = Frames(read).filter(|(kind, ..)| *kind == GO_AWAY);
    let (_, _, payload) = frames.next()?;
    let code = payload.get(4..8)?;
    Some(u32::from_be_bytes(code.try_into().ok()?))
}

/// How a request was turned away whose head is too large: by `431`, by a reset of its stream, or with the connection.
pub(crate) fn head_refused(read: &[u8], stream: u32) -> Option<&'static str> {
    // `431` in Huffman's code [RFC 7541 appendix B], as a server's own encoder may write it.
    let is_431 = |block: &[u8]| {
        let mut windows = block.windows(3);
        windows.any(|bytes| bytes == b"431" || bytes == [0x69, 0x90, 0xff])
    };
    Frames(read).find_map(|(kind, of, payload)| match kind {
        GO_AWAY => Some("GOAWAY"),
        RST_STREAM if of == stream => Some("RST_STREAM"),
        HEADERS if of == stream && is_431(payload) => Some("431"),
        _ => None,
    })
}

/// How many frames of a kind came.
pub(crate) fn count(read: &[u8], kind: u8) -> usize {
    Frames(read).filter(|(found, ..)| *found == kind).count()
}

#[test]
fn what_is_written_is_read_back() {
    let long = "x".repeat(300);
    let bytes = block(&[field("a", "b"), field("long", &long)]);
    let expected = [&b"\0\x01a\x01b\0\x04long\x7f\xad\x01"[..], long.as_bytes()].concat();
    assert_eq!(bytes, expected);
    assert_eq!(fields(&bytes), [field("a", "b"), field("long", &long)]);
    let mut read = frame(DATA, 0, 1, b"/api/");
    read.extend(frame(HEADERS, END_HEADERS, 3, &bytes));
    read.extend(frame(DATA, 0, 3, b"three"));
    read.extend(frame(DATA, END_STREAM, 1, b"in"));
    read.extend(b"\0\0\x09cut");
    let expected = [(1, "/api/in".to_owned()), (3, "three".to_owned())];
    assert_eq!(bodies(&read), expected);

    let status = |value: &[u8]| frame(HEADERS, END_HEADERS, 1, &[b"\x48\x03", value].concat());
    for (read, expected) in [
        (status(b"431"), Some("431")),
        (status(b"200"), None),
        (frame(RST_STREAM, 0, 1, &[0; 4]), Some("RST_STREAM")),
        (frame(RST_STREAM, 0, 3, &[0; 4]), None),
        (frame(GO_AWAY, 0, 0, &[0; 8]), Some("GOAWAY")),
        (Vec::new(), None),
    ] {
        assert_eq!(head_refused(&read, 1), expected, "{read:?}");
    }
}
