//! Each rule of a profile, broken one at a time in a good one.

use proptest::prelude::*;

use super::*;

const GOOD: &str = r#"
schema = 1
id = "good"
title = "Good"
tested = "no"
[parameters.domain]
about = "the host"
kind = "host"
example = "a.example"
[endpoints]
token = "https://{domain}/token"
[client]
authentication = ["client_secret_basic"]
pkce = "no"
[refresh]
rotation = "always"
reuse = "family-revoked"
[[targets]]
name = "api"
base_url = "https://{domain}/v1"
[[operations]]
id = "a.get"
target = "api"
method = "GET"
path = "/a/{id}"
[[sources]]
of = ["endpoints", "client", "refresh", "targets", "operations"]
url = "https://docs.example/"
read = "2026-11-29"
"#;

fn faults(text: &str) -> Vec<String> {
    match read(text.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(Fault::to_string).collect(),
    }
}

#[test]
fn a_good_one_is_read() {
    assert_eq!(faults(GOOD), Vec::<String>::new());
}

#[test]
fn each_rule_is_held() {
    let url_rule =
        "must be an absolute URL in normal form, without user information, query and fragment";
    let rows: &[(&str, &str, &[&str])] = &[
        ("schema = 1", "schema = 2", &["schema: must be 1"]),
        (
            "id = \"good\"",
            "id = \"Good\"",
            &["id: must be 1 to 63 of a-z, 0-9 and single - inside"],
        ),
        (
            "title = \"Good\"",
            "title = \" \"",
            &["title: must be a printable text"],
        ),
        (
            "example = \"a.example\"",
            "example = \"a\"",
            &[
                "parameters.domain.example: must be a host name in lower case, with a port if there is one",
            ],
        ),
        (
            "https://{domain}/token",
            "https://{other}.example/token",
            &["endpoints.token: there is no parameter \"other\""],
        ),
        (
            "https://{domain}/token",
            "https://{domain/token",
            &["endpoints.token: braces do not match"],
        ),
        (
            "https://{domain}/token",
            "http://{domain}/token",
            &["endpoints.token: must be https"],
        ),
        (
            "https://{domain}/token",
            "https://{domain}/token?a=b",
            &[&format!("endpoints.token: {url_rule}")],
        ),
        (
            "https://{domain}/token",
            "https://u@{domain}/token",
            &[&format!("endpoints.token: {url_rule}")],
        ),
        (
            "[\"client_secret_basic\"]",
            "[]",
            &["client.authentication: must name a method"],
        ),
        (
            "pkce = \"no\"",
            "pkce = \"no\"\nauthorization_parameters = { state = \"x\" }",
            &["client.authorization_parameters.state: is the enclave's own"],
        ),
        (
            "rotation = \"always\"",
            "rotation = \"never\"\ngrace_s = 5",
            &["refresh.grace_s: is for tokens that rotate, of which it is known what a reuse does"],
        ),
        (
            "rotation = \"always\"",
            "rotation = \"always\"\nidle_lifetime_s = 599",
            &["refresh.idle_lifetime_s: must be at least 600 s, or keep-alive cannot serve it"],
        ),
        (
            "rotation = \"always\"",
            "rotation = \"always\"\nabsolute_lifetime_s = 0",
            &["refresh.absolute_lifetime_s: must be 1 s to ten years"],
        ),
        (
            "[[targets]]",
            "[errors]\ndead_codes = [\"A\"]\n[[targets]]",
            &[
                "errors.dead_codes: at most 16, each of a-z, 0-9 and _",
                "sources: nothing vouches for errors.dead_codes",
            ],
        ),
        (
            "name = \"api\"",
            "name = \"API\"",
            &[
                "targets[0].name: must be 1 to 63 of a-z, 0-9 and single - inside",
                "operations[0].target: must be one of the targets",
            ],
        ),
        (
            "id = \"a.get\"",
            "id = \"a..get\"",
            &["operations[0].id: must be words of a-z and 0-9 joined by . and _"],
        ),
        (
            "path = \"/a/{id}\"",
            "path = \"a\"",
            &["operations[0].path: must begin with /"],
        ),
        (
            "path = \"/a/{id}\"",
            "path = \"/a/../b\"",
            &["operations[0].path: each segment must be plain, {name}, or {name*} at the end"],
        ),
        (
            "path = \"/a/{id}\"",
            "path = \"/{id*}/b\"",
            &["operations[0].path: each segment must be plain, {name}, or {name*} at the end"],
        ),
        (
            "path = \"/a/{id}\"",
            "path = \"/a/{id}\"\nbody = [\"application/json\"]",
            &["operations[0].body: is for POST, PUT and PATCH"],
        ),
        (
            "\"refresh\", ",
            "",
            &[
                "sources: nothing vouches for refresh.rotation",
                "sources: nothing vouches for refresh.reuse",
            ],
        ),
        (
            "\"refresh\", ",
            "\"refresh\", \"refresh.grace_s\", ",
            &["sources[0].of: there is no fact \"refresh.grace_s\""],
        ),
        (
            "url = \"https://docs.example/\"",
            "",
            &["sources[0]: must have either url or assumed"],
        ),
        (
            "url = \"https://docs.example/\"",
            "url = \"http://docs.example/\"",
            &["sources[0].url: must be an https URL"],
        ),
        (
            "2026-11-29",
            "2026-13-29",
            &["sources[0].read: must be YYYY-MM-DD"],
        ),
    ];
    for (from, to, expected) in rows {
        assert!(GOOD.contains(from), "{from}");
        assert_eq!(faults(&GOOD.replace(from, to)), *expected, "{from} -> {to}");
    }
}

#[test]
fn what_is_no_profile_is_one_fault() {
    for text in ["", "schema = 1", "=", "schema = 1\nunknown = 2"] {
        assert_eq!(faults(text).len(), 1, "{text}");
    }
    assert_eq!(
        faults(&"#".repeat(MAX_BYTES + 1)),
        ["more than 65536 bytes"]
    );
    assert_eq!(read(b"\xff").unwrap_err()[0].rule, "not UTF-8");
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(at in 0..GOOD.len(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = GOOD.as_bytes().to_vec();
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        drop(read(&bytes));
    }
}
