//! What it costs to say no to a client that is far over its rate.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;

use crate::caller::{Ask, Shape, connect, presign};
use crate::load::Outcome;
use crate::machine::Meter;
use crate::report::progress;
use crate::rows::{Bar, Row};
use crate::server::{self, Lab, Terms};
use crate::stats::{What, count, median, whole};

/// The rate and the burst that ship.
const RATE: (u32, u32) = (50, 100);
const TIME: Duration = Duration::from_secs(2);
/// Made ahead: more than are refused in that time.
const PROOFS: usize = 80_000;

/// Measures the CPU time of a refused call.
///
/// # Errors
/// The service can't be measured, or refuses too few.
pub(crate) async fn measure(dev: &Path, shape: Shape, rounds: u32) -> anyhow::Result<Vec<Row>> {
    let lab = Lab::new(Terms {
        client: Some(RATE),
        ..Terms::default()
    })?;
    let server = server::ours(dev, &lab, None).await?;
    let mut crew = connect(&server.target, shape, Ask::Dpop).await?;
    // Until the burst is used up.
    crew.closed(Duration::from_secs(1)).await?;
    let (mut cpu_us, mut per_s) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        presign(&crew, PROOFS).await?;
        let meter = Meter::begin(server.target.pid, &[])?;
        let outcome = crew.closed(TIME).await?;
        let (us, rate) = of_a_call(&outcome, meter.end()?.cpu)?;
        progress(&format!(
            "refusals {round} of {rounds}: {us:.0} µs each, {rate:.0} a second"
        ));
        cpu_us.push(us);
        per_s.push(rate);
    }
    server.stop().await?;
    let runs = cpu_us.len();
    let bar = Bar::AtMost(60.0);
    Ok(vec![
        Row::against("shed_call_cpu_us", median(&cpu_us), "µs", bar, runs),
        Row::plain("shed_calls_per_s", median(&per_s), "1/s", runs),
    ])
}

/// CPU time of a call and calls a second. The few that pass are counted as if they were refused: they cost more, so
/// that nothing looks better than it is.
fn of_a_call(outcome: &Outcome, cpu: Duration) -> anyhow::Result<(f64, f64)> {
    let refused = count(&outcome.samples, What::Refused);
    let passed = count(&outcome.samples, What::Good);
    if refused < passed.saturating_mul(10) || refused == 0 {
        bail!(
            "{passed} calls passed and {refused} were refused: the client is not far over its rate"
        );
    }
    let seconds = outcome.elapsed.as_secs_f64();
    Ok((
        cpu.as_secs_f64() * 1e6 / whole(refused),
        whole(refused) / seconds,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Sample;

    fn outcome(good: usize, refused: usize) -> Outcome {
        let sample = |what| Sample {
            due_us: 0,
            took_us: 100,
            what,
        };
        let mut samples = vec![sample(What::Good); good];
        samples.extend(vec![sample(What::Refused); refused]);
        Outcome {
            samples,
            elapsed: Duration::from_secs(2),
        }
    }

    #[test]
    fn the_cost_is_that_of_the_refused() {
        let (us, per_s) = of_a_call(&outcome(100, 10_000), Duration::from_millis(500)).unwrap();
        assert_eq!((us, per_s), (50.0, 5_000.0));
    }

    #[test]
    fn a_client_that_is_served_says_nothing() {
        for (good, refused) in [(100, 900), (0, 0), (10, 0)] {
            let cpu = Duration::from_millis(1);
            assert!(
                of_a_call(&outcome(good, refused), cpu).is_err(),
                "{good} {refused}"
            );
        }
    }
}
