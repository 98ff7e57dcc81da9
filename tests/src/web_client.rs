//! A client of the public listener by hand: `private_key_jwt`, forms, and a proof with a nonce.
#![allow(
    clippy::expect_used,
    reason = "a request that cannot be made fails the test"
)]

use std::sync::Arc;

use dev::names;
use http::Method;
use jose::dpop::random_jti;
use jose::jws::{self, HeaderMember};
use jose::{Alg, SigningKey};
use proto::v1;
use ring::rand::SystemRandom;
use serde_json::json;
use tokenkeep::rpc_error::answer;
use tokenkeep::{Clock as _, DpopKey, SystemClock};

use crate::caller::{DPOP, DPOP_NONCE, proof};
use crate::https::{Https, Reply};
use crate::stack::Stack;

/// Its id at the service.
pub const WEB_CLIENT: &str = "crm-web";

/// What a client assertion is called [RFC 7523 §2.2].
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A registered client that signs assertions.
#[derive(Debug)]
pub struct WebClient {
    key: SigningKey,
    dpop: Arc<DpopKey>,
    https: Https,
    issuer: String,
    public_url: String,
}

impl WebClient {
    /// Registers it at the lab's vendor, with a key of its own and the stack's DPoP key.
    pub async fn register(stack: &Stack) -> Self {
        let rng = SystemRandom::new();
        let pkcs8 = SigningKey::generate(Alg::Es256, &rng).expect("a key");
        let key = SigningKey::from_pkcs8(&pkcs8, &rng).expect("a key");
        let admin = stack.admin().await;
        let client = v1::CreateClientRequest {
            client: Some(v1::Client {
                id: WEB_CLIENT.to_owned(),
                vendor: names::VENDOR.to_owned(),
                jwks: vec![key.public_key().to_json_with_kid(WEB_CLIENT)],
                ..Default::default()
            }),
        };
        answer(admin.registry().create_client(client))
            .await
            .expect("a client");
        Self {
            key,
            dpop: stack.dpop_key(),
            https: Https::trusting(&admin.bundle().enclave_ca_der),
            issuer: stack.url("issuer").to_owned(),
            public_url: stack.url("public_url").to_owned(),
        }
    }

    fn assertion(&self) -> String {
        let rng = SystemRandom::new();
        let now_s = SystemClock.unix_time_s();
        let claims = json!({
            "iss": WEB_CLIENT, "sub": WEB_CLIENT, "aud": self.issuer, "iat": now_s,
            "exp": now_s.saturating_add(60), "jti": random_jti(&rng).expect("randomness"),
        });
        let members = [HeaderMember::Kid(WEB_CLIENT)];
        jws::sign(&members, claims.to_string().as_bytes(), &self.key, &rng).expect("an assertion")
    }

    async fn post(&self, path: &str, form: &[(&str, &str)], proof: Option<&str>) -> Reply {
        let assertion = self.assertion();
        let all = form.iter().copied().chain([
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion.as_str()),
        ]);
        let escaped =
            |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02x}")).collect() };
        let pairs: Vec<String> = all
            .map(|(name, value)| format!("{name}={}", escaped(value)))
            .collect();
        let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
        headers.extend(proof.map(|proof| (DPOP, proof)));
        let url = format!("{}{path}", self.public_url);
        let sent = self
            .https
            .send(Method::POST, &url, &headers, pairs.join("&"));
        Box::pin(sent).await
    }

    /// Asks the token endpoint: once for the nonce, then with it.
    pub async fn token(&self, resource: &str) -> Reply {
        let form = [("grant_type", "client_credentials"), ("resource", resource)];
        let htu = format!("{}/token", self.public_url);
        let first = proof(&self.dpop, "POST", &htu, "", None);
        let refused = self.post("/token", &form, Some(&first)).await;
        let nonce = refused.header(DPOP_NONCE).to_owned();
        let second = proof(&self.dpop, "POST", &htu, &nonce, None);
        self.post("/token", &form, Some(&second)).await
    }

    /// Asks whether a token of its own holds.
    pub async fn introspect(&self, token: &str) -> Reply {
        self.post("/introspect", &[("token", token)], None).await
    }
}
