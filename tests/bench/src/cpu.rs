//! CPU time of a process.

use std::time::Duration;

use anyhow::Context;

/// Clock ticks a second in `/proc`: fixed in the interface of Linux.
const TICKS_PER_S: u64 = 100;

/// User and system time that a process has used.
pub(crate) fn of_process(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone"))?;
    // The name is in parentheses and may hold anything; utime and stime are the
    // 12th and 13th fields behind it [proc(5)].
    let (_, fields) = stat
        .rsplit_once(')')
        .context("unknown form of /proc/PID/stat")?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || -> anyhow::Result<u64> {
        let field = fields.next().context("unknown form of /proc/PID/stat")?;
        Ok(field.parse()?)
    };
    let total = ticks()?.saturating_add(ticks()?);
    Ok(Duration::from_millis(
        total.saturating_mul(1_000) / TICKS_PER_S,
    ))
}
