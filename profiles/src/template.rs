//! Texts with `{parameters}`.

use std::collections::BTreeMap;

use url::{Host, Url};

use crate::document::ParameterKind;

/// The longest value of a parameter.
const MAX_VALUE_BYTES: usize = 253;

impl ParameterKind {
    /// What a value must be.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Host => "a host name in lower case, with a port if there is one",
            Self::Label => "one label of a host name: 1 to 63 of a-z, 0-9 and - inside",
            Self::Segment => "one segment of a path: letters, digits, -, _ and .",
            Self::Origin => {
                "an origin in normal form: https://host, with a port if there is one; http for loopback"
            }
        }
    }

    /// Whether a value is of this kind.
    #[must_use]
    pub fn accepts(self, value: &str) -> bool {
        if value.is_empty() || value.len() > MAX_VALUE_BYTES {
            return false;
        }
        match self {
            Self::Host => is_host(value),
            Self::Label => is_label(value),
            Self::Segment => {
                let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
                value.bytes().all(fits) && !value.bytes().all(|b| b == b'.')
            }
            Self::Origin => is_origin(value),
        }
    }
}

/// Whether a text is one label of a host name.
#[must_use]
pub fn is_label(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(fits)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A name with at least two labels, not an address.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.split_once(':') {
        None => (text, None),
        Some((name, port)) => (name, Some(port)),
    };
    let port_fits =
        port.is_none_or(|port| !port.starts_with('0') && port.parse::<u16>().is_ok_and(|p| p != 0));
    let named = name.split('.').count() > 1 && name.split('.').all(is_label);
    // What a URL parser would take for an address ends in a number.
    let address = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    port_fits && named && !address
}

fn is_origin(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else {
        return false;
    };
    let loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    };
    let scheme = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    let anonymous = url.username().is_empty() && url.password().is_none();
    scheme && anonymous && url.as_str().strip_suffix('/') == Some(text)
}

/// The names between braces, in their order. `None` if braces do not match.
pub(crate) fn names(text: &str) -> Option<Vec<&str>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        let (_, from) = rest.split_at_checked(open)?;
        let inside = from.strip_prefix('{')?;
        let (name, after) = inside.split_once('}')?;
        if name.contains('{') {
            return None;
        }
        found.push(name);
        rest = after;
    }
    Some(found)
}

/// Puts values in the places of their names. A name without a value stays.
#[must_use]
pub fn fill(text: &str, values: &BTreeMap<String, String>) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{name}}}"), value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_between_braces() {
        assert_eq!(names("https://a/b"), Some(vec![]));
        assert_eq!(names("https://{a}.b/{c}"), Some(vec!["a", "c"]));
        for text in ["{", "}", "{a", "a}", "{{a}}", "{a}}", "}{"] {
            assert_eq!(names(text), None, "{text}");
        }
    }

    #[test]
    fn a_value_is_of_its_kind() {
        use ParameterKind::{Host, Label, Origin, Segment};
        let rows = [
            (Host, "a.example", true),
            (Host, "a.example:8443", true),
            (Host, "a-b.c.example", true),
            (Host, "localhost", false),
            (Host, "A.example", false),
            (Host, "a..example", false),
            (Host, "a.example:0", false),
            (Host, "a.example:", false),
            (Host, "a.example:65536", false),
            (Host, "127.0.0.1", false),
            (Host, "a.1", false),
            (Host, "a.example/", false),
            (Host, "u@a.example", false),
            (Host, "a.example#", false),
            (Host, "", false),
            (Label, "a-1", true),
            (Label, "-a", false),
            (Label, "a.b", false),
            (Label, "a@", false),
            (Segment, "v61.0", true),
            (Segment, "a/b", false),
            (Segment, "..", false),
            (Segment, "%2e", false),
            (Segment, "a?b", false),
            (Origin, "https://a.example", true),
            (Origin, "https://a.example:8443", true),
            (Origin, "http://127.0.0.1:1", true),
            (Origin, "http://[::1]:1", true),
            (Origin, "http://a.example", false),
            (Origin, "https://a.example/", false),
            (Origin, "https://a.example/x", false),
            (Origin, "https://u@a.example", false),
            (Origin, "https://a.example:443", false),
            (Origin, "ftp://a.example", false),
        ];
        for (kind, value, expected) in rows {
            assert_eq!(kind.accepts(value), expected, "{kind:?} {value}");
        }
    }

    #[test]
    fn values_take_the_places_of_their_names() {
        let values = BTreeMap::from([("a".to_owned(), "x".to_owned())]);
        assert_eq!(fill("{a}/{b}/{a}", &values), "x/{b}/x");
    }
}
