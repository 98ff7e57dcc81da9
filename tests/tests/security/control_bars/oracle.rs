//! What may pass, written down from what a grant, its terms and its tenant's policy say, and from nothing that the
//! product computes: the judge of the bars that ask in-process.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use tests::dice::Dice;

/// A client: its id and its vendor.
pub(super) const CLIENTS: [(&str, &str); 4] = [
    ("worker-a", "sync"),
    ("worker-b", "sync"),
    ("bot-a", "bots"),
    ("bot-b", "bots"),
];
/// An app: its id, its vendor, its provider.
pub(super) const APPS: [(&str, &str, &str); 4] = [
    ("sync-crm", "sync", "crm"),
    ("bots-crm", "bots", "crm"),
    ("sync-mail", "sync", "mail"),
    ("bots-mail", "bots", "mail"),
];
/// The tenants.
pub(super) const TENANTS: [&str; 4] = ["acme", "umbrella", "initech", "hooli"];
/// The scopes that grants may have.
pub(super) const SCOPES: [&str; 4] = ["read", "write", "admin", "offline"];
/// The targets of each provider: the first lists operations, the second does not, the third checks tokens itself.
pub(super) const TARGETS: [&str; 3] = ["api", "raw", "direct"];

/// An operation: id, method, path, query names, the type of the body and its most bytes.
pub(super) type Listed = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    Option<(&'static str, u64)>,
);

/// What the operations of the target `api` are.
pub(super) const OPERATIONS: [Listed; 6] = [
    ("list", "GET", "/contacts", &["page", "limit"], None),
    ("get", "GET", "/contacts/{id:integer}", &[], None),
    (
        "create",
        "POST",
        "/contacts",
        &[],
        Some(("application/json", 1_000)),
    ),
    (
        "update",
        "PATCH",
        "/contacts/{id:integer}",
        &["notify"],
        Some(("application/json", 1_000)),
    ),
    ("delete", "DELETE", "/contacts/{id:integer}", &[], None),
    ("file", "GET", "/files/{path:path}", &[], None),
];

/// The resource of the target `direct` of a provider.
pub(super) fn direct(provider: &str) -> String {
    format!("https://{provider}.example/v1")
}

/// What became of a grant after its tokens were issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lives,
    Frozen,
    Revoked,
    Expired,
}

/// A grant as it was agreed to.
#[derive(Clone, Debug)]
pub(super) struct Agreed {
    pub(super) id: String,
    pub(super) tenant: &'static str,
    pub(super) app: (&'static str, &'static str, &'static str),
    pub(super) clients: Vec<&'static str>,
    pub(super) targets: Vec<&'static str>,
    pub(super) scopes: Vec<&'static str>,
    /// Of the target `api`; none are all.
    pub(super) operations: Vec<&'static str>,
    /// Of those, the ones that a person must agree to; nobody ever does here.
    pub(super) approvals: Vec<&'static str>,
    pub(super) actors: usize,
    pub(super) fate: Fate,
}

fn some(of: &[&'static str], least: usize, dice: &mut Dice) -> Vec<&'static str> {
    loop {
        let chosen: Vec<_> = of.iter().copied().filter(|_| dice.once_in(2)).collect();
        if chosen.len() >= least {
            return chosen;
        }
    }
}

/// Six grants of each tenant; the last of each two comes to an end.
pub(super) fn agreed(dice: &mut Dice) -> Vec<Agreed> {
    let mut grants = Vec::new();
    for tenant in TENANTS {
        for number in 0..6 {
            let app = *dice.pick(&APPS);
            let of_vendor: Vec<&str> = CLIENTS
                .iter()
                .filter(|(_, vendor)| *vendor == app.1)
                .map(|(id, _)| *id)
                .collect();
            let targets = some(&TARGETS, 1, dice);
            let all: Vec<&str> = OPERATIONS.iter().map(|operation| operation.0).collect();
            // A target without operations is allowed as a whole.
            let may_list = targets.contains(&"api") && !targets.contains(&"raw");
            let operations = match may_list && dice.once_in(2) {
                true => some(&all, 1, dice),
                false => Vec::new(),
            };
            let listed = if operations.is_empty() {
                &all
            } else {
                &operations
            };
            let approvals = match targets.contains(&"api") && dice.once_in(4) {
                true => some(listed, 0, dice),
                false => Vec::new(),
            };
            let fates = [Fate::Frozen, Fate::Revoked, Fate::Expired];
            grants.push(Agreed {
                id: format!("{tenant}-{number}"),
                tenant,
                app,
                clients: some(&of_vendor, 1, dice),
                targets,
                scopes: some(&SCOPES, 1, dice),
                operations,
                approvals,
                actors: dice.place(3),
                fate: if number % 2 == 1 {
                    fates[number / 2]
                } else {
                    Fate::Lives
                },
            });
        }
    }
    grants
}

/// What a policy is asked about.
#[derive(Clone, Debug)]
pub(super) struct Question<'a> {
    pub(super) client: (&'a str, &'a str),
    pub(super) grant: &'a str,
    pub(super) app: (&'a str, &'a str, &'a str),
    pub(super) target: &'a str,
    pub(super) scopes: Vec<&'a str>,
    /// Operation and method of a call; none for a token.
    pub(super) call: Option<(&'a str, &'a str)>,
    /// The resource of a token.
    pub(super) audience: &'a str,
}

/// A statement of a policy: its text, whether it permits, and what it means.
pub(super) type Statement = (&'static str, bool, fn(&Question<'_>) -> bool);

/// The policies by tenant; `initech` has none.
pub(super) fn policy(tenant: &str) -> Option<&'static [Statement]> {
    const ACME: &[Statement] = &[
        (
            "@id(\"sync-tokens\") permit(principal in Vendor::\"sync\", action == Action::\"issue\", resource);",
            true,
            |q| q.client.1 == "sync" && q.call.is_none(),
        ),
        (
            "@id(\"sync-reads\") permit(principal in Vendor::\"sync\", action == Action::\"call\", resource) \
             when { [\"list\", \"get\", \"file\"].contains(context.operation) };",
            true,
            |q| {
                q.client.1 == "sync"
                    && q.call
                        .is_some_and(|(op, _)| ["list", "get", "file"].contains(&op))
            },
        ),
        (
            "@id(\"bot-a\") permit(principal == Client::\"bot-a\", action, resource) \
             when { context.scopes.contains(\"read\") };",
            true,
            |q| q.client.0 == "bot-a" && q.scopes.contains(&"read"),
        ),
        (
            "@id(\"no-admin\") forbid(principal, action, resource) when { context.scopes.contains(\"admin\") };",
            false,
            |q| q.scopes.contains(&"admin"),
        ),
    ];
    const UMBRELLA: &[Statement] = &[
        (
            "@id(\"everything\") permit(principal, action, resource);",
            true,
            |_| true,
        ),
        (
            "@id(\"no-deletes\") forbid(principal, action == Action::\"call\", resource) \
             when { context.method == \"DELETE\" };",
            false,
            |q| q.call.is_some_and(|(_, method)| method == "DELETE"),
        ),
        (
            "@id(\"raw-is-read\") forbid(principal, action == Action::\"call\", resource in Provider::\"crm\") \
             when { context.target == \"raw\" } unless { context.method == \"GET\" };",
            false,
            |q| {
                let raw = q.app.2 == "crm" && q.target == "raw";
                raw && q.call.is_some_and(|(_, method)| method != "GET")
            },
        ),
        (
            "@id(\"no-mail-for-b\") forbid(principal == Client::\"worker-b\", action, resource in App::\"sync-mail\");",
            false,
            |q| q.client.0 == "worker-b" && q.app.0 == "sync-mail",
        ),
        (
            "@id(\"no-direct-mail\") forbid(principal, action == Action::\"issue\", resource) \
             when { context.audience == \"https://mail.example/v1\" };",
            false,
            |q| q.call.is_none() && q.audience == "https://mail.example/v1",
        ),
        (
            "@id(\"not-the-second\") forbid(principal in Vendor::\"bots\", action, resource == Grant::\"umbrella-2\");",
            false,
            |q| q.client.1 == "bots" && q.grant == "umbrella-2",
        ),
    ];
    const HOOLI: &[Statement] = &[
        (
            "@id(\"one-scope\") permit(principal, action, resource) when { context.scopes == [\"read\"] };",
            true,
            |q| q.scopes == ["read"],
        ),
        (
            "@id(\"api-writes\") permit(principal, action, resource) \
             when { context.target == \"api\" && context.scopes.contains(\"write\") };",
            true,
            |q| q.target == "api" && q.scopes.contains(&"write"),
        ),
    ];
    match tenant {
        "acme" => Some(ACME),
        "umbrella" => Some(UMBRELLA),
        "hooli" => Some(HOOLI),
        _ => None,
    }
}

fn permitted(grant: &Agreed, question: &Question<'_>) -> bool {
    let Some(statements) = policy(grant.tenant) else {
        return true;
    };
    let applies = |permits: bool| {
        let mut of = statements.iter().filter(|statement| statement.1 == permits);
        of.any(|statement| statement.2(question))
    };
    applies(true) && !applies(false)
}

/// A request for a token.
#[derive(Clone, Debug)]
pub(super) struct TokenAsk {
    pub(super) client: &'static str,
    pub(super) grant: Option<String>,
    pub(super) resource: String,
    pub(super) scopes: Vec<String>,
    pub(super) actors: Vec<String>,
}

/// What a token that may be issued must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct May {
    pub(super) grant: String,
    pub(super) target: &'static str,
    pub(super) scopes: Vec<&'static str>,
}

fn resource(gateway: &str, grant: &Agreed, target: &str) -> String {
    match target {
        "direct" => direct(grant.app.2),
        target => format!("{gateway}/g/{}/{target}", grant.id),
    }
}

fn vendor_of(client: &str) -> (&'static str, &'static str) {
    let found = CLIENTS.iter().find(|(id, _)| *id == client);
    *found.unwrap_or(&CLIENTS[0])
}

/// Whether a token may be issued, and which; `ended` says whether the fates have come.
pub(super) fn may_issue(
    grants: &[Agreed],
    gateway: &str,
    ask: &TokenAsk,
    ended: bool,
) -> Option<May> {
    let named = |grant: &&Agreed| grant.clients.contains(&ask.client);
    let target_of = |grant: &Agreed| {
        let mut targets = grant.targets.iter().copied();
        targets.find(|target| resource(gateway, grant, target) == ask.resource)
    };
    let grant = match &ask.grant {
        Some(id) => grants.iter().filter(named).find(|grant| grant.id == *id)?,
        None => {
            let mut fitting = grants
                .iter()
                .filter(named)
                .filter(|grant| target_of(grant).is_some());
            let only = fitting.next()?;
            match fitting.next() {
                None => only,
                Some(_) => return None,
            }
        }
    };
    if ended && grant.fate != Fate::Lives {
        return None;
    }
    let target = target_of(grant)?;
    let mut scopes = Vec::new();
    for asked in &ask.scopes {
        let scope = grant
            .scopes
            .iter()
            .find(|scope| **scope == asked.as_str())?;
        scopes.push(*scope);
    }
    if scopes.is_empty() {
        scopes.clone_from(&grant.scopes);
    }
    scopes.sort_unstable();
    scopes.dedup();
    if ask.actors.len() > grant.actors {
        return None;
    }
    let question = Question {
        client: vendor_of(ask.client),
        grant: &grant.id,
        app: grant.app,
        target,
        scopes: scopes.clone(),
        call: None,
        audience: &ask.resource,
    };
    permitted(grant, &question).then(|| May {
        grant: grant.id.clone(),
        target,
        scopes,
    })
}

/// A call with a token that was issued for these.
#[derive(Clone, Debug)]
pub(super) struct CallAsk {
    pub(super) client: &'static str,
    pub(super) token: May,
    pub(super) actors: usize,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) content_types: Vec<&'static str>,
    pub(super) body_bytes: Option<u64>,
}

/// Whether a call may reach the API.
pub(super) fn may_call(grants: &[Agreed], ask: &CallAsk) -> bool {
    let Some(grant) = grants.iter().find(|grant| grant.id == ask.token.grant) else {
        return false;
    };
    let target = ask.token.target;
    let prefix = format!("/g/{}/{target}", grant.id);
    let Some(rest) = ask.path.strip_prefix(&prefix) else {
        return false;
    };
    let lives = grant.fate == Fate::Lives;
    let agreed = grant.clients.contains(&ask.client)
        && grant.targets.contains(&target)
        && ask.actors <= grant.actors;
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
    if !lives || !agreed || !methods.contains(&ask.method.as_str()) || !stays_below(rest) {
        return false;
    }
    let operation = match target {
        "api" => match operation(ask, rest) {
            Some(id) => id,
            None => return false,
        },
        "raw" => "",
        _ => return false,
    };
    let listed = match target {
        "api" => grant.operations.is_empty() || grant.operations.contains(&operation),
        // A grant that lists operations allows nothing that is none.
        _ => grant.operations.is_empty(),
    };
    let question = Question {
        client: vendor_of(ask.client),
        grant: &grant.id,
        app: grant.app,
        target,
        scopes: ask.token.scopes.clone(),
        call: Some((operation, &ask.method)),
        audience: "",
    };
    listed && !grant.approvals.contains(&operation) && permitted(grant, &question)
}

/// Whether a path means the same to every server, and nothing above it.
fn stays_below(rest: &str) -> bool {
    if rest.is_empty() {
        return true;
    }
    if !rest.starts_with('/') {
        return false;
    }
    let mut seen = rest.to_owned();
    for _ in 0..3 {
        let segments: Vec<&str> = seen.split('/').skip(1).collect();
        for (at, segment) in segments.iter().enumerate() {
            let bare = segment.split(';').next().unwrap_or_default().trim();
            let last = at + 1 == segments.len();
            if bare == "." || bare == ".." || (segment.is_empty() && !last) {
                return false;
            }
        }
        let next = unescaped(&seen);
        let grown = next.matches(['/', '\\']).count() > seen.matches(['/', '\\']).count();
        if grown || next.chars().any(char::is_control) || next.contains('\\') {
            return false;
        }
        seen = next;
    }
    true
}

fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let pair = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The operation that a call is, by reading it word by word.
fn operation(ask: &CallAsk, rest: &str) -> Option<&'static str> {
    let method = match ask.method.as_str() {
        "HEAD" => "GET",
        method => method,
    };
    let is_integer = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let found = OPERATIONS.iter().find(|operation| {
        operation.1 == method
            && match operation.2 {
                "/contacts" => rest == "/contacts",
                "/contacts/{id:integer}" => rest.strip_prefix("/contacts/").is_some_and(is_integer),
                _ => rest
                    .strip_prefix("/files/")
                    .is_some_and(|path| !path.is_empty()),
            }
    })?;
    let (id, _, _, names, body) = *found;
    for pair in ask.query.iter().flat_map(|query| query.split('&')) {
        let name = unescaped(pair.split('=').next().unwrap_or_default());
        if ask.query.as_deref() != Some("") && !names.contains(&name.as_str()) {
            return None;
        }
    }
    let fits = match (body, ask.content_types.as_slice()) {
        (_, []) => ask.body_bytes == Some(0),
        (Some((of, most)), [given]) => {
            let given = given.split(';').next().unwrap_or_default().trim();
            given.eq_ignore_ascii_case(of) && ask.body_bytes.is_none_or(|bytes| bytes <= most)
        }
        _ => false,
    };
    fits.then_some(id)
}

#[test]
fn the_oracle_knows_a_path_that_leaves() {
    for below in ["", "/", "/a/b.c", "/a%20b/", "/contacts/7", "/...;v=1"] {
        assert!(stays_below(below), "{below}");
    }
    for beyond in [
        "x",
        "/../a",
        "/a/./b",
        "/a//b",
        "/%2e%2e/a",
        "/%252e%252e/a",
        "/a%2fb",
        "/a%5cb",
        "/..;/a",
        "/a%00b",
    ] {
        assert!(!stays_below(beyond), "{beyond}");
    }
}
