//! The load: connections with calls in flight, each call with a proof of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hyper_util::rt::TokioIo;
use jose::dpop::{ProofParams, random_jti};
use jose::{Alg, SigningKey};
use proto::v1::IssueTokenRequest;
use proto::v1::token_service_client::TokenServiceClient;
use ring::rand::SystemRandom;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// The path of the method, as a proof names it.
const PATH: &str = "/tokenkeep.v1.TokenService/IssueToken";

/// A server to measure.
#[derive(Clone)]
pub(crate) struct Target {
    /// `https://host:port`.
    pub(crate) origin: String,
    /// TLS towards it, with a client certificate.
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) grant: String,
    pub(crate) resource: String,
    /// The server's process.
    pub(crate) pid: u32,
}

/// How much load.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: u32,
    pub(crate) in_flight: u32,
    pub(crate) time: Duration,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Outcome {
    /// How long each call took, in microseconds.
    pub(crate) latencies_us: Vec<u64>,
    pub(crate) elapsed: Duration,
}

impl Load {
    pub(crate) async fn run(&self, target: &Target) -> anyhow::Result<Outcome> {
        let mut channels = Vec::new();
        for _ in 0..self.connections {
            channels.push(connect(target).await?);
        }
        let start = now();
        let end = start
            .checked_add(self.time)
            .context("the time is too long")?;
        let mut callers = JoinSet::new();
        for channel in channels {
            let caller = Arc::new(Caller::new(target)?);
            for _ in 0..self.in_flight {
                let client = TokenServiceClient::new(channel.clone());
                callers.spawn(Arc::clone(&caller).call_until(client, end));
            }
        }
        let mut outcome = Outcome::default();
        while let Some(calls) = callers.join_next().await {
            outcome.latencies_us.extend(calls??);
        }
        outcome.elapsed = start.elapsed();
        Ok(outcome)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a load generator measures by the clock"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a proof names the time at which it was made"
)]
fn unix_s() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

async fn connect(target: &Target) -> anyhow::Result<Channel> {
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

/// One client with its key and the newest nonce.
struct Caller {
    target: Target,
    htu: String,
    key: SigningKey,
    rng: SystemRandom,
    nonce: Mutex<String>,
}

impl Caller {
    fn new(target: &Target) -> anyhow::Result<Self> {
        let rng = SystemRandom::new();
        let pkcs8 = SigningKey::generate(Alg::Es256, &rng)?;
        Ok(Self {
            target: target.clone(),
            htu: format!("{}{PATH}", target.origin),
            key: SigningKey::from_pkcs8(&pkcs8, &rng)?,
            rng,
            nonce: Mutex::new("none".to_owned()),
        })
    }

    async fn call_until(
        self: Arc<Self>,
        mut client: TokenServiceClient<Channel>,
        end: Instant,
    ) -> anyhow::Result<Vec<u64>> {
        let mut latencies_us = Vec::new();
        let mut refused = 0_u32;
        while now() < end {
            let request = self.request().await?;
            let start = now();
            match client.issue_token(request).await {
                Ok(response) => {
                    let elapsed = start.elapsed().as_micros();
                    latencies_us.push(u64::try_from(elapsed).unwrap_or(u64::MAX));
                    self.learn(response.metadata()).await;
                }
                Err(status) => {
                    // The first call learns the nonce.
                    refused = refused.saturating_add(1);
                    if refused > 8 {
                        bail!("the server refuses: {status}");
                    }
                    self.learn(status.metadata()).await;
                }
            }
        }
        Ok(latencies_us)
    }

    async fn request(&self) -> anyhow::Result<tonic::Request<IssueTokenRequest>> {
        let nonce = self.nonce.lock().await.clone();
        let params = ProofParams {
            htm: "POST",
            htu: &self.htu,
            iat_s: unix_s(),
            jti: &random_jti(&self.rng)?,
            nonce: Some(&nonce),
            access_token: None,
        };
        let proof = params.sign(&self.key, &self.rng)?;
        let mut request = tonic::Request::new(IssueTokenRequest {
            grant: self.target.grant.clone(),
            resource: self.target.resource.clone(),
            ..Default::default()
        });
        let proof = AsciiMetadataValue::try_from(proof)?;
        request.metadata_mut().insert("dpop", proof);
        Ok(request)
    }

    async fn learn(&self, metadata: &tonic::metadata::MetadataMap) {
        if let Some(nonce) = metadata.get("dpop-nonce").and_then(|n| n.to_str().ok()) {
            let mut newest = self.nonce.lock().await;
            if *newest != nonce {
                nonce.clone_into(&mut newest);
            }
        }
    }
}
