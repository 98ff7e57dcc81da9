//! The loopback side of a consent [RFC 8252 §7.3]: hears what comes back with the owner's browser, and shows a page.
//!
//! It only forwards: verifier, app secret and tokens stay in the enclave.

mod callback;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use callback::{Answer, Callback, CallbackError, MAX_QUERY_BYTES, parse};

/// The path that the browser comes back to.
pub const PATH: &str = "/callback";

/// Connections at a time; more wait.
const MAX_CONNECTIONS: usize = 16;

/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest head of a request, bytes.
const MAX_HEAD_BYTES: usize = 32 * 1_024;

/// How long a page may take to reach a browser of this machine.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);

/// After a failed `accept`.
const PAUSE: Duration = Duration::from_millis(100);

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ConsentError {
    /// The address is not loopback: others on the network could hear the code.
    #[error("{0} is not a loopback address")]
    NotLoopback(SocketAddr),
    /// The address can't be had.
    #[error("can't listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Nobody came back in time.
    #[error("nobody came back in time")]
    Late,
}

/// A listener for one answer.
#[derive(Debug)]
pub struct Loopback {
    listener: TcpListener,
    address: SocketAddr,
}

/// The browser that waits for a page.
#[derive(Debug)]
pub struct Browser {
    page: oneshot::Sender<Page>,
    /// Ends with its connection.
    over: oneshot::Receiver<Infallible>,
}

type Heard = (Answer, Browser);

/// A page for the owner.
#[derive(Debug)]
struct Page {
    status: StatusCode,
    html: String,
}

impl Browser {
    /// Shows the owner a page: a head line, and lines of names and values. Returns when the browser has it.
    pub async fn show(self, good: bool, head: &str, lines: &[(&str, String)]) {
        let page = Page {
            status: if good {
                StatusCode::OK
            } else {
                StatusCode::BAD_REQUEST
            },
            html: html(head, lines),
        };
        // A browser that is gone needs none.
        drop(self.page.send(page));
        drop(tokio::time::timeout(SHOWN_WITHIN, self.over).await);
    }
}

impl Loopback {
    /// Listens; port 0 takes a free one.
    ///
    /// # Errors
    /// [`ConsentError`].
    pub async fn listen(address: SocketAddr) -> Result<Self, ConsentError> {
        if !address.ip().is_loopback() {
            return Err(ConsentError::NotLoopback(address));
        }
        let failed = |error| ConsentError::Listen { address, error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// What the provider is told to send the browser back to.
    #[must_use]
    pub fn redirect_uri(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Waits for the answer with this `state`. Whatever else comes is answered and forgotten.
    ///
    /// # Errors
    /// [`ConsentError::Late`].
    pub async fn hear(
        self,
        state: &str,
        within: Duration,
    ) -> Result<(Answer, Browser), ConsentError> {
        let (heard, mut first) = mpsc::channel(1);
        let state: Arc<str> = state.into();
        let serving = tokio::spawn(serve(self.listener, state, heard));
        let answer = tokio::time::timeout(within, first.recv()).await;
        let heard = answer.ok().flatten().ok_or(ConsentError::Late);
        if heard.is_err() {
            serving.abort();
        }
        heard
    }
}

async fn serve(listener: TcpListener, state: Arc<str>, heard: mpsc::Sender<Heard>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (state, heard) = (Arc::clone(&state), heard.clone());
        tokio::spawn(async move {
            let (end, over) = oneshot::channel();
            // A connection has one request.
            let over = Mutex::new(Some(over));
            let service = service_fn(|request| respond(request, &state, &heard, &over));
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(MAX_HEAD_BYTES)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            // A browser that breaks off is its own affair.
            drop((served, place, end));
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    state: &str,
    heard: &mpsc::Sender<Heard>,
    over: &Mutex<Option<oneshot::Receiver<Infallible>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let plain = |status, head: &str| Page {
        status,
        html: html(head, &[]),
    };
    let page = if request.method() != Method::GET || request.uri().path() != PATH {
        plain(StatusCode::NOT_FOUND, "There is nothing here.")
    } else {
        let query = request.uri().query().unwrap_or_default();
        let over = over.lock().take();
        match (parse(query, state), over) {
            (Err(error), _) => plain(StatusCode::BAD_REQUEST, &error.to_string()),
            (Ok(answer), Some(over)) => {
                let (page, shown) = oneshot::channel();
                // Only the first is taken: the code is of use once.
                match heard.try_send((answer, Browser { page, over })) {
                    Ok(()) => shown.await.unwrap_or_else(|_gone| {
                        plain(StatusCode::BAD_REQUEST, "The command was ended.")
                    }),
                    Err(_) => plain(StatusCode::CONFLICT, "This was answered already."),
                }
            }
            (Ok(_), None) => plain(StatusCode::CONFLICT, "This was answered already."),
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(page.html)));
    *response.status_mut() = page.status;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        // The code is in the page's address.
        (REFERRER_POLICY, "no-referrer"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

fn html(head: &str, lines: &[(&str, String)]) -> String {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Tokenkeep</title>\n<h1>",
    );
    escape(head, &mut page);
    page.push_str("</h1>\n");
    if !lines.is_empty() {
        page.push_str("<dl>\n");
        for (name, value) in lines {
            page.push_str("<dt>");
            escape(name, &mut page);
            page.push_str("</dt><dd>");
            escape(value, &mut page);
            page.push_str("</dd>\n");
        }
        page.push_str("</dl>\n");
    }
    page.push_str("<p>You can close this window.</p></html>\n");
    page
}

fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_elsewhere_is_text_in_a_page() {
        let page = html("<b>", &[("a&b", "\"'<script>".to_owned())]);
        assert!(page.contains("<h1>&lt;b&gt;</h1>"), "{page}");
        assert!(page.contains("<dt>a&amp;b</dt><dd>&quot;&#39;&lt;script&gt;</dd>"));
    }

    #[tokio::test]
    async fn it_listens_on_loopback_only() {
        let address = "0.0.0.0:0".parse().unwrap();
        let found = Loopback::listen(address).await;
        assert!(matches!(found, Err(ConsentError::NotLoopback(found)) if found == address));
    }
}
