//! No shape of a request is two to what is behind the gateway, and none of the client's credentials get there.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a failed test may panic"
)]

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tests::caller::{Caller, DPOP};
use tests::effort;
use tests::stack::Stack;
use tests::targets;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::back_ends::{BackEnd, Seen};
use super::shapes::{self, CANARY};
use super::shapes_h2::{self, NEXT, STREAM, Valid};
use super::{frames, judge_none};

/// How long a server may think before it is taken to wait for more.
const SILENCE: Duration = Duration::from_millis(300);

/// Shapes that are tried at a time.
const WORKERS: usize = 8;

/// Of a token and a nonce.
const CALLS: usize = 40;

/// What a campaign against one back end came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    smuggled: Vec<String>,
    desync: Vec<String>,
    credentials: Vec<String>,
}

/// One in so many shapes on a day like any other.
fn every() -> usize {
    if effort::is_full() { 1 } else { 12 }
}

/// A shape of either version of HTTP.
enum Shape {
    Http1(shapes::Shape),
    Http2(shapes_h2::Shape),
}

impl Shape {
    fn name(&self) -> &str {
        match self {
            Self::Http1(shape) => &shape.name,
            Self::Http2(shape) => &shape.name,
        }
    }

    fn method(&self) -> &'static str {
        match self {
            Self::Http1(shape) => shape.method,
            Self::Http2(shape) => shape.method,
        }
    }
}

fn all_shapes() -> Vec<Shape> {
    let http1 = shapes::all().into_iter().map(Shape::Http1);
    http1
        .chain(shapes_h2::all().into_iter().map(Shape::Http2))
        .collect()
}

/// Reads what was seen: second requests, what was no request at all, and credentials of the client.
fn judge(seen: &[Seen], credential: &str) -> Verdict {
    let mut verdict = Verdict::default();
    for one in seen {
        let line = format!("{} {} {}", one.status, one.target, one.head);
        if one.target.contains("/smuggled/") || one.head.contains("/smuggled/") {
            verdict.smuggled.push(line.clone());
        }
        // What is none of the requests that were meant. One that broke off is logged with its own target.
        let meant = ["/api/in/", "/api/next/", "/api/probe/"];
        if !meant.iter().any(|prefix| one.target.starts_with(prefix)) {
            verdict.desync.push(line.clone());
        }
        let dpop = one.head.contains("DPoP ") || one.head.contains("dpop+jwt");
        if one.head.contains(CANARY) || one.head.contains(credential) || dpop {
            verdict.credentials.push(line);
        }
    }
    let mut targets: Vec<&str> = seen.iter().map(|one| one.target.as_str()).collect();
    targets.retain(|target| !target.is_empty());
    targets.sort_unstable();
    for pair in targets.windows(2) {
        // A request that arrives twice is one that was smuggled too.
        if let [one, other] = pair
            && one == other
        {
            verdict.smuggled.push(format!("{one} came twice"));
        }
    }
    verdict
}

/// Writes, and reads until there is silence or an end; says whether there was an end.
async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    bytes: &[u8],
    read: &mut Vec<u8>,
) -> bool {
    // A server may refuse before it has read all.
    drop(stream.write_all(bytes).await);
    drop(stream.flush().await);
    loop {
        match timeout(SILENCE, stream.read_buf(read)).await {
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) => {}
            Err(_silent) => return false,
        }
    }
}

fn request(shape: &shapes::Shape, path: &str, host: &str, credentials: &str) -> Vec<u8> {
    let shapes::Shape {
        name: _,
        method,
        target,
        version,
        lines,
        body,
    } = shape;
    let target = target.replace("{p}", path).replace("{h}", host);
    format!("{method} {target} {version}\r\nHost: {host}\r\n{credentials}{lines}\r\n{body}")
        .into_bytes()
}

/// Sends shapes through the gateway.
struct Front {
    caller: Caller,
    origin: String,
    token: String,
    nonce: String,
}

impl Front {
    fn host(&self) -> &str {
        self.origin.strip_prefix("https://").unwrap()
    }

    async fn refresh(&mut self) {
        self.token = self.caller.token().await;
        self.nonce = self.caller.gateway_nonce().await;
    }

    /// The path at the gateway, and a proof for it.
    fn proved(&self, method: &str, path: &str) -> (String, String) {
        let url = self.caller.url(path);
        let proof = self
            .caller
            .proof(method, &url, &self.nonce, Some(&self.token));
        (url.strip_prefix(&self.origin).unwrap().to_owned(), proof)
    }

    fn valid(&self, method: &'static str, path: &str) -> Valid {
        let (path, proof) = self.proved(method, path);
        let authorization = format!("DPoP {}", self.token);
        Valid {
            method,
            authority: self.host().to_owned(),
            path,
            credentials: vec![
                frames::field("authorization", &authorization),
                frames::field(DPOP, &proof),
            ],
        }
    }

    fn lines(&self, proof: &str) -> String {
        format!("Authorization: DPoP {}\r\nDPoP: {proof}\r\n", self.token)
    }

    /// A shape, then an honest request on the same connection. What answers were another's.
    async fn http1(&self, number: usize, shape: &shapes::Shape) -> Option<String> {
        let (path, proof) = self.proved(shape.method, &format!("/in/{number}"));
        let bytes = request(shape, &path, self.host(), &self.lines(&proof));
        let mut stream = self.caller.https.connect(&self.origin).await.unwrap();
        let mut read = Vec::new();
        if !exchange(&mut stream, &bytes, &mut read).await {
            let (path, proof) = self.proved("GET", &format!("/next/{number}"));
            let (host, lines) = (self.host(), self.lines(&proof));
            let next =
                format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{lines}Connection: close\r\n\r\n");
            if !exchange(&mut stream, next.as_bytes(), &mut read).await {
                // It waits for more of a body: there is no more.
                drop(stream.shutdown().await);
                exchange(&mut stream, &[], &mut read).await;
            }
        }
        let text = String::from_utf8_lossy(&read).into_owned();
        // The back ends answer with the target that they were asked for.
        let mut own = vec![format!("/api/next/{number}"), format!("/api/in/{number}")];
        let strange = text.lines().any(|line| {
            let path = line.split('?').next().unwrap_or_default();
            line.starts_with("/api/") && own.pop_if_is(path).is_none()
        });
        strange.then_some(text)
    }

    /// The same in HTTP/2: the honest request is on a stream of its own.
    async fn http2(&self, number: usize, shape: &shapes_h2::Shape) -> Option<String> {
        let valid = self.valid(shape.method, &format!("/in/{number}"));
        let mut bytes = frames::preface();
        bytes.extend(shape.frames(valid));
        let mut stream = self.caller.https.connect_h2(&self.origin).await.unwrap();
        let mut read = Vec::new();
        if !exchange(&mut stream, &bytes, &mut read).await {
            let mut next = frames::frame(frames::SETTINGS, 1, 0, &[]);
            let valid = self.valid("GET", &format!("/next/{number}"));
            next.extend(valid.plain(NEXT));
            exchange(&mut stream, &next, &mut read).await;
        }
        let bodies = frames::bodies(&read);
        let strange = bodies.iter().any(|(stream, body)| {
            let own = match *stream {
                STREAM => format!("/api/in/{number}\n"),
                NEXT => format!("/api/next/{number}\n"),
                _ => String::new(),
            };
            body.contains("/api/") && *body != own
        });
        strange.then(|| format!("{bodies:?}"))
    }

    /// The next one, on a connection of its own, gets its own answer.
    async fn probe(&self, number: usize) -> Option<String> {
        let probe = format!("/probe/{number}");
        let called = self
            .caller
            .try_call(Method::GET, &probe, &self.token, &self.nonce);
        let reply = Box::pin(called).await.unwrap();
        let own = reply.status == 200 && *reply.body == *format!("/api{probe}\n").as_bytes();
        (!own).then(|| format!("{} {:?}", reply.status, reply.body))
    }
}

trait PopIfIs {
    /// Takes what is next, or the one behind it, if it is this.
    fn pop_if_is(&mut self, line: &str) -> Option<()>;
}

impl PopIfIs for Vec<String> {
    fn pop_if_is(&mut self, line: &str) -> Option<()> {
        // The first may have been refused, not the order changed.
        let at = self.iter().rposition(|own| own == line)?;
        self.truncate(at);
        Some(())
    }
}

/// One in so many of the shapes, and whose answers were another's.
async fn work(mut front: Front, shapes: Arc<Vec<Shape>>, mine: Vec<usize>) -> Vec<String> {
    let mut strange = Vec::new();
    for (done, number) in mine.into_iter().enumerate() {
        if done % CALLS == 0 {
            front.refresh().await;
        }
        let shape = shapes.get(number).unwrap();
        let answer = match shape {
            Shape::Http1(shape) => Box::pin(front.http1(number, shape)).await,
            Shape::Http2(shape) => Box::pin(front.http2(number, shape)).await,
        };
        let probe = Box::pin(front.probe(number)).await;
        for found in [answer, probe].into_iter().flatten() {
            strange.push(format!("{}: {found}", shape.name()));
        }
    }
    strange
}

/// Sends the shapes through the gateway to one back end.
async fn through_gateway(stack: &Stack, back_end: &BackEnd) -> (Verdict, usize) {
    let base_url = format!("{}/api", back_end.url);
    targets::add(stack, back_end.name, targets::whole(&base_url), &[]).await;
    let caller = Caller::of(stack).await.at(back_end.name);
    let shapes = Arc::new(all_shapes());
    let tried: Vec<usize> = (0..shapes.len()).step_by(every()).collect();
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let front = Front {
            caller: caller.at(back_end.name),
            origin: stack.url("gateway_url").to_owned(),
            token: String::new(),
            nonce: String::new(),
        };
        let mine = tried
            .iter()
            .copied()
            .skip(worker)
            .step_by(WORKERS)
            .collect();
        workers.spawn(work(front, Arc::clone(&shapes), mine));
    }
    let strange: Vec<String> = workers.join_all().await.into_iter().flatten().collect();
    // Everything is written down when a last probe is.
    let token = caller.token().await;
    let last = caller.call(Method::GET, "/probe/last", &token).await;
    assert_eq!(last.status, 200);
    back_end.wait_for("/api/probe/last").await;
    let seen = back_end.seen();
    // What a token of ours, or a proof, begins with.
    let mut verdict = judge(&seen, "eyJ");
    verdict.desync.extend(strange);
    let reached = |prefix: &str| {
        let of = seen.iter().filter(|one| one.target.starts_with(prefix));
        of.count()
    };
    assert!(
        reached("/api/in/") > tried.len() / 10 && reached("/api/next/") > 0,
        "{} was hardly reached: {} {}",
        back_end.name,
        reached("/api/in/"),
        reached("/api/next/")
    );
    (verdict, tried.len())
}

#[tokio::test]
async fn gateway_bar_no_request_is_two_to_a_back_end() {
    let stack = Stack::start(Default::default()).await;
    let mut all = Verdict::default();
    let mut runs = 0;
    for back_end in [BackEnd::nginx().await, BackEnd::node().await] {
        let (verdict, tried) = Box::pin(through_gateway(&stack, &back_end)).await;
        all.smuggled.extend(verdict.smuggled);
        all.desync.extend(verdict.desync);
        all.credentials.extend(verdict.credentials);
        runs += tried;
    }
    let rows = [
        ("smuggled_second_requests", &all.smuggled),
        ("desync", &all.desync),
        ("client_credentials_forwarded", &all.credentials),
    ];
    for (name, found) in rows {
        judge_none(name, "count", found, runs);
    }
}

/// A proxy that passes on what it gets as it is, credentials and all; from HTTP/2 by writing what it read.
async fn passed_on_as_it_is(back_end: &BackEnd, shapes: &[Shape]) -> Verdict {
    let address = back_end.url.strip_prefix("http://").unwrap();
    let mut tasks = JoinSet::new();
    for (number, shape) in shapes.iter().enumerate() {
        let path = format!("/api/in/{number}");
        let bytes = match shape {
            Shape::Http1(shape) => {
                let credentials = "Authorization: DPoP eyJ\r\n";
                request(shape, &path, "api.example", credentials)
            }
            Shape::Http2(of) => frames::as_http1(&of.frames(Valid {
                method: shape.method(),
                authority: "api.example".to_owned(),
                path,
                credentials: vec![frames::field("authorization", "DPoP eyJ")],
            })),
        };
        let address = address.to_owned();
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            exchange(&mut stream, &bytes, &mut Vec::new()).await;
        });
    }
    tasks.join_all().await;
    let mut last = TcpStream::connect(address).await.unwrap();
    let bytes = b"GET /api/probe/last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    exchange(&mut last, bytes, &mut Vec::new()).await;
    back_end.wait_for("/api/probe/last").await;
    judge(&back_end.seen(), "eyJ")
}

#[tokio::test]
async fn gateway_bar_canary_a_proxy_that_rebuilds_nothing_is_found_out() {
    let (http1, http2): (Vec<Shape>, Vec<Shape>) = all_shapes()
        .into_iter()
        .partition(|shape| matches!(shape, Shape::Http1(_)));
    for shapes in [http1, http2] {
        for back_end in [BackEnd::nginx().await, BackEnd::node().await] {
            let verdict = passed_on_as_it_is(&back_end, &shapes).await;
            let Verdict {
                smuggled,
                desync,
                credentials,
            } = &verdict;
            let found = [smuggled.len(), desync.len(), credentials.len()];
            assert!(
                found.iter().all(|of| *of > 10),
                "{}: {found:?}",
                back_end.name
            );
        }
    }
}
