//! Plots as SVG: lines over two axes, each of them linear or logarithmic.

use std::fmt::Write as _;

/// The size of the picture and of what surrounds the plane, in pixels.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 56.0;

/// Told apart by people who see few colours, too.
const COLOURS: [&str; 6] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
];

/// How an axis grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    Logarithmic,
}

/// An axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    pub(crate) label: &'static str,
    pub(crate) scale: Scale,
}

/// A line.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    pub(crate) title: &'static str,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) lines: Vec<Line>,
}

/// The values that an axis shows, from its first to its last mark.
#[derive(Clone, Debug, PartialEq)]
struct Range {
    low: f64,
    high: f64,
    marks: Vec<f64>,
    scale: Scale,
}

impl Range {
    /// Around all values that can be shown: on a logarithmic axis those above 0.
    fn of(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let shown = values.filter(|value| shows(scale, *value));
        let (low, high) = shown.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let marks = match scale {
            _ if low > high => vec![1.0, 10.0],
            Scale::Linear => linear_marks(high.max(f64::MIN_POSITIVE)),
            Scale::Logarithmic => decades(low, high),
        };
        Self {
            low: marks.first().copied().unwrap_or(0.0),
            high: marks.last().copied().unwrap_or(1.0),
            marks,
            scale,
        }
    }

    /// Where a value lies, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value / self.low).log10() / (self.high / self.low).log10(),
        }
    }
}

fn shows(scale: Scale, value: f64) -> bool {
    match scale {
        Scale::Linear => value.is_finite() && value >= 0.0,
        Scale::Logarithmic => value.is_finite() && value > 0.0,
    }
}

/// From 0 in steps of 1, 2 or 5 times a power of ten, at most eight of them.
fn linear_marks(high: f64) -> Vec<f64> {
    let power = 10_f64.powf((high / 8.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let step = steps.into_iter().find(|step| high / step <= 8.0);
    let step = step.unwrap_or(10.0 * power);
    let count = (high / step).ceil().max(1.0);
    let mut marks = vec![0.0];
    let mut number = 1.0;
    while number <= count {
        marks.push(number * step);
        number += 1.0;
    }
    marks
}

/// The powers of ten around the values.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let first = low.log10().floor();
    let last = high.log10().ceil().max(first + 1.0);
    let mut marks = Vec::new();
    let mut power = first;
    while power <= last {
        marks.push(10_f64.powf(power));
        power += 1.0;
    }
    marks
}

/// A number as people write it: `2.5`, `40`, `10k`, `1M`.
fn short(value: f64) -> String {
    let (value, suffix) = if value >= 1e6 {
        (value / 1e6, "M")
    } else if value >= 1e4 {
        (value / 1e3, "k")
    } else {
        (value, "")
    };
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{suffix}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

impl Plot {
    /// The whole file.
    pub(crate) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| line.points.iter());
        let x = Range::of(self.x.scale, points().map(|point| point.0));
        let y = Range::of(self.y.scale, points().map(|point| point.1));
        let (plane_width, plane_height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        let across = |value: f64| LEFT + x.place(value) * plane_width;
        let down = |value: f64| TOP + (1.0 - y.place(value)) * plane_height;

        let mut svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
<text x="{LEFT}" y="22" font-size="15">{}</text>
"#,
            escaped(self.title)
        );
        let bottom = TOP + plane_height;
        let right = LEFT + plane_width;
        for mark in &x.marks {
            let at = across(*mark);
            put(
                &mut svg,
                format_args!(
                    r##"<path d="M{at:.1} {TOP}V{bottom}" stroke="#ddd"/><text x="{at:.1}" y="{:.1}" text-anchor="middle">{}</text>"##,
                    bottom + 16.0,
                    short(*mark)
                ),
            );
        }
        for mark in &y.marks {
            let at = down(*mark);
            put(
                &mut svg,
                format_args!(
                    r##"<path d="M{LEFT} {at:.1}H{right}" stroke="#ddd"/><text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"##,
                    LEFT - 6.0,
                    at + 4.0,
                    short(*mark)
                ),
            );
        }
        put(
            &mut svg,
            format_args!(
                r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                LEFT + plane_width / 2.0,
                bottom + 38.0,
                escaped(self.x.label)
            ),
        );
        let middle = TOP + plane_height / 2.0;
        put(
            &mut svg,
            format_args!(
                r#"<text x="16" y="{middle:.1}" text-anchor="middle" transform="rotate(-90 16 {middle:.1})">{}</text>"#,
                escaped(self.y.label)
            ),
        );
        let mut row = TOP + 10.0;
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let shown: Vec<(f64, f64)> = line
                .points
                .iter()
                .filter(|(px, py)| shows(x.scale, *px) && shows(y.scale, *py))
                .map(|(px, py)| (across(*px), down(*py)))
                .collect();
            let path: Vec<String> = shown
                .iter()
                .map(|(px, py)| format!("{px:.1},{py:.1}"))
                .collect();
            put(
                &mut svg,
                format_args!(
                    r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#,
                    path.join(" ")
                ),
            );
            for (px, py) in &shown {
                put(
                    &mut svg,
                    format_args!(r#"<circle cx="{px:.1}" cy="{py:.1}" r="3" fill="{colour}"/>"#),
                );
            }
            put(
                &mut svg,
                format_args!(
                    r#"<path d="M{:.1} {row:.1}h18" stroke="{colour}" stroke-width="2"/><text x="{:.1}" y="{:.1}">{}</text>"#,
                    right + 12.0,
                    right + 36.0,
                    row + 4.0,
                    escaped(&line.name)
                ),
            );
            row += 20.0;
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// A line of the file. Writing into memory does not fail.
fn put(svg: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(svg, "{line}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(scale: Scale, points: Vec<(f64, f64)>) -> String {
        let axis = |label| Axis { label, scale };
        Plot {
            title: "a < b",
            x: axis("x"),
            y: axis("y"),
            lines: vec![Line {
                name: "p99".to_owned(),
                points,
            }],
        }
        .svg()
    }

    #[test]
    fn marks_are_round_numbers_that_hold_all_values() {
        assert_eq!(linear_marks(7.0), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(
            linear_marks(950.0),
            [0.0, 200.0, 400.0, 600.0, 800.0, 1_000.0]
        );
        assert_eq!(decades(3.0, 250.0), [1.0, 10.0, 100.0, 1_000.0]);
        assert_eq!(decades(100.0, 100.0), [100.0, 1_000.0]);
    }

    #[test]
    fn points_lie_where_they_belong() {
        // The corners of the plane: left bottom and right top.
        let svg = plot(Scale::Linear, vec![(0.0, 0.0), (8.0, 8.0)]);
        assert!(svg.contains(r#"points="74.0,364.0 590.0,40.0""#), "{svg}");
        let svg = plot(
            Scale::Logarithmic,
            vec![(1.0, 1.0), (10.0, 10.0), (100.0, 100.0)],
        );
        assert!(
            svg.contains(r#"points="74.0,364.0 332.0,202.0 590.0,40.0""#),
            "{svg}"
        );
    }

    #[test]
    fn what_can_not_be_shown_is_left_out() {
        let svg = plot(
            Scale::Logarithmic,
            vec![(0.0, 1.0), (1.0, f64::NAN), (10.0, 10.0)],
        );
        assert_eq!(svg.matches("<circle").count(), 1, "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let nothing = plot(Scale::Logarithmic, Vec::new());
        assert!(
            !nothing.contains("NaN") && !nothing.contains("inf"),
            "{nothing}"
        );
    }

    #[test]
    fn text_is_escaped() {
        assert!(plot(Scale::Linear, vec![(1.0, 1.0)]).contains("a &lt; b"));
    }

    #[test]
    fn numbers_are_short() {
        let rows = [
            (0.0, "0"),
            (2.5, "2.5"),
            (40.0, "40"),
            (10_000.0, "10k"),
            (1e6, "1M"),
        ];
        for (value, text) in rows {
            assert_eq!(short(value), text);
        }
    }
}
