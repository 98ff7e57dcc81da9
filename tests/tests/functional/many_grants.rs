//! What a million grants cost: time to start, and memory.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    reason = "a failed test may panic; what is counted is far below 2^52"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dev::lab::{self, Lab, LabFiles};
use proto::v1::{GetGrantRequest, GrantState};
use tempfile::TempDir;
use testkit::rounds::median;
use tests::bars::{self, Bar, Row};
use tests::binary::{binary, release_binary};
use tests::effort;
use tests::process::Process;
use tokenkeep::AttestedChannel;
use tokenkeep::rpc_error::answer;

/// What is measured, and what it is measured against.
#[derive(Clone, Copy)]
struct Size {
    grants: u32,
    few: u32,
    tenants: u32,
    runs: u64,
}

/// All of it, in the release profile; else enough to see that the harness works: against so many that what the allocator
/// sets aside for a process is in both, and what it keeps of a start, some 16 MiB from 32,000 grants on.
fn size() -> Size {
    if effort::is_full() {
        Size {
            grants: 1_000_000,
            few: 1_000,
            tenants: 1_000,
            runs: 3,
        }
    } else {
        Size {
            grants: 64_000,
            few: 32_000,
            tenants: 10,
            runs: 1,
        }
    }
}

fn program() -> PathBuf {
    if effort::is_full() {
        release_binary("tokenkeep-dev")
    } else {
        binary("tokenkeep-dev")
    }
}

/// About what large providers give.
const TOKEN_BYTES: u16 = 100;

/// Longer than any bar, so that what is too slow is measured too.
const PATIENCE: Duration = Duration::from_secs(300);

#[expect(
    clippy::disallowed_methods,
    reason = "a test measures how long something took"
)]
fn now() -> Instant {
    Instant::now()
}

/// A state with grants, and nobody who serves it.
struct Filled {
    folder: TempDir,
    files: LabFiles,
}

impl Filled {
    async fn with(grants: u32, tenants: u32, token_bytes: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("lab");
        let files = Lab::open(&dir).unwrap().into_parts().files;
        let (grants, tenants) = (grants.to_string(), tenants.to_string());
        let token_bytes = token_bytes.to_string();
        let arguments = [
            ["fill", "--grants", &grants],
            ["--tenants", &tenants, "--token-bytes"],
        ];
        let filled = tokio::process::Command::new(program())
            .args(arguments.concat())
            .args([&token_bytes, "--state"])
            .arg(&dir)
            .status()
            .await
            .unwrap();
        assert!(filled.success());
        let quiet = fs::read_to_string(files.path(lab::HOST)).unwrap();
        let quiet = quiet.replace("level = \"info\"", "level = \"warn\"");
        fs::write(files.path(lab::HOST), quiet).unwrap();
        Self { folder, files }
    }

    /// Starts the service, sees that it knows a grant, and stops it.
    async fn start(&self) -> Started {
        let lab = self.files.dir().to_str().unwrap();
        let arguments = ["serve", "--state", lab];
        let began = now();
        let mut service = Process::start(&program(), &arguments, self.folder.path(), "service");
        let ready = service.ready_within(PATIENCE).await;
        let start_ms = now().duration_since(began).as_secs_f64() * 1_000.0;
        let ready = ready.unwrap_or_else(|(status, said)| panic!("{status}: {said}"));
        let url = ready.get("grpc_url").unwrap().as_str().unwrap();
        let admin = self.files.admin_config(url).unwrap();
        let admin = Box::pin(AttestedChannel::connect(&admin)).await.unwrap();
        let request = GetGrantRequest {
            id: "grant-0000000".to_owned(),
        };
        let found = answer(admin.grants().get_grant(request)).await.unwrap();
        let found = found.into_inner().grant.unwrap();
        assert_eq!(found.state(), GrantState::Active);
        let started = Started {
            start_ms,
            rss_bytes: kib(service.id(), "VmRSS:") * 1_024.0,
        };
        assert!(service.stop().await.success());
        started
    }
}

#[derive(Clone, Copy, Debug)]
struct Started {
    start_ms: f64,
    rss_bytes: f64,
}

/// A figure of a process's status, in KiB.
fn kib(process: u32, name: &str) -> f64 {
    let status = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status"));
    let status = status.unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kib.trim().parse().unwrap()
}

/// The rows of starts with many grants, against starts with few.
fn rows(size: Size, many: &[Started], few: &[Started]) -> [Row; 2] {
    let of = |starts: &[Started], value: fn(&Started) -> f64| {
        median(&starts.iter().map(value).collect::<Vec<_>>())
    };
    let bytes = of(many, |start| start.rss_bytes) - of(few, |start| start.rss_bytes);
    let row = |name, value, unit, bar: u32| Row {
        name,
        value,
        unit,
        bar: Bar::AtMost(bar.into()),
        runs: size.runs,
        seed: 0,
    };
    [
        row(
            "start_ms_1m_grants",
            of(many, |start| start.start_ms),
            "ms",
            15_000,
        ),
        row(
            "bytes_per_grant",
            bytes / f64::from(size.grants - size.few),
            "bytes",
            2_048,
        ),
    ]
}

async fn measure(size: Size, token_bytes: u16) -> (Filled, [Row; 2]) {
    let few = Filled::with(size.few, size.tenants, token_bytes).await;
    let many = Filled::with(size.grants, size.tenants, token_bytes).await;
    let (mut starts, mut starts_with_few) = (Vec::new(), Vec::new());
    for _ in 0..size.runs {
        starts.push(many.start().await);
        starts_with_few.push(few.start().await);
    }
    let rows = rows(size, &starts, &starts_with_few);
    (many, rows)
}

#[tokio::test]
async fn state_bar_a_million_grants_start_in_time_and_fit_in_memory() {
    let (_many, rows) = measure(size(), TOKEN_BYTES).await;
    // Fewer grants say nothing about a million, but they must meet the bars all the more.
    let met = rows.map(|row| {
        let found = format!("{row:?}");
        let met = if effort::is_full() {
            bars::record("state", row).unwrap()
        } else {
            row.value > 0.0 && row.met()
        };
        (met, found)
    });
    // Each row is written down, whatever became of the other.
    for (met, found) in met {
        assert!(met, "{found}");
    }
}

/// Grants whose tokens alone are over the bar, and a start that waits for a second, are seen.
#[tokio::test]
async fn state_bar_canary_a_slow_start_and_heavy_grants_are_seen() {
    let small = Size {
        grants: 2_000,
        few: 10,
        tenants: 10,
        runs: 1,
    };
    let (many, [started, bytes]) = measure(small, 4_096).await;
    assert!(!bytes.met(), "{bytes:?}");
    // The same service behind a second's wait.
    let program = program();
    let lab = many.files.dir().display();
    let waiting = format!("sleep 1; exec {} serve --state {lab}", program.display());
    let began = now();
    let mut service = Process::start(
        Path::new("/bin/sh"),
        &["-c", &waiting],
        many.folder.path(),
        "waiting",
    );
    service.ready_within(PATIENCE).await.unwrap();
    let late_ms = now().duration_since(began).as_secs_f64() * 1_000.0;
    assert!(late_ms >= 1_000.0, "{late_ms} {started:?}");
    assert!(service.stop().await.success());
}
