//! A client that was written from the documentation: stock gRPC, stock JOSE, nothing of ours.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::fs;

use dev::stack::certificate_pem;
use dev::{lab, names};
use serde_json::json;
use testkit::python::PythonEnv;
use tests::stack::{Blueprint, Stack};

/// The documentation promises it.
const MAX_LINES: usize = 80;

const PROTO_DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
const SCRIPT: &str = include_str!("../../python/issue_token.py");

#[tokio::test]
async fn a_client_written_from_the_documentation_gets_a_token_and_uses_it() {
    assert!(SCRIPT.lines().count() < MAX_LINES);
    let python = PythonEnv::from_env().unwrap();
    // BoringSSL, which gRPC's C core brings, cannot check name constraints of addresses.
    let blueprint = Blueprint {
        host: "localhost",
        ..Blueprint::default()
    };
    let stack = Stack::with_grant(blueprint).await;
    let origin = stack.url("grpc_url");
    let files = stack.files();
    // What `tokenkeep trust` prints after it has verified the enclave.
    let ca = certificate_pem(&stack.client().await.bundle().enclave_ca_der);
    let ca_file = files.path(lab::CA);
    fs::write(&ca_file, ca).unwrap();
    let given = |cert: &str, key: &str| {
        json!({
            "origin": origin,
            "address": origin.strip_prefix("https://").unwrap(),
            "ca": ca_file,
            "cert": files.path(cert),
            "key": files.path(key),
            "proto_dir": PROTO_DIR,
            "grant": names::GRANT,
            "resource": stack.resource(),
            "path": "/contacts",
        })
    };
    let right = given(lab::CLIENT_CERT, lab::CLIENT_KEY);
    let told = python.issue_token(&right).await.unwrap();
    assert_eq!(told["rounds"], 2, "{told}");
    assert_eq!(told["token_type"], "DPoP");
    assert_eq!(told["expires_in_s"], 300);
    assert_eq!(told["status"], 200, "{told}");
    assert!(told["body"].as_str().unwrap().contains("Ada"), "{told}");

    // Who is not registered gets no token: the program ends without a word.
    let stranger = given(lab::ADMIN_CERT, lab::ADMIN_KEY);
    assert!(python.issue_token(&stranger).await.is_err());
}
