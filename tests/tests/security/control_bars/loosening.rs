//! What lets more pass than before takes the tenant's own word: the signature of its owner over a change of its policy,
//! its owner's own connection for the terms and limits. Random changes by everybody, with the signatures that a thief
//! could have; whether a change loosens is decided here, by what would pass before and after it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use attestation::manifest::sign_policy_change;
use dev::names;
use proto::v1;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use secrecy::ExposeSecret as _;
use tenant_policy::PolicyChange;
use tests::dice::Dice;
use tokenkeep::rpc_error::answer;

use super::world::{LISTED, World};
use super::{SEED, judge_none, runs};

/// Who sets policies, terms and limits; the first two may, the first one alone may loosen terms and limits.
const SETTERS: [&str; 7] = [
    "owner",
    "security",
    "auditor",
    "vendor",
    "operator",
    "other-owner",
    "other-security",
];

/// A request as policies of this test tell requests apart.
#[derive(Clone, Copy)]
struct Asked {
    client: &'static str,
    /// The method of a call; none for a token.
    method: Option<&'static str>,
    scope: &'static str,
}

/// Each request that there is.
fn universe() -> Vec<Asked> {
    let mut all = Vec::new();
    for client in ["crm-sync-worker", "other-worker"] {
        for method in [None, Some("GET"), Some("POST"), Some("DELETE")] {
            for scope in ["contacts.read", "contacts.write"] {
                all.push(Asked {
                    client,
                    method,
                    scope,
                });
            }
        }
    }
    all
}

/// A statement without its id: its text, whether it permits, what it applies to.
type Statement = (&'static str, bool, fn(&Asked) -> bool);

const STATEMENTS: [Statement; 9] = [
    ("permit(principal, action, resource);", true, |_| true),
    (
        "permit(principal, action == Action::\"issue\", resource);",
        true,
        |asked| asked.method.is_none(),
    ),
    (
        "permit(principal, action == Action::\"call\", resource) when { context.method == \"GET\" };",
        true,
        |asked| asked.method == Some("GET"),
    ),
    (
        "permit(principal == Client::\"crm-sync-worker\", action == Action::\"call\", resource);",
        true,
        |asked| asked.client == "crm-sync-worker" && asked.method.is_some(),
    ),
    (
        "permit(principal, action, resource) when { context.scopes.contains(\"contacts.read\") };",
        true,
        |asked| asked.scope == "contacts.read",
    ),
    (
        "forbid(principal, action == Action::\"call\", resource) when { context.method == \"DELETE\" };",
        false,
        |asked| asked.method == Some("DELETE"),
    ),
    (
        "forbid(principal == Client::\"other-worker\", action, resource);",
        false,
        |asked| asked.client == "other-worker",
    ),
    (
        "forbid(principal, action, resource) when { context.scopes.contains(\"contacts.write\") };",
        false,
        |asked| asked.scope == "contacts.write",
    ),
    (
        "forbid(principal, action == Action::\"issue\", resource) when { context.scopes.contains(\"contacts.read\") };",
        false,
        |asked| asked.method.is_none() && asked.scope == "contacts.read",
    ),
];

/// The statements of a policy, by number; none if there is no policy.
type Chosen = Option<Vec<usize>>;

fn text(chosen: &[usize]) -> String {
    let lines = chosen
        .iter()
        .map(|number| format!("@id(\"s{number}\")\n{}\n", STATEMENTS[*number].0));
    lines.collect()
}

fn passes(chosen: &Chosen, asked: &Asked) -> bool {
    let Some(chosen) = chosen else {
        return true;
    };
    let applies = |permits: bool| {
        let mut of = chosen.iter().map(|number| &STATEMENTS[*number]);
        of.any(|statement| statement.1 == permits && statement.2(asked))
    };
    applies(true) && !applies(false)
}

/// Whether anything passes after it that did not before.
fn opens(before: &Chosen, after: &Chosen) -> bool {
    let mut all = universe().into_iter();
    all.any(|asked| passes(after, &asked) && !passes(before, &asked))
}

/// What somebody brought about without the tenant's word.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "it is shown when there is any")]
struct Loosened {
    by: &'static str,
    with: &'static str,
    change: String,
}

/// How often each thing went as it should.
#[derive(Debug, Default)]
struct Tally {
    tried: usize,
    loosened: Vec<Loosened>,
    /// Loosening changes that were signed by the owner, and taken.
    signed: usize,
    /// Changes that tighten, without a signature, and taken.
    tightened: usize,
    /// Loosening terms and limits that the owner set.
    widened: usize,
}

/// A signature as a thief could have it.
const SIGNATURES: [&str; 10] = [
    "the owner's",
    "none",
    "another tenant's owner's",
    "the guard's",
    "a vendor's",
    "over another policy",
    "over another number",
    "over another tenant's",
    "over another service's",
    "an old one",
];

/// The tenant's policy as it should stand, and all signatures that ever were good.
struct Policies {
    chosen: Chosen,
    text: Option<String>,
    sequence: u64,
    old: Vec<String>,
}

fn sha256(text: &str) -> [u8; 32] {
    digest(&SHA256, text.as_bytes())
        .as_ref()
        .try_into()
        .unwrap()
}

impl Policies {
    fn signature(&self, world: &World, with: &str, after: Option<&str>, dice: &mut Dice) -> String {
        let before = self.text.as_deref().map(sha256);
        let change = PolicyChange {
            issuer: world.stack.url("issuer"),
            tenant: names::TENANT,
            sequence: self.sequence + 1,
            before,
            after: after.map(sha256),
        };
        let other = sha256("another policy");
        let (key, change) = match with {
            "none" => return String::new(),
            "an old one" => return dice.pick(&self.old).clone(),
            "another tenant's owner's" => ("other-owner", change),
            "the guard's" => ("security", change),
            "a vendor's" => ("vendor", change),
            "over another policy" => {
                let one = dice.once_in(2);
                let change = PolicyChange {
                    before: if one { Some(other) } else { before },
                    after: if one { change.after } else { Some(other) },
                    ..change
                };
                ("owner", change)
            }
            "over another number" => {
                let sequence = *dice.pick(&[0, self.sequence, self.sequence + 2]);
                ("owner", PolicyChange { sequence, ..change })
            }
            "over another tenant's" => {
                let tenant = *dice.pick(&["mallory", "Acme", "acme "]);
                ("owner", PolicyChange { tenant, ..change })
            }
            "over another service's" => {
                let issuer = *dice.pick(&["https://keep.example", ""]);
                ("owner", PolicyChange { issuer, ..change })
            }
            _ => ("owner", change),
        };
        let key = world.key(key);
        let signed = sign_policy_change(
            &change.to_text(),
            key.secret_pkcs8_der(),
            &SystemRandom::new(),
        );
        signed.unwrap()
    }

    /// One random change of the policy.
    async fn change(&mut self, world: &World, tally: &mut Tally, dice: &mut Dice) {
        let next: Chosen = match dice.once_in(12) {
            true => None,
            false => {
                let mut some: Vec<usize> = self.chosen.clone().unwrap_or_default();
                for number in 0..STATEMENTS.len() {
                    if dice.once_in(4) {
                        match some.iter().position(|chosen| *chosen == number) {
                            Some(at) => drop(some.remove(at)),
                            None => some.push(number),
                        }
                    }
                }
                if some.is_empty() {
                    some.push(0);
                }
                Some(some)
            }
        };
        let text = next.as_deref().map(text);
        let opens = opens(&self.chosen, &next);
        // Enough of what the tenant itself does.
        let (by, with) = match dice.below(4) {
            0 => ("owner", "the owner's"),
            1 => (*dice.pick(&SETTERS[..2]), "none"),
            _ => (*dice.pick(&SETTERS), *dice.pick(&SIGNATURES)),
        };
        let signature = self.signature(world, with, text.as_deref(), dice);
        let request = v1::SetPolicyRequest {
            tenant: names::TENANT.to_owned(),
            text: text.clone().unwrap_or_default(),
            remove: text.is_none(),
            sequence: self.sequence,
            signature: signature.clone().into_bytes(),
        };
        let set = world.party(by).grants().set_policy(request).await;
        tally.tried += 1;
        if set.is_err() {
            return;
        }
        let may_set = ["owner", "security"].contains(&by);
        let owners = with == "the owner's";
        if !may_set || (opens && !owners) {
            tally.loosened.push(Loosened {
                by,
                with,
                change: format!("{:?} -> {next:?}", self.chosen),
            });
        }
        tally.signed += usize::from(opens && owners);
        tally.tightened += usize::from(!opens && with == "none");
        if owners {
            self.old.push(signature);
        }
        (self.chosen, self.text, self.sequence) = (next, text, self.sequence + 1);
    }
}

/// A limit: amount, seconds, burst. None lets all pass.
type Limit = Option<(u64, u32, u64)>;

/// How many pass within so many seconds at most.
fn pass_within(limit: Limit, seconds: u64) -> f64 {
    let Some((amount, period_s, burst)) = limit else {
        return f64::INFINITY;
    };
    let burst = if burst == 0 { amount } else { burst };
    burst as f64 + amount as f64 * seconds as f64 / f64::from(period_s)
}

fn limit_opens(before: Limit, after: Limit) -> bool {
    let windows = [0, 1, 60, 3_600, 86_400, 31_536_000];
    windows
        .into_iter()
        .any(|seconds| pass_within(after, seconds) > pass_within(before, seconds))
}

fn a_limit(dice: &mut Dice) -> Limit {
    (!dice.once_in(3)).then(|| {
        let amount = *dice.pick(&[1_000, 10_000, 60_000]);
        let burst = *dice.pick(&[0, 1_000, 100_000]);
        (amount, *dice.pick(&[1, 60, 3_600]), burst)
    })
}

fn message(limit: Limit) -> Option<v1::Limits> {
    let tokens = limit.map(|(amount, period_s, burst)| v1::Limit {
        amount,
        period_s,
        burst,
    });
    Some(v1::Limits {
        tokens,
        ..v1::Limits::default()
    })
}

/// The terms of a grant, as far as they are changed here.
#[derive(Clone, Debug, Default, PartialEq)]
struct Terms {
    limit: Limit,
    at_target: Limit,
    review_at_s: u64,
    sleep_after_s: u64,
    actors: u32,
    approves: bool,
}

impl Terms {
    fn random(&self, dice: &mut Dice) -> Self {
        let mut terms = self.clone();
        for _ in 0..=dice.place(2) {
            match dice.below(6) {
                0 => terms.limit = a_limit(dice),
                1 => terms.at_target = a_limit(dice),
                2 => terms.review_at_s = *dice.pick(&[0, 2_000_000_000, 2_100_000_000]),
                3 => terms.sleep_after_s = *dice.pick(&[0, 1_000_000, 2_000_000]),
                4 => terms.actors = *dice.pick(&[0, 1, 3]),
                _ => terms.approves = dice.once_in(2),
            }
        }
        terms
    }

    fn opens(&self, after: &Self) -> bool {
        // Nothing said is never.
        let later = |before: u64, after: u64| after.wrapping_sub(1) > before.wrapping_sub(1);
        limit_opens(self.limit, after.limit)
            || limit_opens(self.at_target, after.at_target)
            || later(self.review_at_s, after.review_at_s)
            || later(self.sleep_after_s, after.sleep_after_s)
            || after.actors > self.actors
            || (self.approves && !after.approves)
    }

    fn message(&self) -> v1::GrantTerms {
        let approval = format!("{}/get", names::TARGET);
        v1::GrantTerms {
            limits: message(self.limit),
            target_limits: vec![v1::TargetLimits {
                target: names::TARGET.to_owned(),
                limits: message(self.at_target),
            }],
            review_at_s: self.review_at_s,
            sleep_after_idle_s: self.sleep_after_s,
            max_actor_depth: self.actors,
            approval_operations: self.approves.then_some(approval).into_iter().collect(),
            ..v1::GrantTerms::default()
        }
    }
}

/// Terms and limits as they should stand.
struct Bounds {
    terms: Terms,
    tenant: Limit,
}

impl Bounds {
    async fn change(&mut self, world: &World, tally: &mut Tally, dice: &mut Dice) {
        let by = match dice.once_in(3) {
            true => "owner",
            false => *dice.pick(&SETTERS),
        };
        let (set, opens, change);
        if dice.once_in(3) {
            let next = a_limit(dice);
            let request = v1::SetTenantLimitsRequest {
                id: names::TENANT.to_owned(),
                limits: message(next),
            };
            let answered = world.party(by).registry().set_tenant_limits(request).await;
            set = answered.is_ok();
            opens = limit_opens(self.tenant, next);
            change = format!("the tenant's {:?} -> {next:?}", self.tenant);
            if set {
                self.tenant = next;
            }
        } else {
            let next = self.terms.random(dice);
            let request = v1::UpdateGrantRequest {
                id: LISTED.to_owned(),
                terms: Some(next.message()),
            };
            set = world.party(by).grants().update_grant(request).await.is_ok();
            opens = self.terms.opens(&next);
            change = format!("{:?} -> {next:?}", self.terms);
            if set {
                self.terms = next;
            }
        }
        tally.tried += 1;
        if set && !(by == "owner" || (by == "security" && !opens)) {
            let with = "a connection";
            tally.loosened.push(Loosened { by, with, change });
        } else if set && opens {
            tally.widened += 1;
        } else if set && by == "security" {
            tally.tightened += 1;
        }
    }
}

/// A grant that is to have one scope more, by somebody who does not own it.
async fn widen_grant(world: &World, tally: &mut Tally, dice: &mut Dice) {
    let by = *dice.pick(&SETTERS[1..]);
    let recipient = world.root.deposit_recipient().await.unwrap();
    let token = world.stack.consent().refresh_token;
    let token = token.expose_secret().as_bytes();
    let sealed = recipient.seal_refresh_token(names::TENANT, names::APP, "to-update", token);
    let request = v1::DepositGrantRequest {
        grant: Some(v1::Grant {
            id: "to-update".to_owned(),
            tenant: names::TENANT.to_owned(),
            app: names::APP.to_owned(),
            clients: vec![names::CLIENT.to_owned()],
            targets: vec![names::TARGET.to_owned()],
            scopes: vec!["contacts.read".to_owned(), "everything".to_owned()],
            ..v1::Grant::default()
        }),
        sealed_refresh_token: sealed.unwrap(),
        leave_unrotated: true,
        only_new: false,
    };
    tally.tried += 1;
    if world
        .party(by)
        .grants()
        .deposit_grant(request)
        .await
        .is_ok()
    {
        tally.loosened.push(Loosened {
            by,
            with: "a deposit",
            change: "a grant with one scope more".to_owned(),
        });
    }
}

async fn changes(world: &World, times: usize) -> Tally {
    let mut dice = Dice::new(SEED);
    let mut tally = Tally::default();
    // From here on the world's own policy and terms are others'.
    let remove = |signature: String| v1::SetPolicyRequest {
        tenant: names::TENANT.to_owned(),
        remove: true,
        sequence: 1,
        signature: signature.into_bytes(),
        ..v1::SetPolicyRequest::default()
    };
    let mut policies = Policies {
        chosen: None,
        text: Some(super::world::POLICY.to_owned()),
        sequence: 1,
        old: Vec::new(),
    };
    let signature = policies.signature(world, "the owner's", None, &mut dice);
    policies.old.push(signature.clone());
    let mut owner = world.party("owner").grants();
    answer(owner.set_policy(remove(signature))).await.unwrap();
    (policies.text, policies.sequence) = (None, 2);
    let mut bounds = Bounds {
        terms: Terms::default(),
        tenant: None,
    };
    let plain = v1::UpdateGrantRequest {
        id: LISTED.to_owned(),
        terms: Some(bounds.terms.message()),
    };
    answer(owner.update_grant(plain)).await.unwrap();

    while tally.tried < times {
        match dice.below(16) {
            0..=9 => Box::pin(policies.change(world, &mut tally, &mut dice)).await,
            10..=14 => Box::pin(bounds.change(world, &mut tally, &mut dice)).await,
            _ => Box::pin(widen_grant(world, &mut tally, &mut dice)).await,
        }
    }

    // What was refused has changed nothing.
    let policy = v1::GetPolicyRequest {
        tenant: names::TENANT.to_owned(),
    };
    let policy = answer(owner.get_policy(policy)).await.unwrap();
    let policy = policy.into_inner().policy.unwrap();
    assert_eq!(policy.sequence, policies.sequence);
    assert_eq!(policy.text, policies.text.unwrap_or_default());
    let found = v1::GetGrantRequest {
        id: LISTED.to_owned(),
    };
    let found = answer(owner.get_grant(found)).await.unwrap();
    let terms = found.into_inner().grant.unwrap().terms.unwrap_or_default();
    assert_eq!(terms.max_actor_depth, bounds.terms.actors);
    assert_eq!(terms.review_at_s, bounds.terms.review_at_s);
    assert_eq!(terms.sleep_after_idle_s, bounds.terms.sleep_after_s);
    tally
}

#[tokio::test]
async fn control_bar_nothing_is_loosened_without_the_tenant() {
    let world = Box::pin(World::new(None)).await;
    let tally = Box::pin(changes(&world, runs(1_000, 160))).await;
    let Tally {
        tried,
        signed,
        tightened,
        widened,
        ..
    } = tally;
    // Where everything is refused, nothing is seen.
    let fair = [signed, tightened, widened]
        .into_iter()
        .all(|count| count * 50 >= tried);
    assert!(
        fair,
        "{signed} signed, {tightened} tightened, {widened} widened of {tried}"
    );
    judge_none("loosening_without_tenant_signature", &tally.loosened, tried);
}

#[tokio::test]
async fn control_bar_canary_a_guard_who_can_loosen_is_seen() {
    let world = Box::pin(World::new(Some(("security", "tenant:acme")))).await;
    let tally = Box::pin(changes(&world, 160)).await;
    for with in ["the guard's", "a connection"] {
        let mut loosened = tally.loosened.iter();
        assert!(
            loosened.any(|loosened| loosened.with == with),
            "{with}: {tally:#?}"
        );
    }
}

#[test]
fn the_oracle_knows_what_opens() {
    let chosen = |numbers: &[usize]| Some(numbers.to_vec());
    assert!(!opens(&None, &chosen(&[0])));
    assert!(!opens(&chosen(&[0]), &None), "everything passed before");
    assert!(opens(&chosen(&[0, 5]), &chosen(&[0])));
    assert!(opens(&chosen(&[1]), &chosen(&[1, 2])));
    assert!(!opens(&chosen(&[0]), &chosen(&[0, 5, 6])));
    assert!(limit_opens(Some((10, 1, 0)), Some((10, 1, 11))));
    assert!(limit_opens(Some((10, 60, 100)), Some((1, 1, 100))));
    assert!(!limit_opens(None, Some((1, 1, 1))));
    let terms = Terms::default();
    let sleeps = Terms {
        sleep_after_s: 5,
        ..Terms::default()
    };
    assert!(sleeps.opens(&terms) && !terms.opens(&sleeps));
}
