//! One process of a program under test: its output goes to files, and it dies with its owner.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a process that cannot be driven fails the test"
)]

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::wait::{PATIENCE, wait_long_for};

/// A running process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    /// Where this process's output begins in the file, which earlier ones may have written to.
    from: usize,
}

impl Process {
    /// Starts `program`. Its output is appended to `{name}.out` and `{name}.err` in `logs`.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(program: &Path, arguments: &[&str], logs: &Path, name: &str) -> Self {
        let file = |ending: &str| logs.join(format!("{name}.{ending}"));
        let open = |path: &Path| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .expect("a log file")
        };
        let (out, err) = (file("out"), file("err"));
        let from = fs::metadata(&out).map_or(0, |found| {
            usize::try_from(found.len()).unwrap_or(usize::MAX)
        });
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(open(&out))
            .stderr(open(&err))
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
        Self {
            child,
            out,
            err,
            from,
        }
    }

    /// The JSON line that it prints when it is ready.
    ///
    /// # Errors
    /// It ended before: how, and what it said.
    pub async fn ready(&mut self) -> Result<Value, (ExitStatus, String)> {
        self.ready_within(PATIENCE).await
    }

    /// As [`Self::ready`], with another patience.
    ///
    /// # Errors
    /// It ended before.
    pub async fn ready_within(
        &mut self,
        patience: Duration,
    ) -> Result<Value, (ExitStatus, String)> {
        wait_long_for(patience, "the process is ready or has ended", async || {
            if let Some(line) = self.first_line() {
                return Some(Ok(serde_json::from_str(&line).expect("a line of JSON")));
            }
            let ended = self.child.try_wait().expect("a child to wait for")?;
            Some(Err((ended, self.stderr())))
        })
        .await
    }

    fn first_line(&self) -> Option<String> {
        let text = fs::read_to_string(&self.out).ok()?;
        let (line, _) = text.get(self.from..)?.split_once('\n')?;
        Some(line.to_owned())
    }

    /// Whether it has not ended.
    pub fn running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child to wait for")
            .is_none()
    }

    /// What was written to standard error by all processes of this name.
    #[must_use]
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.err).unwrap_or_default()
    }

    /// Its process id.
    ///
    /// # Panics
    /// It has ended.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id().expect("a process that runs")
    }

    /// Sends SIGTERM and does not wait.
    pub async fn ask_to_stop(&self) {
        let told = Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", self.id())])
            .status()
            .await
            .expect("a shell");
        assert!(told.success(), "SIGTERM was not sent");
    }

    /// How it ends, by itself.
    ///
    /// # Panics
    /// It does not end in time.
    pub async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .expect("the process to end in time")
            .expect("a child to wait for")
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.ask_to_stop().await;
        self.ended().await
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a child to kill");
    }
}
