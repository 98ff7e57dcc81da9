//! Large answers pass without being kept, and a reader that does not read slows nobody else down.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use http_body_util::BodyExt as _;
use tests::bars::{Bar, Row};
use tests::caller::Caller;
use tests::effort;
use tests::https::Streaming;
use tests::stack::{Blueprint, Stack};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use super::back_ends::Hoarder;
use super::judge;

const MIB: u64 = 1 << 20;

/// MiB of one stream: 10 GiB in a soak.
fn stream_mib() -> u64 {
    if effort::is_full() { 10 * 1024 } else { 16 }
}

fn runs() -> u32 {
    if effort::is_full() { 3 } else { 1 }
}

/// The service as it ships, in a soak.
async fn service() -> Stack {
    Stack::with_grant(Blueprint {
        release: effort::is_full(),
        ..Blueprint::default()
    })
    .await
}

/// Memory of a process, MiB.
fn resident_mib(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse().unwrap();
    kib / 1024.0
}

/// Opens a stream and reads it to its end: how many bytes it had, and how much the process grew meanwhile, MiB.
async fn growth<S>(
    process: u32,
    open: impl AsyncFnOnce() -> S,
    mut next: impl AsyncFnMut(&mut S) -> Option<u64>,
) -> (u64, f64) {
    let before = resident_mib(process);
    let mut stream = open().await;
    let (mut read, mut looked_at, mut worst) = (0, 0, 0.0_f64);
    while let Some(bytes) = next(&mut stream).await {
        read += bytes;
        if read >= looked_at {
            worst = worst.max(resident_mib(process) - before);
            looked_at = read + MIB;
        }
    }
    (read, worst)
}

async fn open(caller: &Caller, token: &str, mib: u64) -> Streaming {
    let path = format!("/stream?chunks={mib}&chunk_bytes={MIB}&interval_ms=0");
    let url = caller.url(&path);
    let nonce = caller.gateway_nonce().await;
    let htu = url.split('?').next().unwrap();
    let proof = caller.proof("GET", htu, &nonce, Some(token));
    let authorization = format!("DPoP {token}");
    let headers = [("authorization", authorization.as_str()), ("dpop", &proof)];
    let opened = caller.https.open(Method::GET, &url, &headers, "");
    let answer = Box::pin(opened).await.unwrap();
    assert_eq!(answer.response.status(), 200);
    answer
}

async fn next_bytes(answer: &mut Streaming) -> Option<u64> {
    let frame = answer.response.body_mut().frame().await?;
    Some(u64::try_from(frame.unwrap().data_ref().unwrap().len()).unwrap())
}

#[tokio::test]
async fn gateway_bar_a_large_answer_is_not_kept() {
    let stack = service().await;
    let caller = Caller::of(&stack).await;
    let process = stack.service().id();
    let mut worst: f64 = 0.0;
    for _ in 0..runs() {
        let token = caller.token().await;
        // What a connection and its buffers take, once.
        let mut first = open(&caller, &token, 2).await;
        while next_bytes(&mut first).await.is_some() {}
        let mib = stream_mib();
        let opened = async || open(&caller, &token, mib).await;
        let (read, grown) = growth(process, opened, next_bytes).await;
        assert_eq!(read, mib * MIB);
        worst = worst.max(grown);
    }
    // A short stream shows a gateway that keeps it by half of its length.
    let bar = if effort::is_full() { 32.0 } else { 8.0 };
    let row = Row {
        name: "rss_growth_mib_10gb_stream",
        value: worst,
        unit: "MiB",
        bar: Bar::AtMost(bar),
        runs: runs().into(),
        seed: 0,
    };
    judge(row, &worst);
}

#[tokio::test]
async fn gateway_bar_canary_a_server_that_keeps_what_it_passes_on_is_seen() {
    let hoarder = Hoarder::start().await;
    let mib = 64;
    let ask = async || {
        let address = ("127.0.0.1", hoarder.port);
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /{mib} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };
    let mut buffer = vec![0; 64 * 1024];
    let (read, grown) = growth(hoarder.process.id(), ask, async |stream: &mut TcpStream| {
        let bytes = stream.read(&mut buffer).await.unwrap();
        (bytes > 0).then(|| u64::try_from(bytes).unwrap())
    })
    .await;
    assert!(read > mib * MIB);
    assert!(grown > 32.0, "it has grown by {grown} MiB");
}

#[expect(clippy::disallowed_methods, reason = "a test times what it waits for")]
fn now() -> Instant {
    Instant::now()
}

/// Times of calls one after another.
async fn times(calls: usize, mut call: impl AsyncFnMut() -> bool) -> Vec<Duration> {
    let mut times = Vec::new();
    while times.len() < calls {
        let begun = now();
        if call().await {
            times.push(begun.elapsed());
        }
    }
    times
}

/// The time that so many of 100 do not exceed, s.
fn percentile_s(times: &mut [Duration], of_100: usize) -> f64 {
    times.sort_unstable();
    let at = (times.len() * of_100).div_ceil(100).saturating_sub(1);
    times[at].as_secs_f64()
}

/// How much slower calls are beside slow readers than alone, taking turns, so that what else the machine does falls on
/// both.
async fn slowdown<S>(
    (turns, calls, of_100): (usize, usize, usize),
    mut call: impl AsyncFnMut() -> bool,
    mut slow_readers: impl AsyncFnMut() -> S,
    mut still_slow: impl AsyncFnMut(S),
) -> f64 {
    // Caches, and pages of the program.
    times(10, &mut call).await;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        alone.extend(times(calls, &mut call).await);
        let readers = slow_readers().await;
        beside.extend(times(calls, &mut call).await);
        still_slow(readers).await;
    }
    percentile_s(&mut beside, of_100) / percentile_s(&mut alone, of_100)
}

/// A call that counts, or none: the client's rate says when to come back.
async fn contacts(caller: &Caller, token: &str, nonce: &str) -> bool {
    let called = caller.try_call(Method::GET, "/contacts", token, nonce);
    let reply = Box::pin(called).await.unwrap();
    if reply.status == 429 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        return false;
    }
    assert_eq!(reply.status, 200);
    true
}

#[tokio::test]
async fn gateway_bar_a_slow_reader_slows_nobody_else_down() {
    // The slowest of a few calls on a busy machine says nothing: on every day half of them are held to a loose bar.
    let (effort, bar) = if effort::is_full() {
        ((8, 100, 99), 2.0)
    } else {
        ((1, 30, 50), 20.0)
    };
    let stack = service().await;
    let caller = Caller::of(&stack).await;
    let mut worst: f64 = 0.0;
    for _ in 0..runs() {
        let token = caller.token().await;
        let nonce = caller.gateway_nonce().await;
        let slow_readers = async || {
            let mut slow = Vec::new();
            for _ in 0..16 {
                slow.push(open(&caller, &token, 10_000).await);
            }
            slow
        };
        // They were held up all the time, not over.
        let still_slow = async |mut slow: Vec<Streaming>| {
            for reader in &mut slow {
                assert!(next_bytes(reader).await.is_some());
            }
        };
        let call = async || contacts(&caller, &token, &nonce).await;
        let ratio = slowdown(effort, call, slow_readers, still_slow).await;
        worst = worst.max(ratio);
    }
    let row = Row {
        name: "slow_reader_other_p99_ratio",
        value: worst,
        unit: "ratio",
        bar: Bar::AtMost(bar),
        runs: runs().into(),
        seed: 0,
    };
    judge(row, &worst);
}

/// A server that has one buffer for all: whoever does not read holds it for a while.
async fn one_buffer_for_all() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let buffer = Arc::new(Mutex::new(vec![0; 1 << 20]));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let buffer = Arc::clone(&buffer);
            tokio::spawn(async move {
                let quick = stream.read_u8().await? == b'1';
                loop {
                    let buffer = buffer.lock().await;
                    if quick {
                        return stream.write_all(&buffer[..1]).await;
                    }
                    let written = stream.write_all(&buffer);
                    if let Ok(failed) =
                        tokio::time::timeout(Duration::from_millis(20), written).await
                    {
                        failed?;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn gateway_bar_canary_a_slow_reader_that_holds_others_up_is_seen() {
    let port = one_buffer_for_all().await;
    let ask = async |what: u8| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_u8(what).await.unwrap();
        stream
    };
    let call = async || ask(b'1').await.read_u8().await.is_ok();
    let slow_readers = async || {
        let mut slow = Vec::new();
        for _ in 0..16 {
            slow.push(ask(b'*').await);
        }
        // The buffer is held when the first of them gets something.
        for reader in &mut slow {
            reader.readable().await.unwrap();
        }
        slow
    };
    let still_slow = async |slow: Vec<TcpStream>| drop(slow);
    let ratio = slowdown((1, 30, 99), call, slow_readers, still_slow).await;
    assert!(ratio > 2.0, "{ratio}");
}
