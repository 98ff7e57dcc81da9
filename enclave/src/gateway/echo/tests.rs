//! Tests of the echo filter: each spelling at each place, and what passes.

#![allow(clippy::arithmetic_side_effects, reason = "tests")]

use base64ct::{Base64, Base64Unpadded, Base64Url, Encoding};
use proptest::prelude::*;

use super::*;

const TOKEN: &str = "ya29.A0ARrdaM-k9Vq/7+GzL4pL8o~Qyy2WVc=";

fn filter(token: &str) -> EchoFilter {
    EchoFilter::new(Needles::new(token.as_bytes()).map(Arc::new))
}

/// What leaves of an answer that is sent in chunks of these sizes, in turn.
fn run(token: &str, answer: &[u8], sizes: &[usize]) -> (Vec<u8>, Result<(), Echoed>) {
    let mut filter = filter(token);
    let mut left = Vec::new();
    let mut rest = answer;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at((*sizes.next().unwrap()).clamp(1, rest.len()));
        rest = after;
        match filter.push(Bytes::copy_from_slice(chunk)) {
            Ok(part) => left.extend_from_slice(&part),
            Err(echoed) => return (left, Err(echoed)),
        }
    }
    left.extend_from_slice(&filter.finish());
    (left, Ok(()))
}

fn percent(text: &str, of: impl Fn(u8) -> bool) -> String {
    let one = |b: u8| match of(b) {
        true => format!("%{b:02X}"),
        false => char::from(b).to_string(),
    };
    text.bytes().map(one).collect()
}

fn json(text: &str, of: impl Fn(u8) -> bool) -> String {
    let one = |b: u8| match of(b) {
        true => format!("\\u{b:04x}"),
        false => char::from(b).to_string(),
    };
    text.bytes().map(one).collect()
}

/// Every spelling that must be found, with its name.
fn spellings(token: &str) -> Vec<(String, String)> {
    let mut all = vec![
        ("plain".to_owned(), token.to_owned()),
        (
            "in a header".to_owned(),
            format!("Authorization: Bearer {token}"),
        ),
        ("percent, all".to_owned(), percent(token, |_| true)),
        (
            "percent, lower case".to_owned(),
            percent(token, |_| true).to_lowercase(),
        ),
        (
            "percent, reserved".to_owned(),
            percent(token, |b| !b.is_ascii_alphanumeric()),
        ),
        ("JSON, all".to_owned(), json(token, |_| true)),
        ("JSON, slash".to_owned(), token.replace('/', "\\/")),
        (
            "JSON, reserved".to_owned(),
            json(token, |b| !b.is_ascii_alphanumeric()),
        ),
        ("hex".to_owned(), hex_text(token)),
        ("HEX".to_owned(), hex_text(token).to_uppercase()),
    ];
    for before in 0..4 {
        let whole = format!("{}{token}:x", "user"[..before].to_owned());
        let text = Base64::encode_string(whole.as_bytes());
        all.push((format!("base64 after {before}"), text.clone()));
        all.push((
            format!("base64 after {before}, percent"),
            percent(&text, |b| !b.is_ascii_alphanumeric()),
        ));
        all.push((
            format!("base64 after {before}, JSON"),
            text.replace('/', "\\/"),
        ));
        let lines: Vec<_> = text
            .as_bytes()
            .chunks(19)
            .map(|l| std::str::from_utf8(l).unwrap())
            .collect();
        all.push((format!("base64 after {before}, lines"), lines.join("\r\n")));
        all.push((
            format!("base64 after {before}, escaped lines"),
            lines.join("\\n"),
        ));
        all.push((
            format!("base64url after {before}"),
            Base64Url::encode_string(whole.as_bytes()),
        ));
    }
    all.push((
        "base64, alone".to_owned(),
        Base64Unpadded::encode_string(token.as_bytes()),
    ));
    all
}

fn hex_text(token: &str) -> String {
    token.bytes().map(|b| format!("{b:02x}")).collect()
}

/// Whether the beginning of a spelling is in what left.
fn leaked(left: &[u8], token: &str) -> bool {
    let mut beginnings = vec![
        token.as_bytes()[..8].to_vec(),
        hex_text(token).as_bytes()[..8].to_vec(),
        percent(token, |_| true).as_bytes()[..9].to_vec(),
        json(token, |_| true).as_bytes()[..12].to_vec(),
    ];
    for before in ["", "u", "us"] {
        let text = Base64::encode_string(format!("{before}{token}").as_bytes());
        beginnings.push(text.as_bytes()[before.len() * 2..][..8].to_vec());
    }
    let has = |beginning: &Vec<u8>| left.windows(beginning.len()).any(|w| w == beginning);
    beginnings.iter().any(has)
}

#[test]
fn every_spelling_is_found_in_chunks_of_any_size() {
    for (name, spelling) in spellings(TOKEN) {
        let answer = format!("{{\"a\":\"ya29 50% \\ {spelling}\"}} more");
        for size in 1..=spelling.len() + 3 {
            let (left, end) = run(TOKEN, answer.as_bytes(), &[size, 1 + size / 3]);
            assert_eq!(end, Err(Echoed), "{name} in chunks of {size}");
            assert!(
                !leaked(&left, TOKEN),
                "{name} in chunks of {size}: {}",
                left.escape_ascii()
            );
            assert!(answer.as_bytes().starts_with(&left), "{name}");
        }
    }
}

#[test]
fn what_repeats_a_part_of_the_token_only_passes_whole() {
    let text = format!(
        "{} {} %4 \\u00 % \\ {}",
        &TOKEN[..20],
        &TOKEN[1..],
        &hex_text(TOKEN)[2..]
    );
    for size in 1..text.len() {
        assert_eq!(
            run(TOKEN, text.as_bytes(), &[size]),
            (text.clone().into_bytes(), Ok(())),
            "{size}"
        );
    }
}

#[test]
fn nothing_is_held_that_begins_nothing() {
    let mut filter = filter(TOKEN);
    let event = Bytes::from_static(b"data: hello\n\n");
    assert_eq!(filter.push(event.clone()), Ok(event));
    // What may be a beginning waits for the next byte.
    assert_eq!(
        filter.push(Bytes::from_static(b"x ya29.")),
        Ok(Bytes::from_static(b"x "))
    );
    assert_eq!(
        filter.push(Bytes::from_static(b"!")),
        Ok(Bytes::from_static(b"ya29.!"))
    );
    // Line breaks without end are not kept.
    assert_eq!(filter.push(Bytes::from_static(b"ya29")), Ok(Bytes::new()));
    let breaks = Bytes::from(vec![b'\n'; 100]);
    assert_eq!(filter.push(breaks).map(|part| part.len()), Ok(104));
}

#[test]
fn a_token_that_is_hardly_one_is_not_looked_for() {
    assert_eq!(
        run("short", b"a short answer", &[3]),
        (b"a short answer".to_vec(), Ok(()))
    );
    assert!(Needles::new(&[b'x'; needles::MIN_TOKEN_BYTES]).is_some());
}

#[test]
fn a_header_is_searched_too() {
    let filter = filter(TOKEN);
    assert!(filter.found_in(format!("token={TOKEN}").as_bytes()));
    assert!(!filter.found_in(&TOKEN.as_bytes()[1..]));
}

#[test]
fn debug_shows_no_token() {
    let filter = filter(TOKEN);
    assert_eq!(
        format!("{filter:?} {:?}", filter.needles),
        "EchoFilter([redacted]) Some(Needles([redacted]))"
    );
}

proptest! {
    #[test]
    fn other_answers_pass_unchanged(
        answer in proptest::collection::vec(prop_oneof![Just(b'%'), Just(b'\\'), Just(b'y'), Just(b'a'), Just(b'2'), Just(b'u'), any::<u8>()], 0..300),
        sizes in proptest::collection::vec(1usize..40, 1..5),
    ) {
        prop_assert_eq!(run(TOKEN, &answer, &sizes), (answer, Ok(())));
    }

    #[test]
    fn an_echo_is_found_wherever_it_stands(
        token in "[A-Za-z0-9._~+/-]{12,80}",
        before in proptest::collection::vec(any::<u8>(), 0..50),
        which in any::<prop::sample::Index>(),
        sizes in proptest::collection::vec(1usize..40, 1..5),
    ) {
        let all = spellings(&token);
        let (name, spelling) = which.get(&all);
        // What stands before must not make an escape of the spelling's beginning.
        let mut answer = before;
        answer.push(b' ');
        answer.extend_from_slice(spelling.as_bytes());
        prop_assert_eq!(run(&token, &answer, &sizes).1, Err(Echoed), "{}", name);
    }
}
