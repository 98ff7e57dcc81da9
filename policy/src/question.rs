//! What a policy is asked, and how Cedar is asked it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::LazyLock;

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression,
};
use serde::Deserialize;
use time::UtcDateTime;

use crate::looks::Looks;

/// The actions of the schema.
pub(crate) const ACTIONS: [&str; 2] = ["issue", "call"];

/// One question: who asks for what, and when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// The client.
    pub client: String,
    /// Whose it is.
    pub vendor: String,
    /// The grant.
    pub grant: String,
    /// The app that it is for.
    pub app: String,
    /// Where that is registered.
    pub provider: String,
    /// The grant's scopes.
    pub grant_scopes: Vec<String>,
    /// The grant's targets.
    pub grant_targets: Vec<String>,
    /// The target.
    pub target: String,
    /// The token's scopes.
    pub scopes: Vec<String>,
    /// The thumbprint of the key or certificate that the token is bound to.
    pub key: String,
    /// Which of the two.
    pub binding: Binding,
    /// The assurance that tokens name.
    pub tier: String,
    /// Where the connection came from, if that is known.
    pub address: Option<IpAddr>,
    /// When, Unix time in seconds: the latest that it may be.
    pub at_s: u64,
    /// What is asked for.
    pub ask: Ask,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// A token.
    Issue {
        /// Its audience.
        audience: String,
    },
    /// A call through the gateway.
    Call {
        /// The operation's id; empty at a target that lists none.
        operation: String,
        /// The HTTP method.
        method: String,
    },
}

impl Ask {
    /// The schema's word for it.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::Issue { .. } => "issue",
            Self::Call { .. } => "call",
        }
    }
}

/// By what a token is bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binding {
    /// The key of a proof [RFC 9449].
    #[default]
    Dpop,
    /// The certificate of the connection [RFC 8705].
    Mtls,
}

impl Binding {
    fn word(self) -> &'static str {
        match self {
            Self::Dpop => "dpop",
            Self::Mtls => "mtls",
        }
    }
}

/// The schema's types.
struct Types {
    action: EntityTypeName,
    app: EntityTypeName,
    client: EntityTypeName,
    grant: EntityTypeName,
    provider: EntityTypeName,
    vendor: EntityTypeName,
}

fn types() -> Option<&'static Types> {
    static TYPES: LazyLock<Option<Types>> = LazyLock::new(|| {
        let name = |text| EntityTypeName::from_str(text).ok();
        Some(Types {
            action: name("Action")?,
            app: name("App")?,
            client: name("Client")?,
            grant: name("Grant")?,
            provider: name("Provider")?,
            vendor: name("Vendor")?,
        })
    });
    TYPES.as_ref()
}

fn uid(of: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id))
}

fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

fn texts(all: &[String]) -> RestrictedExpression {
    RestrictedExpression::new_set(all.iter().map(|one| text(one)))
}

impl Question {
    /// The question as Cedar takes it, with what is looked at; none if it can't be put, which does not happen for what
    /// the registry holds.
    pub(crate) fn put(&self, looks: &Looks) -> Option<(Request, Entities)> {
        let types = types()?;
        let (client, grant) = (
            uid(&types.client, &self.client),
            uid(&types.grant, &self.grant),
        );
        let entities = match looks.attributes || looks.above {
            true => self.entities(types, &client, &grant, looks)?,
            false => Entities::empty(),
        };
        let action = uid(&types.action, self.ask.action());
        let request = Request::new(client, action, grant, self.context(looks)?, None).ok()?;
        Some((request, entities))
    }

    /// Whether its time has a date, without which it can't be put.
    pub(crate) fn is_in_calendar(&self) -> bool {
        self.time().is_some()
    }

    fn time(&self) -> Option<UtcDateTime> {
        let at_s = i64::try_from(self.at_s).ok()?;
        UtcDateTime::from_unix_timestamp(at_s).ok()
    }

    /// About how many bytes it takes.
    pub(crate) fn text_bytes(&self) -> usize {
        let Self {
            client,
            vendor,
            grant,
            app,
            provider,
            grant_scopes,
            grant_targets,
            target,
            scopes,
            key,
            tier,
            ask,
            binding: _,
            address: _,
            at_s: _,
        } = self;
        let (one, other) = match ask {
            Ask::Issue { audience } => (audience.len(), 0),
            Ask::Call { operation, method } => (operation.len(), method.len()),
        };
        let single = [client, vendor, grant, app, provider, target, key, tier];
        let single = single.into_iter().map(String::len);
        let listed = [grant_scopes, grant_targets, scopes].into_iter().flatten();
        // Each has a head of its own in memory.
        let head = size_of::<String>().saturating_add(16);
        let all = single.chain(listed.map(String::len)).chain([one, other]);
        all.map(|bytes| bytes.saturating_add(head)).sum()
    }

    fn entities(
        &self,
        types: &Types,
        client: &EntityUid,
        grant: &EntityUid,
        looks: &Looks,
    ) -> Option<Entities> {
        let (above_client, above_grant) = match looks.above {
            true => (
                HashSet::from([uid(&types.vendor, &self.vendor)]),
                HashSet::from([
                    uid(&types.app, &self.app),
                    uid(&types.provider, &self.provider),
                ]),
            ),
            false => (HashSet::new(), HashSet::new()),
        };
        let attributes = match looks.attributes {
            true => HashMap::from([
                ("scopes".to_owned(), texts(&self.grant_scopes)),
                ("targets".to_owned(), texts(&self.grant_targets)),
            ]),
            false => HashMap::new(),
        };
        let asks = Entity::new_no_attrs(client.clone(), above_client);
        let asked = Entity::new(grant.clone(), attributes, above_grant).ok()?;
        Entities::from_entities([asks, asked], None).ok()
    }

    fn context(&self, looks: &Looks) -> Option<Context> {
        let at = self.time()?;
        let mut pairs = Vec::new();
        let mut add = |name: &str, value: &dyn Fn() -> RestrictedExpression| {
            if looks.at(name) {
                pairs.push((name.to_owned(), value()));
            }
        };
        add("now", &|| RestrictedExpression::new_datetime(words_of(at)));
        add("weekday", &|| {
            let weekday = at.weekday().number_from_monday();
            RestrictedExpression::new_long(i64::from(weekday))
        });
        add("key", &|| text(&self.key));
        add("binding", &|| text(self.binding.word()));
        add("tier", &|| text(&self.tier));
        add("target", &|| text(&self.target));
        add("scopes", &|| texts(&self.scopes));
        if let Some(address) = self.address {
            add("address", &|| {
                RestrictedExpression::new_ip(address.to_string())
            });
        }
        match &self.ask {
            Ask::Issue { audience } => add("audience", &|| text(audience)),
            Ask::Call { operation, method } => {
                add("operation", &|| text(operation));
                add("method", &|| text(method));
            }
        }
        Context::from_pairs(pairs).ok()
    }
}

/// A time as Cedar writes it.
fn words_of(at: UtcDateTime) -> String {
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.as_hms();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::validator;

    pub(crate) fn question(ask: Ask) -> Question {
        Question {
            client: "worker".into(),
            vendor: "crm-sync".into(),
            grant: "contacts".into(),
            app: "crm-app".into(),
            provider: "crm".into(),
            grant_scopes: vec!["read".into(), "write".into()],
            grant_targets: vec!["api".into()],
            target: "api".into(),
            scopes: vec!["read".into()],
            key: "thumbprint".into(),
            binding: Binding::Dpop,
            tier: "hardware".into(),
            address: Some("192.0.2.7".parse().unwrap()),
            at_s: 1_796_000_000,
            ask,
        }
    }

    #[test]
    fn each_question_is_one_of_the_schema() {
        let schema = validator().unwrap().schema();
        let issue = Ask::Issue {
            audience: "https://g.example/g/contacts/api".into(),
        };
        let call = Ask::Call {
            operation: "people-list".into(),
            method: "GET".into(),
        };
        for ask in [issue, call] {
            for address in [None, Some("2001:db8::1".parse().unwrap())] {
                let asked = Question {
                    address,
                    ..question(ask.clone())
                };
                let (request, entities) = asked.put(&Looks::everywhere()).unwrap();
                let again = Request::new(
                    request.principal().unwrap().clone(),
                    request.action().unwrap().clone(),
                    request.resource().unwrap().clone(),
                    asked.context(&Looks::everywhere()).unwrap(),
                    Some(schema),
                );
                assert!(again.is_ok(), "{:?}", again.err());
                let all: Vec<Entity> = entities.iter().cloned().collect();
                let held = Entities::from_entities(all, Some(schema));
                assert!(held.is_ok(), "{:?}", held.err());
            }
        }
    }

    #[test]
    fn a_time_beyond_the_calendar_is_not_asked() {
        let ask = Ask::Issue {
            audience: String::new(),
        };
        for (at_s, expected) in [(0, true), (253_402_300_799, true), (u64::MAX, false)] {
            let asked = Question {
                at_s,
                ..question(ask.clone())
            };
            assert_eq!(
                asked.put(&Looks::everywhere()).is_some(),
                expected,
                "{at_s}"
            );
        }
    }
}
