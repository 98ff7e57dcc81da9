//! `incident`: a vendor is compromised. The tenant stops it, the logs prove what was issued and that nothing came after,
//! the provider is told, and auditors get a file.

mod heard;

use std::io;
use std::sync::Arc;

use attestation::Verdict;
use proto::v1;
use proto::v1::freeze_subject::Subject;
use serde_json::Value;
use testkit::provider::Event as ProviderEvent;
use tokenkeep::audit::web::{Trust, Web, WebError};
use tokenkeep::audit::{Auditor, LogKeys, Receipt, Source};
use tokenkeep::dpop_key::DpopKeyError;
use tokenkeep::rpc_error::answer;
use tokenkeep::token_client::TokenError;
use tokenkeep::{
    AccessToken, AttestedChannel, Clock as _, ConnectError, DpopKey, GatewayClient, RpcError,
    Signer, SystemClock, TokenClient, TokenRequest, evidence_bundle,
};

use self::heard::{Events, Heard};
use crate::call::get;
use crate::demo::{DemoError, theft};
use crate::lab::LabError;
use crate::names::{CLIENT, GRANT, TENANT, VENDOR};
use crate::screen::Screen;
use crate::stack::{Logs, Stack, StackError};
use crate::stop::StopSignals;
use crate::thief::CarelessSigner;
use crate::up::temporary;

/// The leaves by which a token leaves: the service's own, or the provider's own bound to the client's key.
const TOKENS: [&str; 2] = ["token_issued", "upstream_token_released"];

/// The leaves by which anything of the tenant's leaves.
const RELEASES: [&str; 3] = ["token_issued", "upstream_token_released", "gateway_call"];

/// As many refusals as make a burst.
const TRIES: u32 = 12;

/// Why the walk ended early.
#[derive(Debug, thiserror::Error)]
pub enum IncidentError {
    /// A step had another outcome than it must have.
    #[error("{step}: expected {expected}, found {found}")]
    Wrong {
        /// Which.
        step: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it was.
        found: String,
    },
    /// SIGTERM or SIGINT came.
    #[error("the walk was stopped")]
    Stopped,
    /// A file or a signal.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// What the thief tries is tried in the demo, too.
    #[error(transparent)]
    Theft(#[from] Box<DemoError>),
    /// The stack.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A token.
    #[error("no token: {0}")]
    Token(#[from] TokenError),
    /// A call.
    #[error(transparent)]
    Call(#[from] tokenkeep::gateway::CallError),
    /// The service refused what it must not.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The thief's key.
    #[error(transparent)]
    Key(#[from] DpopKeyError),
    /// The public listener.
    #[error(transparent)]
    Web(#[from] WebError),
    /// A log or a bundle is not what it must be.
    #[error("{what}: {why}")]
    Evidence {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
}

fn wrong(step: &'static str, expected: &'static str, found: impl ToString) -> IncidentError {
    IncidentError::Wrong {
        step,
        expected,
        found: found.to_string(),
    }
}

fn evidence(what: &'static str) -> impl Fn(&dyn std::error::Error) -> IncidentError {
    move |error| IncidentError::Evidence {
        what,
        why: error.to_string(),
    }
}

fn io_error(what: &'static str) -> impl Fn(io::Error) -> IncidentError {
    move |error| IncidentError::Io { what, error }
}

/// Walks through an incident. Done only if each outcome is as it must be.
///
/// # Errors
/// [`IncidentError`]: the first outcome that is not as it must be.
pub async fn incident(colour: bool) -> Result<(), IncidentError> {
    let mut signals = StopSignals::listen().map_err(io_error("the signals can't be heard"))?;
    let mut screen = Screen::new(colour);
    tokio::select! {
        walked = Box::pin(walk(&mut screen)) => walked,
        () = signals.asked() => Err(IncidentError::Stopped),
    }
}

async fn walk(screen: &mut Screen) -> Result<(), IncidentError> {
    let folder = temporary().map_err(io_error("no temporary directory"))?;
    screen.step("Before: Acme's data is read by CRM Sync, a vendor, through the enclave.");
    let stack = Box::pin(Stack::start(folder.path(), Logs::ToFile)).await?;
    stack.furnish().await?;
    let vendor = Vendor::of(&stack).await?;
    let token = vendor.token().await?;
    vendor.reads(&stack).await?;
    screen.good("200", "the integration reads Acme's contacts");
    let mut events = Events::watch(&stack.admin().await?).await?;

    screen.step("Compromise: somebody has the vendor's database, logs and caches.");
    let url = format!("{}/contacts", stack.resource());
    let stolen = theft(
        &stack,
        &vendor.channel,
        &vendor.signer,
        &token,
        &url,
        screen,
    );
    Box::pin(stolen).await.map_err(Box::new)?;

    screen.step("Worse: the vendor's private key is gone, too. Its certificate opens the door.");
    let thief = Arc::new(DpopKey::generate()?);
    let stolen = ask(&vendor.channel, &thief, &stack.resource()).await?;
    if let Err(error) = stolen {
        return Err(wrong("a token by the stolen key", "a token", error));
    }
    screen.good(
        "issued",
        "a token, to the thief's own DPoP key: within the grant, for minutes, and written down first",
    );

    screen.step("Freeze: Acme stops the vendor, for itself, without asking anybody.");
    let frozen = freeze(&stack).await?;
    let freeze_event = events.next(v1::EventKind::Freeze).await?;
    screen.good(
        "frozen",
        format_args!(
            "vendor {VENDOR}; an event says so, leaf {}",
            freeze_event.position
        ),
    );
    for (who, key) in [("the thief", &thief), ("the vendor", &vendor.key)] {
        let refused = refusal(ask(&vendor.channel, key, &stack.resource()).await?);
        if refused != "FROZEN" {
            return Err(wrong("a token after the freeze", "FROZEN", refused));
        }
        screen.refused(format_args!("a token for {who}: FROZEN"));
    }
    let (status, received) = Box::pin(get(&vendor.gateway, &url)).await?;
    if status.as_u16() != 403 || !received.contains("\"FROZEN\"") {
        return Err(wrong("a call after the freeze", "403 FROZEN", received));
    }
    screen.refused("a call with a token that was issued before: 403 (FROZEN)");
    for _ in 0..TRIES {
        drop(ask(&vendor.channel, &thief, &stack.resource()).await?);
    }
    let burst = events.next(v1::EventKind::DeniedBurst).await?;
    screen.good(
        "told",
        format_args!(
            "the thief goes on trying: {} refusals of {CLIENT} at {GRANT}, in one event",
            burst.member("refusals")
        ),
    );

    screen.step("Proof: what was issued, to which key, and that nothing came after the freeze.");
    Box::pin(prove(
        &stack,
        &freeze_event,
        &frozen,
        &vendor,
        &thief,
        screen,
    ))
    .await?;

    screen.step("Revoke: the refresh token leaves custody, and the provider is told.");
    Box::pin(revoke(&stack, &mut events, screen)).await?;

    screen.step("After: the grant is deleted, the vendor thawed. It has nothing to come back to.");
    Box::pin(end(&stack, &vendor, &mut events, screen)).await?;

    screen.step("For auditors: one signed file, verified without the service.");
    Box::pin(bundle(&stack, screen)).await?;
    stack.stop().await?;
    screen.say(
        "\nAll as it must be. docs/incident.md has the same with the commands of a security team.",
    );
    Ok(())
}

/// The integration, as its vendor runs it.
struct Vendor {
    channel: AttestedChannel,
    key: Arc<DpopKey>,
    signer: Arc<CarelessSigner>,
    tokens: Arc<TokenClient>,
    gateway: GatewayClient,
    resource: String,
}

impl Vendor {
    async fn of(stack: &Stack) -> Result<Self, IncidentError> {
        let channel = stack.client().await?;
        let key = Arc::new(stack.files().dpop_key()?);
        let signer = Arc::new(CarelessSigner::new(stack.files().dpop_key()?));
        let tokens = Arc::new(TokenClient::new(
            &channel,
            Arc::clone(&signer) as Arc<dyn Signer>,
        ));
        Ok(Self {
            gateway: GatewayClient::new(&channel, Arc::clone(&tokens))?,
            resource: stack.resource(),
            channel,
            key,
            signer,
            tokens,
        })
    }

    async fn token(&self) -> Result<Arc<AccessToken>, IncidentError> {
        let request = TokenRequest::new(GRANT, &self.resource);
        Ok(Box::pin(self.tokens.token(&request)).await?)
    }

    async fn reads(&self, stack: &Stack) -> Result<(), IncidentError> {
        let url = format!("{}/contacts", stack.resource());
        let (status, received) = Box::pin(get(&self.gateway, &url)).await?;
        if status.as_u16() == 200 && received.contains("Ada Lovelace") {
            Ok(())
        } else {
            Err(wrong("a call before", "200 and Acme's contacts", received))
        }
    }
}

/// A token by the vendor's connection and this key, past every cache.
async fn ask(
    channel: &AttestedChannel,
    key: &Arc<DpopKey>,
    resource: &str,
) -> Result<Result<(), TokenError>, IncidentError> {
    let tokens = TokenClient::new(channel, Arc::clone(key) as Arc<dyn Signer>);
    let request = TokenRequest::new(GRANT, resource);
    Ok(Box::pin(tokens.token(&request)).await.map(|_| ()))
}

/// The reason of a refusal; what else it was.
fn refusal(asked: Result<(), TokenError>) -> String {
    match asked {
        Ok(()) => "a token".to_owned(),
        Err(TokenError::Rpc(error)) => match error.reason() {
            Some(reason) => reason.to_owned(),
            None => error.message().to_owned(),
        },
        Err(error) => error.to_string(),
    }
}

fn vendor_subject() -> Option<v1::FreezeSubject> {
    Some(v1::FreezeSubject {
        subject: Some(Subject::Vendor(VENDOR.to_owned())),
    })
}

async fn freeze(stack: &Stack) -> Result<v1::Freeze, IncidentError> {
    let request = v1::FreezeRequest {
        subject: vendor_subject(),
        reason: "its keys were stolen".to_owned(),
        tenant: TENANT.to_owned(),
    };
    let admin = stack.admin().await?;
    let frozen = answer(admin.grants().freeze(request)).await?.into_inner();
    frozen
        .freeze
        .ok_or_else(|| wrong("the freeze", "what is frozen", "nothing"))
}

/// A leaf of the tenant's, opened.
struct Own {
    number: u64,
    kind: String,
    event: Value,
}

/// All leaves of the tenant, from both logs.
async fn own_leaves(admin: &AttestedChannel) -> Result<Vec<Own>, IncidentError> {
    let logs = answer(admin.audit().list_logs(v1::ListLogsRequest::default())).await?;
    let mut found = Vec::new();
    for log in logs.into_inner().logs {
        let mut from = 0;
        loop {
            let request = v1::ListLeavesRequest {
                log: log.origin.clone(),
                from,
                page_size: 0,
                tenant: TENANT.to_owned(),
            };
            let page = answer(admin.audit().list_leaves(request))
                .await?
                .into_inner();
            found.extend(page.leaves.iter().filter_map(opened));
            from = page.next;
            if page.at_end {
                break;
            }
        }
    }
    found.sort_by_key(|leaf| leaf.number);
    Ok(found)
}

fn opened(leaf: &v1::Leaf) -> Option<Own> {
    let entry: Value = serde_json::from_str(&leaf.entry).ok()?;
    Some(Own {
        number: entry.get("seq")?.as_u64()?,
        kind: entry.get("kind")?.as_str()?.to_owned(),
        event: serde_json::from_str(&leaf.event).ok()?,
    })
}

async fn prove(
    stack: &Stack,
    frozen: &Heard,
    freeze: &v1::Freeze,
    vendor: &Vendor,
    thief: &DpopKey,
    screen: &Screen,
) -> Result<(), IncidentError> {
    let admin = stack.admin().await?;
    let keys = LogKeys::from_bundle(admin.bundle());
    let keys = keys.map_err(|error| evidence("the log key")(&error))?;

    // All logs, from the public listener's tiles, as anybody reads them.
    let trust = Trust::Der(admin.bundle().enclave_ca_der.clone());
    let web = Web::new(&admin.bundle().public_origin, &trust)?;
    let mut auditor = Auditor::new(keys.clone());
    let source = Source::Web(Arc::new(web));
    let report = auditor.verify(&source, &mut |_| {}).await;
    let report = report.map_err(|error| evidence("the logs")(&error))?;
    if report.found > 0 {
        return Err(wrong("the logs", "no fault", report.to_json()));
    }
    screen.good(
        "verified",
        format_args!(
            "{} leaves of {} logs, by the log key alone",
            report.leaves,
            report.logs.len()
        ),
    );

    // The freeze stands in the log.
    let control = keys.origin(&tokenkeep::audit::LogName::Control);
    let control = control.map_err(|error| evidence("the control log")(&error))?;
    let receipt = v1::Receipt {
        log: control.to_string(),
        index: frozen.position,
        leaf_hash: frozen.leaf_hash.clone(),
    };
    let receipt = Receipt::try_from(receipt).map_err(|error| evidence("the event")(&error))?;
    let request = v1::ProveInclusionRequest {
        log: String::new(),
        index: frozen.position,
    };
    let proved = answer(admin.audit().prove_inclusion(request)).await?;
    let proved = receipt.proved(&keys, proved.into_inner());
    proved.map_err(|error| evidence("the freeze's proof")(&error))?;
    screen.good(
        "proved",
        format_args!(
            "the freeze is leaf {} of the control log, number {} of Acme's own, at unix time {}",
            frozen.position, frozen.number, freeze.since_s
        ),
    );

    // None of Acme's leaves is missing, and none behind the freeze releases anything.
    let own = own_leaves(&admin).await?;
    let numbers: Vec<u64> = own.iter().map(|leaf| leaf.number).collect();
    let count = u64::try_from(numbers.len()).unwrap_or(u64::MAX);
    if numbers != (1..=count).collect::<Vec<u64>>() {
        return Err(wrong("Acme's leaves", "1, 2, 3, …", format!("{numbers:?}")));
    }
    let releases = |leaf: &&Own| RELEASES.contains(&leaf.kind.as_str());
    let after = own.iter().filter(releases);
    let after = after.filter(|leaf| leaf.number > frozen.number).count();
    if after > 0 {
        return Err(wrong("after the freeze", "no token and no call", after));
    }
    let issued = own
        .iter()
        .filter(|leaf| TOKENS.contains(&leaf.kind.as_str()));
    let keys_of: Vec<&str> = issued
        .filter_map(|leaf| leaf.event.get("jkt").and_then(Value::as_str))
        .collect();
    let by = |jkt: String| keys_of.iter().filter(|found| **found == jkt).count();
    let (own_tokens, stolen) = (
        by(vendor.key.jkt().to_string()),
        by(thief.jkt().to_string()),
    );
    if own_tokens == 0 || stolen != 1 {
        return Err(wrong(
            "the tokens of each key",
            "some of the vendor's, one of the thief's",
            format!("{own_tokens} and {stolen}"),
        ));
    }
    screen.good(
        "complete",
        format_args!(
            "Acme's {count} leaves have no gap: {own_tokens} token of the vendor's key, {stolen} of a foreign one, \
             none after number {}",
            frozen.number
        ),
    );
    Ok(())
}

async fn revoke(stack: &Stack, events: &mut Events, screen: &Screen) -> Result<(), IncidentError> {
    let admin = stack.admin().await?;
    let request = v1::RevokeGrantRequest {
        id: GRANT.to_owned(),
        reason: "incident".to_owned(),
    };
    answer(admin.grants().revoke_grant(request)).await?;
    events.next(v1::EventKind::GrantEnded).await?;
    let told = events.next(v1::EventKind::ProviderTold).await?;
    let outcome = told.member("outcome");
    if outcome != "proved" {
        return Err(wrong("the provider", "proved", outcome));
    }
    screen.good(
        "proved",
        format_args!(
            "the provider answered that the token is not valid any more, leaf {}",
            told.position
        ),
    );
    let ledger = stack.provider().ledger();
    let revoked = ledger
        .entries
        .iter()
        .any(|entry| matches!(entry.event, ProviderEvent::Revoked { .. }));
    if !revoked {
        return Err(wrong("the provider's own record", "a revocation", "none"));
    }
    screen.good("agrees", "the provider's own record has the revocation");
    Ok(())
}

async fn end(
    stack: &Stack,
    vendor: &Vendor,
    events: &mut Events,
    screen: &Screen,
) -> Result<(), IncidentError> {
    let admin = stack.admin().await?;
    let request = v1::DeleteGrantRequest {
        id: GRANT.to_owned(),
    };
    answer(admin.grants().delete_grant(request)).await?;
    let request = v1::ThawRequest {
        subject: vendor_subject(),
        tenant: TENANT.to_owned(),
    };
    answer(admin.grants().thaw(request)).await?;
    events.next(v1::EventKind::Thaw).await?;
    let refused = refusal(ask(&vendor.channel, &vendor.key, &stack.resource()).await?);
    if refused == "a token" || refused == "FROZEN" {
        return Err(wrong("a token after the end", "no such grant", refused));
    }
    screen.refused(format_args!(
        "a token after the thaw: {refused}. A new consent, and a new key of the vendor's, are a new beginning"
    ));
    Ok(())
}

async fn bundle(stack: &Stack, screen: &Screen) -> Result<(), IncidentError> {
    let admin = stack.admin().await?;
    let nonce = *admin.inspection().bundle_digest();
    let bundle = evidence_bundle::fetch(&admin, TENANT, &nonce).await;
    let bundle = bundle.map_err(|error| evidence("the evidence bundle")(&error))?;
    let verification = stack.files().verification()?;
    let at_s = SystemClock.unix_time_s();
    let findings = evidence_bundle::check(&bundle, &verification, Some(&nonce), at_s);
    if findings.verdict != Verdict::Accept || findings.contents.grants != 0 {
        return Err(wrong(
            "the evidence bundle",
            "accept, and no grant",
            format!("{findings:?}"),
        ));
    }
    screen.good(
        "accepted",
        format_args!(
            "{} parts under one signature: what runs, its manifest, heads of {} logs, no grant of {TENANT} left",
            bundle.parts().len(),
            findings.contents.logs.len()
        ),
    );
    Ok(())
}
