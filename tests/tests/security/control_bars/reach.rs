//! What clients reach with a valid key: random grants, resources, scopes and actors asked for, random calls made, in
//! this process, and each answer held against the [`oracle`].
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a failed test may panic"
)]

use std::iter;
use std::sync::Arc;
use std::thread;

use attestation::{DepositContext, DepositEnvelope};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use enclave::admin::{DepositRequest, FreezeRequest, NewApp, Role, SetPolicy};
use enclave::authenticate::{Credentials, Peer};
use enclave::freeze::Subject;
use enclave::gateway::GatewayRequest;
use enclave::http_url::HttpUrl;
use enclave::issue::{Binding, Door, IssueRequest};
use enclave::limits::Limits;
use enclave::nonce::Role as NonceRole;
use enclave::operation::{Operation, OperationName, PathTemplate};
use enclave::profile::Profile;
use enclave::registry::{
    Api, App, AuthMethod, Client, ClientKind, Grant, Provider, Rotation, Target, Tenant, Vendor,
};
use enclave::scope::Scopes;
use enclave::terms::GrantTerms;
use enclave::time::Now;
use http::{HeaderMap, HeaderValue, Method, header};
use jose::SigningKey;
use jose::dpop::{ProofParams, random_jti};
use ring::rand::SystemRandom;
use serde_json::Value;
use tests::core::{self, BEGIN, Core};
use tests::dice::Dice;

use super::foreign::look_alike;
use super::oracle::{
    APPS, Agreed, CLIENTS, CallAsk, Fate, May, OPERATIONS, SCOPES, TARGETS, TENANTS, TokenAsk,
    agreed, direct, may_call, may_issue, policy,
};
use super::{SEED, judge_none, runs};

const GATEWAY: &str = "https://127.0.0.1:7445";

/// When grants that end have ended, and tokens still live.
const LATER: Now = Now {
    lo_s: BEGIN.lo_s + 100,
    hi_s: BEGIN.hi_s + 100,
    mono_ms: BEGIN.mono_ms + 100_000,
};

/// What is planted, so that something passes that the oracle knows nothing of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Planted {
    Nothing,
    /// A grant that was deposited with one scope more.
    Scope,
    /// One whose operations were left out, so that all pass.
    Operations,
    /// A tenant whose policy was never set.
    Policy,
}

/// The enclave with everything in it, and what it was agreed to be.
struct Field {
    core: Core,
    grants: Vec<Agreed>,
    /// By the order of [`CLIENTS`].
    keys: Vec<SigningKey>,
}

fn id<T: TryFrom<String>>(text: &str) -> T {
    T::try_from(text.to_owned()).ok().unwrap()
}

fn place_of(client: &str) -> usize {
    CLIENTS.iter().position(|(id, _)| *id == client).unwrap()
}

fn peer(client: &str) -> Peer {
    let number = u8::try_from(place_of(client)).unwrap();
    Peer {
        spki_sha256: Some([0x40 + number; 32]),
        ..Peer::default()
    }
}

fn operations() -> Vec<Operation> {
    let listed = OPERATIONS
        .iter()
        .map(|(id_, method, path, query, body)| Operation {
            id: id(id_),
            method: (*method).to_owned(),
            path: PathTemplate::try_from((*path).to_owned()).unwrap(),
            query: query.iter().map(|name| (*name).to_owned()).collect(),
            content_types: body.iter().map(|(of, _)| (*of).to_owned()).collect(),
            max_body_bytes: body.map(|(_, most)| most),
        });
    listed.collect()
}

impl Field {
    async fn new(planted: Planted) -> Self {
        let mut roles = vec![Role::Operator];
        roles.extend(TENANTS.map(|tenant| Role::Tenant(id(tenant))));
        roles.extend(["sync", "bots"].map(|vendor| Role::Vendor(id(vendor))));
        let field = Self {
            core: Core::bare(roles).await,
            grants: agreed(&mut Dice::new(SEED)),
            keys: CLIENTS.iter().map(|_| core::key()).collect(),
        };
        field.register().await;
        for grant in &field.grants {
            field.deposit(grant, planted).await;
        }
        for tenant in TENANTS {
            let Some(statements) = policy(tenant).filter(|_| planted != Planted::Policy) else {
                continue;
            };
            let text: Vec<&str> = statements.iter().map(|statement| statement.0).collect();
            let text = text.join("\n");
            let change = SetPolicy {
                tenant: id(tenant),
                text: Some(text.as_bytes()),
                sequence: 0,
                signature: &[],
            };
            let (core, by) = (&field.core, field.core.administrator());
            let set = core.enclave.set_policy(by, &change, &BEGIN);
            core.settle(set.unwrap()).await;
        }
        field
    }

    async fn register(&self) {
        let (core, by, now) = (&self.core, self.core.administrator(), &BEGIN);
        let e = &core.enclave;
        for tenant in TENANTS {
            let tenant = Tenant {
                id: id(tenant),
                display_name: String::new(),
                limits: Limits::default(),
            };
            core.settle(e.create_tenant(by, tenant, now).unwrap()).await;
        }
        for vendor in ["sync", "bots"] {
            let vendor = Vendor {
                id: id(vendor),
                display_name: String::new(),
            };
            core.settle(e.create_vendor(by, vendor, now).unwrap()).await;
        }
        for (client, vendor) in CLIENTS {
            let client = Client {
                id: id(client),
                vendor: id(vendor),
                tls_spki_sha256: peer(client).spki_sha256,
                jwks: Vec::new(),
                spiffe_id: None,
                limits: Limits::default(),
                kind: ClientKind::default(),
            };
            core.settle(e.create_client(by, client, now).unwrap()).await;
        }
        for provider in ["crm", "mail"] {
            let url = |path: &str| HttpUrl::parse(&format!("http://127.0.0.1:1/{path}")).unwrap();
            let api = |name: &str| match name {
                "api" => Api::Gateway {
                    base_url: url("api"),
                    tenant_hosts: false,
                    operations: operations(),
                    upstream_resource: None,
                },
                "raw" => Api::behind_gateway(url("raw")),
                _ => Api::Direct {
                    resource: direct(provider),
                },
            };
            let targets = TARGETS.iter().map(|name| Target {
                name: id(name),
                api: api(name),
            });
            let provider = Provider {
                id: id(provider),
                issuer: None,
                consent: None,
                token_endpoint: url("token"),
                revocation_endpoint: None,
                rotation: Rotation::Strict,
                targets: targets.collect(),
                profile: Profile::default(),
                made_from: None,
            };
            core.settle(e.create_provider(by, provider, now).unwrap())
                .await;
        }
        for (app, vendor, provider) in APPS {
            let new = NewApp {
                app: App {
                    id: id(app),
                    vendor: id(vendor),
                    provider: id(provider),
                    oauth_client_id: app.to_owned(),
                    auth_method: AuthMethod::None,
                    key: None,
                },
                sealed_client_secret: &[],
            };
            core.settle(e.create_app(by, new, now).unwrap()).await;
        }
    }

    async fn deposit(&self, agreed: &Agreed, planted: Planted) {
        let (core, by) = (&self.core, self.core.administrator());
        let e = &core.enclave;
        let context = DepositContext {
            tenant: agreed.tenant,
            app: agreed.app.0,
            grant: &agreed.id,
            kind: "refresh-token",
            bundle_digest: &e.bundle().digest,
        };
        let public = *e.keys().hpke_public();
        let sealed = DepositEnvelope::seal(&public, &context, b"refresh", &SystemRandom::new());
        let sealed = sealed.unwrap();
        let sealed = [sealed.encapsulated_key(), sealed.ciphertext()].concat();
        let mut scopes = agreed.scopes.clone();
        if planted == Planted::Scope {
            let missing = SCOPES.iter().find(|scope| !scopes.contains(scope));
            scopes.extend(missing);
        }
        let named = |ids: &[&str]| -> Vec<OperationName> {
            let parse = |op: &&str| OperationName::parse(&format!("api/{op}")).unwrap();
            ids.iter().map(parse).collect()
        };
        let operations = match planted {
            Planted::Operations => Vec::new(),
            _ => named(&agreed.operations),
        };
        let terms = GrantTerms {
            max_actor_depth: u32::try_from(agreed.actors).unwrap(),
            approval_operations: named(&agreed.approvals),
            ..GrantTerms::default()
        };
        let request = DepositRequest {
            grant: Grant {
                id: id(&agreed.id),
                tenant: id(agreed.tenant),
                app: id(agreed.app.0),
                clients: agreed.clients.iter().map(|client| id(client)).collect(),
                targets: agreed.targets.iter().map(|target| id(target)).collect(),
                scopes: Scopes::parse(scopes).unwrap(),
                created_at_s: 0,
                expires_at_s: (agreed.fate == Fate::Expired).then_some(BEGIN.hi_s + 60),
                operations,
                hosts: Vec::new(),
                terms: terms.or_none(),
                allow_upstream_bound: false,
            },
            sealed_refresh_token: &sealed,
            rotate: false,
            only_new: false,
        };
        core.settle(e.deposit(by, request, &BEGIN).unwrap()).await;
    }

    /// What was to become of the grants.
    async fn come_to_an_end(&self) {
        let (core, by) = (&self.core, self.core.administrator());
        for grant in &self.grants {
            match grant.fate {
                Fate::Lives | Fate::Expired => {}
                Fate::Frozen => {
                    let request = FreezeRequest {
                        subject: Subject::Grant(id(&grant.id)),
                        tenant: Some(id(grant.tenant)),
                        reason: String::new(),
                    };
                    let frozen = core.enclave.freeze(by, request, &LATER);
                    core.settle(frozen.unwrap()).await;
                }
                Fate::Revoked => {
                    let grant = id(&grant.id);
                    let revoked = core.enclave.revoke_grant(by, &grant, "", &LATER);
                    core.settle(revoked.unwrap()).await;
                }
            }
        }
    }

    fn proof(
        &self,
        client: &str,
        htm: &str,
        htu: &str,
        role: NonceRole,
        token: Option<&str>,
        now: &Now,
    ) -> String {
        let rng = SystemRandom::new();
        let nonce = self.core.enclave.dpop_nonce(role, now);
        let params = ProofParams {
            htm,
            htu,
            iat_s: now.lo_s,
            jti: &random_jti(&rng).unwrap(),
            nonce: Some(&nonce),
            access_token: token,
        };
        params.sign(&self.keys[place_of(client)], &rng).unwrap()
    }

    /// The token that comes of an ask, if one does.
    async fn issue(&self, ask: &TokenAsk, now: &Now) -> Option<String> {
        let htu = format!("{}{}", core::GRPC, enclave::issue::PATH);
        let proof = self.proof(ask.client, "POST", &htu, NonceRole::Token, None, now);
        let request = IssueRequest {
            door: Door::Grpc,
            credentials: Credentials {
                peer: peer(ask.client),
                ..Credentials::default()
            },
            binding: Binding::Proof(vec![proof.as_bytes()]),
            grant: ask.grant.as_deref(),
            resource: &ask.resource,
            scopes: &ask.scopes,
            actors: &ask.actors,
        };
        let pending = self.core.enclave.issue(&request, now).ok()?;
        let issued = self.core.conclude(pending, now).await.ok()?;
        Some(issued.access_token)
    }

    /// Whether a call may go upstream.
    async fn call(&self, ask: &CallAsk, token: &str, now: &Now) -> bool {
        let htu = format!("{GATEWAY}{}", ask.path);
        let role = NonceRole::Gateway;
        let proof = self.proof(ask.client, &ask.method, &htu, role, Some(token), now);
        let mut headers = HeaderMap::new();
        let authorization = HeaderValue::from_str(&format!("DPoP {token}")).unwrap();
        headers.insert(header::AUTHORIZATION, authorization);
        headers.insert("dpop", HeaderValue::from_str(&proof).unwrap());
        for content_type in &ask.content_types {
            headers.append(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        let request = GatewayRequest {
            method: &Method::from_bytes(ask.method.as_bytes()).unwrap(),
            authority: "127.0.0.1:7445",
            path: &ask.path,
            query: ask.query.as_deref(),
            headers: &headers,
            body_bytes: ask.body_bytes,
            peer: &peer(ask.client),
        };
        match self.core.enclave.admit(&request, now) {
            Ok(pending) => self.core.conclude(pending, now).await.is_ok(),
            Err(_) => false,
        }
    }

    fn resource(&self, grant: &Agreed, target: &str) -> String {
        match target {
            "direct" => direct(grant.app.2),
            target => format!("{GATEWAY}/g/{}/{target}", grant.id),
        }
    }

    fn token_ask(&self, dice: &mut Dice) -> TokenAsk {
        let grant = dice.pick(&self.grants);
        // As the grant has it, and then nothing, one or several things changed.
        let mut ask = TokenAsk {
            client: dice.pick::<&str>(&grant.clients),
            grant: (!dice.once_in(4)).then(|| grant.id.clone()),
            resource: self.resource(grant, dice.pick::<&str>(&grant.targets)),
            scopes: Vec::new(),
            actors: (0..dice.place(grant.actors + 1))
                .map(|n| format!("actor-{n}"))
                .collect(),
        };
        for _ in 0..dice.place(3) {
            ask.scopes.push((*dice.pick(&grant.scopes)).to_owned());
        }
        for _ in 0..dice.place(3) {
            let other = dice.pick(&self.grants);
            match dice.below(9) {
                0 => ask.client = dice.pick(&CLIENTS).0,
                1 => ask.grant = Some(other.id.clone()),
                2 => ask.grant = None,
                3 => ask.grant = Some(look_alike(&grant.id, dice)),
                4 => ask.resource = self.resource(other, dice.pick::<&str>(&TARGETS)),
                5 => ask.resource = self.resource(grant, dice.pick::<&str>(&TARGETS)),
                6 => ask.resource = distorted(&ask.resource, dice),
                7 => {
                    let strange = ["READ", "read.all", "*", "super", "read,write"];
                    let scope = match dice.once_in(2) {
                        true => dice.pick::<&str>(&SCOPES),
                        false => dice.pick::<&str>(&strange),
                    };
                    ask.scopes.push((*scope).to_owned());
                }
                _ => ask.actors.push("one-more".to_owned()),
            }
        }
        ask
    }
}

/// A resource that is nearly another.
fn distorted(resource: &str, dice: &mut Dice) -> String {
    match dice.below(9) {
        0 => format!("{resource}/"),
        1 => format!("{resource}?x=1"),
        2 => format!("{resource}#x"),
        3 => resource.to_uppercase(),
        4 => resource.replace("/g/", "/g/../g/"),
        5 => resource.replace("/g/", "/g%2f"),
        6 => resource.replace("https://", "http://"),
        7 => format!("{resource}/contacts"),
        _ => resource.replace("127.0.0.1", "localhost"),
    }
}

/// What somebody got that they may not have.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "it is shown when there is any")]
enum Passed {
    Token { ask: TokenAsk, told: String },
    Call { ask: CallAsk },
}

/// What came of many asks.
#[derive(Debug, Default)]
struct Tally {
    asked: usize,
    /// Those that the oracle lets pass, and how many of them did.
    allowed: usize,
    passed: usize,
    out_of_policy: Vec<Passed>,
}

impl Tally {
    fn add(mut self, other: Self) -> Self {
        self.asked += other.asked;
        self.allowed += other.allowed;
        self.passed += other.passed;
        self.out_of_policy.extend(other.out_of_policy);
        self
    }

    /// A harness that asks for nothing good, or gets nothing, says nothing.
    fn is_fair(&self) -> bool {
        self.allowed * 10 >= self.asked && self.passed == self.allowed
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// The same work in two threads, each from a seed of its own.
fn in_threads(times: usize, work: impl Fn(usize, Dice) -> Tally + Sync) -> Tally {
    let work = &work;
    let half = times.div_ceil(2);
    thread::scope(|scope| {
        let threads = [1, 2].map(|seed| scope.spawn(move || work(half, Dice::new(SEED + seed))));
        let tallies = threads.map(|thread| thread.join().unwrap());
        tallies.into_iter().fold(Tally::default(), Tally::add)
    })
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&Base64UrlUnpadded::decode_vec(payload).unwrap()).unwrap()
}

/// Whether a token says what it may, and no more.
fn says(field: &Field, token: &str, ask: &TokenAsk, may: &May) -> bool {
    let claims = claims(token);
    let key = field.keys[place_of(ask.client)].public_key();
    let chain = iter::successors(claims.get("act"), |act| act.get("act"));
    let actors: Vec<&str> = chain.map(|act| act["sub"].as_str().unwrap()).collect();
    let at_s = |claim: &str| claims[claim].as_u64().unwrap();
    let lifetime_s = at_s("exp").saturating_sub(at_s("iat"));
    let most_s = field.core.enclave.config().token_lifetime_s;
    let mut scopes: Vec<&str> = claims["scope"].as_str().unwrap().split(' ').collect();
    scopes.sort_unstable();
    claims["aud"] == ask.resource.as_str()
        && claims["client_id"] == ask.client
        && claims["grant"] == may.grant.as_str()
        && scopes == may.scopes
        && claims["cnf"]["jkt"] == key.thumbprint().to_string()
        && actors == ask.actors
        && (1..=most_s).contains(&lifetime_s)
}

fn ask_for_tokens(field: &Field, times: usize) -> Tally {
    block_on(field.come_to_an_end());
    in_threads(times, |times, mut dice| {
        let mut tally = Tally::default();
        for _ in 0..times {
            let ask = field.token_ask(&mut dice);
            let may = may_issue(&field.grants, GATEWAY, &ask, true);
            let token = block_on(field.issue(&ask, &LATER));
            tally.asked += 1;
            tally.allowed += usize::from(may.is_some());
            match (&token, &may) {
                (Some(token), Some(may)) if says(field, token, &ask, may) => tally.passed += 1,
                (Some(token), _) => tally.out_of_policy.push(Passed::Token {
                    told: claims(token).to_string(),
                    ask,
                }),
                (None, _) => {}
            }
        }
        tally
    })
}

/// A token as it was issued when all grants lived.
struct Held {
    client: &'static str,
    may: May,
    actors: usize,
    token: String,
}

async fn tokens(field: &Field) -> Vec<Held> {
    let mut held = Vec::new();
    for grant in &field.grants {
        for client in &grant.clients {
            for target in ["api", "raw"] {
                for scopes in [Vec::new(), vec![grant.scopes[0]]] {
                    for actors in [0, grant.actors] {
                        let ask = TokenAsk {
                            client,
                            grant: Some(grant.id.clone()),
                            resource: field.resource(grant, target),
                            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
                            actors: (0..actors).map(|n| format!("actor-{n}")).collect(),
                        };
                        let Some(may) = may_issue(&field.grants, GATEWAY, &ask, false) else {
                            continue;
                        };
                        let token = field.issue(&ask, &BEGIN).await.unwrap();
                        held.push(Held {
                            client,
                            may,
                            actors,
                            token,
                        });
                    }
                }
            }
        }
    }
    assert!(held.len() > 50, "{}", held.len());
    held
}

/// A call as it may be made, and then nothing, one or several things changed.
pub(super) fn call_of(
    grants: &[Agreed],
    client: &'static str,
    may: &May,
    actors: usize,
    dice: &mut Dice,
) -> CallAsk {
    let (grant, target) = (&may.grant, may.target);
    let operation = *dice.pick(&OPERATIONS);
    let mut rest = operation
        .2
        .replace("{id:integer}", "7")
        .replace("{path:path}", "a/b.txt");
    let mut ask = CallAsk {
        client,
        token: may.clone(),
        actors,
        method: operation.1.to_owned(),
        path: String::new(),
        query: None,
        content_types: operation.4.iter().map(|(of, _)| *of).collect(),
        body_bytes: Some(if operation.4.is_some() { 20 } else { 0 }),
    };
    let mut prefix = format!("/g/{grant}/{target}");
    for _ in 0..dice.place(3) {
        let other = dice.pick(grants);
        let rests = [
            "",
            "/",
            "/contacts/",
            "/CONTACTS",
            "/contacts/x",
            "/contacts/7/",
            "/contacts/%37",
            "/contacts/-7",
            "/contacts/7/notes",
            "/contacts//7",
            "/files/",
            "/files/../contacts",
            "/files/%2e%2e/contacts/7",
            "/files/a/../../contacts",
            "/files/..%2fcontacts",
            "/contacts;x=1",
            "/contacts/7;x",
            "/admin",
            "/./contacts",
            "/contacts/7%00",
            "/files/a%5c..%5cb",
            "/%63ontacts",
            "/contacts/%0a7",
            "/files/a%252f..",
        ];
        match dice.below(9) {
            0 => {
                let methods = [
                    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE",
                    "get",
                ];
                (*dice.pick::<&str>(&methods)).clone_into(&mut ask.method);
            }
            1 => (*dice.pick::<&str>(&rests)).clone_into(&mut rest),
            2 => rest.push_str(dice.pick::<&str>(&rests)),
            3 => prefix = format!("/g/{}/{target}", other.id),
            4 => prefix = format!("/g/{grant}/{}", dice.pick::<&str>(&TARGETS)),
            5 => prefix = format!("/g/{}/{target}", look_alike(grant, dice)),
            6 => {
                let queries = [
                    "page=1",
                    "limit=5",
                    "page=1&limit=2",
                    "admin=1",
                    "page=1&admin=1",
                    "p%61ge=1",
                    "page=1;admin=1",
                    "notify",
                    "",
                    "=",
                    "page",
                    "PAGE=1",
                    "%70age=1&x",
                    "page=1&page=2",
                ];
                ask.query = Some((*dice.pick::<&str>(&queries)).to_owned());
            }
            7 => {
                let types: [&[&str]; 6] = [
                    &[],
                    &["application/json"],
                    &["text/plain"],
                    &["application/json; charset=utf-8"],
                    &["Application/JSON"],
                    &["application/json", "text/plain"],
                ];
                ask.content_types = dice.pick(&types).to_vec();
            }
            _ => {
                ask.body_bytes = *dice.pick(&[
                    None,
                    Some(0),
                    Some(1),
                    Some(1_000),
                    Some(1_001),
                    Some(1 << 40),
                ])
            }
        }
    }
    ask.path = format!("{prefix}{rest}");
    ask
}

fn make_calls(field: &Field, times: usize) -> Tally {
    let held = block_on(tokens(field));
    block_on(field.come_to_an_end());
    let held = &held;
    in_threads(times, |times, mut dice| {
        let mut tally = Tally::default();
        for _ in 0..times {
            let one = dice.pick(held);
            let ask = call_of(&field.grants, one.client, &one.may, one.actors, &mut dice);
            // What is no path or header value does not get as far as this.
            if ask.path.parse::<http::uri::PathAndQuery>().is_err() {
                continue;
            }
            let may = may_call(&field.grants, &ask);
            let passed = block_on(field.call(&ask, &one.token, &LATER));
            tally.asked += 1;
            tally.allowed += usize::from(may);
            match (passed, may) {
                (true, true) => tally.passed += 1,
                (true, false) => tally.out_of_policy.push(Passed::Call { ask }),
                (false, _) => {}
            }
        }
        tally
    })
}

/// Whether what may pass passed, but for a few spellings that the product refuses on purpose.
fn is_fair_of_calls(tally: &Tally) -> bool {
    tally.allowed * 10 >= tally.asked && tally.passed * 10 >= tally.allowed * 9
}

async fn field(planted: Planted) -> Arc<Field> {
    Arc::new(Field::new(planted).await)
}

#[test]
fn control_bar_no_token_is_out_of_policy() {
    let field = block_on(field(Planted::Nothing));
    let tally = ask_for_tokens(&field, runs(100_000, 800));
    let Tally {
        asked,
        allowed,
        passed,
        ..
    } = tally;
    assert!(tally.is_fair(), "{passed} of {allowed} of {asked}");
    judge_none("out_of_policy_tokens", &tally.out_of_policy, asked);
}

#[test]
fn control_bar_no_call_is_out_of_policy() {
    let field = block_on(field(Planted::Nothing));
    // A few are no requests at all.
    let tally = make_calls(&field, runs(110_000, 800));
    let Tally {
        asked,
        allowed,
        passed,
        ..
    } = tally;
    assert!(is_fair_of_calls(&tally), "{passed} of {allowed} of {asked}");
    judge_none("out_of_policy_upstream_calls", &tally.out_of_policy, asked);
}

#[test]
fn control_bar_canary_what_a_grant_does_not_have_is_seen_to_pass() {
    for planted in [Planted::Scope, Planted::Policy] {
        let field = block_on(field(planted));
        let tally = ask_for_tokens(&field, 600);
        assert!(!tally.out_of_policy.is_empty(), "{planted:?}");
    }
    for planted in [Planted::Operations, Planted::Policy] {
        let field = block_on(field(planted));
        let tally = make_calls(&field, 600);
        assert!(!tally.out_of_policy.is_empty(), "{planted:?}");
    }
}
