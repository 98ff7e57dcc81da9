//! Salvage: the new refresh token out of a good answer that was cut off, or that
//! is broken behind it.
//!
//! The provider has spent the old token when it began to answer, so a successor
//! that arrived whole is worth more than the rules of JSON. It is taken only as a
//! member of the outermost object, only if its text is complete, and only if it is
//! there once.

use secrecy::{ExposeSecret, SecretString};

/// Values may be nested this deep.
const MAX_DEPTH: u32 = 32;

/// The value of the member `refresh_token`, if it is complete and there is one.
pub(super) fn refresh_token(body: &[u8]) -> Option<SecretString> {
    let mut reader = Reader { rest: body };
    reader.expect(b'{')?;
    let mut found: Option<SecretString> = None;
    loop {
        match reader.member() {
            Ok(Member::RefreshToken(_)) if found.is_some() => return None,
            Ok(Member::RefreshToken(token)) => found = Some(token),
            Ok(Member::Other) => {}
            // What is cut off behind the token does not matter.
            Err(Stop::End) => return found,
            Err(Stop::Broken) => return None,
        }
        match reader.next() {
            Some(b',') => {}
            Some(b'}') | None => return found,
            Some(_) => return None,
        }
    }
}

enum Member {
    RefreshToken(SecretString),
    Other,
}

/// Why reading stops.
enum Stop {
    /// The bytes end here.
    End,
    /// This is no JSON.
    Broken,
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    /// The next byte that is not white space.
    fn next(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn member(&mut self) -> Result<Member, Stop> {
        match self.next() {
            Some(b'"') => {}
            None => return Err(Stop::End),
            Some(_) => return Err(Stop::Broken),
        }
        let name = self.string()?;
        match self.next() {
            Some(b':') => {}
            None => return Err(Stop::End),
            Some(_) => return Err(Stop::Broken),
        }
        let wanted = name.expose_secret() == "refresh_token";
        match self.next() {
            Some(b'"') => {
                let value = self.string()?;
                if wanted {
                    return Ok(Member::RefreshToken(value));
                }
            }
            Some(open @ (b'{' | b'[')) => self.nested(open)?,
            // A number, `true`, `false` or `null`: up to what ends it.
            Some(byte) if byte.is_ascii_alphanumeric() || byte == b'-' => self.word()?,
            None => return Err(Stop::End),
            Some(_) => return Err(Stop::Broken),
        }
        Ok(Member::Other)
    }

    /// The rest of a string, behind its opening quote.
    fn string(&mut self) -> Result<SecretString, Stop> {
        let mut escaped = false;
        for (at, byte) in self.rest.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    let (text, rest) = self.rest.split_at(at);
                    self.rest = rest.get(1..).unwrap_or_default();
                    return decoded(text).ok_or(Stop::Broken);
                }
                _ => {}
            }
        }
        Err(Stop::End)
    }

    fn word(&mut self) -> Result<(), Stop> {
        let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b'}');
        let at = self.rest.iter().position(ends).ok_or(Stop::End)?;
        self.rest = self.rest.get(at..).unwrap_or_default();
        Ok(())
    }

    /// The rest of an object or array, behind its opening bracket.
    fn nested(&mut self, open: u8) -> Result<(), Stop> {
        let closing = |open| if open == b'{' { b'}' } else { b']' };
        let mut open = vec![closing(open)];
        while let Some(closes) = open.last().copied() {
            match self.next() {
                Some(b'"') => drop(self.string()?),
                Some(byte @ (b'{' | b'[')) if (open.len() as u64) < u64::from(MAX_DEPTH) => {
                    open.push(closing(byte));
                }
                Some(byte) if byte == closes => drop(open.pop()),
                Some(b'{' | b'[' | b'}' | b']') => return Err(Stop::Broken),
                Some(_) => {}
                None => return Err(Stop::End),
            }
        }
        Ok(())
    }
}

/// A string's text, escapes undone.
fn decoded(text: &[u8]) -> Option<SecretString> {
    let mut quoted = zeroize::Zeroizing::new(Vec::with_capacity(text.len().saturating_add(2)));
    quoted.push(b'"');
    quoted.extend_from_slice(text);
    quoted.push(b'"');
    let text: String = serde_json::from_slice(&quoted).ok()?;
    Some(SecretString::from(text))
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(body: &[u8]) -> Option<String> {
        refresh_token(body).map(|token| token.expose_secret().to_owned())
    }

    #[test]
    fn cut_at_any_byte_it_is_the_whole_token_or_none() {
        let bodies = [
            r#"{"access_token":"at","token_type":"Bearer","expires_in":60,"refresh_token":"rt-2","scope":"a"}"#,
            r#" { "refresh_token" : "rt\u002d2" , "access_token" : "x" } "#,
            r#"{"a":{"refresh_token":"no"},"b":[{"refresh_token":"no"}],"refresh_token":"rt-2"}"#,
            r#"{"a":"\"refresh_token\":\"no\"","n":-1.5e3,"t":true,"refresh_token":"rt-2","z":null}"#,
        ];
        for body in bodies {
            // Behind the closing quote of the one true value.
            let name = body.rfind("refresh_token").unwrap();
            let value = name + body[name..].find(':').unwrap();
            let open = value + body[value..].find('"').unwrap() + 1;
            let complete = open + body[open..].find('"').unwrap() + 1;
            for cut in 0..=body.len() {
                let expected = (cut >= complete).then(|| "rt-2".to_owned());
                assert_eq!(
                    found(&body.as_bytes()[..cut]),
                    expected,
                    "{body} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_sure_is_not_taken() {
        let deep = format!(r#"{{"a":{}1,"refresh_token":"r"}}"#, "[".repeat(64));
        let rows = [
            ("twice", r#"{"refresh_token":"r","refresh_token":"s"}"#),
            ("nested only", r#"{"data":{"refresh_token":"r"}}"#),
            ("in an array", r#"[{"refresh_token":"r"}]"#),
            ("no string", r#"{"refresh_token":5}"#),
            ("a broken escape", r#"{"refresh_token":"\x"}"#),
            ("no comma", r#"{"a":1 "refresh_token":"r"}"#),
            ("no colon", r#"{"a" 1,"refresh_token":"r"}"#),
            ("crossed brackets", r#"{"a":[},"refresh_token":"r"}"#),
            ("too deep", &deep),
            ("text before", r#"x{"refresh_token":"r"}"#),
            ("nothing", ""),
        ];
        for (what, body) in rows {
            assert_eq!(found(body.as_bytes()), None, "{what}");
        }
    }

    #[test]
    fn values_may_be_nested_so_deep_and_no_deeper() {
        let nested = |depth: usize, open: &str, close: &str| {
            let (open, close) = (open.repeat(depth), close.repeat(depth));
            format!(r#"{{"a":{open}{close},"refresh_token":"r"}}"#)
        };
        for (depth, expected) in [
            (1, Some("r".to_owned())),
            (MAX_DEPTH - 1, Some("r".to_owned())),
            (MAX_DEPTH, Some("r".to_owned())),
            (MAX_DEPTH + 1, None),
        ] {
            let depth = usize::try_from(depth).unwrap();
            assert_eq!(
                found(nested(depth, "[", "]").as_bytes()),
                expected,
                "{depth}"
            );
            let objects = nested(depth, r#"{"a":"#, "}").replace(":}", ":1}");
            assert_eq!(found(objects.as_bytes()), expected, "{depth}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text in r#"[\{\}\[\]":,\\a-z ]{0,64}"#) {
            let _ = refresh_token(&bytes);
            let _ = refresh_token(text.as_bytes());
        }
    }
}
