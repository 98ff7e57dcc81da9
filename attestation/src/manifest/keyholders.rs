//! The manifest's keyholders, its images and its recovery key: who lets which image open the state.

use toml::Value;

use super::is_id;
use crate::fields::{Faults, Fields, FromField, Hex};

/// The most keyholders.
pub const MAX_KEYHOLDERS: usize = 16;
/// The most images.
const MAX_IMAGES: usize = 256;
/// The most recovery sets that are named as destroyed.
const MAX_DESTROYED: usize = 256;
/// The longest URL.
const MAX_URL_BYTES: usize = 1_024;

/// Who holds the shares that open the root key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyholders {
    /// How many of them must release their shares: 1 to as many as there are.
    pub quorum: usize,
    /// Whether their shares open the root key on any chip. If not, the chip's own key is needed too, so that the
    /// state opens on one chip only.
    pub off_chip: bool,
    /// Each once by name, URL and key.
    pub keyholders: Vec<Keyholder>,
}

impl Keyholders {
    /// How many of them the operator of the service runs.
    #[must_use]
    pub fn run_by_operator(&self) -> usize {
        let all = self.keyholders.iter();
        all.filter(|keyholder| keyholder.run_by == RunBy::Operator)
            .count()
    }

    /// Whether the operator runs as many as open the state: then nothing is kept from the operator.
    #[must_use]
    pub fn operator_has_quorum(&self) -> bool {
        self.run_by_operator() >= self.quorum
    }
}

/// One keyholder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyholder {
    /// For logs; unique.
    pub name: String,
    /// Where it answers, `http` or `https`: its answers are sealed and signed either way.
    pub url: String,
    /// Its Ed25519 public key, which signs its answers.
    pub key: [u8; 32],
    /// Who runs it.
    pub run_by: RunBy,
}

/// Who runs a keyholder. One that the operator runs gives no confidentiality against the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunBy {
    /// A tenant.
    Tenant,
    /// Neither the operator nor a tenant.
    ThirdParty,
    /// The one who runs the service.
    Operator,
}

impl RunBy {
    /// The word that manifests use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::ThirdParty => "third-party",
            Self::Operator => "operator",
        }
    }
}

/// Which images may open the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Launch measurements: SEV-SNP's, or TDX's MRTD.
    pub measurements: Vec<[u8; 48]>,
    /// The lowest guest SVN of an SEV-SNP image: one below it may not open the state, though it is measured right.
    pub min_guest_svn: u32,
}

/// Whom the root key is wrapped for besides the keyholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The X25519 public key of the recovery set: `tokenkeep recovery split` prints it.
    pub key: [u8; 32],
    /// Sets whose shares their holders have destroyed, by id.
    pub destroyed: Vec<[u8; 8]>,
}

/// The id of a recovery set: the first 8 bytes of SHA-256 of its public key.
#[must_use]
pub fn recovery_set(key: &[u8; 32]) -> [u8; 8] {
    let digest = crate::canonical::sha256(key);
    digest.first_chunk().copied().unwrap_or_default()
}

pub(super) fn keyholders(mut fields: Fields, faults: &mut Faults) -> Option<Keyholders> {
    let quorum = fields.required::<u64>("quorum", faults);
    let off_chip = fields.optional("off_chip", faults).unwrap_or(true);
    let keyholders = fields.required::<Vec<Keyholder>>("keyholder", faults);
    let path = fields.path("keyholder");
    let quorum_path = fields.path("quorum");
    fields.finish(faults);
    let (quorum, keyholders) = (usize::try_from(quorum?).ok()?, keyholders?);
    if keyholders.is_empty() || keyholders.len() > MAX_KEYHOLDERS {
        faults.invalid(&path, "must have 1 to 16 entries");
    }
    for (i, keyholder) in keyholders.iter().enumerate() {
        let earlier = keyholders.get(..i).unwrap_or(&[]);
        for (key, twice) in [
            (
                "name",
                earlier.iter().any(|other| other.name == keyholder.name),
            ),
            (
                "url",
                earlier.iter().any(|other| other.url == keyholder.url),
            ),
            (
                "key",
                earlier.iter().any(|other| other.key == keyholder.key),
            ),
        ] {
            if twice {
                faults.invalid(format!("{path}[{i}].{key}"), "occurs twice");
            }
        }
    }
    if quorum == 0 || quorum > keyholders.len() {
        faults.invalid(
            quorum_path,
            "must be at least 1, and not more keyholders than there are",
        );
    }
    Some(Keyholders {
        quorum,
        off_chip,
        keyholders,
    })
}

pub(super) fn images(mut fields: Fields, faults: &mut Faults) -> Option<Images> {
    let measurements = fields.required::<Vec<Hex<48>>>("measurements", faults);
    let path = fields.path("measurements");
    let min_guest_svn = fields.optional("min_guest_svn", faults).unwrap_or(0);
    fields.finish(faults);
    let measurements: Vec<[u8; 48]> = measurements?.into_iter().map(|Hex(bytes)| bytes).collect();
    if measurements.is_empty() || measurements.len() > MAX_IMAGES {
        faults.invalid(&path, "must have 1 to 256 entries");
    }
    for (i, measurement) in measurements.iter().enumerate() {
        if measurements.get(..i).unwrap_or(&[]).contains(measurement) {
            faults.invalid(format!("{path}[{i}]"), "occurs twice");
        }
    }
    Some(Images {
        measurements,
        min_guest_svn,
    })
}

pub(super) fn recovery(mut fields: Fields, faults: &mut Faults) -> Option<Recovery> {
    let key = fields.required::<Hex<32>>("key", faults);
    let destroyed: Vec<Hex<8>> = fields.optional("destroyed", faults).unwrap_or_default();
    let path = fields.path("destroyed");
    fields.finish(faults);
    let Hex(key) = key?;
    let destroyed: Vec<[u8; 8]> = destroyed.into_iter().map(|Hex(bytes)| bytes).collect();
    if destroyed.len() > MAX_DESTROYED {
        faults.invalid(&path, "must have at most 256 entries");
    }
    if destroyed.contains(&recovery_set(&key)) {
        faults.invalid(&path, "names the set that is in use");
    }
    Some(Recovery { key, destroyed })
}

impl FromField for Keyholder {
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
        let key = fields.required::<Hex<32>>("key", faults);
        let run_by = fields.required::<RunBy>("run_by", faults);
        fields.finish(faults);
        let Hex(key) = key?;
        Some(Self {
            name: name?,
            url: url?,
            key,
            run_by: run_by?,
        })
    }
}

impl FromField for RunBy {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        let text = String::read(value, path, faults)?;
        let known = [Self::Tenant, Self::ThirdParty, Self::Operator];
        let found = known.into_iter().find(|known| known.as_str() == text);
        if found.is_none() {
            faults.invalid(path, "must be tenant, third-party or operator");
        }
        found
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
[images]
measurements = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"]
min_guest_svn = 3
[recovery]
key = "0101010101010101010101010101010101010101010101010101010101010101"
destroyed = ["0000000000000001"]
[keyholders]
quorum = 2
off_chip = true
[[keyholders.keyholder]]
name = "one"
url = "https://one.example/k"
key = "1111111111111111111111111111111111111111111111111111111111111111"
run_by = "tenant"
[[keyholders.keyholder]]
name = "two"
url = "http://two.example"
key = "2222222222222222222222222222222222222222222222222222222222222222"
run_by = "third-party"
"#;

    #[test]
    fn each_fault_of_keyholders_images_and_recovery_is_named() {
        let check = |toml: &str| match Manifest::check(toml.as_bytes(), EnclaveKind::Emulated) {
            Ok(()) => Vec::new(),
            Err(faults) => faults.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(check(TOP), Vec::<String>::new());
        let in_use = hex::encode(super::recovery_set(&[1; 32]));
        let one = "1111111111111111111111111111111111111111111111111111111111111111\"\nrun_by";
        let two = "2222222222222222222222222222222222222222222222222222222222222222\"\nrun_by";
        let rows = [
            ("quorum = 2", "quorum = 0", "keyholders.quorum"),
            ("quorum = 2", "quorum = 3", "keyholders.quorum"),
            ("quorum = 2", "", "keyholders.quorum"),
            ("off_chip = true", "off_chip = 1", "keyholders.off_chip"),
            ("\"two\"", "\"one\"", "keyholders.keyholder[1].name"),
            ("\"two\"", "\"t o\"", "keyholders.keyholder[1].name"),
            (
                "http://two.example",
                "https://one.example/k",
                "keyholders.keyholder[1].url",
            ),
            (
                "http://two.example",
                "ftp://two.example",
                "keyholders.keyholder[1].url",
            ),
            (two, one, "keyholders.keyholder[1].key"),
            (two, "22\"\nrun_by", "keyholders.keyholder[1].key"),
            (
                "\"third-party\"",
                "\"friend\"",
                "keyholders.keyholder[1].run_by",
            ),
            ("off_chip = true", "other = 1", "keyholders.other"),
            ("aa\", \"bb", "aa\", \"b", "images.measurements[1]"),
            (
                "min_guest_svn = 3",
                "min_guest_svn = -1",
                "images.min_guest_svn",
            ),
            ("min_guest_svn = 3", "svn = 1", "images.svn"),
            ("0000000000000001", "01", "recovery.destroyed[0]"),
            ("0000000000000001", &in_use, "recovery.destroyed"),
            ("[recovery]\nkey", "[recovery]\nkeys", "recovery.key"),
        ];
        for (from, to, path) in rows {
            assert!(TOP.contains(from), "{from}");
            let found = check(&TOP.replacen(from, to, 1));
            assert!(!found.is_empty(), "{to}");
            assert!(found[0].starts_with(path), "{to}: {found:?}");
        }
    }
}
