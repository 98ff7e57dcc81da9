//! The provider's own access tokens for clients, bound to the clients' keys: npm's oidc-provider checks the client's
//! proof at its token endpoint, and its API takes the token from that key alone.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::fs;
use std::sync::Arc;

use dev::{lab, names};
use http::{Method, StatusCode};
use proto::v1;
use proto::v1::{ClientAuthMethod, GrantState, TokenMode};
use ring::digest::{SHA256, digest};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use testkit::canary::Canary;
use testkit::fetch;
use testkit::node::{NodeEnv, OidcProvider};
use tests::caller::{Caller, nonce_of, proof, refused};
use tests::cli::Shell;
use tests::oidc::{self, APP, GRANT};
use tests::stack::{Blueprint, Stack};
use tests::wait::wait_for;
use tokenkeep::DpopKey;
use tokio::task::JoinSet;
use tonic::{Code, Status};

const CLIENT: &str = "tokenkeep-relays";

/// A stack with a provider that binds tokens to keys and wants nonces, and an app with a key of its own there.
async fn world() -> (Stack, OidcProvider) {
    let node = NodeEnv::from_env().unwrap();
    let config = json!({ "dpop_nonces": true });
    let provider = OidcProvider::spawn(&node, &config).await.unwrap();
    let stack = Stack::start(Blueprint {
        log_level: "debug",
        ..Blueprint::default()
    })
    .await;
    let mut described = oidc::described(&provider);
    described.profile = Some(v1::ProviderProfile {
        dpop: true,
        ..v1::ProviderProfile::default()
    });
    oidc::register(&stack, described).await;
    let method = ClientAuthMethod::PrivateKeyJwt;
    oidc::app_with_key(&stack, &provider, CLIENT, method).await;
    (stack, provider)
}

/// The user's refresh token.
async fn consented(provider: &OidcProvider) -> String {
    let scope = format!("offline_access {}", names::SCOPES.join(" "));
    let granted = provider.consent(CLIENT, &scope, "alice").await.unwrap();
    granted.refresh_token.expose_secret().to_owned()
}

fn grant() -> v1::Grant {
    let mut scopes: Vec<String> = names::SCOPES.map(str::to_owned).to_vec();
    scopes.push("offline_access".to_owned());
    v1::Grant {
        allow_upstream_bound: true,
        ..oidc::grant(scopes)
    }
}

async fn granted() -> (Stack, OidcProvider, Caller) {
    let (stack, provider) = world().await;
    let token = consented(&provider).await;
    let made = oidc::deposit_grant(&stack, &token, grant()).await;
    made.unwrap();
    let caller = Caller::of(&stack).await.at(GRANT);
    (stack, provider, caller)
}

/// The usual request, for the provider's own token.
fn wanted(caller: &Caller, upstream_proof: &str) -> v1::IssueTokenRequest {
    v1::IssueTokenRequest {
        scopes: vec!["contacts.read".to_owned()],
        mode: TokenMode::UpstreamBound.into(),
        upstream_proof: upstream_proof.to_owned(),
        ..caller.request()
    }
}

/// Asks with a fresh proof of its own and this one for the provider.
async fn ask(caller: &Caller, upstream_proof: &str) -> Result<v1::IssueTokenResponse, Status> {
    let own = caller.issue_proof(&caller.nonce().await);
    Box::pin(caller.issue(wanted(caller, upstream_proof), &[&own])).await
}

/// What a refusal says that a proof for the provider must carry.
fn challenge(status: &Status) -> (String, String) {
    let value = |name| {
        let value = status.metadata().get(name);
        value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    };
    (value("upstream-htu"), value("upstream-dpop-nonce"))
}

/// Reads the contacts at the provider's API itself: once more if the API wants its nonce.
async fn read_contacts(provider: &OidcProvider, token: &str, key: &DpopKey) -> (StatusCode, Value) {
    let url = &provider.endpoints().api_url;
    let authorization = format!("DPoP {token}");
    let mut nonce = String::new();
    loop {
        let proof = proof(key, "GET", url, &nonce, Some(token));
        let headers = [("authorization", authorization.as_str()), ("dpop", &proof)];
        let answer = fetch::get(url, &headers).await.unwrap();
        let given = answer.headers.get("dpop-nonce").cloned();
        match given {
            Some(given) if answer.status == StatusCode::UNAUTHORIZED && nonce.is_empty() => {
                nonce = given.to_str().unwrap().to_owned();
            }
            Some(_) | None => return (answer.status, answer.json().unwrap()),
        }
    }
}

#[tokio::test]
async fn a_client_gets_the_providers_own_token_and_it_serves_its_key_alone() {
    let (stack, provider, caller) = granted().await;
    let request = caller.sdk_request().with_scopes(["contacts.read"]);
    let request = request.upstream_bound();
    let token = caller.sdk().token(&request).await.unwrap();
    assert_eq!(token.scopes(), ["contacts.read"]);
    assert!((1..=60).contains(&token.expires_in_s()));
    assert!(token.receipt().is_some());
    let token = token.expose_secret();

    let (status, contacts) = read_contacts(&provider, token, &caller.key).await;
    assert_eq!(status, StatusCode::OK, "{contacts}");
    assert_eq!(
        (&contacts["bound"], &contacts["client_id"]),
        (&json!(true), &json!(CLIENT))
    );
    // Whoever else has it can do nothing with it: by another key, as a bearer, at the gateway.
    let other = DpopKey::generate().unwrap();
    let (status, refused) = read_contacts(&provider, token, &other).await;
    let invalid = json!({ "error": "invalid_dpop_proof" });
    assert_eq!((status, refused), (StatusCode::UNAUTHORIZED, invalid));
    let bearer = format!("Bearer {token}");
    let url = &provider.endpoints().api_url;
    let answer = fetch::get(url, &[("authorization", &bearer)]).await;
    assert_eq!(answer.unwrap().status, StatusCode::UNAUTHORIZED);
    let at_gateway = caller.call(Method::GET, "/contacts", token).await;
    assert_eq!(at_gateway.refusal(), (401, "INVALID_TOKEN".to_owned()));

    // Another client of the SDK with the same key gets the same one, without an exchange.
    let again = caller.sdk().token(&request).await.unwrap();
    assert_eq!(again.expose_secret(), token);
    let ledger = provider.ledger().await.unwrap();
    assert_eq!((ledger.refresh_ok, ledger.refresh_refused), (1, 0));

    // The gateway goes on with a token that is bound to the enclave's own key.
    let reply = oidc::contacts(&caller, &[]).await;
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    assert_eq!(reply.json()["bound"], json!(true));
    let ledger = provider.ledger().await.unwrap();
    assert_eq!((ledger.refresh_ok, ledger.refresh_tokens_consumed), (2, 2));
    assert_eq!(ledger.grants_revoked, 0);
    assert!(ledger.presentations.values().all(|times| *times == 1));
    let shown = stack.grant(GRANT).await;
    assert_eq!(
        (shown.state(), shown.refresh_generation),
        (GrantState::Active, 3)
    );
    assert!(shown.allow_upstream_bound);

    // Each release has its leaf, which names the token by its digest.
    let events = oidc::issuance(&stack).await;
    let released: Vec<&Value> = events
        .iter()
        .filter(|event| event["event"] == "upstream_token_released")
        .collect();
    assert_eq!(released.len(), 2);
    let sha256 = hex::encode(digest(&SHA256, token.as_bytes()));
    let jkt = tokenkeep::Signer::jkt(&*caller.key).to_string();
    for event in released {
        assert_eq!(event["token_sha256"], json!(sha256));
        assert_eq!(event["jkt"], json!(jkt));
        assert_eq!(event["client"], json!(names::CLIENT));
    }
    // And nothing of it is left with the service.
    let canary = Canary::new(token.as_bytes());
    assert!(stack.log().contains("upstream_token_released"));
    for place in [stack.logs().to_owned(), stack.state()] {
        assert!(canary.find_in(&place).unwrap().is_empty(), "{place:?}");
    }
    provider.stop().await.unwrap();
}

#[tokio::test]
async fn a_proof_for_the_provider_is_made_as_the_service_and_the_provider_ask() {
    let (stack, provider, caller) = granted().await;
    let endpoint = provider.endpoints().token_endpoint.clone();
    let unauthenticated = |reason: &str| (Code::Unauthenticated, reason.to_owned());

    // The service says where the proof is to be used; it knows no nonce yet.
    let refusal = ask(&caller, "").await.unwrap_err();
    assert_eq!(challenge(&refusal), (endpoint.clone(), String::new()));
    assert_ne!(nonce_of(&refusal), "");
    assert_eq!(refused(refusal), unauthenticated("UPSTREAM_PROOF_REQUIRED"));

    // The provider asks for its nonce: nothing is spent.
    let without = caller.proof("POST", &endpoint, "", None);
    let refusal = ask(&caller, &without).await.unwrap_err();
    let (htu, nonce) = challenge(&refusal);
    assert_eq!(htu, endpoint);
    assert_ne!(nonce, "");
    let reason = "UPSTREAM_DPOP_NONCE_REQUIRED";
    assert_eq!(refused(refusal), unauthenticated(reason));
    let ledger = provider.ledger().await.unwrap();
    assert_eq!(
        (ledger.nonce_challenges, ledger.presentations.len()),
        (1, 0)
    );

    // From now on a proof without it is refused before the provider sees it.
    let refusal = ask(&caller, &without).await.unwrap_err();
    assert_eq!(refused(refusal), unauthenticated(reason));
    let invalid = unauthenticated("INVALID_UPSTREAM_PROOF");
    let other = DpopKey::generate().unwrap();
    for wrong in [
        proof(&other, "POST", &endpoint, &nonce, None),
        caller.proof("GET", &endpoint, &nonce, None),
        caller.proof("POST", &format!("{endpoint}/x"), &nonce, None),
        caller.proof("POST", &endpoint, &nonce, Some("a-token")),
        caller.issue_proof(&caller.nonce().await),
        "garbage".to_owned(),
    ] {
        let refusal = ask(&caller, &wrong).await.unwrap_err();
        assert_eq!(refused(refusal), invalid);
    }
    let good = caller.proof("POST", &endpoint, &nonce, None);
    let issued = ask(&caller, &good).await.unwrap();
    assert_eq!(issued.mode(), TokenMode::UpstreamBound);
    assert_eq!(issued.token_type, "DPoP");
    let read = read_contacts(&provider, &issued.access_token, &caller.key).await;
    assert_eq!(read.0, StatusCode::OK);

    // Once used, no more: for other scopes it would need an exchange of its own.
    let own = caller.issue_proof(&caller.nonce().await);
    let others = v1::IssueTokenRequest {
        scopes: vec!["contacts.write".to_owned()],
        ..wanted(&caller, &good)
    };
    let refusal = Box::pin(caller.issue(others, &[&own])).await.unwrap_err();
    let reason = refused(refusal);
    assert!(
        [&invalid, &unauthenticated("UPSTREAM_DPOP_NONCE_REQUIRED")].contains(&&reason),
        "{reason:?}"
    );
    let ledger = provider.ledger().await.unwrap();
    assert_eq!((ledger.refresh_ok, ledger.refresh_refused), (1, 0));
    assert!(ledger.presentations.values().all(|times| *times == 1));
    drop(stack);
    provider.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_grant_does_not_allow_is_refused() {
    let (stack, provider) = world().await;
    let token = consented(&provider).await;
    let plain = v1::Grant {
        allow_upstream_bound: false,
        ..grant()
    };
    let made = oidc::deposit_grant(&stack, &token, plain.clone()).await;
    made.unwrap();
    let caller = Caller::of(&stack).await.at(GRANT);
    let refusal = ask(&caller, "").await.unwrap_err();
    let denied = (
        Code::PermissionDenied,
        "UPSTREAM_BOUND_NOT_ALLOWED".to_owned(),
    );
    assert_eq!(refused(refusal), denied);
    // It is its owner's to allow, and not with the next token by the way.
    let made = oidc::deposit_grant(&stack, &token, grant()).await;
    let invalid = (Code::InvalidArgument, "INVALID_REQUEST".to_owned());
    assert_eq!(made, Err(invalid.clone()));

    let odd = [
        v1::IssueTokenRequest {
            mode: 77,
            ..caller.request()
        },
        v1::IssueTokenRequest {
            upstream_proof: "p".to_owned(),
            ..caller.request()
        },
    ];
    for request in odd {
        let own = caller.issue_proof(&caller.nonce().await);
        let refusal = Box::pin(caller.issue(request, &[&own])).await.unwrap_err();
        assert_eq!(refused(refusal), invalid);
    }
    let bound = v1::IssueTokenRequest {
        binding: v1::TokenBinding::Certificate.into(),
        ..wanted(&caller, "")
    };
    let refusal = Box::pin(caller.issue(bound, &[])).await.unwrap_err();
    assert_eq!(refused(refusal), invalid);
    assert_eq!(provider.ledger().await.unwrap().refresh_ok, 0);
    provider.stop().await.unwrap();
}

#[tokio::test]
async fn a_freeze_in_the_middle_of_the_exchange_releases_nothing_and_loses_nothing() {
    let (stack, provider, caller) = granted().await;
    // The nonce is known: what waits is the exchange itself.
    let endpoint = provider.endpoints().token_endpoint.clone();
    let without = caller.proof("POST", &endpoint, "", None);
    let (_, nonce) = challenge(&ask(&caller, &without).await.unwrap_err());
    provider.hold(true).await.unwrap();
    let good = caller.proof("POST", &endpoint, &nonce, None);
    let asked = ask(&caller, &good);
    let stopped = async {
        wait_for("the exchange is out", async || {
            let ledger = provider.ledger().await.unwrap();
            (ledger.held > 0).then_some(())
        })
        .await;
        let subject = v1::freeze_subject::Subject::Grant(GRANT.to_owned());
        stack.freeze(subject).await;
        provider.hold(false).await.unwrap();
    };
    let (asked, ()) = tokio::join!(asked, stopped);
    let frozen = (Code::FailedPrecondition, "FROZEN".to_owned());
    assert_eq!(refused(asked.unwrap_err()), frozen);
    let ledger = provider.ledger().await.unwrap();
    assert_eq!((ledger.refresh_ok, ledger.refresh_tokens_consumed), (1, 1));
    let events = oidc::issuance(&stack).await;
    assert!(events.iter().any(|event| event["event"] == "refreshed"));
    let released = |event: &Value| event["event"] == "upstream_token_released";
    assert!(!events.iter().any(released));

    // The successor was kept: the grant works when it is thawed.
    let subject = v1::freeze_subject::Subject::Grant(GRANT.to_owned());
    stack.thaw(subject).await;
    let request = caller.sdk_request().with_scopes(["contacts.read"]);
    let token = caller.sdk().token(&request.upstream_bound()).await.unwrap();
    let read = read_contacts(&provider, token.expose_secret(), &caller.key).await;
    assert_eq!(read.0, StatusCode::OK);
    let ledger = provider.ledger().await.unwrap();
    assert_eq!((ledger.refresh_ok, ledger.grants_revoked), (2, 0));
    provider.stop().await.unwrap();
}

#[tokio::test]
async fn clients_with_keys_of_their_own_and_the_gateway_rotate_one_grant_and_lose_nothing() {
    let (mut stack, provider, caller) = granted().await;
    for boot in 0..2_u64 {
        let caller = Caller::of(&stack).await.at(GRANT);
        let mut asked = JoinSet::new();
        for _ in 0..3 {
            let key = Arc::new(DpopKey::generate().unwrap());
            let client = Caller::over(&stack, stack.client().await, Arc::clone(&key)).at(GRANT);
            asked.spawn(async move {
                let request = client.sdk_request().with_scopes(["contacts.read"]);
                let token = client.sdk().token(&request.upstream_bound()).await;
                (token.unwrap(), key)
            });
        }
        let reply = oidc::contacts(&caller, &["contacts.read"]).await;
        assert_eq!(reply.status, 200, "{:?} {}", reply.body, stack.log());
        for (token, key) in asked.join_all().await {
            let read = read_contacts(&provider, token.expose_secret(), &key).await;
            assert_eq!(read.0, StatusCode::OK, "{}", read.1);
        }
        let shown = stack.grant(GRANT).await;
        let generation = 1 + 4 * (boot + 1);
        assert_eq!(
            (shown.state(), shown.refresh_generation),
            (GrantState::Active, generation)
        );
        assert_eq!(stack.stop().await.code(), Some(0));
        stack.restart().await;
    }
    drop(caller);
    let ledger = provider.ledger().await.unwrap();
    assert_eq!((ledger.refresh_ok, ledger.refresh_refused), (8, 0));
    assert_eq!(ledger.grants_revoked, 0);
    assert!(ledger.presentations.values().all(|times| *times == 1));
    provider.stop().await.unwrap();
}

#[tokio::test]
async fn the_command_line_allows_it_and_gets_the_token() {
    let (stack, provider) = world().await;
    let file = |name: &str| stack.files().path(name).to_str().unwrap().to_owned();
    let shell = |cert: &str, key: &str| {
        Shell::new(
            &stack.logs().join("transcript"),
            &[
                ("TOKENKEEP_SERVER", stack.url("grpc_url")),
                ("TOKENKEEP_POLICY", &file(lab::POLICY)),
                ("TOKENKEEP_ALLOW_EMULATED", &file(lab::ROOT)),
                ("TOKENKEEP_CERT", &file(cert)),
                ("TOKENKEEP_KEY", &file(key)),
            ],
        )
    };
    let admin = shell(lab::ADMIN_CERT, lab::ADMIN_KEY);
    let outside = tempfile::tempdir().unwrap();
    let refresh_token = outside.path().join("refresh-token");
    fs::write(&refresh_token, consented(&provider).await).unwrap();
    let deposit = [
        "--json",
        "grant",
        "deposit",
        "--tenant",
        names::TENANT,
        "--app",
        APP,
        "--grant",
        GRANT,
        "--client",
        names::CLIENT,
        "--target",
        names::TARGET,
        "--scope",
        "contacts.read",
        "--token-file",
        refresh_token.to_str().unwrap(),
    ];
    let allowed = [&deposit[..], &["--allow-upstream-bound"]].concat();
    let made = admin.run(&allowed).await;
    assert_eq!(made.code, 0, "{}", made.stderr);
    let shown: Value = serde_json::from_str(&made.stdout).unwrap();
    assert_eq!(shown["allow_upstream_bound"], json!(true));

    let client = shell(lab::CLIENT_CERT, lab::CLIENT_KEY);
    let (resource, key) = (
        Caller::of(&stack).await.at(GRANT).request().resource,
        file(lab::DPOP_KEY),
    );
    let token = ["--json", "token", "--grant", GRANT, "--resource", &resource];
    let token = [&token[..], &["--dpop-key", &key, "--upstream-bound"]].concat();
    let got = client.run(&token).await;
    assert_eq!(got.code, 0, "{}", got.stderr);
    let got: Value = serde_json::from_str(&got.stdout).unwrap();
    assert_eq!(got["mode"], json!("upstream_bound"));
    let (token, key) = (got["access_token"].as_str().unwrap(), stack.dpop_key());
    let read = read_contacts(&provider, token, &key).await;
    assert_eq!(read.0, StatusCode::OK, "{}", read.1);
    provider.stop().await.unwrap();
}
