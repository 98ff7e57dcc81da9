//! The command line `tokenkeep` as a user types it.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a command that cannot be run fails the test"
)]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use crate::binary::binary;
use crate::wait::PATIENCE;

/// The environment of a user's shell, and where its outputs are kept.
#[derive(Debug, Clone)]
pub struct Shell {
    program: PathBuf,
    environment: Vec<(String, String)>,
    transcript: PathBuf,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Shell {
    /// A shell with these variables alone. Outputs are appended to `transcript`.
    #[must_use]
    pub fn new(transcript: &Path, environment: &[(&str, &str)]) -> Self {
        let shell = Self {
            program: binary("tokenkeep"),
            environment: Vec::new(),
            transcript: transcript.to_owned(),
        };
        shell.with(environment)
    }

    /// The same shell with more variables.
    #[must_use]
    pub fn with(&self, environment: &[(&str, &str)]) -> Self {
        let mut shell = self.clone();
        for (name, value) in environment {
            shell
                .environment
                .push(((*name).to_owned(), (*value).to_owned()));
        }
        shell
    }

    /// Runs `tokenkeep` with arguments.
    pub async fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, b"").await
    }

    /// Runs `tokenkeep` with arguments and a standard input.
    pub async fn run_with(&self, arguments: &[&str], stdin: &[u8]) -> Ended {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("tokenkeep to start");
        let mut input = child.stdin.take().expect("its standard input");
        // A command that reads nothing may be gone already.
        drop(input.write_all(stdin).await);
        drop(input);
        let output = timeout(PATIENCE, child.wait_with_output())
            .await
            .unwrap_or_else(|_| panic!("tokenkeep {arguments:?} does not end"))
            .expect("its output");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output of text");
        let ended = Ended {
            code: output.status.code().expect("an exit code"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        self.keep(arguments, &ended);
        ended
    }

    fn keep(&self, arguments: &[&str], ended: &Ended) {
        use std::io::Write as _;
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.transcript)
            .expect("a transcript");
        writeln!(file, "{arguments:?}\n{ended:#?}").expect("a transcript written");
    }
}

impl Ended {
    /// Standard output of a command that did what it was told.
    ///
    /// # Panics
    /// It did not.
    #[must_use]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// The one JSON value of a command that did what it was told.
    ///
    /// # Panics
    /// It did not, or it is no JSON on one line.
    #[must_use]
    pub fn json(self) -> Value {
        let stdout = self.ok();
        assert_eq!(stdout.lines().count(), 1, "{stdout}");
        serde_json::from_str(&stdout).expect("JSON")
    }

    /// Exit code and reason of a command that failed under `--json`.
    ///
    /// # Panics
    /// Standard error has no such error.
    #[must_use]
    pub fn refusal(&self) -> (i32, String) {
        let error: Value = serde_json::from_str(&self.stderr)
            .unwrap_or_else(|_| panic!("not one JSON object: {}", self.stderr));
        let error = error.get("error").expect("an error");
        assert_eq!(
            error.get("exit_code").and_then(Value::as_i64),
            Some(i64::from(self.code))
        );
        let reason = error.get("reason").and_then(Value::as_str);
        (self.code, reason.unwrap_or_default().to_owned())
    }
}
