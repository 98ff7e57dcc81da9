//! A tenant's own policy: what it says of a request that the grant allows, and what the log says of that.
//!
//! Where a tenant has set no policy, all passes that its grants allow. A policy that this build can't read denies all:
//! it is neither passed over nor does it stop the service.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tenant_policy::{Ask, Binding, Compiled, Decision, Question, digest_of};

use crate::Enclave;
use crate::audit::Event;
use crate::freeze::Touched;
use crate::ids::{TargetName, TenantId};
use crate::mint::{Confirmation, token_id};
use crate::pending::Pending;
use crate::policy::Denied;
use crate::record::RecordError;
use crate::registry::{Client, Grant};
use crate::scope::Scopes;
use crate::seal::SealError;
use crate::store::Batch;
use crate::time::Now;
use crate::view::View;

/// A tenant's policy as it is stored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    sequence: u64,
    text: Option<String>,
    set_at_s: u64,
    by: String,
    signer: Option<[u8; 32]>,
}

/// A tenant's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TenantPolicy {
    pub(crate) tenant: TenantId,
    /// Rises with each change, from 1.
    pub(crate) sequence: u64,
    /// Unix time in seconds.
    pub(crate) set_at_s: u64,
    /// The administrator's name.
    pub(crate) by: String,
    /// SHA-256 of the SubjectPublicKeyInfo of the owner's key that signed the change, if it was signed.
    pub(crate) signer: Option<[u8; 32]>,
    pub(crate) rules: Rules,
}

/// What a policy consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// It was removed.
    Removed,
    /// It decides.
    Compiled(Arc<Compiled>),
    /// This build can't read it.
    Unusable {
        text: Arc<str>,
        sha256: [u8; 32],
        why: String,
    },
}

impl TenantPolicy {
    /// Its record.
    pub(crate) fn to_record(&self) -> Result<Vec<u8>, RecordError> {
        let text = match &self.rules {
            Rules::Removed => None,
            Rules::Compiled(compiled) => Some(compiled.text()),
            Rules::Unusable { text, .. } => Some(&**text),
        };
        let stored = Stored {
            sequence: self.sequence,
            text: text.map(str::to_owned),
            set_at_s: self.set_at_s,
            by: self.by.clone(),
            signer: self.signer,
        };
        serde_json::to_vec(&stored).map_err(|_| RecordError::Schema)
    }

    /// Reads its record, and the policy by the schema of this build.
    pub(crate) fn from_record(tenant: TenantId, body: &[u8]) -> Result<Self, RecordError> {
        let Stored {
            sequence,
            text,
            set_at_s,
            by,
            signer,
        } = serde_json::from_slice(body).map_err(|_| RecordError::Schema)?;
        let rules = match text {
            None => Rules::Removed,
            Some(text) => match Compiled::new(text.as_bytes()) {
                Ok(compiled) => Rules::Compiled(Arc::new(compiled)),
                Err(faults) => Rules::Unusable {
                    sha256: digest_of(text.as_bytes()),
                    text: text.into(),
                    why: faults.to_string(),
                },
            },
        };
        Ok(Self {
            tenant,
            sequence,
            set_at_s,
            by,
            signer,
            rules,
        })
    }

    /// SHA-256 of its text; none if it was removed.
    pub(crate) fn sha256(&self) -> Option<[u8; 32]> {
        match &self.rules {
            Rules::Removed => None,
            Rules::Compiled(compiled) => Some(*compiled.sha256()),
            Rules::Unusable { sha256, .. } => Some(*sha256),
        }
    }
}

/// A request that the grant allows, as a policy is asked about it. Cheap to keep, so that it can be asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) client: Arc<Client>,
    pub(crate) grant: Arc<Grant>,
    pub(crate) target: TargetName,
    pub(crate) scopes: Scopes,
    pub(crate) cnf: Confirmation,
    pub(crate) tier: String,
    pub(crate) address: Option<IpAddr>,
    /// Unix time in seconds: the latest that it may be.
    pub(crate) at_s: u64,
    pub(crate) ask: Ask,
}

/// By which policy a request was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ruled {
    /// The policy's number; 0 if there was none yet.
    sequence: u64,
    asked: Asked,
}

/// What a leaf says of the policy that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Mark {
    sequence: u64,
    sha256: String,
    /// The policies that made the decision.
    by: Vec<String>,
    /// Those that could not be evaluated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<String>,
}

/// What became of a question to a policy.
#[derive(Debug)]
pub(crate) enum Rule<T> {
    /// It passes; where a policy decided, the leaf says so.
    Passed(Option<Mark>),
    /// It does not. The refusal waits for its leaf.
    Refused(Pending<T>),
}

/// A policy's answer.
enum Verdict {
    NotAsked,
    Permitted(Mark),
    Denied(Mark),
    Unusable(Mark),
}

impl Asked {
    fn question(&self, view: &View) -> Question {
        let provider = view.apps.get(&self.grant.app);
        let provider = provider.map(|app| app.value.provider.as_str().to_owned());
        let scopes = |scopes: &Scopes| Vec::<String>::from(scopes.clone());
        Question {
            client: self.client.id.as_str().to_owned(),
            vendor: self.client.vendor.as_str().to_owned(),
            grant: self.grant.id.as_str().to_owned(),
            app: self.grant.app.as_str().to_owned(),
            provider: provider.unwrap_or_default(),
            grant_scopes: scopes(&self.grant.scopes),
            grant_targets: self
                .grant
                .targets
                .iter()
                .map(|target| target.as_str().to_owned())
                .collect(),
            target: self.target.as_str().to_owned(),
            scopes: scopes(&self.scopes),
            key: self.cnf.thumbprint().to_owned(),
            binding: match self.cnf {
                Confirmation::Jkt(_) => Binding::Dpop,
                Confirmation::X5tS256(_) => Binding::Mtls,
            },
            tier: self.tier.clone(),
            address: self.address,
            at_s: self.at_s,
            ask: self.ask.clone(),
        }
    }
}

fn sequence(view: &View, tenant: &TenantId) -> u64 {
    view.policies
        .get(tenant)
        .map_or(0, |held| held.value.sequence)
}

fn verdict(
    view: &View,
    asked: &Asked,
    decide: impl FnOnce(&Compiled, Question) -> Decision,
) -> Verdict {
    let Some(held) = view.policies.get(&asked.grant.tenant) else {
        return Verdict::NotAsked;
    };
    let policy = &*held.value;
    let mark = |sha256: &[u8; 32], by, failed| Mark {
        sequence: policy.sequence,
        sha256: hex::encode(sha256),
        by,
        failed,
    };
    match &policy.rules {
        Rules::Removed => Verdict::NotAsked,
        Rules::Unusable { sha256, .. } => Verdict::Unusable(mark(sha256, Vec::new(), Vec::new())),
        Rules::Compiled(compiled) => {
            let decision = decide(compiled, asked.question(view));
            let mark = mark(compiled.sha256(), decision.policies, decision.failed);
            if decision.permitted {
                Verdict::Permitted(mark)
            } else {
                Verdict::Denied(mark)
            }
        }
    }
}

/// Why a request that was decided must not go on, if its tenant's policy was changed since and does not permit it any
/// more.
pub(crate) fn overtaken(view: &View, ruled: &Ruled) -> Option<Denied> {
    if sequence(view, &ruled.asked.grant.tenant) == ruled.sequence {
        return None;
    }
    let decide = |policy: &Compiled, question| policy.decide(&question);
    match verdict(view, &ruled.asked, decide) {
        Verdict::NotAsked | Verdict::Permitted(_) => None,
        Verdict::Denied(_) | Verdict::Unusable(_) => Some(Denied::PolicyChanged),
    }
}

impl Enclave {
    /// Asks the tenant's policy, and notes in `touched` what to ask again before anything is released.
    pub(crate) fn rule<T>(
        &self,
        view: &View,
        asked: Asked,
        touched: &mut Touched,
        now: &Now,
    ) -> Result<Rule<T>, SealError> {
        let decide = |policy: &Compiled, question| self.decisions.decide(policy, question);
        let verdict = verdict(view, &asked, decide);
        let (mark, unusable) = match verdict {
            Verdict::NotAsked => return Ok(Rule::Passed(passed(view, asked, touched, None))),
            Verdict::Permitted(mark) => {
                return Ok(Rule::Passed(passed(view, asked, touched, Some(mark))));
            }
            Verdict::Denied(mark) => (mark, false),
            Verdict::Unusable(mark) => (mark, true),
        };
        self.count_denial(view, &asked.client.id, &asked.grant.id, now);
        let decision = token_id(&*self.rng)?;
        let (operation, method) = match &asked.ask {
            Ask::Issue { .. } => (None, None),
            Ask::Call { operation, method } => (
                Some(operation.as_str()).filter(|operation| !operation.is_empty()),
                Some(method.as_str()),
            ),
        };
        let event = Event::PolicyDenied {
            decision: &decision,
            action: asked.ask.action(),
            grant: &asked.grant.id,
            client: &asked.client.id,
            target: asked.target.as_str(),
            operation,
            method,
            scope: asked.scopes.to_string(),
            cnf: asked.cnf.clone(),
            unusable,
            policy: &mark,
        };
        let leaf = self.leaf(view, Some(&asked.grant.tenant), &event, now)?;
        let batch = Batch {
            writes: Vec::new(),
            leaves: vec![leaf],
        };
        let denied = if unusable {
            Denied::PolicyUnusable { decision }
        } else {
            Denied::Policy { decision }
        };
        Ok(Rule::Refused(Pending::refused(batch, denied)))
    }
}

fn passed(view: &View, asked: Asked, touched: &mut Touched, mark: Option<Mark>) -> Option<Mark> {
    let sequence = sequence(view, &asked.grant.tenant);
    touched.ruled = Some(Arc::new(Ruled { sequence, asked }));
    mark
}
