//! What people read: progress on standard error, tables on standard output.

use std::io::Write;

use crate::rows::{Row, Rows, State};

/// Tells a person how far it is.
pub(crate) fn progress(line: &str) {
    // Nobody is there to be told if standard error is gone.
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// Writes lines to standard output.
///
/// # Errors
/// It is gone.
pub(crate) fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Columns as wide as what is in them, the first one to the left, the others to the right.
pub(crate) fn table(head: &[&str], lines: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let row = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    let mut text = row(&mut head.iter().copied());
    for line in lines {
        text.push_str(&row(&mut line.iter().map(String::as_str)));
    }
    text
}

/// A number as a cell.
pub(crate) fn number(value: f64, digits: usize) -> String {
    if value.is_finite() {
        format!("{value:.digits$}")
    } else {
        "-".to_owned()
    }
}

/// The bars, each met or not, and the figures without one. Whether all is well: none is missing, none is not met.
pub(crate) fn bars(rows: &Rows, all: bool) -> (String, bool) {
    let verdicts = rows.verdicts(all);
    let value = |row: Option<&Row>| match row {
        Some(Row {
            value: Some(value),
            unit,
            ..
        }) => format!("{value} {unit}"),
        Some(_) | None => "-".to_owned(),
    };
    let lines: Vec<Vec<String>> = verdicts
        .iter()
        .map(|(name, bar, row, state)| {
            // The row's own has the number where a promise has a rule.
            let bar = row
                .and_then(|row| row.bar.clone())
                .unwrap_or_else(|| bar.clone());
            let runs = row.map_or_else(|| "-".to_owned(), |row| row.runs.to_string());
            vec![name.clone(), value(*row), bar, runs, state.to_string()]
        })
        .collect();
    let mut text = table(&["bar", "measured", "promised", "runs", ""], &lines);
    let plain: Vec<Vec<String>> = rows
        .plain()
        .map(|row| vec![row.name.clone(), value(Some(row)), row.runs.to_string()])
        .collect();
    text.push('\n');
    text.push_str(&table(&["figure", "measured", "runs"], &plain));
    let green = verdicts
        .iter()
        .all(|(.., state)| matches!(state, State::Met | State::Elsewhere));
    (text, green)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{Bar, PROMISES, Promise};

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let lines = [
            vec!["a".to_owned(), "12.5".to_owned()],
            vec!["long µs".to_owned(), "1".to_owned()],
        ];
        assert_eq!(
            table(&["x", "y"], &lines),
            "x           y\na        12.5\nlong µs     1\n"
        );
    }

    #[test]
    fn no_number_is_a_dash() {
        assert_eq!(number(1.26, 1), "1.3");
        assert_eq!(number(f64::NAN, 1), "-");
    }

    #[test]
    fn it_is_green_only_with_every_bar_measured_and_met() {
        let good = |Promise { name, bar, .. }: &Promise| {
            let (side, value) = bar.split_once(' ').unwrap();
            let value: f64 = value.split(' ').next().unwrap().parse().unwrap();
            let bar = match side {
                "<=" => Bar::AtMost(value),
                _ => Bar::AtLeast(value),
            };
            Row::against(name, value, "x", bar, 5)
        };
        let mut rows = Rows::default();
        for promise in &PROMISES {
            rows.add(good(promise));
        }
        assert!(bars(&rows, true).1);
        rows.add(Row::against(
            "grant_bytes",
            3_000.0,
            "bytes",
            Bar::AtMost(2_048.0),
            3,
        ));
        let (text, green) = bars(&rows, true);
        assert!(!green && text.contains("NOT MET"), "{text}");
        let (text, green) = bars(&Rows::default(), false);
        assert!(
            !green && text.contains("MISSING") && text.contains("not measured here"),
            "{text}"
        );
    }
}
