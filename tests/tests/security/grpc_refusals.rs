//! What the token service refuses over real gRPC and TLS: one valid request, one change a row.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::sync::Arc;

use bytes::Bytes;
use dev::names;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use proto::v1;
use proto::v1::freeze_subject::Subject;
use secrecy::ExposeSecret as _;
use testkit::pki::client_certificate;
use tests::caller::{Caller, nonce_of, proof, refused};
use tests::stack::Stack;
use tokenkeep::rpc_error::answer;
use tokenkeep::{AttestedChannel, ClientIdentity, Clock as _, DpopKey, Signer as _, SystemClock};
use tonic::{Code, Status};

/// The largest message that the service reads, bytes.
const MAX_MESSAGE_BYTES: usize = 256 * 1024;

const ISSUE_TOKEN: &str = "/tokenkeep.v1.TokenService/IssueToken";

/// A channel like the client's with another certificate, or none.
async fn channel_as(stack: &Stack, identity: Option<ClientIdentity>) -> AttestedChannel {
    let mut config = stack.files().client_config(stack.url("grpc_url")).unwrap();
    config.client_identity = identity;
    Box::pin(AttestedChannel::connect(&config)).await.unwrap()
}

fn stranger() -> ClientIdentity {
    let made = client_certificate("stranger").unwrap();
    let key = made.key_pem.expose_secret().as_bytes();
    ClientIdentity::from_pem(made.pem.as_bytes(), key).unwrap()
}

#[tokio::test]
async fn each_flaw_of_a_proof_is_refused_by_its_reason() {
    let stack = Stack::with_grant(Default::default()).await;
    let caller = Caller::of(&stack).await;
    let nonce = caller.nonce().await;
    let htu = caller.htu().to_owned();
    let right = caller.issue_proof(&nonce);
    caller.issue(caller.request(), &[&right]).await.unwrap();

    let (head, rest) = right.split_once('.').unwrap();
    let (payload, signature) = rest.split_once('.').unwrap();
    let other_signature = caller.issue_proof(&nonce);
    let other_signature = other_signature.rsplit_once('.').unwrap().1;
    let gateway_nonce = caller.gateway_nonce().await;
    let mut flipped = nonce.clone();
    flipped.replace_range(30..31, if &nonce[30..31] == "A" { "B" } else { "A" });
    let old = jose::dpop::ProofParams {
        htm: "POST",
        htu: &htu,
        iat_s: SystemClock.unix_time_s() - 48 * 3_600,
        jti: "a-jti-of-long-ago",
        nonce: Some(&nonce),
        access_token: None,
    };
    let old = caller.key.proof(&old).unwrap();
    let fresh = || caller.issue_proof(&nonce);
    let use_nonce = "USE_DPOP_NONCE";
    let invalid = "INVALID_DPOP_PROOF";
    let rows: Vec<(&str, Vec<String>, &str)> = vec![
        ("no proof", vec![], invalid),
        ("two proofs", vec![fresh(), fresh()], invalid),
        ("the same proof again", vec![right.clone()], invalid),
        ("no nonce", vec![caller.issue_proof("")], use_nonce),
        (
            "a nonce that is none",
            vec![caller.issue_proof("nonce")],
            use_nonce,
        ),
        (
            "a nonce with a changed byte",
            vec![caller.issue_proof(&flipped)],
            use_nonce,
        ),
        (
            "a nonce of the gateway",
            vec![caller.issue_proof(&gateway_nonce)],
            use_nonce,
        ),
        (
            "another method",
            vec![caller.proof("GET", &htu, &nonce, None)],
            invalid,
        ),
        (
            "another server",
            vec![caller.proof(
                "POST",
                "https://localhost/tokenkeep.v1.TokenService/IssueToken",
                &nonce,
                None,
            )],
            invalid,
        ),
        (
            "another RPC",
            vec![caller.proof(
                "POST",
                &htu.replace("IssueToken", "RevokeToken"),
                &nonce,
                None,
            )],
            invalid,
        ),
        ("made two days ago", vec![old], invalid),
        (
            "another proof's signature",
            vec![format!("{head}.{payload}.{other_signature}")],
            invalid,
        ),
        ("no signature", vec![format!("{head}.{payload}.")], invalid),
        ("no JWS", vec!["proof".to_owned()], invalid),
        (
            "oversized",
            vec![format!("{head}.{}.{signature}", "A".repeat(12_000))],
            invalid,
        ),
    ];
    for (name, proofs, reason) in rows {
        let proofs: Vec<&str> = proofs.iter().map(String::as_str).collect();
        let status = caller.issue(caller.request(), &proofs).await.unwrap_err();
        assert!(!nonce_of(&status).is_empty(), "{name}");
        assert_eq!(
            refused(status),
            (Code::Unauthenticated, reason.to_owned()),
            "{name}"
        );
    }
    caller.issue(caller.request(), &[&fresh()]).await.unwrap();
}

#[tokio::test]
async fn each_caller_that_is_not_the_client_is_refused() {
    let stack = Stack::with_grant(Default::default()).await;
    let admin = stack.admin().await;
    for (name, channel) in [
        ("no certificate", channel_as(&stack, None).await),
        (
            "an unknown certificate",
            channel_as(&stack, Some(stranger())).await,
        ),
        ("an administrator's certificate", admin.clone()),
    ] {
        let caller = Caller::over(&stack, channel, stack.dpop_key());
        let proof = caller.issue_proof(&caller.nonce().await);
        let status = caller.issue(caller.request(), &[&proof]).await.unwrap_err();
        assert_eq!(
            refused(status),
            (Code::Unauthenticated, "INVALID_CLIENT".to_owned()),
            "{name}"
        );
    }
    let caller = Caller::of(&stack).await;
    let proof = caller.issue_proof(&caller.nonce().await);
    caller.issue(caller.request(), &[&proof]).await.unwrap();
}

/// Another tenant's grant, on the same app, of another client: nothing of it is the first client's business.
async fn foreign_grant(stack: &Stack, id: &str) {
    let admin = stack.admin().await;
    let other = client_certificate("other").unwrap();
    let client = v1::CreateClientRequest {
        client: Some(v1::Client {
            id: "other-worker".to_owned(),
            vendor: names::VENDOR.to_owned(),
            tls_spki_sha256: other.spki_sha256.to_vec(),
            ..v1::Client::default()
        }),
    };
    answer(admin.registry().create_client(client))
        .await
        .unwrap();
    let recipient = admin.deposit_recipient().await.unwrap();
    let token = stack.consent().refresh_token;
    let token = token.expose_secret().as_bytes();
    let deposit = v1::DepositGrantRequest {
        grant: Some(v1::Grant {
            id: id.to_owned(),
            tenant: names::TENANT.to_owned(),
            app: names::APP.to_owned(),
            clients: vec!["other-worker".to_owned()],
            targets: vec![names::TARGET.to_owned()],
            scopes: vec![names::SCOPES[0].to_owned()],
            ..Default::default()
        }),
        sealed_refresh_token: recipient
            .seal_refresh_token(names::TENANT, names::APP, id, token)
            .unwrap(),
        leave_unrotated: true,
        only_new: false,
    };
    answer(admin.grants().deposit_grant(deposit)).await.unwrap();
}

#[tokio::test]
async fn each_request_outside_the_grant_is_refused() {
    let stack = Stack::with_grant(Default::default()).await;
    foreign_grant(&stack, "foreign").await;
    let caller = Caller::of(&stack).await;
    let right = caller.request();
    let grant = |id: &str| v1::IssueTokenRequest {
        grant: id.to_owned(),
        ..right.clone()
    };
    let resource = |url: &str| v1::IssueTokenRequest {
        resource: url.to_owned(),
        ..right.clone()
    };
    let scopes = |all: &[&str]| v1::IssueTokenRequest {
        scopes: all.iter().map(|scope| (*scope).to_owned()).collect(),
        ..right.clone()
    };
    let foreign = right.resource.replace(names::GRANT, "foreign");
    let slash = format!("{}/", right.resource);
    let upper = right.resource.replace("https", "HTTPS");
    let (not_found, invalid) = (Code::NotFound, Code::InvalidArgument);
    let rows = [
        (
            "an absent grant",
            grant("nobody"),
            not_found,
            "GRANT_NOT_FOUND",
        ),
        (
            "another client's grant",
            grant("foreign"),
            not_found,
            "GRANT_NOT_FOUND",
        ),
        (
            "a grant that is no id",
            grant("../acme"),
            invalid,
            "INVALID_REQUEST",
        ),
        ("no grant", grant(""), invalid, "INVALID_REQUEST"),
        (
            "an unknown resource",
            resource("https://api.example"),
            invalid,
            "INVALID_TARGET",
        ),
        (
            "another grant's resource",
            resource(&foreign),
            invalid,
            "INVALID_TARGET",
        ),
        (
            "a resource with a slash more",
            resource(&slash),
            invalid,
            "INVALID_TARGET",
        ),
        (
            "a resource in another spelling",
            resource(&upper),
            invalid,
            "INVALID_TARGET",
        ),
        ("no resource", resource(""), invalid, "INVALID_TARGET"),
        (
            "a scope not granted",
            scopes(&["contacts.read", "admin"]),
            invalid,
            "INVALID_SCOPE",
        ),
        (
            "a scope that is none",
            scopes(&["contacts.read\n"]),
            invalid,
            "INVALID_SCOPE",
        ),
        (
            "two scopes in one",
            scopes(&["contacts.read contacts.write"]),
            invalid,
            "INVALID_SCOPE",
        ),
    ];
    let refusal = async |request: v1::IssueTokenRequest| {
        let proof = caller.issue_proof(&caller.nonce().await);
        refused(caller.issue(request, &[&proof]).await.unwrap_err())
    };
    for (name, request, code, reason) in rows {
        assert_eq!(refusal(request).await, (code, reason.to_owned()), "{name}");
    }

    let subjects = [
        Subject::Client(names::CLIENT.to_owned()),
        Subject::Vendor(names::VENDOR.to_owned()),
        Subject::App(names::APP.to_owned()),
        Subject::Provider(names::PROVIDER.to_owned()),
        Subject::Grant(names::GRANT.to_owned()),
        Subject::Tenant(names::TENANT.to_owned()),
        Subject::Jkt(caller.key.jkt().to_string()),
    ];
    for subject in subjects {
        stack.freeze(subject.clone()).await;
        let frozen = (Code::FailedPrecondition, "FROZEN".to_owned());
        assert_eq!(refusal(right.clone()).await, frozen, "{subject:?}");
        stack.thaw(subject).await;
        let proof = caller.issue_proof(&caller.nonce().await);
        caller.issue(right.clone(), &[&proof]).await.unwrap();
    }
}

/// Posts raw bytes to a gRPC path; the status that comes back, wherever it is written.
pub(crate) async fn raw(channel: &AttestedChannel, path: &str, body: Vec<u8>) -> Status {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{}{path}", channel.transport().origin()))
        .version(http::Version::HTTP_2)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(tonic::body::Body::new(Full::new(Bytes::from(body))))
        .unwrap();
    let answer = channel.transport().send(request).await.unwrap();
    if let Some(status) = Status::from_header_map(answer.headers()) {
        return status;
    }
    let whole = answer.into_body().collect().await.unwrap();
    Status::from_header_map(whole.trailers().unwrap()).unwrap()
}

/// A message in gRPC's frame.
pub(crate) fn framed(compressed: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[compressed][..], &length, message].concat()
}

#[tokio::test]
async fn messages_that_cannot_be_read_are_refused_with_our_reasons() {
    let stack = Stack::with_grant(Default::default()).await;
    let channel = stack.client().await;
    let admin = stack.admin().await;
    // Field 1, a string of the given length.
    let text = |length: usize| {
        let mut message = vec![0x0a, 0, 0, 0];
        let mut left = length;
        for (place, last) in [(1, false), (2, false), (3, true)] {
            let low = u8::try_from(left & 0x7f).unwrap();
            message[place] = if last { low } else { low | 0x80 };
            left >>= 7;
        }
        message.resize(4 + length, b'a');
        message
    };
    let large = ("MESSAGE_TOO_LARGE", Code::ResourceExhausted);
    let malformed = ("MALFORMED_MESSAGE", Code::InvalidArgument);
    type Row = (&'static str, &'static str, Vec<u8>, (&'static str, Code));
    let rows: Vec<Row> = vec![
        (
            "as large as may be, and no proof",
            ISSUE_TOKEN,
            framed(0, &text(MAX_MESSAGE_BYTES - 4)),
            ("INVALID_DPOP_PROOF", Code::Unauthenticated),
        ),
        (
            "one byte more",
            ISSUE_TOKEN,
            framed(0, &text(MAX_MESSAGE_BYTES - 3)),
            large,
        ),
        (
            "4 GiB by its own word",
            ISSUE_TOKEN,
            vec![0, 0xff, 0xff, 0xff, 0xff, 1, 2],
            large,
        ),
        (
            "a field that ends too late",
            ISSUE_TOKEN,
            framed(0, &[0x0a, 9, b'a']),
            malformed,
        ),
        (
            "a string that is not UTF-8",
            ISSUE_TOKEN,
            framed(0, &[0x0a, 1, 0xff]),
            malformed,
        ),
        (
            "a group that never ends",
            ISSUE_TOKEN,
            framed(0, &[0x0b, 0x0b, 0x0b]),
            malformed,
        ),
        (
            "field number 0",
            ISSUE_TOKEN,
            framed(0, &[0x02, 0]),
            malformed,
        ),
        (
            "a varint of 11 bytes",
            ISSUE_TOKEN,
            framed(0, &[0xff; 11]),
            malformed,
        ),
        (
            "a method that is not there",
            "/tokenkeep.v1.TokenService/ExportRefreshToken",
            framed(0, &[]),
            ("UNKNOWN_METHOD", Code::Unimplemented),
        ),
        (
            "a service that is not there",
            "/tokenkeep.v1.NoService/Get",
            framed(0, &[]),
            ("UNKNOWN_METHOD", Code::Unimplemented),
        ),
    ];
    for (name, path, body, (reason, code)) in rows {
        let status = raw(&channel, path, body).await;
        assert_eq!(refused(status), (code, reason.to_owned()), "{name}");
    }
    let deposit = "/tokenkeep.v1.GrantService/DepositGrant";
    let status = raw(&admin, deposit, framed(0, &text(MAX_MESSAGE_BYTES - 3))).await;
    let (reason, code) = large;
    assert_eq!(refused(status), (code, reason.to_owned()));
    // Nothing of this has hurt it.
    let caller = Caller::of(&stack).await;
    assert_eq!(caller.contacts().await.status, 200);
}

#[tokio::test]
async fn administration_is_refused_to_everybody_else() {
    let stack = Stack::with_grant(Default::default()).await;
    let request = || v1::GetGrantRequest {
        id: names::GRANT.to_owned(),
    };
    for (name, channel) in [
        ("no certificate", channel_as(&stack, None).await),
        (
            "an unknown certificate",
            channel_as(&stack, Some(stranger())).await,
        ),
        ("a client's certificate", stack.client().await),
    ] {
        let shown = channel.grants().get_grant(request()).await;
        let frozen = channel.grants().freeze(v1::FreezeRequest::default()).await;
        let made = channel
            .registry()
            .create_tenant(v1::CreateTenantRequest::default())
            .await;
        for status in [shown.unwrap_err(), frozen.unwrap_err(), made.unwrap_err()] {
            assert_eq!(
                refused(status),
                (Code::Unauthenticated, "INVALID_CLIENT".to_owned()),
                "{name}"
            );
        }
    }
    let admin = stack.admin().await;
    answer(admin.grants().get_grant(request())).await.unwrap();

    // The administrator has roles for one tenant and one vendor.
    let list = v1::ListGrantsRequest {
        tenant: "umbrella".to_owned(),
        ..Default::default()
    };
    let status = admin.grants().list_grants(list).await.unwrap_err();
    assert_eq!(
        refused(status),
        (Code::PermissionDenied, "FORBIDDEN".to_owned())
    );
}

#[tokio::test]
async fn a_deposit_opens_in_its_own_place_only() {
    let stack = Stack::start(Default::default()).await;
    let admin = stack.admin().await;
    let recipient = admin.deposit_recipient().await.unwrap();
    let token = stack.consent().refresh_token;
    let token = token.expose_secret().as_bytes();
    let seal = |tenant: &str, app: &str, grant: &str| {
        recipient
            .seal_refresh_token(tenant, app, grant, token)
            .unwrap()
    };
    let right = seal(names::TENANT, names::APP, names::GRANT);
    let mut flipped = right.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let deposit = async |sealed: Vec<u8>| {
        let request = v1::DepositGrantRequest {
            grant: Some(v1::Grant {
                id: names::GRANT.to_owned(),
                tenant: names::TENANT.to_owned(),
                app: names::APP.to_owned(),
                clients: vec![names::CLIENT.to_owned()],
                targets: vec![names::TARGET.to_owned()],
                scopes: names::SCOPES.map(str::to_owned).to_vec(),
                ..Default::default()
            }),
            sealed_refresh_token: sealed,
            leave_unrotated: true,
            only_new: false,
        };
        admin.grants().deposit_grant(request).await
    };
    let rows = [
        (
            "for another tenant",
            seal("umbrella", names::APP, names::GRANT),
        ),
        (
            "for another app",
            seal(names::TENANT, "other", names::GRANT),
        ),
        (
            "for another grant",
            seal(names::TENANT, names::APP, "other"),
        ),
        (
            "an app's secret",
            recipient
                .seal_client_secret(names::TENANT, names::APP, names::GRANT, token)
                .unwrap(),
        ),
        ("a flipped bit", flipped),
        ("one byte short", right[..right.len() - 1].to_vec()),
        ("not sealed at all", token.to_vec()),
        ("nothing", Vec::new()),
    ];
    for (name, sealed) in rows {
        let status = deposit(sealed).await.unwrap_err();
        assert_eq!(
            refused(status),
            (Code::InvalidArgument, "DEPOSIT_NOT_OPENED".to_owned()),
            "{name}"
        );
    }
    deposit(right).await.unwrap();
    let caller = Caller::of(&stack).await;
    assert_eq!(caller.contacts().await.status, 200);
}

#[tokio::test]
async fn a_token_is_bound_to_the_key_that_asked() {
    let stack = Stack::with_grant(Default::default()).await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    let thief = Arc::new(DpopKey::generate().unwrap());
    let url = caller.url("/contacts");
    let nonce = caller.gateway_nonce().await;
    let proof = proof(&thief, "GET", &url, &nonce, Some(&token));
    let authorization = format!("DPoP {token}");
    let headers = [("authorization", authorization.as_str()), ("dpop", &proof)];
    let reply = caller.https.send(Method::GET, &url, &headers, "").await;
    assert_eq!(reply.refusal(), (401, "INVALID_DPOP_PROOF".to_owned()));
    assert_eq!(
        caller.call(Method::GET, "/contacts", &token).await.status,
        200
    );
}

/// What came of a call: code and reason of its refusal.
fn ended<T>(result: Result<T, Status>) -> (Code, String) {
    match result {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => refused(status),
    }
}

#[tokio::test]
async fn each_flaw_of_what_is_asked_about_logs_is_refused_by_its_reason() {
    let stack = Stack::with_grant(Default::default()).await;
    // Nobody needs a certificate to look at logs.
    let anyone = channel_as(&stack, None).await;
    let control = stack.control_log().await.name().to_string();
    let foreign = "https://other.example/log/control".to_owned();
    let boot = format!(
        "{}/issuance/{}",
        control.trim_end_matches("/control"),
        "0".repeat(64)
    );
    let rows = [("", Code::Ok, ""), (&control, Code::Ok, "")];
    let unknown = [&foreign, &boot].map(|log| (log.as_str(), Code::NotFound, "LOG_NOT_FOUND"));
    for (log, code, reason) in rows.into_iter().chain(unknown) {
        let log = log.to_owned();
        let expected = (code, reason.to_owned());
        let request = v1::GetCheckpointRequest { log: log.clone() };
        let found = ended(anyone.audit().get_checkpoint(request).await);
        assert_eq!(found, expected, "checkpoint of {log:?}");
        let request = v1::ProveInclusionRequest {
            log: log.clone(),
            index: 0,
        };
        let found = ended(anyone.audit().prove_inclusion(request).await);
        assert_eq!(found, expected, "inclusion in {log:?}");
        let request = v1::ProveConsistencyRequest {
            log: log.clone(),
            old_size: 1,
            new_size: 0,
        };
        let found = ended(anyone.audit().prove_consistency(request).await);
        assert_eq!(found, expected, "consistency of {log:?}");
    }
    let beyond = (Code::InvalidArgument, "BEYOND_THE_LOG".to_owned());
    for index in [1 << 20, u64::MAX] {
        let log = String::new();
        let request = v1::ProveInclusionRequest { log, index };
        let found = ended(anyone.audit().prove_inclusion(request).await);
        assert_eq!(found, beyond, "{index}");
    }
    let invalid = (Code::InvalidArgument, "INVALID_REQUEST".to_owned());
    let rows = [
        ((2, 1), &invalid),
        ((1, 1 << 20), &beyond),
        ((u64::MAX, 0), &invalid),
        ((1, u64::MAX), &beyond),
    ];
    for ((old_size, new_size), expected) in rows {
        let request = v1::ProveConsistencyRequest {
            log: String::new(),
            old_size,
            new_size,
        };
        let found = ended(anyone.audit().prove_consistency(request).await);
        assert_eq!(&found, expected, "{old_size} {new_size}");
    }
    for (page_size, page_token) in [(1_001, ""), (u32::MAX, ""), (0, "x"), (0, "-1")] {
        let request = v1::ListLogsRequest {
            page_size,
            page_token: page_token.to_owned(),
        };
        let found = ended(anyone.audit().list_logs(request).await);
        assert_eq!(found, invalid, "{page_size} {page_token:?}");
    }

    // Leaves are for administrators, and a stream is refused as a list is.
    let admin = stack.admin().await;
    let stranger = channel_as(&stack, Some(stranger())).await;
    let no_client = (Code::Unauthenticated, "INVALID_CLIENT".to_owned());
    let tail = |log: &str, from: u64, tenant: &str| v1::TailLeavesRequest {
        log: log.to_owned(),
        from,
        tenant: tenant.to_owned(),
    };
    let client = stack.client().await;
    for (who, channel) in [
        ("anyone", &anyone),
        ("a stranger", &stranger),
        ("a client", &client),
    ] {
        let found = ended(channel.audit().tail_leaves(tail("", 0, "")).await);
        assert_eq!(found, no_client, "{who}");
        let request = v1::ListLeavesRequest::default();
        let found = ended(channel.audit().list_leaves(request).await);
        assert_eq!(found, no_client, "{who}");
    }
    let rows = [
        (tail(&foreign, 0, ""), Code::NotFound, "LOG_NOT_FOUND"),
        (tail(&boot, 0, ""), Code::NotFound, "LOG_NOT_FOUND"),
        (tail("", 0, "other"), Code::PermissionDenied, "FORBIDDEN"),
        (tail("", 0, "-"), Code::InvalidArgument, "INVALID_REQUEST"),
    ];
    for (request, code, reason) in rows {
        let found = ended(admin.audit().tail_leaves(request).await);
        assert_eq!(found, (code, reason.to_owned()));
    }
    let stream = admin.audit().tail_leaves(tail("", u64::MAX, "")).await;
    let found = ended(stream.unwrap().into_inner().message().await);
    assert_eq!(found, beyond);
}

#[tokio::test]
async fn each_flaw_of_what_is_asked_about_keys_is_refused_by_its_reason() {
    let stack = Stack::start(Default::default()).await;
    let admin = stack.admin().await;
    let rotate = |kind: v1::KeyKind, tenant: &str, overlap_s: Option<u64>| v1::RotateKeyRequest {
        kind: kind.into(),
        tenant: tenant.to_owned(),
        overlap_s,
    };
    let list = |tenant: &str| v1::ListKeysRequest {
        tenant: tenant.to_owned(),
    };
    let no_client = (Code::Unauthenticated, "INVALID_CLIENT".to_owned());
    let anyone = channel_as(&stack, None).await;
    let stranger = channel_as(&stack, Some(stranger())).await;
    let client = stack.client().await;
    for (who, channel) in [
        ("anyone", &anyone),
        ("a stranger", &stranger),
        ("a client", &client),
    ] {
        let found = ended(channel.keys().list_keys(list("")).await);
        assert_eq!(found, no_client, "{who}");
        let request = rotate(v1::KeyKind::Signing, "", None);
        let found = ended(channel.keys().rotate_key(request).await);
        assert_eq!(found, no_client, "{who}");
    }
    let invalid = |request| (request, Code::InvalidArgument, "INVALID_REQUEST");
    let unknown = v1::RotateKeyRequest {
        kind: 77,
        ..rotate(v1::KeyKind::Signing, "", None)
    };
    let (day_s, year_s) = (86_400, 365 * 86_400);
    let rows = [
        invalid(rotate(v1::KeyKind::Unspecified, "", None)),
        invalid(unknown),
        invalid(rotate(v1::KeyKind::Signing, names::TENANT, None)),
        invalid(rotate(v1::KeyKind::Signing, "", Some(day_s + 1))),
        invalid(rotate(v1::KeyKind::Deposit, "", Some(day_s + 1))),
        invalid(rotate(v1::KeyKind::Ca, "", Some(year_s + 1))),
        invalid(rotate(v1::KeyKind::Log, "", Some(u64::MAX))),
        invalid(rotate(v1::KeyKind::Tenant, names::TENANT, Some(0))),
        invalid(rotate(v1::KeyKind::Tenant, "", None)),
        invalid(rotate(v1::KeyKind::Tenant, "-", None)),
        (
            rotate(v1::KeyKind::Tenant, "other", None),
            Code::NotFound,
            "NOT_FOUND",
        ),
    ];
    for (request, code, reason) in rows {
        let found = ended(admin.keys().rotate_key(request.clone()).await);
        assert_eq!(found, (code, reason.to_owned()), "{request:?}");
    }
    let rows = [
        ("-", Code::InvalidArgument, "INVALID_REQUEST"),
        ("other", Code::NotFound, "NOT_FOUND"),
    ];
    for (tenant, code, reason) in rows {
        let found = ended(admin.keys().list_keys(list(tenant)).await);
        assert_eq!(found, (code, reason.to_owned()), "{tenant}");
    }
    // None of it has changed a key.
    let keys = answer(admin.keys().list_keys(list(""))).await.unwrap();
    let keys = keys.into_inner().keys;
    assert!(keys.iter().all(|key| key.number == 1), "{keys:?}");
}
