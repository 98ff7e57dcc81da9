//! Figures of the rounds, as a table for people and rows for programs.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use crate::load::{Load, Outcome};

/// The bound on our CPU time against the bare server's.
const RATIO_BAR: f64 = 1.30;

/// One measurement of one server.
pub(crate) struct Round {
    pub(crate) cpu_us_per_token: f64,
    tokens_per_s: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Round {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of a few seconds are far below 2^52"
    )]
    pub(crate) fn new(outcome: Outcome, cpu: Duration) -> Self {
        let Outcome {
            mut latencies_us,
            elapsed,
        } = outcome;
        latencies_us.sort_unstable();
        let tokens = latencies_us.len().max(1) as f64;
        let at = |percent: usize| {
            let index = latencies_us.len().saturating_mul(percent) / 100;
            latencies_us.get(index).copied().unwrap_or_default() as f64
        };
        Self {
            cpu_us_per_token: cpu.as_secs_f64() * 1e6 / tokens,
            tokens_per_s: tokens / elapsed.as_secs_f64(),
            p50_us: at(50),
            p99_us: at(99),
        }
    }
}

/// A row for programs.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bar: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
    runs: usize,
}

/// All rounds.
#[derive(Default)]
pub(crate) struct Summary {
    ours: Vec<Round>,
    bare: Vec<Round>,
}

/// Tells a person how far it is.
pub(crate) fn progress(line: &str) {
    // Nobody is there to be told if standard error is gone.
    drop(writeln!(std::io::stderr(), "{line}"));
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

impl Summary {
    pub(crate) fn add(&mut self, ours: Round, bare: Round) {
        self.ours.push(ours);
        self.bare.push(bare);
    }

    /// Prints the table, and writes the rows.
    pub(crate) fn print(&self, load: &Load, summary: Option<&Path>) -> anyhow::Result<()> {
        let pairs = || self.ours.iter().zip(&self.bare);
        // Each pair was measured back to back, so the ratio is taken in pairs.
        let ratio = median(pairs().map(|(a, b)| a.cpu_us_per_token / b.cpu_us_per_token));
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "{} connections, {} calls in flight on each, medians of {} rounds of {} s",
            load.connections,
            load.in_flight,
            self.ours.len(),
            load.time.as_secs()
        )?;
        let head = ["", "CPU µs/token", "tokens/s", "p50 ms", "p99 ms"];
        let [name, cpu, rate, p50, p99] = head;
        writeln!(out, "{name:<12} {cpu:>12} {rate:>10} {p50:>8} {p99:>8}")?;
        for (name, rounds) in [("tokenkeep", &self.ours), ("bare server", &self.bare)] {
            let of = |value: fn(&Round) -> f64| median(rounds.iter().map(value));
            writeln!(
                out,
                "{name:<12} {:>12.1} {:>10.0} {:>8.2} {:>8.2}",
                of(|round| round.cpu_us_per_token),
                of(|round| round.tokens_per_s),
                of(|round| round.p50_us) / 1_000.0,
                of(|round| round.p99_us) / 1_000.0,
            )?;
        }
        let met = ratio <= RATIO_BAR;
        let word = if met { "met" } else { "not met" };
        writeln!(
            out,
            "ratio of CPU time {ratio:.2}, bound {RATIO_BAR:.2}: {word}"
        )?;
        let Some(path) = summary else {
            return Ok(());
        };
        let runs = self.ours.len();
        let plain = |name, value, unit| Row {
            name,
            value,
            unit,
            bar: None,
            met: None,
            runs,
        };
        let of = |rounds: &[Round], value: fn(&Round) -> f64| median(rounds.iter().map(value));
        let cpu = |round: &Round| round.cpu_us_per_token;
        let rows = [
            Row {
                bar: Some(RATIO_BAR),
                met: Some(met),
                ..plain("minted_over_bare_server", ratio, "ratio")
            },
            plain("minted_cpu_us", of(&self.ours, cpu), "µs"),
            plain("bare_cpu_us", of(&self.bare, cpu), "µs"),
            plain(
                "minted_tokens_per_s",
                of(&self.ours, |round| round.tokens_per_s),
                "1/s",
            ),
            plain(
                "minted_p99_ms",
                of(&self.ours, |round| round.p99_us) / 1_000.0,
                "ms",
            ),
        ];
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(path, serde_json::to_vec_pretty(&rows)?)
            .with_context(|| format!("can't write {}", path.display()))?;
        Ok(())
    }
}
