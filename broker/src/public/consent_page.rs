//! The page that an owner sees last: what is to be granted to whom, as text. No script, no style, nothing from
//! elsewhere.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use enclave::connect::Came;

/// The page is what it is, and is in no other's frame.
const POLICY: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox";

/// No window that led here keeps a hand on it.
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// A page.
pub(super) struct Page {
    status: StatusCode,
    html: String,
}

impl Page {
    /// A page that says that nothing came of it.
    pub(super) fn failed(status: StatusCode, why: &str) -> Self {
        Self {
            status,
            html: html("Nothing was granted.", &[("why", why.to_owned())], None),
        }
    }

    pub(super) fn into_response(self) -> Response {
        let headers = [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CACHE_CONTROL, "no-store"),
            // The code is in the page's address.
            (REFERRER_POLICY, "no-referrer"),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (X_FRAME_OPTIONS, "DENY"),
            (OPENER_POLICY, "same-origin"),
        ];
        (self.status, headers, self.html).into_response()
    }
}

/// The page of a consent that waits for what it shows.
pub(super) fn to_be_granted(came: &Came) -> Page {
    let Came {
        grant,
        by,
        confirmation,
    } = came;
    let listed = |items: Vec<String>, none: &str| match items.as_slice() {
        [] => none.to_owned(),
        items => items.join(", "),
    };
    let targets = grant.targets.iter().map(ToString::to_string).collect();
    let clients = grant.clients.iter().map(ToString::to_string).collect();
    let operations = grant.operations.iter().map(ToString::to_string).collect();
    let scopes = grant.scopes.iter().map(str::to_owned).collect();
    let lines = [
        ("grant", grant.id.to_string()),
        ("belongs to", grant.tenant.to_string()),
        ("app at the provider", grant.app.to_string()),
        ("may be used by", listed(clients, "nobody")),
        ("at", listed(targets, "nothing")),
        ("for", listed(operations, "every call there")),
        ("with the scopes", listed(scopes, "that the provider gives")),
        ("asked for by", by.clone()),
        (
            "kept by",
            "the enclave: neither the vendor nor its operator has the token".to_owned(),
        ),
    ];
    Page {
        status: StatusCode::OK,
        html: html("This is to be granted.", &lines, Some(confirmation)),
    }
}

fn html(head: &str, lines: &[(&str, String)], confirmation: Option<&str>) -> String {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Tokenkeep</title>\n<h1>",
    );
    escape(head, &mut page);
    page.push_str("</h1>\n<dl>\n");
    for (name, value) in lines {
        page.push_str("<dt>");
        escape(name, &mut page);
        page.push_str("</dt><dd>");
        escape(value, &mut page);
        page.push_str("</dd>\n");
    }
    page.push_str("</dl>\n");
    match confirmation {
        Some(confirmation) => {
            page.push_str("<p>Nothing is granted yet. If you began this yourself, type this code in the terminal where you did:</p>\n<p><strong>");
            escape(confirmation, &mut page);
            page.push_str("</strong></p>\n<p>Tell it to nobody. If somebody sent you here, close this window: nothing comes of it.</p></html>\n");
        }
        None => page.push_str("<p>You can close this window.</p></html>\n"),
    }
    page
}

fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_elsewhere_is_text() {
        let lines = [("a&b", "\"'<script>alert(1)</script>".to_owned())];
        let page = html("<b>", &lines, Some("<i>"));
        assert!(page.contains("<h1>&lt;b&gt;</h1>"), "{page}");
        let line = "<dt>a&amp;b</dt><dd>&quot;&#39;&lt;script&gt;alert(1)&lt;/script&gt;</dd>";
        assert!(page.contains(line), "{page}");
        assert!(page.contains("<strong>&lt;i&gt;</strong>"), "{page}");
        assert!(!page.contains("<script"), "{page}");
    }
}
