//! `tokenkeepd`: the service on a confidential VM.

mod hw_selftest;

use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use attestation::manifest::{EnclaveKind, Manifest, ManifestError, ManifestSignature};
use attestation::platform::HardwareAttester;
use broker::events;
use broker::files::read_bounded;
use broker::host_config::{HostConfig, MAX_CONFIG_BYTES};
use broker::hygiene;
use broker::listener::{Shutdown, shutdown};
use broker::offline::{self, StoreCommand};
use broker::run::{Config, run as serve};
use broker::telemetry;
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: hygiene::ZeroingAllocator = hygiene::ZEROING;

/// Keeps OAuth refresh tokens inside an attested confidential VM and gives out
/// short-lived, audience-bound, DPoP-bound access tokens.
#[derive(Parser)]
#[command(
    name = "tokenkeepd",
    version,
    after_help = "Examples:\n  \
        tokenkeepd config check --config /etc/tokenkeep/host.toml\n  \
        tokenkeepd run --config /etc/tokenkeep/host.toml\n  \
        tokenkeepd store check\n  \
        tokenkeepd hw-selftest\n\n\
        Exit codes: 0 done, 1 refused or failed, 2 usage or unreadable.\n\
        To try the service without confidential hardware, use tokenkeep-dev."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service until SIGTERM or SIGINT, then drain.
    #[command(after_help = "Examples:\n  \
        tokenkeepd run\n  \
        tokenkeepd run --config /etc/tokenkeep/host.toml\n\n\
        Metrics and traces are off unless host.toml names where they go:\n  \
        [metrics] listen = \"127.0.0.1:9464\"   then: curl http://127.0.0.1:9464/metrics\n  \
        [traces] endpoint = \"http://127.0.0.1:4318\"")]
    Run(ConfigFile),
    /// Ask this machine's hardware for evidence and keys, and print a report to
    /// paste into an issue. It holds nothing secret, but names the chip.
    #[command(after_help = "Examples:\n  \
        tokenkeepd hw-selftest\n  \
        tokenkeepd hw-selftest --json\n\n\
        Exit codes: 0 all steps passed, 1 a step failed or there is no hardware.")]
    HwSelftest(HwSelftest),
    /// Check, measure, export and import the state, while no service uses it.
    #[command(after_help = "Examples:\n  \
        tokenkeepd store check\n  \
        tokenkeepd store --config /etc/tokenkeep/host.toml stats --json\n  \
        tokenkeepd store export /backup/state.tkexport\n  \
        tokenkeepd store import /backup/state.tkexport\n\n\
        The root key opens as at a start of the service: keyholders are asked for their shares.\n\
        Exit codes: 0 done, 1 refused or damaged, 2 usage or unreadable.")]
    Store(Store),
    /// Look at configuration without running the service.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Args)]
struct ConfigFile {
    /// The host's configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/tokenkeep/host.toml")]
    config: PathBuf,
}

#[derive(Args)]
struct HwSelftest {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Store {
    /// The host's configuration.
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        default_value = "/etc/tokenkeep/host.toml"
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check host.toml and the manifest that it names; print all faults at once.
    #[command(after_help = "Examples:\n  \
        tokenkeepd config check --config host.toml\n  \
        tokenkeepd config check --config host.toml --signer 3f5a…  (what HOST_DATA is to be)\n  \
        tokenkeepd config check --config host.toml --json")]
    Check(Check),
}

#[derive(Args)]
struct Check {
    #[command(flatten)]
    file: ConfigFile,
    /// SHA-256 of the manifest signer's public key (SubjectPublicKeyInfo), in
    /// hex: what is bound at launch. Without it any signer's valid signature
    /// passes, and its digest is printed.
    #[arg(long, value_name = "HEX")]
    signer: Option<String>,
    /// Check the manifest as for an emulated enclave of tokenkeep-dev.
    #[arg(long)]
    emulated: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(file) => run(&file.config),
        Command::HwSelftest(args) => selftest(&args),
        Command::Store(store) => run_store(&store),
        Command::Config(ConfigCommand::Check(check)) => check_config(&check),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("tokenkeepd: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn complain(line: &str) {
    // If standard error is gone there is nobody left to tell.
    drop(writeln!(std::io::stderr(), "{line}"));
}

fn read_host(path: &Path) -> anyhow::Result<Result<HostConfig, Vec<String>>> {
    let bytes = read_bounded(path, MAX_CONFIG_BYTES)?;
    let text = String::from_utf8(bytes)
        .with_context(|| format!("{} is not UTF-8 text", path.display()))?;
    let base = path.parent().unwrap_or(Path::new("."));
    Ok(HostConfig::parse(&text, base).map_err(|error| {
        let faults = error.faults.iter();
        faults.map(ToString::to_string).collect()
    }))
}

fn run(path: &Path) -> anyhow::Result<ExitCode> {
    let hardened = hygiene::harden("tokenkeepd")?;
    let host = match read_host(path)? {
        Ok(host) => host,
        Err(faults) => {
            for fault in faults {
                complain(&format!("{}: {fault}", path.display()));
            }
            return Ok(ExitCode::from(2));
        }
    };
    telemetry::init(host.log)?;
    events::process_hardened(hardened);
    let attester = match HardwareAttester::detect() {
        Ok(attester) => Arc::new(attester),
        Err(missing) => {
            complain(&format!("tokenkeepd: {missing}"));
            return Ok(ExitCode::from(1));
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no threads for the service")?;
    let config = Config {
        host,
        sockets: None,
    };
    let served = runtime.block_on(async {
        let (speaker, stop) = shutdown();
        let signals = tokio::spawn(begin_at_signal(speaker)?);
        let served = Box::pin(serve(config, attester, stop, || {})).await;
        signals.abort();
        served.map_err(anyhow::Error::from)
    });
    match served {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            complain(&format!("tokenkeepd: {error:#}"));
            Ok(ExitCode::from(1))
        }
    }
}

fn run_store(store: &Store) -> anyhow::Result<ExitCode> {
    hygiene::harden("tokenkeepd")?;
    let path = &store.config;
    let host = match read_host(path)? {
        Ok(host) => host,
        Err(faults) => {
            for fault in faults {
                complain(&format!("{}: {fault}", path.display()));
            }
            return Ok(ExitCode::from(2));
        }
    };
    telemetry::init(telemetry::OFFLINE)?;
    let attester = match HardwareAttester::detect() {
        Ok(attester) => Arc::new(attester),
        Err(missing) => {
            complain(&format!("tokenkeepd: {missing}"));
            return Ok(ExitCode::from(1));
        }
    };
    // Signals are heard beside the work.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("no threads")?;
    let done = runtime.block_on(async {
        let (speaker, stop) = shutdown();
        let signals = tokio::spawn(begin_at_signal(speaker)?);
        let (mut out, mut progress) = (std::io::stdout().lock(), std::io::stderr());
        let command = &store.command;
        let done = offline::run(command, &host, attester, stop, &mut out, &mut progress);
        let done = Box::pin(done).await;
        signals.abort();
        done.map_err(anyhow::Error::from)
    });
    match done {
        Ok(well) => Ok(ExitCode::from(u8::from(!well))),
        Err(error) => {
            complain(&format!("tokenkeepd: {error:#}"));
            Ok(ExitCode::from(1))
        }
    }
}

/// Hears SIGTERM and SIGINT from now on; at the first of either the service
/// drains.
fn begin_at_signal(speaker: Shutdown) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("no handler for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no handler for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        speaker.begin();
    })
}

fn selftest(args: &HwSelftest) -> anyhow::Result<ExitCode> {
    let now = broker::clock::Clock::new(0).now();
    let findings = match HardwareAttester::detect() {
        Ok(attester) => {
            let source = attester.report_source().as_str();
            hw_selftest::examine(&attester, source, now.lo_s)
        }
        Err(missing) => hw_selftest::without_hardware(&missing),
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&findings)?)?;
    } else {
        write!(out, "{findings}")?;
    }
    Ok(ExitCode::from(u8::from(!findings.ok())))
}

/// What `config check` found.
#[derive(serde::Serialize)]
struct Findings {
    ok: bool,
    faults: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest_signer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest_digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest_sequence: Option<u64>,
}

fn check_config(check: &Check) -> anyhow::Result<ExitCode> {
    let path = &check.file.config;
    let mut findings = Findings {
        ok: false,
        faults: Vec::new(),
        manifest_signer: None,
        manifest_digest: None,
        manifest_sequence: None,
    };
    match read_host(path)? {
        Ok(host) => check_manifest(check, &host, &mut findings)?,
        Err(faults) => {
            let named = faults
                .into_iter()
                .map(|f| format!("{}: {f}", path.display()));
            findings.faults.extend(named);
        }
    }
    findings.ok = findings.faults.is_empty();
    let mut out = std::io::stdout().lock();
    if check.json {
        writeln!(out, "{}", serde_json::to_string(&findings)?)?;
    } else {
        for fault in &findings.faults {
            writeln!(out, "{fault}")?;
        }
        if let Some(signer) = &findings.manifest_signer {
            writeln!(out, "manifest signer: {signer}")?;
        }
        if let (Some(digest), Some(sequence)) =
            (&findings.manifest_digest, findings.manifest_sequence)
        {
            writeln!(
                out,
                "manifest digest: {digest}\nmanifest sequence: {sequence}"
            )?;
        }
        let verdict = if findings.ok { "ok" } else { "refused" };
        writeln!(out, "{verdict}")?;
    }
    Ok(if findings.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn check_manifest(check: &Check, host: &HostConfig, findings: &mut Findings) -> anyhow::Result<()> {
    use attestation::manifest::{MAX_MANIFEST_BYTES, MAX_SIGNATURE_BYTES};
    let kind = if check.emulated {
        EnclaveKind::Emulated
    } else {
        EnclaveKind::Hardware
    };
    let files = &host.manifest;
    let toml = read_bounded(&files.file, MAX_MANIFEST_BYTES)?;
    let signature = read_bounded(&files.signature, MAX_SIGNATURE_BYTES)?;
    let signed_by = match ManifestSignature::from_json(&signature) {
        Ok(signature) => signature.signer(),
        Err(fault) => {
            let name = files.signature.display();
            findings.faults.push(format!("{name}: {fault}"));
            // The file's own faults are worth knowing all the same.
            if let Err(faults) = Manifest::check(&toml, kind) {
                add_faults(findings, &files.file, &faults);
            }
            return Ok(());
        }
    };
    findings.manifest_signer = Some(hex::encode(signed_by));
    let signer = match &check.signer {
        Some(hex) => parse_digest(hex)?,
        None => signed_by,
    };
    match Manifest::open(&toml, &signature, &signer, kind) {
        Ok(manifest) => {
            findings.manifest_digest = Some(hex::encode(manifest.digest()));
            findings.manifest_sequence = Some(manifest.sequence());
        }
        Err(ManifestError::Signature(fault)) => {
            let name = files.signature.display();
            findings.faults.push(format!("{name}: {fault}"));
            if let Err(faults) = Manifest::check(&toml, kind) {
                add_faults(findings, &files.file, &faults);
            }
        }
        Err(ManifestError::Fields(faults)) => add_faults(findings, &files.file, &faults),
    }
    Ok(())
}

fn add_faults<F: std::fmt::Display>(findings: &mut Findings, file: &Path, faults: &[F]) {
    let named = faults.iter().map(|f| format!("{}: {f}", file.display()));
    findings.faults.extend(named);
}

fn parse_digest(text: &str) -> anyhow::Result<[u8; 32]> {
    hex::decode(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| anyhow!("--signer takes 64 hexadecimal digits"))
}
