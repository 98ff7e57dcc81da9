//! What grows with the work: grants, tenants and connections of the service, leaves of a log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tlog::{Frontier, Hash, InclusionProof, MemoryTree, TileBuilder, leaf_hash};

use crate::caller::{Ask, Shape, connect};
use crate::compare;
use crate::idle::{fit, hold};
use crate::machine;
use crate::report::{number, progress, table};
use crate::rows::{Bar, Row};
use crate::server::{self, Filling, Lab, Terms};
use crate::stats::{median, whole};
use crate::svg::{Axis, Line, Plot, Scale};

/// Starts with each number of grants or tenants.
const STARTS: u32 = 3;
/// How long tokens are asked for at each size.
const LOAD: Duration = Duration::from_secs(3);
/// Of a log: about what an issuance's is.
const LEAF_BYTES: usize = 400;
/// Proofs of inclusion that are made and verified in each log.
const PROOFS: u64 = 20_000;
/// Leaves that are hashed for one figure, at least: the time of a thread is told every few milliseconds.
const HASHED: u64 = 1_000_000;
/// The most grants that a bar is of.
const MILLION: u64 = 1_000_000;

/// How far each curve goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    pub(crate) grants: u64,
    pub(crate) tenants: u64,
    pub(crate) connections: u64,
    pub(crate) leaves: u64,
}

/// What was measured at each size.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    /// What grows: also the name of the picture's file.
    pub(crate) of: &'static str,
    title: &'static str,
    /// Names of the figures, each with its unit.
    figures: &'static [&'static str],
    points: Vec<(u64, Vec<f64>)>,
}

impl Curve {
    fn new(of: &'static str, title: &'static str, figures: &'static [&'static str]) -> Self {
        Self {
            of,
            title,
            figures,
            points: Vec::new(),
        }
    }

    fn add(&mut self, size: u64, values: Vec<f64>) {
        let told: Vec<String> = self
            .figures
            .iter()
            .zip(&values)
            .map(|(figure, value)| format!("{figure} {}", number(*value, 2)))
            .collect();
        progress(&format!("{size} {}: {}", self.of, told.join(", ")));
        self.points.push((size, values));
    }

    fn line(&self, figure: usize) -> Vec<(f64, f64)> {
        let value = |values: &Vec<f64>| values.get(figure).copied().unwrap_or(f64::NAN);
        let points = self.points.iter();
        points
            .map(|(size, values)| (whole(*size), value(values)))
            .collect()
    }

    fn at(&self, size: u64, figure: usize) -> Option<f64> {
        let point = self.points.iter().find(|(found, _)| *found == size)?;
        point.1.get(figure).copied()
    }

    /// For people: the figures, and by which power of the size each grew over the last step.
    pub(crate) fn table(&self) -> String {
        let mut head = vec![self.of];
        head.extend(self.figures);
        let mut lines: Vec<Vec<String>> = self
            .points
            .iter()
            .map(|(size, values)| {
                let cells = values.iter().map(|value| number(*value, 2));
                std::iter::once(size.to_string()).chain(cells).collect()
            })
            .collect();
        let powers = (0..self.figures.len()).map(|figure| number(power(&self.line(figure)), 2));
        lines.push(
            std::iter::once("grew by the power".to_owned())
                .chain(powers)
                .collect(),
        );
        format!("{}\n{}", self.title, table(&head, &lines))
    }

    /// As a picture.
    pub(crate) fn plot(&self) -> Plot {
        let lines = self.figures.iter().enumerate().map(|(index, figure)| Line {
            name: (*figure).to_owned(),
            points: self.line(index),
        });
        Plot {
            title: self.title,
            x: Axis {
                label: self.of,
                scale: Scale::Logarithmic,
            },
            y: Axis {
                label: "in its own unit",
                scale: Scale::Logarithmic,
            },
            lines: lines.collect(),
        }
    }

    /// Each figure at each size.
    fn plain(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (size, values) in &self.points {
            for (figure, value) in self.figures.iter().zip(values) {
                let (name, unit) = figure.rsplit_once(' ').unwrap_or((figure, ""));
                let name = format!("{}_{size}_{}", self.of, name.replace(' ', "_"));
                rows.push(Row::plain(&name, *value, unit, 1));
            }
        }
        rows
    }
}

/// The power of the size by which a figure grew over the last step: 0 is constant, 1 linear.
fn power(points: &[(f64, f64)]) -> f64 {
    match points {
        [.., (x1, y1), (x2, y2)] => (y2 / y1).ln() / (x2 / x1).ln(),
        _ => f64::NAN,
    }
}

/// Sizes by the power of ten, from the first to the last.
fn decades(first: u64, last: u64) -> Vec<u64> {
    std::iter::successors(Some(first), |size| size.checked_mul(10))
        .take_while(|size| *size <= last)
        .collect()
}

/// All curves, and the rows that come of them.
///
/// # Errors
/// Something can't be measured.
pub(crate) async fn measure(
    dev: &Path,
    reach: Reach,
    files: u64,
) -> anyhow::Result<(Vec<Curve>, Vec<Row>)> {
    let leaves = tokio::task::block_in_place(|| leaves(reach.leaves))?;
    let connections = Box::pin(connections(dev, fit(reach.connections, files))).await?;
    let policies = Box::pin(tenants(dev, reach.tenants, true)).await?;
    let tenants = Box::pin(tenants(dev, reach.tenants, false)).await?;
    let grants = Box::pin(grants(dev, reach.grants)).await?;
    let mut rows = promised(&grants);
    let curves = vec![grants, tenants, policies, connections, leaves];
    rows.extend(curves.iter().flat_map(Curve::plain));
    Ok((curves, rows))
}

const OF_STATE: &[&str] = &["start ms", "memory MiB", "token µs", "token p99 ms"];

async fn grants(dev: &Path, most: u64) -> anyhow::Result<Curve> {
    let title = "Grants: start, memory, and a token on any of them";
    let mut curve = Curve::new("grants", title, OF_STATE);
    for size in decades(1_000, most) {
        // A thousand tenants at most, as many as there can be.
        let filling = Filling {
            grants: size,
            tenants: size.min(1_000),
            policies: false,
        };
        curve.add(size, state(dev, filling).await?);
    }
    Ok(curve)
}

/// Tenants of 10,000 grants together, without policies or with one each.
async fn tenants(dev: &Path, most: u64, policies: bool) -> anyhow::Result<Curve> {
    let mut curve = if policies {
        let title = "Tenants with a policy each, of 10,000 grants together";
        Curve::new("policies", title, OF_STATE)
    } else {
        let title = "Tenants, of 10,000 grants together";
        Curve::new("tenants", title, OF_STATE)
    };
    for size in decades(1, most) {
        let filling = Filling {
            grants: size.max(10_000),
            tenants: size,
            policies,
        };
        curve.add(size, state(dev, filling).await?);
    }
    Ok(curve)
}

/// Starts the service on a state, and asks for tokens on all of them.
async fn state(dev: &Path, filling: Filling) -> anyhow::Result<Vec<f64>> {
    let lab = Lab::new(Terms::default())?;
    lab.fill(dev, filling).await?;
    let (mut starts_ms, mut memory_mib) = (Vec::new(), Vec::new());
    let mut last = None;
    for start in 1..=STARTS {
        let server = server::filled(dev, &lab, filling.grants).await?;
        starts_ms.push(server.start.as_secs_f64() * 1e3);
        memory_mib.push(whole(machine::memory(server.target.pid)?.rss_kib) / 1_024.0);
        if start == STARTS {
            last = Some(server);
        } else {
            server.stop().await?;
        }
    }
    let mut values = vec![median(&starts_ms), median(&memory_mib)];
    if let Some(server) = last {
        let shape = Shape {
            connections: 8,
            in_flight: 8,
        };
        let mut crew = connect(&server.target, shape, Ask::Dpop).await?;
        crew.closed(Duration::from_secs(1)).await?;
        let round = compare::measure(&mut crew, LOAD, server.target.pid, &[]).await?;
        values.extend([round.cpu_us, round.p99_ms]);
        server.stop().await?;
    }
    Ok(values)
}

async fn connections(dev: &Path, most: u64) -> anyhow::Result<Curve> {
    let title = "Connections that do nothing, beside eight that ask for tokens";
    let figures = &["memory MiB", "token µs", "token p99 ms"];
    let mut curve = Curve::new("connections", title, figures);
    let lab = Lab::new(Terms::default())?;
    let server = server::ours(dev, &lab, None).await?;
    let shape = Shape {
        connections: 8,
        in_flight: 8,
    };
    let mut crew = connect(&server.target, shape, Ask::Dpop).await?;
    crew.closed(Duration::from_secs(1)).await?;
    let mut held = Vec::new();
    for size in decades(1, most) {
        let more = size.saturating_sub(u64::try_from(held.len())?);
        held.extend(hold(&server.target, more).await?);
        let memory = machine::memory(server.target.pid)?.rss_kib;
        let round = compare::measure(&mut crew, LOAD, server.target.pid, &[]).await?;
        let values = vec![whole(memory) / 1_024.0, round.cpu_us, round.p99_ms];
        curve.add(size, values);
    }
    drop(held);
    server.stop().await?;
    Ok(curve)
}

fn leaves(most: u64) -> anyhow::Result<Curve> {
    let title = "Leaves of a log: one more, all of them verified, one proved";
    let figures = &["append ns", "verify all ms", "prove one µs"];
    let mut curve = Curve::new("leaves", title, figures);
    for size in decades(10_000, most) {
        curve.add(size, log(size, HASHED)?);
    }
    Ok(curve)
}

/// A log of so many leaves: the time of one more, of verifying all from their bytes, and of proving that a leaf is in it
/// and verifying that.
fn log(size: u64, hashed: u64) -> anyhow::Result<Vec<f64>> {
    let mut bytes = [0xa5; LEAF_BYTES];
    let mut leaf = |number: u64| -> Hash {
        if let Some(place) = bytes.first_chunk_mut::<8>() {
            *place = number.to_be_bytes();
        }
        leaf_hash(&bytes)
    };
    let mut tree = MemoryTree::new();
    let mut builder = TileBuilder::new();
    for number in 0..size {
        let hash = leaf(number);
        tree.append(hash);
        builder.append(hash)?;
    }
    let head = builder.head();

    let begun = machine::thread_cpu()?;
    for number in 0..hashed {
        builder.append(leaf(number))?;
    }
    let append = machine::thread_cpu()?.saturating_sub(begun);

    let times = hashed.div_ceil(size);
    let begun = machine::thread_cpu()?;
    for _ in 0..times {
        let mut frontier = Frontier::new();
        for number in 0..size {
            frontier.append(leaf(number))?;
        }
        anyhow::ensure!(
            frontier.root() == head.root,
            "the two ways to a root differ"
        );
    }
    let verify = machine::thread_cpu()?.saturating_sub(begun);

    let begun = machine::thread_cpu()?;
    for turn in 0..PROOFS {
        let index = turn.wrapping_mul(7_919).checked_rem(size).unwrap_or(0);
        let proof = InclusionProof::prove(&tree, index, size)?;
        proof.verify(leaf(index), index, head)?;
    }
    let prove = machine::thread_cpu()?.saturating_sub(begun);
    Ok(vec![
        append.as_secs_f64() * 1e9 / whole(hashed),
        verify.as_secs_f64() * 1e3 / whole(times),
        prove.as_secs_f64() * 1e6 / whole(PROOFS),
    ])
}

/// The rows of a million grants, if the curve goes so far.
fn promised(grants: &Curve) -> Vec<Row> {
    let runs = usize::try_from(STARTS).unwrap_or(0);
    let mut rows = Vec::new();
    if let Some(start_ms) = grants.at(MILLION, 0) {
        let bar = Bar::AtMost(15_000.0);
        rows.push(Row::against(
            "start_ms_1m_grants",
            start_ms,
            "ms",
            bar,
            runs,
        ));
    }
    if let (Some(many), Some(few)) = (grants.at(MILLION, 1), grants.at(1_000, 1)) {
        let bytes = (many - few) * 1_048_576.0 / whole(MILLION.saturating_sub(1_000));
        let bar = Bar::AtMost(2_048.0);
        rows.push(Row::against("grant_bytes", bytes, "bytes", bar, runs));
    }
    rows
}

/// Where the picture of a curve goes.
pub(crate) fn file(plots: &Path, curve: &Curve) -> PathBuf {
    plots.join(format!("growth-{}.svg", curve.of))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(u64, [f64; 4])]) -> Curve {
        let mut curve = Curve::new("grants", "t", OF_STATE);
        for (size, values) in points {
            curve.points.push((*size, values.to_vec()));
        }
        curve
    }

    #[test]
    fn constant_linear_and_worse_are_told_apart() {
        assert_eq!(power(&[(1.0, 9.0), (10.0, 5.0), (100.0, 5.0)]), 0.0);
        assert!((power(&[(10.0, 5.0), (100.0, 50.0)]) - 1.0).abs() < 1e-9);
        assert!((power(&[(10.0, 5.0), (100.0, 500.0)]) - 2.0).abs() < 1e-9);
        assert!(power(&[(10.0, 5.0)]).is_nan());
    }

    #[test]
    fn sizes_are_powers_of_ten() {
        assert_eq!(
            decades(1_000, 1_000_000),
            [1_000, 10_000, 100_000, 1_000_000]
        );
        assert_eq!(decades(1, 50), [1, 10]);
        assert!(decades(1_000, 999).is_empty());
    }

    #[test]
    fn the_rows_of_a_million_grants_need_a_million_grants() {
        let few = (1_000, [100.0, 30.0, 150.0, 9.0]);
        assert!(promised(&curve(&[few])).is_empty());
        let found = promised(&curve(&[few, (MILLION, [14_000.0, 1_630.0, 155.0, 10.0])]));
        let names: Vec<&str> = found.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["start_ms_1m_grants", "grant_bytes"]);
        assert!(found.iter().all(|row| row.met == Some(true)), "{found:?}");
        // 1,600 MiB for 999,000 grants.
        assert_eq!(found[1].value, Some(1_679.0));
    }

    #[test]
    fn each_figure_has_a_row_with_its_unit() {
        let rows = curve(&[(1_000, [100.0, 30.0, 150.0, 9.0])]).plain();
        let told: Vec<(&str, &str)> = rows
            .iter()
            .map(|row| (row.name.as_str(), row.unit.as_str()))
            .collect();
        let expected = [
            ("grants_1000_start", "ms"),
            ("grants_1000_memory", "MiB"),
            ("grants_1000_token", "µs"),
            ("grants_1000_token_p99", "ms"),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_log_is_verified_and_proved() {
        let values = log(1_000, 10_000).unwrap();
        assert_eq!(values.len(), 3);
        assert!(values.iter().all(|value| value.is_finite()), "{values:?}");
    }
}
