//! The manifest's witnesses: who must have seen the control log before the enclave serves from a state.

use toml::Value;

use super::is_id;
use crate::fields::{Faults, Fields, FromField};

/// The most witnesses.
pub const MAX_WITNESSES: usize = 16;
/// How long a quorum's word lasts unless the manifest shortens it, in seconds: what claim C2 promises.
pub const MAX_LEASE_S: u64 = 30;
/// The longest URL.
const MAX_URL_BYTES: usize = 1_024;
/// The longest key.
const MAX_KEY_BYTES: usize = 512;

/// Who must have cosigned the control log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnesses {
    /// How many of them; more than half, so that two quorums have one in common.
    pub quorum: usize,
    /// How long their word lasts, in seconds: 1 to [`MAX_LEASE_S`].
    pub lease_s: u64,
    /// Each once by name, URL and key.
    pub witnesses: Vec<Witness>,
}

/// One witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// For logs; unique.
    pub name: String,
    /// Its submission prefix [C2SP tlog-witness], `http` or `https`.
    pub url: String,
    /// Its verifier key for `cosignature/v1` [C2SP tlog-cosignature], not parsed here.
    pub key: String,
}

pub(super) fn witnesses(mut fields: Fields, faults: &mut Faults) -> Option<Witnesses> {
    let quorum = fields.required::<u64>("quorum", faults);
    let lease_s = fields.optional("lease_s", faults).unwrap_or(MAX_LEASE_S);
    if !(1..=MAX_LEASE_S).contains(&lease_s) {
        faults.invalid(fields.path("lease_s"), "must be 1 to 30");
    }
    let witnesses = fields.required::<Vec<Witness>>("witness", faults);
    let path = fields.path("witness");
    let quorum_path = fields.path("quorum");
    fields.finish(faults);
    let (quorum, witnesses) = (usize::try_from(quorum?).ok()?, witnesses?);
    if witnesses.is_empty() || witnesses.len() > MAX_WITNESSES {
        faults.invalid(&path, "must have 1 to 16 entries");
    }
    for (i, witness) in witnesses.iter().enumerate() {
        let earlier = witnesses.get(..i).unwrap_or(&[]);
        let twice = |same: fn(&Witness) -> &str| {
            let is = |other: &Witness| same(other) == same(witness);
            earlier.iter().any(is)
        };
        for (key, twice) in [
            ("name", twice(|witness| &witness.name)),
            ("url", twice(|witness| &witness.url)),
            ("key", twice(|witness| &witness.key)),
        ] {
            if twice {
                faults.invalid(format!("{path}[{i}].{key}"), "occurs twice");
            }
        }
    }
    let half = witnesses.len() / 2;
    if quorum <= half || quorum > witnesses.len() {
        faults.invalid(
            quorum_path,
            "must be more than half of the witnesses, and not more than there are",
        );
    }
    Some(Witnesses {
        quorum,
        lease_s,
        witnesses,
    })
}

impl FromField for Witness {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        let mut fields = Fields::read(value, path, faults)?;
        let name = fields.required::<String>("name", faults);
        if name.as_deref().is_some_and(|name| !is_id(name)) {
            faults.invalid(
                fields.path("name"),
                "must be 1 to 64 letters, digits, '-', '_' and '.'",
            );
        }
        let url = fields.required::<String>("url", faults);
        let scheme = |url: &str| url.starts_with("https://") || url.starts_with("http://");
        if url
            .as_deref()
            .is_some_and(|url| !scheme(url) || url.len() > MAX_URL_BYTES)
        {
            faults.invalid(fields.path("url"), "must be an http or https URL");
        }
        let key = fields.required::<String>("key", faults);
        if key
            .as_deref()
            .is_some_and(|key| key.matches('+').count() < 2 || key.len() > MAX_KEY_BYTES)
        {
            faults.invalid(
                fields.path("key"),
                "must be a verifier key, name+id+key: `tokenkeep witness init` prints it",
            );
        }
        fields.finish(faults);
        Some(Self {
            name: name?,
            url: url?,
            key: key?,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::{EnclaveKind, Manifest};

    const TOP: &str = r#"sequence = 1
issuer = "https://127.0.0.1:1"
[origins]
grpc = "https://127.0.0.1:1"
public = "https://127.0.0.1:2"
gateway = "https://127.0.0.1:3"
[[administrators]]
name = "a"
spki_sha256 = "2222222222222222222222222222222222222222222222222222222222222222"
roles = ["operator"]
[witnesses]
quorum = 2
lease_s = 30
[[witnesses.witness]]
name = "one"
url = "https://one.example/w"
key = "one+00000001+AAA"
[[witnesses.witness]]
name = "two"
url = "http://two.example"
key = "two+00000002+AAB"
"#;

    #[test]
    fn each_fault_of_the_witnesses_is_named() {
        let check = |toml: &str| match Manifest::check(toml.as_bytes(), EnclaveKind::Emulated) {
            Ok(()) => Vec::new(),
            Err(faults) => faults.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(check(TOP), Vec::<String>::new());
        let rows = [
            ("quorum = 2", "quorum = 1", "witnesses.quorum"),
            ("quorum = 2", "quorum = 3", "witnesses.quorum"),
            ("quorum = 2", "", "witnesses.quorum"),
            ("lease_s = 30", "lease_s = 0", "witnesses.lease_s"),
            ("lease_s = 30", "lease_s = 31", "witnesses.lease_s"),
            ("\"two\"", "\"one\"", "witnesses.witness[1].name"),
            (
                "http://two.example",
                "https://one.example/w",
                "witnesses.witness[1].url",
            ),
            (
                "http://two.example",
                "ftp://two.example",
                "witnesses.witness[1].url",
            ),
            (
                "two+00000002+AAB",
                "one+00000001+AAA",
                "witnesses.witness[1].key",
            ),
            ("two+00000002+AAB", "two", "witnesses.witness[1].key"),
            (
                "name = \"two\"",
                "name = \"t w o\"",
                "witnesses.witness[1].name",
            ),
            ("lease_s = 30", "other = 1", "witnesses.other"),
        ];
        for (from, to, path) in rows {
            let found = check(&TOP.replacen(from, to, 1));
            assert_eq!(found.len(), 1, "{to}: {found:?}");
            assert!(found[0].starts_with(path), "{to}: {found:?}");
        }
    }
}
