//! Plain HTTP by hand: to ask the listener for metrics, and to be a collector of traces.
#![allow(
    clippy::expect_used,
    reason = "an exchange that can't be had fails the test"
)]

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::wait::PATIENCE;

/// `GET`s a path: status and body.
///
/// # Panics
/// There is no answer.
pub async fn plain_get(addr: &str, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    let answer = plain_send(addr, request.as_bytes()).await;
    let answer = String::from_utf8(answer).expect("an answer of text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

/// Sends bytes, and reads to the end.
///
/// # Panics
/// There is no connection, or no end.
pub async fn plain_send(addr: &str, bytes: &[u8]) -> Vec<u8> {
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(bytes).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await;
    answer.expect("an answer in time").expect("an answer")
}

/// A collector of traces, which keeps each request that comes.
#[derive(Debug)]
pub struct Collector {
    url: String,
    came: Arc<Mutex<Vec<String>>>,
}

impl Collector {
    /// On a port of its own.
    ///
    /// # Panics
    /// There is none.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("its number");
        let came = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&came);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                tokio::spawn(async move { drop(take(socket, &kept).await) });
            }
        });
        Self {
            url: format!("http://{address}"),
            came,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// All that came, head and body.
    #[must_use]
    pub fn came(&self) -> Vec<String> {
        self.came.lock().clone()
    }

    /// The spans that came.
    #[must_use]
    pub fn spans(&self) -> Vec<Value> {
        let bodies = self.came();
        let bodies = bodies.iter().filter_map(|text| {
            let (_head, body) = text.split_once("\r\n\r\n")?;
            serde_json::from_str::<Value>(body).ok()
        });
        bodies
            .filter_map(|body| {
                let spans = body.pointer("/resourceSpans/0/scopeSpans/0/spans")?;
                spans.as_array().cloned()
            })
            .flatten()
            .collect()
    }
}

async fn take(mut socket: TcpStream, kept: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let mut lines = head.lines();
            let length = lines.find_map(|line| line.strip_prefix("content-length:"));
            let length = length.and_then(|length| length.trim().parse().ok());
            if body.len() >= length.unwrap_or(0_usize) {
                kept.lock().push(text);
                break;
            }
        }
        if socket.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    }
    let answer =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    socket.write_all(answer).await
}
