//! Floods and slow peers: what nobody does who means well, on real connections.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    reason = "a failed test may panic, and counts are small"
)]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use broker::host_config::{HostConfig, Limits};
use dev::names;
use prost::Message as _;
use proto::v1;
use proto::v1::attestation_service_client::AttestationServiceClient;
use secrecy::ExposeSecret as _;
use testkit::pki::client_certificate;
use tests::caller::Caller;
use tests::https::Https;
use tests::stack::Stack;
use tests::wait::PATIENCE;
use tokenkeep::rpc_error::answer;
use tokenkeep::{AttestedChannel, ClientIdentity};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::gateway_bars::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Field, HEADERS, PING, RST_STREAM, SETTINGS, block,
    field, frame, preface,
};
use crate::grpc_refusals::framed;

/// A method that needs a client.
const ISSUE_TOKEN: &str = "/tokenkeep.v1.TokenService/IssueToken";

/// One that needs none.
const GET_EVIDENCE: &str = "/tokenkeep.v1.AttestationService/GetEvidence";

/// The largest payload of a frame [RFC 9113 §4.2].
const FRAME_BYTES: usize = 16_384;

/// Whom it is done to.
#[derive(Clone)]
pub(crate) struct Target {
    https: Https,
    grpc: String,
    public: String,
    /// A verified channel of nobody's.
    channel: AttestedChannel,
    /// A client that means ill.
    noisy: Arc<Caller>,
}

impl Target {
    pub(crate) async fn of(stack: &Stack) -> Self {
        let caller = Caller::of(stack).await;
        Self {
            https: caller.https.clone(),
            grpc: stack.url("grpc_url").to_owned(),
            public: stack.url("public_url").to_owned(),
            channel: stack.nobody().await,
            noisy: Arc::new(Box::pin(noisy(stack)).await),
        }
    }

    /// A verified channel of nobody's.
    pub(crate) const fn channel(&self) -> &AttestedChannel {
        &self.channel
    }

    fn addr(url: &str) -> String {
        url.trim_start_matches("https://").to_owned()
    }

    /// A connection of HTTP/2 to the gRPC listener, without a certificate, that has sent its preface.
    pub(crate) async fn h2(
        &self,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
        let mut stream = self.https.connect_h2(&self.grpc).await?;
        stream.write_all(&preface()).await?;
        Ok(stream)
    }

    /// A TCP connection to the gRPC listener, without a word.
    pub(crate) async fn tcp(&self) -> io::Result<TcpStream> {
        TcpStream::connect(Self::addr(&self.grpc)).await
    }

    fn request(&self) -> Vec<Field> {
        self.request_of(ISSUE_TOKEN)
    }

    fn request_of(&self, path: &str) -> Vec<Field> {
        vec![
            field(":method", "POST"),
            field(":scheme", "https"),
            field(":authority", &Self::addr(&self.grpc)),
            field(":path", path),
            field("content-type", "application/grpc"),
            field("te", "trailers"),
        ]
    }

    /// A request without a body that is taken back at once, so many times.
    pub(crate) fn resets(&self, first: u32, count: u32) -> Vec<u8> {
        let block = block(&self.request());
        let pairs = (0..count).flat_map(|number| {
            let stream = 2 * (first + number) + 1;
            let mut bytes = frame(HEADERS, END_HEADERS, stream, &block);
            // CANCEL
            bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            bytes
        });
        pairs.collect()
    }

    /// A header block that never ends, so many bytes of it.
    pub(crate) fn endless_head(&self, bytes: usize) -> Vec<u8> {
        let mut frames = frame(HEADERS, 0, 1, &block(&self.request()));
        let filler = vec![field("x-filler", &"a".repeat(FRAME_BYTES - 32))];
        let piece = block(&filler);
        while frames.len() < bytes {
            frames.extend(frame(CONTINUATION, 0, 1, &piece));
        }
        frames
    }

    /// Continuations of nothing, so many.
    pub(crate) fn empty_continuations(&self, count: usize) -> Vec<u8> {
        let mut frames = frame(HEADERS, 0, 1, &block(&self.request()));
        for _ in 0..count {
            frames.extend(frame(CONTINUATION, 0, 1, &[]));
        }
        frames
    }

    /// A request whose head is so large.
    pub(crate) fn large_head(&self, stream: u32, bytes: usize) -> Vec<u8> {
        let mut fields = self.request();
        for number in 0..bytes / 1_000 {
            fields.push(field(&format!("x-{number}"), &"a".repeat(1_000)));
        }
        let block = block(&fields);
        let mut pieces = block.chunks(FRAME_BYTES).peekable();
        let mut frames = Vec::new();
        let mut kind = HEADERS;
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_none() {
                END_HEADERS
            } else {
                0
            };
            frames.extend(frame(kind, flags, stream, piece));
            kind = CONTINUATION;
        }
        frames
    }

    /// A request whose body does not come.
    pub(crate) fn open_request(&self, stream: u32) -> Vec<u8> {
        frame(HEADERS, END_HEADERS, stream, &block(&self.request()))
    }

    /// A request without a body, which is refused.
    fn ask_nothing(&self) -> Vec<u8> {
        let flags = END_HEADERS | END_STREAM;
        frame(HEADERS, flags, 1, &block(&self.request()))
    }

    /// Asks for evidence, but for the body.
    fn open_evidence(&self, stream: u32) -> Vec<u8> {
        let head = block(&self.request_of(GET_EVIDENCE));
        frame(HEADERS, END_HEADERS, stream, &head)
    }

    /// Asks for evidence.
    pub(crate) fn ask_evidence(&self, stream: u32) -> Vec<u8> {
        let message = evidence_request().encode_to_vec();
        let mut bytes = self.open_evidence(stream);
        bytes.extend(frame(DATA, END_STREAM, stream, &framed(0, &message)));
        bytes
    }
}

/// From now on the peer may send no body on any stream [RFC 9113 §6.5.2].
pub(crate) fn closed_window() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])
}

/// Pings, so many.
pub(crate) fn pings(count: usize) -> Vec<u8> {
    frame(PING, 0, 0, b"8 bytes!").repeat(count)
}

/// Settings without a setting, so many: each is to be acknowledged.
pub(crate) fn settings(count: usize) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[]).repeat(count)
}

/// Frames of data without any, so many.
pub(crate) fn empty_data(stream: u32, count: usize) -> Vec<u8> {
    frame(DATA, 0, stream, &[]).repeat(count)
}

/// Writes bytes and reads meanwhile, until the server closes: what came back.
///
/// # Panics
/// The server does not close in time.
pub(crate) async fn until_closed(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    bytes: &[u8],
) -> Vec<u8> {
    let mut read = Vec::new();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let whole = async {
        // A server that has closed takes no more; what it said before is read.
        let written = async { drop(writer.write_all(bytes).await) };
        let taken = async { drop(reader.read_to_end(&mut read).await) };
        tokio::join!(written, taken);
    };
    timeout(PATIENCE, whole).await.expect("the server closes");
    read
}

/// Writes bytes and reads meanwhile, until something is found in what came back.
///
/// # Panics
/// The server closes before, or it does not come in time.
pub(crate) async fn until<R>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    bytes: &[u8],
    found: impl Fn(&[u8]) -> Option<R>,
) -> R {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut read = Vec::new();
    let taken = async {
        loop {
            if let Some(result) = found(&read) {
                break result;
            }
            let count = reader.read_buf(&mut read).await.unwrap_or_default();
            assert!(count > 0 || found(&read).is_some(), "closed: {read:?}");
        }
    };
    let whole = async {
        let written = async {
            drop(writer.write_all(bytes).await);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = taken => result,
            () = written => unreachable!(),
        }
    };
    timeout(PATIENCE, whole).await.expect("it comes in time")
}

/// Sends a piece again and again, with a pause between, until the server closes.
///
/// # Panics
/// The server does not close in time.
pub(crate) async fn trickle_until_closed(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    mut piece: impl FnMut(usize) -> Vec<u8>,
) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let trickle = async {
        for number in 0.. {
            if writer.write_all(&piece(number)).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let mut read = Vec::new();
    let closed = async {
        tokio::select! {
            () = trickle => {}
            _ended = reader.read_to_end(&mut read) => {}
        }
    };
    timeout(PATIENCE, closed).await.expect("the server closes");
}

/// A kind of abuse that goes on until it is told to stop, and counts what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abuse {
    RapidReset,
    EndlessHead,
    EmptyContinuations,
    LargeHead,
    Pings,
    Settings,
    EmptyData,
    SlowHandshake,
    SlowHead,
    SlowBody,
    SlowEvidence,
    Unread,
    IdleConnections,
    Handshakes,
    Evidence,
    NoisyClient,
}

const SAMPLE: &str = include_str!("../../../broker/samples/host.toml");

/// What the service grants by default.
fn limits() -> Limits {
    HostConfig::parse(SAMPLE, Path::new("/"))
        .expect("a sample that holds")
        .limits
}

/// Connections of so many streams each that come to twice as many requests as there is room for.
fn beyond_all_room() -> (usize, u32) {
    let Limits {
        requests, streams, ..
    } = limits();
    let each = usize::try_from(streams).expect("a few").max(1);
    ((2 * requests).div_ceil(each), streams)
}

impl Abuse {
    /// All of them.
    pub(crate) const ALL: [Self; 16] = [
        Self::RapidReset,
        Self::EndlessHead,
        Self::EmptyContinuations,
        Self::LargeHead,
        Self::Pings,
        Self::Settings,
        Self::EmptyData,
        Self::SlowHandshake,
        Self::SlowHead,
        Self::SlowBody,
        Self::SlowEvidence,
        Self::Unread,
        Self::IdleConnections,
        Self::Handshakes,
        Self::Evidence,
        Self::NoisyClient,
    ];

    /// Begins it. What floods is paced: it shares two processors with the service.
    pub(crate) fn begin(self, target: &Target, idle: usize) -> UnderWay {
        let flood = |bytes: Vec<u8>| {
            let target = target.clone();
            UnderWay::of(4, move |done| {
                let (target, bytes) = (target.clone(), bytes.clone());
                async move { flood(&target, &bytes, &done).await }
            })
        };
        match self {
            Self::RapidReset => flood(target.resets(0, 500)),
            Self::EndlessHead => flood(target.endless_head(1 << 20)),
            Self::EmptyContinuations => flood(target.empty_continuations(10_000)),
            Self::LargeHead => flood(target.large_head(1, 64 * 1024)),
            Self::Pings => flood(pings(1_000)),
            Self::Settings => flood(settings(1_000)),
            Self::EmptyData => {
                let mut bytes = target.open_request(1);
                bytes.extend(empty_data(1, 1_000));
                flood(bytes)
            }
            Self::SlowHandshake => {
                let target = target.clone();
                UnderWay::of_many(idle, move |done| {
                    let target = target.clone();
                    async move {
                        let stream = target.tcp().await?;
                        drip(
                            stream,
                            |number| vec![if number == 0 { 0x16 } else { 3 }],
                            &done,
                        )
                        .await
                    }
                })
            }
            Self::SlowHead => {
                let target = target.clone();
                UnderWay::of_many(idle, move |done| {
                    let target = target.clone();
                    async move {
                        let stream = target.https.connect(&target.public).await?;
                        let piece = |number| {
                            let head = if number == 0 {
                                "GET / HTTP/1.1\r\nx: "
                            } else {
                                "a"
                            };
                            head.as_bytes().to_vec()
                        };
                        drip(stream, piece, &done).await
                    }
                })
            }
            Self::SlowBody => slow_bodies(target, Target::open_request),
            Self::SlowEvidence => slow_bodies(target, Target::open_evidence),
            Self::Unread => {
                let target = target.clone();
                let (connections, streams) = beyond_all_room();
                UnderWay::of(connections, move |done| {
                    let target = target.clone();
                    async move {
                        let mut stream = target.h2().await?;
                        let mut bytes = closed_window();
                        let asked = (0..streams).map(|number| target.ask_evidence(2 * number + 1));
                        bytes.extend(asked.flatten());
                        stream.write_all(&bytes).await?;
                        done.fetch_add(1, Ordering::Relaxed);
                        // Read is what the connection says, never a body.
                        let mut read = Vec::new();
                        drop(timeout(Duration::from_secs(5), stream.read_to_end(&mut read)).await);
                        Ok(())
                    }
                })
            }
            Self::NoisyClient => {
                let noisy = Arc::clone(&target.noisy);
                // Refused by its nonce, whether it was used before or not. Made once: signing takes more of the processors
                // that service and generator share than being refused.
                let proof = noisy.issue_proof("no nonce of ours");
                UnderWay::of(64, move |done| {
                    let (noisy, proof) = (Arc::clone(&noisy), proof.clone());
                    async move {
                        let issued = Box::pin(noisy.issue(noisy.request(), &[&proof])).await;
                        done.fetch_add(1, Ordering::Relaxed);
                        drop(issued);
                        // It shares two processors with the service.
                        sleep(Duration::from_millis(200)).await;
                        Ok(())
                    }
                })
            }
            Self::IdleConnections => {
                let target = target.clone();
                UnderWay::of_many(idle, move |done| {
                    let target = target.clone();
                    async move {
                        let mut stream = target.h2().await?;
                        // The server closes those that say nothing.
                        stream.write_all(&target.ask_nothing()).await?;
                        done.fetch_add(1, Ordering::Relaxed);
                        let mut read = Vec::new();
                        drop(stream.read_to_end(&mut read).await);
                        sleep(Duration::from_millis(200)).await;
                        Ok(())
                    }
                })
            }
            Self::Handshakes => {
                let target = target.clone();
                UnderWay::of(4, move |done| {
                    let target = target.clone();
                    async move {
                        drop(target.h2().await?);
                        done.fetch_add(1, Ordering::Relaxed);
                        sleep(Duration::from_millis(40)).await;
                        Ok(())
                    }
                })
            }
            Self::Evidence => {
                let target = target.clone();
                UnderWay::of(8, move |done| {
                    let target = target.clone();
                    async move {
                        let asked = evidence(&target).await;
                        done.fetch_add(1, Ordering::Relaxed);
                        sleep(Duration::from_millis(100)).await;
                        drop(asked);
                        Ok(())
                    }
                })
            }
        }
    }
}

fn evidence_request() -> v1::GetEvidenceRequest {
    v1::GetEvidenceRequest {
        nonce: vec![7; 32],
        purpose: v1::Purpose::Server.into(),
    }
}

/// Asks for evidence, without a name.
pub(crate) async fn evidence(target: &Target) -> Result<v1::GetEvidenceResponse, tonic::Status> {
    let transport = target.channel.transport().clone();
    let origin = target.grpc.parse().unwrap();
    let mut client = AttestationServiceClient::with_origin(transport, origin);
    client
        .get_evidence(evidence_request())
        .await
        .map(tonic::Response::into_inner)
}

/// Twice as many requests as there is room for, a byte of whose bodies comes now and then.
fn slow_bodies(target: &Target, open: fn(&Target, u32) -> Vec<u8>) -> UnderWay {
    let target = target.clone();
    let (connections, streams) = beyond_all_room();
    UnderWay::of(connections, move |done| {
        let target = target.clone();
        async move {
            let stream = target.h2().await?;
            let streams = (0..streams).map(|number| 2 * number + 1);
            let opened: Vec<u8> = streams
                .clone()
                .flat_map(|stream| open(&target, stream))
                .collect();
            let pieces: Vec<u8> = streams
                .flat_map(|stream| frame(DATA, 0, stream, &[0]))
                .collect();
            let piece = |number: usize| {
                // Those that were given up are opened anew by a new connection.
                if number == 0 {
                    opened.clone()
                } else {
                    pieces.clone()
                }
            };
            drip(stream, piece, &done).await
        }
    })
}

/// A client of its own, registered once for a stack.
pub(crate) async fn noisy(stack: &Stack) -> Caller {
    let made = client_certificate("noisy").unwrap();
    let admin = stack.admin().await;
    let client = v1::Client {
        id: format!("noisy-{}", hex::encode(made.spki_sha256.get(..4).unwrap())),
        vendor: names::VENDOR.to_owned(),
        tls_spki_sha256: made.spki_sha256.to_vec(),
        ..Default::default()
    };
    let request = v1::CreateClientRequest {
        client: Some(client),
    };
    answer(admin.registry().create_client(request))
        .await
        .unwrap();
    let mut config = stack.files().client_config(stack.url("grpc_url")).unwrap();
    let key = made.key_pem.expose_secret().as_bytes();
    config.client_identity = Some(ClientIdentity::from_pem(made.pem.as_bytes(), key).unwrap());
    let channel = Box::pin(AttestedChannel::connect(&config)).await.unwrap();
    Caller::over(stack, channel, stack.dpop_key())
}

/// Sends it all, again and again, on new connections when the old one is closed.
async fn flood(target: &Target, bytes: &[u8], done: &AtomicU64) -> io::Result<()> {
    let stream = target.h2().await?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut read = vec![0; 64 * 1024];
    let written = async {
        let written = writer.write_all(bytes).await;
        done.fetch_add(1, Ordering::Relaxed);
        written
    };
    let taken = async {
        while reader.read(&mut read).await.is_ok_and(|count| count > 0) {}
        io::Result::Ok(())
    };
    // Either side may be first; a server that is still there after a while is left.
    let both = async {
        tokio::select! {
            taken = taken => taken,
            written = async { written.await?; sleep(Duration::from_millis(100)).await; io::Result::Ok(()) } => written,
        }
    };
    drop(timeout(Duration::from_secs(2), both).await);
    sleep(Duration::from_millis(100)).await;
    Ok(())
}

/// A piece every now and then, until the server closes.
async fn drip(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mut piece: impl FnMut(usize) -> Vec<u8>,
    done: &AtomicU64,
) -> io::Result<()> {
    for number in 0.. {
        stream.write_all(&piece(number)).await?;
        done.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Abuse that is going on.
pub(crate) struct UnderWay {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tasks: tokio::task::JoinSet<()>,
    /// When all have had their turn to come.
    there: tokio::time::Instant,
}

/// Between two of many who come.
const BETWEEN: Duration = Duration::from_millis(2);

impl UnderWay {
    fn of<F>(peers: usize, again: impl Fn(Arc<AtomicU64>) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        Self::coming(peers, Duration::ZERO, again)
    }

    /// Many who come one after another, and again in the same order when they are cut: they share two processors with the
    /// service and with its client, and what is asked is what they do there, not what it costs to come all at once.
    fn of_many<F>(
        peers: usize,
        again: impl Fn(Arc<AtomicU64>) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        Self::coming(peers, BETWEEN, again)
    }

    fn coming<F>(
        peers: usize,
        between: Duration,
        again: impl Fn(Arc<AtomicU64>) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..u32::try_from(peers).unwrap() {
            let (stop, done, again) = (Arc::clone(&stop), Arc::clone(&done), again.clone());
            tasks.spawn(async move {
                sleep(between * number).await;
                while !stop.load(Ordering::Relaxed) {
                    // Whoever finds no room, or is cut, comes again.
                    if again(Arc::clone(&done)).await.is_err() {
                        sleep(Duration::from_millis(100)).await;
                    }
                }
            });
        }
        Self {
            stop,
            done,
            tasks,
            there: tokio::time::Instant::now() + between * u32::try_from(peers).unwrap(),
        }
    }

    /// Waits until all have had their turn to come.
    pub(crate) async fn there(&self) {
        tokio::time::sleep_until(self.there).await;
    }

    /// How often it was done so far.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Ends it: how often it was done.
    pub(crate) async fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.shutdown().await;
        self.done()
    }
}
