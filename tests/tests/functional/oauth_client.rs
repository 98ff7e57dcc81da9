//! An ordinary OAuth client, which shares nothing with us, at every HTTP door.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::fs;

use dev::stack::certificate_pem;
use dev::{lab, names};
use jose::signing_key::to_pkcs8_pem;
use jose::{Alg, SigningKey};
use proto::v1;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};
use testkit::node::NodeEnv;
use tests::stack::{Blueprint, Stack};
use tokenkeep::rpc_error::answer;

/// PKCS#8 of version 1 before an Ed25519 seed [RFC 8410 §7].
const ED25519_PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A new key as other tools write it: ring's own version 2 for Ed25519 is read by none of them.
fn new_key(alg: Alg) -> Vec<u8> {
    let rng = SystemRandom::new();
    match alg {
        Alg::Es256 => SigningKey::generate(alg, &rng).unwrap().to_vec(),
        Alg::EdDsa => {
            let mut seed = [0; 32];
            rng.fill(&mut seed).unwrap();
            [&ED25519_PKCS8[..], &seed].concat()
        }
    }
}

/// Registers a key for `private_key_jwt` beside what the client has; its PKCS#8 in PEM.
async fn add_key(stack: &Stack, kid: &str, alg: Alg) -> String {
    let rng = SystemRandom::new();
    let pkcs8 = new_key(alg);
    let key = SigningKey::from_pkcs8(&pkcs8, &rng).unwrap();
    let admin = stack.admin().await;
    let id = names::CLIENT.to_owned();
    let found = answer(admin.registry().get_client(v1::GetClientRequest { id })).await;
    let mut client = found.unwrap().into_inner().client.unwrap();
    client.jwks.push(key.public_key().to_json_with_kid(kid));
    let update = v1::UpdateClientRequest {
        client: Some(client),
    };
    answer(admin.registry().update_client(update))
        .await
        .unwrap();
    to_pkcs8_pem(&pkcs8).to_string()
}

#[tokio::test]
async fn an_ordinary_oauth_client_passes_every_door() {
    let node = NodeEnv::from_env().unwrap();
    let stack = Stack::with_grant(Blueprint::default()).await;
    let files = stack.files();
    let ca = files.path(lab::CA);
    let bundle = stack.client().await.bundle().clone();
    let der = &bundle.enclave_ca_der;
    fs::write(&ca, certificate_pem(der)).unwrap();
    let es256 = add_key(&stack, "first", Alg::Es256).await;
    let eddsa = add_key(&stack, "second", Alg::EdDsa).await;
    let file = |name: &str| fs::read_to_string(files.path(name)).unwrap();
    let (cert, key) = (file(lab::CLIENT_CERT), file(lab::CLIENT_KEY));

    let by_assertion = |kid: &str, alg: &str, pem: &str, dpop_alg: &str| json!({ "kid": kid, "alg": alg, "private_key": pem, "dpop_alg": dpop_alg });
    let by_certificate = json!({ "cert": cert, "key": key });
    let mut by_both = by_certificate.clone();
    by_both["dpop_alg"] = json!("ES256");
    // What it authenticates by, and how many rounds it takes to a token of which type.
    let rows = [
        (by_assertion("first", "ES256", &es256, "ES256"), 2, "dpop"),
        (
            by_assertion("second", "EdDSA", &eddsa, "Ed25519"),
            2,
            "dpop",
        ),
        (by_both, 2, "dpop"),
        (by_certificate, 1, "bearer"),
    ];
    for (mut given, rounds, token_type) in rows {
        given["issuer"] = json!(stack.url("issuer"));
        given["client_id"] = json!(names::CLIENT);
        given["resource"] = json!(stack.resource());
        given["path"] = json!("/contacts");
        let told = node.oauth_client(&ca, &given).await.unwrap();
        let by = (&given["kid"], &given["dpop_alg"]);
        assert_eq!(told["rounds"], rounds, "{by:?}");
        assert_eq!(told["token_type"], token_type, "{by:?}");
        assert_eq!(told["expires_in"], 300, "{by:?}");
        assert_eq!(told["header"]["alg"], "ES256");
        let claims = &told["claims"];
        assert_eq!(claims["client_id"], names::CLIENT);
        let bound_to: Vec<&String> = claims["cnf"].as_object().unwrap().keys().collect();
        let expected = if token_type == "dpop" {
            "jkt"
        } else {
            "x5t#S256"
        };
        assert_eq!(bound_to, [expected]);
        let introspection = &told["introspection"];
        assert_eq!(introspection["active"], true, "{by:?}");
        assert_eq!(introspection["cnf"], claims["cnf"]);
        assert_eq!(told["api"]["status"], 200, "{by:?} {}", told["api"]);
        assert!(told["api"]["body"].as_str().unwrap().contains("Ada"));
        let revoked = &told["revoked"];
        assert_eq!(revoked["introspection"], json!({ "active": false }));
        assert_eq!(revoked["api"]["status"], 401, "{by:?} {revoked}");
    }

    // A key that is not registered: the library is told so in the RFC's word, and ends.
    let stranger = add_key(&stack, "third", Alg::Es256).await;
    let mut given = by_assertion("first", "ES256", &stranger, "ES256");
    for (name, value) in [
        ("issuer", stack.url("issuer")),
        ("client_id", names::CLIENT),
        ("resource", &stack.resource()),
        ("path", "/contacts"),
    ] {
        given[name] = Value::from(value);
    }
    assert!(node.oauth_client(&ca, &given).await.is_err());
}
