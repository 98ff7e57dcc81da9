//! What others do with the victim's requests: every RPC, as the owner, the guard and the auditor of another tenant, as
//! another vendor and its client, as the operator and as nobody, with ids that are right, swapped or look alike.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a failed test may panic"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use dev::names;
use tokio::task::JoinSet;

use super::asks::{self, Ask, By};
use super::contract::{Contract, Rpc};
use super::world::{
    self, Answered, HOOK, KNOWN_KEY, LISTED, OTHER_TENANT, OTHER_VENDOR, QUIET, World,
    state_of_victim,
};
use super::{SEED, judge_none, runs};
use tests::dice::Dice;
use tokenkeep::AttestedChannel;
use tonic::Code;

/// Those who may know and change nothing of the victim's.
const OTHERS: [&str; 6] = [
    "other-owner",
    "other-security",
    "other-auditor",
    "other-vendor",
    "other-worker",
    "nobody",
];

/// What the operator does by right, to the victim too; the log tells of it.
const BY_RIGHT: [&str; 7] = [
    "RegistryService/CreateTenant",
    "RegistryService/CreateVendor",
    "RegistryService/CreateProvider",
    "RegistryService/EraseTenant",
    "GrantService/Freeze",
    "GrantService/Thaw",
    "KeyService/RotateKey",
];

/// All of these who administer something.
const ADMINISTRATORS: &[&str] = &[
    "other-owner",
    "other-security",
    "other-auditor",
    "other-vendor",
    "operator",
];

/// Those who must know every vendor's clients and apps.
const KNOW_VENDORS: &[&str] = &["other-owner", "other-security", "other-auditor", "operator"];

/// Requests of the victim's that others may send word for word and be answered `Ok`: why, which, and who. All other
/// ones must be refused. What stands in these answers is searched like all.
const RIGHTLY_OK: [(&str, &[&str], &[&str]); 5] = [
    (
        "each sees its own page of them",
        &["RegistryService/ListTenants", "RegistryService/ListVendors"],
        ADMINISTRATORS,
    ),
    (
        "providers are known to all administrators",
        &[
            "RegistryService/GetProvider",
            "RegistryService/ListProviders",
        ],
        ADMINISTRATORS,
    ),
    (
        "whoever consents or runs the service knows to whom",
        &[
            "RegistryService/GetClient",
            "RegistryService/ListClients",
            "RegistryService/GetApp",
            "RegistryService/ListApps",
        ],
        KNOW_VENDORS,
    ),
    (
        "the operator registers tenants and replaces their keys; a tenant's limits are left out",
        &["RegistryService/GetTenant", "KeyService/ListKeys"],
        &["operator"],
    ),
    (
        "a token that is not the caller's is inactive [RFC 7662], and nothing to revoke [RFC 7009]",
        &["TokenService/IntrospectToken", "TokenService/RevokeToken"],
        &["other-worker"],
    ),
];

/// How often one that was turned away comes back, and how long it waits at most.
const COMES_BACK: usize = 5;
const MOST_WAIT: Duration = Duration::from_secs(10);

/// RPCs in which an attacker's own name is not put in the victim's place: they would make or end what is its own.
const MAKES_OWN: [&str; 10] = [
    "EventService/CreateWebhook",
    "RegistryService/CreateTenant",
    "RegistryService/CreateVendor",
    "RegistryService/CreateClient",
    "RegistryService/CreateProvider",
    "RegistryService/CreateApp",
    "RegistryService/EraseTenant",
    "GrantService/DepositGrant",
    "GrantService/BeginConnect",
    "KeyService/RotateKey",
];

/// What somebody must not have got or done.
#[derive(Clone, Debug)]
pub(super) struct Found {
    who: String,
    rpc: String,
    what: String,
}

/// A request that was sent, and its answer.
#[derive(Debug)]
struct Tried {
    who: &'static str,
    rpc: &'static str,
    /// Whether it is, word for word, what somebody else sends by right.
    verbatim: bool,
    answered: Answered,
}

/// Ids of the victim's, as an attacker would know or guess them.
fn ids() -> Vec<&'static str> {
    vec![
        names::TENANT,
        names::GRANT,
        names::CLIENT,
        names::VENDOR,
        names::APP,
        names::PROVIDER,
        LISTED,
        "to-revoke",
        "to-update",
        "to-sleep",
        "connected",
        HOOK,
        KNOWN_KEY,
    ]
}

/// A text that a careless comparison takes for an id.
pub(super) fn look_alike(id: &str, dice: &mut Dice) -> String {
    let first = id.chars().next().unwrap_or('a');
    let rest: String = id.chars().skip(1).collect();
    let escaped: String = id.bytes().map(|b| format!("%{b:02x}")).collect();
    match dice.below(24) {
        0 => id.to_uppercase(),
        1 => format!("{}{rest}", first.to_uppercase()),
        2 => id.replace('a', "\u{430}").replace('c', "\u{441}"),
        3 => id.replace('k', "\u{212a}").replace('s', "\u{17f}"),
        4 => id
            .chars()
            .map(|c| match c {
                '!'..='~' => char::from_u32(u32::from(c) + 0xfee0).unwrap_or(c),
                c => c,
            })
            .collect(),
        5 => id.chars().take(id.len().saturating_sub(1)).collect(),
        6 => format!("{id}."),
        7 => format!("{id} "),
        8 => format!(" {id}"),
        9 => format!("{id}\0"),
        10 => escaped,
        11 => format!("{id}%00"),
        12 => format!("{id}/"),
        13 => format!("./{id}"),
        14 => format!("{OTHER_TENANT}/../{id}"),
        15 => format!("{id}\u{200b}"),
        16 => format!("{id}*"),
        17 => "*".to_owned(),
        18 => "%".to_owned(),
        19 => String::new(),
        20 => format!("{id},{OTHER_TENANT}"),
        21 => format!("{OTHER_TENANT}|{id}"),
        22 => format!("{id}\n{OTHER_TENANT}"),
        _ => format!("{id}-"),
    }
}

/// The victim's request as somebody else sends it.
fn varied(contract: &Contract, ask: &Ask, dice: &mut Dice) -> Vec<u8> {
    let rpc = contract.rpc(ask.rpc);
    let (ids, mode) = (ids(), dice.below(4));
    if mode == 0 {
        return ask.message.clone();
    }
    let texts = contract.texts(rpc, &ask.message);
    let one = dice.place(texts);
    let own = !MAKES_OWN.contains(&ask.rpc) && dice.once_in(4);
    let mut at = 0;
    contract.change(rpc, &ask.message, &mut |_field, text| {
        let Some(text) = text else {
            // A field that the request leaves out.
            return dice.once_in(6).then(|| (*dice.pick(&ids)).to_owned());
        };
        let here = at == one;
        at += 1;
        let id = ids.contains(&text);
        match mode {
            1 if here && id => Some(look_alike(text, dice)),
            1 if here => {
                let id = *dice.pick(&ids);
                Some(look_alike(id, dice))
            }
            2 if id && own => Some((*dice.pick(&[OTHER_TENANT, OTHER_VENDOR])).to_owned()),
            2 if id && dice.once_in(2) => Some((*dice.pick(&ids)).to_owned()),
            3 if id && dice.once_in(2) => Some(look_alike(text, dice)),
            _ => None,
        }
    })
}

/// Every canary that is found in an answer.
fn found_in(world: &World, who: &str, rpc: &str, answered: &Answered) -> Vec<Found> {
    let canaries = world.canaries(who);
    let holds = |bytes: &[u8]| answered.all.windows(bytes.len()).any(|part| part == bytes);
    let told = canaries.iter().filter(|(_, bytes)| holds(bytes));
    told.map(|(what, _)| Found {
        who: who.to_owned(),
        rpc: rpc.to_owned(),
        what: format!("{what} in {:?} {:?}", answered.code, answered.text),
    })
    .collect()
}

/// Whether a request was turned away before it was judged.
fn is_shed(code: Code) -> bool {
    matches!(
        code,
        Code::ResourceExhausted | Code::Unavailable | Code::DeadlineExceeded
    )
}

/// Whether a party may be answered `Ok` when it sends another's request.
fn is_rightly_ok(who: &str, rpc: &str) -> bool {
    let by_right = who == "operator" && BY_RIGHT.contains(&rpc);
    let mut listed = RIGHTLY_OK.iter();
    by_right || listed.any(|(_, rpcs, whom)| rpcs.contains(&rpc) && whom.contains(&who))
}

/// What is wrong with an answer: the victim's data in it, that it is good, or that it says nothing.
fn judged(world: &World, tried: &Tried) -> Vec<Found> {
    let Tried {
        who,
        rpc,
        verbatim,
        answered,
    } = tried;
    let mut found = found_in(world, who, rpc, answered);
    let done = answered.code == Code::Ok && *verbatim && !is_rightly_ok(who, rpc);
    if done || is_shed(answered.code) {
        found.push(Found {
            who: (*who).to_owned(),
            rpc: (*rpc).to_owned(),
            what: format!("answered {:?} {}", answered.code, answered.text),
        });
    }
    found
}

/// Asks, and comes back when it is told to.
async fn patiently(channel: &AttestedChannel, rpc: &Rpc, message: &[u8]) -> Answered {
    let mut answered = world::ask(channel, rpc, message).await;
    for _ in 0..COMES_BACK {
        let Some(after) = answered.retry_after.filter(|_| is_shed(answered.code)) else {
            break;
        };
        tokio::time::sleep(after.min(MOST_WAIT)).await;
        answered = world::ask(channel, rpc, message).await;
    }
    answered
}

/// Asks as one party, so many times; all requests first as they are, then varied.
async fn attack(
    who: &'static str,
    channel: AttestedChannel,
    asks: Vec<Ask>,
    times: usize,
    seed: u64,
) -> Vec<Tried> {
    let contract = Contract::read();
    let mut dice = Dice::new(seed);
    let mut answers = Vec::new();
    for time in 0..times {
        let (ask, message) = match asks.get(time) {
            Some(ask) => (ask, ask.message.clone()),
            None => {
                let ask = dice.pick(&asks);
                (ask, varied(&contract, ask, &mut dice))
            }
        };
        let rpc = contract.rpc(ask.rpc);
        answers.push(Tried {
            who,
            rpc: ask.rpc,
            verbatim: ask.by != By::Anyone && message == ask.message,
            answered: patiently(&channel, rpc, &message).await,
        });
    }
    answers
}

/// What an operator may be told to skip: what it does by right.
fn for_party(who: &str, asks: &[Ask]) -> Vec<Ask> {
    let by_right = |ask: &&Ask| who != "operator" || !BY_RIGHT.contains(&ask.rpc);
    asks.iter().filter(by_right).cloned().collect()
}

/// All attacks of some parties; what they found, and what they changed.
async fn attacks(
    world: &World,
    parties: &[&'static str],
    asks: &[Ask],
    times: usize,
) -> (Vec<Found>, usize) {
    let before = Box::pin(state_of_victim(world)).await;
    let mut attackers = JoinSet::new();
    for (number, who) in parties.iter().enumerate() {
        let channel = world.party(who).clone();
        let asks = for_party(who, asks);
        let each = times.div_ceil(parties.len()).max(asks.len());
        let seed = SEED + number as u64;
        attackers.spawn(Box::pin(attack(who, channel, asks, each, seed)));
    }
    let (mut found, mut asked) = (Vec::new(), 0);
    while let Some(answers) = attackers.join_next().await {
        for tried in answers.unwrap() {
            asked += 1;
            assert_ne!(tried.answered.code, Code::Internal, "{tried:?}");
            found.extend(judged(world, &tried));
        }
    }
    let after = Box::pin(state_of_victim(world)).await;
    let parts: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = parts
        .into_iter()
        .filter(|part| before.get(*part) != after.get(*part));
    found.extend(changed.map(|part| Found {
        who: "somebody".to_owned(),
        rpc: part.clone(),
        what: format!("{:?} -> {:?}", before.get(part), after.get(part)),
    }));
    (found, asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_bar_no_other_tenant_or_vendor_reads_or_writes() {
    let world = Box::pin(World::new(None)).await;
    let contract = Contract::read();
    let asks = Box::pin(asks::all(&world, &contract)).await;
    let theirs: Vec<Ask> = asks
        .iter()
        .cloned()
        .chain(Box::pin(asks::claims(&world)).await)
        .collect();
    let parties: Vec<&str> = OTHERS.into_iter().chain(["operator"]).collect();
    let (mut found, asked) = Box::pin(attacks(&world, &parties, &theirs, runs(20_000, 600))).await;
    // It is still there, and nothing but who asked was wrong with the requests.
    let reply = world.caller.contacts().await;
    assert_eq!(reply.status, 200);
    for ask in &asks {
        let channel = match ask.by {
            By::Root | By::Anyone => &world.root,
            By::Owner => world.party("owner"),
            By::Client => &world.caller.channel,
        };
        // A proof goes with them: the call above had one.
        if ask.rpc.starts_with("TokenService/IssueToken") {
            continue;
        }
        let answered = world::ask(channel, contract.rpc(ask.rpc), &ask.message).await;
        if answered.code != Code::Ok {
            found.push(Found {
                who: format!("{:?}", ask.by),
                rpc: ask.rpc.to_owned(),
                what: format!("refused: {:?} {}", answered.code, answered.text),
            });
        }
    }
    judge_none("cross_tenant_reads_or_writes", &found, asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_bar_canary_roles_that_reach_too_far_are_seen() {
    // Another tenant's auditor who reads the victim, and another tenant's owner who owns it.
    for (role, who) in [
        ("tenant-auditor:acme", "other-auditor"),
        ("tenant:acme", "other-owner"),
    ] {
        let world = Box::pin(World::new(Some((who, role)))).await;
        let asks = Box::pin(asks::all(&world, &Contract::read())).await;
        // Not the end of everything.
        let asks: Vec<Ask> = asks
            .into_iter()
            .filter(|ask| ask.rpc != "RegistryService/EraseTenant")
            .collect();
        let (found, _) = Box::pin(attacks(&world, &[who], &asks, 0)).await;
        assert!(
            found.iter().any(|found| found.who == who),
            "{role}: {found:#?}"
        );
        let changed = found.iter().any(|found| found.who == "somebody");
        assert_eq!(changed, role == "tenant:acme", "{found:#?}");
    }
}

/// Everything that an operator can ask, as it is and varied, what it does by right among it.
async fn as_operator(world: &World, times: usize) -> (Vec<Found>, usize) {
    let contract = Contract::read();
    let mut asks = Box::pin(asks::all(world, &contract)).await;
    // Lists of everything, and what it sees where it names no tenant.
    for list in [
        "AuditService/ListLeaves",
        "AuditService/TailLeaves",
        "GrantService/ListFreezes",
    ] {
        asks.push(Ask {
            by: By::Anyone,
            message: Vec::new(),
            ..asks.iter().find(|ask| ask.rpc == list).unwrap().clone()
        });
    }
    let operator = world.party("operator").clone();
    let all = asks.len();
    let (end, before): (Vec<Ask>, Vec<Ask>) = asks
        .into_iter()
        .partition(|ask| ask.rpc == "RegistryService/EraseTenant");
    let mut asked = 0;
    let mut found = Vec::new();
    for (asks, times) in [(before, times.max(all)), (end, 1)] {
        let operator = operator.clone();
        let answers = Box::pin(attack("operator", operator, asks, times, SEED)).await;
        asked += answers.len();
        for tried in &answers {
            found.extend(judged(world, tried));
        }
    }
    (found, asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_bar_the_operator_sees_nothing_of_tenants() {
    let world = Box::pin(World::new(None)).await;
    let (found, asked) = Box::pin(as_operator(&world, runs(5_000, 200))).await;
    judge_none("operator_sees_tenant_data", &found, asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_bar_canary_an_operator_who_sees_tenants_is_seen() {
    let planted = Some(("operator", "tenant-auditor:acme"));
    let world = Box::pin(World::new(planted)).await;
    let (found, _) = Box::pin(as_operator(&world, 0)).await;
    let seen = |rpc: &str| found.iter().any(|found| found.rpc == rpc);
    for rpc in [
        "GrantService/ListGrants",
        "GrantService/GetPolicy",
        "GrantService/ListFreezes",
        "GrantService/ListApprovals",
        "AuditService/ListLeaves",
    ] {
        assert!(seen(rpc), "{rpc}: {found:#?}");
    }
    assert!(
        found.iter().any(|found| found.what.starts_with("a grant ")),
        "{QUIET}"
    );
}

#[test]
fn look_alikes_are_many_and_none_is_the_id() {
    let mut dice = Dice::new(SEED);
    let made: Vec<String> = (0..400).map(|_| look_alike("task-c", &mut dice)).collect();
    let different: BTreeSet<&String> = made.iter().collect();
    assert!(different.len() > 20, "{different:?}");
    assert!(!different.contains(&"task-c".to_owned()));
}
