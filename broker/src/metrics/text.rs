//! Prometheus' text format, version 0.0.4.
//!
//! A label's value is a word of the source or of the contract, or an id of a provider, which is bounded where it is
//! read: there is no way to put a text that came in from outside on the page.

use std::fmt::Write as _;

use enclave::ids::ProviderId;

use super::histogram::Histogram;

/// The media type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What kind of number a family holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// What there is at the moment.
    Gauge,
    /// How often a number lay within which bounds.
    Histogram,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A label's value.
#[derive(Clone, Copy, Debug)]
pub enum Label<'a> {
    /// A word of the source or of the contract.
    Word(&'static str),
    /// An id: `a-z`, `0-9` and `-`.
    Provider(&'a ProviderId),
}

impl Label<'_> {
    fn text(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Provider(id) => id.as_str(),
        }
    }
}

/// What a unit is worth in the unit of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    One,
    /// Microseconds, told in seconds.
    Micros,
}

impl Unit {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a figure for people: 53 bits are enough"
    )]
    pub(super) fn told(self, number: u64) -> f64 {
        match self {
            Self::One => number as f64,
            Self::Micros => number as f64 / 1e6,
        }
    }
}

/// A page of metrics.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// The next family. `help` is one line of plain words.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) -> Family<'_> {
        let word = kind.word();
        // Writing to a string does not fail.
        write!(self.0, "# HELP {name} {help}\n# TYPE {name} {word}\n").unwrap_or_default();
        Family {
            text: &mut self.0,
            name,
        }
    }

    /// The page as it is sent.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }
}

/// A family that is being written.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

/// The labels of a sample.
pub type Labels<'a> = [(&'static str, Label<'a>)];

impl Family<'_> {
    /// A whole number.
    pub fn count(&mut self, labels: &Labels<'_>, number: u64) -> &mut Self {
        self.sample("", labels, None, &number)
    }

    /// Any number.
    pub fn number(&mut self, labels: &Labels<'_>, number: f64) -> &mut Self {
        self.sample("", labels, None, &number)
    }

    /// The buckets, the sum and the count of a histogram.
    pub fn histogram<const N: usize>(
        &mut self,
        labels: &Labels<'_>,
        histogram: &Histogram<N>,
        unit: Unit,
    ) -> &mut Self {
        let read = histogram.read();
        for (bound, count) in read.up_to {
            let bound = unit.told(bound).to_string();
            self.sample("_bucket", labels, Some(&bound), &count);
        }
        self.sample("_bucket", labels, Some("+Inf"), &read.count);
        self.sample("_sum", labels, None, &unit.told(read.sum));
        self.sample("_count", labels, None, &read.count)
    }

    fn sample(
        &mut self,
        ending: &str,
        labels: &Labels<'_>,
        bound: Option<&str>,
        number: &dyn std::fmt::Display,
    ) -> &mut Self {
        let Self { text, name } = self;
        text.push_str(name);
        text.push_str(ending);
        let told = labels.iter().map(|(name, label)| (*name, label.text()));
        let mut between = '{';
        for (label, value) in told.chain(bound.map(|bound| ("le", bound))) {
            // Words and ids hold nothing that would have to be escaped.
            write!(text, "{between}{label}=\"{value}\"").unwrap_or_default();
            between = ',';
        }
        if between == ',' {
            text.push('}');
        }
        writeln!(text, " {number}").unwrap_or_default();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::histogram::{COUNT_BOUNDS, durations};

    #[test]
    fn a_page_is_as_the_format_has_it() {
        let mut page = Page::default();
        let provider = ProviderId::parse("sales-force").unwrap();
        page.family("a_total", Kind::Counter, "How many.")
            .count(&[], 3)
            .count(
                &[
                    ("kind", Label::Word("x")),
                    ("provider", Label::Provider(&provider)),
                ],
                4,
            );
        page.family("b", Kind::Gauge, "How much.").number(&[], 0.25);
        assert_eq!(
            page.into_text(),
            "# HELP a_total How many.\n# TYPE a_total counter\na_total 3\na_total{kind=\"x\",provider=\"sales-force\"} 4\n\
             # HELP b How much.\n# TYPE b gauge\nb 0.25\n"
        );
    }

    #[test]
    fn a_histogram_ends_with_all_that_there_were() {
        let (mut page, counts) = (Page::default(), Histogram::new(&COUNT_BOUNDS));
        counts.observe(1_000);
        page.family("c", Kind::Histogram, "Groups.").histogram(
            &[("kind", Label::Word("x"))],
            &counts,
            Unit::One,
        );
        let text = page.into_text();
        let end = "c_bucket{kind=\"x\",le=\"512\"} 0\nc_bucket{kind=\"x\",le=\"+Inf\"} 1\nc_sum{kind=\"x\"} 1000\n\
                   c_count{kind=\"x\"} 1\n";
        assert!(text.ends_with(end), "{text}");

        let (mut page, took) = (Page::default(), durations());
        took.observe(1_500);
        page.family("d", Kind::Histogram, "Seconds.")
            .histogram(&[], &took, Unit::Micros);
        let text = page.into_text();
        for line in [
            "d_bucket{le=\"0.00005\"} 0",
            "d_bucket{le=\"0.001\"} 0",
            "d_bucket{le=\"0.002\"} 1",
            "d_bucket{le=\"10\"} 1",
            "d_sum 0.0015",
            "d_count 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
