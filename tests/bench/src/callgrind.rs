//! Instructions of the hot path under callgrind: a figure that does not hang on what else the machine does.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail};
use tokio::process::Command;

use crate::in_process::{WARM_UP, World};
use crate::server::{Lab, Terms};

/// Counts only while a function runs that is measured, and what it calls.
const COUNTED: &str = "--toggle-collect=*in_process*measured_*";

/// Tokens in the longer run.
const TOKENS: u32 = 100;

/// The instructions of one token each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instructions {
    /// Of the enclave: decided, minted, released.
    pub(crate) ours: f64,
    /// Of the bare issuer.
    pub(crate) bare: f64,
}

/// Counts both.
///
/// # Errors
/// `valgrind` is not there, or the measured program fails under it.
pub(crate) async fn count(valgrind: &Path) -> anyhow::Result<Instructions> {
    let lab = Lab::new(Terms::default())?;
    World::fill(lab.files().dir()).await?;
    Ok(Instructions {
        ours: each(valgrind, Some(lab.files().dir())).await?,
        bare: each(valgrind, None).await?,
    })
}

/// The difference of two runs counts: what only the first requests do falls out.
async fn each(valgrind: &Path, lab: Option<&Path>) -> anyhow::Result<f64> {
    let few = collected(valgrind, lab, WARM_UP).await?;
    let many = collected(valgrind, lab, WARM_UP.saturating_add(TOKENS)).await?;
    Ok(crate::stats::whole(many.saturating_sub(few)) / f64::from(TOKENS))
}

async fn collected(valgrind: &Path, lab: Option<&Path>, tokens: u32) -> anyhow::Result<u64> {
    let mut command = Command::new(valgrind);
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--collect-atstart=no", COUNTED])
        .arg(std::env::current_exe()?)
        .args(["in-process", "--tokens", &tokens.to_string()]);
    if let Some(lab) = lab {
        command.arg("--lab").arg(lab);
    }
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("{} can't be run", valgrind.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let last = said.lines().last().unwrap_or_default();
        bail!("under callgrind: {}: {last}", output.status);
    }
    match parse(&said) {
        Some(0) => bail!("callgrind found no function that is measured"),
        Some(collected) => Ok(collected),
        None => bail!("callgrind did not say what it counted"),
    }
}

/// The number of `==PID== Collected : NUMBER`.
fn parse(said: &str) -> Option<u64> {
    said.lines().find_map(|line| {
        let (_, counted) = line.strip_prefix("==")?.split_once("== Collected : ")?;
        counted.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read() {
        let said = "==15997== Events    : Ir\n==15997== Collected : 60050\n==15997== I   refs:      60,050\n";
        assert_eq!(parse(said), Some(60_050));
        assert_eq!(parse("==1== Collected : \n"), None);
        assert_eq!(parse("Collected : 7\n"), None);
        assert_eq!(parse(""), None);
    }
}
