//! What a call through the gateway costs beside nginx as a reverse proxy, TLS on both sides, in the same run: CPU time
//! of the process for each call, and the time that is added at half of what the gateway can take.
//!
//! `cargo bench --package tokenkeep-tests --bench gateway -- FILE` writes the rows to a file and ends with 1 if a bar
//! is not met. The service of the release profile must be built, and `scripts/nginx.sh` have run.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench reads the clock and prints, and ends at the first surprise"
)]

use std::fs::{self, OpenOptions};
use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use testkit::pki::loopback_certificate;
use tests::caller::{Caller, DPOP};
use tests::https::Https;
use tests::nginx::Nginx;
use tests::stack::{Blueprint, Stack};
use tests::targets;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

/// The gateway's CPU time over nginx's, in the time of the token's and the proof's own cryptography.
const CPU_BAR: f64 = 1.5;
/// What may be added at p99: this, and twice the p99 of an `fdatasync` of the same run.
const ADDED_BAR_MS: f64 = 5.0;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
/// One call at a time on each.
const CONNECTIONS: usize = 16;

/// What the API answers.
const ANSWER: &str = r#"{"contacts":[{"id":1,"name":"Ada Lovelace","email":"ada@example.com"},{"id":2,"name":"Alan Turing","email":"alan@example.com"}],"next":null}"#;

/// A server that is measured.
#[derive(Clone)]
struct Subject {
    https: Https,
    origin: String,
    path: String,
    process: u32,
}

/// What a client shows with each call; nginx gets the same.
struct Client {
    caller: Caller,
    token: String,
    nonce: String,
}

impl Client {
    async fn new(caller: Caller) -> Self {
        Self {
            token: caller.token().await,
            nonce: caller.gateway_nonce().await,
            caller,
        }
    }

    fn request(&self, subject: &Subject) -> Request<Empty<Bytes>> {
        let htu = self.caller.url("/contacts");
        let proof = self
            .caller
            .proof("GET", &htu, &self.nonce, Some(&self.token));
        Request::get(&subject.path)
            .header(header::HOST, subject.origin.trim_start_matches("https://"))
            .header(header::AUTHORIZATION, format!("DPoP {}", self.token))
            .header(DPOP, proof)
            .header(header::ACCEPT, "application/json")
            .body(Empty::new())
            .unwrap()
    }
}

struct Connection(http1::SendRequest<Empty<Bytes>>);

impl Connection {
    async fn open(subject: &Subject) -> Self {
        let stream = subject.https.connect(&subject.origin).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn call(&mut self, request: Request<Empty<Bytes>>) {
        let answer = self.0.send_request(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!((status.as_u16(), &*body), (200, ANSWER.as_bytes()));
        self.0.ready().await.unwrap();
    }
}

/// User and system time of a process.
fn cpu(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // utime and stime, in ticks of 10 ms [proc(5)].
    let fields = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}

/// As fast as it goes: CPU time for each call in µs, and calls in a second.
async fn flat_out(subject: &Subject, client: &Arc<Client>, time: Duration) -> (f64, f64) {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(subject).await);
    }
    let (begun, before) = (Instant::now(), cpu(subject.process));
    let mut callers = JoinSet::new();
    for mut connection in connections {
        let (subject, client) = (subject.clone(), Arc::clone(client));
        callers.spawn(async move {
            let mut calls = 0_u32;
            while begun.elapsed() < time {
                connection.call(client.request(&subject)).await;
                calls += 1;
            }
            calls
        });
    }
    let calls: u32 = callers.join_all().await.iter().sum();
    let spent = cpu(subject.process) - before;
    let calls = f64::from(calls);
    (
        spent.as_secs_f64() * 1e6 / calls,
        calls / begun.elapsed().as_secs_f64(),
    )
}

/// At a fixed rate, whether or not earlier calls are over: the p99 of a call's time from when it was due, ms.
async fn at_rate(subject: &Subject, client: &Arc<Client>, per_s: f64) -> f64 {
    let (due, queue) = mpsc::unbounded_channel::<Instant>();
    let queue = Arc::new(Mutex::new(queue));
    let mut callers = JoinSet::new();
    for _ in 0..CONNECTIONS * 2 {
        let mut connection = Connection::open(subject).await;
        let (subject, client) = (subject.clone(), Arc::clone(client));
        let queue = Arc::clone(&queue);
        callers.spawn(async move {
            let mut times = Vec::new();
            loop {
                let next = queue.lock().await.recv().await;
                let Some(due) = next else {
                    return times;
                };
                connection.call(client.request(&subject)).await;
                times.push(due.elapsed());
            }
        });
    }
    let begun = Instant::now();
    let calls = (per_s * ROUND.as_secs_f64()) as u32;
    let mut sent = 0;
    while sent < calls {
        let at = begun + Duration::from_secs_f64(f64::from(sent) / per_s);
        tokio::time::sleep_until(at.into()).await;
        due.send(at).unwrap();
        sent += 1;
    }
    drop(due);
    let times = callers.join_all().await.into_iter().flatten();
    p99_ms(times.collect())
}

fn p99_ms(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let at = (times.len() * 99).div_ceil(100).saturating_sub(1);
    times.get(at).unwrap().as_secs_f64() * 1e3
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    *values.get(values.len() / 2).unwrap()
}

/// CPU time of this thread.
fn own_cpu() -> Duration {
    let told = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(told.split(' ').next().unwrap().parse().unwrap())
}

/// CPU time of what no gateway can do without: the signatures of a token and a proof of these lengths, and the token's
/// digest; µs.
fn cryptography_us(token: &str, proof: &str) -> f64 {
    const TIMES: u32 = 300;
    let rng = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &rng);
    let pair = pair.unwrap();
    let signed = [token, proof].map(|text| {
        let text = text.rsplit_once('.').unwrap().0.as_bytes().to_vec();
        let signature = pair.sign(&rng, &text).unwrap();
        (text, signature)
    });
    let before = own_cpu();
    for _ in 0..TIMES {
        for (text, signature) in &signed {
            let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref());
            key.verify(black_box(text), signature.as_ref()).unwrap();
        }
        black_box(digest(&SHA256, token.as_bytes()));
    }
    (own_cpu() - before).as_secs_f64() * 1e6 / f64::from(TIMES)
}

/// Times of `fdatasync` after a small append, where the service's state lies.
fn syncs(dir: &Path) -> Vec<Duration> {
    let path = dir.join("bench");
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let mut file = file.unwrap();
    let times = (0..200).map(|_| {
        file.write_all(&[7; 2_048]).unwrap();
        let begun = Instant::now();
        file.sync_data().unwrap();
        begun.elapsed()
    });
    let times = times.collect();
    fs::remove_file(path).unwrap();
    times
}

async fn api(certificate: &str, key: &str) -> Nginx {
    let files = [
        ("api.pem", certificate.as_bytes()),
        ("api.key", key.as_bytes()),
    ];
    Nginx::start(&files, |dir, port| {
        let dir = dir.display();
        format!(
            r#"
    access_log off;
    keepalive_requests 1000000;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {dir}/api.pem;
        ssl_certificate_key {dir}/api.key;
        ssl_protocols TLSv1.3;
        default_type application/json;
        location / {{ return 200 '{ANSWER}'; }}
    }}
"#
        )
    })
    .await
}

/// nginx as one would have it before that API: connections to it kept, its certificate checked, a bearer put in, each
/// call logged.
async fn reverse_proxy(api: &Nginx, certificate: &str, key: &str) -> Nginx {
    let files = [
        ("front.pem", certificate.as_bytes()),
        ("front.key", key.as_bytes()),
    ];
    let (api, trusted) = (api.port, api.file("api.pem"));
    Nginx::start(&files, move |dir, port| {
        let (dir, trusted) = (dir.display(), trusted.display());
        format!(
            r#"
    access_log {dir}/access.log;
    keepalive_requests 1000000;
    upstream api {{
        server 127.0.0.1:{api};
        keepalive 64;
        keepalive_requests 1000000;
    }}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {dir}/front.pem;
        ssl_certificate_key {dir}/front.key;
        ssl_protocols TLSv1.3;
        location / {{
            proxy_pass https://api;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Authorization "Bearer of-the-provider";
            proxy_set_header DPoP "";
            proxy_ssl_protocols TLSv1.3;
            proxy_ssl_verify on;
            proxy_ssl_name localhost;
            proxy_ssl_trusted_certificate {trusted};
        }}
    }}
"#
        )
    })
    .await
}

struct Row {
    name: &'static str,
    value: f64,
    unit: &'static str,
    bar: Option<f64>,
}

impl Row {
    fn is_met(&self) -> bool {
        self.bar.is_none_or(|bar| self.value <= bar)
    }

    fn print(&self) {
        let Self {
            name, value, unit, ..
        } = self;
        match self.bar {
            None => println!("{name} = {value:.2} {unit}"),
            Some(bar) => {
                let word = if self.is_met() { "met" } else { "NOT MET" };
                println!("{name} = {value:.2} {unit} (bar <= {bar:.2}): {word}");
            }
        }
    }

    fn json(&self) -> Value {
        let rounded = |value: f64| (value * 1_000.0).round() / 1_000.0;
        json!({
            "name": self.name,
            "value": rounded(self.value),
            "unit": self.unit,
            "bar": self.bar.map(|bar| format!("<= {}", rounded(bar))),
            "met": self.bar.map(|_| self.is_met()),
            "runs": ROUNDS,
        })
    }
}

fn plain(name: &'static str, value: f64, unit: &'static str) -> Row {
    Row {
        name,
        value,
        unit,
        bar: None,
    }
}

async fn measure() -> Vec<Row> {
    let (api_pem, api_key) = loopback_certificate().unwrap();
    let (front_pem, front_key) = loopback_certificate().unwrap();
    let api = api(&api_pem, api_key.expose_secret()).await;
    let nginx = reverse_proxy(&api, &front_pem, front_key.expose_secret()).await;
    let manifest = format!("[tls]\nwebpki_roots = false\nroots_pem = [\"\"\"\n{api_pem}\"\"\"]\n");
    let stack = Stack::start(Blueprint {
        manifest: manifest.leak(),
        release: true,
        ..Blueprint::default()
    })
    .await;
    let base_url = format!("https://127.0.0.1:{}/api", api.port);
    targets::add(&stack, "bench", targets::whole(&base_url), &[]).await;
    let caller = Caller::of(&stack).await.at("bench");
    let front = CertificateDer::from_pem_slice(front_pem.as_bytes()).unwrap();
    let origin = stack.url("gateway_url").to_owned();
    let url = caller.url("/contacts");
    let gateway = Subject {
        https: caller.https.clone(),
        path: url.strip_prefix(&origin).unwrap().to_owned(),
        origin,
        process: stack.service().id(),
    };
    let nginx_subject = Subject {
        https: Https::trusting(&front),
        origin: format!("https://127.0.0.1:{}", nginx.port),
        path: gateway.path.clone(),
        process: nginx.process.id(),
    };
    let fresh = async || Arc::new(Client::new(caller.at("bench")).await);

    let client = fresh().await;
    // Caches, and pages of the programs.
    for subject in [&gateway, &nginx_subject] {
        flat_out(subject, &client, Duration::from_secs(1)).await;
    }
    let proof = caller.proof("GET", &url, &client.nonce, Some(&client.token));
    let (mut of_gateway, mut of_nginx, mut over) = (Vec::new(), Vec::new(), Vec::new());
    let (mut rates, mut nginx_rates, mut crypto) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let client = fresh().await;
        let (ours, rate) = flat_out(&gateway, &client, ROUND).await;
        let (theirs, nginx_rate) = flat_out(&nginx_subject, &client, ROUND).await;
        let own = cryptography_us(&client.token, &proof);
        println!(
            "round {round} of {ROUNDS}: {ours:.0} µs a call against {theirs:.0}, cryptography {own:.0}; {rate:.0} \
             calls a second against {nginx_rate:.0}"
        );
        of_gateway.push(ours);
        of_nginx.push(theirs);
        // Each pair was measured back to back.
        over.push(ours - theirs);
        rates.push(rate);
        nginx_rates.push(nginx_rate);
        crypto.push(own);
    }
    let rate = median(&rates) / 2.0;
    let (mut ours_ms, mut theirs_ms, mut added, mut sync_times) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let client = fresh().await;
        let ours = at_rate(&gateway, &client, rate).await;
        let theirs = at_rate(&nginx_subject, &client, rate).await;
        sync_times.extend(syncs(&stack.state()));
        println!(
            "round {round} of {ROUNDS} at {rate:.0} calls a second: p99 {ours:.2} ms against {theirs:.2}"
        );
        ours_ms.push(ours);
        theirs_ms.push(theirs);
        added.push(ours - theirs);
    }
    let sync_ms = p99_ms(sync_times);
    vec![
        Row {
            name: "gateway_cpu_over_nginx_us",
            value: median(&over),
            unit: "µs",
            bar: Some(CPU_BAR * median(&crypto)),
        },
        Row {
            name: "gateway_p99_added_ms",
            value: median(&added),
            unit: "ms",
            bar: Some(2.0_f64.mul_add(sync_ms, ADDED_BAR_MS)),
        },
        plain("gateway_cpu_us", median(&of_gateway), "µs"),
        plain("nginx_cpu_us", median(&of_nginx), "µs"),
        plain("token_and_proof_cryptography_us", median(&crypto), "µs"),
        plain("gateway_calls_per_s", median(&rates), "1/s"),
        plain("nginx_calls_per_s", median(&nginx_rates), "1/s"),
        plain("gateway_p99_ms", median(&ours_ms), "ms"),
        plain("nginx_p99_ms", median(&theirs_ms), "ms"),
        plain("fdatasync_p99_ms", sync_ms, "ms"),
    ]
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let rows = runtime.block_on(measure());
    for row in &rows {
        row.print();
    }
    if let Some(file) = std::env::args().skip(1).find(|word| !word.starts_with('-')) {
        let file = Path::new(&file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        fs::write(file, serde_json::to_vec_pretty(&rows).unwrap()).unwrap();
    }
    if !rows.iter().all(Row::is_met) {
        std::process::exit(1);
    }
}
