//! The recursive-descent reader behind [`super::Object`]; its stack is bounded by [`MAX_DEPTH`].

use std::borrow::Cow;

use super::{JsonError, MAX_DEPTH, MAX_MEMBERS, Number, Value};

type Members<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// Reads one object and nothing else.
pub(super) fn object(text: &str) -> Result<Members<'_>, JsonError> {
    let mut reader = Reader { rest: text };
    reader.skip_space();
    if reader.peek() != Some(b'{') {
        return Err(JsonError::NotObject);
    }
    let members = reader.object(MAX_DEPTH)?;
    reader.end()?;
    Ok(members)
}

/// Reads one array and nothing else.
pub(super) fn array(text: &str) -> Result<Vec<Value<'_>>, JsonError> {
    let mut reader = Reader { rest: text };
    let mut values = Vec::new();
    reader.skip_space();
    // The array stood at least one deep in its object.
    reader.array(MAX_DEPTH, |value| values.push(value))?;
    reader.end()?;
    Ok(values)
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.rest.as_bytes().first().copied()
    }

    /// Splits off the first `len` bytes.
    fn take(&mut self, len: usize) -> Result<&'a str, JsonError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(JsonError::Syntax)?;
        self.rest = rest;
        Ok(taken)
    }

    fn skip_space(&mut self) {
        if matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        }
    }

    /// Takes `byte` if it is next.
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.eat(byte) {
            Ok(())
        } else {
            Err(JsonError::Syntax)
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), JsonError> {
        self.rest = self.rest.strip_prefix(word).ok_or(JsonError::Syntax)?;
        Ok(())
    }

    fn end(mut self) -> Result<(), JsonError> {
        self.skip_space();
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(JsonError::TrailingBytes)
        }
    }

    /// Reads an object; `depth` is how many levels it and its content may take.
    fn object(&mut self, depth: usize) -> Result<Members<'a>, JsonError> {
        let mut members = Members::new();
        self.members(depth, |name, value| {
            if members.iter().any(|(known, _)| *known == name) {
                return Err(JsonError::DuplicateMember);
            }
            if members.len() >= MAX_MEMBERS {
                return Err(JsonError::TooManyMembers);
            }
            members.push((name, value));
            Ok(())
        })?;
        Ok(members)
    }

    /// Reads over an object whose values nobody wants yet.
    fn skip_object(&mut self, depth: usize) -> Result<(), JsonError> {
        let mut names: Vec<Cow<'a, str>> = Vec::new();
        self.members(depth, |name, _| {
            if names.contains(&name) {
                return Err(JsonError::DuplicateMember);
            }
            if names.len() >= MAX_MEMBERS {
                return Err(JsonError::TooManyMembers);
            }
            names.push(name);
            Ok(())
        })
    }

    fn members(
        &mut self,
        depth: usize,
        mut each: impl FnMut(Cow<'a, str>, Value<'a>) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        let inner = depth.checked_sub(1).ok_or(JsonError::TooDeep)?;
        self.expect(b'{')?;
        self.skip_space();
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            self.skip_space();
            let name = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            let value = self.value(inner)?;
            each(name, value)?;
            self.skip_space();
            if self.eat(b'}') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    fn array(&mut self, depth: usize, mut each: impl FnMut(Value<'a>)) -> Result<(), JsonError> {
        let inner = depth.checked_sub(1).ok_or(JsonError::TooDeep)?;
        self.expect(b'[')?;
        self.skip_space();
        if self.eat(b']') {
            return Ok(());
        }
        loop {
            each(self.value(inner)?);
            self.skip_space();
            if self.eat(b']') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        self.skip_space();
        match self.peek().ok_or(JsonError::Syntax)? {
            b'"' => Ok(Value::String(self.string()?)),
            b'{' => Ok(Value::Object(
                self.text_of(|reader| reader.skip_object(depth))?,
            )),
            b'[' => Ok(Value::Array(
                self.text_of(|reader| reader.array(depth, drop))?,
            )),
            b't' => self.literal("true").map(|()| Value::Bool(true)),
            b'f' => self.literal("false").map(|()| Value::Bool(false)),
            b'n' => self.literal("null").map(|()| Value::Null),
            _ => self.number(),
        }
    }

    /// The text that `read` reads over.
    fn text_of(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<(), JsonError>,
    ) -> Result<&'a str, JsonError> {
        let before = self.rest;
        read(self)?;
        let len = before.len().saturating_sub(self.rest.len());
        before.get(..len).ok_or(JsonError::Syntax)
    }

    fn number(&mut self) -> Result<Value<'a>, JsonError> {
        let in_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let len = self
            .rest
            .as_bytes()
            .iter()
            .take_while(|byte| in_number(byte))
            .count();
        let text = self.take(len)?;
        if is_number(text) {
            Ok(Value::Number(Number { text }))
        } else {
            Err(JsonError::Syntax)
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.expect(b'"')?;
        let plain = self.plain()?;
        if self.eat(b'"') {
            return Ok(Cow::Borrowed(plain));
        }
        let mut decoded = plain.to_owned();
        while !self.eat(b'"') {
            self.expect(b'\\')?;
            decoded.push(self.escape()?);
            decoded.push_str(self.plain()?);
        }
        Ok(Cow::Owned(decoded))
    }

    /// The part of a string up to its next quote or backslash. A control character ends it too, and
    /// is then neither.
    fn plain(&mut self) -> Result<&'a str, JsonError> {
        let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
        let len = self
            .rest
            .as_bytes()
            .iter()
            .position(ends)
            .ok_or(JsonError::Syntax)?;
        self.take(len)
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, JsonError> {
        match self.take(1)? {
            "\"" => Ok('"'),
            "\\" => Ok('\\'),
            "/" => Ok('/'),
            "b" => Ok('\u{8}'),
            "f" => Ok('\u{c}'),
            "n" => Ok('\n'),
            "r" => Ok('\r'),
            "t" => Ok('\t'),
            "u" => {
                let unit = self.code_unit()?;
                if !(0xd800..0xe000).contains(&unit) {
                    return char::from_u32(u32::from(unit)).ok_or(JsonError::LoneSurrogate);
                }
                // Only a high surrogate with an escaped low one after it is a character.
                if !self.rest.starts_with("\\u") {
                    return Err(JsonError::LoneSurrogate);
                }
                self.take(2)?;
                let pair = [unit, self.code_unit()?];
                match char::decode_utf16(pair).next() {
                    Some(Ok(character)) => Ok(character),
                    Some(Err(_)) | None => Err(JsonError::LoneSurrogate),
                }
            }
            _ => Err(JsonError::Syntax),
        }
    }

    fn code_unit(&mut self) -> Result<u16, JsonError> {
        let digits = self.take(4)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(JsonError::Syntax);
        }
        u16::from_str_radix(digits, 16).map_err(|_| JsonError::Syntax)
    }
}

/// `[ minus ] int [ frac ] [ exp ]` [RFC 8259 §6].
fn is_number(text: &str) -> bool {
    let all_digits =
        |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (integer, fraction) = match mantissa.split_once('.') {
        Some((integer, fraction)) => (integer, Some(fraction)),
        None => (mantissa, None),
    };
    all_digits(integer)
        && (integer.len() == 1 || !integer.starts_with('0'))
        && fraction.is_none_or(all_digits)
        && exponent
            .is_none_or(|digits| all_digits(digits.strip_prefix(['+', '-']).unwrap_or(digits)))
}
