//! A wire between a service and a provider that stops at a given step of one exchange, for whoever wants to cut it there.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a wire that can't be laid fails the test"
)]

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::wait::PATIENCE;

/// More than any request or answer of these tests has.
const MAX_BYTES: usize = 64 * 1024;

/// Where the next exchange is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The connection is there, and nothing of it is read.
    Connected,
    /// The provider has half of the request.
    HalfRequest,
    /// The request has left the service; the provider has nothing of it.
    WholeRequest,
    /// The provider has acted and answered; the service has nothing of it.
    Answered,
    /// The service has the answer's head.
    Head,
    /// The service has half of the answer's body.
    HalfBody,
}

/// The wire.
#[derive(Debug)]
pub struct Gate {
    url: String,
    stop: Arc<Mutex<Option<Stop>>>,
    reached: mpsc::Receiver<Stop>,
}

impl Gate {
    /// In front of a provider at `HOST:PORT`.
    pub async fn before(provider: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("its number");
        let (tell, reached) = mpsc::channel(8);
        let stop = Arc::new(Mutex::new(None));
        let (next, provider) = (Arc::clone(&stop), provider.to_owned());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let stop = next.lock().take();
                let (tell, provider) = (tell.clone(), provider.clone());
                tokio::spawn(async move {
                    // Either end may be killed: that is what the wire is for.
                    drop(carry(near, &provider, stop, &tell).await);
                });
            }
        });
        Self {
            url: format!("http://{address}"),
            stop,
            reached,
        }
    }

    /// Where the service finds the provider's token endpoint.
    #[must_use]
    pub fn token_endpoint(&self) -> String {
        format!("{}/token", self.url)
    }

    /// Stops the next exchange.
    pub fn stop_at(&self, stop: Stop) {
        *self.stop.lock() = Some(stop);
    }

    /// Waits until it is stopped.
    ///
    /// # Panics
    /// It is not.
    pub async fn reached(&mut self, expected: Stop) {
        let reached = tokio::time::timeout(PATIENCE, self.reached.recv()).await;
        let reached = reached.unwrap_or_else(|_| panic!("no exchange came to {expected:?}"));
        assert_eq!(reached, Some(expected));
    }
}

async fn carry(
    mut near: TcpStream,
    provider: &str,
    stop: Option<Stop>,
    tell: &mpsc::Sender<Stop>,
) -> io::Result<()> {
    let Some(stop) = stop else {
        let mut far = TcpStream::connect(provider).await?;
        copy_bidirectional(&mut near, &mut far).await?;
        return Ok(());
    };
    if stop == Stop::Connected {
        return hold(near, stop, tell).await;
    }
    let request = message(&mut near).await?;
    if stop == Stop::WholeRequest {
        return hold(near, stop, tell).await;
    }
    let mut far = TcpStream::connect(provider).await?;
    if stop == Stop::HalfRequest {
        let (half, _rest) = request.split_at(request.len() / 2);
        far.write_all(half).await?;
        return hold(near, stop, tell).await;
    }
    far.write_all(&request).await?;
    let answer = message(&mut far).await?;
    let head = head_bytes(&answer).unwrap_or(answer.len());
    let passed = match stop {
        Stop::Connected | Stop::HalfRequest | Stop::WholeRequest | Stop::Answered => 0,
        Stop::Head => head,
        Stop::HalfBody => head.saturating_add(answer.len().saturating_sub(head) / 2),
    };
    near.write_all(answer.get(..passed).unwrap_or_default())
        .await?;
    near.flush().await?;
    hold(near, stop, tell).await
}

/// Says that the step is reached, and keeps the connection until its other end is gone.
async fn hold(mut near: TcpStream, stop: Stop, tell: &mpsc::Sender<Stop>) -> io::Result<()> {
    // Nobody may wait for it.
    tell.send(stop).await.unwrap_or_default();
    let mut rest = vec![0; 1_024];
    while near.read(&mut rest).await? > 0 {}
    Ok(())
}

/// The bytes of a head, with the empty line.
fn head_bytes(message: &[u8]) -> Option<usize> {
    let end = message.windows(4).position(|four| four == b"\r\n\r\n")?;
    end.checked_add(4)
}

/// A whole HTTP message, whose head says how long its body is.
async fn message(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    loop {
        if let Some(head) = head_bytes(&read) {
            let length = content_length(read.get(..head).unwrap_or_default());
            if read.len() >= head.saturating_add(length) {
                return Ok(read);
            }
        }
        if read.len() > MAX_BYTES || socket.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let lines = head.lines();
    let length = lines.filter_map(|line| line.strip_prefix("content-length:"));
    length
        .filter_map(|value| value.trim().parse().ok())
        .next()
        .unwrap_or(0)
}
