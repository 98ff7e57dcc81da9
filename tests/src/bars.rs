//! Bars: what a campaign measured against what it promised, a row each.
//!
//! Rows are kept in `soak/FILE.json` of the target directory, as one array sorted by name. A later run replaces the
//! row of its name and leaves the others.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::{Value, json};

/// What a value is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar {
    /// The value may be this or less.
    AtMost(f64),
    /// The value must be this or more.
    AtLeast(f64),
}

impl Bar {
    /// Whether a value meets the bar. No number does not.
    #[must_use]
    pub fn met_by(self, value: f64) -> bool {
        match self {
            Self::AtMost(bar) => value <= bar,
            Self::AtLeast(bar) => value >= bar,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(bar) => format!("<= {bar}"),
            Self::AtLeast(bar) => format!(">= {bar}"),
        }
    }
}

/// As it stands in a row.
impl std::str::FromStr for Bar {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (side, bar) = text.split_once(' ').ok_or(())?;
        let bar = bar.parse().map_err(|_| ())?;
        match side {
            "<=" => Ok(Self::AtMost(bar)),
            ">=" => Ok(Self::AtLeast(bar)),
            _ => Err(()),
        }
    }
}

/// One measured figure.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What was measured.
    pub name: &'static str,
    /// How much.
    pub value: f64,
    /// Of what: `count`, `s`, `ms`, `bytes`, `1/s`.
    pub unit: &'static str,
    /// What was promised.
    pub bar: Bar,
    /// How often it was tried.
    pub runs: u64,
    /// What the random choices came from; 0 where there are none.
    pub seed: u64,
}

impl Row {
    /// Whether what was measured keeps what was promised.
    #[must_use]
    pub fn met(self) -> bool {
        self.bar.met_by(self.value)
    }
}

static WRITING: Mutex<()> = Mutex::new(());

/// Where the rows of a campaign are kept.
///
/// # Errors
/// [`io::Error`] if the test's own program has no place in a target directory.
pub fn file(campaign: &str) -> io::Result<PathBuf> {
    // …/debug/deps/NAME-HASH
    let program = std::env::current_exe()?;
    let target = program
        .ancestors()
        .nth(3)
        .ok_or_else(|| io::Error::other("the test does not run from a target directory"))?;
    Ok(target.join("soak").join(format!("{campaign}.json")))
}

/// Writes a row down, prints it, and says whether the bar is met.
///
/// # Errors
/// [`io::Error`] if the file can't be written.
#[must_use = "assert that the bar is met"]
#[expect(
    clippy::print_stdout,
    reason = "the figures are what a campaign is run for"
)]
pub fn record(campaign: &str, row: Row) -> io::Result<bool> {
    let met = row.met();
    println!(
        "{campaign}: {name} = {value} {unit} (bar {bar}, {runs} runs, seed {seed}): {verdict}",
        name = row.name,
        value = row.value,
        unit = row.unit,
        bar = row.bar.text(),
        runs = row.runs,
        seed = row.seed,
        verdict = if met { "met" } else { "NOT MET" },
    );
    let _writing = WRITING
        .lock()
        .map_err(|_| io::Error::other("a row's writer panicked"))?;
    put(&file(campaign)?, row, met)?;
    Ok(met)
}

fn put(path: &Path, row: Row, met: bool) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    // Another test binary may write at the same time.
    let lock = fs::File::create(path.with_extension("lock"))?;
    lock.lock()?;
    let mut rows: BTreeMap<String, Value> = match fs::read(path) {
        Ok(bytes) => serde_json::from_slice::<Vec<Value>>(&bytes)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|value| Some((value.get("name")?.as_str()?.to_owned(), value)))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(error),
    };
    let value = json!({
        "name": row.name,
        "value": row.value,
        "unit": row.unit,
        "bar": row.bar.text(),
        "met": met,
        "runs": row.runs,
        "seed": row.seed,
    });
    rows.insert(row.name.to_owned(), value);
    let rows: Vec<Value> = rows.into_values().collect();
    let text = serde_json::to_vec_pretty(&rows)?;
    let next = path.with_extension("next");
    fs::write(&next, text)?;
    fs::rename(next, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_met_at_its_edge_and_never_by_no_number() {
        assert!(Bar::AtMost(0.0).met_by(0.0));
        assert!(!Bar::AtMost(0.0).met_by(1.0));
        assert!(Bar::AtLeast(8.0).met_by(8.0));
        assert!(!Bar::AtLeast(8.0).met_by(7.9));
        assert!(!Bar::AtMost(1.0).met_by(f64::NAN));
        assert!(!Bar::AtLeast(1.0).met_by(f64::NAN));
    }

    #[test]
    fn a_bar_is_read_as_it_is_written() {
        for bar in [Bar::AtMost(0.0), Bar::AtMost(2.5), Bar::AtLeast(100_000.0)] {
            assert_eq!(bar.text().parse(), Ok(bar));
        }
        for bad in ["", "0", "< 1", "<=1", "<= x", "== 1"] {
            assert_eq!(bad.parse::<Bar>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn a_later_run_replaces_its_own_row_only() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("soak/x.json");
        let row = |name, value| Row {
            name,
            value,
            unit: "count",
            bar: Bar::AtMost(0.0),
            runs: 3,
            seed: 7,
        };
        put(&path, row("b", 1.0), false)?;
        put(&path, row("a", 0.0), true)?;
        put(&path, row("b", 0.0), true)?;
        let rows: Vec<Value> = serde_json::from_slice(&fs::read(&path)?)?;
        let told: Vec<_> = rows.iter().map(|row| (&row["name"], &row["met"])).collect();
        assert_eq!(
            told,
            [(&json!("a"), &json!(true)), (&json!("b"), &json!(true))]
        );
        Ok(())
    }
}
