//! The service beside what it must do at least, in turns: the bare server, an empty call, the cryptography in process,
//! and `oidc-provider`. Ratios are of neighbours in one round.

use std::time::Duration;

use crate::caller::{Ask, GrpcSlot, Shape, connect};
use crate::issuer::InProcess;
use crate::load::{Crew, Outcome, Slot};
use crate::machine::{self, Meter, Used};
use crate::oidc::HttpSlot;
use crate::report::{number, progress, table};
use crate::rows::{Bar, Row};
use crate::server::Server;
use crate::stats::{Latencies, What, count, median, median_ratio, whole};

/// How long the cryptography is measured in a round.
const IN_PROCESS: Duration = Duration::from_millis(500);

/// One measurement of one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) cpu_us: f64,
    pub(crate) per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    /// What everything else used of the machine, in percent.
    pub(crate) foreign_percent: f64,
}

impl Round {
    pub(crate) fn new(outcome: &Outcome, used: Used) -> Self {
        let good = whole(count(&outcome.samples, What::Good));
        let latencies = Latencies::of(&outcome.samples);
        let elapsed = outcome.elapsed.as_secs_f64();
        let machine = elapsed * machine::processors() as f64;
        Self {
            cpu_us: used.cpu.as_secs_f64() * 1e6 / good,
            per_s: good / elapsed,
            p50_ms: latencies.quantile_ms(0.5),
            p99_ms: latencies.quantile_ms(0.99),
            p999_ms: latencies.quantile_ms(0.999),
            foreign_percent: 100.0 * used.foreign.as_secs_f64() / machine,
        }
    }
}

/// The CPU time of a process for each good answer, with as many calls under way as there are slots.
///
/// # Errors
/// The server can't be measured.
pub(crate) async fn measure<S: Slot>(
    crew: &mut Crew<S>,
    time: Duration,
    pid: u32,
    others: &[u32],
) -> anyhow::Result<Round> {
    measure_with(crew, time, Duration::ZERO, pid, others).await
}

/// The same, with what the process does for so long behind the last answer.
///
/// # Errors
/// The server can't be measured.
pub(crate) async fn measure_with<S: Slot>(
    crew: &mut Crew<S>,
    time: Duration,
    behind: Duration,
    pid: u32,
    others: &[u32],
) -> anyhow::Result<Round> {
    let meter = Meter::begin(pid, others)?;
    let outcome = crew.closed(time).await?;
    tokio::time::sleep(behind).await;
    Ok(Round::new(&outcome, meter.end()?))
}

/// What takes turns.
pub(crate) struct Contest<'a> {
    pub(crate) ours: &'a Server,
    pub(crate) bare: &'a Server,
    /// If it could be started.
    pub(crate) oidc: Option<OidcSlots>,
    pub(crate) shape: Shape,
    pub(crate) rounds: u32,
    pub(crate) time: Duration,
}

/// `oidc-provider` and who asks it.
pub(crate) struct OidcSlots {
    pub(crate) pid: u32,
    /// Those whose refresh tokens are rotated.
    pub(crate) rotated: Crew<HttpSlot>,
    /// Those that keep theirs.
    pub(crate) kept: Crew<HttpSlot>,
}

impl OidcSlots {
    /// A round each: with rotation, and without.
    async fn measure(&mut self, time: Duration, pids: &[u32]) -> anyhow::Result<(Round, Round)> {
        let rotated = measure(&mut self.rotated, time, self.pid, pids).await?;
        let kept = measure(&mut self.kept, time, self.pid, pids).await?;
        Ok((rotated, kept))
    }
}

/// All rounds of all.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) minted: Vec<Round>,
    certificate: Vec<Round>,
    bare: Vec<Round>,
    empty: Vec<Round>,
    oidc: Vec<Round>,
    /// Of `oidc-provider` with rotation.
    oidc_rotated: Vec<Round>,
    /// The cryptography of a token bound to a key, µs.
    crypto_us: Vec<f64>,
    /// Of one bound to a certificate.
    certificate_crypto_us: Vec<f64>,
    peak_kib: u64,
}

impl Contest<'_> {
    /// Lets them take turns.
    ///
    /// # Errors
    /// A server can't be measured.
    pub(crate) async fn run(mut self) -> anyhow::Result<Rounds> {
        let (ours, bare) = (&self.ours.target, &self.bare.target);
        let mut minted = connect(ours, self.shape, Ask::Dpop).await?;
        let mut certificate = connect(ours, self.shape, Ask::Certificate).await?;
        let mut least = connect(bare, self.shape, Ask::Dpop).await?;
        let mut empty = connect(bare, self.shape, Ask::Empty).await?;
        let in_process = InProcess::new()?;
        let mut pids = vec![ours.pid, bare.pid];
        pids.extend(self.oidc.as_ref().map(|oidc| oidc.pid));

        // Once each, so that caches and code are warm and nonces known.
        let warm_up = Duration::from_secs(1);
        for crew in [&mut minted, &mut certificate, &mut least, &mut empty] {
            warm(crew, warm_up).await?;
        }
        if let Some(oidc) = &mut self.oidc {
            oidc.rotated.closed(warm_up).await?;
            oidc.kept.closed(warm_up).await?;
        }
        let mut rounds = Rounds::default();
        for round in 1..=self.rounds {
            let time = self.time;
            let of_ours = measure(&mut minted, time, ours.pid, &pids).await?;
            let of_bare = measure(&mut least, time, bare.pid, &pids).await?;
            let of_empty = measure(&mut empty, time, bare.pid, &pids).await?;
            let (in_turn, ask) = (&in_process, Ask::Dpop);
            let crypto_us = tokio::task::block_in_place(|| in_turn.cpu_us(ask, IN_PROCESS))?;
            let of_certificate = measure(&mut certificate, time, ours.pid, &pids).await?;
            let ask = Ask::Certificate;
            let own_us = tokio::task::block_in_place(|| in_turn.cpu_us(ask, IN_PROCESS))?;
            if let Some(oidc) = &mut self.oidc {
                match oidc.measure(time, &pids).await {
                    Ok((rotated, kept)) => {
                        rounds.oidc.push(kept);
                        rounds.oidc_rotated.push(rotated);
                    }
                    // The others go on, and it has no rows.
                    Err(error) => {
                        progress(&format!("oidc-provider is not measured: {error:#}"));
                        rounds.oidc.clear();
                        rounds.oidc_rotated.clear();
                        self.oidc = None;
                    }
                }
            }
            progress(&format!(
                "round {round} of {}: {:.0} µs a token, the bare server {:.0}, the bound {:.0}; others used {:.0} % of the machine",
                self.rounds,
                of_ours.cpu_us,
                of_bare.cpu_us,
                crypto_us + of_empty.cpu_us,
                of_ours.foreign_percent,
            ));
            rounds.minted.push(of_ours);
            rounds.bare.push(of_bare);
            rounds.empty.push(of_empty);
            rounds.crypto_us.push(crypto_us);
            rounds.certificate.push(of_certificate);
            rounds.certificate_crypto_us.push(own_us);
        }
        rounds.peak_kib = machine::memory(ours.pid)?.peak_kib;
        Ok(rounds)
    }
}

async fn warm(crew: &mut Crew<GrpcSlot>, time: Duration) -> anyhow::Result<()> {
    crew.closed(time).await.map(drop)
}

fn each(rounds: &[Round], value: fn(&Round) -> f64) -> Vec<f64> {
    rounds.iter().map(value).collect()
}

fn cpu(rounds: &[Round]) -> Vec<f64> {
    each(rounds, |round| round.cpu_us)
}

/// Sums of neighbours.
fn sums(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

impl Rounds {
    /// Tokens a second, the median.
    pub(crate) fn capacity(&self) -> f64 {
        median(&each(&self.minted, |round| round.per_s))
    }

    /// As [`capacity`](Self::capacity), of the bare server.
    pub(crate) fn bare_capacity(&self) -> f64 {
        median(&each(&self.bare, |round| round.per_s))
    }

    /// What came of it. Without `oidc-provider` its rows are not there.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let runs = self.minted.len();
        let minted = cpu(&self.minted);
        let bound = sums(&self.crypto_us, &cpu(&self.empty));
        let own_bound = sums(&self.certificate_crypto_us, &cpu(&self.empty));
        let against = |name, over: &[f64], under: &[f64], bar| {
            Row::against(name, median_ratio(over, under), "ratio", bar, runs)
        };
        let plain = |name, values: &[f64], unit| Row::plain(name, median(values), unit, runs);
        let of = each;
        let certificate = cpu(&self.certificate);
        let mut rows = vec![
            against(
                "minted_over_bare_server",
                &minted,
                &cpu(&self.bare),
                Bar::AtMost(1.3),
            ),
            against("minted_over_bound", &minted, &bound, Bar::AtMost(1.45)),
            against(
                "mtls_bound_over_own_bound",
                &certificate,
                &own_bound,
                Bar::AtMost(1.45),
            ),
            plain("minted_cpu_us", &minted, "µs"),
            plain("bare_cpu_us", &cpu(&self.bare), "µs"),
            plain("bound_cpu_us", &bound, "µs"),
            plain("mtls_bound_cpu_us", &certificate, "µs"),
            plain("mtls_own_bound_cpu_us", &own_bound, "µs"),
            plain("empty_call_cpu_us", &cpu(&self.empty), "µs"),
            plain("cryptography_us", &self.crypto_us, "µs"),
            plain("minted_tokens_per_s", &of(&self.minted, |r| r.per_s), "1/s"),
            plain("bare_tokens_per_s", &of(&self.bare, |r| r.per_s), "1/s"),
            plain("minted_p50_ms", &of(&self.minted, |r| r.p50_ms), "ms"),
            plain("minted_p99_ms", &of(&self.minted, |r| r.p99_ms), "ms"),
            plain("minted_p999_ms", &of(&self.minted, |r| r.p999_ms), "ms"),
            plain(
                "foreign_cpu_percent",
                &of(&self.minted, |r| r.foreign_percent),
                "%",
            ),
            Row::plain("minted_peak_mib", whole(self.peak_kib) / 1_024.0, "MiB", 1),
        ];
        if !self.oidc.is_empty() {
            let oidc = cpu(&self.oidc);
            rows.push(against(
                "oidc_provider_over_ours_cpu",
                &oidc,
                &minted,
                Bar::AtLeast(8.0),
            ));
            rows.push(plain("oidc_provider_cpu_us", &oidc, "µs"));
            let rotated = cpu(&self.oidc_rotated);
            let over = median_ratio(&rotated, &minted);
            rows.push(plain("oidc_provider_rotating_cpu_us", &rotated, "µs"));
            rows.push(Row::plain(
                "oidc_provider_rotating_over_ours_cpu",
                over,
                "ratio",
                runs,
            ));
            rows.push(plain(
                "oidc_provider_tokens_per_s",
                &of(&self.oidc, |r| r.per_s),
                "1/s",
            ));
        }
        rows
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let line = |name: &str, rounds: &[Round]| {
            let of =
                |value: fn(&Round) -> f64, digits| number(median(&each(rounds, value)), digits);
            vec![
                name.to_owned(),
                of(|round| round.cpu_us, 1),
                of(|round| round.per_s, 0),
                of(|round| round.p50_ms, 2),
                of(|round| round.p99_ms, 2),
                of(|round| round.p999_ms, 2),
                of(|round| round.foreign_percent, 0),
            ]
        };
        let alone = |name: &str, values: &[f64]| {
            let mut cells = vec![name.to_owned(), number(median(values), 1)];
            cells.extend(std::iter::repeat_n(String::new(), 5));
            cells
        };
        let mut lines = vec![
            line("tokenkeep", &self.minted),
            line("bare server", &self.bare),
            line("empty call", &self.empty),
            alone("cryptography, in process", &self.crypto_us),
            line("tokenkeep, bound to a certificate", &self.certificate),
            alone("that one's cryptography", &self.certificate_crypto_us),
        ];
        if !self.oidc.is_empty() {
            lines.push(line("oidc-provider", &self.oidc));
            lines.push(line("oidc-provider, rotating", &self.oidc_rotated));
        }
        let head = [
            "", "CPU µs", "per s", "p50 ms", "p99 ms", "p99.9 ms", "others %",
        ];
        table(&head, &lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Sample;

    fn round(cpu_us: f64) -> Round {
        Round {
            cpu_us,
            per_s: 8_000.0,
            p50_ms: 7.0,
            p99_ms: 16.0,
            p999_ms: 20.0,
            foreign_percent: 3.0,
        }
    }

    #[test]
    fn a_round_counts_good_answers_only() {
        let sample = |took_us, what| Sample {
            due_us: 0,
            took_us,
            what,
        };
        let outcome = Outcome {
            samples: vec![
                sample(1_000, What::Good),
                sample(3_000, What::Good),
                sample(9_000, What::Refused),
            ],
            elapsed: Duration::from_secs(2),
        };
        let used = Used {
            cpu: Duration::from_micros(300),
            foreign: Duration::from_secs(1),
        };
        let round = Round::new(&outcome, used);
        assert_eq!((round.cpu_us, round.per_s), (150.0, 1.0));
        assert!((round.p99_ms - 3.0).abs() < 0.01, "{round:?}");
        let machine = 2.0 * machine::processors() as f64;
        assert!((round.foreign_percent - 100.0 / machine).abs() < 0.01);
    }

    #[test]
    fn rows_are_ratios_of_neighbours() {
        let rounds = Rounds {
            minted: vec![round(150.0), round(300.0), round(160.0)],
            bare: vec![round(100.0), round(200.0), round(100.0)],
            empty: vec![round(30.0), round(60.0), round(30.0)],
            crypto_us: vec![90.0, 180.0, 90.0],
            certificate: vec![round(75.0), round(150.0), round(75.0)],
            certificate_crypto_us: vec![20.0, 40.0, 20.0],
            ..Rounds::default()
        };
        let rows = rounds.rows();
        let of = |name: &str| rows.iter().find(|row| row.name == name);
        let value = |name: &str| of(name).and_then(|row| row.value);
        assert_eq!(value("minted_over_bare_server"), Some(1.5));
        assert_eq!(of("minted_over_bare_server").unwrap().met, Some(false));
        assert_eq!(value("minted_over_bound"), Some(1.25));
        assert_eq!(of("minted_over_bound").unwrap().met, Some(true));
        assert_eq!(value("mtls_bound_over_own_bound"), Some(1.5));
        assert_eq!(of("minted_over_bound").unwrap().runs, 3);
        // What was not measured has no row, rather than a good one.
        assert!(of("oidc_provider_over_ours_cpu").is_none());
        assert!(!rounds.table().contains("oidc-provider"));
    }
}
