//! `control-share`: what the tenant's policy and the log cost of an issued token, in CPU time of this process.
//!
//! The product has no switch that leaves them out, and is to have none. So the same number of tokens is issued whole
//! (decided, minted, written, given out, on the store that ships), and then the parts are done alone as often: the
//! decision of the same policy on the same question; a leaf of the same bytes sealed, tagged and written as JSON; the
//! append of that leaf to a store of its own. Rounds alternate, and the medians count.
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    reason = "a program of a campaign says what it measured; what is counted is far below 2^52"
)]

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use broker::store::{EmbeddedStore, FilePolicy};
use clap::Parser;
use dev::fill::{Amount, Opened};
use dev::names;
use enclave::admin::{Administrator, Role, SetPolicy};
use enclave::authenticate::{Credentials, Peer};
use enclave::ids::TenantId;
use enclave::issue::{Binding, Door, IssueRequest, PATH};
use enclave::nonce::Role as NonceRole;
use enclave::seal::SealingKey;
use enclave::store::{Batch, Leaf, Log, Store as _};
use jose::dpop::{ProofParams, random_jti};
use jose::{Alg, SigningKey};
use ring::hmac;
use ring::rand::SystemRandom;
use serde::Serialize;
use serde_json::{Value, json};
use tenant_policy::{Ask, Compiled, Decisions, Question};
use testkit::rounds::median;
use tests::life::cipher;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

type Failure = Box<dyn Error + Send + Sync>;

/// Prints what policy and log cost of an issuance, as JSON.
#[derive(Parser)]
#[command(after_help = "Examples:\n  \
    control-share /tmp/lab\n  \
    control-share /tmp/lab --tokens 20000 --rounds 5")]
struct Cli {
    /// A directory for the lab, which is made there
    dir: PathBuf,
    /// Tokens a round
    #[arg(long, default_value_t = 5_000)]
    tokens: u32,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Policies of the tenant
    #[arg(long, default_value_t = 10)]
    policies: usize,
    /// Do the work of policy and log so many times: what a harness must find out
    #[arg(long, default_value_t = 1)]
    times: u32,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match Box::pin(measure(&cli)).await {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("control-share: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The CPU time of all threads of this process, in nanoseconds [proc(5)].
fn cpu_ns() -> Result<u64, Failure> {
    let mut all_ns = 0;
    for thread in fs::read_dir("/proc/self/task")? {
        // A thread may end meanwhile.
        let Ok(stat) = fs::read_to_string(thread?.path().join("schedstat")) else {
            continue;
        };
        let ns = stat.split_ascii_whitespace().next();
        all_ns += ns
            .and_then(|ns| ns.parse::<u64>().ok())
            .ok_or("schedstat")?;
    }
    Ok(all_ns)
}

/// A policy of that many statements; the last one permits. It looks at the time, so that each decision is made anew: the
/// same client's question comes again here as it would not from many.
fn policy(statements: usize) -> String {
    let mut text = String::new();
    for number in 1..statements {
        text.push_str(&format!(
            "@id(\"s{number}\") forbid(principal == Client::\"other-{number}\", action, resource) \
             when {{ context.target == \"other-{number}\" }};\n"
        ));
    }
    text.push_str(
        "@id(\"all\") permit(principal, action, resource) when { context.weekday < 8 };\n",
    );
    text
}

struct Issuer {
    opened: Opened,
    spki_sha256: [u8; 32],
    resource: String,
    key: SigningKey,
}

impl Issuer {
    async fn open(dir: &Path, policy: &str) -> Result<Self, Failure> {
        let amount = Amount {
            grants: 1,
            tenants: 1,
            token_bytes: 100,
            policies: false,
        };
        Box::pin(dev::fill::fill(dir, amount)).await?;
        let opened = Box::pin(dev::fill::open(dir)).await?;
        let rng = SystemRandom::new();
        let key = SigningKey::from_pkcs8(&SigningKey::generate(Alg::Es256, &rng)?, &rng)?;
        let enclave = &opened.shell.enclave;
        let tenant = TenantId::parse(names::TENANT)?;
        let owner = Administrator {
            name: "owner".to_owned(),
            spki_sha256: [0; 32],
            roles: vec![Role::Tenant(tenant.clone())],
        };
        let change = SetPolicy {
            tenant,
            text: Some(policy.as_bytes()),
            sequence: 0,
            signature: &[],
        };
        let set = enclave.set_policy(&owner, &change, &opened.shell.clock.now())?;
        let set = set.commit(&*opened.shell.store).await?;
        enclave.release(set, &opened.shell.clock.now())?;
        Ok(Self {
            spki_sha256: opened.files.client_spki_sha256()?,
            resource: format!(
                "{}/g/grant-0000000/{}",
                enclave.config().gateway_origin,
                names::TARGET
            ),
            key,
            opened,
        })
    }

    fn proof(&self) -> Result<String, Failure> {
        let (rng, shell) = (SystemRandom::new(), &self.opened.shell);
        let now = shell.clock.now();
        let params = ProofParams {
            htm: "POST",
            htu: &format!("{}{PATH}", shell.enclave.config().grpc_origin),
            iat_s: now.lo_s,
            jti: &random_jti(&rng)?,
            nonce: Some(&shell.enclave.dpop_nonce(NonceRole::Token, &now)),
            access_token: None,
        };
        Ok(params.sign(&self.key, &rng)?)
    }

    async fn issue(&self, proof: &str) -> Result<(), Failure> {
        let shell = &self.opened.shell;
        let request = IssueRequest {
            door: Door::Grpc,
            credentials: Credentials {
                peer: Peer {
                    spki_sha256: Some(self.spki_sha256),
                    ..Peer::default()
                },
                ..Credentials::default()
            },
            binding: Binding::Proof(vec![proof.as_bytes()]),
            grant: Some("grant-0000000"),
            resource: &self.resource,
            scopes: &[],
            actors: &[],
        };
        let pending = shell.enclave.issue(&request, &shell.clock.now())?;
        let durable = pending.commit(&*shell.store).await?;
        black_box(shell.enclave.release(durable, &shell.clock.now())?);
        Ok(())
    }

    /// The newest leaf, as the store has it.
    fn leaf(&self) -> Result<Vec<u8>, Failure> {
        let store = &self.opened.shell.store;
        let count = store.leaf_count(Log::Issuance)?;
        let leaves = store.leaves(Log::Issuance, count.saturating_sub(1), 1)?;
        leaves.into_iter().next().ok_or_else(|| "no leaf".into())
    }
}

/// So many of something at once, each of them once.
const UNDER_WAY: usize = 64;

/// The CPU time of doing something for each of these, in nanoseconds each.
async fn each<T, F>(of: Vec<T>, work: impl Fn(T) -> F) -> Result<f64, Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let count = of.len();
    let begun = cpu_ns()?;
    let mut under_way = JoinSet::new();
    for one in of {
        if under_way.len() >= UNDER_WAY
            && let Some(done) = under_way.join_next().await
        {
            done??;
        }
        under_way.spawn(work(one));
    }
    while let Some(done) = under_way.join_next().await {
        done??;
    }
    Ok((cpu_ns()? - begun) as f64 / count as f64)
}

/// The parts of an issuance that are policy and log, alone.
struct Parts {
    compiled: Compiled,
    decisions: Decisions,
    question: Question,
    key: SealingKey,
    outer: Outer,
    event: Event,
    store: EmbeddedStore,
}

/// What all see of a leaf.
#[derive(Clone, Serialize)]
struct Outer {
    v: u8,
    boot: String,
    at_s: u64,
    kind: String,
    tenant: String,
    seq: u64,
    private: String,
}

/// What is sealed in it.
#[derive(Clone, Serialize)]
struct Event {
    event: &'static str,
    grant: &'static str,
    client: &'static str,
    rest: String,
}

/// The parts that are measured.
#[derive(Clone, Copy)]
enum Part {
    Decision,
    Leaf,
    All,
}

impl Parts {
    fn new(dir: &Path, policy: &str, issuer: &Issuer) -> Result<Self, Failure> {
        let outer: Value = serde_json::from_slice(&issuer.leaf()?)?;
        // As long as the event that is sealed in that leaf: what sealing adds is taken off.
        let sealed = outer
            .get("private")
            .and_then(Value::as_str)
            .ok_or("a leaf's form")?;
        let event_bytes = Base64UrlUnpadded::decode_vec(sealed)?
            .len()
            .saturating_sub(48);
        let mut event = Event {
            event: "token_issued",
            grant: "grant-0000000",
            client: names::CLIENT,
            rest: String::new(),
        };
        let bytes = serde_json::to_vec(&event)?.len();
        event.rest = "x".repeat(event_bytes.saturating_sub(bytes));
        let seen = |name: &str| {
            let text = outer.get(name).and_then(Value::as_str);
            text.map(str::to_owned).ok_or("a leaf's form")
        };
        let outer = Outer {
            v: 1,
            boot: seen("boot")?,
            at_s: 1_800_000_000,
            kind: seen("kind")?,
            tenant: seen("tenant")?,
            seq: 1_000_000,
            private: sealed.to_owned(),
        };
        let text = |text: &str| text.to_owned();
        let (store, _report) = EmbeddedStore::open(
            dir,
            cipher(),
            SystemRandom::new(),
            FilePolicy::default(),
            Box::new(|_kind| std::process::abort()),
        )?;
        Ok(Self {
            compiled: Compiled::new(policy.as_bytes()).map_err(|faults| faults.to_string())?,
            decisions: Decisions::default(),
            question: Question {
                client: text(names::CLIENT),
                vendor: text(names::VENDOR),
                grant: text("grant-0000000"),
                app: text(names::APP),
                provider: text(names::PROVIDER),
                grant_scopes: names::SCOPES.map(text).to_vec(),
                grant_targets: vec![text(names::TARGET)],
                target: text(names::TARGET),
                scopes: names::SCOPES.map(text).to_vec(),
                key: "k".repeat(43),
                binding: tenant_policy::Binding::Dpop,
                tier: text("emulated"),
                address: None,
                at_s: 1_800_000_000,
                ask: Ask::Issue {
                    audience: issuer.resource.clone(),
                },
            },
            key: SealingKey::new(Zeroizing::new([9; 32])),
            outer,
            event,
            store,
        })
    }

    fn decide(&self) -> Result<(), Failure> {
        // As the enclave asks.
        let question = black_box(&self.question).clone();
        let decision = self.decisions.decide(&self.compiled, question);
        let permitted = black_box(decision).permitted;
        permitted
            .then_some(())
            .ok_or_else(|| "the policy denies".into())
    }

    fn leaf(&self) -> Result<Leaf, Failure> {
        let event = serde_json::to_vec(&self.event)?;
        let tag = hmac::Key::new(hmac::HMAC_SHA256, self.key.expose_first());
        let tag = hmac::sign(&tag, names::TENANT.as_bytes());
        let sealed = self
            .key
            .seal(&SystemRandom::new(), b"leaf", tag.as_ref(), &event)?;
        let outer = Outer {
            tenant: Base64UrlUnpadded::encode_string(tag.as_ref()),
            private: Base64UrlUnpadded::encode_string(&sealed),
            ..self.outer.clone()
        };
        Ok(Leaf::new(Log::Issuance, serde_json::to_vec(&outer)?))
    }

    async fn some(&self, part: Part, times: u32) -> Result<(), Failure> {
        for _ in 0..times {
            if matches!(part, Part::Decision | Part::All) {
                self.decide()?;
            }
            if matches!(part, Part::Decision) {
                continue;
            }
            let leaf = black_box(self.leaf()?);
            if matches!(part, Part::Leaf) {
                continue;
            }
            let batch = Batch {
                writes: Vec::new(),
                leaves: vec![leaf],
            };
            let _receipt = black_box(self.store.commit(batch).await?);
        }
        Ok(())
    }
}

async fn measure(cli: &Cli) -> Result<Value, Failure> {
    let policy = policy(cli.policies);
    let issuer = Arc::new(Box::pin(Issuer::open(&cli.dir.join("lab"), &policy)).await?);
    // What is cached is cached then, and there is a leaf to look at.
    for _ in 0..20 {
        issuer.issue(&issuer.proof()?).await?;
    }
    let parts = cli.dir.join("parts");
    fs::create_dir_all(&parts)?;
    let parts = Arc::new(Parts::new(&parts, &policy, &issuer)?);
    let (mut whole_ns, mut parts_ns, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    let (mut decision_ns, mut leaf_ns) = (Vec::new(), Vec::new());
    for _ in 0..cli.rounds {
        let proofs: Result<Vec<String>, Failure> =
            (0..cli.tokens).map(|_| issuer.proof()).collect();
        let whole = each(proofs?, |proof| {
            let issuer = Arc::clone(&issuer);
            async move { issuer.issue(&proof).await }
        });
        let whole = whole.await?;
        let times = cli.times;
        let some = async |part| {
            let done = each((0..cli.tokens).collect(), |_number: u32| {
                let parts = Arc::clone(&parts);
                async move { parts.some(part, times).await }
            });
            done.await
        };
        let alone = some(Part::All).await?;
        decision_ns.push(some(Part::Decision).await?);
        leaf_ns.push(some(Part::Leaf).await?);
        whole_ns.push(whole);
        parts_ns.push(alone);
        shares.push(100.0 * alone / whole);
    }
    issuer.opened.shell.store.close();
    parts.store.close();
    Ok(json!({
        "issuance_us": median(&whole_ns) / 1_000.0,
        "policy_and_audit_us": median(&parts_ns) / 1_000.0,
        "of_which_decision_us": median(&decision_ns) / 1_000.0,
        "of_which_leaf_us": median(&leaf_ns) / 1_000.0,
        "share_percent": median(&shares),
        "rounds": cli.rounds,
        "tokens": cli.tokens,
        "policies": cli.policies,
    }))
}
