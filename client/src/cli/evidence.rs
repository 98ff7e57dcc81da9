//! `evidence`: saved evidence, judged without a network; bundles of it, for auditors.

mod bundle;
mod certificates;

use std::path::{Path, PathBuf};

use attestation::snp::Report;
use attestation::tdx::{MAX_COLLATERAL_BYTES, MAX_QUOTE_BYTES, Quote};
use attestation::{
    Appraisal, Evidence, Expected, MAX_SAVED_EVIDENCE_BYTES, Outcome, Platform, Tier, UnixTime,
    Verdict, overview,
};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use tokenkeep::private_file::{FileError, read_public};
use tokenkeep::{Clock as _, SystemClock, Verification};

use super::exit::Exit;
use super::failure::Failure;
use super::output::Output;
use super::session::Global;
use super::verify::exit_of;
use certificates::TooLong;

/// The longest report or certificate that is read, bytes: more than either can have, so that one that is too long
/// is judged and not only refused.
const MAX_PART_BYTES: usize = 16 * 1024;

const MANUAL: &str = "\
Examples:
  tokenkeep evidence verify evidence.json --policy policy.toml --revocation-list crl.der
  tokenkeep evidence verify vectors/snp/milan-v3-aci --at 1790000000
  tokenkeep --json evidence verify vectors/tdx/v4-uptodate-dcapqvl

Exit codes:
  0  accept: authentic, and equal to the policy's reference values
  1  reject: a check failed, or the bytes are no evidence
  2  wrong usage, or PATH cannot be read
  3  authentic: nothing failed, but not all that acceptance needs was given
  4  never: no server is asked

PATH is a file that `verify --save` wrote, or a folder with
  report.bin and vek.der (and ask.der, ark.der; PEM is read too, one file with the whole chain as well), or
  quote.bin and collateral.json";

const SHOW_MANUAL: &str = "\
Examples:
  tokenkeep evidence show evidence.json
  tokenkeep --json evidence show vectors/snp/milan-v3-aci

Exit codes:
  0  shown
  1  the bytes are no evidence
  2  wrong usage, or PATH cannot be read
  3  never: nothing is verified
  4  never: no server is asked";

const DIFF_MANUAL: &str = "\
Examples:
  tokenkeep evidence diff yesterday.json today.json
  tokenkeep --json evidence diff yesterday.json today.json

Exit codes:
  0  the same in each field
  1  different, or the bytes are no evidence
  2  wrong usage, or a path cannot be read
  3  never: nothing is verified
  4  never: no server is asked";

/// Evidence: show, verify, compare what was saved; make and check bundles for auditors
#[derive(Debug, Subcommand)]
pub(crate) enum EvidenceCommand {
    /// Print what evidence claims, without verifying it
    #[command(after_long_help = SHOW_MANUAL)]
    Show(Place),
    /// Verify evidence without a network and print verdict and every check
    #[command(after_long_help = MANUAL)]
    Verify(VerifyArgs),
    /// Print the fields in which two pieces of evidence differ, without verifying them
    #[command(after_long_help = DIFF_MANUAL)]
    Diff(DiffArgs),
    /// Have the service make one signed file about a tenant, for auditors
    ///
    /// Fresh evidence with the key bundle, the manifest, checkpoints of the logs with their cosignatures, the tenant's
    /// policy, an inventory of its grants and freezes (no token), and the SBOM of the build. The enclave signs all of
    /// it with a key that the evidence binds. Needs a role of the tenant.
    #[command(after_long_help = bundle::MANUAL)]
    Bundle(bundle::BundleArgs),
    /// Verify such a file without a network and print verdict, contents and every check
    #[command(after_long_help = bundle::CHECK_MANUAL)]
    Check(bundle::CheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct Place {
    /// A saved evidence file, or a folder with its parts
    path: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    place: Place,
    /// Verify as of this time, in seconds since 1970; without it, now
    #[arg(long, value_name = "UNIX_TIME")]
    at: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The first
    path: PathBuf,
    /// The second
    other: PathBuf,
}

pub(crate) async fn run(
    command: &EvidenceCommand,
    global: &Global,
    output: Output,
) -> Result<Exit, Failure> {
    match command {
        EvidenceCommand::Bundle(args) => {
            let channel = global.channel().await?;
            bundle::make(args, &channel, output).await
        }
        EvidenceCommand::Check(args) => bundle::check(args, global, output),
        EvidenceCommand::Show(place) => show(&place.path, output),
        EvidenceCommand::Verify(args) => verify(args, global, output),
        EvidenceCommand::Diff(args) => diff(args, output),
    }
}

/// Names and values of a report or quote.
type Fields = Vec<(&'static str, String)>;

/// What stands at a path.
enum Found {
    Evidence(Box<Evidence>),
    /// Readable, but no evidence: a verdict, not an error.
    Malformed {
        platform: Option<Platform>,
        why: String,
    },
}

fn read(path: &Path) -> Result<Found, Failure> {
    if !path.is_dir() {
        let Some(bytes) = bounded(path, MAX_SAVED_EVIDENCE_BYTES)? else {
            return Ok(too_long(None, path));
        };
        return Ok(match Evidence::from_json(&bytes) {
            Ok(evidence) => Found::Evidence(Box::new(evidence)),
            Err(error) => Found::Malformed {
                platform: None,
                why: error.to_string(),
            },
        });
    }
    let report = path.join("report.bin");
    let quote = path.join("quote.bin");
    match (report.is_file(), quote.is_file()) {
        (true, false) => snp(path, &report),
        (false, true) => tdx(path, &quote),
        (true, true) => Err(Failure::usage(
            format!("{} has both report.bin and quote.bin", path.display()),
            "keep one piece of evidence in one folder",
        )),
        (false, false) => Err(Failure::usage(
            format!("{} has neither report.bin nor quote.bin", path.display()),
            "name a saved evidence file, or a folder with report.bin or quote.bin",
        )),
    }
}

fn snp(folder: &Path, report: &Path) -> Result<Found, Failure> {
    let platform = Some(Platform::Snp);
    let Some(bytes) = bounded(report, MAX_PART_BYTES)? else {
        return Ok(too_long(platform, report));
    };
    Ok(match certificates::beside(folder)? {
        Ok(endorsements) => Found::Evidence(Box::new(Evidence::snp(bytes, endorsements))),
        Err(TooLong(file)) => too_long(platform, &file),
    })
}

fn tdx(folder: &Path, quote: &Path) -> Result<Found, Failure> {
    let platform = Some(Platform::Tdx);
    let Some(bytes) = bounded(quote, MAX_QUOTE_BYTES)? else {
        return Ok(too_long(platform, quote));
    };
    let file = folder.join("collateral.json");
    let collateral = if file.is_file() {
        let Some(json) = bounded(&file, MAX_COLLATERAL_BYTES)? else {
            return Ok(too_long(platform, &file));
        };
        Some(json)
    } else {
        None
    };
    Ok(Found::Evidence(Box::new(Evidence::tdx(bytes, collateral))))
}

/// A file's bytes; none if there are more than may be.
fn bounded(path: &Path, max_bytes: usize) -> Result<Option<Vec<u8>>, Failure> {
    match read_public(path, max_bytes) {
        Ok(bytes) => Ok(Some(bytes.to_vec())),
        Err(FileError::TooLarge { .. }) => Ok(None),
        Err(
            error @ (FileError::Io { .. }
            | FileError::NotAFile { .. }
            | FileError::Exposed { .. }
            | FileError::Exists { .. }),
        ) => Err(error.into()),
    }
}

fn too_long(platform: Option<Platform>, file: &Path) -> Found {
    Found::Malformed {
        platform,
        why: format!("{} is longer than it can be", file.display()),
    }
}

/// The fields that a report or quote claims; none if it cannot be parsed.
fn claims(evidence: &Evidence) -> Result<Vec<(&'static str, String)>, String> {
    match evidence.platform {
        Platform::Snp => Report::parse(&evidence.report)
            .map(|report| report.claims_for_display(None))
            .map_err(|error| error.to_string()),
        Platform::Tdx => Quote::parse(&evidence.report)
            .map(|quote| quote.claims_for_display())
            .map_err(|error| error.to_string()),
    }
}

fn no_evidence(path: &Path, why: &str) -> Failure {
    Failure::new(
        Exit::Refused,
        format!("{} holds no evidence: {why}", path.display()),
        "name a saved evidence file, or a folder with report.bin or quote.bin",
    )
}

/// Evidence at a path and what it claims, or why there is none.
fn claimed(path: &Path) -> Result<(Evidence, Fields), Failure> {
    match read(path)? {
        Found::Evidence(evidence) => {
            let fields = claims(&evidence).map_err(|why| no_evidence(path, &why))?;
            Ok((*evidence, fields))
        }
        Found::Malformed { platform: _, why } => Err(no_evidence(path, &why)),
    }
}

/// Evidence at a path, unverified.
pub(crate) fn evidence_at(path: &Path) -> Result<Evidence, Failure> {
    match read(path)? {
        Found::Evidence(evidence) => Ok(*evidence),
        Found::Malformed { platform: _, why } => Err(no_evidence(path, &why)),
    }
}

fn show(path: &Path, output: Output) -> Result<Exit, Failure> {
    let (evidence, fields) = claimed(path)?;
    let platform = evidence.platform;
    if output.is_json() {
        let overview = overview(&evidence);
        output.json(&json!({
            "platform": platform.as_str(),
            "verified": false,
            "fields": overview,
        }))?;
    } else {
        output.line("UNVERIFIED: what the evidence claims; see `evidence verify`")?;
        output.line(&entry("platform", platform.as_str()))?;
        for (name, value) in &fields {
            output.line(&entry(name, value))?;
        }
    }
    Ok(Exit::Ok)
}

fn diff(args: &DiffArgs, output: Output) -> Result<Exit, Failure> {
    let (evidence, fields) = claimed(&args.path)?;
    let (other_evidence, other_fields) = claimed(&args.other)?;
    let (platform, other_platform) = (evidence.platform, other_evidence.platform);
    let names = |fields: &[(&'static str, String)]| {
        fields.iter().map(|(name, _)| *name).collect::<Vec<_>>()
    };
    let mut all = names(&fields);
    all.extend(
        names(&other_fields)
            .into_iter()
            .filter(|name| !all.contains(name))
            .collect::<Vec<_>>(),
    );
    let value = |fields: &[(&'static str, String)], wanted: &str| {
        let found = fields.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| value.clone())
    };
    let mut differences = Vec::new();
    if platform != other_platform {
        differences.push((
            "platform",
            Some(platform.as_str().to_owned()),
            Some(other_platform.as_str().to_owned()),
        ));
    }
    for name in all {
        let (first, second) = (value(&fields, name), value(&other_fields, name));
        if first != second {
            differences.push((name, first, second));
        }
    }
    if output.is_json() {
        let rows = differences.iter();
        let rows: Vec<Value> = rows
            .map(|(name, first, second)| json!({"name": name, "first": first, "second": second}))
            .collect();
        output.json(&json!({"equal": rows.is_empty(), "differences": rows}))?;
    } else if differences.is_empty() {
        output.line("the same in each field (neither was verified)")?;
    } else {
        output.line("UNVERIFIED: fields that differ")?;
        for (name, first, second) in &differences {
            output.line(&format!("  {name}"))?;
            output.line(&format!("    - {}", first.as_deref().unwrap_or("absent")))?;
            output.line(&format!("    + {}", second.as_deref().unwrap_or("absent")))?;
        }
    }
    Ok(if differences.is_empty() {
        Exit::Ok
    } else {
        Exit::Refused
    })
}

/// One check, as it is printed.
struct Row {
    name: String,
    outcome: Outcome,
    expected: String,
    found: String,
}

/// What is printed of a verdict.
struct Finding {
    verdict: Verdict,
    tier: Option<Tier>,
    platform: Option<Platform>,
    /// For programs.
    fields: Map<String, Value>,
    /// For people.
    claims: Fields,
    /// Until when certificates and collateral hold, and at which time that was asked.
    days_left: Option<String>,
    checks: Vec<Row>,
}

fn verify(args: &VerifyArgs, global: &Global, output: Output) -> Result<Exit, Failure> {
    let verification = global.verification()?;
    let at_s = args.at.unwrap_or_else(|| SystemClock.unix_time_s());
    let finding = judge(&args.place.path, &verification, at_s)?;
    if output.is_json() {
        output.json(&finding.to_json())?;
    } else {
        let path = args.place.path.display().to_string();
        for line in finding.lines(&path) {
            output.line(&line)?;
        }
    }
    Ok(exit_of(finding.verdict))
}

/// Reads and appraises what stands at a path.
fn judge(path: &Path, verification: &Verification, at_s: u64) -> Result<Finding, Failure> {
    Ok(match read(path)? {
        Found::Evidence(evidence) => {
            let appraisal = attestation::assess(
                &evidence,
                &verification.roots,
                UnixTime::from_secs(at_s),
                verification.policy.as_ref(),
                &Expected::saved(),
            );
            of_appraisal(&appraisal, &evidence, at_s)
        }
        Found::Malformed { platform, why } => Finding {
            verdict: Verdict::Reject,
            tier: None,
            platform,
            fields: Map::new(),
            claims: Vec::new(),
            days_left: None,
            checks: vec![Row {
                name: "evidence_form".to_owned(),
                outcome: Outcome::Fail,
                expected: "saved evidence".to_owned(),
                found: why,
            }],
        },
    })
}

fn of_appraisal(appraisal: &Appraisal, evidence: &Evidence, at_s: u64) -> Finding {
    let fields = overview(evidence);
    let claims = match appraisal.appraised() {
        Some(appraised) => appraised.claims_for_display(),
        None => claims(evidence).unwrap_or_default(),
    };
    let checks = appraisal.checks().iter();
    Finding {
        verdict: appraisal.verdict(),
        tier: appraisal.tier(),
        platform: Some(evidence.platform),
        days_left: days_left(appraisal, &fields, at_s),
        fields,
        claims,
        checks: checks
            .map(|check| Row {
                name: check.name.as_str().to_owned(),
                outcome: check.outcome,
                expected: check.expected.clone(),
                found: match &check.reason {
                    Some(reason) if check.found.is_empty() => reason.clone(),
                    Some(_) | None => check.found.clone(),
                },
            })
            .collect(),
    }
}

/// How long the collateral of a quote or the key of a report still holds.
fn days_left(appraisal: &Appraisal, fields: &Map<String, Value>, at_s: u64) -> Option<String> {
    let appraised = appraisal.appraised()?;
    let (what, until_s) = match appraised.collateral_expires_at() {
        Some(until) => ("collateral", until.secs()),
        None => ("VEK certificate", fields.get("vek_expires_at")?.as_u64()?),
    };
    let left_s = until_s.checked_sub(at_s)?;
    let days = left_s.checked_div(86_400)?;
    Some(format!("{what}, until unix time {until_s}: {days} days"))
}

impl Finding {
    /// The object of the contract: these keys and no other.
    fn to_json(&self) -> Value {
        let Self {
            verdict,
            tier,
            platform,
            fields,
            claims: _,
            days_left: _,
            checks,
        } = self;
        let checks: Vec<Value> = checks
            .iter()
            .map(|row| {
                json!({
                    "name": row.name,
                    "outcome": row.outcome.as_str(),
                    "expected": row.expected,
                    "found": row.found,
                })
            })
            .collect();
        json!({
            "verdict": verdict.as_str(),
            "tier": tier.map(Tier::as_str),
            "platform": platform.map(Platform::as_str),
            "fields": fields,
            "checks": checks,
        })
    }

    fn lines(&self, path: &str) -> Vec<String> {
        let verdict = self.verdict.as_str().to_uppercase();
        let mut lines = vec![format!("{verdict}  {path}")];
        let (open, label) = match self.verdict {
            Verdict::Accept => (None, ""),
            Verdict::Authentic => (Some(Outcome::NotRun), "not run"),
            Verdict::Reject => (Some(Outcome::Fail), "failed"),
        };
        if let Some(open) = open {
            let open = self.checks.iter().filter(|row| row.outcome == open);
            let names: Vec<&str> = open.map(|row| row.name.as_str()).collect();
            lines.push(format!("  {label}: {}", names.join(", ")));
        }
        let tier = self.tier.map_or("none: not authentic", Tier::as_str);
        lines.push(entry("tier", tier));
        let platform = self.platform.map_or("unknown", Platform::as_str);
        lines.push(entry("platform", platform));
        let status = self.checks.iter().find(|row| row.name == "tcb_status");
        if let Some(status) = status.filter(|row| !row.found.is_empty()) {
            // With the advisories that are open.
            lines.push(entry("TCB status", &status.found));
        }
        if let Some(days_left) = &self.days_left {
            lines.push(entry("holds", days_left));
        }
        let vouched = if self.verdict == Verdict::Reject {
            "Evidence (as claimed: it was NOT verified or did not pass)"
        } else {
            "Evidence"
        };
        lines.push(vouched.to_owned());
        lines.extend(self.claims.iter().map(|(name, value)| entry(name, value)));
        lines.push("Checks".to_owned());
        for row in &self.checks {
            lines.push(format!("  {:14} {}", row.outcome.as_str(), row.name));
            for (label, text) in [("expected", &row.expected), ("found", &row.found)] {
                if !text.is_empty() {
                    lines.push(format!("                 {label:9} {text}"));
                }
            }
        }
        lines
    }
}

fn entry(label: &str, value: &str) -> String {
    format!("  {label:20} {value}")
}

#[cfg(test)]
mod tests;
