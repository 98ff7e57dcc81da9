//! What metrics and traces cost: the service with a scraper and a collector, beside the service without, in turns.
//!
//! Two processes of one program differ by a few percent, each as long as it lives: by where its memory lies. So each
//! round has two of its own.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use dev::ports;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::caller::{Ask, GrpcSlot, Shape, connect};
use crate::compare;
use crate::load::Crew;
use crate::report::progress;
use crate::rows::{Bar, Row};
use crate::server::{self, Lab, Observers, Server, Terms};
use crate::stats::{median, whole};

/// How often metrics are asked for: the page is made once a second at most.
const SCRAPED: Duration = Duration::from_secs(1);

/// Pairs of services in each round: the two of one pair differ by more than what is looked for.
const PAIRS: u32 = 3;

/// Before the first turn of each.
const WARM_UP: Duration = Duration::from_secs(1);

/// For so long behind a turn what it left to be done counts as well: traces are sent once a second.
const BEHIND: Duration = Duration::from_millis(1_200);

/// Most bytes of a page.
const PAGE_BYTES: u64 = 4 << 20;

/// Measures the share of the service's CPU time that metrics and traces take, as they ship: one call in 100 is traced.
///
/// # Errors
/// A service can't be measured, or nothing was scraped or collected.
pub(crate) async fn measure(
    dev: &Path,
    shape: Shape,
    rounds: u32,
    time: Duration,
) -> anyhow::Result<Vec<Row>> {
    let collector = Collector::start().await?;
    let scraped = Arc::new(AtomicU64::new(0));
    let (mut with_us, mut without_us) = (Vec::new(), Vec::new());
    let rounds = rounds.saturating_mul(PAIRS);
    for round in 1..=rounds {
        let observers = Observers {
            metrics: free_address()?,
            collector: collector.address,
        };
        // Neither is always started first.
        let order = if round % 2 == 1 {
            [Some(observers), None]
        } else {
            [None, Some(observers)]
        };
        let [first_us, second_us] = pair(dev, shape, order, time, &scraped).await?;
        let (of_with, of_without) = if round % 2 == 1 {
            (first_us, second_us)
        } else {
            (second_us, first_us)
        };
        progress(&format!(
            "observed {round} of {rounds}: {of_with:.1} µs a token, {of_without:.1} without"
        ));
        with_us.push(of_with);
        without_us.push(of_without);
    }
    let (pages, trace_bytes) = (
        scraped.load(Ordering::Relaxed),
        collector.bytes.load(Ordering::Relaxed),
    );
    if pages < u64::from(rounds) || trace_bytes == 0 {
        bail!(
            "{pages} pages of metrics and {trace_bytes} bytes of traces came: too little to say what they cost"
        );
    }
    Ok(rows(&with_us, &without_us, pages, trace_bytes))
}

/// Two services of their own, and the CPU time of a token of each, µs. The first one has the first turn and the last,
/// each a quarter of the time.
async fn pair(
    dev: &Path,
    shape: Shape,
    observers: [Option<Observers>; 2],
    time: Duration,
    scraped: &Arc<AtomicU64>,
) -> anyhow::Result<[f64; 2]> {
    let looking_on = observers.into_iter().flatten();
    let [first, second] = observers.map(|observers| {
        Lab::new(Terms {
            observers,
            ..Terms::default()
        })
    });
    let (first_lab, second_lab) = (first?, second?);
    let first = server::ours(dev, &first_lab, None).await?;
    let second = server::ours(dev, &second_lab, None).await?;
    let mut scrapers = JoinSet::new();
    for observers in looking_on {
        scrapers.spawn(scrape(observers.metrics, Arc::clone(scraped)));
    }
    let mut to_first = connect(&first.target, shape, Ask::Dpop).await?;
    let mut to_second = connect(&second.target, shape, Ask::Dpop).await?;
    to_first.closed(WARM_UP).await?;
    to_second.closed(WARM_UP).await?;
    let quarter = time.mul_f64(0.25);
    let begun = turn(&mut to_first, &first, quarter).await?;
    let of_second = [
        turn(&mut to_second, &second, quarter).await?,
        turn(&mut to_second, &second, quarter).await?,
    ];
    let of_first = [begun, turn(&mut to_first, &first, quarter).await?];
    first.stop().await?;
    second.stop().await?;
    Ok([median(&of_first), median(&of_second)])
}

async fn turn(crew: &mut Crew<GrpcSlot>, server: &Server, time: Duration) -> anyhow::Result<f64> {
    let pid = server.target.pid;
    let round = compare::measure_with(crew, time, BEHIND, pid, &[pid]).await?;
    Ok(round.cpu_us)
}

fn rows(with_us: &[f64], without_us: &[f64], pages: u64, trace_bytes: u64) -> Vec<Row> {
    let shares: Vec<f64> = with_us
        .iter()
        .zip(without_us)
        .map(|(with, without)| 100.0 * (with - without) / with)
        .collect();
    let runs = shares.len();
    let bar = Bar::AtMost(3.0);
    vec![
        Row::against("observability_cpu_share", median(&shares), "%", bar, runs),
        Row::plain("observed_cpu_us", median(with_us), "µs", runs),
        Row::plain("unobserved_cpu_us", median(without_us), "µs", runs),
        Row::plain("observed_pages", whole(pages), "count", 1),
        Row::plain("observed_trace_bytes", whole(trace_bytes), "bytes", 1),
    ]
}

/// An address that is free now, and that the system gives to nobody for a moment.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(ports::bind("metrics", ports::ANY)?.local_addr()?)
}

/// Asks for metrics again and again, and counts the pages that came.
async fn scrape(metrics: SocketAddr, scraped: Arc<AtomicU64>) {
    loop {
        if page(metrics).await.is_ok() {
            scraped.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(SCRAPED).await;
    }
}

async fn page(metrics: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(metrics).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {metrics}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(PAGE_BYTES).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    if !text.starts_with("HTTP/1.1 200 ") || !text.contains("tokenkeep_rpc_total{") {
        bail!("that is no page of metrics");
    }
    Ok(())
}

/// Takes what is sent and counts its bytes.
struct Collector {
    address: SocketAddr,
    bytes: Arc<AtomicU64>,
}

impl Collector {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let bytes = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&bytes);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                let take = service_fn(move |request| collected(request, Arc::clone(&count)));
                let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), take);
                tokio::spawn(async move { drop(serving.await) });
            }
        });
        Ok(Self { address, bytes })
    }
}

async fn collected(
    request: Request<Incoming>,
    count: Arc<AtomicU64>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if let Ok(body) = request.into_body().collect().await {
        let bytes = u64::try_from(body.to_bytes().len()).unwrap_or(u64::MAX);
        count.fetch_add(bytes, Ordering::Relaxed);
    }
    Ok(Response::new(Full::new(Bytes::from_static(b"{}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_neighbours() {
        let found = rows(&[100.0, 200.0, 103.0], &[98.0, 190.0, 100.0], 9, 7);
        let share = &found[0];
        assert_eq!(
            (share.name.as_str(), share.met),
            ("observability_cpu_share", Some(true))
        );
        assert_eq!(share.value, Some(2.913));
        let dear = rows(&[100.0], &[96.0], 1, 1);
        assert_eq!((dear[0].value, dear[0].met), (Some(4.0), Some(false)));
    }

    #[tokio::test]
    async fn whoever_speaks_of_something_else_is_no_page() {
        let collector = Collector::start().await.unwrap();
        assert!(page(collector.address).await.is_err());
    }
}
