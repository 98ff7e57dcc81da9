//! References in an API's answer: rewritten to the gateway's prefix.
//!
//! `Location`, `Content-Location` and `Link` lead a client to where to go on.
//! One that stays below the target's base URL is rewritten, so that the client
//! goes on through the gateway; one that leads elsewhere is dropped, as it leads
//! past the gateway and is followed without its protection.

use url::Url;

use super::path::check_path;
use crate::http_url::HttpUrl;

/// A header with more links keeps these many.
const MAX_LINKS: usize = 64;

/// What references are resolved and rewritten by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct References {
    /// The target's base URL, without a slash at its end.
    base: String,
    /// The URL that the API was asked for.
    asked: Url,
    /// `{gateway}/g/{grant}/{target}`.
    prefix: String,
}

impl References {
    /// For a request to `path_and_query` at `base_url`.
    pub(super) fn new(base_url: &HttpUrl, path_and_query: &str, prefix: &str) -> Option<Self> {
        let base = Url::parse(base_url.as_str()).ok()?;
        Some(Self {
            base: base.as_str().trim_end_matches('/').to_owned(),
            asked: base.join(path_and_query).ok()?,
            prefix: prefix.to_owned(),
        })
    }

    /// The reference as the client is to see it; none if it leads elsewhere.
    pub(super) fn rewrite(&self, reference: &str) -> Option<String> {
        let mut url = self.asked.join(reference).ok()?;
        if !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let fragment = url.fragment().map(ToOwned::to_owned);
        url.set_fragment(None);
        let rest = url.as_str().strip_prefix(&self.base)?;
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        // Not a longer host, port or segment that begins the same.
        if !(path.is_empty() || path.starts_with('/')) {
            return None;
        }
        // What the gateway would refuse to forward leads nowhere.
        check_path(path).ok()?;
        let mut rewritten = format!("{}{path}", self.prefix);
        for (mark, part) in [('?', query), ('#', fragment.as_deref())] {
            if let Some(part) = part {
                rewritten.push(mark);
                rewritten.push_str(part);
            }
        }
        Some(rewritten)
    }

    /// The links of a `Link` header [RFC 8288 §3] that stay, rewritten.
    pub(super) fn rewrite_links(&self, value: &str) -> Option<String> {
        let mut links = Vec::new();
        for link in split_links(value).take(MAX_LINKS) {
            let (reference, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
            // `anchor` names another context: such a link is not about this answer.
            let anchored = parameters.to_ascii_lowercase().contains("anchor");
            if let Some(rewritten) = self.rewrite(reference)
                && !anchored
            {
                links.push(format!("<{rewritten}>{parameters}"));
            }
        }
        (!links.is_empty()).then(|| links.join(", "))
    }
}

/// Splits at the commas that stand neither in a reference nor in quotes.
fn split_links(value: &str) -> impl Iterator<Item = &str> {
    let (mut in_reference, mut in_quotes, mut escaped) = (false, false, false);
    value.split(move |c| {
        let ends = c == ',' && !in_reference && !in_quotes;
        match c {
            _ if escaped => escaped = false,
            '\\' if in_quotes => escaped = true,
            '"' if !in_reference => in_quotes = !in_quotes,
            '<' if !in_quotes => in_reference = true,
            '>' if !in_quotes => in_reference = false,
            _ => {}
        }
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PREFIX: &str = "https://gw.example/g/crm/api";

    fn references() -> References {
        let base = HttpUrl::parse("https://api.example/v1/").unwrap();
        References::new(&base, "/v1/contacts/7?page=2", PREFIX).unwrap()
    }

    #[test]
    fn a_reference_below_the_base_leads_through_the_gateway() {
        for (reference, rest) in [
            ("https://api.example/v1/contacts/8", "/contacts/8"),
            ("https://API.example:443/v1/contacts/8", "/contacts/8"),
            ("//api.example/v1/x", "/x"),
            ("/v1/x?page=3#top", "/x?page=3#top"),
            ("8", "/contacts/8"),
            ("../deals/", "/deals/"),
            ("?page=3", "/contacts/7?page=3"),
            ("", "/contacts/7?page=2"),
            ("https://api.example/v1", ""),
            ("https://api.example/v1/", "/"),
        ] {
            let expected = format!("{PREFIX}{rest}");
            assert_eq!(
                references().rewrite(reference),
                Some(expected),
                "{reference}"
            );
        }
    }

    #[test]
    fn a_reference_that_leads_elsewhere_is_none() {
        for reference in [
            "https://evil.example/v1/x",
            "http://api.example/v1/x",
            "https://api.example:444/v1/x",
            "https://api.example.evil.example/v1/x",
            "https://api.example/v10/x",
            "https://api.example/v1x",
            "https://api.example/other",
            "https://u:p@api.example/v1/x",
            "/",
            "../../x",
            "/v1/a%2fb",
            "/v1//x",
            "javascript:alert(1)",
            "data:text/plain,x",
            "https://[",
        ] {
            assert_eq!(references().rewrite(reference), None, "{reference}");
        }
    }

    #[test]
    fn the_links_that_stay_are_rewritten() {
        let rows = [
            (
                "<https://api.example/v1/c?page=3>; rel=\"next\", </v1/c?page=9>; rel=last",
                Some(
                    "<https://gw.example/g/crm/api/c?page=3>; rel=\"next\", \
                     <https://gw.example/g/crm/api/c?page=9>; rel=last",
                ),
            ),
            (
                "<https://docs.example/x>; rel=help; title=\"a, <b>\", <9,9>; rel=next",
                Some("<https://gw.example/g/crm/api/contacts/9,9>; rel=next"),
            ),
            ("<https://docs.example/x>; rel=help", None),
            ("</v1/x>; rel=next; anchor=\"https://x.example\"", None),
            ("no link", None),
            ("<unclosed", None),
            ("", None),
        ];
        for (value, expected) in rows {
            let found = references().rewrite_links(value);
            assert_eq!(found.as_deref(), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn what_is_rewritten_stays_below_the_prefix(reference: String, absolute in "https?://[a-z.@:0-9/]{0,30}") {
            for reference in [reference, absolute] {
                if let Some(found) = references().rewrite(&reference) {
                    let rest = found.strip_prefix(PREFIX).unwrap();
                    prop_assert!(rest.is_empty() || rest.starts_with(['/', '?', '#']));
                }
            }
        }
    }
}
