//! `audit verify` and `audit export`: the logs from their tiles.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use tlog::{CosignerKey, VerifierKey};
use tokenkeep::audit::export::ExportError;
use tokenkeep::audit::report::Verdict;
use tokenkeep::audit::source::SourceError;
use tokenkeep::audit::verify::{AuditError, Progress};
use tokenkeep::audit::web::{Trust, Web};
use tokenkeep::audit::{Auditor, Finding, Kept, LogKeys, LogName, Report, Source, Witnesses};
use tokenkeep::private_file::read_public;

use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::output::Output;
use super::super::record::Record;
use super::super::session::Global;

/// The longest file of certificates that is read, bytes.
const MAX_PEM_BYTES: usize = 64 << 10;

/// Leaves between two remarks on how far it is.
const REMARK_LEAVES: u64 = 100_000;

pub(super) const MANUAL: &str = "\
Examples:
  tokenkeep audit verify --server https://keep.example:8443 --policy policy.toml --kept kept.json
  tokenkeep audit verify --tiles copy/ --log-key 'keep.example:8444/log/control+0123abcd+AT…'
  tokenkeep audit verify --tiles https://keep.example:8444 --ca ca.pem --kept kept.json \\
      --log-key 'keep.example:8444/log/control+0123abcd+AT…' \\
      --witness 'witness.bank.example/1+…' --witness 'witness.notary.example/1+…' --quorum 2

Exit codes:
  0  holds: every checkpoint, tile, leaf and number is as it must be
  1  refused: something is wrong; the findings say what, and a fork or a log that shrank is shown with both
     checkpoints, which prove it to others
  2  wrong usage, or a file that cannot be read
  3  open: nothing is wrong, but some of the newest numbers were under way; audit again
  4  the listener was not reached or cannot serve now";

/// Where tiles are, and whose.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// Where the logs are: the URL of the public listener or of a mirror, or a folder
    /// [default: the public listener of --server]
    #[arg(long, value_name = "URL|DIR")]
    pub(super) tiles: Option<String>,
    /// The verifier key of the control log, as `tokenkeepd` tells it at start
    /// [default: the key in the verified key bundle of --server]
    #[arg(long, value_name = "VKEY")]
    pub(super) log_key: Option<String>,
    /// The certificate (PEM) that --tiles is trusted by, such as `tokenkeep trust` prints [default: the web's]
    #[arg(long, value_name = "FILE", requires = "tiles")]
    pub(super) ca: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    place: Place,
    /// Remember the verified checkpoints in this file, and hold the logs against it from then on
    #[arg(long, value_name = "FILE")]
    kept: Option<PathBuf>,
    /// The key of a witness that must have cosigned the control log; repeat for more
    #[arg(long = "witness", value_name = "VKEY")]
    witnesses: Vec<String>,
    /// How many of the witnesses must have [default: all]
    #[arg(long, value_name = "N", requires = "witnesses")]
    quorum: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The folder
    folder: PathBuf,
    #[command(flatten)]
    place: Place,
}

impl Place {
    /// The key that was given.
    pub(super) fn keys(&self) -> Result<LogKeys, Failure> {
        let given = self.log_key.as_deref().map(log_keys).transpose()?;
        given.ok_or_else(|| Failure::usage("no log key is given", "give --log-key VKEY"))
    }

    /// Key and source. The server is asked for what was not given.
    pub(super) async fn open(&self, global: &Global) -> Result<(LogKeys, Source), Failure> {
        let keys = self.log_key.as_deref().map(log_keys).transpose()?;
        if let (Some(keys), Some(tiles)) = (&keys, &self.tiles) {
            return Ok((keys.clone(), self.source(tiles)?));
        }
        if global.server.is_none() {
            return Err(Failure::usage(
                "neither a server nor both tiles and key are named",
                "give --server https://HOST:PORT with --policy FILE, or --tiles URL|DIR and --log-key VKEY",
            ));
        }
        let channel = global.channel().await?;
        let bundle = channel.bundle();
        let keys = match keys {
            Some(keys) => keys,
            None => {
                LogKeys::from_bundle(bundle).map_err(|error| Failure::answer(error.to_string()))?
            }
        };
        let source = match &self.tiles {
            Some(tiles) => self.source(tiles)?,
            None => {
                let trust = Trust::Der(bundle.enclave_ca_der.clone());
                web(&bundle.public_origin, &trust)?
            }
        };
        Ok((keys, source))
    }

    fn source(&self, tiles: &str) -> Result<Source, Failure> {
        if !tiles.contains("://") {
            return Ok(Source::Folder(PathBuf::from(tiles)));
        }
        let trust = match &self.ca {
            Some(ca) => Trust::Pem(read_public(ca, MAX_PEM_BYTES)?.to_vec()),
            None => Trust::Web,
        };
        web(tiles, &trust)
    }
}

fn web(url: &str, trust: &Trust) -> Result<Source, Failure> {
    let web = Web::new(url, trust).map_err(|error| {
        Failure::usage(
            error.to_string(),
            "give --tiles https://HOST:PORT, and --ca a PEM file",
        )
    })?;
    Ok(Source::Web(Arc::new(web)))
}

fn log_keys(text: &str) -> Result<LogKeys, Failure> {
    let next = "the service tells its control log's key at start, and in its key bundle";
    let key: VerifierKey = text
        .parse()
        .map_err(|error| Failure::usage(format!("--log-key: {error}"), next))?;
    LogKeys::from_control(&key).map_err(|error| Failure::usage(format!("--log-key: {error}"), next))
}

/// What could not be read, and whether to try again.
pub(super) fn unread(error: &SourceError) -> Failure {
    let mut what = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        what.push_str(&format!(": {source}"));
    }
    match error {
        SourceError::Web(_) => Failure::new(
            Exit::Unavailable,
            what,
            "check --tiles and that the listener runs, then try again",
        ),
        SourceError::File { .. } | SourceError::TooLong { .. } => {
            Failure::usage(what, "name a folder that `tokenkeep audit export` made")
        }
    }
}

/// Remarks on how far it is, for people.
struct Remarks {
    output: Output,
    next: u64,
    log: Option<LogName>,
}

impl Remarks {
    const fn new(output: Output) -> Self {
        Self {
            output,
            next: REMARK_LEAVES,
            log: None,
        }
    }

    fn tell(&mut self, progress: Progress<'_>) {
        let Progress { log, read, size } = progress;
        if self.log.as_ref() != Some(log) {
            self.log = Some(log.clone());
            self.next = REMARK_LEAVES;
        }
        if read >= self.next {
            self.next = read.saturating_add(REMARK_LEAVES);
            // Who does not read remarks, needs none.
            drop(self.output.note(&format!("{log}: {read} of {size} leaves")));
        }
    }
}

pub(crate) async fn verify(
    args: VerifyArgs,
    global: &Global,
    output: Output,
) -> Result<Exit, Failure> {
    let VerifyArgs {
        place,
        kept,
        witnesses,
        quorum,
    } = args;
    let witnesses = witness_policy(&witnesses, quorum)?;
    let (keys, source) = place.open(global).await?;
    let mut auditor = Auditor::new(keys);
    auditor.witnesses = witnesses;
    if let Some(file) = &kept {
        auditor.kept = load(file, &auditor.keys)?;
    }
    let before = auditor.kept.clone();
    let mut remarks = Remarks::new(output);
    let report = auditor
        .verify(&source, &mut |progress| remarks.tell(progress))
        .await
        .map_err(|error| match error {
            AuditError::Source(error) => unread(&error),
            AuditError::Name(_) | AuditError::Stopped(_) => Failure::answer(error.to_string()),
        })?;
    if let Some(file) = kept.filter(|_| auditor.kept != before) {
        auditor.kept.save(&file).map_err(|error| {
            Failure::usage(error.to_string(), "see to space and permissions there")
        })?;
    }
    tell(&report, output)?;
    Ok(match report.verdict() {
        Verdict::Holds => Exit::Ok,
        Verdict::Open => Exit::AuthenticOnly,
        Verdict::Refused => Exit::Refused,
    })
}

fn load(file: &Path, keys: &LogKeys) -> Result<Kept, Failure> {
    Kept::load(file, keys).map_err(|error| {
        Failure::usage(
            error.to_string(),
            "give the file that earlier audits of this service wrote, or another name to begin anew",
        )
    })
}

fn witness_policy(keys: &[String], quorum: Option<usize>) -> Result<Option<Witnesses>, Failure> {
    if keys.is_empty() {
        return Ok(None);
    }
    let next = "give each witness's own key, and a quorum of 1 to as many";
    let keys = keys
        .iter()
        .map(|key| key.parse::<CosignerKey>())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Failure::usage(format!("--witness: {error}"), next))?;
    let quorum = quorum.unwrap_or(keys.len());
    if quorum == 0 || quorum > keys.len() {
        return Err(Failure::usage(
            format!("--quorum: {quorum} of {}", keys.len()),
            next,
        ));
    }
    Ok(Some(Witnesses { keys, quorum }))
}

fn tell(report: &Report, output: Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&report.to_json());
    }
    let verdict = report.verdict().as_str().to_uppercase();
    output.line(&format!(
        "{verdict}  {} leaves in {} logs, of {} tenants",
        report.leaves,
        report.logs.len(),
        report.tenants
    ))?;
    for log in &report.logs {
        let mut line = format!(
            "  {}  {} leaves, root {}",
            log.origin, log.head.size, log.head.root
        );
        if let Some(kept) = log.kept_size {
            line.push_str(&format!(", {kept} known before"));
        }
        if !log.cosigned_by.is_empty() {
            line.push_str(&format!(", cosigned by {}", log.cosigned_by.join(", ")));
        }
        output.line(&line)?;
    }
    for gap in &report.open {
        let whose = gap.tenant.as_deref().unwrap_or("the system");
        output.line(&format!(
            "  under way: numbers {} to {} of {whose}",
            gap.from, gap.to
        ))?;
    }
    for finding in &report.findings {
        let Finding { log, fault } = finding;
        output.line(&format!("  {log}: {fault}"))?;
        for checkpoint in finding.proof().into_iter().flatten() {
            output.line("")?;
            for line in checkpoint.lines() {
                output.line(&format!("    {line}"))?;
            }
        }
    }
    let unlisted = report.found.saturating_sub(report.findings.len());
    if unlisted > 0 {
        output.line(&format!("  and {unlisted} more"))?;
    }
    Ok(())
}

pub(crate) async fn export(
    args: ExportArgs,
    global: &Global,
    output: Output,
) -> Result<(), Failure> {
    let ExportArgs { folder, place } = args;
    let (keys, source) = place.open(global).await?;
    let mut remarks = Remarks::new(output);
    let copied = tokenkeep::audit::export::export(&keys, &source, &folder, &mut |progress| {
        remarks.tell(progress);
    })
    .await
    .map_err(|error| match &error {
        ExportError::Source(error) => unread(error),
        ExportError::Write { error: source, .. } => Failure::usage(
            format!("{error}: {source}"),
            "see to space and permissions there",
        ),
        ExportError::Name(_) | ExportError::Log(_) => Failure::new(
            Exit::Refused,
            error.to_string(),
            "run `tokenkeep audit verify`: it says all that is wrong with the logs",
        ),
    })?;
    let key = keys.verifier_key(&LogName::Control);
    let key = key.map_err(|error| Failure::answer(error.to_string()))?;
    output.record(&Record::new([
        ("folder", json!(folder.display().to_string())),
        ("logs", json!(copied.logs)),
        ("leaves", json!(copied.leaves)),
        ("written", json!(copied.written)),
        ("kept", json!(copied.kept)),
        ("log_key", json!(key.to_string())),
    ]))
}
