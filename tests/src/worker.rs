//! A `refresh-worker`, which makes exchanges in a process of its own until it dies.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a worker that can't be driven fails the test"
)]

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::wait::PATIENCE;

/// The process.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    input: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

/// A line of a worker's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its first word.
    pub word: String,
    /// The grant, if it is of one.
    pub grant: String,
    /// What follows.
    pub rest: String,
}

fn parsed(text: &str) -> Line {
    let mut words = text.splitn(3, ' ').map(str::to_owned);
    let mut next = || words.next().unwrap_or_default();
    Line {
        word: next(),
        grant: next(),
        rest: next(),
    }
}

impl Worker {
    /// Starts it on a directory.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(program: &Path, dir: &Path, arguments: &[String]) -> Self {
        let mut child = Command::new(program)
            .arg(dir)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a worker");
        let input = child.stdin.take().expect("its input");
        let said = child.stdout.take().expect("its output");
        Self {
            child,
            input,
            said: BufReader::new(said).lines(),
        }
    }

    /// Tells it something. One that has died hears nothing, which its end will show.
    pub async fn tell(&mut self, line: &str) {
        drop(self.input.write_all(format!("{line}\n").as_bytes()).await);
    }

    /// What it says next; none if it died.
    ///
    /// # Panics
    /// It says nothing for long.
    pub async fn hear(&mut self) -> Option<Line> {
        let line = tokio::time::timeout(PATIENCE, self.said.next_line()).await;
        let line = line.unwrap_or_else(|_elapsed| panic!("the worker says nothing"));
        // A last line may be cut off.
        line.ok().flatten().map(|line| parsed(&line))
    }

    /// All that it says up to a line of this word; none if it died before.
    pub async fn hear_until(&mut self, word: &str) -> Option<Vec<Line>> {
        let mut all = Vec::new();
        loop {
            let line = self.hear().await?;
            if line.word == word {
                return Some(all);
            }
            all.push(line);
        }
    }

    /// SIGKILL, and what it had said.
    ///
    /// # Panics
    /// It can't be killed.
    pub async fn kill(mut self) -> Vec<Line> {
        self.child.start_kill().expect("a child to kill");
        self.last_words().await
    }

    /// Waits for its death by its own hand, and gives what it had said.
    ///
    /// # Panics
    /// It ended in another way.
    pub async fn died(mut self) -> Vec<Line> {
        let words = self.last_words().await;
        let ended = self.child.wait().await.expect("a child to wait for");
        // SIGABRT.
        assert_eq!(ended.signal(), Some(6), "it did not die where it should");
        words
    }

    async fn last_words(&mut self) -> Vec<Line> {
        let mut all = Vec::new();
        while let Ok(Some(line)) = self.said.next_line().await {
            all.push(parsed(&line));
        }
        self.child.wait().await.expect("a child to wait for");
        all
    }
}
