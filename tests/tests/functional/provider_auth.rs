//! How an app authenticates at a real authorization server by a key that only the enclave has: npm's oidc-provider
//! checks assertions [RFC 7523] and client certificates [RFC 8705].
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::net::Ipv4Addr;

use proto::v1;
use proto::v1::{ClientAuthMethod, GrantState};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use testkit::node::{NodeEnv, OidcProvider};
use tests::caller::Caller;
use tests::oidc::{self, GRANT};
use tests::stack::{Blueprint, Stack};
use tonic::Code;

const CLIENT: &str = "tokenkeep-with-a-key";

/// A provider that speaks TLS, and a stack that trusts its certificate.
async fn over_tls() -> (Stack, OidcProvider) {
    let node = NodeEnv::from_env().unwrap();
    let (cert, key) = testkit::pki::server_certificate(Ipv4Addr::LOCALHOST.into()).unwrap();
    let config = json!({ "tls": { "cert": cert, "key": key.expose_secret() } });
    let provider = OidcProvider::spawn(&node, &config).await.unwrap();
    let manifest = format!("[tls]\nroots_pem = [\"\"\"\n{cert}\"\"\"]\n");
    let stack = Stack::start(Blueprint {
        manifest: manifest.leak(),
        ..Blueprint::default()
    })
    .await;
    (stack, provider)
}

async fn over_http() -> (Stack, OidcProvider) {
    let node = NodeEnv::from_env().unwrap();
    let provider = OidcProvider::spawn(&node, &json!({})).await.unwrap();
    (Stack::start(Blueprint::default()).await, provider)
}

/// Calls through rotations and a restart; nothing is lost, nothing presented twice.
async fn lives_on(stack: &mut Stack, provider: &OidcProvider) {
    for boot in 0..2 {
        let caller = Caller::of(stack).await.at(GRANT);
        for scopes in [&[][..], &["contacts.read"]] {
            let reply = oidc::contacts(&caller, scopes).await;
            assert_eq!(
                reply.status,
                200,
                "boot {boot}: {:?} {}",
                reply.body,
                stack.log()
            );
        }
        assert_eq!(stack.stop().await.code(), Some(0));
        stack.restart().await;
    }
    let ledger = provider.ledger().await.unwrap();
    assert_eq!((ledger.refresh_ok, ledger.refresh_tokens_consumed), (4, 4));
    assert_eq!((ledger.refresh_refused, ledger.grants_revoked), (0, 0));
    assert!(ledger.presentations.values().all(|times| *times == 1));
    let grant = stack.grant(GRANT).await;
    assert_eq!(
        (grant.state(), grant.refresh_generation),
        (GrantState::Active, 5)
    );
    // The provider believes the same key when it is told that the grant is revoked.
    stack.try_revoke(GRANT).await.unwrap();
    tests::wait::wait_for("the provider is told", async || {
        let told = stack.grant(GRANT).await.provider_told;
        (!told.is_empty()).then(|| assert_eq!(told, "proved"))
    })
    .await;
}

/// The key that the provider knows is replaced by another: the exchange is refused and written down, and the grant is
/// there when the right one is back.
async fn a_wrong_key_costs_no_grant(
    stack: &Stack,
    provider: &OidcProvider,
    app: &v1::App,
    word: &str,
) {
    let jwks: Value = serde_json::from_str(&app.jwks).unwrap();
    let client = |jwks: &Value| json!({ "client_id": CLIENT, "token_endpoint_auth_method": word, "jwks": jwks });
    let other = oidc_key();
    provider.register(&client(&other)).await.unwrap();
    let caller = Caller::of(stack).await.at(GRANT);
    let refused = oidc::contacts(&caller, &[]).await;
    assert_eq!(
        refused.refusal(),
        (502, "PROVIDER_REFUSED".to_owned()),
        "{:?}",
        refused.body
    );
    let events = oidc::issuance(stack).await;
    let written = events
        .iter()
        .filter(|event| event["event"] == "refresh_refused")
        .map(|event| (&event["grant"], &event["error"]));
    assert_eq!(
        written.collect::<Vec<_>>(),
        [(&json!(GRANT), &json!("invalid_client"))]
    );
    assert_eq!(stack.grant_state(GRANT).await.0, GrantState::Active);

    provider.register(&client(&jwks)).await.unwrap();
    let token = caller.token().await;
    let good = caller.call_in_turn("/contacts", &token, "").await;
    assert_eq!(good.status, 200, "{:?}", good.body);
    let ledger = provider.ledger().await.unwrap();
    assert_eq!((ledger.refresh_ok, ledger.grants_revoked), (1, 0));
}

/// A key that is not the app's, with a certificate, as a JWK set.
fn oidc_key() -> Value {
    use base64ct::{Base64, Encoding as _};
    use jose::{Alg, SigningKey};
    use ring::rand::SystemRandom;

    let rng = SystemRandom::new();
    let key = SigningKey::generate(Alg::Es256, &rng).unwrap();
    let key = SigningKey::from_pkcs8(&key, &rng).unwrap();
    let mut jwk: Value = serde_json::from_str(&key.public_key().to_json()).unwrap();
    let certificate = testkit::pki::client_certificate("another").unwrap();
    jwk["use"] = json!("sig");
    jwk["x5c"] = json!([Base64::encode_string(&certificate.der)]);
    json!({ "keys": [jwk] })
}

#[tokio::test]
async fn assertions_are_signed_by_a_key_of_the_enclave() {
    let (mut stack, provider) = over_http().await;
    oidc::register(&stack, oidc::described(&provider)).await;
    let method = ClientAuthMethod::PrivateKeyJwt;
    let app = oidc::app_with_key(&stack, &provider, CLIENT, method).await;
    // What is told of the key is its public half alone.
    let jwks: Value = serde_json::from_str(&app.jwks).unwrap();
    let mut members: Vec<&String> = jwks["keys"][0].as_object().unwrap().keys().collect();
    members.sort();
    assert_eq!(
        members,
        ["alg", "crv", "kid", "kty", "use", "x", "x5c", "y"]
    );
    assert!(
        app.certificate_pem
            .starts_with("-----BEGIN CERTIFICATE-----\n")
    );
    oidc::deposit(&stack, &provider, CLIENT).await;
    lives_on(&mut stack, &provider).await;
    provider.stop().await.unwrap();
}

#[tokio::test]
async fn an_assertion_can_be_for_the_token_endpoint_and_is_refused_for_another() {
    let (stack, provider) = over_http().await;
    let mut described = oidc::described(&provider);
    let endpoint = provider.endpoints().token_endpoint.clone();
    described.profile = Some(v1::ProviderProfile {
        assertion_audience: "https://another.example".to_owned(),
        ..v1::ProviderProfile::default()
    });
    oidc::register(&stack, described.clone()).await;
    let method = ClientAuthMethod::PrivateKeyJwt;
    oidc::app_with_key(&stack, &provider, CLIENT, method).await;
    oidc::deposit(&stack, &provider, CLIENT).await;
    let caller = Caller::of(&stack).await.at(GRANT);
    let refused = oidc::contacts(&caller, &[]).await;
    assert_eq!(refused.refusal(), (502, "PROVIDER_REFUSED".to_owned()));
    assert_eq!(stack.grant_state(GRANT).await.0, GrantState::Active);
    provider.stop().await.unwrap();

    let (stack, provider) = over_http().await;
    let mut described = oidc::described(&provider);
    assert_ne!(described.token_endpoint, endpoint);
    described.profile = Some(v1::ProviderProfile {
        assertion_audience: described.token_endpoint.clone(),
        ..v1::ProviderProfile::default()
    });
    oidc::register(&stack, described).await;
    oidc::app_with_key(&stack, &provider, CLIENT, method).await;
    oidc::deposit(&stack, &provider, CLIENT).await;
    let caller = Caller::of(&stack).await.at(GRANT);
    let reply = oidc::contacts(&caller, &[]).await;
    assert_eq!(reply.status, 200, "{:?} {}", reply.body, stack.log());
    provider.stop().await.unwrap();
}

#[tokio::test]
async fn an_assertion_by_another_key_costs_no_grant() {
    let (stack, provider) = over_http().await;
    oidc::register(&stack, oidc::described(&provider)).await;
    let method = ClientAuthMethod::PrivateKeyJwt;
    let app = oidc::app_with_key(&stack, &provider, CLIENT, method).await;
    oidc::deposit(&stack, &provider, CLIENT).await;
    a_wrong_key_costs_no_grant(&stack, &provider, &app, "private_key_jwt").await;
    provider.stop().await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_shown_whose_key_the_enclave_made() {
    let (mut stack, provider) = over_tls().await;
    oidc::register(&stack, oidc::described(&provider)).await;
    let method = ClientAuthMethod::TlsClientAuth;
    oidc::app_with_key(&stack, &provider, CLIENT, method).await;
    oidc::deposit(&stack, &provider, CLIENT).await;
    lives_on(&mut stack, &provider).await;
    provider.stop().await.unwrap();
}

#[tokio::test]
async fn another_certificate_costs_no_grant() {
    let (stack, provider) = over_tls().await;
    oidc::register(&stack, oidc::described(&provider)).await;
    let method = ClientAuthMethod::TlsClientAuth;
    let app = oidc::app_with_key(&stack, &provider, CLIENT, method).await;
    oidc::deposit(&stack, &provider, CLIENT).await;
    a_wrong_key_costs_no_grant(&stack, &provider, &app, "self_signed_tls_client_auth").await;
    provider.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_provider_does_not_take_is_refused_when_the_app_is_registered() {
    let (stack, provider) = over_http().await;
    let mut described = oidc::described(&provider);
    described.profile = Some(v1::ProviderProfile {
        auth_methods: vec![
            ClientAuthMethod::TlsClientAuth.into(),
            ClientAuthMethod::ClientSecretPost.into(),
        ],
        ..v1::ProviderProfile::default()
    });
    oidc::register(&stack, described).await;
    let bad = (Code::InvalidArgument, "INVALID_REQUEST".to_owned());
    // Not one that it takes; and a certificate without TLS.
    for method in [
        ClientAuthMethod::PrivateKeyJwt,
        ClientAuthMethod::ClientSecretBasic,
        ClientAuthMethod::None,
        ClientAuthMethod::TlsClientAuth,
    ] {
        let made = oidc::try_app(&stack, CLIENT, method).await;
        assert_eq!(made.unwrap_err(), bad, "{method:?}");
    }
    let taken = oidc::try_app(&stack, CLIENT, ClientAuthMethod::ClientSecretPost).await;
    assert_eq!(taken.unwrap().jwks, "");
    provider.stop().await.unwrap();
}
