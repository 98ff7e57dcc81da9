//! What comes back with an owner's browser [RFC 6749 §4.1.2, RFC 9207].

use std::fmt;

use secrecy::SecretString;
use thiserror::Error;
use url::form_urlencoded;

/// The longest query in bytes.
pub const MAX_QUERY_BYTES: usize = 16 * 1_024;

/// The longest value that is taken, in bytes.
const MAX_VALUE_BYTES: usize = 4_096;

/// A code.
pub struct Callback {
    /// The code: of use once, and to the enclave alone, which has the verifier.
    pub code: SecretString,
    /// Who says so, if the provider does.
    pub iss: Option<String>,
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback")
            .field("iss", &self.iss)
            .finish_non_exhaustive()
    }
}

/// What the provider answered.
#[derive(Debug)]
pub enum Answer {
    /// The owner consented.
    Consented(Callback),
    /// It refused, by this error code.
    Refused(String),
}

/// Why a query is not the answer that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CallbackError {
    /// It is too long.
    #[error("the answer is too long")]
    TooLong,
    /// A parameter is there twice [RFC 6749 §3.1].
    #[error("the answer says something twice")]
    Twice,
    /// A value is empty, too long, or not printable ASCII.
    #[error("the answer is ill-formed")]
    Value,
    /// `state` is absent or another: somebody else began what this is the answer to.
    #[error("this is not the answer that is waited for")]
    State,
    /// There is neither a code nor an error, or both.
    #[error("the answer has no code")]
    NoCode,
}

/// Reads a query as the answer with this `state`.
///
/// # Errors
/// [`CallbackError`].
pub fn parse(query: &str, expected_state: &str) -> Result<Answer, CallbackError> {
    if query.len() > MAX_QUERY_BYTES {
        return Err(CallbackError::TooLong);
    }
    let [mut state, mut code, mut iss, mut error] = [const { None::<String> }; 4];
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let place = match name.as_ref() {
            "state" => &mut state,
            "code" => &mut code,
            "iss" => &mut iss,
            "error" => &mut error,
            _ => continue,
        };
        if place.is_some() {
            return Err(CallbackError::Twice);
        }
        let fits = (1..=MAX_VALUE_BYTES).contains(&value.len())
            && value.bytes().all(|b| (0x20..0x7f).contains(&b));
        if !fits {
            return Err(CallbackError::Value);
        }
        *place = Some(value.into_owned());
    }
    if state.as_deref() != Some(expected_state) {
        return Err(CallbackError::State);
    }
    match (code, error) {
        (Some(code), None) => Ok(Answer::Consented(Callback {
            code: SecretString::from(code),
            iss,
        })),
        (None, Some(error)) => Ok(Answer::Refused(error)),
        (None, None) | (Some(_), Some(_)) => Err(CallbackError::NoCode),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn read(query: &str) -> Result<(Option<String>, String), CallbackError> {
        parse(query, "s 1").map(|answer| match answer {
            Answer::Consented(Callback { code, iss }) => (iss, code.expose_secret().to_owned()),
            Answer::Refused(error) => (None, format!("refused: {error}")),
        })
    }

    #[test]
    fn each_rule_refuses() {
        let good = "code=c%2B1&state=s+1&iss=https%3A%2F%2Fop.example&session_state=x";
        let iss = Some("https://op.example".to_owned());
        assert_eq!(read(good), Ok((iss, "c+1".to_owned())));
        assert_eq!(
            read("error=access_denied&state=s%201&error_description=no"),
            Ok((None, "refused: access_denied".to_owned()))
        );
        let long = format!("state=s+1&code={}", "x".repeat(4_097));
        let longer = format!("{good}&x={}", "x".repeat(MAX_QUERY_BYTES));
        let rows = [
            ("", CallbackError::State),
            ("code=c", CallbackError::State),
            ("code=c&state=s1", CallbackError::State),
            ("code=c&state=", CallbackError::Value),
            ("state=s+1", CallbackError::NoCode),
            ("state=s+1&code=c&error=e", CallbackError::NoCode),
            ("state=s+1&code=", CallbackError::Value),
            ("state=s+1&code=c%00", CallbackError::Value),
            ("state=s+1&code=%C3%A9", CallbackError::Value),
            (&long, CallbackError::Value),
            ("state=s+1&code=c&code=c", CallbackError::Twice),
            ("state=s+1&code=c&state=s+1", CallbackError::Twice),
            ("state=s+1&code=c&iss=a&iss=b", CallbackError::Twice),
            (&longer, CallbackError::TooLong),
        ];
        for (query, expected) in rows {
            assert_eq!(read(query), Err(expected), "{query:.80}");
        }
    }

    #[test]
    fn debug_shows_no_code() {
        let answer = parse("state=s&code=canary-1", "s").unwrap();
        assert!(!format!("{answer:?}").contains("canary"));
    }
}
