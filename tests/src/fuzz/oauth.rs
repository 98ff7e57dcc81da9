//! What the OAuth doors read: forms, the paths of metadata, client assertions, SPIFFE IDs.

use std::str;
use std::sync::LazyLock;

use broker::gateway::metadata;
use broker::public::form::Form;
use enclave::authenticate::assertion::AssertionError;
use enclave::authenticate::{AuthenticationError, Credentials};
use enclave::connect;
use enclave::introspect::IntrospectError;
use enclave::secret::RawResponse;
use enclave::spiffe::SpiffeId;
use jose::jws::{self, HeaderMember};
use ring::rand::SystemRandom;
use serde_json::json;
use tokenkeep::{consent, import};

use super::Target;
use crate::core::{BEGIN, CLIENT, Core, ISSUER, KID};

pub(super) const FORM: Target = Target {
    name: "broker_form",
    run: form,
    seeds: form_seeds,
};
pub(super) const CALLBACK: Target = Target {
    name: "client_callback",
    run: callback,
    seeds: callback_seeds,
};
pub(super) const IMPORT: Target = Target {
    name: "client_import",
    run: import_file,
    seeds: import_seeds,
};
pub(super) const DEVICE: Target = Target {
    name: "enclave_device",
    run: device,
    seeds: device_seeds,
};
pub(super) const METADATA: Target = Target {
    name: "broker_metadata",
    run: metadata_path,
    seeds: metadata_seeds,
};
pub(super) const ASSERTION: Target = Target {
    name: "enclave_assertion",
    run: assertion,
    seeds: assertion_seeds,
};
pub(super) const SPIFFE_ID: Target = Target {
    name: "enclave_spiffe_id",
    run: spiffe_id,
    seeds: spiffe_id_seeds,
};

/// An enclave with one client. It has no sockets, so any executor drives it.
static CORE: LazyLock<Core> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(Core::new())
});

fn form(input: &[u8]) -> bool {
    let Ok(form) = Form::parse(input) else {
        return false;
    };
    for name in ["grant_type", "client_assertion", "resource", ""] {
        // What is told is told as it is: no value is empty.
        assert!(form.value(name).is_none_or(|value| !value.is_empty()));
    }
    true
}

fn callback(input: &[u8]) -> bool {
    let Ok(query) = str::from_utf8(input) else {
        return false;
    };
    match consent::parse(query, "s") {
        // Whoever has not the state is never the answer.
        Ok(_) => assert!(consent::parse(query, "t").is_err()),
        Err(_) => return false,
    }
    true
}

fn callback_seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 3] = [
        b"code=c-1&state=s&iss=https%3A%2F%2Fop.example",
        b"error=access_denied&error_description=no&state=s",
        b"state=s&code=a%2Bb&session_state=x",
    ];
    seeds.map(<[u8]>::to_vec).to_vec()
}

fn import_file(input: &[u8]) -> bool {
    let (mut lines, mut seen) = (import::Lines::new(input), import::Seen::default());
    let mut any = false;
    while let Ok(Some((number, line))) = lines.next_line() {
        let Ok(line) = line.and_then(|line| import::parse(&line)) else {
            continue;
        };
        // What is taken is fit to be sealed, and taken once.
        assert!(!line.refresh_token.is_empty() && line.refresh_token.is_ascii());
        any |= seen.check(number, &line).is_ok();
        assert!(seen.check(number, &line).is_err());
    }
    any
}

fn import_seeds() -> Vec<Vec<u8>> {
    let line = r#"{"grant":"g","tenant":"t","app":"a","clients":["c"],"targets":["x"],"refresh_token":"r"}"#;
    let more = line.replace(
        "\"app\"",
        r#""hosts":{"x":"h.example"},"scopes":["s"],"operations":["x/o"],"expires_at_s":9,"app""#,
    );
    let two = format!("{line}\n\r\n{}\n", line.replace("\"g\"", "\"h\""));
    [line.to_owned(), more, two]
        .map(String::into_bytes)
        .to_vec()
}

fn device(input: &[u8]) -> bool {
    let Ok(shown) = connect::device_shown(&RawResponse::new(input.to_vec())) else {
        return false;
    };
    // What a terminal shows does not control it, and leads to a web page.
    assert!(!shown.user_code.is_empty() && !shown.user_code.chars().any(char::is_control));
    let pages = [
        Some(shown.verification_uri),
        shown.verification_uri_complete,
    ];
    for page in pages.into_iter().flatten() {
        assert!(page.to_ascii_lowercase().starts_with("http"), "{page}");
        assert!(page.bytes().all(|byte| byte.is_ascii_graphic()), "{page}");
    }
    assert!((1..=1_800).contains(&shown.expires_in_s));
    true
}

fn device_seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 2] = [
        br#"{"device_code":"d","user_code":"WDJB-MJHT","verification_uri":"https://op.example/device","verification_uri_complete":"https://op.example/device?user_code=W","expires_in":900,"interval":5}"#,
        br#"{"device_code":"d","user_code":"W","verification_url":"https://op.example/device","expires_in":1}"#,
    ];
    seeds.map(<[u8]>::to_vec).to_vec()
}

fn form_seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 3] = [
        b"grant_type=client_credentials&resource=https%3A%2F%2Fapi.test%2Fv1&scope=a+b",
        b"client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=a.b.c",
        b"token=x&&b&c=%C3%A9",
    ];
    seeds.map(<[u8]>::to_vec).to_vec()
}

fn metadata_path(input: &[u8]) -> bool {
    let Ok(path) = str::from_utf8(input) else {
        return false;
    };
    let Some(url) = metadata::url(CORE.enclave.config(), path) else {
        return false;
    };
    // It goes into a quoted string of a header.
    assert!(
        url.bytes()
            .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
    );
    true
}

fn metadata_seeds() -> Vec<Vec<u8>> {
    ["/g/contacts/api", "/g/contacts/api/v1/people", "/g/a/b/"]
        .map(|path| path.as_bytes().to_vec())
        .to_vec()
}

/// An input that begins like claims is signed by the client's key, so that what is behind the signature is reached.
fn assertion(input: &[u8]) -> bool {
    let core = &*CORE;
    let signed = input.starts_with(b"{").then(|| {
        let members = [
            HeaderMember::Typ("client-authentication+jwt"),
            HeaderMember::Kid(KID),
        ];
        let signed = jws::sign(&members, input, &core.assertion_key, &SystemRandom::new());
        signed.unwrap().into_bytes()
    });
    let credentials = Credentials {
        assertions: vec![signed.as_deref().unwrap_or(input)],
        ..Credentials::default()
    };
    match core.enclave.introspect(&credentials, "x", &BEGIN) {
        Ok(told) => {
            assert_eq!(told, None);
            true
        }
        // One that holds and was seen before is one that holds.
        Err(IntrospectError::Client(AuthenticationError::Assertion(
            AssertionError::Replayed | AssertionError::Full,
        ))) => true,
        Err(_) => false,
    }
}

fn assertion_seeds() -> Vec<Vec<u8>> {
    let claims = json!({
        "iss": CLIENT, "sub": CLIENT, "aud": ISSUER,
        "exp": BEGIN.lo_s + 60, "iat": BEGIN.lo_s, "jti": "seed-1",
    });
    let more = json!({
        "iss": CLIENT, "sub": CLIENT, "aud": ISSUER, "nbf": BEGIN.lo_s,
        "exp": BEGIN.lo_s + 300, "iat": BEGIN.lo_s + 10, "jti": "seed-2", "x": [1, {"y": null}],
    });
    [claims, more]
        .map(|claims| claims.to_string().into_bytes())
        .to_vec()
}

fn spiffe_id(input: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(input) else {
        return false;
    };
    let Ok(id) = SpiffeId::parse(text) else {
        return false;
    };
    assert_eq!(id.as_str(), text);
    let (domain, path) = text["spiffe://".len()..].split_once('/').expect("a path");
    assert_eq!(id.trust_domain(), domain);
    assert!(
        path.split('/')
            .all(|segment| !["", "..", "."].contains(&segment))
    );
    true
}

fn spiffe_id_seeds() -> Vec<Vec<u8>> {
    [
        "spiffe://acme.example/sync",
        "spiffe://a-b_c/ns/Prod/sa/x.y",
    ]
    .map(|id| id.as_bytes().to_vec())
    .to_vec()
}
