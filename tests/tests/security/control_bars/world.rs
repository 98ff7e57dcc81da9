//! Two tenants, two vendors and everybody who could ask: the victim's data is full of strings that stand in no request.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a failed test may panic"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use base64ct::{Base64, Base64Unpadded, Encoding as _};
use bytes::Bytes;
use dev::names;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use proto::v1;
use proto::v1::freeze_subject::Subject;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use testkit::pki::{ClientCertificate, client_certificate};
use tests::caller::Caller;
use tests::receiver::Receiver;
use tests::stack::{Blueprint, Stack};
use tests::targets;
use tests::wait::wait_for;
use tokenkeep::rpc_error::answer;
use tokenkeep::{AttestedChannel, ClientIdentity, RpcError, Signer as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tonic::{Code, Status};

use super::contract::Rpc;

/// The other tenant.
pub(super) const OTHER_TENANT: &str = "mallory";
/// The other vendor.
pub(super) const OTHER_VENDOR: &str = "other-vendor";
/// The other vendor's client.
pub(super) const OTHER_CLIENT: &str = "other-worker";
/// The provider at which consents are given in this test.
pub(super) const CONSENTING: &str = "consenting";
/// The webhook that requests name.
pub(super) const HOOK: &str = "siem";
/// The grant whose target lists operations.
pub(super) const LISTED: &str = "listed";
/// A grant that no request names.
pub(super) const QUIET: &str = "quiet-heron-4711";

const PURPOSE: &str = "canary-purpose-8c1f";
const OWNER: &str = "canary-owner-2d77";
const SCOPE: &str = "canary.scope.90ab";
const REASON: &str = "canary-reason-5e3d";
const POLICY_ID: &str = "canary-policy-61fe";
const PATH: &str = "canary-page-77d0";
const HOOK_PATH: &str = "canary-hook-3f1a";
const FROZEN_KEY: &str = "canary-key-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The policy of the victim.
pub(super) const POLICY: &str =
    "@id(\"canary-policy-61fe\")\npermit(principal, action, resource);\n";

/// Those who ask, and their roles in the manifest; whoever has none is a client, or nobody.
const PARTIES: [(&str, &[&str]); 11] = [
    ("owner", &["tenant:acme"]),
    ("security", &["tenant-security:acme"]),
    ("auditor", &["tenant-auditor:acme"]),
    ("vendor", &["vendor:crm-sync"]),
    ("operator", &["operator"]),
    ("other-owner", &["tenant:mallory"]),
    ("other-security", &["tenant-security:mallory"]),
    ("other-auditor", &["tenant-auditor:mallory"]),
    ("other-vendor", &["vendor:other-vendor"]),
    ("other-worker", &[]),
    ("nobody", &[]),
];

/// What is searched for in answers: its name and its bytes.
pub(super) type Canary = (&'static str, Vec<u8>);

/// The answer to a call, whatever it is.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) code: Code,
    /// All bytes that came: headers, body, trailers.
    pub(super) all: Vec<u8>,
    /// What the status says.
    pub(super) text: String,
    /// When to come back, if it says so.
    pub(super) retry_after: Option<Duration>,
}

/// The stack and all that is known of it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) stack: Stack,
    /// The one who may do everything for the victim and runs the service.
    pub(super) root: AttestedChannel,
    parties: Vec<(&'static str, AttestedChannel)>,
    keys: Vec<(&'static str, SecretString)>,
    pub(super) caller: Caller,
    /// A token of the victim's client.
    pub(super) token: String,
    /// A second one.
    pub(super) second_token: String,
    /// The call that waits for approval.
    pub(super) approval: String,
    /// A consent that is under way: its state and the code that the provider gave.
    pub(super) state: String,
    /// One on a device, that was given.
    pub(super) handle: String,
    /// Takes what is posted of the victim's events, and of nobody else's.
    pub(super) receiver: Receiver,
    canaries: Vec<Canary>,
}

impl World {
    /// With everything in place; `planted` gives a party one more role than it should have.
    pub(super) async fn new(planted: Option<(&str, &str)>) -> Self {
        let certificates = PARTIES.map(|(name, _)| client_certificate(name).unwrap());
        let receiver = Receiver::start().await;
        let mut manifest = String::new();
        for ((name, roles), certificate) in PARTIES.iter().zip(&certificates) {
            let mut roles = roles.to_vec();
            roles.extend(planted.filter(|(who, _)| who == name).map(|(_, role)| role));
            if !roles.is_empty() {
                manifest.push_str(&format!(
                    "[[administrators]]\nname = \"{name}\"\nspki_sha256 = \"{}\"\nroles = {roles:?}\n",
                    hex::encode(certificate.spki_sha256),
                ));
            }
        }
        manifest.push_str(&format!(
            "[tls]\nroots_pem = [\"\"\"\n{}\"\"\"]\n",
            receiver.certificate
        ));
        let stack = Stack::with_grant(Blueprint {
            manifest: manifest.leak(),
            ..Blueprint::default()
        })
        .await;
        let mut parties = Vec::new();
        for ((name, _), certificate) in PARTIES.iter().zip(&certificates) {
            parties.push((*name, channel(&stack, certificate).await));
        }
        let other = PARTIES.iter().position(|(name, _)| *name == OTHER_CLIENT);
        let of_other = certificates[other.unwrap()].spki_sha256;
        Box::pin(furnish(&stack, &parties, of_other)).await;
        let names = PARTIES.iter().map(|(name, _)| *name);
        let keys = names
            .zip(certificates.into_iter().map(|made| made.key_pem))
            .collect();
        let root = stack.admin().await;
        let approval = Box::pin(waiting_call(&stack)).await;
        let caller = Caller::of(&stack).await;
        let token = caller.token().await;
        let second_token = caller.token().await;
        let (state, handle) = Box::pin(consents(&root)).await;
        Box::pin(webhooks(&root, &receiver)).await;
        let mut world = Self {
            stack,
            root,
            parties,
            keys,
            caller,
            token,
            second_token,
            approval,
            state,
            handle,
            receiver,
            canaries: Vec::new(),
        };
        world.canaries = world.planted();
        world.settle().await;
        world
    }

    /// Waits until nothing changes by itself any more: the consent on a device is taken up.
    async fn settle(&self) {
        wait_for("the consent on a device", async || {
            let id = "on-a-device".to_owned();
            let found = self
                .root
                .grants()
                .get_grant(v1::GetGrantRequest { id })
                .await;
            found.ok()
        })
        .await;
    }

    fn planted(&self) -> Vec<Canary> {
        let jkt = self.caller.key.jkt().to_string();
        let policy = digest(&SHA256, POLICY.as_bytes());
        vec![
            ("a purpose", PURPOSE.into()),
            ("an owner", OWNER.into()),
            ("a scope", SCOPE.into()),
            ("a reason", REASON.into()),
            ("a policy", POLICY_ID.into()),
            ("a policy's digest", policy.as_ref().to_vec()),
            ("a policy's digest in hex", hex::encode(policy).into()),
            ("the path of a call", PATH.into()),
            ("the path of a webhook", HOOK_PATH.into()),
            ("a frozen key", FROZEN_KEY.into()),
            ("a key's thumbprint", jkt.into()),
            ("a grant", QUIET.into()),
        ]
    }

    /// What nobody of these may find: what is the tenant's, and its name for whoever did not register it; for the other
    /// vendor also what is the vendor's.
    pub(super) fn canaries(&self, party: &str) -> Vec<Canary> {
        let mut all = self.canaries.clone();
        if party != "operator" {
            all.push(("the tenant's name", b"Acme Corporation".to_vec()));
        }
        if ["other-vendor", "other-worker", "nobody"].contains(&party) {
            let spki = self.stack.files().client_spki_sha256().unwrap();
            all.push(("a client's key", spki.to_vec()));
            all.push(("an app's client id", names::OAUTH_CLIENT_ID.into()));
        }
        all
    }

    /// The key of a party's certificate, PKCS#8.
    pub(super) fn key(&self, name: &str) -> PrivatePkcs8KeyDer<'static> {
        let mut keys = self.keys.iter();
        let (_, pem) = keys.find(|(of, _)| *of == name).unwrap();
        PrivatePkcs8KeyDer::from_pem_slice(pem.expose_secret().as_bytes()).unwrap()
    }

    /// The connection of a party.
    pub(super) fn party(&self, name: &str) -> &AttestedChannel {
        let mut parties = self.parties.iter();
        let found = parties.find(|(of, _)| *of == name);
        &found.unwrap_or_else(|| panic!("nobody is called {name}")).1
    }
}

/// A call as raw bytes; of a stream that has no end, what comes first.
pub(super) async fn ask(channel: &AttestedChannel, rpc: &Rpc, message: &[u8]) -> Answered {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let body = [&[0], &length[..], message].concat();
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{}{}", channel.transport().origin(), rpc.path()))
        .version(http::Version::HTTP_2)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(tonic::body::Body::new(Full::new(Bytes::from(body))))
        .unwrap();
    let answer = channel.transport().send(request).await.unwrap();
    let mut all = Vec::new();
    keep(&mut all, answer.headers());
    let mut status = Status::from_header_map(answer.headers());
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.unwrap();
        if let Some(trailers) = frame.trailers_ref() {
            keep(&mut all, trailers);
            status = Status::from_header_map(trailers);
        } else if let Some(data) = frame.data_ref() {
            all.extend_from_slice(data);
            if rpc.streams && rpc.name == "AuditService/TailLeaves" {
                break;
            }
        }
    }
    let status = status.unwrap_or_else(|| Status::new(Code::Ok, "a stream that goes on"));
    Answered {
        code: status.code(),
        all,
        text: status.message().to_owned(),
        retry_after: RpcError::from(status).retry_after(),
    }
}

/// Keeps headers, and what they hold in base64.
fn keep(all: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        all.extend_from_slice(value.as_bytes());
        if name.as_str().ends_with("-bin") {
            let text = value.to_str().unwrap_or_default();
            let plain = Base64Unpadded::decode_vec(text).or_else(|_| Base64::decode_vec(text));
            all.extend(plain.unwrap());
        }
        // Headers are percent-encoded [gRPC over HTTP/2].
        let decoded = value.to_str().unwrap_or_default().replace("%22", "\"");
        all.extend(decoded.into_bytes());
    }
}

async fn channel(stack: &Stack, certificate: &ClientCertificate) -> AttestedChannel {
    let key = certificate.key_pem.expose_secret().as_bytes();
    let identity = ClientIdentity::from_pem(certificate.pem.as_bytes(), key).unwrap();
    let mut config = stack.files().client_config(stack.url("grpc_url")).unwrap();
    config.client_identity = Some(identity);
    Box::pin(AttestedChannel::connect(&config)).await.unwrap()
}

fn operation(id: &str, path: &str) -> v1::Operation {
    v1::Operation {
        id: id.to_owned(),
        method: "GET".to_owned(),
        path: path.to_owned(),
        query: vec!["page".to_owned()],
        ..v1::Operation::default()
    }
}

/// Registers both sides, and gives the victim what is to be found nowhere.
async fn furnish(stack: &Stack, parties: &[(&str, AttestedChannel)], other_spki: [u8; 32]) {
    let root = stack.admin().await;
    let tenant = v1::CreateTenantRequest {
        tenant: Some(v1::Tenant {
            id: OTHER_TENANT.to_owned(),
            ..v1::Tenant::default()
        }),
    };
    answer(root.registry().create_tenant(tenant)).await.unwrap();
    let vendor = v1::CreateVendorRequest {
        vendor: Some(v1::Vendor {
            id: OTHER_VENDOR.to_owned(),
            display_name: String::new(),
        }),
    };
    answer(root.registry().create_vendor(vendor)).await.unwrap();
    let (_, by) = parties
        .iter()
        .find(|(name, _)| *name == "other-vendor")
        .unwrap();
    let client = v1::CreateClientRequest {
        client: Some(v1::Client {
            id: OTHER_CLIENT.to_owned(),
            vendor: OTHER_VENDOR.to_owned(),
            tls_spki_sha256: other_spki.to_vec(),
            ..v1::Client::default()
        }),
    };
    answer(by.registry().create_client(client)).await.unwrap();

    let target = v1::Target {
        operations: vec![
            operation("list", "/contacts"),
            operation("get", "/contacts/{id:integer}"),
        ],
        ..targets::whole(&format!("{}/api", stack.provider().base_url()))
    };
    targets::add(stack, LISTED, target, &[]).await;
    for id in ["to-revoke", "to-delete", "to-sleep", "to-update"] {
        stack.deposit_as(id).await;
    }
    let token = stack.consent().refresh_token;
    stack
        .deposit_token_for(QUIET, token.expose_secret(), &["contacts.read", SCOPE])
        .await;
    let terms = |id: &str, terms: v1::GrantTerms| v1::UpdateGrantRequest {
        id: id.to_owned(),
        terms: Some(v1::GrantTerms {
            owner: OWNER.to_owned(),
            purpose: PURPOSE.to_owned(),
            ..terms
        }),
    };
    let mut grants = root.grants();
    for id in [names::GRANT, QUIET] {
        let none = v1::GrantTerms::default();
        answer(grants.update_grant(terms(id, none))).await.unwrap();
    }
    let asks = v1::GrantTerms {
        approval_operations: vec![format!("{}/get", names::TARGET)],
        ..v1::GrantTerms::default()
    };
    answer(grants.update_grant(terms(LISTED, asks)))
        .await
        .unwrap();
    let policy = v1::SetPolicyRequest {
        tenant: names::TENANT.to_owned(),
        text: POLICY.to_owned(),
        ..v1::SetPolicyRequest::default()
    };
    answer(grants.set_policy(policy)).await.unwrap();
    for jkt in [FROZEN_KEY, KNOWN_KEY] {
        let freeze = v1::FreezeRequest {
            subject: Some(v1::FreezeSubject {
                subject: Some(Subject::Jkt(jkt.to_owned())),
            }),
            reason: REASON.to_owned(),
            tenant: names::TENANT.to_owned(),
        };
        answer(grants.freeze(freeze)).await.unwrap();
    }
    Box::pin(consenting(stack, &root)).await;
}

/// A key that is frozen and that requests name.
pub(super) const KNOWN_KEY: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

/// A provider at which everybody consents to everything, on a page and on a device, and an app there.
async fn consenting(stack: &Stack, root: &AttestedChannel) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(desk(listener));
    let provider = v1::CreateProviderRequest {
        provider: Some(v1::Provider {
            id: CONSENTING.to_owned(),
            token_endpoint: format!("{url}/token"),
            rotation: v1::RotationProfile::Strict.into(),
            targets: vec![targets::whole(&format!(
                "{}/api",
                stack.provider().base_url()
            ))],
            consent: Some(v1::Consent {
                authorization_endpoint: format!("{url}/authorize"),
                device_authorization_endpoint: format!("{url}/device"),
                ..v1::Consent::default()
            }),
            ..v1::Provider::default()
        }),
        profile_file: None,
    };
    answer(root.registry().create_provider(provider))
        .await
        .unwrap();
    let app = v1::CreateAppRequest {
        app: Some(v1::App {
            id: CONSENTING.to_owned(),
            vendor: names::VENDOR.to_owned(),
            provider: CONSENTING.to_owned(),
            oauth_client_id: "somebody".to_owned(),
            auth_method: v1::ClientAuthMethod::None.into(),
            ..v1::App::default()
        }),
        sealed_client_secret: Vec::new(),
    };
    answer(root.registry().create_app(app)).await.unwrap();
}

/// Answers every request with a grant, and those for a device with a code.
async fn desk(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut asked = Vec::new();
            let mut piece = [0; 4_096];
            while !is_whole(&asked) {
                match stream.read(&mut piece).await {
                    Ok(0) | Err(_) => return,
                    Ok(read) => asked.extend_from_slice(&piece[..read]),
                }
            }
            let body = if asked.starts_with(b"POST /device") {
                json!({
                    "device_code": "device", "user_code": "USER-CODE", "expires_in": 600, "interval": 1,
                    "verification_uri": "https://consenting.example/device",
                })
            } else {
                json!({
                    "access_token": "access", "token_type": "Bearer", "expires_in": 300,
                    "refresh_token": "refresh", "scope": "contacts.read",
                })
            };
            let body = body.to_string();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            drop(stream.write_all(answer.as_bytes()).await);
        });
    }
}

fn is_whole(asked: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(asked) else {
        return false;
    };
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let named = name.eq_ignore_ascii_case("content-length");
        named.then(|| value.trim().parse::<usize>().ok())?
    });
    body.len() >= length.unwrap_or_default()
}

/// What a consent is asked for.
pub(super) fn consent_of(id: &str) -> v1::Grant {
    v1::Grant {
        id: id.to_owned(),
        tenant: names::TENANT.to_owned(),
        app: CONSENTING.to_owned(),
        clients: vec![names::CLIENT.to_owned()],
        targets: vec![names::TARGET.to_owned()],
        scopes: vec!["contacts.read".to_owned()],
        ..v1::Grant::default()
    }
}

/// Begins one consent in a browser, and one on a device.
async fn consents(root: &AttestedChannel) -> (String, String) {
    let request = v1::BeginConnectRequest {
        grant: Some(consent_of("connected")),
        redirect_uri: "http://127.0.0.1:7/callback".to_owned(),
    };
    let begun = answer(root.grants().begin_connect(request)).await.unwrap();
    let device = v1::BeginDeviceConnectRequest {
        grant: Some(consent_of("on-a-device")),
    };
    let device = answer(root.grants().begin_device_connect(device)).await;
    (
        begun.into_inner().state,
        device.unwrap().into_inner().handle,
    )
}

/// Posts the victim's policy changes, of which there are no more, and one that is to be deleted.
async fn webhooks(root: &AttestedChannel, receiver: &Receiver) {
    for id in [HOOK, "to-unhook"] {
        let request = v1::CreateWebhookRequest {
            tenant: names::TENANT.to_owned(),
            id: id.to_owned(),
            url: format!("{}/{HOOK_PATH}", receiver.url),
            kinds: vec![v1::EventKind::PolicyChange.into()],
            from: None,
        };
        answer(root.events().create_webhook(request)).await.unwrap();
    }
}

/// A call that waits for a person.
async fn waiting_call(stack: &Stack) -> String {
    let caller = Caller::of(stack).await.at(LISTED);
    let token = caller.token().await;
    let url = caller.url("/contacts/1");
    let nonce = caller.gateway_nonce().await;
    let proof = caller.proof("GET", &url, &nonce, Some(&token));
    let authorization = format!("DPoP {token}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("dpop", proof.as_str()),
    ];
    let whole = format!("{url}?page={PATH}");
    let reply = caller.https.send(Method::GET, &whole, &headers, "").await;
    assert_eq!(reply.refusal(), (403, "APPROVAL_REQUIRED".to_owned()));
    reply.json()["approval"].as_str().unwrap().to_owned()
}

/// Everything that the victim sees of itself, as text: equal as long as nobody changed anything.
pub(super) async fn state_of_victim(world: &World) -> BTreeMap<String, String> {
    let by = world.party("owner");
    let (mut grants, mut registry) = (by.grants(), by.registry());
    let tenant = || names::TENANT.to_owned();
    let mut state = Vec::new();
    let list = v1::ListGrantsRequest {
        tenant: tenant(),
        ..v1::ListGrantsRequest::default()
    };
    let listed = answer(grants.list_grants(list)).await.unwrap();
    for grant in listed.into_inner().grants {
        state.push((format!("grant {}", grant.id), format!("{grant:?}")));
    }
    let policy = v1::GetPolicyRequest { tenant: tenant() };
    let policy = answer(grants.get_policy(policy)).await.unwrap();
    state.push(("policy".to_owned(), format!("{:?}", policy.into_inner())));
    let freezes = v1::ListFreezesRequest { tenant: tenant() };
    let freezes = answer(grants.list_freezes(freezes)).await.unwrap();
    state.push(("freezes".to_owned(), format!("{:?}", freezes.into_inner())));
    let approvals = v1::ListApprovalsRequest { tenant: tenant() };
    let approvals = answer(grants.list_approvals(approvals)).await.unwrap();
    let mut approvals = approvals.into_inner().approvals;
    for approval in &mut approvals {
        approval.ends_in_s = 0;
    }
    state.push(("approvals".to_owned(), format!("{approvals:?}")));
    let found = v1::GetTenantRequest { id: tenant() };
    let found = answer(registry.get_tenant(found)).await.unwrap();
    state.push(("tenant".to_owned(), format!("{:?}", found.into_inner())));
    let clients = answer(registry.list_clients(v1::ListClientsRequest {
        vendor: names::VENDOR.to_owned(),
        ..v1::ListClientsRequest::default()
    }));
    let clients = clients.await.unwrap().into_inner();
    state.push(("clients".to_owned(), format!("{clients:?}")));
    let apps = answer(registry.list_apps(v1::ListAppsRequest {
        vendor: names::VENDOR.to_owned(),
        ..v1::ListAppsRequest::default()
    }));
    let apps = apps.await.unwrap().into_inner();
    state.push(("apps".to_owned(), format!("{apps:?}")));
    let webhooks = v1::ListWebhooksRequest { tenant: tenant() };
    let webhooks = answer(by.events().list_webhooks(webhooks)).await.unwrap();
    for mut webhook in webhooks.into_inner().webhooks {
        webhook.next = 0;
        state.push((format!("webhook {}", webhook.id), format!("{webhook:?}")));
    }
    let keys = v1::ListKeysRequest { tenant: tenant() };
    let keys = answer(by.keys().list_keys(keys)).await.unwrap();
    state.push(("keys".to_owned(), format!("{:?}", keys.into_inner())));
    let mut from = 0;
    loop {
        let leaves = v1::ListLeavesRequest {
            tenant: tenant(),
            from,
            page_size: 1_000,
            ..v1::ListLeavesRequest::default()
        };
        let page = answer(by.audit().list_leaves(leaves)).await.unwrap();
        let page = page.into_inner();
        for leaf in page.leaves {
            state.push((format!("leaf {}", leaf.index), leaf.event));
        }
        if page.at_end {
            break;
        }
        from = page.next;
    }
    // A test is posted before it is answered.
    let postings = world.receiver.postings().len();
    state.push(("postings".to_owned(), postings.to_string()));
    let introspect = v1::IntrospectTokenRequest {
        token: world.token.clone(),
    };
    let transport = world.caller.channel.transport().clone();
    let grpc = world.caller.grpc().clone();
    let mut tokens = v1::token_service_client::TokenServiceClient::with_origin(transport, grpc);
    let holds = tokens.introspect_token(introspect).await.unwrap();
    state.push(("token".to_owned(), holds.into_inner().active.to_string()));
    state.into_iter().collect()
}

/// A new key for a client: the digest that it is registered by.
pub(super) fn new_spki() -> Vec<u8> {
    use ring::rand::SecureRandom as _;
    let mut spki = vec![0; 32];
    SystemRandom::new().fill(&mut spki).unwrap();
    spki
}

/// A message as bytes.
pub(super) fn bytes(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}
