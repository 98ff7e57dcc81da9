//! Statistics: medians of rounds, percentiles of calls, and when a service is back to normal.

use std::time::Duration;

use hdrhistogram::Histogram;
pub(crate) use testkit::rounds::median;

/// The longest time that is told apart: an hour, in microseconds.
const LONGEST_US: u64 = 3_600_000_000;

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A good answer.
    Good,
    /// The server said no, or not now.
    Refused,
    /// No answer within the deadline.
    Late,
    /// It was not sent, because nobody had time before its deadline.
    Unsent,
}

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// When it was due, from the begin of the load, in microseconds. In a closed loop a call is due when it is sent.
    pub(crate) due_us: u64,
    /// How long it took from then on, in microseconds.
    pub(crate) took_us: u64,
    /// What became of it.
    pub(crate) what: What,
}

/// How long good answers took.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Option<Histogram<u64>>);

impl Latencies {
    /// Of those samples that are good.
    pub(crate) fn of<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Self {
        // Three digits are always allowed; without a histogram nothing is known.
        let mut histogram = Histogram::new_with_bounds(1, LONGEST_US, 3).ok();
        for sample in samples {
            if sample.what == What::Good
                && let Some(histogram) = &mut histogram
            {
                histogram.saturating_record(sample.took_us.max(1));
            }
        }
        Self(histogram)
    }

    /// How long all but this share took, in milliseconds; no number without a sample.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        match &self.0 {
            Some(histogram) if !histogram.is_empty() => {
                whole(histogram.value_at_quantile(quantile)) / 1_000.0
            }
            Some(_) | None => f64::NAN,
        }
    }
}

/// A count as a number: counts of a bench are far below 2^52.
pub(crate) fn whole(count: u64) -> f64 {
    count as f64
}

/// How many there are.
pub(crate) fn count(samples: &[Sample], what: What) -> u64 {
    let found = samples.iter().filter(|sample| sample.what == what).count();
    u64::try_from(found).unwrap_or(u64::MAX)
}

/// A time in microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The median of the quotients of pairs: each round with its own neighbour, so that what slows both cancels out.
pub(crate) fn median_ratio(over: &[f64], under: &[f64]) -> f64 {
    let ratios: Vec<f64> = over.iter().zip(under).map(|(a, b)| a / b).collect();
    median(&ratios)
}

/// The p99 of plain values, the nearest rank; no number if there is none.
pub(crate) fn p99(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = sorted.len().saturating_mul(99).div_ceil(100);
    let at = rank.checked_sub(1).and_then(|index| sorted.get(index));
    at.copied().unwrap_or(f64::NAN)
}

/// The p99 of good answers by windows of when they were due, in milliseconds. A window in which a call was not answered
/// well has no p99.
pub(crate) fn windows(samples: &[Sample], window: Duration, all: Duration) -> Vec<Option<f64>> {
    let window_us = micros(window).max(1);
    let number = micros(all).checked_div(window_us).unwrap_or_default();
    let mut windows = Vec::new();
    for index in 0..number {
        let from = index.saturating_mul(window_us);
        let within = from..from.saturating_add(window_us);
        let due: Vec<&Sample> = samples
            .iter()
            .filter(|sample| within.contains(&sample.due_us))
            .collect();
        let all_good = !due.is_empty() && due.iter().all(|sample| sample.what == What::Good);
        windows.push(all_good.then(|| Latencies::of(due).quantile_ms(0.99)));
    }
    windows
}

/// From which window on the service was normal: that one and the next `steady` are. `None` if it never was.
pub(crate) fn normal_from(windows: &[Option<f64>], normal_ms: f64, steady: usize) -> Option<usize> {
    windows
        .windows(steady.saturating_add(1).max(1))
        .position(|run| {
            run.iter()
                .all(|p99| p99.is_some_and(|p99| p99 <= normal_ms))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(due_us: u64, took_us: u64) -> Sample {
        Sample {
            due_us,
            took_us,
            what: What::Good,
        }
    }

    #[test]
    fn a_ratio_is_that_of_neighbours() {
        // The second round was twice as slow for both.
        assert_eq!(
            median_ratio(&[150.0, 300.0, 160.0], &[100.0, 200.0, 100.0]),
            1.5
        );
        assert!(median_ratio(&[], &[]).is_nan());
    }

    #[test]
    fn the_p99_is_the_nearest_rank() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(p99(&values), 198.0);
        assert_eq!(p99(&[7.0]), 7.0);
        assert!(p99(&[]).is_nan());
    }

    #[test]
    fn quantiles_count_good_answers_only() {
        let mut samples: Vec<Sample> = (1..=1_000).map(|n| good(0, n * 1_000)).collect();
        samples.push(Sample {
            what: What::Late,
            ..good(0, 9_000_000)
        });
        let latencies = Latencies::of(&samples);
        assert!((latencies.quantile_ms(0.5) - 500.0).abs() < 1.0);
        assert!((latencies.quantile_ms(0.99) - 990.0).abs() < 1.0);
        assert!((latencies.quantile_ms(1.0) - 1_000.0).abs() < 1.0);
        assert!(Latencies::of(&[]).quantile_ms(0.5).is_nan());
        assert_eq!(
            (count(&samples, What::Good), count(&samples, What::Late)),
            (1_000, 1)
        );
    }

    #[test]
    fn a_window_with_a_call_that_failed_has_no_p99() {
        let late = Sample {
            what: What::Unsent,
            ..good(1_500, 0)
        };
        let samples = [
            good(10, 2_000),
            good(1_200, 2_000),
            late,
            good(2_100, 4_000),
        ];
        let window = Duration::from_millis(1);
        let found = windows(&samples, window, Duration::from_millis(4));
        assert_eq!(found.len(), 4);
        assert!(found[0].is_some_and(|p99| (p99 - 2.0).abs() < 0.01));
        assert_eq!(found[1], None);
        assert!(found[2].is_some_and(|p99| (p99 - 4.0).abs() < 0.01));
        // Nothing was due: nothing is known.
        assert_eq!(found[3], None);
    }

    #[test]
    fn normal_begins_where_it_lasts() {
        let slow = Some(50.0);
        let fast = Some(5.0);
        assert_eq!(
            normal_from(&[slow, fast, slow, fast, fast, fast], 10.0, 2),
            Some(3)
        );
        assert_eq!(normal_from(&[fast, fast, fast], 10.0, 2), Some(0));
        assert_eq!(normal_from(&[slow, None, fast, fast], 10.0, 2), None);
        assert_eq!(normal_from(&[], 10.0, 2), None);
    }
}
