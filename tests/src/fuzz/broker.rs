//! What the shell reads: its configuration, the store's file, the messages of callers.

use std::path::Path;
use std::str;
use std::sync::LazyLock;

use ::broker::grpc::convert;
use ::broker::host_config::HostConfig;
use ::broker::store::{
    Behind, EmbeddedStore, ExportHeader, FILE_NAME, FilePolicy, Folder as _, Source, import,
};
use ::broker::traces::parent::Parent;
use ::enclave::store::{Log, Store as _};
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
pub(super) const EXPORT: Target = Target {
    name: "broker_export",
    run: export,
    seeds: export_seeds,
};
pub(super) const SNAPSHOT: Target = Target {
    name: "broker_snapshot",
    run: snapshot,
    seeds: snapshot_seeds,
};
pub(super) const STORE: Target = Target {
    name: "broker_store",
    run: store,
    seeds: store_seeds,
};

pub(super) const TRACEPARENT: Target = Target {
    name: "broker_traceparent",
    run: traceparent,
    seeds: traceparent_seeds,
};

/// What is read is in the text, in lower case, and no id is zero.
fn traceparent(input: &[u8]) -> bool {
    let Ok(Parent { trace_id, span_id }) = Parent::parse(input) else {
        return false;
    };
    assert_eq!(hex::encode(trace_id).as_bytes(), &input[3..35]);
    assert_eq!(hex::encode(span_id).as_bytes(), &input[36..52]);
    assert!(trace_id != [0; 16] && span_id != [0; 8]);
    true
}

fn traceparent_seeds() -> Vec<Vec<u8>> {
    let rest = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    vec![
        format!("00-{rest}").into_bytes(),
        format!("cc-{rest}-what-came-later").into_bytes(),
    ]
}

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
        FilePolicy::default(),
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

/// Bodies of frames, each behind its length (u16). Sealed, they are what no disk can make: a body that other code wrote.
fn snapshot(input: &[u8]) -> bool {
    let (rng, cipher, mut rest) = (SystemRandom::new(), cipher(), input);
    let (header, mut chain) = cipher.begin_file(&rng).unwrap();
    let mut file = header.to_vec();
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(behind.len());
        let (body, behind) = behind.split_at(length);
        chain = cipher.seal(&chain, &rng, body, &mut file).unwrap();
        rest = behind;
    }
    let disk = Disk::with(FILE_NAME, &file);
    let policy = FilePolicy::default();
    let opened = EmbeddedStore::open_in(disk.clone(), cipher, rng, policy, Box::new(|_| {}));
    let Ok((store, report)) = opened else {
        return false;
    };
    assert_eq!(report.torn, None, "each frame is whole");
    let leaves = |store: &EmbeddedStore<Disk>| {
        [Log::Control, Log::Issuance].map(|log| {
            let leaves = store.leaves(log, 0, usize::MAX).unwrap();
            assert_eq!(leaves.len() as u64, store.leaf_count(log).unwrap());
            leaves
        })
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let records = |store: &EmbeddedStore<Disk>| {
        let scanned = store.scan(None, usize::MAX);
        runtime.as_ref().unwrap().block_on(scanned).unwrap()
    };
    let before = (records(&store), leaves(&store));
    runtime.as_ref().unwrap().block_on(store.compact()).unwrap();
    assert_eq!((records(&store), leaves(&store)), before, "compacted");
    drop(store);
    let again = EmbeddedStore::open_in(
        disk,
        super::enclave::cipher(),
        SystemRandom::new(),
        policy,
        Box::new(|_| {}),
    );
    let (store, _report) = again.unwrap();
    assert_eq!((records(&store), leaves(&store)), before, "opened again");
    true
}

fn snapshot_seeds() -> Vec<Vec<u8>> {
    let sized =
        |body: Vec<u8>| [&u16::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat();
    let begin = [&[5][..], &[0; 7], &[1], &[2; 64]].concat();
    let set = |name: u8, generation: u8| {
        let number = [&[0; 7][..], &[generation]].concat();
        [&[6][..], &[name; 32], &number, &[0, 0, 0, 4], b"seal"].concat()
    };
    let unset = |name: u8| [&[7][..], &[name; 32]].concat();
    let end = |records: u8, control: u8| {
        let mut end = vec![8];
        for count in [records, control, 0] {
            end.extend([0; 7]);
            end.push(count);
        }
        [end, vec![3; 32]].concat()
    };
    let put = [&[1][..], &[9; 32], &[0; 8], &[0, 0, 0, 3], b"put"].concat();
    let delete = [&[2][..], &[8; 32], &[0; 7], &[4]].concat();
    let whole = [
        begin.clone(),
        set(8, 4),
        set(7, 1),
        leaf(b"leaf"),
        end(2, 1),
    ]
    .concat();
    let in_parts = [
        sized([begin, set(8, 4), set(8, 5)].concat()),
        sized([unset(8), set(8, 4), leaf(b"leaf")].concat()),
        sized(end(1, 1)),
        sized([put.clone(), leaf(b"tail")].concat()),
    ];
    vec![
        sized(put),
        [sized(whole), sized(delete)].concat(),
        in_parts.concat(),
    ]
}

/// A store with three leaves, exported: the file, and where its store begins.
static EXPORTED: LazyLock<(Vec<u8>, u64)> = LazyLock::new(|| {
    let store = Disk::with(FILE_NAME, &store_seeds()[0]);
    let file = store.open(FILE_NAME).unwrap();
    let source = Source::open(file, Path::new(FILE_NAME), cipher()).unwrap();
    let to = Disk::with("export", &[]);
    let part = to.open("export").unwrap();
    let header = ExportHeader {
        envelope: b"an envelope".to_vec(),
    };
    let path = Path::new("export");
    source.export(&header, part, path, &mut |_| true).unwrap();
    let store_begins = header.to_bytes().len() as u64;
    (to.contents("export").unwrap(), store_begins)
});

/// An exported file: all of it is imported as it was exported, or it is refused.
fn export(input: &[u8]) -> bool {
    let path = Path::new("export");
    let file = Disk::with("export", input).open("export").unwrap();
    let Ok((header, store_begins)) = ExportHeader::read(&file, path) else {
        return false;
    };
    assert_eq!(
        header.to_bytes(),
        input[..usize::try_from(store_begins).unwrap()]
    );
    let disk = Disk::with(FILE_NAME, &[]);
    let to = disk.open(FILE_NAME).unwrap();
    let from = Behind::new(file, store_begins);
    let to_path = Path::new(FILE_NAME);
    let done = import(
        &header,
        (&from, path),
        (&to, to_path),
        &cipher(),
        &mut |_| true,
    );
    if done.is_err() {
        return false;
    }
    assert_eq!(input, EXPORTED.0, "another export than was written");
    let behind = usize::try_from(EXPORTED.1).unwrap();
    assert_eq!(disk.contents(FILE_NAME).unwrap(), EXPORTED.0[behind..]);
    true
}

fn export_seeds() -> Vec<Vec<u8>> {
    vec![EXPORTED.0.clone()]
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
        ..v1::Target::default()
    };
    let url = || "https://api.example/v1".to_owned();
    let tenant = v1::Tenant {
        id: id(),
        display_name: "A".to_owned(),
        limits: None,
    };
    let vendor = v1::Vendor {
        id: id(),
        display_name: "A".to_owned(),
    };
    let client = v1::Client {
        id: id(),
        vendor: id(),
        kind: v1::ClientKind::Agent.into(),
        tls_spki_sha256: vec![1; 32],
        jwks: Vec::new(),
        spiffe_id: "spiffe://workloads.test/sync".to_owned(),
        limits: Some(v1::Limits {
            calls: Some(v1::Limit {
                amount: 10,
                period_s: 1,
                burst: 20,
            }),
            ..v1::Limits::default()
        }),
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
                upstream_resource: url(),
                ..target("api", v1::target::Api::GatewayBaseUrl(url()))
            },
            target("own", v1::target::Api::Resource(url())),
        ],
        profile: Some(v1::ProviderProfile {
            quiet_ms: Some(1),
            dead_codes: vec!["bad_refresh_token".to_owned()],
            auth_methods: vec![v1::ClientAuthMethod::PrivateKeyJwt.into()],
            assertion_audience: url(),
            dpop: true,
            superseded_still_work: true,
            ..v1::ProviderProfile::default()
        }),
        issuer: url(),
        consent: Some(v1::Consent {
            authorization_endpoint: url(),
            offline_scopes: vec!["offline_access".to_owned()],
            iss: true,
            ..v1::Consent::default()
        }),
        made_from: None,
    };
    let app = v1::App {
        id: id(),
        vendor: id(),
        provider: id(),
        oauth_client_id: "client".to_owned(),
        auth_method: v1::ClientAuthMethod::TlsClientAuth.into(),
        ..v1::App::default()
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
        terms: Some(v1::GrantTerms {
            target_limits: vec![v1::TargetLimits {
                target: "api".to_owned(),
                limits: Some(v1::Limits::default()),
            }],
            owner: "crm-team".to_owned(),
            review_at_s: 1,
            approval_operations: vec!["api/a-1".to_owned()],
            ..v1::GrantTerms::default()
        }),
        allow_upstream_bound: true,
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
        actors: vec!["assistant".to_owned(), "jane".to_owned()],
        mode: v1::TokenMode::UpstreamBound.into(),
        upstream_proof: "a.b.c".to_owned(),
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
