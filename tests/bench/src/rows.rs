//! Rows: what was measured, each held against its bar, as a file for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// What a value is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bar {
    /// The value may be this or less.
    AtMost(f64),
    /// The value must be this or more.
    AtLeast(f64),
}

impl Bar {
    /// Whether a value meets the bar. No number does not.
    pub(crate) fn met_by(self, value: f64) -> bool {
        match self {
            Self::AtMost(bar) => value <= bar,
            Self::AtLeast(bar) => value >= bar,
        }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bar) => write!(f, "<= {bar}"),
            Self::AtLeast(bar) => write!(f, ">= {bar}"),
        }
    }
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: String,
    /// How much. No number is `null`.
    pub(crate) value: Option<f64>,
    /// Of what: `ratio`, `µs`, `ms`, `s`, `1/s`, `KiB`, `bytes`, `%`, `count`.
    pub(crate) unit: String,
    /// What was promised, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bar: Option<String>,
    /// Whether it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) met: Option<bool>,
    /// How often it was measured; the value is the median.
    pub(crate) runs: u64,
}

impl Row {
    /// A figure that nothing was promised of.
    pub(crate) fn plain(name: &str, value: f64, unit: &str, runs: usize) -> Self {
        Self {
            name: name.to_owned(),
            value: value.is_finite().then(|| rounded(value)),
            unit: unit.to_owned(),
            bar: None,
            met: None,
            runs: u64::try_from(runs).unwrap_or(u64::MAX),
        }
    }

    /// A figure that is held against a bar, before it is rounded.
    pub(crate) fn against(name: &str, value: f64, unit: &str, bar: Bar, runs: usize) -> Self {
        Self {
            bar: Some(bar.to_string()),
            met: Some(bar.met_by(value)),
            ..Self::plain(name, value, unit, runs)
        }
    }
}

/// To four digits: more would be noise.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || value.abs() >= 10_000.0 {
        return value.round();
    }
    let digits = 3.0 - value.abs().log10().floor();
    let scale = 10_f64.powf(digits);
    (value * scale).round() / scale
}

/// Where a promise's figure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// `make bench`.
    Bench,
    /// `make bench-all`.
    All,
}

/// A figure that must be there, and what was promised of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    pub(crate) name: &'static str,
    /// For people; the row has the number.
    pub(crate) bar: &'static str,
    pub(crate) by: By,
}

const fn promise(name: &'static str, bar: &'static str, by: By) -> Promise {
    Promise { name, bar, by }
}

/// All that was promised of speed. A row of another name may have a bar, too.
pub(crate) const PROMISES: [Promise; 19] = [
    promise("minted_over_bare_server", "<= 1.3", By::Bench),
    promise("minted_over_bound", "<= 1.45", By::Bench),
    promise("issuance_instructions", "<= 1150000", By::Bench),
    promise("mtls_bound_over_own_bound", "<= 1.45", By::Bench),
    promise("oidc_provider_over_ours_cpu", ">= 8", By::Bench),
    promise("p99_ms_at_70pct", "<= 5 + 2 x fdatasync p99", By::Bench),
    promise("idle_mtls_conn_kib", "<= 48", By::Bench),
    promise("overload_goodput_ratio", ">= 0.8", By::Bench),
    promise("overload_recovery_s", "<= 10", By::Bench),
    promise("shed_call_cpu_us", "<= 60", By::Bench),
    promise("snp_report_over_signatures", "<= 1.2", By::Bench),
    promise("proof_over_signature", "<= 1.1", By::Bench),
    promise("token_over_signature", "<= 1.15", By::Bench),
    promise("grant_bytes", "<= 2048", By::All),
    promise("start_ms_1m_grants", "<= 15000", By::All),
    promise("observability_cpu_share", "<= 3", By::Bench),
    promise("abuse_legit_p99_ratio_max", "<= 2", By::All),
    promise("abuse_rss_mib_max", "<= 1024", By::All),
    promise("abuse_crashes", "<= 0", By::All),
];

/// What became of a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Met,
    NotMet,
    /// It should have been measured and was not.
    Missing,
    /// It is measured by another command.
    Elsewhere,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Met => "met",
            Self::NotMet => "NOT MET",
            Self::Missing => "MISSING",
            Self::Elsewhere => "not measured here",
        })
    }
}

/// The rows by name, the newest of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows(BTreeMap<String, Row>);

impl Rows {
    /// Takes a row in, in the place of one of its name.
    pub(crate) fn add(&mut self, row: Row) {
        self.0.insert(row.name.clone(), row);
    }

    /// Takes rows in as another campaign wrote them, but for those that are here. Members that ours do not have are left
    /// out.
    ///
    /// # Errors
    /// It is no array of rows.
    pub(crate) fn add_missing(&mut self, json: &[u8]) -> anyhow::Result<()> {
        let rows: Vec<Row> = serde_json::from_slice(json).context("not an array of rows")?;
        for mut row in rows {
            // The campaign of the state calls it otherwise.
            if row.name == "bytes_per_grant" {
                "grant_bytes".clone_into(&mut row.name);
            }
            self.0.entry(row.name.clone()).or_insert(row);
        }
        Ok(())
    }

    /// What became of each promise, and of each other row with a bar.
    pub(crate) fn verdicts(&self, all: bool) -> Vec<(String, String, Option<&Row>, State)> {
        let promised = PROMISES.iter().map(|promise| {
            let row = self.0.get(promise.name);
            let state = match row {
                Some(row) => state(row),
                None if all || promise.by == By::Bench => State::Missing,
                None => State::Elsewhere,
            };
            (promise.name.to_owned(), promise.bar.to_owned(), row, state)
        });
        let others = self.0.values().filter(|row| {
            row.bar.is_some() && PROMISES.iter().all(|promise| promise.name != row.name)
        });
        let others = others.map(|row| {
            let bar = row.bar.clone().unwrap_or_default();
            (row.name.clone(), bar, Some(row), state(row))
        });
        promised.chain(others).collect()
    }

    /// Writes the array of all rows.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let rows: Vec<&Row> = self.0.values().collect();
        let mut json = serde_json::to_vec_pretty(&rows)?;
        json.push(b'\n');
        write_file(path, &json)
    }

    /// The figures without a bar.
    pub(crate) fn plain(&self) -> impl Iterator<Item = &Row> {
        self.0.values().filter(|row| row.bar.is_none())
    }
}

/// A row that should have a bar and has none is not met: nobody held it against anything.
fn state(row: &Row) -> State {
    if row.value.is_some() && row.met == Some(true) {
        State::Met
    } else {
        State::NotMet
    }
}

/// Writes a file whole, with the folders that it needs.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let next = path.with_extension("next");
    std::fs::write(&next, bytes)
        .and_then(|()| std::fs::rename(&next, path))
        .with_context(|| format!("can't write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_met_at_its_edge_and_never_by_no_number() {
        assert!(Bar::AtMost(1.3).met_by(1.3));
        assert!(!Bar::AtMost(1.3).met_by(1.301));
        assert!(Bar::AtLeast(8.0).met_by(8.0));
        assert!(!Bar::AtLeast(8.0).met_by(7.99));
        assert!(!Bar::AtMost(1.0).met_by(f64::NAN) && !Bar::AtLeast(1.0).met_by(f64::NAN));
    }

    #[test]
    fn a_value_is_judged_before_it_is_rounded() {
        let row = Row::against("x", 1.300_04, "ratio", Bar::AtMost(1.3), 5);
        assert_eq!((row.value, row.met), (Some(1.3), Some(false)));
        let none = Row::against("x", f64::NAN, "ratio", Bar::AtMost(1.3), 0);
        assert_eq!((none.value, none.met), (None, Some(false)));
    }

    #[test]
    fn figures_have_four_digits() {
        let rows = [
            (0.0, 0.0),
            (1.234_56, 1.235),
            (0.012_345_6, 0.012_35),
            (123.456, 123.5),
            (9_999.4, 9_999.0),
            (1_234_567.8, 1_234_568.0),
            (-2.000_04, -2.0),
        ];
        for (given, expected) in rows {
            assert_eq!(rounded(given), expected, "{given}");
        }
    }

    #[test]
    fn a_row_is_written_as_it_is_promised() {
        let row = Row::against("minted_over_bound", 1.5, "ratio", Bar::AtMost(1.45), 5);
        let json = serde_json::to_string(&row).unwrap();
        assert_eq!(
            json,
            r#"{"name":"minted_over_bound","value":1.5,"unit":"ratio","bar":"<= 1.45","met":false,"runs":5}"#
        );
        let plain = Row::plain("minted_cpu_us", 140.0, "µs", 5);
        assert_eq!(
            serde_json::to_string(&plain).unwrap(),
            r#"{"name":"minted_cpu_us","value":140.0,"unit":"µs","runs":5}"#
        );
    }

    fn state_of(rows: &Rows, name: &str, all: bool) -> State {
        let verdicts = rows.verdicts(all);
        let found = verdicts.iter().find(|(found, ..)| found == name);
        found.unwrap().3
    }

    #[test]
    fn a_promise_is_met_or_not_or_missing_or_of_another_command() {
        let mut rows = Rows::default();
        rows.add(Row::against(
            "minted_over_bound",
            1.4,
            "ratio",
            Bar::AtMost(1.45),
            5,
        ));
        rows.add(Row::against(
            "idle_mtls_conn_kib",
            60.0,
            "KiB",
            Bar::AtMost(48.0),
            5,
        ));
        // A figure of a promise that was held against nothing.
        rows.add(Row::plain("overload_recovery_s", 1.0, "s", 5));
        rows.add(Row::against("of_its_own", 3.0, "ms", Bar::AtMost(2.0), 5));
        assert_eq!(state_of(&rows, "minted_over_bound", false), State::Met);
        assert_eq!(state_of(&rows, "idle_mtls_conn_kib", false), State::NotMet);
        assert_eq!(state_of(&rows, "overload_recovery_s", false), State::NotMet);
        assert_eq!(state_of(&rows, "shed_call_cpu_us", false), State::Missing);
        assert_eq!(state_of(&rows, "grant_bytes", false), State::Elsewhere);
        assert_eq!(state_of(&rows, "grant_bytes", true), State::Missing);
        assert_eq!(state_of(&rows, "of_its_own", false), State::NotMet);
    }

    #[test]
    fn rows_of_another_campaign_do_not_replace_ours() {
        let mut rows = Rows::default();
        rows.add(Row::against(
            "start_ms_1m_grants",
            9_000.0,
            "ms",
            Bar::AtMost(15_000.0),
            3,
        ));
        let theirs = br#"[
            {"name":"start_ms_1m_grants","value":38700.0,"unit":"ms","bar":"<= 15000","met":false,"runs":3,"seed":0},
            {"name":"bytes_per_grant","value":1652.0,"unit":"bytes","bar":"<= 2048","met":true,"runs":3,"seed":0}
        ]"#;
        rows.add_missing(theirs).unwrap();
        assert_eq!(state_of(&rows, "start_ms_1m_grants", true), State::Met);
        assert_eq!(state_of(&rows, "grant_bytes", true), State::Met);
        let refused = rows.add_missing(b"{}").unwrap_err();
        assert_eq!(refused.to_string(), "not an array of rows");
    }

    #[test]
    fn promises_have_names_of_their_own() {
        let names: std::collections::BTreeSet<&str> =
            PROMISES.iter().map(|promise| promise.name).collect();
        assert_eq!(names.len(), PROMISES.len());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bench/rows.json");
        let mut rows = Rows::default();
        rows.add(Row::plain("b", 2.0, "ms", 5));
        rows.add(Row::against("a", 1.0, "ms", Bar::AtMost(2.0), 5));
        rows.write(&path).unwrap();
        let mut back = Rows::default();
        back.add_missing(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(back.0, rows.0);
    }
}
