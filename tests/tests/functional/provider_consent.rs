//! Owners consent at a real authorization server: `tokenkeep grant connect`, npm's oidc-provider with its own pages, and
//! a person's browser. The verifier, the app's credential and the tokens stay in the enclave.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::collections::BTreeMap;
use std::fs;

use dev::{lab, names};
use proto::v1;
use proto::v1::{ClientAuthMethod, GrantState};
use serde_json::{Value, json};
use testkit::node::{NodeEnv, OidcProvider};
use tests::binary::binary;
use tests::browser::Browser;
use tests::caller::Caller;
use tests::oidc::{self, APP, GRANT};
use tests::process::Process;
use tests::stack::{Blueprint, Stack};

pub(super) const CLIENT: &str = "tokenkeep-by-consent";

/// A provider with pages, and a stack that knows where its owners consent.
pub(super) async fn world(
    config: Value,
    dpop: bool,
    issuer: Option<&str>,
) -> (Stack, OidcProvider) {
    let node = NodeEnv::from_env().unwrap();
    let provider = OidcProvider::spawn(&node, &config).await.unwrap();
    let stack = Stack::start(Blueprint::default()).await;
    let mut described = oidc::described(&provider);
    described.consent = Some(v1::Consent {
        authorization_endpoint: format!("{}/auth", described.issuer),
        parameters: [("prompt".to_owned(), "consent".to_owned())].into(),
        offline_scopes: vec!["offline_access".to_owned(), "openid".to_owned()],
        iss: true,
        device_authorization_endpoint: format!("{}/device/auth", described.issuer),
    });
    described.profile = Some(v1::ProviderProfile {
        dpop,
        ..v1::ProviderProfile::default()
    });
    if let Some(issuer) = issuer {
        described.issuer = issuer.to_owned();
    }
    oidc::register(&stack, described).await;
    (stack, provider)
}

fn with_pages() -> Value {
    json!({ "pages": true, "dpop_nonces": true })
}

/// The command line, as the tenant's administrator.
pub(super) fn command(stack: &Stack, name: &str, words: &[&str]) -> Process {
    let file = |name: &str| stack.files().path(name).to_str().unwrap().to_owned();
    let connection = [
        ("--server", stack.url("grpc_url").to_owned()),
        ("--policy", file(lab::POLICY)),
        ("--allow-emulated", file(lab::ROOT)),
        ("--cert", file(lab::ADMIN_CERT)),
        ("--key", file(lab::ADMIN_KEY)),
    ];
    let mut arguments = vec!["--json"];
    for (flag, value) in &connection {
        arguments.extend([*flag, value]);
    }
    arguments.extend(words);
    Process::start(&binary("tokenkeep"), &arguments, stack.logs(), name)
}

fn connect(stack: &Stack, name: &str) -> Process {
    let mut words = vec!["grant", "connect", "--tenant", names::TENANT, "--app", APP];
    words.extend(["--grant", GRANT, "--client", names::CLIENT]);
    words.extend(["--target", names::TARGET]);
    for scope in names::SCOPES {
        words.extend(["--scope", scope]);
    }
    command(stack, name, &words)
}

/// How the command ended: its exit code, the last line of its standard output, its standard error.
pub(super) async fn ended(stack: &Stack, mut process: Process, name: &str) -> (i32, Value, String) {
    let code = process.ended().await.code().unwrap();
    let out = fs::read_to_string(stack.logs().join(format!("{name}.out"))).unwrap();
    let last = out.lines().last().unwrap_or_default();
    let last = serde_json::from_str(last).unwrap_or(Value::Null);
    (code, last, process.stderr())
}

/// Where the provider is to send the browser back to.
fn back_of(url: &str) -> String {
    let url: url::Url = url.parse().unwrap();
    let pairs: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    assert_eq!(pairs["code_challenge_method"], "S256");
    pairs["redirect_uri"].clone()
}

/// The person consents, and reads the page that comes of it.
async fn consents(process: &mut Process, user: &str) -> (u16, String) {
    let ready = process.ready().await.unwrap();
    let url = ready["authorization_url"].as_str().unwrap();
    let back = back_of(url);
    let mut browser = Browser::of(user);
    // What anybody else sends there is not taken for the answer.
    let stray = browser.open(&format!("{back}?code=x&state=y")).await;
    assert_eq!(stray.status, 400);
    let to = browser.consent(url, &back).await;
    let page = browser.open(&to).await;
    let text = String::from_utf8_lossy(&page.body).into_owned();
    (page.status.as_u16(), text)
}

#[tokio::test]
async fn an_owner_consents_and_only_the_enclave_gets_the_token() {
    let (mut stack, provider) = world(with_pages(), false, None).await;
    let method = ClientAuthMethod::PrivateKeyJwt;
    oidc::app_with_key(&stack, &provider, CLIENT, method).await;
    let mut process = connect(&stack, "connect");
    let (status, page) = consents(&mut process, "alice").await;
    assert_eq!(status, 200, "{page}");
    for plain in [
        "Access was granted.",
        GRANT,
        APP,
        names::CLIENT,
        names::TENANT,
    ] {
        assert!(page.contains(plain), "{plain}: {page}");
    }
    let (code, grant, told) = ended(&stack, process, "connect").await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(
        (&grant["id"], &grant["state"]),
        (&json!(GRANT), &json!("active"))
    );

    for _ in 0..2 {
        let caller = Caller::of(&stack).await.at(GRANT);
        for scopes in [&[][..], &["contacts.read"]] {
            let reply = oidc::contacts(&caller, scopes).await;
            assert_eq!(reply.status, 200, "{:?} {}", reply.body, stack.log());
            assert_eq!(reply.json()["owner"], json!("alice"));
        }
        assert_eq!(stack.stop().await.code(), Some(0));
        stack.restart().await;
    }
    let grant = stack.grant(GRANT).await;
    assert_eq!(
        (grant.state(), grant.refresh_generation),
        (GrantState::Active, 5)
    );
    provider.stop().await.unwrap();
}

#[tokio::test]
async fn a_public_clients_tokens_are_bound_to_the_enclaves_key_from_the_first_on() {
    let (mut stack, provider) = world(with_pages(), true, None).await;
    let client = json!({ "client_id": CLIENT, "token_endpoint_auth_method": "none" });
    provider.register(&client).await.unwrap();
    oidc::app(&stack, CLIENT, ClientAuthMethod::None).await;
    let mut process = connect(&stack, "connect");
    let (status, page) = consents(&mut process, "alice").await;
    assert_eq!(status, 200, "{page}");
    let (code, _, told) = ended(&stack, process, "connect").await;
    assert_eq!(code, 0, "{told}");
    // The provider takes the refresh token with proofs of that key alone, after a restart too.
    for _ in 0..2 {
        let caller = Caller::of(&stack).await.at(GRANT);
        let reply = oidc::contacts(&caller, &[]).await;
        assert_eq!(reply.status, 200, "{:?} {}", reply.body, stack.log());
        assert_eq!(reply.json()["bound"], json!(true));
        assert_eq!(stack.stop().await.code(), Some(0));
        stack.restart().await;
    }
    let ledger = provider.ledger().await.unwrap();
    assert_eq!((ledger.refresh_refused, ledger.grants_revoked), (0, 0));
    assert_eq!(ledger.api_bound_calls_ok, 2);
    provider.stop().await.unwrap();
}

#[tokio::test]
async fn a_grant_that_needs_its_owner_is_connected_again_in_its_place() {
    let (stack, provider) = world(with_pages(), false, None).await;
    let method = ClientAuthMethod::PrivateKeyJwt;
    oidc::app_with_key(&stack, &provider, CLIENT, method).await;
    // A token that the provider has never heard of.
    let scopes = names::SCOPES.map(str::to_owned).to_vec();
    oidc::deposit_token(&stack, "no-such-token", scopes).await;
    let caller = Caller::of(&stack).await.at(GRANT);
    let refused = oidc::contacts(&caller, &[]).await;
    assert_ne!(refused.status, 200);
    let (state, cause) = stack.grant_state(GRANT).await;
    assert_eq!(state, GrantState::NeedsConsent, "{cause}");

    let mut process = command(&stack, "reconnect", &["grant", "reconnect", GRANT]);
    let (status, page) = consents(&mut process, "alice").await;
    assert_eq!(status, 200, "{page}");
    let (code, grant, told) = ended(&stack, process, "reconnect").await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(grant["state"], json!("active"));
    let reply = oidc::contacts(&caller, &[]).await;
    assert_eq!(reply.status, 200, "{:?}", reply.body);

    // Nobody else's consent takes its place.
    let mut process = command(&stack, "other", &["grant", "reconnect", GRANT]);
    let (status, page) = consents(&mut process, "mallory").await;
    assert_eq!(status, 400, "{page}");
    assert!(page.contains("Nothing was granted."), "{page}");
    let (code, _, told) = ended(&stack, process, "other").await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("CONNECT_ANOTHER_USER"), "{told}");
    let reply = oidc::contacts(&caller, &["contacts.read"]).await;
    assert_eq!(reply.json()["owner"], json!("alice"));
    provider.stop().await.unwrap();
}

#[tokio::test]
async fn the_answer_of_another_issuer_comes_to_nothing() {
    let other = Some("https://login.another.example");
    let (stack, provider) = world(with_pages(), false, other).await;
    let method = ClientAuthMethod::PrivateKeyJwt;
    oidc::app_with_key(&stack, &provider, CLIENT, method).await;
    let mut process = connect(&stack, "connect");
    let (status, page) = consents(&mut process, "alice").await;
    assert_eq!(status, 400, "{page}");
    assert!(page.contains("Nothing was granted."), "{page}");
    let (code, _, told) = ended(&stack, process, "connect").await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("CONNECT_OTHER_ISSUER"), "{told}");
    // The code was not sent anywhere.
    let ledger = provider.ledger().await.unwrap();
    assert_eq!((ledger.refresh_refused, ledger.nonce_challenges), (0, 0));
    provider.stop().await.unwrap();
}
