//! Evidence that is not an answer to our question: another nonce, another purpose, another server.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use attestation::snp::Line;
use attestation::{
    CheckName, Endorsements, Evidence, Expected, NoncePath, Outcome, Purpose, Roots, UnixTime,
    Verdict, assess, report_data,
};
use proto::v1;
use proto::v1::attestation_service_client::AttestationServiceClient;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use testkit::endorser::Endorser;
use testkit::snp::{DevelopmentKey, RevocationListSpec, SnpPlatform};
use tests::caller::refused;
use tests::stack::{Blueprint, Stack};
use tokenkeep::collateral::{Store, fetch};
use tokenkeep::{AttestedChannel, Clock as _, ConnectError, SystemClock, inspect};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;

fn nonce() -> [u8; 32] {
    let mut nonce = [0; 32];
    SystemRandom::new().fill(&mut nonce).unwrap();
    nonce
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().unwrap()
}

async fn ask(
    stack: &Stack,
    nonce: &[u8],
    purpose: v1::Purpose,
) -> Result<v1::GetEvidenceResponse, tonic::Status> {
    let channel = stack.client().await;
    let transport = channel.transport().clone();
    let mut client = AttestationServiceClient::with_origin(transport, stack.grpc_uri());
    let request = v1::GetEvidenceRequest {
        nonce: nonce.to_vec(),
        purpose: purpose.into(),
    };
    Ok(client.get_evidence(request).await?.into_inner())
}

/// The verdict on a reply as an answer to this question, and the checks that failed.
fn judge(
    stack: &Stack,
    reply: &v1::GetEvidenceResponse,
    nonce: &[u8; 32],
    purpose: Purpose,
    key_bundle: &[u8],
) -> (Verdict, Vec<&'static str>) {
    let verification = stack.files().verification().unwrap();
    let wire = reply.evidence.clone().unwrap();
    let [vek, ask, ark] = wire.certificates.try_into().unwrap();
    let endorsements = Endorsements {
        vek: Some(vek),
        ask: Some(ask),
        ark: Some(ark),
    };
    let evidence = Evidence::snp(wire.report, endorsements);
    let path = reply.nonce_path.clone().unwrap();
    let siblings = path
        .siblings
        .iter()
        .map(|hash| hash.as_slice().try_into().unwrap())
        .collect();
    let path = NoncePath::new(path.index, path.size, siblings).unwrap();
    let expected = report_data(purpose, &path.root(nonce), &sha256(key_bundle));
    let appraisal = assess(
        &evidence,
        &verification.roots,
        UnixTime::from_secs(SystemClock.unix_time_s()),
        verification.policy.as_ref(),
        &Expected::report_data(expected),
    );
    let failed = appraisal
        .checks()
        .iter()
        .filter(|check| check.outcome == Outcome::Fail)
        .map(|check| check.name.as_str())
        .collect();
    (appraisal.verdict(), failed)
}

#[tokio::test]
async fn evidence_answers_one_question_only() {
    let stack = Stack::start(Blueprint::default()).await;
    let other = Stack::start(Blueprint::default()).await;
    let (ours, theirs) = (nonce(), nonce());
    let reply = ask(&stack, &ours, v1::Purpose::Server).await.unwrap();
    let for_deposits = ask(&stack, &ours, v1::Purpose::Deposit).await.unwrap();
    let relayed = ask(&stack, &theirs, v1::Purpose::Server).await.unwrap();
    let elsewhere = ask(&other, &ours, v1::Purpose::Server).await.unwrap();
    let bundle = reply.key_bundle.as_slice();
    let mut changed = bundle.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    let mut forged = reply.clone();
    let mut report = forged.evidence.take().unwrap();
    report.report[0x50] ^= 1;
    forged.evidence = Some(report);

    let server = Purpose::Server;
    let accept = (Verdict::Accept, vec![]);
    assert_eq!(judge(&stack, &reply, &ours, server, bundle), accept);
    assert_eq!(
        judge(&stack, &for_deposits, &ours, Purpose::Deposit, bundle),
        accept
    );
    let other_bundle = elsewhere.key_bundle.as_slice();
    assert_eq!(
        judge(&other, &elsewhere, &ours, server, other_bundle),
        accept
    );

    let report_data = vec!["report_data"];
    let rows = [
        (
            "made for another nonce",
            &relayed,
            ours,
            server,
            bundle,
            report_data.clone(),
        ),
        (
            "replayed for a later nonce",
            &reply,
            nonce(),
            server,
            bundle,
            report_data.clone(),
        ),
        (
            "made for deposits",
            &for_deposits,
            ours,
            server,
            bundle,
            report_data.clone(),
        ),
        (
            "made for the server",
            &reply,
            ours,
            Purpose::Deposit,
            bundle,
            report_data.clone(),
        ),
        (
            "beside a changed key bundle",
            &reply,
            ours,
            server,
            &changed,
            report_data.clone(),
        ),
        (
            "beside another enclave's bundle",
            &reply,
            ours,
            server,
            other_bundle,
            report_data,
        ),
        (
            "with a changed report",
            &forged,
            ours,
            server,
            bundle,
            vec!["report_signature"],
        ),
        (
            "of an enclave of another signer",
            &elsewhere,
            ours,
            server,
            other_bundle,
            vec!["manifest_signer"],
        ),
    ];
    for (name, reply, nonce, purpose, bundle, failed) in rows {
        let (verdict, found) = judge(&stack, reply, &nonce, purpose, bundle);
        assert_eq!(verdict, Verdict::Reject, "{name}");
        assert_eq!(found, failed, "{name}");
    }
}

#[tokio::test]
async fn a_question_that_is_none_is_refused() {
    let stack = Stack::start(Blueprint::default()).await;
    let invalid = || (Code::InvalidArgument, "INVALID_REQUEST".to_owned());
    for (name, nonce, purpose) in [
        ("no nonce", vec![], v1::Purpose::Server),
        ("a short nonce", vec![0; 31], v1::Purpose::Server),
        ("a long nonce", vec![0; 33], v1::Purpose::Server),
        ("no purpose", vec![0; 32], v1::Purpose::Unspecified),
    ] {
        let status = ask(&stack, &nonce, purpose).await.unwrap_err();
        assert_eq!(refused(status), invalid(), "{name}");
    }
}

#[tokio::test]
async fn evidence_relayed_through_another_address_is_refused_and_nothing_is_shown_to_it() {
    let stack = Stack::start(Blueprint::default()).await;
    let server = stack
        .url("grpc_url")
        .trim_start_matches("https://")
        .to_owned();
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = relay.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = relay.accept().await {
            let mut to = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(async move { drop(copy_bidirectional(&mut from, &mut to).await) });
        }
    });
    let mut config = stack
        .files()
        .client_config(&format!("https://{address}"))
        .unwrap();
    let inspection = Box::pin(inspect(&config)).await.unwrap();
    assert_eq!(inspection.verdict(), Verdict::Reject);
    let failed: Vec<&str> = inspection
        .bindings()
        .iter()
        .filter(|binding| binding.outcome != Outcome::Pass)
        .map(|binding| binding.name)
        .collect();
    assert_eq!(failed, ["grpc_origin"]);
    let connected = Box::pin(AttestedChannel::connect(&config)).await;
    assert!(
        matches!(connected, Err(ConnectError::NotAccepted(_))),
        "{connected:?}"
    );

    config.grpc_url = stack.url("grpc_url").to_owned();
    assert_eq!(
        Box::pin(inspect(&config)).await.unwrap().verdict(),
        Verdict::Accept
    );
}

/// A revocation list of the root that every development platform ends in.
fn revocation_list(number: u8, revoked: Vec<Vec<u8>>) -> (Line, Vec<u8>) {
    let platform = SnpPlatform::development([7; 32]).unwrap();
    let list = RevocationListSpec {
        issuer: platform.chain().ark.subject.clone(),
        number: Some(vec![number]),
        this_update: "261101000000Z".to_owned(),
        next_update: Some("491231000000Z".to_owned()),
        revoked,
        extensions: vec![],
    };
    let der = list.sign(DevelopmentKey::Ark).unwrap();
    let roots = Roots::with_emulated(platform.root_pem()).unwrap();
    (roots.read_revocation_list(&der).unwrap().line, der)
}

#[tokio::test]
async fn live_evidence_is_judged_by_the_list_that_the_verifier_fetched_itself() {
    let stack = Stack::start(Blueprint::default()).await;
    let service = Endorser::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let ask_serial = SnpPlatform::development([7; 32])
        .unwrap()
        .chain()
        .ask
        .serial
        .clone();
    let revoking = vec![vec![9, 9], ask_serial];
    for (number, revoked, verdict, outcome) in [
        (7, vec![vec![9, 9]], Verdict::Accept, Outcome::Pass),
        (8, revoking, Verdict::Reject, Outcome::Fail),
    ] {
        let (line, der) = revocation_list(number, revoked);
        service.put(&format!("/vcek/v1/{line}/crl"), der);
        let mut config = stack.files().client_config(stack.url("grpc_url")).unwrap();
        let roots = &mut config.verification.roots;
        let fetched = fetch(service.url(), line).await.unwrap();
        store.keep(line, &fetched, roots).unwrap();
        store.load(roots).unwrap();
        let inspection = Box::pin(inspect(&config)).await.unwrap();
        assert_eq!(inspection.verdict(), verdict);
        let check = inspection.appraisal().check(CheckName::Revocation);
        assert_eq!(check.unwrap().outcome, outcome);
    }
}

#[tokio::test]
async fn another_enclaves_policy_does_not_accept_this_one() {
    let stack = Stack::start(Blueprint::default()).await;
    let other = Stack::start(Blueprint::default()).await;
    let mut config = stack.files().client_config(stack.url("grpc_url")).unwrap();
    config.verification.policy = other.files().verification().unwrap().policy;
    let inspection = Box::pin(inspect(&config)).await.unwrap();
    assert_eq!(inspection.verdict(), Verdict::Reject);
    let failed: Vec<&str> = inspection
        .appraisal()
        .checks()
        .iter()
        .filter(|check| check.outcome == Outcome::Fail)
        .map(|check| check.name.as_str())
        .collect();
    assert_eq!(failed, ["manifest_signer"]);
}
