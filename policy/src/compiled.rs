//! A policy, read once: parsed, named, validated against the schema, and sorted by what each of its policies may
//! concern.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use cedar_policy::{
    ActionConstraint, EntityUid, Policy, PolicyId, PolicySet, ResourceConstraint, ValidationMode,
};
use miette::Diagnostic;
use ring::digest::{SHA256, digest};

use crate::decision::Effect;
use crate::fault::{Fault, Faults, line_in, words_of};
use crate::looks::Looks;
use crate::question::{ACTIONS, Ask, Question};
use crate::schema::validator;
use crate::text;

/// The longest id of a policy in bytes.
const MAX_ID_BYTES: usize = 63;

/// SHA-256 of a policy's text: what the log names it by.
#[must_use]
pub fn digest_of(text: &[u8]) -> [u8; 32] {
    let mut sha256 = [0; 32];
    for (to, from) in sha256.iter_mut().zip(digest(&SHA256, text).as_ref()) {
        *to = *from;
    }
    sha256
}

/// A policy that is ready to decide. Equal if the text is.
pub struct Compiled {
    sha256: [u8; 32],
    text: Box<str>,
    members: Vec<Member>,
    /// What may concern each of [`ACTIONS`].
    slices: [Slice; 2],
}

/// One of its policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) effect: Effect,
    /// Where it begins, from 1.
    pub(crate) line: usize,
}

/// The policies of one action: evaluation takes time in proportion to those that are looked at.
struct Slice {
    /// Those that name no grant in their head.
    common: Concerned,
    /// For each grant that some name: those and the common ones.
    by_grant: HashMap<String, Concerned>,
}

/// What may concern a request.
pub(crate) struct Concerned {
    pub(crate) policies: PolicySet,
    /// What they look at.
    pub(crate) looks: Looks,
}

impl Concerned {
    fn of<'a>(policies: impl Iterator<Item = &'a Policy> + Clone) -> Result<Self, Faults> {
        Ok(Self {
            looks: Looks::of(policies.clone()),
            policies: set_of(policies)?,
        })
    }
}

impl Compiled {
    /// Reads a policy.
    ///
    /// # Errors
    /// [`Faults`]: all that is wrong with it.
    pub fn new(text: &[u8]) -> Result<Self, Faults> {
        if text.len() > text::MAX_TEXT_BYTES {
            return Err(Fault::TooLarge.into());
        }
        let text = str::from_utf8(text).map_err(|_| Fault::NotText)?;
        let named = read(text)?;
        let members = named.iter().map(|(member, _)| member.clone()).collect();
        let slices = ACTIONS.map(|action| Slice::of(&named, action));
        let [issue, call] = slices;
        Ok(Self {
            sha256: digest_of(text.as_bytes()),
            text: text.into(),
            members,
            slices: [issue?, call?],
        })
    }

    /// SHA-256 of its text.
    #[must_use]
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Its text, as it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its policies' ids, in their order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.id.as_str())
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(crate) fn member(&self, id: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// What may concern a request.
    pub(crate) fn about(&self, question: &Question) -> &Concerned {
        let [issue, call] = &self.slices;
        let slice = match question.ask {
            Ask::Issue { .. } => issue,
            Ask::Call { .. } => call,
        };
        let own = slice.by_grant.get(&question.grant);
        own.unwrap_or(&slice.common)
    }
}

impl PartialEq for Compiled {
    fn eq(&self, other: &Self) -> bool {
        self.sha256 == other.sha256
    }
}

impl Eq for Compiled {}

impl Hash for Compiled {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sha256.hash(state);
    }
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiled")
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

/// Parses, names and validates the policies of a text.
pub(crate) fn read(text: &str) -> Result<Vec<(Member, Policy)>, Faults> {
    let lines = text::check(text)?;
    let parsed = PolicySet::from_str(text).map_err(|errors| {
        let each = errors.iter().map(|error| {
            let error: &dyn Diagnostic = error;
            Fault::Syntax {
                line: line_in(text, error).unwrap_or(1),
                words: words_of(error),
            }
        });
        let faults: Vec<Fault> = each.collect();
        Faults::new(faults).unwrap_or_else(|| Fault::Empty.into())
    })?;
    // Cedar numbers them in their order.
    let line = |id: &PolicyId| {
        let id: &str = id.as_ref();
        let at: Option<usize> = id.strip_prefix("policy").and_then(|at| at.parse().ok());
        let line = at.and_then(|at| Some((at, *lines.get(at)?)));
        line.unwrap_or((usize::MAX, 1))
    };
    let mut faults: Vec<Fault> = Vec::new();
    let slots = parsed.templates().map(|template| Fault::Slot {
        line: line(template.id()).1,
    });
    faults.extend(slots);
    let mut in_order: Vec<(usize, usize, &Policy)> = parsed
        .policies()
        .map(|policy| {
            let (at, line) = line(policy.id());
            (at, line, policy)
        })
        .collect();
    in_order.sort_by_key(|(at, _, _)| *at);
    let mut named = Vec::new();
    let mut first_lines: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, line, policy) in in_order {
        let Some(id) = policy.annotation("id") else {
            faults.push(Fault::NoId { line });
            continue;
        };
        if !is_id(id) {
            let id = id.chars().take(MAX_ID_BYTES).collect();
            faults.push(Fault::BadId { line, id });
            continue;
        }
        if let Some(first) = first_lines.insert(id, line) {
            let id = id.to_owned();
            faults.push(Fault::SameId { line, id, first });
            continue;
        }
        let member = Member {
            id: id.to_owned(),
            effect: policy.effect().into(),
            line,
        };
        named.push((member, policy.new_id(PolicyId::new(id))));
    }
    if faults.is_empty() && named.is_empty() {
        faults.push(Fault::Empty);
    }
    if let Some(faults) = Faults::new(faults) {
        return Err(faults);
    }
    validate(text, &named)?;
    Ok(named)
}

/// Holds policies against the schema. What Cedar only warns of, such as a policy that can never apply, is a fault too:
/// whoever wrote it meant something else.
fn validate(text: &str, named: &[(Member, Policy)]) -> Result<(), Faults> {
    let validator = validator().ok_or(Fault::NoSchema)?;
    let result = validator.validate(
        &set_of(named.iter().map(|(_, p)| p))?,
        ValidationMode::Strict,
    );
    let found = |id: &PolicyId, error: &dyn Diagnostic| {
        let id: &str = id.as_ref();
        let begins = named.iter().find(|(member, _)| member.id == id);
        let begins = begins.map_or(1, |(member, _)| member.line);
        let line = line_in(text, error).unwrap_or(begins);
        let words = words_of(error);
        // Cedar begins with the policy, too.
        let own = words.strip_prefix(&format!("for policy `{id}`, "));
        (line, id.to_owned(), own.unwrap_or(&words).to_owned())
    };
    let errors = result.validation_errors().map(|e| found(e.policy_id(), e));
    let warnings = result
        .validation_warnings()
        .map(|w| found(w.policy_id(), w));
    let all: BTreeSet<(usize, String, String)> = errors.chain(warnings).collect();
    let all = all.into_iter();
    let faults = all.map(|(line, id, words)| Fault::Schema { line, id, words });
    Faults::new(faults.collect()).map_or(Ok(()), Err)
}

pub(crate) fn set_of<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
) -> Result<PolicySet, Faults> {
    // Their ids differ.
    PolicySet::from_policies(policies.into_iter().cloned()).map_err(|_| Fault::Empty.into())
}

fn is_id(id: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_ID_BYTES).contains(&id.len())
        && id.bytes().all(fits)
        && !id.starts_with('-')
        && !id.ends_with('-')
        && !id.contains("--")
}

impl Slice {
    /// What may concern an action. The head of a policy is exact: one that names another action or grant there can
    /// neither apply nor fail.
    fn of(named: &[(Member, Policy)], action: &str) -> Result<Self, Faults> {
        let of_action: Vec<&Policy> = named
            .iter()
            .map(|(_, policy)| policy)
            .filter(|policy| is_about(policy, action))
            .collect();
        let grants = of_action.iter().filter_map(|policy| grant_of(policy));
        let grants: BTreeSet<String> = grants.collect();
        let common = Concerned::of(
            of_action
                .iter()
                .copied()
                .filter(|policy| grant_of(policy).is_none()),
        )?;
        let mut by_grant = HashMap::new();
        for grant in grants {
            let own = of_action
                .iter()
                .copied()
                .filter(|policy| grant_of(policy).is_none_or(|of| of == grant));
            by_grant.insert(grant.clone(), Concerned::of(own)?);
        }
        Ok(Self { common, by_grant })
    }
}

fn is_about(policy: &Policy, action: &str) -> bool {
    let is = |uid: &EntityUid| uid.id().unescaped() == action;
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => is(&uid),
        ActionConstraint::In(uids) => uids.iter().any(is),
    }
}

/// The one grant that a policy's head names, if it does.
fn grant_of(policy: &Policy) -> Option<String> {
    match policy.resource_constraint() {
        ResourceConstraint::Eq(uid) => Some(uid.id().unescaped().to_owned()),
        ResourceConstraint::Any
        | ResourceConstraint::In(_)
        | ResourceConstraint::Is(_)
        | ResourceConstraint::IsIn(_, _) => None,
    }
}

#[cfg(test)]
mod tests;
