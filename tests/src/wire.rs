//! A token endpoint that answers each request with the same good tokens, on connections with bad habits. It counts the
//! requests that came.
#![allow(
    clippy::expect_used,
    reason = "a wire that can't be laid fails the test"
)]

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What a connection does with a whole request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Answers it, and closes.
    Honest,
    /// Answers it, promises to stay open, and closes.
    KeptAliveAndClosed,
    /// Answers it, promises to stay open, and does.
    KeptAlive,
    /// Closes, as an idle connection is closed when a request crosses it.
    Closed,
    /// Resets, without a byte.
    Reset,
    /// Closes behind half of a status line.
    HalfAStatusLine,
    /// Says 408 and closes, as servers do with idle connections.
    TimedOut,
    /// HTTP/2: GOAWAY, nothing was processed.
    GoAway,
    /// HTTP/2: RST_STREAM with REFUSED_STREAM.
    RefusedStream,
    /// 421: it says that it is not the right server, and that another connection would do.
    Misdirected,
    /// 503 with `Retry-After: 0`.
    ComeAgain,
    /// 307 to itself.
    Redirected,
}

impl Habit {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Honest,
        Self::KeptAliveAndClosed,
        Self::KeptAlive,
        Self::Closed,
        Self::Reset,
        Self::HalfAStatusLine,
        Self::TimedOut,
        Self::GoAway,
        Self::RefusedStream,
        Self::Misdirected,
        Self::ComeAgain,
        Self::Redirected,
    ];

    /// Whether there is a good answer.
    #[must_use]
    pub const fn answers(self) -> bool {
        matches!(
            self,
            Self::Honest | Self::KeptAliveAndClosed | Self::KeptAlive
        )
    }
}

/// HTTP/2 SETTINGS, then GOAWAY: last stream 0, NO_ERROR [RFC 9113 §6.8].
const GO_AWAY: [u8; 26] = [
    0, 0, 0, 4, 0, 0, 0, 0, 0, // SETTINGS
    0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // GOAWAY
];

/// HTTP/2 SETTINGS, then RST_STREAM of stream 1: REFUSED_STREAM [RFC 9113 §6.4].
const REFUSED_STREAM: [u8; 22] = [
    0, 0, 0, 4, 0, 0, 0, 0, 0, // SETTINGS
    0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7, // RST_STREAM
];

/// It never rotates, so that one token serves all requests, and none is fresh for long.
const TOKENS: &str = r#"{"access_token":"at","token_type":"Bearer","expires_in":0}"#;

/// The endpoint.
#[derive(Debug)]
pub struct Wire {
    url: String,
    habit: Arc<Mutex<Habit>>,
    posts: Arc<AtomicU64>,
}

impl Wire {
    /// On a port of its own.
    pub async fn lay() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("its number");
        let habit = Arc::new(Mutex::new(Habit::Honest));
        let posts = Arc::new(AtomicU64::new(0));
        let (next, counted) = (Arc::clone(&habit), Arc::clone(&posts));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (habit, posts) = (Arc::clone(&next), Arc::clone(&counted));
                tokio::spawn(async move {
                    // A client that is gone is what a habit may lead to.
                    drop(serve(socket, &habit, &posts).await);
                });
            }
        });
        Self {
            url: format!("http://{address}"),
            habit,
            posts,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn token_endpoint(&self) -> String {
        format!("{}/token", self.url)
    }

    /// What the connections do from now on.
    pub fn behave(&self, habit: Habit) {
        *self.habit.lock() = habit;
    }

    /// The requests that came.
    #[must_use]
    pub fn posts(&self) -> u64 {
        self.posts.load(Ordering::SeqCst)
    }
}

async fn serve(mut socket: TcpStream, habit: &Mutex<Habit>, posts: &AtomicU64) -> io::Result<()> {
    // As long as the client sends on the same connection.
    while request(&mut socket).await? {
        posts.fetch_add(1, Ordering::SeqCst);
        let habit = *habit.lock();
        let answer = |head: &str, body: &str| {
            let length = body.len();
            format!("HTTP/1.1 {head}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
                .into_bytes()
        };
        let (bytes, stays) = match habit {
            Habit::Honest => (answer("200 OK\r\nconnection: close", TOKENS), false),
            Habit::KeptAliveAndClosed => {
                (answer("200 OK\r\nconnection: keep-alive", TOKENS), false)
            }
            Habit::KeptAlive => (answer("200 OK\r\nconnection: keep-alive", TOKENS), true),
            Habit::Closed => (Vec::new(), false),
            Habit::Reset => {
                socket.set_zero_linger()?;
                return Ok(());
            }
            Habit::HalfAStatusLine => (b"HTTP/1.1 20".to_vec(), false),
            Habit::TimedOut => (
                answer("408 Request Timeout\r\nconnection: close", ""),
                false,
            ),
            Habit::GoAway => (GO_AWAY.to_vec(), false),
            Habit::RefusedStream => (REFUSED_STREAM.to_vec(), true),
            Habit::Misdirected => (answer("421 Misdirected Request", ""), true),
            Habit::ComeAgain => (answer("503 Unavailable\r\nretry-after: 0", ""), true),
            Habit::Redirected => (
                answer("307 Temporary Redirect\r\nlocation: /token", ""),
                true,
            ),
        };
        socket.write_all(&bytes).await?;
        socket.flush().await?;
        if !stays {
            return socket.shutdown().await;
        }
    }
    Ok(())
}

/// Reads a whole request; false if the connection ends before one.
async fn request(socket: &mut TcpStream) -> io::Result<bool> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lines = head.lines();
            let length = lines.find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length
                .and_then(|length| length.trim().parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                return Ok(true);
            }
        }
        if socket.read_buf(&mut read).await? == 0 {
            return Ok(false);
        }
    }
}
