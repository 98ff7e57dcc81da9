//! `evidence bundle` and `evidence check`: one signed file for auditors, and what it is worth.

use std::path::PathBuf;

use attestation::evidence_bundle::MAX_EVIDENCE_BUNDLE_BYTES;
use attestation::{EvidenceBundle, Nonce, Outcome, Tier, Verdict};
use clap::Args;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};
use tokenkeep::evidence_bundle::{
    self, BundleCheck, BundleFindings, Contents, FetchError, LogHead,
};
use tokenkeep::private_file::create_private;
use tokenkeep::{AttestedChannel, Clock as _, SystemClock};

use super::super::exit::Exit;
use super::super::failure::{Failure, chain};
use super::super::output::Output;
use super::super::record::Record;
use super::super::session::Global;
use super::super::verify::{entry, exit_of};
use super::bounded;

pub(super) const MANUAL: &str = "\
Examples:
  tokenkeep evidence bundle --tenant acme --out acme-2026-12.json
  tokenkeep evidence bundle --tenant acme --out acme-2026-12.json \\
      --nonce 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

Exit codes:
  0  written
  1  refused by the service, or the enclave's evidence was rejected
  2  wrong usage, or the file cannot be written
  3  the evidence is authentic but no --policy was given to accept it
  4  the server was not reached or cannot serve now";

pub(super) const CHECK_MANUAL: &str = "\
Examples:
  tokenkeep evidence check acme-2026-12.json --policy policy.toml --collateral lists
  tokenkeep --json evidence check acme-2026-12.json --policy policy.toml --at 1793500000
  tokenkeep evidence check acme-2026-12.json --policy policy.toml \\
      --nonce 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

Exit codes:
  0  accept: authentic, equal to the policy's reference values, and each part the enclave's
  1  reject: a check failed, or the bytes are no evidence bundle
  2  wrong usage, or FILE cannot be read
  3  authentic: nothing failed, but not all that acceptance needs was given
  4  never: no server is asked";

#[derive(Debug, Args)]
pub(crate) struct BundleArgs {
    /// The tenant that it is about
    #[arg(long)]
    tenant: String,
    /// The new file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The auditor's nonce, 32 bytes in hex, to prove that the bundle is not older [default: a random one]
    #[arg(long, value_name = "HEX", value_parser = nonce)]
    nonce: Option<Nonce>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The file that `evidence bundle` wrote
    file: PathBuf,
    /// Verify as of this time, in seconds since 1970; without it, now
    #[arg(long, value_name = "UNIX_TIME")]
    at: Option<u64>,
    /// The nonce that the bundle must have been made for, 32 bytes in hex
    #[arg(long, value_name = "HEX", value_parser = nonce)]
    nonce: Option<Nonce>,
}

fn nonce(text: &str) -> Result<Nonce, String> {
    let mut nonce = [0; 32];
    hex::decode_to_slice(text, &mut nonce)
        .map_err(|_| "must be 32 bytes, 64 hexadecimal digits".to_owned())?;
    Ok(nonce)
}

pub(super) async fn make(
    args: &BundleArgs,
    channel: &AttestedChannel,
    output: Output,
) -> Result<Exit, Failure> {
    let BundleArgs { tenant, out, nonce } = args;
    let nonce = match nonce {
        Some(nonce) => *nonce,
        None => {
            let mut nonce = [0; 32];
            SystemRandom::new().fill(&mut nonce).map_err(|_| {
                Failure::new(
                    Exit::Usage,
                    "no randomness",
                    "the system gives no random bytes: try again",
                )
            })?;
            nonce
        }
    };
    let bundle = evidence_bundle::fetch(channel, tenant, &nonce).await;
    let bundle = bundle.map_err(|error| match error {
        FetchError::Rpc(error) => error.into(),
        error @ (FetchError::Bundle(_) | FetchError::Order) => Failure::answer(chain(&error)),
    })?;
    let file = bundle
        .to_json()
        .map_err(|error| Failure::answer(error.to_string()))?;
    create_private(out, file.as_bytes())?;
    output.record(&Record::new([
        ("file", json!(out.display().to_string())),
        ("tenant", json!(bundle.statement().tenant)),
        ("nonce", json!(hex::encode(nonce))),
        ("made_at_s", json!(bundle.statement().made_at_s)),
        ("parts", json!(bundle.parts().len())),
    ]))?;
    Ok(Exit::Ok)
}

pub(super) fn check(args: &CheckArgs, global: &Global, output: Output) -> Result<Exit, Failure> {
    let CheckArgs { file, at, nonce } = args;
    let verification = global.verification()?;
    let at_s = at.unwrap_or_else(|| SystemClock.unix_time_s());
    let bundle = match bounded(file, MAX_EVIDENCE_BUNDLE_BYTES)? {
        Some(bytes) => EvidenceBundle::from_json(&bytes).map_err(|error| error.to_string()),
        None => Err(format!("more than {MAX_EVIDENCE_BUNDLE_BYTES} bytes")),
    };
    let (bundle, findings) = match bundle {
        Ok(bundle) => {
            let findings = evidence_bundle::check(&bundle, &verification, nonce.as_ref(), at_s);
            (Some(bundle), findings)
        }
        Err(why) => (None, malformed(why)),
    };
    let told = Told {
        bundle: bundle.as_ref(),
        findings: &findings,
    };
    if output.is_json() {
        output.json(&told.to_json())?;
    } else {
        let path = file.display().to_string();
        for line in told.lines(&path) {
            output.line(&line)?;
        }
    }
    Ok(exit_of(findings.verdict))
}

/// What is said of bytes that are no bundle.
fn malformed(why: String) -> BundleFindings {
    BundleFindings {
        verdict: Verdict::Reject,
        tier: None,
        checks: vec![BundleCheck {
            name: "bundle_form".to_owned(),
            outcome: Outcome::Fail,
            expected: "an evidence bundle".to_owned(),
            found: why,
        }],
        contents: Contents::default(),
    }
}

/// A bundle and what was found.
struct Told<'a> {
    bundle: Option<&'a EvidenceBundle>,
    findings: &'a BundleFindings,
}

impl Told<'_> {
    /// The object of the contract: these keys and no other.
    fn to_json(&self) -> Value {
        let BundleFindings {
            verdict,
            tier,
            checks,
            contents,
        } = self.findings;
        let Contents {
            issuer,
            manifest_sha256,
            manifest_sequence,
            logs,
            grants,
            usable_grants,
            freezes,
            policy_sha256,
            components,
        } = contents;
        let logs = logs.iter().map(|head| {
            let LogHead {
                origin,
                size,
                root,
                cosigned_by,
            } = head;
            json!({"origin": origin, "size": size, "root": root, "cosigned_by": cosigned_by})
        });
        let checks = checks.iter().map(|check| {
            json!({
                "name": check.name,
                "outcome": check.outcome.as_str(),
                "expected": check.expected,
                "found": check.found,
            })
        });
        let parts = self
            .bundle
            .iter()
            .flat_map(|bundle| &bundle.statement().parts);
        let parts = parts.map(|part| {
            json!({
                "name": part.name,
                "length_bytes": part.length_bytes,
                "sha256": hex::encode(part.sha256),
            })
        });
        let statement = self.bundle.map(EvidenceBundle::statement);
        json!({
            "verdict": verdict.as_str(),
            "tier": tier.map(Tier::as_str),
            "tenant": statement.map(|statement| &statement.tenant),
            "asked_by": statement.map(|statement| &statement.asked_by),
            "made_at_s": statement.map(|statement| statement.made_at_s),
            "nonce": statement.map(|statement| hex::encode(statement.nonce)),
            "issuer": issuer,
            "manifest_sha256": manifest_sha256,
            "manifest_sequence": manifest_sequence,
            "logs": logs.collect::<Vec<_>>(),
            "grants": grants,
            "usable_grants": usable_grants,
            "freezes": freezes,
            "policy_sha256": policy_sha256,
            "sbom_components": components,
            "parts": parts.collect::<Vec<_>>(),
            "checks": checks.collect::<Vec<_>>(),
        })
    }

    fn lines(&self, path: &str) -> Vec<String> {
        let BundleFindings {
            verdict,
            tier,
            checks,
            contents,
        } = self.findings;
        let mut lines = vec![format!("{}  {path}", verdict.as_str().to_uppercase())];
        match verdict {
            Verdict::Accept if *tier == Some(Tier::Emulated) => lines.push(
                "  accepted under --allow-emulated: there is no confidential hardware, nothing is protected".to_owned(),
            ),
            Verdict::Accept => {}
            Verdict::Authentic => lines.push(
                "  nothing failed, but the checks marked not run are needed: give reference values with --policy FILE, \
                 and for AMD hardware --collateral DIR"
                    .to_owned(),
            ),
            Verdict::Reject => {
                lines.push("  believe nothing in this file; the checks marked fail say why".to_owned());
            }
        }
        if let Some(bundle) = self.bundle {
            lines.push(String::new());
            lines.push(if *verdict == Verdict::Reject {
                "What it says (as claimed: nothing vouches for it)".to_owned()
            } else {
                "What the enclave says".to_owned()
            });
            lines.extend(said(bundle, contents));
        }
        lines.push(String::new());
        lines.push("Checks".to_owned());
        for check in checks {
            let mark = match check.outcome {
                Outcome::Pass => "pass",
                Outcome::Fail => "FAIL",
                Outcome::NotApplicable => "n/a",
                Outcome::NotRun => "not run",
            };
            lines.push(format!("  {mark:8} {}", check.name));
            for (label, text) in [("expected", &check.expected), ("found", &check.found)] {
                if !text.is_empty() {
                    lines.push(format!("           {label:9} {text}"));
                }
            }
        }
        lines
    }
}

fn said(bundle: &EvidenceBundle, contents: &Contents) -> Vec<String> {
    let statement = bundle.statement();
    let none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    let mut lines = vec![
        entry("tenant", &statement.tenant),
        entry("made", &format!("unix time {}", statement.made_at_s)),
        entry("asked by", &statement.asked_by),
        entry("issuer", &none(&contents.issuer)),
        entry(
            "manifest",
            &format!("SHA-256 {}", none(&contents.manifest_sha256)),
        ),
        entry(
            "policy",
            &format!("SHA-256 {}", none(&contents.policy_sha256)),
        ),
        entry(
            "grants",
            &format!("{}, usable: {}", contents.grants, contents.usable_grants),
        ),
        entry("freezes", &contents.freezes.to_string()),
        entry("SBOM", &format!("{} components", contents.components)),
    ];
    for head in &contents.logs {
        let cosigned = match head.cosigned_by.as_slice() {
            [] => String::new(),
            names => format!(", cosigned by {}", names.join(", ")),
        };
        lines.push(entry(
            "log",
            &format!("{}, {} leaves{cosigned}", head.origin, head.size),
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_32_bytes_in_hex() {
        assert_eq!(nonce(&"0f".repeat(32)), Ok([0x0f; 32]));
        for text in ["", "0f", &"0g".repeat(32), &"0f".repeat(33)] {
            let refused = nonce(text).unwrap_err();
            assert!(refused.contains("64 hexadecimal digits"), "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_bundle_are_a_verdict() {
        let findings = malformed("the file is not JSON".to_owned());
        let told = Told {
            bundle: None,
            findings: &findings,
        };
        let json = told.to_json();
        assert_eq!(json["verdict"], "reject");
        assert_eq!(json["checks"][0]["name"], "bundle_form");
        assert_eq!(json["tenant"], Value::Null);
        let lines = told.lines("a.json").join("\n");
        assert!(lines.starts_with("REJECT  a.json"), "{lines}");
        assert!(!lines.contains("What"), "{lines}");
    }
}
