//! What Linux says of processes and of the machine: CPU time, memory, and what others used of it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

/// Clock ticks a second in `/proc`: fixed in the interface of Linux.
const TICKS_PER_S: u64 = 100;

fn read(path: PathBuf) -> anyhow::Result<String> {
    fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))
}

fn of_process(pid: u32, file: &str) -> anyhow::Result<String> {
    read(PathBuf::from(format!("/proc/{pid}/{file}")))
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(1_000 / TICKS_PER_S))
}

/// User and system time that a process has used.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    process_cpu(&of_process(pid, "stat")?).context("unknown form of /proc/PID/stat")
}

/// utime and stime of `/proc/PID/stat` [proc(5)].
fn process_cpu(stat: &str) -> Option<Duration> {
    // The name is in parentheses and may hold anything; utime and stime are the 12th and 13th fields behind it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(ticks(next()?.saturating_add(next()?)))
}

/// The time that the calling thread has run, to the nanosecond.
pub(crate) fn thread_cpu() -> anyhow::Result<Duration> {
    let stat = read("/proc/thread-self/schedstat".into())?;
    let ns = stat.split_ascii_whitespace().next();
    let ns = ns.and_then(|ns| ns.parse().ok());
    Ok(Duration::from_nanos(
        ns.context("unknown form of schedstat")?,
    ))
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// What it has now.
    pub(crate) rss_kib: u64,
    /// The most that it ever had.
    pub(crate) peak_kib: u64,
}

/// The memory of a process.
pub(crate) fn memory(pid: u32) -> anyhow::Result<Memory> {
    process_memory(&of_process(pid, "status")?).context("unknown form of /proc/PID/status")
}

fn process_memory(status: &str) -> Option<Memory> {
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    Some(Memory {
        rss_kib: kib("VmRSS:")?,
        peak_kib: kib("VmHWM:")?,
    })
}

/// The time that all processors together have been busy, or were taken away by a hypervisor.
fn busy() -> anyhow::Result<Duration> {
    machine_busy(&read("/proc/stat".into())?).context("unknown form of /proc/stat")
}

/// All but idle and iowait of the first line [proc(5)]: user, nice, system, irq, softirq, steal.
fn machine_busy(stat: &str) -> Option<Duration> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let busy = [0, 1, 2, 5, 6, 7].map(|index| fields.get(index).copied());
    let busy = busy
        .into_iter()
        .try_fold(0_u64, |sum, field| Some(sum.saturating_add(field?)));
    busy.map(ticks)
}

/// How many processors there are.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What the machine is, in one line.
pub(crate) fn description() -> String {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = text("/proc/cpuinfo");
    let model = field(&info, "model name").unwrap_or("unknown processor");
    let memory = text("/proc/meminfo");
    let memory = field(&memory, "MemTotal").unwrap_or("unknown");
    let release = text("/proc/sys/kernel/osrelease");
    let load = text("/proc/loadavg");
    let load: Vec<&str> = load.split_ascii_whitespace().take(3).collect();
    format!(
        "{} x {model}, memory {memory}, Linux {}, load {}",
        processors(),
        release.trim(),
        load.join(" ")
    )
}

/// The first `name : value` of a text.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim())
    })
}

/// Begun before a measurement: what is used from then on, by the measured process, and by everything that is neither it
/// nor another process of the bench.
pub(crate) struct Meter {
    measured: u32,
    others: Vec<u32>,
    before: Reading,
}

#[derive(Clone, Copy)]
struct Reading {
    measured: Duration,
    ours: Duration,
    busy: Duration,
}

/// What was used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    /// CPU time of the measured process.
    pub(crate) cpu: Duration,
    /// CPU time of everything that the bench did not start.
    pub(crate) foreign: Duration,
}

impl Meter {
    /// Reads the counters of a process, of the bench's own, and of its other servers.
    pub(crate) fn begin(measured: u32, others: &[u32]) -> anyhow::Result<Self> {
        let others: Vec<u32> = others
            .iter()
            .copied()
            .filter(|pid| *pid != measured)
            .collect();
        Ok(Self {
            before: reading(measured, &others)?,
            measured,
            others,
        })
    }

    /// Reads them again.
    pub(crate) fn end(self) -> anyhow::Result<Used> {
        let after = reading(self.measured, &self.others)?;
        Ok(used(self.before, after))
    }
}

fn reading(measured: u32, others: &[u32]) -> anyhow::Result<Reading> {
    let measured = cpu(measured)?;
    let mut ours = measured.saturating_add(cpu(std::process::id())?);
    for other in others {
        ours = ours.saturating_add(cpu(*other)?);
    }
    Ok(Reading {
        measured,
        ours,
        busy: busy()?,
    })
}

fn used(before: Reading, after: Reading) -> Used {
    let ours = after.ours.saturating_sub(before.ours);
    let busy = after.busy.saturating_sub(before.busy);
    Used {
        cpu: after.measured.saturating_sub(before.measured),
        foreign: busy.saturating_sub(ours),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_a_name_of_any_form() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 9 1 2";
        assert_eq!(process_cpu(stat), Some(Duration::from_secs(3)));
        assert_eq!(process_cpu("7 (a) S 1 7"), None);
        assert_eq!(process_cpu(""), None);
    }

    #[test]
    fn memory_is_read_in_kib() {
        let status = "Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\n";
        let found = Memory {
            rss_kib: 1_024,
            peak_kib: 2_048,
        };
        assert_eq!(process_memory(status), Some(found));
        assert_eq!(process_memory("VmRSS:\t 1 kB\n"), None);
        assert_eq!(process_memory("VmRSS:\t 1 kB\nVmHWM:\t x kB\n"), None);
    }

    #[test]
    fn waiting_is_not_being_busy() {
        // user nice system idle iowait irq softirq steal guest guest_nice
        let stat = "cpu  100 10 50 9000 800 5 15 20 3 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(machine_busy(stat), Some(Duration::from_secs(2)));
        assert_eq!(machine_busy("cpu  1 2 3\n"), None);
        assert_eq!(machine_busy("intr 1\n"), None);
    }

    #[test]
    fn what_is_foreign_is_neither_the_server_nor_the_bench() {
        let at = |measured, ours, busy| Reading {
            measured: Duration::from_secs(measured),
            ours: Duration::from_secs(ours),
            busy: Duration::from_secs(busy),
        };
        let found = used(at(1, 3, 10), at(5, 9, 18));
        assert_eq!(
            (found.cpu, found.foreign),
            (Duration::from_secs(4), Duration::from_secs(2))
        );
        // Ticks are coarse: less than nothing is nothing.
        assert_eq!(used(at(0, 0, 0), at(1, 2, 1)).foreign, Duration::ZERO);
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let info = "processor\t: 0\nmodel name\t: AMD EPYC\nmodel name\t: other\n";
        assert_eq!(field(info, "model name"), Some("AMD EPYC"));
        assert_eq!(field(info, "model"), None);
    }

    #[test]
    fn this_process_has_cpu_time_and_memory() {
        let pid = std::process::id();
        assert!(memory(pid).unwrap().peak_kib >= memory(pid).unwrap().rss_kib / 2);
        assert!(cpu(pid).is_ok() && thread_cpu().is_ok() && busy().is_ok());
    }
}
