//! Servers behind the gateway that write down what they were sent: nginx and Node as they are, and a plain recorder.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a back end that does not come up fails the test"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;
use testkit::node::NodeEnv;
use tests::nginx::Nginx;
use tests::process::Process;
use tests::wait::wait_for;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// One request as a back end understood it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its target; empty for what was no request.
    pub(super) target: String,
    /// What it was answered with.
    pub(super) status: u16,
    /// All of its head that the back end tells, credentials included.
    pub(super) head: String,
}

/// A real server that logs each request.
pub(super) struct BackEnd {
    pub(super) name: &'static str,
    pub(super) url: String,
    log: PathBuf,
    _running: Box<dyn Send + Sync>,
}

impl BackEnd {
    /// nginx, which answers everything and logs it.
    pub(super) async fn nginx() -> Self {
        let files = [("seen.js", NGINX_HEADERS.as_bytes())];
        let nginx = Nginx::start(&files, nginx_conf).await;
        Self {
            name: "nginx",
            url: format!("http://127.0.0.1:{}", nginx.port),
            log: nginx.file("access.log"),
            _running: Box::new(nginx),
        }
    }

    /// Node's HTTP server.
    pub(super) async fn node() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("requests.log");
        let node = NodeEnv::from_env().unwrap();
        let script = node.dir.join("back-end.mjs").display().to_string();
        let log_text = log.display().to_string();
        let arguments = [script.as_str(), &log_text];
        let mut process = Process::start(&node.node, &arguments, folder.path(), "node");
        let ready = process.ready().await.unwrap();
        Self {
            name: "node",
            url: format!("http://127.0.0.1:{}", ready["port"]),
            log,
            _running: Box::new((process, folder)),
        }
    }

    /// Waits until it has seen a request for a target, and so all that came before.
    pub(super) async fn wait_for(&self, target: &str) {
        let what = format!("{} sees {target}", self.name);
        wait_for(&what, async || {
            let seen = self.seen();
            seen.iter().any(|one| one.target == target).then_some(())
        })
        .await;
    }

    /// What it has seen so far, but for `/ready`.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        // A line that is being written has no end yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(seen_of).collect()
    }
}

/// A server that makes all of its answer before it writes the first of it.
pub(super) struct Hoarder {
    pub(super) port: u16,
    pub(super) process: Process,
    _folder: TempDir,
}

impl Hoarder {
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let node = NodeEnv::from_env().unwrap();
        let script = node.dir.join("hoarder.mjs").display().to_string();
        let mut process = Process::start(&node.node, &[&script], folder.path(), "hoarder");
        let ready = process.ready().await.unwrap();
        Self {
            port: u16::try_from(ready["port"].as_u64().unwrap()).unwrap(),
            process,
            _folder: folder,
        }
    }
}

fn seen_of(line: &str) -> Seen {
    let line: Value = serde_json::from_str(line).unwrap();
    let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let request = text("request");
    Seen {
        target: request.split(' ').nth(1).unwrap_or_default().to_owned(),
        status: text("status").parse().unwrap_or_default(),
        head: line.to_string(),
    }
}

/// All headers of a request, as they came.
const NGINX_HEADERS: &str = "export default { headers: (r) => r.rawHeadersIn.map((pair) => pair.join(': ')).join('; ') };\n";

/// Keep-alive as any back end has it, and as forgiving as it can be.
fn nginx_conf(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        r#"
    js_path {dir};
    js_import seen from seen.js;
    js_set $headers seen.headers;
    log_format seen escape=json '{{"request":"$request","status":"$status","headers":"$headers",'
        '"bytes":"$request_length"}}';
    access_log {dir}/access.log seen;
    underscores_in_headers on;
    ignore_invalid_headers off;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 200 "$request_uri\n"; }}
    }}
"#
    )
}

/// A server that answers each request and keeps the target as it was sent, byte by byte.
pub(super) struct Recorder {
    pub(super) url: String,
    targets: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let targets = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&targets);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                        if stream.read_buf(&mut head).await.unwrap_or_default() == 0 {
                            return;
                        }
                    }
                    let text = String::from_utf8_lossy(&head).into_owned();
                    let line = text.lines().next().unwrap_or_default();
                    let target = line.split_once(' ').map_or("", |(_method, target)| target);
                    let target = target
                        .rsplit_once(" HTTP/")
                        .map_or(target, |(target, _)| target);
                    kept.lock().push(target.to_owned());
                    let answer =
                        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                    drop(stream.write_all(answer.as_bytes()).await);
                });
            }
        });
        Self { url, targets }
    }

    pub(super) fn targets(&self) -> Vec<String> {
        self.targets.lock().clone()
    }
}
