//! What a manifest changes against the one before: what loosens, what tightens, what is just another. For whoever signs.
//!
//! When in doubt it loosens: a keyholder that comes or goes changes who guards the state, and so does a witness.

use super::{
    Administrator, Images, Keyholder, Keyholders, Manifest, Recovery, TlsRoots, TokenLimits,
    Witnesses,
};
use super::{EnclaveKind, read};
use crate::fields::FieldFault;

/// A manifest file that keeps all rules and whose signature nobody looked at: to be compared, never to serve by.
#[derive(Debug, Clone)]
pub struct Draft(Manifest);

/// What a change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// More is allowed, or fewer must agree.
    Loosens,
    /// Less is allowed, or more must agree.
    Tightens,
    /// Neither, or not for a program to say.
    Changes,
}

impl Effect {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loosens => "loosens",
            Self::Tightens => "tightens",
            Self::Changes => "changes",
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: String,
    /// What it does.
    pub effect: Effect,
    /// In words.
    pub what: String,
}

impl Draft {
    /// Reads a manifest file without its signature.
    ///
    /// # Errors
    /// All its faults.
    pub fn read(toml: &[u8], kind: EnclaveKind) -> Result<Self, Vec<FieldFault>> {
        read::manifest(toml, [0; 32], kind).map(Self)
    }

    /// Its sequence number.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.0.sequence
    }

    /// What is otherwise than in an earlier manifest, in the order of the file.
    #[must_use]
    pub fn changes_since(&self, before: &Self) -> Vec<Change> {
        let mut changes = Changes(Vec::new());
        compare(&before.0, &self.0, &mut changes);
        changes.0
    }
}

struct Changes(Vec<Change>);

impl Changes {
    fn add(&mut self, path: &str, effect: Effect, what: impl Into<String>) {
        self.0.push(Change {
            path: path.to_owned(),
            effect,
            what: what.into(),
        });
    }

    /// A number of which more loosens.
    fn more(&mut self, path: &str, before: u64, after: u64) {
        let effect = if after > before {
            Effect::Loosens
        } else {
            Effect::Tightens
        };
        if before != after {
            self.add(path, effect, format!("{before} → {after}"));
        }
    }

    /// A number of which fewer loosens.
    fn fewer(&mut self, path: &str, before: u64, after: u64) {
        let effect = if after < before {
            Effect::Loosens
        } else {
            Effect::Tightens
        };
        if before != after {
            self.add(path, effect, format!("{before} → {after}"));
        }
    }

    fn same(&mut self, path: &str, before: &str, after: &str) {
        if before != after {
            self.add(path, Effect::Changes, format!("{before} → {after}"));
        }
    }

    /// Entries that came loosen, those that went do as `gone` says.
    fn set(&mut self, path: &str, before: &[String], after: &[String], gone: Effect) {
        for entry in after.iter().filter(|entry| !before.contains(entry)) {
            self.add(path, Effect::Loosens, format!("{entry} added"));
        }
        for entry in before.iter().filter(|entry| !after.contains(entry)) {
            self.add(path, gone, format!("{entry} removed"));
        }
    }
}

fn compare(before: &Manifest, after: &Manifest, changes: &mut Changes) {
    let Manifest {
        digest: _,
        signer: _,
        sequence,
        issuer,
        origins,
        administrators,
        tls,
        upstream,
        token,
        rates,
        witnesses,
        keyholders,
        images,
        recovery,
        trust_domains,
        profile_signers,
    } = after;
    if *sequence <= before.sequence {
        let what = format!(
            "{} → {sequence}: it must rise, a state that saw the earlier one refuses this",
            before.sequence
        );
        changes.add("sequence", Effect::Loosens, what);
    }
    changes.same("issuer", before.issuer.as_str(), issuer.as_str());
    for (path, before, after) in [
        ("origins.grpc", &before.origins.grpc, &origins.grpc),
        ("origins.public", &before.origins.public, &origins.public),
        ("origins.gateway", &before.origins.gateway, &origins.gateway),
    ] {
        changes.same(path, before.as_str(), after.as_str());
    }
    let may = |administrators: &[Administrator]| -> Vec<String> {
        let each = administrators.iter().flat_map(|one| {
            let name = |role: &super::Role| {
                format!("{role} by {} ({})", one.name, hex::encode(one.spki_sha256))
            };
            one.roles.iter().map(name)
        });
        each.collect()
    };
    let (old, new) = (may(&before.administrators), may(administrators));
    changes.set("administrators", &old, &new, Effect::Tightens);
    compare_tls(&before.tls, tls, changes);
    changes.more(
        "upstream.allow_loopback",
        before.upstream.allow_loopback.into(),
        upstream.allow_loopback.into(),
    );
    compare_token(before.token, *token, changes);
    for (path, before, after) in [
        (
            "rates.client_per_s",
            before.rates.client_per_s,
            rates.client_per_s,
        ),
        (
            "rates.client_burst",
            before.rates.client_burst,
            rates.client_burst,
        ),
        (
            "rates.grant_upstream_per_s",
            before.rates.grant_upstream_per_s,
            rates.grant_upstream_per_s,
        ),
    ] {
        changes.more(path, before.into(), after.into());
    }
    let signers = |signers: &[[u8; 32]]| signers.iter().map(hex::encode).collect::<Vec<_>>();
    let (old, new) = (signers(&before.profile_signers), signers(profile_signers));
    changes.set("profiles.signers", &old, &new, Effect::Tightens);
    let domains = |manifest: &Manifest| -> Vec<String> {
        let each = manifest.trust_domains.iter();
        let named = each.map(|domain| format!("{} of {}", domain.name, domain.vendor));
        named.collect()
    };
    let (old, new) = (domains(before), domains(after));
    changes.set("trust_domains", &old, &new, Effect::Tightens);
    for domain in trust_domains {
        let mut earlier = before.trust_domains.iter();
        let same = earlier.find(|other| other.name == domain.name);
        if same.is_some_and(|other| other.bundle != domain.bundle) {
            let what = format!("{}: other authorities", domain.name);
            changes.add("trust_domains", Effect::Loosens, what);
        }
    }
    compare_witnesses(before.witnesses.as_ref(), witnesses.as_ref(), changes);
    compare_keyholders(before.keyholders.as_ref(), keyholders.as_ref(), changes);
    compare_images(before.images.as_ref(), images.as_ref(), changes);
    compare_recovery(before.recovery.as_ref(), recovery.as_ref(), changes);
}

fn compare_tls(before: &TlsRoots, after: &TlsRoots, changes: &mut Changes) {
    changes.more(
        "tls.webpki_roots",
        before.webpki_roots.into(),
        after.webpki_roots.into(),
    );
    let digests = |roots: &TlsRoots| -> Vec<String> {
        let each = roots.roots.iter();
        each.map(|root| hex::encode(crate::canonical::sha256(root)))
            .collect()
    };
    let (old, new) = (digests(before), digests(after));
    changes.set("tls.roots_pem", &old, &new, Effect::Tightens);
}

fn compare_token(before: TokenLimits, after: TokenLimits, changes: &mut Changes) {
    changes.more(
        "token.max_lifetime_s",
        before.max_lifetime_s,
        after.max_lifetime_s,
    );
    if before.alg != after.alg {
        let what = format!("{:?} → {:?}, for new keys", before.alg, after.alg);
        changes.add("token.alg", Effect::Changes, what);
    }
    let days = |limits: TokenLimits| limits.rotate_after_days.unwrap_or(u64::MAX);
    if days(before) != days(after) {
        let effect = if days(after) > days(before) {
            Effect::Loosens
        } else {
            Effect::Tightens
        };
        let word = |limits: TokenLimits| {
            limits
                .rotate_after_days
                .map_or_else(|| "never".to_owned(), |days| days.to_string())
        };
        let what = format!("{} → {}", word(before), word(after));
        changes.add("token.rotate_after_days", effect, what);
    }
}

/// Both tables, or the word that one came or went.
fn both<'a, T>(
    path: &str,
    (before, after): (Option<&'a T>, Option<&'a T>),
    (came, gone): (Effect, Effect),
    changes: &mut Changes,
) -> Option<(&'a T, &'a T)> {
    match (before, after) {
        (Some(before), Some(after)) => return Some((before, after)),
        (None, None) => {}
        (None, Some(_)) => changes.add(path, came, "the table is new"),
        (Some(_), None) => changes.add(path, gone, "the table is gone"),
    }
    None
}

fn compare_witnesses(before: Option<&Witnesses>, after: Option<&Witnesses>, changes: &mut Changes) {
    let effects = (Effect::Tightens, Effect::Loosens);
    let Some((before, after)) = both("witnesses", (before, after), effects, changes) else {
        return;
    };
    let size = |quorum: usize| u64::try_from(quorum).unwrap_or(u64::MAX);
    changes.fewer("witnesses.quorum", size(before.quorum), size(after.quorum));
    changes.more("witnesses.lease_s", before.lease_s, after.lease_s);
    let keys = |witnesses: &Witnesses| -> Vec<String> {
        let each = witnesses.witnesses.iter();
        each.map(|one| format!("{} ({})", one.name, one.key))
            .collect()
    };
    let (old, new) = (keys(before), keys(after));
    changes.set("witnesses.witness", &old, &new, Effect::Loosens);
}

fn compare_keyholders(
    before: Option<&Keyholders>,
    after: Option<&Keyholders>,
    changes: &mut Changes,
) {
    let effects = (Effect::Tightens, Effect::Loosens);
    let Some((before, after)) = both("keyholders", (before, after), effects, changes) else {
        return;
    };
    let size = |quorum: usize| u64::try_from(quorum).unwrap_or(u64::MAX);
    changes.fewer("keyholders.quorum", size(before.quorum), size(after.quorum));
    changes.more(
        "keyholders.off_chip",
        before.off_chip.into(),
        after.off_chip.into(),
    );
    let word = |one: &Keyholder| {
        let run_by = one.run_by.as_str();
        format!("{} ({}, run by {run_by})", one.name, hex::encode(one.key))
    };
    let words = |table: &Keyholders| -> Vec<String> { table.keyholders.iter().map(word).collect() };
    let (old, new) = (words(before), words(after));
    changes.set("keyholders.keyholder", &old, &new, Effect::Loosens);
}

fn compare_images(before: Option<&Images>, after: Option<&Images>, changes: &mut Changes) {
    let effects = (Effect::Tightens, Effect::Loosens);
    let Some((before, after)) = both("images", (before, after), effects, changes) else {
        return;
    };
    let words =
        |images: &Images| -> Vec<String> { images.measurements.iter().map(hex::encode).collect() };
    let (old, new) = (words(before), words(after));
    changes.set("images.measurements", &old, &new, Effect::Tightens);
    changes.fewer(
        "images.min_guest_svn",
        before.min_guest_svn.into(),
        after.min_guest_svn.into(),
    );
}

fn compare_recovery(before: Option<&Recovery>, after: Option<&Recovery>, changes: &mut Changes) {
    let effects = (Effect::Loosens, Effect::Tightens);
    let Some((before, after)) = both("recovery", (before, after), effects, changes) else {
        return;
    };
    if before.key != after.key {
        let (old, new) = (hex::encode(before.key), hex::encode(after.key));
        changes.add("recovery.key", Effect::Loosens, format!("{old} → {new}"));
    }
    let sets = |recovery: &Recovery| -> Vec<String> {
        recovery.destroyed.iter().map(hex::encode).collect()
    };
    let (old, new) = (sets(before), sets(after));
    // An erasure believes it.
    changes.set("recovery.destroyed", &old, &new, Effect::Changes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"
sequence = 3
issuer = "https://tokens.example"
[origins]
grpc = "https://tokens.example:8443"
public = "https://tokens.example"
gateway = "https://gateway.example"
[[administrators]]
name = "ops"
spki_sha256 = "1111111111111111111111111111111111111111111111111111111111111111"
roles = ["operator"]
[token]
max_lifetime_s = 200
rotate_after_days = 30
[rates]
client_per_s = 50
[keyholders]
quorum = 1
off_chip = false
[[keyholders.keyholder]]
name = "bank"
url = "https://keyholder.bank.example"
key = "4444444444444444444444444444444444444444444444444444444444444444"
run_by = "tenant"
[images]
measurements = ["AA"]
min_guest_svn = 2
[recovery]
key = "5555555555555555555555555555555555555555555555555555555555555555"
"#;

    fn draft(change: impl Fn(String) -> String) -> Draft {
        let image = |byte: &str| byte.repeat(48);
        let text = change(BASE.to_owned())
            .replace("AA", &image("ab"))
            .replace("BB", &image("cd"));
        Draft::read(text.as_bytes(), EnclaveKind::Hardware).unwrap()
    }

    #[test]
    fn each_change_is_named_with_what_it_does() {
        use Effect::{Changes, Loosens, Tightens};
        let rows = [
            ("sequence = 3", "sequence = 4", vec![]),
            ("sequence = 3", "sequence = 2", vec![("sequence", Loosens)]),
            (
                "\"https://gateway.example\"",
                "\"https://gateway2.example\"",
                vec![("origins.gateway", Changes)],
            ),
            (
                "[\"operator\"]",
                "[\"operator\", \"tenant:a\"]",
                vec![("administrators", Loosens)],
            ),
            (
                "[token]",
                "[tls]\nwebpki_roots = false\n[token]",
                vec![("tls.webpki_roots", Tightens)],
            ),
            ("= 200", "= 300", vec![("token.max_lifetime_s", Loosens)]),
            (
                "days = 30",
                "days = 0",
                vec![("token.rotate_after_days", Loosens)],
            ),
            (
                "days = 30",
                "days = 7",
                vec![("token.rotate_after_days", Tightens)],
            ),
            (
                "per_s = 50",
                "per_s = 51",
                vec![("rates.client_per_s", Loosens)],
            ),
            (
                "per_s = 50",
                "per_s = 49",
                vec![("rates.client_per_s", Tightens)],
            ),
            (
                "off_chip = false",
                "off_chip = true",
                vec![("keyholders.off_chip", Loosens)],
            ),
            (
                "run_by = \"tenant\"",
                "run_by = \"operator\"",
                vec![
                    ("keyholders.keyholder", Loosens),
                    ("keyholders.keyholder", Loosens),
                ],
            ),
            (
                "[\"AA\"]",
                "[\"AA\", \"BB\"]",
                vec![("images.measurements", Loosens)],
            ),
            (
                "[\"AA\"]",
                "[\"BB\"]",
                vec![
                    ("images.measurements", Loosens),
                    ("images.measurements", Tightens),
                ],
            ),
            (
                "svn = 2",
                "svn = 1",
                vec![("images.min_guest_svn", Loosens)],
            ),
            (
                "svn = 2",
                "svn = 3",
                vec![("images.min_guest_svn", Tightens)],
            ),
            (
                "key = \"5555",
                "key = \"6666",
                vec![("recovery.key", Loosens)],
            ),
        ];
        let before = draft(|text| text);
        for (from, to, expected) in rows {
            let after = draft(|text| {
                let risen = text.replace(from, to);
                assert_ne!(risen, text, "{from}");
                if from.starts_with("sequence") {
                    risen
                } else {
                    risen.replace("sequence = 3", "sequence = 4")
                }
            });
            let found = after.changes_since(&before);
            let found: Vec<(&str, Effect)> = found
                .iter()
                .map(|change| (change.path.as_str(), change.effect))
                .collect();
            assert_eq!(found, expected, "{from} → {to}");
        }
    }

    #[test]
    fn a_table_that_comes_or_goes_is_named() {
        let without = |table: &'static str| {
            move |text: String| {
                let (before, rest) = text.split_once(&format!("[{table}]\n")).unwrap();
                let rest = rest.split_once("\n[").filter(|_| table == "images");
                let after = rest.map_or(String::new(), |(_, after)| format!("[{after}"));
                format!("{before}{after}").replace("sequence = 3", "sequence = 4")
            }
        };
        let whole = draft(|text| text.replace("sequence = 3", "sequence = 5"));
        let rows = [
            ("images", Effect::Tightens, Effect::Loosens),
            ("recovery", Effect::Loosens, Effect::Tightens),
        ];
        for (table, came, gone) in rows {
            let less = draft(without(table));
            let found = whole.changes_since(&less);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].path.as_str(), found[0].effect), (table, came));
            let less = draft(|text| without(table)(text).replace("sequence = 4", "sequence = 6"));
            let found = less.changes_since(&whole);
            assert_eq!((found[0].path.as_str(), found[0].effect), (table, gone));
        }
    }
}
