//! Calls over gRPC: one client a connection, with its key, the newest nonce, and proofs made ahead if so wanted.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use hyper_util::rt::TokioIo;
use jose::dpop::{ProofParams, random_jti};
use jose::{Alg, SigningKey};
use parking_lot::Mutex;
use proto::v1::token_service_client::TokenServiceClient;
use proto::v1::{IntrospectTokenRequest, IssueTokenRequest, TokenBinding};
use ring::rand::SystemRandom;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};
use tower::service_fn;

use crate::clock;
use crate::load::{Crew, Slot};
use crate::stats::What;

/// The path of the method, as a proof names it.
const PATH: &str = "/tokenkeep.v1.TokenService/IssueToken";

/// Nonces that a slot is refused for before it is an error: a step may end between two calls.
const MOST_NONCES: u32 = 8;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Ask {
    /// A token that is bound to a key, with a proof
    Dpop,
    /// A token that is bound to the connection's certificate
    Certificate,
    /// Nothing: an empty request and an empty answer
    Empty,
}

/// When proofs are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Proofs {
    /// Each for its call
    Live,
    /// Before the load begins, so that the generator takes less of the machine
    Presigned,
}

/// On which grants tokens are asked for.
#[derive(Clone, Debug)]
pub(crate) enum Grants {
    /// One.
    One { grant: String, resource: String },
    /// Those that `tokenkeep-dev fill` made, each as often as any other.
    Filled { gateway: String, count: u64 },
}

/// A server to measure.
#[derive(Clone)]
pub(crate) struct Target {
    /// `https://host:port`.
    pub(crate) origin: String,
    /// TLS towards it, with a client certificate.
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) grants: Grants,
    /// The server's process.
    pub(crate) pid: u32,
}

/// How many calls at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) connections: u32,
    /// On each.
    pub(crate) in_flight: u32,
}

impl Shape {
    pub(crate) fn calls(self) -> u32 {
        self.connections.saturating_mul(self.in_flight)
    }
}

/// One call at a time on one of the connections.
pub(crate) struct GrpcSlot {
    client: TokenServiceClient<Channel>,
    caller: Arc<Caller>,
    ask: Ask,
}

/// One client with its key and the newest nonce.
struct Caller {
    grants: Grants,
    turn: AtomicU64,
    htu: String,
    key: SigningKey,
    rng: SystemRandom,
    nonce: Mutex<String>,
    presigned: Mutex<Vec<String>>,
}

/// Connects, gives each connection its slots, and makes one call on it, so that its client knows a nonce.
///
/// # Errors
/// A connection or its call is refused.
pub(crate) async fn connect(
    target: &Target,
    shape: Shape,
    ask: Ask,
) -> anyhow::Result<Crew<GrpcSlot>> {
    let mut slots = Vec::new();
    for number in 0..shape.connections {
        let channel = channel(target).await?;
        let caller = Arc::new(Caller::new(target, number)?);
        for _ in 0..shape.in_flight {
            slots.push(GrpcSlot {
                client: TokenServiceClient::new(channel.clone()),
                caller: Arc::clone(&caller),
                ask,
            });
        }
        if let Some(slot) = slots.last_mut() {
            slot.call(None).await?;
        }
    }
    Ok(Crew::new(slots))
}

/// A connection of its own.
///
/// # Errors
/// It is refused.
pub(crate) async fn channel(target: &Target) -> anyhow::Result<Channel> {
    let tls = TlsConnector::from(Arc::clone(&target.tls));
    let connector = service_fn(move |uri: Uri| {
        let tls = tls.clone();
        async move {
            let host = uri.host().unwrap_or_default().to_owned();
            let port = uri.port_u16().unwrap_or(443);
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            let name = host.try_into().map_err(std::io::Error::other)?;
            let stream = tls.connect(name, stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    // TLS is the connector's: tonic is told of plain HTTP.
    let plain = target.origin.replacen("https://", "http://", 1);
    let endpoint = Endpoint::from_shared(plain)?
        .initial_connection_window_size(4 << 20)
        .initial_stream_window_size(1 << 20);
    Ok(endpoint.connect_with_connector(connector).await?)
}

/// Makes proofs ahead, shared evenly by the callers of a crew, with the nonces that they know.
///
/// # Errors
/// No randomness.
pub(crate) async fn presign(crew: &Crew<GrpcSlot>, proofs: usize) -> anyhow::Result<()> {
    let mut callers: Vec<&Arc<Caller>> = crew.slots().iter().map(|slot| &slot.caller).collect();
    // Slots come back from a load in any order.
    callers.sort_unstable_by_key(|caller| Arc::as_ptr(caller).addr());
    callers.dedup_by(|a, b| Arc::ptr_eq(a, b));
    let each = proofs.div_ceil(callers.len().max(1));
    let mut working = tokio::task::JoinSet::new();
    for caller in callers {
        let caller = Arc::clone(caller);
        working.spawn_blocking(move || caller.presign(each));
    }
    while let Some(done) = working.join_next().await {
        done??;
    }
    Ok(())
}

impl Slot for GrpcSlot {
    async fn call(&mut self, within: Option<Duration>) -> anyhow::Result<What> {
        let Some(within) = within else {
            return self.ask(None).await;
        };
        match tokio::time::timeout(within, self.ask(Some(within))).await {
            Ok(done) => done,
            // The stream is reset: the server may stop, too.
            Err(_elapsed) => Ok(What::Late),
        }
    }
}

impl GrpcSlot {
    /// Asks until the nonce is one that the server takes.
    async fn ask(&mut self, within: Option<Duration>) -> anyhow::Result<What> {
        for attempt in 0..MOST_NONCES {
            let answered = match self.ask {
                Ask::Empty => {
                    let request = timed(IntrospectTokenRequest::default(), within);
                    let answered = self.client.introspect_token(request).await;
                    answered.map(|answer| answer.into_parts().0)
                }
                Ask::Dpop | Ask::Certificate => {
                    // A proof that was made ahead has no newer nonce than the one that was refused.
                    let ahead = attempt == 0;
                    let request = self.caller.request(self.ask, ahead, within)?;
                    let answered = self.client.issue_token(request).await;
                    answered.map(|answer| answer.into_parts().0)
                }
            };
            match answered {
                Ok(metadata) => {
                    self.caller.learn(&metadata);
                    return Ok(What::Good);
                }
                Err(status) => {
                    let learned = self.caller.learn(status.metadata());
                    if let Some(what) = refused(&status) {
                        return Ok(what);
                    }
                    // A first call learns the nonce.
                    if !learned || status.code() != Code::Unauthenticated {
                        return Err(anyhow::Error::new(status).context("the server refuses"));
                    }
                }
            }
        }
        anyhow::bail!("the server refuses each nonce that it gave")
    }
}

fn timed<T>(message: T, within: Option<Duration>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(within) = within {
        request.set_timeout(within);
    }
    request
}

/// What a refusal under load means; `None` if it has another cause. A connection that ends is one: the next call
/// connects anew.
fn refused(status: &Status) -> Option<What> {
    let is_transports = status.source().is_some();
    match status.code() {
        Code::Unknown | Code::Internal if is_transports => Some(What::Refused),
        Code::ResourceExhausted | Code::Unavailable => Some(What::Refused),
        Code::DeadlineExceeded | Code::Cancelled => Some(What::Late),
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => None,
    }
}

impl Grants {
    /// The grant of a turn and its resource. The stride is a prime, so that neighbours are far apart.
    fn of_turn(&self, turn: u64) -> (String, String) {
        match self {
            Self::One { grant, resource } => (grant.clone(), resource.clone()),
            Self::Filled { gateway, count } => {
                let number = turn.wrapping_mul(7_919).checked_rem(*count).unwrap_or(0);
                let grant = format!("grant-{number:07}");
                let resource = format!("{gateway}/g/{grant}/api");
                (grant, resource)
            }
        }
    }
}

impl Caller {
    fn new(target: &Target, number: u32) -> anyhow::Result<Self> {
        let rng = SystemRandom::new();
        let pkcs8 = SigningKey::generate(Alg::Es256, &rng)?;
        Ok(Self {
            grants: target.grants.clone(),
            // Callers do not all begin with the same grant.
            turn: AtomicU64::new(u64::from(number).wrapping_mul(104_729)),
            htu: format!("{}{PATH}", target.origin),
            key: SigningKey::from_pkcs8(&pkcs8, &rng)?,
            rng,
            nonce: Mutex::new("none".to_owned()),
            presigned: Mutex::new(Vec::new()),
        })
    }

    fn request(
        &self,
        ask: Ask,
        ahead: bool,
        within: Option<Duration>,
    ) -> anyhow::Result<Request<IssueTokenRequest>> {
        let (grant, resource) = self
            .grants
            .of_turn(self.turn.fetch_add(1, Ordering::Relaxed));
        let binding = match ask {
            Ask::Certificate => TokenBinding::Certificate,
            Ask::Dpop | Ask::Empty => TokenBinding::Unspecified,
        };
        let message = IssueTokenRequest {
            grant,
            resource,
            binding: binding.into(),
            ..Default::default()
        };
        let mut request = timed(message, within);
        if ask == Ask::Dpop {
            let made = if ahead {
                self.presigned.lock().pop()
            } else {
                None
            };
            let proof = match made {
                Some(proof) => proof,
                None => self.proof()?,
            };
            let proof = AsciiMetadataValue::try_from(proof)?;
            request.metadata_mut().insert("dpop", proof);
        }
        Ok(request)
    }

    fn proof(&self) -> anyhow::Result<String> {
        let nonce = self.nonce.lock().clone();
        let params = ProofParams {
            htm: "POST",
            htu: &self.htu,
            iat_s: clock::unix_s(),
            jti: &random_jti(&self.rng)?,
            nonce: Some(&nonce),
            access_token: None,
        };
        params.sign(&self.key, &self.rng).context("no proof")
    }

    fn presign(&self, proofs: usize) -> anyhow::Result<()> {
        let made = (0..proofs).map(|_| self.proof());
        let made = made.collect::<anyhow::Result<Vec<String>>>()?;
        *self.presigned.lock() = made;
        Ok(())
    }

    /// Whether there was a nonce.
    fn learn(&self, metadata: &MetadataMap) -> bool {
        let Some(nonce) = metadata.get("dpop-nonce").and_then(|n| n.to_str().ok()) else {
            return false;
        };
        let mut newest = self.nonce.lock();
        if *newest != nonce {
            nonce.clone_into(&mut newest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filled_grant_has_its_turn() {
        let grants = Grants::Filled {
            gateway: "https://127.0.0.1:1".to_owned(),
            count: 1_000,
        };
        let seen: std::collections::BTreeSet<String> =
            (0..1_000).map(|turn| grants.of_turn(turn).0).collect();
        assert_eq!(seen.len(), 1_000);
        let (grant, resource) = grants.of_turn(1);
        assert_eq!(grant, "grant-0000919");
        assert_eq!(resource, "https://127.0.0.1:1/g/grant-0000919/api");
    }

    #[test]
    fn only_what_load_can_cause_is_a_refusal() {
        let rows = [
            (Code::ResourceExhausted, Some(What::Refused)),
            (Code::Unavailable, Some(What::Refused)),
            (Code::DeadlineExceeded, Some(What::Late)),
            (Code::Unauthenticated, None),
            (Code::PermissionDenied, None),
            (Code::Internal, None),
        ];
        for (code, what) in rows {
            assert_eq!(refused(&Status::new(code, "")), what, "{code:?}");
        }
    }
}
