//! Tests of the public door: each request goes through the routes as the listener
//! hands it over.

use std::sync::Arc;

use attestation::{DepositContext, DepositEnvelope};
use axum::Router;
use axum::body::Body;
use enclave::admin::{Administrator, DepositRequest, NewApp, Role as AdminRole};
use enclave::authenticate::Peer;
use enclave::boot::Boot;
use enclave::config::Config;
use enclave::frame::FrameCipher;
use enclave::http_url::HttpUrl;
use enclave::keys::authority::HostName;
use enclave::keys::root::Unlocked;
use enclave::profile::Profile;
use enclave::rate::Rate;
use enclave::registry::{
    Api, App, AuthMethod, Client, ClientKey, ClientKind, Grant, Provider, Rotation, Target, Tenant,
    Vendor,
};
use enclave::scope::Scopes;
use enclave::store::Store;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use jose::dpop::{ProofParams, random_jti};
use jose::jws::{self, HeaderMember};
use jose::{Alg, SigningKey};
use ring::rand::SystemRandom;
use serde_json::{Value, json};
use tower::Service;

use super::*;
use crate::clock::Clock;
use crate::room::Room;
use crate::store::{EmbeddedStore, FilePolicy};
use crate::svid::TrustDomains;
use enclave::limits::Limits;

const ISSUER: &str = "https://127.0.0.1:7444";
const TOKEN: &str = "https://127.0.0.1:7444/token";
const RESOURCE: &str = "https://127.0.0.1:7445/g/contacts/api";
const DIRECT: &str = "https://direct.example/api";
const SHARED: &str = "https://shared.example/api";
const ADMIN: [u8; 32] = [1; 32];

pub(super) struct Door {
    routes: Router,
    pub(super) shell: Arc<Shell>,
    /// What the clients `worker` and `stranger` sign assertions with.
    keys: [SigningKey; 2],
    dpop: SigningKey,
    _state: tempfile::TempDir,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn nonce(&self) -> String {
        let nonces: Vec<_> = self.headers.get_all("dpop-nonce").iter().collect();
        assert_eq!(nonces.len(), 1);
        nonces[0].to_str().unwrap().to_owned()
    }

    fn error(&self) -> (u16, String) {
        let error = self.json()["error"].as_str().unwrap().to_owned();
        (self.status.as_u16(), error)
    }
}

fn key() -> SigningKey {
    let rng = SystemRandom::new();
    let pkcs8 = SigningKey::generate(Alg::Es256, &rng).unwrap();
    SigningKey::from_pkcs8(&pkcs8, &rng).unwrap()
}

fn id<T: TryFrom<String>>(text: &str) -> T {
    T::try_from(text.to_owned())
        .map_err(|_| text.to_owned())
        .unwrap()
}

pub(crate) fn config() -> Config {
    let rate = Rate {
        per_s: 1_000,
        burst: 1_000,
    };
    let roles = vec![
        AdminRole::Operator,
        AdminRole::Tenant(id("acme")),
        AdminRole::Vendor(id("crm-sync")),
    ];
    Config {
        issuer: ISSUER.into(),
        grpc_origin: "https://127.0.0.1:7443".into(),
        public_origin: ISSUER.into(),
        gateway_origin: "https://127.0.0.1:7445".into(),
        hosts: vec![HostName::Address("127.0.0.1".parse().unwrap())],
        administrators: vec![Administrator {
            name: "root".into(),
            spki_sha256: ADMIN,
            roles,
        }],
        trust_domains: Vec::new(),
        profile_signers: Vec::new(),
        token_lifetime_s: 300,
        token_alg: Alg::Es256,
        signing_key_days: None,
        endorsed_until_s: None,
        emulated: true,
        tier: "emulated".into(),
        allow_loopback: true,
        manifest_digest: [8; 32],
        manifest_sequence: 1,
        manifest_signer: [9; 32],
        witnesses: None,
        client_rate: rate,
        grant_upstream_rate: rate,
        replay_capacity: 10_000,
    }
}

/// How long a request may take.
const DEADLINE: Duration = Duration::from_secs(15);

impl Door {
    pub(super) async fn open() -> Self {
        let state = tempfile::tempdir().unwrap();
        let rng = SystemRandom::new();
        let keys = Unlocked::generate(&rng).unwrap();
        let cipher = FrameCipher::new(keys.state.frame_key().unwrap());
        let end = Box::new(|_| panic!("a sync failed"));
        let policy = FilePolicy::default();
        let opened = EmbeddedStore::open(state.path(), cipher, rng.clone(), policy, end);
        let (store, _) = opened.unwrap();
        let clock = Clock::new(0);
        let mut boot = Boot::new(config(), &keys, None, Arc::new(rng)).unwrap();
        let batch = boot.create_keys(&clock.now()).unwrap().unwrap();
        let _receipt = store.commit(batch).await.unwrap();
        let shell = Arc::new(Shell {
            enclave: boot.finish().unwrap(),
            store: Arc::new(store),
            clock,
            trust_domains: TrustDomains::default(),
            root: None,
            witnessing: None,
            changes: tokio::sync::watch::Sender::new(0),
            afterwards: tokio_util::task::TaskTracker::new(),
            consents: Default::default(),
        });
        let door = Self {
            routes: router(&shell, Room::open(1_024), DEADLINE),
            shell,
            keys: [key(), key()],
            dpop: key(),
            _state: state,
        };
        door.register().await;
        for (grant, targets) in [
            ("contacts", vec!["api", "direct", "shared"]),
            ("again", vec!["shared"]),
        ] {
            door.deposit(grant, &targets).await;
        }
        door
    }

    fn admin(&self) -> &Administrator {
        let peer = Peer {
            spki_sha256: Some(ADMIN),
            ..Peer::default()
        };
        self.shell.enclave.administrator(&peer).unwrap()
    }

    async fn register(&self) {
        let (shell, e, by) = (&self.shell, &self.shell.enclave, self.admin());
        let now = shell.clock.now();
        let tenant = Tenant {
            id: id("acme"),
            display_name: "Acme".into(),
            limits: Limits::default(),
        };
        let pending = e.create_tenant(by, tenant, &now).unwrap();
        shell.settle(pending).await.unwrap();
        let vendor = Vendor {
            id: id("crm-sync"),
            display_name: "CRM Sync".into(),
        };
        let pending = e.create_vendor(by, vendor, &now).unwrap();
        shell.settle(pending).await.unwrap();
        for (name, key) in ["worker", "stranger"].into_iter().zip(&self.keys) {
            let jwk = key.public_key().to_json_with_kid(name);
            let client = Client {
                id: id(name),
                vendor: id("crm-sync"),
                tls_spki_sha256: None,
                spiffe_id: None,
                limits: Limits::default(),
                kind: ClientKind::default(),
                jwks: vec![ClientKey::from_json(&jwk).unwrap()],
            };
            let pending = e.create_client(by, client, &now).unwrap();
            shell.settle(pending).await.unwrap();
        }
        let direct = |name, resource: &str| Target {
            name: id(name),
            api: Api::Direct {
                resource: resource.into(),
            },
        };
        let base_url = HttpUrl::parse("http://127.0.0.1:1/api").unwrap();
        let api = Target {
            name: id("api"),
            api: Api::behind_gateway(base_url),
        };
        let provider = Provider {
            issuer: None,
            consent: None,
            id: id("crm"),
            token_endpoint: HttpUrl::parse("http://127.0.0.1:1/token").unwrap(),
            revocation_endpoint: None,
            rotation: Rotation::Strict,
            targets: vec![api, direct("direct", DIRECT), direct("shared", SHARED)],
            profile: Profile::default(),
            made_from: None,
        };
        let pending = e.create_provider(by, provider, &now).unwrap();
        shell.settle(pending).await.unwrap();
        let app = App {
            id: id("crm-app"),
            vendor: id("crm-sync"),
            provider: id("crm"),
            oauth_client_id: "oauth-client".into(),
            auth_method: AuthMethod::None,
            key: None,
        };
        let new = NewApp {
            app,
            sealed_client_secret: &[],
        };
        let pending = e.create_app(by, new, &now).unwrap();
        shell.settle(pending).await.unwrap();
    }

    async fn deposit(&self, grant: &str, targets: &[&str]) {
        let e = &self.shell.enclave;
        let context = DepositContext {
            tenant: "acme",
            app: "crm-app",
            grant,
            kind: "refresh-token",
            bundle_digest: &e.bundle().digest,
        };
        let public = *e.keys().hpke_public();
        let sealed = DepositEnvelope::seal(&public, &context, b"rt", &SystemRandom::new()).unwrap();
        let sealed = [sealed.encapsulated_key(), sealed.ciphertext()].concat();
        let request = DepositRequest {
            grant: Grant {
                id: id(grant),
                tenant: id("acme"),
                app: id("crm-app"),
                clients: vec![id("worker")],
                targets: targets.iter().map(|name| id(name)).collect(),
                scopes: Scopes::parse(["contacts.read", "contacts.write"]).unwrap(),
                created_at_s: 0,
                expires_at_s: None,
                operations: Vec::new(),
                hosts: Vec::new(),
                terms: None,
                allow_upstream_bound: false,
            },
            sealed_refresh_token: &sealed,
            rotate: false,
            only_new: false,
        };
        let now = self.shell.clock.now();
        let pending = e.deposit(self.admin(), request, &now).unwrap();
        self.shell.settle(pending).await.unwrap();
    }

    fn assertion_of(&self, client: usize, aud: &str) -> String {
        let name = ["worker", "stranger"][client];
        let now_s = self.shell.clock.now().hi_s;
        let rng = SystemRandom::new();
        let claims = json!({
            "iss": name, "sub": name, "aud": aud, "iat": now_s, "exp": now_s.saturating_add(60),
            "jti": random_jti(&rng).unwrap(),
        });
        let members = [HeaderMember::Kid(name)];
        let payload = claims.to_string();
        jws::sign(&members, payload.as_bytes(), &self.keys[client], &rng).unwrap()
    }

    fn assertion(&self) -> String {
        self.assertion_of(0, ISSUER)
    }

    fn proof(&self, htu: &str, nonce: Option<&str>) -> String {
        let rng = SystemRandom::new();
        let params = ProofParams {
            htm: "POST",
            htu,
            iat_s: self.shell.clock.now().lo_s,
            jti: &random_jti(&rng).unwrap(),
            nonce,
            access_token: None,
        };
        params.sign(&self.dpop, &rng).unwrap()
    }

    pub(super) fn good(&self) -> Asking {
        let now = self.shell.clock.now();
        let role = enclave::nonce::Role::TokenEndpoint;
        let nonce = self.shell.enclave.dpop_nonce(role, &now);
        Asking {
            method: "POST",
            path: "/token".into(),
            headers: vec![
                ("content-type", "application/x-www-form-urlencoded".into()),
                ("dpop", self.proof(TOKEN, Some(&nonce))),
            ],
            form: vec![
                ("grant_type", "client_credentials".into()),
                ("resource", RESOURCE.into()),
                ("scope", "contacts.read".into()),
                (
                    "client_assertion_type",
                    enclave::authenticate::assertion::ASSERTION_TYPE.into(),
                ),
                ("client_assertion", self.assertion()),
            ],
        }
    }

    /// A good question at another endpoint.
    fn about(&self, path: &str, client: usize, token: &str) -> Asking {
        let mut asking = self.good();
        asking.path = path.into();
        asking.form.retain(|(name, _)| name.starts_with("client_"));
        asking.set("client_assertion", &self.assertion_of(client, ISSUER));
        asking.form.push(("token", token.into()));
        asking
    }

    /// The answer to a GET.
    pub(super) async fn get(&self, path: &str) -> Answer {
        self.ask(Asking {
            method: "GET",
            path: path.into(),
            headers: Vec::new(),
            form: Vec::new(),
        })
        .await
    }

    pub(super) async fn ask(&self, asking: Asking) -> Answer {
        let mut request = Request::builder().method(asking.method).uri(&asking.path);
        for (name, value) in &asking.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Body::from(asking.body())).unwrap();
        let response = self.routes.clone().call(request).await.unwrap();
        let (head, body) = response.into_parts();
        Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await.unwrap().to_bytes().to_vec(),
        }
    }
}

pub(super) struct Asking {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    form: Vec<(&'static str, String)>,
}

impl Asking {
    fn set(&mut self, name: &'static str, value: &str) {
        self.drop(name);
        self.form.push((name, value.into()));
    }

    fn drop(&mut self, name: &str) {
        self.form.retain(|(known, _)| *known != name);
    }

    fn header(&mut self, name: &'static str, value: &str) {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
    }

    fn body(&self) -> String {
        let escaped =
            |text: &str| -> String { text.bytes().map(|b| format!("%{b:02x}")).collect() };
        let pairs: Vec<String> = self
            .form
            .iter()
            .map(|(name, value)| format!("{name}={}", escaped(value)))
            .collect();
        pairs.join("&")
    }
}

#[tokio::test]
async fn a_form_that_does_not_end_is_given_up() {
    let door = Door::open().await;
    let never = Body::from_stream(futures_util::stream::pending::<
        Result<axum::body::Bytes, std::io::Error>,
    >());
    let request = Request::post("/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(never)
        .unwrap();
    // The runtime's clock goes on by itself when there is nothing else to do.
    tokio::time::pause();
    let answer = tower::ServiceExt::oneshot(door.routes.clone(), request).await;
    assert_eq!(answer.unwrap().status(), 408);
}

#[tokio::test]
async fn an_ordinary_library_gets_a_token_in_two_rounds() {
    let door = Door::open().await;
    let mut asking = door.good();
    asking.header("dpop", &door.proof(TOKEN, None));
    let assertion = door.assertion();
    asking.set("client_assertion", &assertion);
    let answer = door.ask(asking).await;
    assert_eq!(answer.error(), (400, "use_dpop_nonce".into()));
    assert_eq!(answer.headers["cache-control"], "no-store");

    // The same assertion serves on, as many libraries send the same body again.
    let mut asking = door.good();
    asking.set("client_assertion", &assertion);
    asking.header("dpop", &door.proof(TOKEN, Some(&answer.nonce())));
    let answer = door.ask(asking).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json());
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert!(!answer.nonce().is_empty());
    let told = answer.json();
    assert_eq!(told["token_type"], "DPoP");
    assert_eq!(told["expires_in"], 300);
    assert_eq!(told["scope"], "contacts.read");
    let token = told["access_token"].as_str().unwrap();
    let claims = jose::base64url::decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["aud"], RESOURCE);
    assert_eq!(claims["grant"], "contacts");
    let jkt = door.dpop.public_key().thumbprint().to_string();
    assert_eq!(claims["cnf"], json!({ "jkt": jkt }));

    // An assertion serves once.
    let mut asking = door.good();
    asking.set("client_assertion", &assertion);
    assert_eq!(
        door.ask(asking).await.error(),
        (401, "invalid_client".into())
    );
}

#[tokio::test]
async fn a_resource_names_its_grant() {
    let door = Door::open().await;
    for (resource, grant) in [(RESOURCE, "contacts"), (DIRECT, "contacts")] {
        let mut asking = door.good();
        asking.set("resource", resource);
        asking.set("audience", resource);
        asking.drop("scope");
        let answer = door.ask(asking).await.json();
        assert_eq!(answer["scope"], "contacts.read contacts.write");
        let token = answer["access_token"].as_str().unwrap().to_owned();
        let told = door.ask(door.about("/introspect", 0, &token)).await.json();
        assert_eq!(
            (&told["aud"], &told["grant"]),
            (&json!(resource), &json!(grant))
        );
    }
}

#[tokio::test]
async fn each_bad_request_for_a_token_is_refused_in_the_rfcs_words() {
    let door = Door::open().await;
    type Change = Box<dyn Fn(&Door, &mut Asking)>;
    let rows: Vec<(&str, Change, u16, &str)> = vec![
        (
            "no grant_type",
            Box::new(|_, a| a.drop("grant_type")),
            400,
            "invalid_request",
        ),
        (
            "another grant_type",
            Box::new(|_, a| a.set("grant_type", "password")),
            400,
            "unsupported_grant_type",
        ),
        (
            "Y01 unknown resource",
            Box::new(|_, a| a.set("resource", "https://x.example/")),
            400,
            "invalid_target",
        ),
        (
            "no resource",
            Box::new(|_, a| a.drop("resource")),
            400,
            "invalid_target",
        ),
        (
            "Y02 fragment",
            Box::new(|_, a| a.set("resource", &format!("{RESOURCE}#x"))),
            400,
            "invalid_target",
        ),
        (
            "Y03 two resources",
            Box::new(|_, a| a.form.push(("resource", DIRECT.into()))),
            400,
            "invalid_target",
        ),
        (
            "Y04 slash",
            Box::new(|_, a| a.set("resource", &format!("{RESOURCE}/"))),
            400,
            "invalid_target",
        ),
        (
            "unknown grant",
            Box::new(|_, a| a.set("resource", "https://127.0.0.1:7445/g/other/api")),
            400,
            "invalid_target",
        ),
        (
            "no grant at all",
            Box::new(|_, a| a.set("resource", "https://127.0.0.1:7445/g/")),
            400,
            "invalid_target",
        ),
        (
            "two grants name it",
            Box::new(|_, a| a.set("resource", SHARED)),
            400,
            "invalid_target",
        ),
        (
            "Y06 audience differs",
            Box::new(|_, a| a.set("audience", DIRECT)),
            400,
            "invalid_target",
        ),
        (
            "Y07 scope not granted",
            Box::new(|_, a| a.set("scope", "admin")),
            400,
            "invalid_scope",
        ),
        (
            "Y08 scope with a tab",
            Box::new(|_, a| a.set("scope", "a\tb")),
            400,
            "invalid_scope",
        ),
        (
            "Y08 two spaces",
            Box::new(|_, a| a.set("scope", "contacts.read  contacts.write")),
            400,
            "invalid_scope",
        ),
        (
            "another client's grant",
            Box::new(|d, a| a.set("client_assertion", &d.assertion_of(1, ISSUER))),
            400,
            "invalid_target",
        ),
        (
            "no client",
            Box::new(|_, a| a.form.retain(|(name, _)| !name.starts_with("client_"))),
            401,
            "invalid_client",
        ),
        (
            "C05 aud the endpoint",
            Box::new(|d, a| a.set("client_assertion", &d.assertion_of(0, TOKEN))),
            401,
            "invalid_client",
        ),
        (
            "garbage assertion",
            Box::new(|_, a| a.set("client_assertion", "x")),
            401,
            "invalid_client",
        ),
        (
            "C33 type wrong",
            Box::new(|_, a| a.set("client_assertion_type", "x")),
            400,
            "invalid_request",
        ),
        (
            "C34 type missing",
            Box::new(|_, a| a.drop("client_assertion_type")),
            400,
            "invalid_request",
        ),
        (
            "type alone",
            Box::new(|_, a| a.drop("client_assertion")),
            400,
            "invalid_request",
        ),
        (
            "C35 client_id differs",
            Box::new(|_, a| a.set("client_id", "stranger")),
            400,
            "invalid_request",
        ),
        (
            "C37 Basic beside it",
            Box::new(|_, a| a.header("authorization", "Basic eDp5")),
            400,
            "invalid_request",
        ),
        (
            "C38 client_secret",
            Box::new(|_, a| a.set("client_secret", "x")),
            400,
            "invalid_request",
        ),
        (
            "C39 two assertions",
            Box::new(|d, a| a.form.push(("client_assertion", d.assertion()))),
            400,
            "invalid_request",
        ),
        (
            "C41 JSON",
            Box::new(|_, a| a.header("content-type", "application/json")),
            400,
            "invalid_request",
        ),
        (
            "no content type",
            Box::new(|_, a| a.headers.retain(|(name, _)| *name != "content-type")),
            400,
            "invalid_request",
        ),
        (
            "a query",
            Box::new(|_, a| a.path.push_str("?scope=x")),
            400,
            "invalid_request",
        ),
        (
            "scope twice",
            Box::new(|_, a| a.form.push(("scope", "x".into()))),
            400,
            "invalid_request",
        ),
        (
            "over the bound",
            Box::new(|_, a| a.set("x", &"x".repeat(16 * 1024))),
            400,
            "invalid_request",
        ),
        (
            "N002 no proof",
            Box::new(|_, a| a.headers.retain(|(name, _)| *name != "dpop")),
            400,
            "invalid_dpop_proof",
        ),
        (
            "N003 two proofs",
            Box::new(|d, a| a.headers.push(("dpop", d.proof(TOKEN, None)))),
            400,
            "invalid_dpop_proof",
        ),
        (
            "a foreign nonce",
            Box::new(|d, a| a.header("dpop", &d.proof(TOKEN, Some("x")))),
            400,
            "use_dpop_nonce",
        ),
        (
            "the gRPC service's nonce",
            Box::new(|d, a| {
                let role = enclave::nonce::Role::Token;
                let nonce = d.shell.enclave.dpop_nonce(role, &d.shell.clock.now());
                a.header("dpop", &d.proof(TOKEN, Some(&nonce)));
            }),
            400,
            "use_dpop_nonce",
        ),
        (
            "a proof for the gRPC service",
            Box::new(|d, a| {
                let role = enclave::nonce::Role::TokenEndpoint;
                let nonce = d.shell.enclave.dpop_nonce(role, &d.shell.clock.now());
                let htu = "https://127.0.0.1:7443/tokenkeep.v1.TokenService/IssueToken";
                a.header("dpop", &d.proof(htu, Some(&nonce)));
            }),
            400,
            "invalid_dpop_proof",
        ),
    ];
    for (what, change, status, error) in rows {
        let mut asking = door.good();
        change(&door, &mut asking);
        let answer = door.ask(asking).await;
        assert_eq!(answer.error(), (status, error.into()), "{what}");
        assert_eq!(answer.headers["cache-control"], "no-store", "{what}");
        assert!(!answer.nonce().is_empty(), "{what}");
        let described = answer.json()["error_description"]
            .as_str()
            .unwrap()
            .to_owned();
        let allowed = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
        assert!(described.chars().all(allowed), "{what}: {described}");
    }
    // Nothing of it spoiled the good one.
    assert_eq!(door.ask(door.good()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_proof_serves_once() {
    let door = Door::open().await;
    let (first, mut second) = (door.good(), door.good());
    second.headers = first.headers.clone();
    assert_eq!(door.ask(first).await.status, StatusCode::OK);
    let answer = door.ask(second).await;
    assert_eq!(answer.error(), (400, "invalid_dpop_proof".into()));
}

#[tokio::test]
async fn a_token_is_introspected_and_revoked_by_its_owner_alone() {
    let door = Door::open().await;
    let answer = door.ask(door.good()).await.json();
    let token = answer["access_token"].as_str().unwrap();
    let inactive = json!({ "active": false });

    let told = door.ask(door.about("/introspect", 0, token)).await;
    assert_eq!(told.headers["cache-control"], "no-store");
    let told = told.json();
    assert_eq!(
        (&told["active"], &told["token_type"]),
        (&json!(true), &json!("DPoP"))
    );
    assert_eq!(told["client_id"], "worker");
    assert_eq!(told["cnf"].as_object().unwrap().len(), 1);
    let others = door.ask(door.about("/introspect", 1, token)).await;
    assert_eq!(
        (others.status, others.json()),
        (StatusCode::OK, inactive.clone())
    );

    // V01, V02: nothing happens, and nobody learns so.
    for (client, text) in [(1, token), (0, "unknown")] {
        let answer = door.ask(door.about("/revoke", client, text)).await;
        assert_eq!((answer.status, answer.body), (StatusCode::OK, Vec::new()));
    }
    let told = door.ask(door.about("/introspect", 0, token)).await.json();
    assert_eq!(told["active"], true);

    // V03: the hint is only a hint.
    for _ in 0..2 {
        let mut asking = door.about("/revoke", 0, token);
        asking.set("token_type_hint", "refresh_token");
        let answer = door.ask(asking).await;
        assert_eq!((answer.status, answer.body), (StatusCode::OK, Vec::new()));
        let told = door.ask(door.about("/introspect", 0, token)).await.json();
        assert_eq!(told, inactive);
    }
}

#[tokio::test]
async fn introspection_and_revocation_ask_who_is_there() {
    let door = Door::open().await;
    for path in ["/introspect", "/revoke"] {
        let mut asking = door.about(path, 0, "x");
        asking.form.retain(|(name, _)| !name.starts_with("client_"));
        let answer = door.ask(asking).await;
        assert_eq!(answer.error(), (401, "invalid_client".into()), "{path}");
        let mut asking = door.about(path, 0, "x");
        asking.drop("token");
        let answer = door.ask(asking).await;
        assert_eq!(answer.error(), (400, "invalid_request".into()), "{path}");
        let mut asking = door.about(path, 0, "x");
        asking.form.push(("token", "y".into()));
        let answer = door.ask(asking).await;
        assert_eq!(answer.error(), (400, "invalid_request".into()), "{path}");
    }
    // C42, I02
    for path in ["/token", "/introspect", "/revoke"] {
        let mut asking = door.about(path, 0, "x");
        asking.method = "GET";
        let answer = door.ask(asking).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(answer.headers["allow"], "POST", "{path}");
    }
}

#[tokio::test]
async fn the_metadata_names_what_there_is() {
    let door = Door::open().await;
    let get = |path: &str| Asking {
        method: "GET",
        path: path.into(),
        headers: Vec::new(),
        form: Vec::new(),
    };
    let answer = door
        .ask(get("/.well-known/oauth-authorization-server"))
        .await;
    let told = answer.json();
    assert_eq!(told["issuer"], ISSUER);
    assert_eq!(told["token_endpoint"], TOKEN);
    assert_eq!(told["grant_types_supported"], json!(["client_credentials"]));
    for endpoint in ["token", "introspection", "revocation"] {
        let url = told[format!("{endpoint}_endpoint")].as_str().unwrap();
        let path = url.strip_prefix(ISSUER).unwrap();
        let answer = door.ask(door.about(path, 0, "x")).await;
        assert_ne!(answer.status, StatusCode::NOT_FOUND, "{endpoint}");
        let methods = &told[format!("{endpoint}_endpoint_auth_methods_supported")];
        let by_certificate = ["self_signed_tls_client_auth", "tls_client_auth"];
        let all = ["private_key_jwt", by_certificate[0], by_certificate[1]];
        assert_eq!(*methods, json!(all));
        // Certificates are asked for at the aliases alone [RFC 8705 §5].
        let alias = &told["mtls_endpoint_aliases"][format!("{endpoint}_endpoint")];
        let gateway = &door.shell.enclave.config().gateway_origin;
        assert_eq!(alias.as_str(), Some(format!("{gateway}{path}").as_str()));
        assert!(is_endpoint(path), "{endpoint}");
    }
    assert_eq!(told["tls_client_certificate_bound_access_tokens"], true);
    let jwks = door.ask(get("/jwks.json")).await;
    assert_eq!(jwks.headers["cache-control"], "public, max-age=300");
    let keys = door.shell.enclave.keys();
    let kid = keys.token().kid();
    assert_eq!(jwks.json()["keys"][0]["kid"], kid);
}

#[tokio::test]
async fn what_is_durable_is_in_force_although_whoever_asked_has_hung_up() {
    let door = Door::open().await;
    let (shell, e, by) = (&door.shell, &door.shell.enclave, door.admin());
    let late = || Vendor {
        id: id("late"),
        display_name: "Late".into(),
    };
    let pending = e.create_vendor(by, late(), &shell.clock.now()).unwrap();
    let mut settling = Box::pin(shell.settle(pending));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(settling.as_mut().poll(&mut context).is_pending());
    drop(settling);
    let in_force = async {
        while e.create_vendor(by, late(), &shell.clock.now()).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), in_force)
        .await
        .unwrap();
}
