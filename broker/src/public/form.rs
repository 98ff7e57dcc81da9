//! Forms: `application/x-www-form-urlencoded`, read strictly [RFC 6749 §3.2,
//! appendix B].
//!
//! No parameter twice, no escape that is not one, UTF-8 only. A parameter without
//! a value counts as absent, an unknown one is passed over.

use thiserror::Error;

/// The most parameters that are read.
const MAX_PARAMETERS: usize = 32;

/// Why a form was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FormError {
    /// The body is of another type.
    #[error("the body must be application/x-www-form-urlencoded")]
    ContentType,
    /// The body is over its bound, or did not come whole.
    #[error("the body is too large or was cut short")]
    Body,
    /// A `%` does not begin an escape of two hexadecimal digits, or a character
    /// should have been escaped.
    #[error("the body is not well encoded")]
    Encoding,
    /// There are more than [`MAX_PARAMETERS`].
    #[error("too many parameters")]
    TooMany,
    /// A parameter is there more than once.
    #[error("a parameter is there more than once")]
    Repeated {
        /// Whether it is `resource`, which others let repeat [RFC 8707 §2].
        resource: bool,
    },
    /// The URL has a query: parameters belong into the body.
    #[error("parameters must be in the body, not in the URL")]
    Query,
    /// A parameter that must be there is absent.
    #[error("the parameter {0} is missing")]
    Missing(&'static str),
}

/// A form's parameters, names unique, values not empty.
pub struct Form(Vec<(String, String)>);

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Form({} parameters)", self.0.len())
    }
}

impl Form {
    /// Reads a body.
    ///
    /// # Errors
    /// [`FormError`], but for `ContentType`, `Body`, `Query` and `Missing`.
    pub fn parse(body: &[u8]) -> Result<Self, FormError> {
        let mut seen: Vec<(String, String)> = Vec::new();
        for pair in body
            .split(|byte| *byte == b'&')
            .filter(|pair| !pair.is_empty())
        {
            if seen.len() >= MAX_PARAMETERS {
                return Err(FormError::TooMany);
            }
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = decode(halves.next().unwrap_or_default())?;
            let value = decode(halves.next().unwrap_or_default())?;
            if seen.iter().any(|(known, _)| *known == name) {
                let resource = name == "resource";
                return Err(FormError::Repeated { resource });
            }
            seen.push((name, value));
        }
        Ok(Self(seen))
    }

    /// The value of a parameter, if it has one.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, value)| known == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that must be there.
    ///
    /// # Errors
    /// [`FormError::Missing`].
    pub fn required(&self, name: &'static str) -> Result<&str, FormError> {
        self.value(name).ok_or(FormError::Missing(name))
    }
}

fn decode(text: &[u8]) -> Result<String, FormError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = hex(bytes.next())?;
                let low = hex(bytes.next())?;
                high.wrapping_shl(4) | low
            }
            0x21..=0x7e => *byte,
            _ => return Err(FormError::Encoding),
        });
    }
    String::from_utf8(decoded).map_err(|_| FormError::Encoding)
}

fn hex(digit: Option<&u8>) -> Result<u8, FormError> {
    digit
        .and_then(|digit| char::from(*digit).to_digit(16))
        .and_then(|digit| u8::try_from(digit).ok())
        .ok_or(FormError::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_are_decoded() {
        let form = Form::parse(b"a=1%262&b=x+y%2B&&c&d=&%65=%C3%A9=").unwrap();
        let rows = [
            ("a", Some("1&2")),
            ("b", Some("x y+")),
            ("c", None),
            ("d", None),
            ("e", Some("\u{e9}=")),
            ("f", None),
        ];
        for (name, value) in rows {
            assert_eq!(form.value(name), value, "{name}");
        }
        assert_eq!(form.required("a"), Ok("1&2"));
        assert_eq!(form.required("c"), Err(FormError::Missing("c")));
    }

    #[test]
    fn each_rule_refuses() {
        let many = (0..33).map(|n| format!("p{n}=1&")).collect::<String>();
        let rows: [(&[u8], FormError); 9] = [
            (b"a=1&a=1", FormError::Repeated { resource: false }),
            (b"a=1&%61=2", FormError::Repeated { resource: false }),
            (b"a&a=", FormError::Repeated { resource: false }),
            (
                b"resource=a&resource=b",
                FormError::Repeated { resource: true },
            ),
            (b"a=%4", FormError::Encoding),
            (b"a=%+1", FormError::Encoding),
            (b"a=b c", FormError::Encoding),
            (b"a=%ff", FormError::Encoding),
            (many.as_bytes(), FormError::TooMany),
        ];
        for (body, expected) in rows {
            let found = Form::parse(body).map(|_| ());
            assert_eq!(found, Err(expected), "{}", body.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back(value in "\\PC{1,40}") {
            let encoded: String = value.bytes().map(|b| format!("%{b:02X}")).collect();
            let form = Form::parse(format!("a={encoded}").as_bytes()).unwrap();
            prop_assert_eq!(form.value("a"), Some(value.as_str()));
        }

        #[test]
        fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let form = Form::parse(&body);
            prop_assert!(form.is_err() || form.is_ok());
        }
    }
}
