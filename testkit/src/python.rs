//! The Python side of the tests as processes of their own: a client by the documentation, and another independent judge.
//!
//! `scripts/python.sh` sets them up and prints the two variables that [`PythonEnv::from_env`] reads.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

use crate::node::{NodeError, Process, variable};

/// Names the `python` binary of the virtual environment.
pub const PYTHON_VARIABLE: &str = "TOKENKEEP_TEST_PYTHON";
/// Names the directory with the scripts.
pub const DIR_VARIABLE: &str = "TOKENKEEP_TEST_PYTHON_DIR";

/// Where Python and the scripts are.
#[derive(Debug, Clone)]
pub struct PythonEnv {
    python: PathBuf,
    dir: PathBuf,
}

/// What the judge said.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Verdict {
    /// Whether both libraries accept.
    pub ok: bool,
    /// The token's claims, if accepted.
    pub claims: Option<Value>,
    /// Why not.
    pub error: Option<String>,
    /// Which library refused.
    pub by: Option<String>,
}

/// An independent resource server: `authlib` and `joserfc` judge tokens and proofs.
#[derive(Debug)]
pub struct Judge {
    process: Process,
}

impl PythonEnv {
    /// What `scripts/python.sh` exported.
    ///
    /// # Errors
    /// [`NodeError::NotSetUp`] names the variable that is missing.
    pub fn from_env() -> Result<Self, NodeError> {
        Ok(Self {
            python: variable(PYTHON_VARIABLE)?.into(),
            dir: variable(DIR_VARIABLE)?.into(),
        })
    }

    /// Runs a script in the directory of the scripts; its arguments are the caller's to add.
    #[must_use]
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(self.dir.join(script));
        command
    }

    /// Starts the judge.
    ///
    /// # Errors
    /// [`NodeError::Start`].
    pub fn judge(&self) -> Result<Judge, NodeError> {
        let process = Process::start(&self.python, "resource_server.py", &self.dir)?;
        Ok(Judge { process })
    }

    /// Runs the client of the documentation once; `given` is described at the head of `issue_token.py`.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn issue_token(&self, given: &Value) -> Result<Value, NodeError> {
        let process = Process::start(&self.python, "issue_token.py", &self.dir)?;
        serde_json::from_str(&process.only(given).await?).map_err(NodeError::Json)
    }
}

impl Judge {
    /// Judges one request. `case` is described at the head of `resource_server.py`.
    ///
    /// # Errors
    /// Python does not answer.
    pub async fn judge(&mut self, case: &Value) -> Result<Verdict, NodeError> {
        let verdict = self.process.ask(case).await?;
        serde_json::from_str(&verdict).map_err(NodeError::Json)
    }
}
