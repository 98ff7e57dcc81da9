//! The command line of `tokenkeep-dev`.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use attestation::Platform;
use broker::offline::StoreCommand;
use clap::builder::FalseyValueParser;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use dev::fill::Amount;
use dev::provider::{ProviderOptions, RotationKind};
use dev::serve::{Emulation, Signer, Source};

/// Tokenkeep for developers: the service with an emulated enclave, which protects nothing
///
/// Everything listens on loopback. The service is the one that ships; the chip is a file.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:
  tokenkeep-dev demo                      a guided tour
  tokenkeep-dev rollback                  a disk that is put back, and found out
  tokenkeep-dev incident                  a vendor that is compromised, stopped and told of
  tokenkeep-dev crash                     a refresh token that a crash costs, and what is told of it
  tokenkeep-dev up                        everything running, with commands to try
  tokenkeep-dev up --state lab            the same, kept between runs
  tokenkeep-dev up --json                 the same, for programs
  tokenkeep-dev serve --state lab         the service alone"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Walk through the main job: verify, deposit, token, call, three thefts, freeze
    ///
    /// Each outcome is checked; the first wrong one ends the demo with exit code 1 and leaves the service's log.
    #[command(after_help = "Examples:\n  tokenkeep-dev demo\n  tokenkeep-dev demo | cat")]
    Demo(Demo),
    /// Snapshot the disk, revoke a grant, put the old disk back, start: refused, with a witness's proof
    ///
    /// Exit code 0 only if the old disk was refused and the newest one serves.
    #[command(after_help = "Examples:\n  tokenkeep-dev rollback\n  tokenkeep-dev rollback | cat")]
    Rollback(Demo),
    /// Kill the service between a strict provider's commit and its own, start it again: found out, told, mended
    ///
    /// Exit code 0 only if each outcome is as it must be.
    #[command(after_help = "Examples:\n  tokenkeep-dev crash\n  tokenkeep-dev crash | cat")]
    Crash(Demo),
    /// A vendor is compromised: thefts, freeze, what the logs prove, revocation, a file for auditors
    ///
    /// Exit code 0 only if each outcome is as it must be. docs/incident.md has the commands of a security team.
    #[command(after_help = "Examples:\n  tokenkeep-dev incident\n  tokenkeep-dev incident | cat")]
    Incident(Demo),
    /// Run provider, API and service, furnished with an example, until Ctrl-C
    #[command(after_help = "Examples:
  tokenkeep-dev up
  tokenkeep-dev up --state lab
  tokenkeep-dev up --state lab-tdx --platform tdx
  tokenkeep-dev up --json > up.json &")]
    Up(Up),
    /// Run the service alone
    ///
    /// Prints one line of JSON when it answers. SIGTERM and Ctrl-C drain it.
    #[command(after_help = "Examples:
  tokenkeep-dev serve --state lab
  tokenkeep-dev serve --host lab/host.toml
  tokenkeep-dev serve --host host.toml --chip chip.secret --signer-digest HEX --image next")]
    Serve(Serve),
    /// Run the provider and API to test against, alone
    ///
    /// Prints one line of JSON when it answers. Consent is given over HTTP: POST /_testkit/consent.
    #[command(after_help = "Examples:
  tokenkeep-dev provider
  tokenkeep-dev provider --port 9000 --state-file provider.json --client-secret-file app.secret
  tokenkeep-dev provider --rotation grace --flaky 10 --seed 7 --ledger-file ledger.jsonl")]
    Provider(Provider),
    /// Fill a state with grants, offline, to measure with
    ///
    /// Each grant is deposited as over gRPC: sealed to the enclave's key, opened, sealed to its tenant's, logged.
    #[command(after_help = "Examples:
  tokenkeep-dev fill --state lab --grants 1000
  tokenkeep-dev fill --state lab --grants 10000 --tenants 1000 --policies
  tokenkeep-dev fill --state lab --grants 1000000 --tenants 1000 && tokenkeep-dev serve --state lab")]
    Fill(Fill),
    /// Check, measure, export and import the state of a lab, while no service uses it
    ///
    /// What `tokenkeepd store` does, with the emulated chip.
    #[command(after_help = "Examples:
  tokenkeep-dev store --state lab check
  tokenkeep-dev store --state lab stats --json
  tokenkeep-dev store --state lab export state.tkexport
  tokenkeep-dev store --state lab import state.tkexport")]
    Store(Store),
}

#[derive(Debug, Args)]
struct Demo {
    /// Print no colours, on a terminal neither
    #[arg(long, env = "NO_COLOR", value_parser = FalseyValueParser::new(), hide_env_values = true)]
    no_color: bool,
}

#[derive(Debug, Args)]
struct Up {
    /// Keep keys, ports, registry and grant here between runs [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Print one JSON object on one line when all is ready
    #[arg(long)]
    json: bool,
    /// The hardware that is emulated, when --state is made [default: snp]
    #[arg(long, value_enum)]
    platform: Option<PlatformArg>,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("source").required(true).args(["state", "host"])))]
struct Serve {
    /// A directory as `up --state` makes it; made if it is not there
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The host's configuration
    #[arg(long, value_name = "host.toml")]
    host: Option<PathBuf>,
    /// The emulated chip: a file of 32 random bytes [default: chip.secret beside the configuration]
    #[arg(long, value_name = "FILE")]
    chip: Option<PathBuf>,
    /// The image that is measured; policies are pinned to the default one [default: tokenkeep-dev]
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    /// Who signs the manifest: SHA-256 over the SubjectPublicKeyInfo, 64 hex digits
    #[arg(long, value_name = "HEX", value_parser = digest, conflicts_with = "signer")]
    signer_digest: Option<[u8; 32]>,
    /// Who signs the manifest, by the private key [default: signer.key beside the configuration]
    #[arg(long, value_name = "FILE")]
    signer: Option<PathBuf>,
    /// The guest SVN that the image's owner gave it; SEV-SNP alone has one [default: 0]
    #[arg(long, value_name = "NUMBER")]
    guest_svn: Option<u32>,
    /// The hardware that is emulated, when --state is made [default: snp]
    #[arg(long, value_enum, conflicts_with = "host")]
    platform: Option<PlatformArg>,
}

#[derive(Debug, Args)]
struct Fill {
    /// A directory as `up --state` makes it, that no service uses; made if it is not there
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// How many grants
    #[arg(long, value_name = "COUNT")]
    grants: u32,
    /// Whose they are: as many tenants in turn
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tenants: u32,
    /// How long each refresh token is
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u16).range(32..=8_192))]
    token_bytes: u16,
    /// Give each tenant a policy that refuses nothing
    #[arg(long)]
    policies: bool,
}

#[derive(Debug, Args)]
struct Store {
    /// A directory as `up --state` makes it
    #[arg(long, value_name = "DIR", global = true, default_value = "lab")]
    state: PathBuf,
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Args)]
struct Provider {
    /// The port on 127.0.0.1; 0 for a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Keep grants and tokens here between runs
    #[arg(long, value_name = "FILE")]
    state_file: Option<PathBuf>,
    /// Write each presentation of a token here, a JSON object a line
    #[arg(long, value_name = "FILE")]
    ledger_file: Option<PathBuf>,
    /// The one client
    #[arg(long, value_name = "ID", default_value = dev::names::OAUTH_CLIENT_ID)]
    client_id: String,
    /// Its secret, in a file of mode 0600; without one the client is public
    #[arg(long, value_name = "FILE")]
    client_secret_file: Option<PathBuf>,
    /// What happens to a refresh token that is used
    #[arg(long, value_enum, default_value_t = RotationArg::Strict)]
    rotation: RotationArg,
    /// For how long a superseded refresh token still works under grace and grace-newest
    #[arg(long, value_name = "MS", default_value_t = dev::provider::GRACE_WINDOW_MS)]
    grace_window_ms: u64,
    /// Life of an access token; 0 makes every call ask for a new one
    #[arg(long, value_name = "SECONDS", default_value_t = dev::provider::EXPIRES_IN_S)]
    expires_in_s: u64,
    /// Strike one in so many requests to the token endpoint with a fault: an error before or after it took effect, an
    /// answer that is late or cut short, a reset, 429; 0 for none
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    flaky: u32,
    /// What the faults come from: the same ones again
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RotationArg {
    /// Single use; a reuse revokes the grant
    Strict,
    /// Single use; a reuse is refused, and nothing else happens
    NoGrace,
    /// Single use, but the last one works again for a while, and gets the same successor
    Grace,
    /// The same, but it gets a new successor, which supersedes the other
    GraceNewest,
    /// It stays
    Never,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PlatformArg {
    /// AMD SEV-SNP: the chip derives a key, which opens the state together with the keyholder's share
    Snp,
    /// Intel TDX: no key of the chip, so that the keyholder's share alone opens the state
    Tdx,
}

impl From<PlatformArg> for Platform {
    fn from(platform: PlatformArg) -> Self {
        match platform {
            PlatformArg::Snp => Self::Snp,
            PlatformArg::Tdx => Self::Tdx,
        }
    }
}

fn digest(text: &str) -> Result<[u8; 32], String> {
    hex::decode(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| "must be 64 hexadecimal digits".to_owned())
}

#[global_allocator]
static ALLOCATOR: broker::hygiene::ZeroingAllocator = broker::hygiene::ZEROING;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(true) => ExitCode::SUCCESS,
        // What was found is told.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // The cause is in the line; there is nowhere else to say it.
            writeln!(io::stderr(), "tokenkeep-dev: {}", one_line(&error)).unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well.
fn run(command: Command) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| anyhow!("the runtime did not start: {error}"))?;
    runtime.block_on(Box::pin(async {
        match command {
            Command::Demo(Demo { no_color }) => {
                let colour = !no_color && io::stdout().is_terminal();
                dev::demo::demo(colour, &sibling("tokenkeep-dev")).await?;
            }
            Command::Incident(Demo { no_color }) => {
                let colour = !no_color && io::stdout().is_terminal();
                dev::incident::incident(colour).await?;
            }
            Command::Rollback(Demo { no_color }) => {
                let colour = !no_color && io::stdout().is_terminal();
                dev::rollback::rollback(colour).await?;
            }
            Command::Crash(Demo { no_color }) => {
                let colour = !no_color && io::stdout().is_terminal();
                dev::crash::crash(colour).await?;
            }
            Command::Up(Up {
                state,
                json,
                platform,
            }) => {
                let platform = platform.map(Platform::from);
                let tokenkeep = sibling("tokenkeep");
                dev::up::up(state.as_deref(), platform, json, &tokenkeep).await?;
            }
            Command::Serve(args) => {
                let (source, emulation) = serve_arguments(args)?;
                dev::serve::serve(source, emulation).await?;
            }
            Command::Fill(Fill {
                state,
                grants,
                tenants,
                token_bytes,
                policies,
            }) => {
                let amount = Amount {
                    grants,
                    tenants,
                    token_bytes,
                    policies,
                };
                Box::pin(dev::fill::fill(&state, amount)).await?;
            }
            Command::Provider(args) => dev::provider::run(provider_options(args)).await?,
            Command::Store(Store { state, command }) => {
                return Ok(Box::pin(dev::store::store(&state, &command)).await?);
            }
        }
        Ok(true)
    }))
}

fn serve_arguments(args: Serve) -> anyhow::Result<(Source, Emulation)> {
    let Serve {
        state,
        host,
        chip,
        image,
        signer_digest,
        signer,
        guest_svn,
        platform,
    } = args;
    let source = match (state, host) {
        (Some(dir), None) => Source::State(dir),
        (None, Some(file)) => Source::Host(file),
        (Some(_), Some(_)) | (None, None) => {
            return Err(anyhow!("give either --state DIR or --host host.toml"));
        }
    };
    let signer = signer_digest
        .map(Signer::Digest)
        .or(signer.map(Signer::Key));
    Ok((
        source,
        Emulation {
            chip,
            image,
            signer,
            guest_svn,
            platform: platform.map(Platform::from),
        },
    ))
}

fn provider_options(args: Provider) -> ProviderOptions {
    let Provider {
        port,
        state_file,
        ledger_file,
        client_id,
        client_secret_file,
        rotation,
        grace_window_ms,
        expires_in_s,
        flaky,
        seed,
    } = args;
    ProviderOptions {
        state_file,
        ledger_file,
        port,
        client_id,
        client_secret_file,
        rotation: match rotation {
            RotationArg::Strict => RotationKind::Strict,
            RotationArg::NoGrace => RotationKind::NoGrace,
            RotationArg::Grace => RotationKind::Grace,
            RotationArg::GraceNewest => RotationKind::GraceNewest,
            RotationArg::Never => RotationKind::Never,
        },
        grace_window_ms,
        expires_in_s,
        flaky,
        seed,
    }
}

/// How a program of ours is called: by its path beside this one if it is there, else through cargo.
fn sibling(name: &str) -> String {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|this| this.parent().map(|dir| dir.join(name)))
        .filter(|path| path.is_file());
    match beside {
        Some(path) => relative(&path),
        None => format!("cargo run -q -p {name} --"),
    }
}

/// The path from where the user is, if that is shorter.
fn relative(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let path = match path.strip_prefix(&here) {
        Ok(below) => Path::new(".").join(below),
        Err(_) => path.to_owned(),
    };
    path.display().to_string()
}

/// An error and its causes, without what a cause repeats.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.ends_with(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    let parts: Vec<&str> = line.lines().map(str::trim).collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent_and_each_command_has_examples() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            if sub.get_name() == "help" {
                continue;
            }
            let help = sub.get_after_help().map(ToString::to_string);
            let example = format!("tokenkeep-dev {}", sub.get_name());
            assert!(
                help.is_some_and(|help| help.contains(&example)),
                "{example}"
            );
        }
    }

    #[test]
    fn arguments_that_do_not_fit_are_refused() {
        use clap::error::ErrorKind;
        let rows: [(&[&str], ErrorKind); 5] = [
            (&["serve"], ErrorKind::MissingRequiredArgument),
            (
                &["serve", "--state", "a", "--host", "b"],
                ErrorKind::ArgumentConflict,
            ),
            (
                &["serve", "--state", "a", "--signer-digest", "12"],
                ErrorKind::ValueValidation,
            ),
            (&["provider", "--port", "65536"], ErrorKind::ValueValidation),
            (&["up", "--tokens"], ErrorKind::UnknownArgument),
        ];
        for (args, kind) in rows {
            let all = ["tokenkeep-dev"].iter().chain(args);
            assert_eq!(
                Cli::try_parse_from(all).unwrap_err().kind(),
                kind,
                "{args:?}"
            );
        }
    }

    #[test]
    fn causes_are_told_once() {
        let inner = anyhow!("no such file");
        let error = inner.context("x: no such file").context("cannot start");
        assert_eq!(one_line(&error), "cannot start: x: no such file");
        assert_eq!(one_line(&anyhow!("faults:\n  a\n  b")), "faults:; a; b");
    }
}
