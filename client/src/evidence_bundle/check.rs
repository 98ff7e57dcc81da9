//! What an evidence bundle is worth: the evidence appraised, the key that it binds, and each part held against that.

use attestation::evidence_bundle::part;
use attestation::manifest::{EnclaveKind, Manifest};
use attestation::{
    Appraisal, Evidence, EvidenceBundle, Expected, KeyBundle, Nonce, Outcome, Purpose, Tier,
    UnixTime, Verdict, report_data,
};
use serde_json::Value;
use tlog::{CosignerKey, VerifiedCheckpoint};

use crate::audit::{LogKeys, LogName};
use crate::bound_manifest::opened;
use crate::verification::{Binding, Verification, sha256, signer_binding};

/// How far the enclave's clock may be ahead of the checker's, in seconds.
const MAX_AHEAD_S: u64 = 300;

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleCheck {
    /// Its stable name.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What it looked for.
    pub expected: String,
    /// What it found.
    pub found: String,
}

/// The head of a log, by a checkpoint in the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHead {
    /// The log's origin.
    pub origin: String,
    /// How many leaves it has.
    pub size: u64,
    /// Its root, in base64.
    pub root: String,
    /// The witnesses of the manifest that cosigned, by name.
    pub cosigned_by: Vec<String>,
}

/// What a bundle says, worth what the verdict is worth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The service's issuer.
    pub issuer: Option<String>,
    /// SHA-256 of the manifest, in hex.
    pub manifest_sha256: Option<String>,
    /// Its number.
    pub manifest_sequence: Option<u64>,
    /// The heads of the logs.
    pub logs: Vec<LogHead>,
    /// How many grants the tenant has.
    pub grants: usize,
    /// How many of them are usable: active, and not frozen.
    pub usable_grants: usize,
    /// How many freezes the tenant has set.
    pub freezes: usize,
    /// SHA-256 of the tenant's policy, in hex; none if it has set none.
    pub policy_sha256: Option<String>,
    /// How many components the SBOM lists.
    pub components: usize,
}

/// A bundle with all that was found.
#[derive(Debug, Clone)]
pub struct BundleFindings {
    /// `reject` if a check failed, else what the appraisal says.
    pub verdict: Verdict,
    /// What vouches for it.
    pub tier: Option<Tier>,
    /// The checks, those of the appraisal first.
    pub checks: Vec<BundleCheck>,
    /// What the bundle says.
    pub contents: Contents,
}

/// Verifies a bundle as of a time, by roots and reference values alone. With `nonce`, it must have been made for that.
#[must_use]
pub fn check(
    bundle: &EvidenceBundle,
    verification: &Verification,
    nonce: Option<&Nonce>,
    at_s: u64,
) -> BundleFindings {
    let mut run = Run {
        bundle,
        checks: Vec::new(),
        contents: Contents::default(),
    };
    let appraisal = run.evidence(verification, nonce, at_s);
    let failed = |check: &BundleCheck| check.outcome == Outcome::Fail;
    let verdict = match &appraisal {
        Some(appraisal) if !run.checks.iter().any(failed) => appraisal.verdict(),
        Some(_) | None => Verdict::Reject,
    };
    BundleFindings {
        verdict,
        tier: appraisal.as_ref().and_then(Appraisal::tier),
        checks: run.checks,
        contents: run.contents,
    }
}

struct Run<'a> {
    bundle: &'a EvidenceBundle,
    checks: Vec<BundleCheck>,
    contents: Contents,
}

impl Run<'_> {
    fn push(&mut self, name: &str, outcome: Outcome, expected: String, found: String) {
        self.checks.push(BundleCheck {
            name: name.to_owned(),
            outcome,
            expected,
            found,
        });
    }

    /// A check that a result tells the end of.
    fn told(&mut self, name: &str, expected: &str, found: Result<String, String>) {
        let (outcome, found) = match found {
            Ok(found) => (Outcome::Pass, found),
            Err(why) => (Outcome::Fail, why),
        };
        self.push(name, outcome, expected.to_owned(), found);
    }

    /// A part, whose absence is a fault.
    fn part(&mut self, name: &'static str) -> Option<Vec<u8>> {
        let found = self.bundle.part(name).map(<[u8]>::to_vec);
        if found.is_none() {
            let outcome = Outcome::Fail;
            self.push("bundle_part", outcome, name.to_owned(), "absent".to_owned());
        }
        found
    }

    /// The evidence and all that hangs from it; none if there is nothing to appraise.
    fn evidence(
        &mut self,
        verification: &Verification,
        nonce: Option<&Nonce>,
        at_s: u64,
    ) -> Option<Appraisal> {
        let evidence = Evidence::from_json(&self.part(part::EVIDENCE)?);
        let evidence = evidence.map_err(|error| error.to_string());
        let encoded = self.part(part::KEY_BUNDLE)?;
        let keys = KeyBundle::decode(&encoded).map_err(|error| error.to_string());
        let (evidence, keys) = match (evidence, keys) {
            (Ok(evidence), Ok(keys)) => (evidence, keys),
            (evidence, keys) => {
                let expected = "evidence and a key bundle";
                let fault = evidence.err().or(keys.err()).unwrap_or_default();
                self.told("evidence_form", expected, Err(fault));
                return None;
            }
        };
        let statement = self.bundle.statement();
        let digest = sha256(&encoded);
        let root = statement.nonce_path.root(&statement.nonce);
        let data = report_data(Purpose::Server, &root, &digest);
        let Verification { roots, policy } = verification;
        let appraisal = attestation::assess(
            &evidence,
            roots,
            UnixTime::from_secs(at_s),
            policy.as_ref(),
            &Expected::report_data(data),
        );
        self.checks
            .extend(appraisal.checks().iter().map(|check| BundleCheck {
                name: check.name.as_str().to_owned(),
                outcome: check.outcome,
                expected: check.expected.clone(),
                found: match &check.reason {
                    Some(reason) if check.found.is_empty() => reason.clone(),
                    Some(_) | None => check.found.clone(),
                },
            }));
        if let Some(appraised) = appraisal.appraised() {
            let Binding {
                name,
                outcome,
                expected,
                found,
            } = signer_binding(&keys, appraised.host_data());
            self.push(name, outcome, expected, found);
        }
        self.statement(&keys, &digest, nonce, at_s);
        self.contents.issuer = Some(keys.issuer.clone());
        let manifest = self.manifest(&keys, appraisal.tier());
        self.logs(&keys, manifest.as_ref());
        self.inventory();
        self.sbom();
        Some(appraisal)
    }

    fn statement(&mut self, keys: &KeyBundle, digest: &[u8; 32], nonce: Option<&Nonce>, at_s: u64) {
        let statement = self.bundle.statement();
        let named = &statement.key_bundle_sha256;
        let same = named == digest;
        self.told(
            "bundle_key_bundle",
            &hex::encode(digest),
            if same { Ok } else { Err }(hex::encode(named)),
        );
        let signed = self.bundle.verify_signature(&keys.instance_key, digest);
        self.told(
            "bundle_signature",
            "by the instance key of the key bundle that the evidence binds",
            match signed {
                Ok(()) => Ok("by it".to_owned()),
                Err(error) => Err(error.to_string()),
            },
        );
        let latest_s = at_s.saturating_add(MAX_AHEAD_S);
        let (made_at_s, early) = (statement.made_at_s, statement.made_at_s <= latest_s);
        self.told(
            "bundle_time",
            &format!("made before unix time {latest_s}"),
            if early { Ok } else { Err }(made_at_s.to_string()),
        );
        if let Some(nonce) = nonce {
            let (found, same) = (hex::encode(statement.nonce), statement.nonce == *nonce);
            self.told(
                "bundle_nonce",
                &hex::encode(nonce),
                if same { Ok } else { Err }(found),
            );
        }
    }

    /// The manifest, if it is the one that the evidence binds.
    fn manifest(&mut self, keys: &KeyBundle, tier: Option<Tier>) -> Option<Manifest> {
        let toml = self.part(part::MANIFEST)?;
        let signature = self.part(part::MANIFEST_SIGNATURE)?;
        self.contents.manifest_sha256 = Some(hex::encode(sha256(&toml)));
        let kind = match tier {
            Some(Tier::Emulated) => EnclaveKind::Emulated,
            Some(Tier::Hardware | Tier::Reduced) => EnclaveKind::Hardware,
            None => {
                let why = "the evidence is not authentic: nothing vouches for a manifest";
                self.push(
                    "bundle_manifest",
                    Outcome::NotRun,
                    hex::encode(keys.manifest_digest),
                    why.to_owned(),
                );
                return None;
            }
        };
        let bound = (&keys.manifest_digest, &keys.manifest_signer);
        let found = opened(&toml, &signature, bound, kind);
        self.contents.manifest_sequence = found.as_ref().ok().map(Manifest::sequence);
        self.told(
            "bundle_manifest",
            &hex::encode(keys.manifest_digest),
            match &found {
                Ok(_) => Ok(hex::encode(sha256(&toml))),
                Err(error) => Err(error.to_string()),
            },
        );
        found.ok()
    }

    fn logs(&mut self, keys: &KeyBundle, manifest: Option<&Manifest>) {
        let mut heads = Vec::new();
        let bundle = self.bundle;
        let notes = bundle.parts().iter().filter_map(|one| {
            let name = one.name.strip_prefix(part::CHECKPOINT)?;
            Some((name, one.bytes.as_slice()))
        });
        let earlier = || LogKeys::earlier_from_bundle(keys);
        let found = match LogKeys::from_bundle(keys).and_then(|key| Ok((key, earlier()?))) {
            Ok((key, earlier)) => notes
                .map(|(name, note)| {
                    let head = open(&key, &earlier, name, note, manifest);
                    head.map_err(|why| format!("{name}: {why}"))
                })
                .collect::<Result<Vec<_>, String>>(),
            Err(error) => Err(error.to_string()),
        };
        let found = found.and_then(|found| {
            let control = found.iter().any(|(name, _)| *name == LogName::Control);
            heads = found.into_iter().map(|(_, head)| head).collect();
            if control {
                Ok(format!("{} logs", heads.len()))
            } else {
                Err("there is no checkpoint of the control log".to_owned())
            }
        });
        let is_ok = found.is_ok();
        let expected =
            "checkpoints by the log keys of the key bundle, the control log's among them";
        self.told("bundle_checkpoints", expected, found);
        if is_ok {
            self.cosigned(&heads, manifest);
        }
        self.contents.logs = heads;
    }

    /// Where the manifest has witnesses, a quorum of them must have cosigned the control log's checkpoint.
    fn cosigned(&mut self, heads: &[LogHead], manifest: Option<&Manifest>) {
        let witnesses = manifest.and_then(Manifest::witnesses);
        let Some(witnesses) = witnesses else {
            let why = match manifest {
                Some(_) => {
                    "the manifest has no witnesses: a disk that is put back is not found out"
                }
                None => "the manifest is not known",
            };
            let outcome = match manifest {
                Some(_) => Outcome::NotApplicable,
                None => Outcome::NotRun,
            };
            self.push(
                "bundle_cosignatures",
                outcome,
                String::new(),
                why.to_owned(),
            );
            return;
        };
        let control = heads
            .iter()
            .find(|head| head.origin.ends_with("/log/control"));
        let by = control.map_or(&[][..], |head| &head.cosigned_by);
        let found = format!("{} of them: {}", by.len(), by.join(", "));
        self.told(
            "bundle_cosignatures",
            &format!("{} witnesses on the control log", witnesses.quorum),
            if by.len() >= witnesses.quorum {
                Ok
            } else {
                Err
            }(found),
        );
    }

    fn inventory(&mut self) {
        let Some(json) = self.part(part::INVENTORY) else {
            return;
        };
        let statement = self.bundle.statement();
        let policy = self.bundle.part(part::POLICY).map(sha256).map(hex::encode);
        let found = read_inventory(&json, &statement.tenant, policy.as_deref());
        let expected = format!("that of {} with the policy in the bundle", statement.tenant);
        self.contents.policy_sha256 = policy;
        let found = found.map(|(grants, usable, freezes)| {
            self.contents.grants = grants;
            self.contents.usable_grants = usable;
            self.contents.freezes = freezes;
            format!("{grants} grants, {freezes} freezes")
        });
        self.told("bundle_inventory", &expected, found);
    }

    fn sbom(&mut self) {
        let Some(json) = self.part(part::SBOM) else {
            return;
        };
        let found = read_sbom(&json).map(|components| {
            self.contents.components = components;
            format!("{components} components")
        });
        self.told("bundle_sbom", "CycloneDX 1.6 of tokenkeepd", found);
    }
}

/// A checkpoint under the name of its part. One that was cosigned before the log key was replaced is by an earlier one.
fn open(
    keys: &LogKeys,
    earlier: &[LogKeys],
    name: &str,
    note: &[u8],
    manifest: Option<&Manifest>,
) -> Result<(LogName, LogHead), String> {
    let name: LogName = name.parse().map_err(|error| format!("{error}"))?;
    let origin = keys.origin(&name).map_err(|error| error.to_string())?;
    let opened = |keys: &LogKeys| {
        let key = keys.verifier_key(&name);
        let key = key.map_err(|error| error.to_string())?;
        let checkpoint = VerifiedCheckpoint::open(note, &origin, &[key]);
        checkpoint.map_err(|error| error.to_string())
    };
    let by_earlier = |why| {
        let mut earlier = earlier.iter();
        earlier.find_map(|keys| opened(keys).ok()).ok_or(why)
    };
    let checkpoint = opened(keys).or_else(by_earlier)?;
    let witnesses = manifest.and_then(Manifest::witnesses);
    let mut cosigners: Vec<CosignerKey> = Vec::new();
    for witness in witnesses.iter().flat_map(|table| &table.witnesses) {
        let key = witness.key.parse();
        cosigners.push(key.map_err(|error| format!("witness {}: {error}", witness.name))?);
    }
    let cosigned = checkpoint.cosignatures(&cosigners);
    let cosigned = cosigned.map_err(|error| error.to_string())?;
    let head = checkpoint.head();
    let cosigned_by = cosigned
        .iter()
        .map(|one| one.key().name().as_str().to_owned());
    Ok((
        name,
        LogHead {
            origin: origin.as_str().to_owned(),
            size: head.size,
            root: head.root.to_string(),
            cosigned_by: cosigned_by.collect(),
        },
    ))
}

/// Counts grants, usable ones and freezes of an inventory.
fn read_inventory(
    json: &[u8],
    tenant: &str,
    policy: Option<&str>,
) -> Result<(usize, usize, usize), String> {
    let json: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let text = |value: &Value, name: &str| {
        let found = value.get(name).and_then(Value::as_str);
        found.map(str::to_owned)
    };
    if text(&json, "format").as_deref() != Some("tokenkeep/inventory/v1") {
        return Err("it is not of the form tokenkeep/inventory/v1".to_owned());
    }
    let found = text(&json, "tenant").unwrap_or_default();
    if found != tenant {
        return Err(format!("it is that of {found}"));
    }
    let stated = json.get("policy").and_then(|policy| text(policy, "sha256"));
    if stated.as_deref() != policy {
        let stated = stated.as_deref().unwrap_or("none");
        return Err(format!("its policy has SHA-256 {stated}"));
    }
    let list = |name: &str| {
        let list = json.get(name).and_then(Value::as_array);
        list.ok_or_else(|| format!("it has no {name}"))
    };
    let (grants, freezes) = (list("grants")?, list("freezes")?);
    let usable = grants.iter().filter(|grant| {
        let frozen = grant.get("frozen").and_then(Value::as_bool);
        text(grant, "state").as_deref() == Some("active") && frozen == Some(false)
    });
    Ok((grants.len(), usable.count(), freezes.len()))
}

/// Counts the components of an SBOM.
fn read_sbom(json: &[u8]) -> Result<usize, String> {
    let json: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let text = |at: &str| json.pointer(at).and_then(Value::as_str);
    for (at, expected) in [
        ("/bomFormat", "CycloneDX"),
        ("/specVersion", "1.6"),
        ("/metadata/component/name", "tokenkeepd"),
    ] {
        let found = text(at).unwrap_or("nothing");
        if found != expected {
            return Err(format!("{at} is {found}"));
        }
    }
    let components = json.get("components").and_then(Value::as_array);
    components
        .map(Vec::len)
        .ok_or_else(|| "it lists no components".to_owned())
}
