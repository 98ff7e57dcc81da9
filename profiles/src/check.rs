//! The rules of a profile. All that is wrong is said at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use url::Url;

use crate::MAX_BYTES;
use crate::document::{AssertionAudience, Document, Operation, Source};
use crate::template::{fill, is_label, names};

/// The version of the schema.
const SCHEMA: u32 = 1;
/// The most entries of each list.
const MAX_ENTRIES: usize = 256;
/// The longest text for people.
const MAX_TEXT: usize = 2_048;
/// The longest lifetime: ten years.
const MAX_LIFETIME_S: u64 = 10 * 365 * 24 * 3_600;

/// Something that is wrong with a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, such as `operations[3].path`; empty for the whole file.
    pub field: String,
    /// What.
    pub rule: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.rule),
            field => write!(f, "{field}: {}", self.rule),
        }
    }
}

/// Collects faults.
#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn say(&mut self, field: impl Into<String>, rule: impl Into<String>) {
        self.0.push(Fault {
            field: field.into(),
            rule: rule.into(),
        });
    }

    fn hold(&mut self, holds: bool, field: impl Into<String>, rule: &str) {
        if !holds {
            self.say(field, rule);
        }
    }
}

/// Reads and checks a profile.
///
/// # Errors
/// All its [`Fault`]s; a file that is no TOML of the schema has one.
pub fn read(bytes: &[u8]) -> Result<Document, Vec<Fault>> {
    let one = |rule: String| {
        vec![Fault {
            field: String::new(),
            rule,
        }]
    };
    if bytes.len() > MAX_BYTES {
        return Err(one(format!("more than {MAX_BYTES} bytes")));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| one("not UTF-8".to_owned()))?;
    let document: Document =
        toml::from_str(text).map_err(|error| one(error.to_string().trim_end().to_owned()))?;
    let mut faults = Faults::default();
    check(&document, &mut faults);
    match faults.0 {
        faults if faults.is_empty() => Ok(document),
        faults => Err(faults),
    }
}

fn check(document: &Document, faults: &mut Faults) {
    faults.hold(document.schema == SCHEMA, "schema", "must be 1");
    faults.hold(is_id(&document.id), "id", ID_RULE);
    texts(document, faults);
    parameters(document, faults);
    endpoints(document, faults);
    client(document, faults);
    refresh(document, faults);
    targets(document, faults);
    operations(document, faults);
    sources(document, faults);
}

fn texts(document: &Document, faults: &mut Faults) {
    let printable = |text: &str| {
        !text.trim().is_empty()
            && text.len() <= MAX_TEXT
            && text.chars().all(|c| !c.is_control() || c == '\n')
    };
    faults.hold(
        printable(&document.title),
        "title",
        "must be a printable text",
    );
    let notes = document.notes.as_deref();
    faults.hold(
        notes.is_none_or(printable),
        "notes",
        "must be a printable text",
    );
    for (name, parameter) in &document.parameters {
        faults.hold(
            printable(&parameter.about),
            format!("parameters.{name}.about"),
            "must be a printable text",
        );
    }
}

fn parameters(document: &Document, faults: &mut Faults) {
    faults.hold(
        document.parameters.len() <= MAX_ENTRIES,
        "parameters",
        "too many",
    );
    for (name, parameter) in &document.parameters {
        let field = format!("parameters.{name}");
        faults.hold(is_name(name), field.clone(), "must be of a-z, 0-9 and _");
        let rule = parameter.kind.rule();
        let values = [
            ("example", Some(&parameter.example)),
            ("default", parameter.default.as_ref()),
        ];
        for (what, value) in values {
            let fits = value.is_none_or(|value| parameter.kind.accepts(value));
            faults.hold(fits, format!("{field}.{what}"), &format!("must be {rule}"));
        }
    }
}

/// The rule of [`is_id`].
const ID_RULE: &str = "must be 1 to 63 of a-z, 0-9 and single - inside";

fn is_id(text: &str) -> bool {
    is_label(text) && !text.contains("--")
}

fn is_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (1..=63).contains(&text.len()) && text.bytes().all(fits)
}

/// The parameters with their examples, for a look at what templates come to.
fn examples(document: &Document) -> BTreeMap<String, String> {
    document
        .parameters
        .iter()
        .map(|(name, parameter)| (name.clone(), parameter.example.clone()))
        .collect()
}

/// A template of a URL comes to an absolute https URL in normal form, whose host is
/// not a customer's free choice within a name that the profile begins.
fn url_template(document: &Document, field: &str, template: &str, faults: &mut Faults) {
    let Some(named) = names(template) else {
        return faults.say(field, "braces do not match");
    };
    for name in named {
        if !document.parameters.contains_key(name) {
            faults.say(field, format!("there is no parameter {name:?}"));
        }
    }
    let text = fill(template, &examples(document));
    let normal = Url::parse(&text).is_ok_and(|url| {
        let whole = url.as_str() == text || url.as_str().strip_suffix('/') == Some(text.as_str());
        let bare = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        whole && bare && matches!(url.scheme(), "https" | "http")
    });
    faults.hold(
        normal,
        field,
        "must be an absolute URL in normal form, without user information, query and fragment",
    );
    let secure = template.starts_with("https://") || template.starts_with('{');
    faults.hold(secure, field, "must be https");
}

fn endpoints(document: &Document, faults: &mut Faults) {
    let endpoints = &document.endpoints;
    let all = [
        ("issuer", endpoints.issuer.as_ref()),
        ("authorization", endpoints.authorization.as_ref()),
        ("token", Some(&endpoints.token)),
        ("revocation", endpoints.revocation.as_ref()),
        ("introspection", endpoints.introspection.as_ref()),
        (
            "device_authorization",
            endpoints.device_authorization.as_ref(),
        ),
    ];
    for (name, template) in all {
        if let Some(template) = template {
            url_template(document, &format!("endpoints.{name}"), template, faults);
        }
    }
}

fn client(document: &Document, faults: &mut Faults) {
    let client = &document.client;
    faults.hold(
        !client.authentication.is_empty(),
        "client.authentication",
        "must name a method",
    );
    let algorithms = &client.assertion_algorithms;
    faults.hold(
        algorithms.len() <= 16 && algorithms.iter().all(|name| is_algorithm(name)),
        "client.assertion_algorithms",
        "at most 16, each of A-Z, a-z, 0-9 and -",
    );
    let code = |text: &str| {
        (1..=256).contains(&text.len()) && text.bytes().all(|b| (0x21..=0x7e).contains(&b))
    };
    for (name, value) in &client.authorization_parameters {
        let own = [
            "response_type",
            "client_id",
            "redirect_uri",
            "scope",
            "state",
            "nonce",
            "code_challenge",
            "code_challenge_method",
            "request",
            "request_uri",
            "response_mode",
        ];
        let field = format!("client.authorization_parameters.{name}");
        faults.hold(
            !own.contains(&name.as_str()),
            field.clone(),
            "is the enclave's own",
        );
        faults.hold(
            code(name) && code(value),
            field,
            "must be of visible characters",
        );
    }
    faults.hold(
        client.offline_scopes.iter().all(|scope| code(scope)),
        "client.offline_scopes",
        "must be of visible characters",
    );
}

fn is_algorithm(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(fits)
}

fn refresh(document: &Document, faults: &mut Faults) {
    use crate::document::{Reuse, Rotation};
    let refresh = &document.refresh;
    let lifetimes = [
        ("refresh.grace_s", refresh.grace_s),
        ("refresh.idle_lifetime_s", refresh.idle_lifetime_s),
        ("refresh.absolute_lifetime_s", refresh.absolute_lifetime_s),
        ("refresh.access_lifetime_s", refresh.access_lifetime_s),
    ];
    for (field, value) in lifetimes {
        let fits = value.is_none_or(|s| (1..=MAX_LIFETIME_S).contains(&s));
        faults.hold(fits, field, "must be 1 s to ten years");
    }
    faults.hold(
        refresh.idle_lifetime_s.is_none_or(|s| s >= 600),
        "refresh.idle_lifetime_s",
        "must be at least 600 s, or keep-alive cannot serve it",
    );
    let graceful = refresh.grace_s.is_none()
        || (refresh.rotation != Rotation::Never && refresh.reuse != Reuse::Unknown);
    faults.hold(
        graceful,
        "refresh.grace_s",
        "is for tokens that rotate, of which it is known what a reuse does",
    );
    let codes = &document.errors.dead_codes;
    faults.hold(
        codes.len() <= 16 && codes.iter().all(|code| is_name(code)),
        "errors.dead_codes",
        "at most 16, each of a-z, 0-9 and _",
    );
}

fn targets(document: &Document, faults: &mut Faults) {
    faults.hold(document.targets.len() <= 64, "targets", "at most 64");
    let mut seen = BTreeSet::new();
    for (at, target) in document.targets.iter().enumerate() {
        let field = format!("targets[{at}]");
        faults.hold(is_id(&target.name), format!("{field}.name"), ID_RULE);
        faults.hold(
            seen.insert(&target.name),
            format!("{field}.name"),
            "each name once",
        );
        url_template(
            document,
            &format!("{field}.base_url"),
            &target.base_url,
            faults,
        );
    }
}

fn operations(document: &Document, faults: &mut Faults) {
    faults.hold(
        document.operations.len() <= MAX_ENTRIES,
        "operations",
        "at most 256",
    );
    let mut seen = BTreeSet::new();
    for (at, operation) in document.operations.iter().enumerate() {
        let field = format!("operations[{at}]");
        faults.hold(
            is_operation_id(&operation.id),
            format!("{field}.id"),
            "must be words of a-z and 0-9 joined by . and _",
        );
        faults.hold(
            seen.insert(&operation.id),
            format!("{field}.id"),
            "each id once",
        );
        faults.hold(
            document.targets.iter().any(|t| t.name == operation.target),
            format!("{field}.target"),
            "must be one of the targets",
        );
        path(operation, &field, faults);
        let bodies = operation.body.is_empty() || operation.method.has_body();
        faults.hold(
            bodies,
            format!("{field}.body"),
            "is for POST, PUT and PATCH",
        );
    }
}

fn is_operation_id(text: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    text.len() <= 64 && text.split(['.', '_']).all(word)
}

fn path(operation: &Operation, field: &str, faults: &mut Faults) {
    let field = format!("{field}.path");
    let Some(rest) = operation.path.strip_prefix('/') else {
        return faults.say(field, "must begin with /");
    };
    let last = rest.split('/').count().saturating_sub(1);
    for (at, segment) in rest.split('/').enumerate() {
        let literal = |b: u8| b.is_ascii_alphanumeric() || b"-_.~:@!$&'()*+,;=".contains(&b);
        let placeholder = segment
            .strip_prefix('{')
            .and_then(|inside| inside.strip_suffix('}'));
        let fits = match placeholder {
            Some(name) => match name.strip_suffix('*') {
                Some(name) => is_name(name) && at == last,
                None => is_name(name),
            },
            None => {
                // The root of a target has one empty segment.
                let empty = segment.is_empty() && last == 0;
                empty
                    || (!segment.is_empty()
                        && segment.bytes().all(literal)
                        && segment.bytes().any(|b| b != b'.'))
            }
        };
        faults.hold(
            fits,
            field.clone(),
            "each segment must be plain, {name}, or {name*} at the end",
        );
    }
}

/// The facts of a document: its tables, and the fields in them.
fn facts(document: &Document) -> BTreeMap<&'static str, Vec<&'static str>> {
    let Document {
        endpoints,
        client,
        refresh,
        errors,
        targets,
        operations,
        ..
    } = document;
    let given = |rows: &[(&'static str, bool)]| {
        let rows = rows.iter().filter(|(_, there)| *there);
        rows.map(|(name, _)| *name).collect::<Vec<_>>()
    };
    let no = crate::document::Support::No;
    BTreeMap::from([
        (
            "endpoints",
            given(&[
                ("issuer", endpoints.issuer.is_some()),
                ("authorization", endpoints.authorization.is_some()),
                ("token", true),
                ("revocation", endpoints.revocation.is_some()),
                ("introspection", endpoints.introspection.is_some()),
                (
                    "device_authorization",
                    endpoints.device_authorization.is_some(),
                ),
            ]),
        ),
        (
            "client",
            given(&[
                ("authentication", true),
                (
                    "assertion_algorithms",
                    !client.assertion_algorithms.is_empty(),
                ),
                (
                    "assertion_audience",
                    client.assertion_audience != AssertionAudience::Issuer,
                ),
                ("pkce", client.pkce != no),
                ("iss", client.iss != no),
                ("dpop", client.dpop != no),
                ("resource", client.resource != no),
                (
                    "authorization_parameters",
                    !client.authorization_parameters.is_empty(),
                ),
                ("offline_scopes", !client.offline_scopes.is_empty()),
            ]),
        ),
        (
            "refresh",
            given(&[
                ("rotation", true),
                ("reuse", true),
                ("grace_s", refresh.grace_s.is_some()),
                ("idle_lifetime_s", refresh.idle_lifetime_s.is_some()),
                ("absolute_lifetime_s", refresh.absolute_lifetime_s.is_some()),
                ("access_lifetime_s", refresh.access_lifetime_s.is_some()),
                ("narrows_scope", !refresh.narrows_scope),
            ]),
        ),
        (
            "errors",
            given(&[
                ("with_status_200", errors.with_status_200),
                ("dead_codes", !errors.dead_codes.is_empty()),
            ]),
        ),
        ("targets", given(&[("all", !targets.is_empty())])),
        ("operations", given(&[("all", !operations.is_empty())])),
    ])
}

fn sources(document: &Document, faults: &mut Faults) {
    let facts = facts(document);
    for (at, source) in document.sources.iter().enumerate() {
        let field = format!("sources[{at}]");
        let Source {
            of,
            url,
            assumed,
            read,
        } = source;
        faults.hold(
            url.is_some() != assumed.is_some(),
            field.clone(),
            "must have either url or assumed",
        );
        let page = url
            .as_ref()
            .is_none_or(|url| url.starts_with("https://") && Url::parse(url).is_ok());
        faults.hold(page, format!("{field}.url"), "must be an https URL");
        faults.hold(is_date(read), format!("{field}.read"), "must be YYYY-MM-DD");
        for name in of {
            let (table, fact) = match name.split_once('.') {
                Some((table, fact)) => (table, Some(fact)),
                None => (name.as_str(), None),
            };
            let known = facts
                .get(table)
                .is_some_and(|found| fact.is_none_or(|fact| found.contains(&fact)));
            faults.hold(
                known,
                format!("{field}.of"),
                &format!("there is no fact {name:?}"),
            );
        }
    }
    let vouched: BTreeSet<&str> = document
        .sources
        .iter()
        .flat_map(|source| source.of.iter().map(String::as_str))
        .collect();
    for (table, found) in &facts {
        for fact in found {
            let whole = format!("{table}.{fact}");
            if !vouched.contains(table) && !vouched.contains(whole.as_str()) {
                faults.say("sources", format!("nothing vouches for {whole}"));
            }
        }
    }
}

fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let number = |text: &str, digits: usize| {
        (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse::<u32>().ok())
            .flatten()
    };
    let [year, month, day] = parts.as_slice() else {
        return false;
    };
    number(year, 4).is_some()
        && number(month, 2).is_some_and(|m| (1..=12).contains(&m))
        && number(day, 2).is_some_and(|d| (1..=31).contains(&d))
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
