//! What the shell reads: its configuration, the store's file, the messages of callers.

use std::path::Path;
use std::str;

use ::broker::grpc::convert;
use ::broker::host_config::HostConfig;
use ::broker::store::{CompactionPolicy, EmbeddedStore, FILE_NAME};
use ::enclave::store::Log;
use prost::Message;
use proto::v1;
use ring::rand::SystemRandom;

use super::Target;
use super::enclave::cipher;
use crate::disk::Disk;

pub(super) const HOST_CONFIG: Target = Target {
    name: "broker_host_config",
    run: host_config,
    seeds: host_config_seeds,
};
pub(super) const MESSAGES: Target = Target {
    name: "broker_messages",
    run: messages,
    seeds: message_seeds,
};
pub(super) const STORE: Target = Target {
    name: "broker_store",
    run: store,
    seeds: store_seeds,
};

fn host_config(input: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(input) else {
        return false;
    };
    match HostConfig::parse(text, Path::new("/etc/tokenkeep")) {
        Ok(config) => {
            assert!(config.state_dir.is_absolute());
            true
        }
        Err(error) => {
            assert!(!error.faults.is_empty(), "refused without a fault");
            false
        }
    }
}

fn host_config_seeds() -> Vec<Vec<u8>> {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../broker/samples/host.toml");
    vec![std::fs::read(sample).unwrap()]
}

/// A leaf of the control log as the store encodes it.
fn leaf(bytes: &[u8]) -> Vec<u8> {
    let mut entry = vec![3];
    entry.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
    entry.extend(bytes);
    entry
}

const LEAVES: [&[u8]; 3] = [b"first leaf", b"second leaf", b"third leaf"];

/// A store's file: it opens to a beginning of what was written, or not at all.
fn store(input: &[u8]) -> bool {
    let opened = EmbeddedStore::open_in(
        Disk::with(FILE_NAME, input),
        cipher(),
        SystemRandom::new(),
        CompactionPolicy::default(),
        Box::new(|_| {}),
    );
    let Ok((store, report)) = opened else {
        return false;
    };
    let count = store.leaf_count(Log::Control).unwrap();
    let leaves = store.leaves(Log::Control, 0, 100).unwrap();
    assert_eq!(u64::try_from(leaves.len()), Ok(count));
    let expected: Vec<Vec<u8>> = LEAVES
        .iter()
        .take(leaves.len())
        .map(|leaf| leaf.to_vec())
        .collect();
    assert_eq!(leaves, expected, "not a beginning of what was written");
    assert_eq!(report.frames, leaves.len());
    let complete = leaves.len() == LEAVES.len();
    assert!(complete || report.torn.is_some() || report.file_bytes == input.len() as u64);
    store.close();
    complete
}

fn store_seeds() -> Vec<Vec<u8>> {
    let (rng, cipher) = (SystemRandom::new(), cipher());
    let (header, mut chain) = cipher.begin_file(&rng).unwrap();
    let mut file = header.to_vec();
    for bytes in LEAVES {
        chain = cipher.seal(&chain, &rng, &leaf(bytes), &mut file).unwrap();
    }
    vec![file]
}

/// A kind, then a message as it comes in.
fn messages(input: &[u8]) -> bool {
    let Some((kind, body)) = input.split_first() else {
        return false;
    };
    match kind % 8 {
        0 => v1::Tenant::decode(body).is_ok_and(|message| convert::tenant(message).is_ok()),
        1 => v1::Vendor::decode(body).is_ok_and(|message| convert::vendor(message).is_ok()),
        2 => v1::Client::decode(body).is_ok_and(|message| convert::client(message).is_ok()),
        3 => v1::Provider::decode(body).is_ok_and(|message| {
            convert::provider(message).is_ok_and(|provider| {
                let again = convert::provider(convert::provider_message(provider));
                assert!(
                    again.is_ok(),
                    "a provider that was accepted is refused when told again"
                );
                true
            })
        }),
        4 => v1::App::decode(body).is_ok_and(|message| convert::app(message).is_ok()),
        5 => v1::Grant::decode(body).is_ok_and(|message| convert::grant(message).is_ok()),
        6 => v1::FreezeSubject::decode(body)
            .is_ok_and(|message| convert::subject(Some(message)).is_ok()),
        _ => v1::IssueTokenRequest::decode(body).is_ok(),
    }
}

fn message_seeds() -> Vec<Vec<u8>> {
    let message = |kind: u8, body: Vec<u8>| [vec![kind], body].concat();
    let id = || "a-1".to_owned();
    let target = |name: &str, api| v1::Target {
        name: name.to_owned(),
        api: Some(api),
        operations: Vec::new(),
        tenant_hosts: false,
    };
    let url = || "https://api.example/v1".to_owned();
    let tenant = v1::Tenant {
        id: id(),
        display_name: "A".to_owned(),
    };
    let vendor = v1::Vendor {
        id: id(),
        display_name: "A".to_owned(),
    };
    let client = v1::Client {
        id: id(),
        vendor: id(),
        tls_spki_sha256: vec![1; 32],
        jwks: Vec::new(),
        spiffe_id: "spiffe://workloads.test/sync".to_owned(),
    };
    let provider = v1::Provider {
        id: id(),
        token_endpoint: "https://idp.example/token".to_owned(),
        revocation_endpoint: url(),
        rotation: v1::RotationProfile::Strict.into(),
        targets: vec![
            v1::Target {
                operations: vec![v1::Operation {
                    id: id(),
                    method: "POST".to_owned(),
                    path: "/v1/contacts/{id:integer}/{rest:path}".to_owned(),
                    query: vec!["page".to_owned()],
                    content_types: vec!["application/json".to_owned()],
                    max_body_bytes: Some(1),
                }],
                tenant_hosts: true,
                ..target("api", v1::target::Api::GatewayBaseUrl(url()))
            },
            target("own", v1::target::Api::Resource(url())),
        ],
        profile: Some(v1::ProviderProfile {
            quiet_ms: Some(1),
            dead_codes: vec!["bad_refresh_token".to_owned()],
            ..v1::ProviderProfile::default()
        }),
    };
    let app = v1::App {
        id: id(),
        vendor: id(),
        provider: id(),
        oauth_client_id: "client".to_owned(),
        auth_method: v1::ClientAuthMethod::ClientSecretBasic.into(),
    };
    let grant = v1::Grant {
        id: id(),
        tenant: id(),
        app: id(),
        clients: vec![id()],
        targets: vec!["api".to_owned()],
        scopes: vec!["contacts.read".to_owned()],
        operations: vec!["api/a-1".to_owned()],
        hosts: vec![v1::TargetHost {
            target: "api".to_owned(),
            host: "acme.api.example".to_owned(),
        }],
        ..Default::default()
    };
    let subject = v1::FreezeSubject {
        subject: Some(v1::freeze_subject::Subject::Vendor(id())),
    };
    let issue = v1::IssueTokenRequest {
        grant: id(),
        resource: url(),
        scopes: vec!["contacts.read".to_owned()],
        binding: v1::TokenBinding::Certificate.into(),
    };
    vec![
        message(0, tenant.encode_to_vec()),
        message(1, vendor.encode_to_vec()),
        message(2, client.encode_to_vec()),
        message(3, provider.encode_to_vec()),
        message(4, app.encode_to_vec()),
        message(5, grant.encode_to_vec()),
        message(6, subject.encode_to_vec()),
        message(7, issue.encode_to_vec()),
    ]
}
