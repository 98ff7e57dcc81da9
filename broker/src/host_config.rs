//! `host.toml`: where the service listens, keeps its state and logs.
//!
//! The host writes it, so nothing in it can widen what the service gives: it can
//! only refuse service, and have numbers told. What decides about trust is in the
//! signed manifest.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use attestation::snp::AMD_KDS;
use attestation::tdx::{INTEL_PCS, INTEL_ROOT_CRL};
use thiserror::Error;
use toml::Table;
use url::Url;

use crate::listener;
use crate::store::FilePolicy;
use crate::toml_fields::{Fault, Fields};

/// A configuration file of more bytes is refused.
pub const MAX_CONFIG_BYTES: usize = 64 * 1024;

/// The checked configuration of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// The addresses of the three listeners.
    pub listen: Listen,
    /// The directory of the store and the sealed root key.
    pub state_dir: PathBuf,
    /// When the store's file is compacted.
    pub compaction: FilePolicy,
    /// The signed manifest.
    pub manifest: ManifestFiles,
    /// Where what vouches for evidence comes from.
    pub collateral: CollateralConfig,
    /// What is logged, and how.
    pub log: Log,
    /// Where metrics are asked for; nowhere unless it is said.
    pub metrics: Option<SocketAddr>,
    /// Where traces go; nowhere unless it is said.
    pub traces: Option<Traces>,
    /// What peers are granted.
    pub limits: Limits,
}

/// The addresses of the three listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// gRPC; client certificates are asked for.
    pub grpc: SocketAddr,
    /// Issuer, connect pages, logs.
    pub public: SocketAddr,
    /// The gateway.
    pub gateway: SocketAddr,
}

/// Where the manifest and its signature are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFiles {
    /// `manifest.toml`.
    pub file: PathBuf,
    /// Its detached signature.
    pub signature: PathBuf,
}

/// Where certificates and statements of the hardware's manufacturer come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollateralConfig {
    /// Where they are kept across restarts, and carried to where there is no network.
    pub dir: Option<PathBuf>,
    /// Whether the services are asked.
    pub fetch: Fetch,
    /// AMD's key distribution service, or a mirror.
    pub amd_kds: Url,
    /// Intel's provisioning certification service, or a mirror or caching service.
    pub intel_pcs: Url,
    /// The revocation list of Intel's root.
    pub intel_root_crl: Url,
    /// Seconds between two refreshes.
    pub refresh_s: u64,
}

/// Whether the manufacturers' services are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// On confidential hardware. The default.
    OnHardware,
    /// By an emulated enclave, too.
    Always,
    /// Nobody is asked.
    Never,
}

/// Where traces go, and of how many calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// A collector's prefix for OTLP over HTTP.
    pub endpoint: Url,
    /// One call in so many is traced.
    pub one_in: u64,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least severe events that are logged.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// How severe an event must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Errors alone.
    Error,
    /// And warnings.
    Warn,
    /// And what an operator wants to know. The default.
    Info,
    /// And what helps to find a fault.
    Debug,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line. The default.
    Json,
    /// For people.
    Text,
}

/// What peers are granted. The defaults are what ships; where a larger number
/// would give a thief more, the default is the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of each listener.
    pub connections: usize,
    /// Concurrent streams of one HTTP/2 connection.
    pub streams: u32,
    /// Seconds for a TLS handshake.
    pub handshake_s: u64,
    /// Seconds for the head of a connection's first request, and with HTTP/1 of each.
    pub head_s: u64,
    /// gRPC requests under way at a time; more are turned away.
    pub requests: usize,
    /// Calls through the gateway under way at a time, until their answers have ended.
    pub calls: usize,
    /// Seconds for a gRPC request.
    pub request_s: u64,
    /// Bytes of a gRPC message.
    pub message_bytes: usize,
    /// Bytes of a request's head.
    pub head_bytes: u32,
    /// Seconds after which a connection is drained.
    pub connection_age_s: u64,
    /// Seconds that requests get to finish at shutdown.
    pub drain_s: u64,
    /// Proofs that the replay cache remembers; when it is full, it refuses.
    pub replay_entries: usize,
    /// Seconds without a byte after which a gateway's answer is cut.
    pub gateway_idle_s: u64,
}

impl Limits {
    /// The bounds of one listener.
    #[must_use]
    pub fn of_listener(&self) -> listener::Limits {
        listener::Limits {
            max_connections: self.connections,
            handshake_timeout: Duration::from_secs(self.handshake_s),
            head_timeout: Duration::from_secs(self.head_s),
            connection_age: Duration::from_secs(self.connection_age_s),
            drain: Duration::from_secs(self.drain_s),
            max_streams: self.streams,
            max_head_bytes: self.head_bytes,
            unread: Duration::from_secs(self.request_s),
        }
    }
}

/// Why a configuration was refused: all its faults.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct HostConfigError {
    /// What is wrong, in the order of the file's documentation.
    pub faults: Vec<Fault>,
}

impl fmt::Display for HostConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the host configuration is refused")?;
        for fault in &self.faults {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl HostConfig {
    /// Checks the text of a `host.toml`. Relative paths in it count from `base`,
    /// the directory that the file is in.
    ///
    /// # Errors
    /// [`HostConfigError`] with every fault.
    pub fn parse(text: &str, base: &Path) -> Result<Self, HostConfigError> {
        let mut faults = Vec::new();
        let config = checked(text, base, &mut faults);
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            Some(_) | None => Err(HostConfigError { faults }),
        }
    }
}

fn checked(text: &str, base: &Path, faults: &mut Vec<Fault>) -> Option<HostConfig> {
    if text.len() > MAX_CONFIG_BYTES {
        faults.push(Fault {
            field: String::new(),
            problem: format!("the file is over {MAX_CONFIG_BYTES} bytes"),
        });
        return None;
    }
    let table = match text.parse::<Table>() {
        Ok(table) => table,
        Err(error) => {
            faults.push(Fault {
                field: String::new(),
                problem: format!("not TOML: {}", error.message()),
            });
            return None;
        }
    };
    let mut top = Fields::top(table);
    let listen = listen(top.section("listen", faults), faults);

    let mut state = top.section("state", faults);
    let state_dir = state.text("dir", "the path of a directory", faults);
    let compaction = compaction(&mut state, faults);
    state.end(faults);

    let mut manifest = top.section("manifest", faults);
    let file = manifest.text("file", "the path of the manifest", faults);
    let signature = manifest.text("signature", "the path of its signature", faults);
    manifest.end(faults);

    let collateral = collateral(top.section("collateral", faults), base, faults);
    let log = log(top.section("log", faults), faults);
    let metrics = metrics(top.section("metrics", faults), listen, faults);
    let traces = traces(top.section("traces", faults), faults);
    let limits = limits(top.section("limits", faults), faults);
    top.end(faults);

    Some(HostConfig {
        listen: listen?,
        state_dir: base.join(state_dir?),
        compaction,
        manifest: ManifestFiles {
            file: base.join(file?),
            signature: base.join(signature?),
        },
        collateral: collateral?,
        log,
        metrics,
        traces,
        limits,
    })
}

fn compaction(state: &mut Fields, faults: &mut Vec<Fault>) -> FilePolicy {
    let FilePolicy {
        ratio,
        from_bytes,
        room_from_bytes,
    } = FilePolicy::default();
    FilePolicy {
        ratio: state.number("compact_at_ratio", 2..=100, ratio, faults),
        from_bytes: state.number(
            "compact_from_bytes",
            1_048_576..=1_099_511_627_776,
            from_bytes,
            faults,
        ),
        room_from_bytes,
    }
}

fn collateral(
    mut fields: Fields,
    base: &Path,
    faults: &mut Vec<Fault>,
) -> Option<CollateralConfig> {
    let dir = fields.optional_text("dir", "the path of a directory", faults);
    let wanted = "\"on-hardware\", \"always\" or \"never\"";
    let fetch = fields.parsed_or(
        "fetch",
        wanted,
        Fetch::OnHardware,
        faults,
        |text| match text {
            "on-hardware" => Some(Fetch::OnHardware),
            "always" => Some(Fetch::Always),
            "never" => Some(Fetch::Never),
            _ => None,
        },
    );
    let mut url = |name, default: &str| {
        let wanted = "an http or https URL without a query";
        fields.parsed_or(name, wanted, endpoint(default), faults, |text| {
            endpoint(text).map(Some)
        })
    };
    let amd_kds = url("amd_kds", AMD_KDS);
    let intel_pcs = url("intel_pcs", INTEL_PCS);
    let intel_root_crl = url("intel_root_crl", INTEL_ROOT_CRL);
    let refresh_s = fields.number("refresh_s", 60..=604_800, 21_600, faults);
    fields.end(faults);
    Some(CollateralConfig {
        dir: dir.map(|path| base.join(path)),
        fetch,
        amd_kds: amd_kds?,
        intel_pcs: intel_pcs?,
        intel_root_crl: intel_root_crl?,
        refresh_s,
    })
}

fn endpoint(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty();
    plain.then_some(url)
}

fn listen(mut fields: Fields, faults: &mut Vec<Fault>) -> Option<Listen> {
    let mut addr = |name| {
        let wanted = "an address and port, as \"0.0.0.0:8443\" or \"[::]:8443\"";
        fields.parsed(name, wanted, faults, |text| text.parse::<SocketAddr>().ok())
    };
    let (grpc, public, gateway) = (addr("grpc"), addr("public"), addr("gateway"));
    for (name, mine, others) in [
        ("public", public, [grpc, None]),
        ("gateway", gateway, [grpc, public]),
    ] {
        let taken = mine.is_some_and(|mine| mine.port() != 0 && others.contains(&Some(mine)));
        if taken {
            let problem = "is another listener's address; write one of its own";
            faults.push(fields.fault(name, problem.to_owned()));
        }
    }
    fields.end(faults);
    Some(Listen {
        grpc: grpc?,
        public: public?,
        gateway: gateway?,
    })
}

fn log(mut fields: Fields, faults: &mut Vec<Fault>) -> Log {
    let wanted = "\"error\", \"warn\", \"info\" or \"debug\"";
    let level = fields.parsed_or("level", wanted, LogLevel::Info, faults, |text| match text {
        "error" => Some(LogLevel::Error),
        "warn" => Some(LogLevel::Warn),
        "info" => Some(LogLevel::Info),
        "debug" => Some(LogLevel::Debug),
        _ => None,
    });
    let wanted = "\"json\" or \"text\"";
    let format = fields.parsed_or(
        "format",
        wanted,
        LogFormat::Json,
        faults,
        |text| match text {
            "json" => Some(LogFormat::Json),
            "text" => Some(LogFormat::Text),
            _ => None,
        },
    );
    fields.end(faults);
    Log { level, format }
}

fn metrics(
    mut fields: Fields,
    others: Option<Listen>,
    faults: &mut Vec<Fault>,
) -> Option<SocketAddr> {
    let wanted = "an address and port, as \"127.0.0.1:9464\", or leave it out";
    let addr = fields.parsed_or("listen", wanted, None, faults, |text| {
        text.parse::<SocketAddr>().ok().map(Some)
    });
    let taken = others.is_some_and(|listen| {
        let others = [listen.grpc, listen.public, listen.gateway];
        addr.is_some_and(|addr| addr.port() != 0 && others.contains(&addr))
    });
    if taken {
        let problem = "is another listener's address; write one of its own";
        faults.push(fields.fault("listen", problem.to_owned()));
    }
    fields.end(faults);
    addr
}

fn traces(mut fields: Fields, faults: &mut Vec<Fault>) -> Option<Traces> {
    let wanted =
        "an http or https URL without a query, as \"http://127.0.0.1:4318\", or leave it out";
    let url = fields.parsed_or("endpoint", wanted, None, faults, |text| {
        endpoint(text).map(Some)
    });
    let one_in = fields.number("one_in", 1..=1_000_000, 100, faults);
    fields.end(faults);
    url.map(|endpoint| Traces { endpoint, one_in })
}

fn limits(mut fields: Fields, faults: &mut Vec<Fault>) -> Limits {
    let mut number = |name, bounds, default| fields.number(name, bounds, default, faults);
    let limits = Limits {
        connections: size(number("connections", 1..=65_536, 4_096)),
        streams: small(number("streams", 1..=1_024, 128)),
        handshake_s: number("handshake_s", 1..=30, 5),
        head_s: number("head_s", 1..=60, 10),
        requests: size(number("requests", 16..=65_536, 1_024)),
        calls: size(number("calls", 16..=65_536, 4_096)),
        request_s: number("request_s", 1..=60, 15),
        message_bytes: size(number("message_bytes", 16_384..=262_144, 262_144)),
        head_bytes: small(number("head_bytes", 8_192..=65_536, 16_384)),
        connection_age_s: number("connection_age_s", 10..=86_400, 3_600),
        drain_s: number("drain_s", 1..=300, 30),
        replay_entries: size(number("replay_entries", 1_000..=16_000_000, 1_000_000)),
        gateway_idle_s: number("gateway_idle_s", 1..=600, 60),
    };
    fields.end(faults);
    limits
}

/// A number whose bounds fit the smaller type.
fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A number whose bounds fit the smaller type.
fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../samples/host.toml");

    const LEAST: &str = r#"
[listen]
grpc = "127.0.0.1:1"
public = "127.0.0.1:2"
gateway = "127.0.0.1:3"
[state]
dir = "state"
[manifest]
file = "manifest.toml"
signature = "manifest.toml.sig"
"#;

    fn parse(text: &str) -> Result<HostConfig, HostConfigError> {
        HostConfig::parse(text, Path::new("/etc/tokenkeep"))
    }

    fn faults(text: &str) -> Vec<String> {
        let error = parse(text).unwrap_err();
        error.faults.iter().map(Fault::to_string).collect()
    }

    #[test]
    fn the_sample_shows_the_defaults() {
        let sample = parse(SAMPLE).unwrap();
        let least = parse(LEAST).unwrap();
        assert_eq!(sample.limits, least.limits);
        assert_eq!(sample.log, least.log);
        assert_eq!(sample.collateral, least.collateral);
        assert_eq!(sample.state_dir, Path::new("/var/lib/tokenkeep"));
        assert_eq!(
            sample.listen.grpc,
            "0.0.0.0:8443".parse::<SocketAddr>().unwrap()
        );
    }

    #[test]
    fn the_default_limits_are_those_of_the_listener() {
        assert_eq!(
            parse(LEAST).unwrap().limits.of_listener(),
            listener::Limits::default()
        );
    }

    #[test]
    fn nothing_is_told_to_collectors_unless_it_is_said() {
        let least = parse(LEAST).unwrap();
        assert_eq!((least.metrics, least.traces), (None, None));
        let text = format!(
            "{LEAST}[metrics]\nlisten = \"127.0.0.1:9464\"\n[traces]\nendpoint = \"http://127.0.0.1:4318\"\n"
        );
        let config = parse(&text).unwrap();
        assert_eq!(config.metrics, "127.0.0.1:9464".parse().ok());
        let traces = config.traces.unwrap();
        assert_eq!(
            (traces.endpoint.as_str(), traces.one_in),
            ("http://127.0.0.1:4318/", 100)
        );
    }

    #[test]
    fn paths_count_from_the_file() {
        let config = parse(LEAST).unwrap();
        assert_eq!(config.state_dir, Path::new("/etc/tokenkeep/state"));
        assert_eq!(config.compaction, FilePolicy::default());
        assert_eq!(
            config.manifest.signature,
            Path::new("/etc/tokenkeep/manifest.toml.sig")
        );
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let text = r#"
tokens = "yes"
log = 3
[listen]
grpc = "localhost:1"
public = "127.0.0.1:2"
gateway = "127.0.0.1:2"
grcp = "127.0.0.1:1"
[state]
dir = ""
share_file = true
[manifest]
file = 7
[limits]
request_s = 61
replay_entries = 51
streams = "many"
drain_s = -1
"#;
        assert_eq!(
            faults(text),
            [
                "listen.grpc: is \"localhost:1\"; write an address and port, as \"0.0.0.0:8443\" or \"[::]:8443\"",
                "listen.gateway: is another listener's address; write one of its own",
                "listen.grcp: is not known; remove it",
                "state.dir: is empty; write the path of a directory",
                "state.share_file: is not known; remove it",
                "manifest.file: is a number; write the path of the manifest",
                "manifest.signature: is missing; write the path of its signature",
                "log: is a number; write a table, [log]",
                "limits.streams: is a text; write a number from 1 to 1024",
                "limits.request_s: is 61; write a number from 1 to 60",
                "limits.drain_s: is -1; write a number from 1 to 300",
                "limits.replay_entries: is 51; write a number from 1000 to 16000000",
                "tokens: is not known; remove it",
            ]
        );
    }

    #[test]
    fn one_fault_is_enough() {
        let rows = [
            (
                "[log]\nlevel = \"trace\"",
                "log.level: is \"trace\"; write \"error\", \"warn\", \"info\" or \"debug\"",
            ),
            (
                "[log]\nformat = \"xml\"",
                "log.format: is \"xml\"; write \"json\" or \"text\"",
            ),
            (
                "[metrics]\nlisten = \"loopback\"",
                "metrics.listen: is \"loopback\"; write an address and port, as \"127.0.0.1:9464\", or leave it out",
            ),
            (
                "[metrics]\nlisten = \"127.0.0.1:2\"",
                "metrics.listen: is another listener's address; write one of its own",
            ),
            (
                "[metrics]\nport = 1",
                "metrics.port: is not known; remove it",
            ),
            (
                "[traces]\nendpoint = \"collector:4317\"",
                "traces.endpoint: is \"collector:4317\"; write an http or https URL without a query, as \"http://127.0.0.1:4318\", or leave it out",
            ),
            (
                "[traces]\none_in = 0",
                "traces.one_in: is 0; write a number from 1 to 1000000",
            ),
            (
                "[limits]\ndanger = 1",
                "limits.danger: is not known; remove it",
            ),
            (
                "[limits]\nmessage_bytes = 262145",
                "limits.message_bytes: is 262145; write a number from 16384 to 262144",
            ),
        ];
        for (more, expected) in rows {
            assert_eq!(faults(&format!("{LEAST}{more}")), [expected]);
        }
    }

    #[test]
    fn what_is_not_toml_is_refused() {
        assert_eq!(
            faults("[listen"),
            ["not TOML: unclosed table, expected `]`"]
        );
        assert_eq!(
            faults(&" ".repeat(MAX_CONFIG_BYTES + 1)),
            ["the file is over 65536 bytes"]
        );
    }
}
