//! Tests of the channel: what is accepted, refused and proved again.

use super::*;
use crate::test_enclave::{Change, EvidenceServer, TestEnclave};
use crate::test_server::{TestCa, TestServer};
use attestation::{DepositContext, DepositEnvelope};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use proto::v1::attestation_service_server::AttestationServiceServer;

/// A running enclave, and the configuration under which it is accepted.
async fn enclave(change: Change) -> (Arc<Mutex<TestEnclave>>, AttestedConfig) {
    let socket = TestServer::bind().await;
    let enclave = TestEnclave::new(socket.origin());
    let config = AttestedConfig::new(socket.origin(), enclave.verification());
    let ca = enclave.ca.clone();
    let enclave = Arc::new(Mutex::new(enclave));
    let server = EvidenceServer {
        enclave: enclave.clone(),
        change,
    };
    let service = TowerToHyperService::new(AttestationServiceServer::new(server));
    socket.serve(&ca, service);
    (enclave, config)
}

#[tokio::test]
async fn an_accepted_enclave_has_a_channel_and_takes_deposits() {
    let (enclave, config) = enclave(|_| {}).await;
    let channel = AttestedChannel::connect(&config).await.unwrap();
    assert_eq!(channel.bundle(), &enclave.lock().bundle);
    assert_eq!(channel.inspection().verdict(), Verdict::Accept);

    let recipient = channel.deposit_recipient().await.unwrap();
    let sealed = recipient.seal_refresh_token("t", "a", "g", b"rt").unwrap();
    let (key, ciphertext) = sealed.split_at(32);
    let envelope = DepositEnvelope::from_parts(key, ciphertext.to_vec()).unwrap();
    let context = DepositContext {
        tenant: "t",
        app: "a",
        grant: "g",
        kind: "refresh-token",
        bundle_digest: &channel.bundle().digest().unwrap(),
    };
    let opened = envelope
        .open(&enclave.lock().deposit_key, &context)
        .unwrap();
    assert_eq!(opened.expose_secret(), b"rt");
}

#[tokio::test]
async fn keys_that_changed_after_the_channel_was_made_get_no_deposit() {
    let (enclave, config) = enclave(|_| {}).await;
    let channel = AttestedChannel::connect(&config).await.unwrap();
    enclave.lock().bundle.boot_identity = [1; 32];
    let error = channel.deposit_recipient().await.unwrap_err();
    assert!(matches!(error, ConnectError::KeysChanged), "{error:?}");
}

#[tokio::test]
async fn an_enclave_that_is_not_accepted_has_no_channel() {
    let (_enclave, mut config) = enclave(|_| {}).await;
    config.verification.policy = None;
    match AttestedChannel::connect(&config).await {
        Err(ConnectError::NotAccepted(inspection)) => {
            assert_eq!(inspection.verdict(), Verdict::Authentic);
        }
        other => panic!("{other:?}"),
    }
    config.verification.roots = attestation::Roots::amd().unwrap();
    match AttestedChannel::connect(&config).await {
        Err(error @ ConnectError::NotAccepted(_)) => {
            let text = error.to_string();
            assert!(
                text.contains("reject, failed: ") && text.contains("pinned_root"),
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_relay_with_its_own_certificate_is_found_out() {
    // The evidence is honest and fresh, passed on by someone who ends TLS himself.
    let socket = TestServer::bind().await;
    let enclave = TestEnclave::new(socket.origin());
    let config = AttestedConfig::new(socket.origin(), enclave.verification());
    let server = EvidenceServer {
        enclave: Arc::new(Mutex::new(enclave)),
        change: |_| {},
    };
    let service = TowerToHyperService::new(AttestationServiceServer::new(server));
    socket.serve(&TestCa::new(), service);
    match AttestedChannel::connect(&config).await {
        Err(ConnectError::NotAccepted(inspection)) => {
            assert_eq!(inspection.appraisal().verdict(), Verdict::Accept);
            let failed: Vec<_> = inspection
                .bindings()
                .iter()
                .filter(|binding| binding.outcome == attestation::Outcome::Fail)
                .map(|binding| binding.name)
                .collect();
            assert_eq!(failed, ["server_certificate"]);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_reply_that_is_no_evidence_is_an_error_of_its_own() {
    let (_enclave, config) = enclave(|reply| reply.evidence = None).await;
    match inspect(&config).await {
        Err(ConnectError::Reply(error)) => assert_eq!(error, ReplyError::NoEvidence),
        other => panic!("{other:?}"),
    }
}
