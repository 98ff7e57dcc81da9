//! A campaign: the bars that it must have measured, and whether it did.
//!
//! What is promised stands in `campaigns.toml`; what was measured, in the rows of [`bars`](crate::bars). Nothing a row
//! says of itself is believed but its value and how often it was tried.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use thiserror::Error;

use crate::bars::Bar;

/// The bars of all campaigns, as they are kept.
pub const CAMPAIGNS: &str = include_str!("../campaigns.toml");

/// What one bar asks for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Promise {
    bar: String,
    runs: u64,
}

/// A row as it was written down.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Measured {
    name: String,
    /// `null` is what JSON has for no number.
    value: Option<f64>,
    unit: String,
    bar: String,
    met: bool,
    runs: u64,
    seed: u64,
}

/// Why a campaign can't be judged.
#[derive(Debug, Error)]
pub enum CampaignError {
    /// The bars can't be read.
    #[error("the bars can't be read: {0}")]
    Bars(#[from] toml::de::Error),
    /// There is no campaign of that name.
    #[error("there is no campaign {name}: there are {known}")]
    Unknown {
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// A bar is neither `<= X` nor `>= X`.
    #[error("the bar of {name} is {bar:?}, neither `<= X` nor `>= X`")]
    Bar {
        /// Whose bar.
        name: String,
        /// What it says.
        bar: String,
    },
    /// The rows can't be read.
    #[error("the rows can't be read: {0}")]
    Rows(#[from] serde_json::Error),
}

/// What became of one bar.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Met, often enough.
    Met,
    /// There is no row.
    Missing,
    /// There is more than one row.
    Twice,
    /// It was tried too seldom.
    TooFewRuns,
    /// The value is on the wrong side.
    NotMet,
    /// The row was measured against another bar.
    OtherBar,
    /// The row says of itself that it is not met.
    SaysNotMet,
    /// A row that nothing was promised for.
    Unlisted,
}

impl Outcome {
    fn words(&self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missing => "MISSING",
            Self::Twice => "MORE THAN ONE ROW",
            Self::TooFewRuns => "TOO FEW RUNS",
            Self::NotMet => "NOT MET",
            Self::OtherBar => "ANOTHER BAR",
            Self::SaysNotMet => "SAYS NOT MET",
            Self::Unlisted => "not listed",
        }
    }

    fn is_good(&self) -> bool {
        matches!(self, Self::Met | Self::Unlisted)
    }
}

/// One line of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What was to be measured.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    value: String,
    bar: String,
    runs: String,
    seed: String,
}

/// A campaign against its bars. Its `Display` is the table for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// A line for each bar, then for each row that is none.
    pub lines: Vec<Line>,
}

impl Report {
    /// Holds the rows of a campaign, the bytes of its JSON file, against its bars.
    ///
    /// # Errors
    /// [`CampaignError`].
    pub fn of(campaigns: &str, name: &str, rows: &[u8]) -> Result<Self, CampaignError> {
        let all: BTreeMap<String, BTreeMap<String, Promise>> = toml::from_str(campaigns)?;
        let Some(promises) = all.get(name) else {
            return Err(CampaignError::Unknown {
                name: name.to_owned(),
                known: all.into_keys().collect::<Vec<_>>().join(", "),
            });
        };
        let rows: Vec<Measured> = serde_json::from_slice(rows)?;
        let mut lines = Vec::new();
        for (name, promise) in promises {
            let bar: Bar = promise.bar.parse().map_err(|()| CampaignError::Bar {
                name: name.clone(),
                bar: promise.bar.clone(),
            })?;
            let mut found = rows.iter().filter(|row| row.name == *name);
            let (row, more) = (found.next(), found.next());
            let outcome = match row {
                None => Outcome::Missing,
                Some(_) if more.is_some() => Outcome::Twice,
                Some(row) => judge(bar, promise, row),
            };
            lines.push(line(name, outcome, row, Some(promise)));
        }
        for row in rows.iter().filter(|row| !promises.contains_key(&row.name)) {
            let outcome = if row.met {
                Outcome::Unlisted
            } else {
                Outcome::NotMet
            };
            lines.push(line(&row.name, outcome, Some(row), None));
        }
        Ok(Self { lines })
    }

    /// Whether each bar was met, often enough.
    #[must_use]
    pub fn is_green(&self) -> bool {
        self.lines.iter().all(|line| line.outcome.is_good())
    }
}

fn judge(bar: Bar, promise: &Promise, row: &Measured) -> Outcome {
    let measured = row.bar.parse::<Bar>();
    if measured != Ok(bar) {
        Outcome::OtherBar
    } else if !row.value.is_some_and(|value| bar.met_by(value)) {
        Outcome::NotMet
    } else if !row.met {
        Outcome::SaysNotMet
    } else if row.runs < promise.runs {
        Outcome::TooFewRuns
    } else {
        Outcome::Met
    }
}

fn line(name: &str, outcome: Outcome, row: Option<&Measured>, promise: Option<&Promise>) -> Line {
    let none = || "-".to_owned();
    let runs = row.map_or_else(none, |row| row.runs.to_string());
    Line {
        name: name.to_owned(),
        outcome,
        value: row.map_or_else(none, |row| match row.value {
            Some(value) => format!("{} {}", rounded(value), row.unit),
            None => format!("no number of {}", row.unit),
        }),
        bar: match (promise, row) {
            (Some(promise), _) => promise.bar.clone(),
            (None, Some(row)) => row.bar.clone(),
            (None, None) => none(),
        },
        runs: match promise {
            Some(promise) => format!("{runs} of {}", promise.runs),
            None => runs,
        },
        seed: row.map_or_else(none, |row| row.seed.to_string()),
    }
}

/// Three decimals at most: the whole value is in the row.
fn rounded(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = Line {
            name: "bar".to_owned(),
            outcome: Outcome::Met,
            value: "value".to_owned(),
            bar: "promised".to_owned(),
            runs: "runs".to_owned(),
            seed: "seed".to_owned(),
        };
        let cells = |line: &Line, verdict: &str| {
            [
                line.name.clone(),
                line.value.clone(),
                line.bar.clone(),
                line.runs.clone(),
                line.seed.clone(),
                verdict.to_owned(),
            ]
        };
        let mut table = vec![cells(&head, "")];
        table.extend(
            self.lines
                .iter()
                .map(|line| cells(line, line.outcome.words())),
        );
        let mut widths = [0; 6];
        for row in &table {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.len().max(*width);
            }
        }
        for row in &table {
            let text: Vec<String> = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            writeln!(f, "{}", text.join("  ").trim_end())?;
        }
        let bad = self.lines.iter().filter(|line| !line.outcome.is_good());
        match bad.count() {
            0 => writeln!(f, "all {} bars are met", self.lines.len()),
            bad => writeln!(f, "{bad} of {} bars are NOT met", self.lines.len()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const BARS: &str =
        "[x.lost]\nbar = \"<= 0\"\nruns = 10\n[x.per_s]\nbar = \">= 100\"\nruns = 3\n[y]\n";

    fn row(name: &str, value: Value, bar: &str, met: bool, runs: u64) -> Value {
        json!({"name": name, "value": value, "unit": "count", "bar": bar, "met": met, "runs": runs, "seed": 1})
    }

    fn report(rows: &[Value]) -> Report {
        Report::of(BARS, "x", &serde_json::to_vec(rows).unwrap()).unwrap()
    }

    fn good() -> [Value; 2] {
        [
            row("lost", json!(0.0), "<= 0", true, 10),
            row("per_s", json!(100.5), ">= 100", true, 3),
        ]
    }

    #[test]
    fn a_campaign_that_measured_all_its_bars_is_green() {
        let report = report(&good());
        assert!(report.is_green());
        let text = report.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "bar    value        promised  runs      seed",
                "lost   0 count      <= 0      10 of 10  1     met",
                "per_s  100.5 count  >= 100    3 of 3    1     met",
                "all 2 bars are met",
            ]
        );
    }

    #[test]
    fn each_fault_of_a_row_turns_the_campaign_red() {
        let [lost, per_s] = good();
        let with = |bad: Value| vec![bad, per_s.clone()];
        let rows = [
            ("no row", vec![per_s.clone()], Outcome::Missing),
            (
                "two rows",
                vec![lost.clone(), lost.clone(), per_s.clone()],
                Outcome::Twice,
            ),
            (
                "one too few runs",
                with(row("lost", json!(0.0), "<= 0", true, 9)),
                Outcome::TooFewRuns,
            ),
            (
                "one lost",
                with(row("lost", json!(1.0), "<= 0", false, 10)),
                Outcome::NotMet,
            ),
            (
                "one lost, and a row that denies it",
                with(row("lost", json!(1.0), "<= 0", true, 10)),
                Outcome::NotMet,
            ),
            (
                "no number",
                with(row("lost", Value::Null, "<= 0", true, 10)),
                Outcome::NotMet,
            ),
            (
                "a bar of its own",
                with(row("lost", json!(0.0), "<= 5", true, 10)),
                Outcome::OtherBar,
            ),
            (
                "it says so itself",
                with(row("lost", json!(0.0), "<= 0", false, 10)),
                Outcome::SaysNotMet,
            ),
        ];
        for (what, rows, expected) in rows {
            let report = report(&rows);
            assert_eq!(report.lines[0].outcome, expected, "{what}");
            assert!(!report.is_green(), "{what}");
            let last = report.to_string();
            assert!(
                last.ends_with("1 of 2 bars are NOT met\n"),
                "{what}: {last}"
            );
        }
        let nothing = report(&[]);
        assert!(!nothing.is_green());
    }

    #[test]
    fn a_row_that_nobody_asked_for_is_shown_and_must_be_met() {
        let more = |met| {
            let mut rows = good().to_vec();
            rows.push(row("more", json!(0.0), "<= 0", met, 1));
            report(&rows)
        };
        let shown = more(true);
        assert_eq!(shown.lines[2].outcome, Outcome::Unlisted);
        assert!(shown.is_green());
        assert!(!more(false).is_green());
    }

    #[test]
    fn what_can_t_be_judged_is_an_error() {
        let told = |campaigns: &str, name: &str, rows: &[u8]| {
            Report::of(campaigns, name, rows).unwrap_err().to_string()
        };
        assert_eq!(
            told(BARS, "z", b"[]"),
            "there is no campaign z: there are x, y"
        );
        assert_eq!(
            told("[x.lost]\nbar = \"0\"\nruns = 1\n", "x", b"[]"),
            "the bar of lost is \"0\", neither `<= X` nor `>= X`"
        );
        assert!(told(BARS, "x", b"{").starts_with("the rows can't be read: "));
        assert!(told("[x.lost]\nbar = 1", "x", b"[]").starts_with("the bars can't be read: "));
    }

    #[test]
    fn the_bars_that_are_kept_can_be_read() {
        let report = Report::of(CAMPAIGNS, "state", b"[]").unwrap();
        assert_eq!(report.lines.len(), 19);
        let missing = |line: &Line| line.outcome == Outcome::Missing;
        assert!(report.lines.iter().all(missing));
    }
}
