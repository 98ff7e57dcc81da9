//! Tests of a policy: requests, each with the decision that is expected, in a TOML file.

use std::net::IpAddr;

use serde::Deserialize;
use thiserror::Error;
use time::{Date, Month, Time, UtcDateTime};

use crate::question::{Ask, Binding, Question};
use crate::{Compiled, Decision};

/// The longest file in bytes.
pub const MAX_FILE_BYTES: usize = 256 * 1024;

/// The most cases of a file.
pub const MAX_CASES: usize = 1_000;

/// A file of cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cases(Vec<Case>);

/// One case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// What is asked.
    pub question: Question,
    /// Whether it is to pass.
    pub permit: bool,
    /// The policies that must have made the decision, if that is said.
    pub by: Option<Vec<String>>,
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was decided.
    pub decision: Decision,
    /// Whether it is what was expected.
    pub met: bool,
}

/// What is wrong with a file of cases.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CasesError {
    /// It is too long.
    #[error("the file has more than {MAX_FILE_BYTES} bytes")]
    TooLarge,
    /// It is not text.
    #[error("the file is not UTF-8 text")]
    NotText,
    /// It is no TOML of this form.
    #[error("{0}")]
    Form(String),
    /// There is none, or there are too many.
    #[error("there must be 1 to {MAX_CASES} of [[case]]")]
    Count,
    /// A field is missing and has no default.
    #[error("case {case:?}: {field} is missing: give it in the case or in [defaults]")]
    Missing {
        /// Which case.
        case: String,
        /// Which field.
        field: &'static str,
    },
    /// A field is not what it must be.
    #[error("case {case:?}: {field}: {rule}")]
    Field {
        /// Which case.
        case: String,
        /// Which field.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
}

/// A request of which any part may be left to the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Asked {
    /// `issue` or `call`.
    pub action: Option<String>,
    /// The client.
    pub client: Option<String>,
    /// Its vendor.
    pub vendor: Option<String>,
    /// The grant.
    pub grant: Option<String>,
    /// The grant's app.
    pub app: Option<String>,
    /// The app's provider.
    pub provider: Option<String>,
    /// The grant's scopes; those of the token unless said.
    pub grant_scopes: Option<Vec<String>>,
    /// The grant's targets; the target alone unless said.
    pub grant_targets: Option<Vec<String>>,
    /// The target.
    pub target: Option<String>,
    /// The token's scopes; none unless said.
    pub scopes: Option<Vec<String>>,
    /// The thumbprint of the key; `key` unless said.
    pub key: Option<String>,
    /// `dpop` unless said.
    pub binding: Option<Binding>,
    /// `hardware` unless said.
    pub tier: Option<String>,
    /// Where the connection came from; not known unless said.
    pub address: Option<IpAddr>,
    /// When, as `2026-11-02T12:00:00Z`; Monday, 2 November 2026, noon in UTC unless said.
    pub at: Option<String>,
    /// The token's audience, for `issue`; empty unless said.
    pub audience: Option<String>,
    /// The operation, for `call`; empty, as at a target without operations, unless said.
    pub operation: Option<String>,
    /// The HTTP method, for `call`; GET unless said.
    pub method: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    defaults: Asked,
    #[serde(default)]
    case: Vec<RawCase>,
}

#[derive(Deserialize)]
struct RawCase {
    name: String,
    expect: Expect,
    by: Option<Vec<String>>,
    #[serde(flatten)]
    rest: toml::Table,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expect {
    Permit,
    Deny,
}

/// When nothing is said: Monday, 2 November 2026, noon in UTC.
const NOON_S: u64 = 1_793_620_800;

impl Cases {
    /// Reads a file.
    ///
    /// # Errors
    /// [`CasesError`].
    pub fn read(file: &[u8]) -> Result<Self, CasesError> {
        if file.len() > MAX_FILE_BYTES {
            return Err(CasesError::TooLarge);
        }
        let text = str::from_utf8(file).map_err(|_| CasesError::NotText)?;
        let form = |error: toml::de::Error| {
            let line = error
                .span()
                .map_or(1, |span| crate::text::line_of(text, span.start));
            CasesError::Form(format!("line {line}: {}", error.message()))
        };
        let File { defaults, case } = toml::from_str(text).map_err(form)?;
        if !(1..=MAX_CASES).contains(&case.len()) {
            return Err(CasesError::Count);
        }
        let each = case.into_iter().map(|raw| {
            let RawCase {
                name,
                expect,
                by,
                rest,
            } = raw;
            let asked: Asked =
                toml::Value::Table(rest)
                    .try_into()
                    .map_err(|error: toml::de::Error| {
                        CasesError::Form(format!("case {name:?}: {}", error.message()))
                    })?;
            Ok(Case {
                question: asked.or(&defaults).question(&name)?,
                permit: matches!(expect, Expect::Permit),
                by,
                name,
            })
        });
        Ok(Self(each.collect::<Result<_, CasesError>>()?))
    }

    /// Each case, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = &Case> {
        self.0.iter()
    }
}

impl Case {
    /// Asks a policy.
    #[must_use]
    pub fn run(&self, policy: &Compiled) -> Outcome {
        let decision = policy.decide(&self.question);
        let by = self.by.as_ref().is_none_or(|by| {
            let mut by = by.clone();
            by.sort_unstable();
            by == decision.policies
        });
        Outcome {
            met: decision.permitted == self.permit && by,
            decision,
        }
    }
}

impl Asked {
    /// What is not said is as the defaults say.
    #[must_use]
    pub fn or(self, defaults: &Self) -> Self {
        let defaults = defaults.clone();
        Self {
            action: self.action.or(defaults.action),
            client: self.client.or(defaults.client),
            vendor: self.vendor.or(defaults.vendor),
            grant: self.grant.or(defaults.grant),
            app: self.app.or(defaults.app),
            provider: self.provider.or(defaults.provider),
            grant_scopes: self.grant_scopes.or(defaults.grant_scopes),
            grant_targets: self.grant_targets.or(defaults.grant_targets),
            target: self.target.or(defaults.target),
            scopes: self.scopes.or(defaults.scopes),
            key: self.key.or(defaults.key),
            binding: self.binding.or(defaults.binding),
            tier: self.tier.or(defaults.tier),
            address: self.address.or(defaults.address),
            at: self.at.or(defaults.at),
            audience: self.audience.or(defaults.audience),
            operation: self.operation.or(defaults.operation),
            method: self.method.or(defaults.method),
        }
    }

    /// The question.
    ///
    /// # Errors
    /// [`CasesError::Missing`] and [`CasesError::Field`], about the case of this name.
    pub fn question(self, case: &str) -> Result<Question, CasesError> {
        let needed = |value: Option<String>, field| {
            value.ok_or_else(|| CasesError::Missing {
                case: case.to_owned(),
                field,
            })
        };
        let wrong = |field, rule| CasesError::Field {
            case: case.to_owned(),
            field,
            rule,
        };
        let action = needed(self.action, "action")?;
        let ask = match action.as_str() {
            "issue" if self.operation.is_none() && self.method.is_none() => Ask::Issue {
                audience: self.audience.unwrap_or_default(),
            },
            "issue" => return Err(wrong("operation, method", "are for the action call")),
            "call" if self.audience.is_none() => Ask::Call {
                operation: self.operation.unwrap_or_default(),
                method: self.method.unwrap_or_else(|| "GET".to_owned()),
            },
            "call" => return Err(wrong("audience", "is for the action issue")),
            _ => return Err(wrong("action", "must be issue or call")),
        };
        let at_s = match &self.at {
            None => NOON_S,
            Some(at) => unix_time_s(at)
                .ok_or_else(|| wrong("at", "must be a time as 2026-11-02T12:00:00Z"))?,
        };
        let target = needed(self.target, "target")?;
        let scopes = self.scopes.unwrap_or_default();
        Ok(Question {
            client: needed(self.client, "client")?,
            vendor: needed(self.vendor, "vendor")?,
            grant: needed(self.grant, "grant")?,
            app: needed(self.app, "app")?,
            provider: needed(self.provider, "provider")?,
            grant_scopes: self.grant_scopes.unwrap_or_else(|| scopes.clone()),
            grant_targets: self.grant_targets.unwrap_or_else(|| vec![target.clone()]),
            target,
            scopes,
            key: self.key.unwrap_or_else(|| "key".to_owned()),
            binding: self.binding.unwrap_or_default(),
            tier: self.tier.unwrap_or_else(|| "hardware".to_owned()),
            // As a connection's is written down.
            address: self.address.map(|address| address.to_canonical()),
            at_s,
            ask,
        })
    }
}

/// Unix time in seconds of a time in UTC [RFC 3339 §5.6], without fractions.
fn unix_time_s(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2; 3])?;
    let small = |number: u16| u8::try_from(number).ok();
    let month = Month::try_from(small(month)?).ok()?;
    let date = Date::from_calendar_date(year.into(), month, small(day)?).ok()?;
    let time = Time::from_hms(small(hour)?, small(minute)?, small(second)?).ok()?;
    u64::try_from(UtcDateTime::new(date, time).unix_timestamp()).ok()
}

/// Three numbers of so many digits each.
fn numbers(text: &str, between: char, digits: [usize; 3]) -> Option<[u16; 3]> {
    let parts: Vec<&str> = text.split(between).collect();
    let parts: [&str; 3] = parts.try_into().ok()?;
    let mut found = [0; 3];
    for ((part, digits), number) in parts.iter().zip(digits).zip(&mut found) {
        let exact = part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
        *number = part.parse().ok().filter(|_| exact)?;
    }
    Some(found)
}

#[cfg(test)]
mod tests;
