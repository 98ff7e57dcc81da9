//! Listeners on loopback: real TLS, HTTP/1.1 and HTTP/2, slow and greedy peers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use super::*;
use crate::tls::{ServerCertificate, gateway_server, grpc_server, http_server, spki_sha256};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring as rustls_ring;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    AlertDescription, ClientConfig, ConfigBuilder, DigitallySignedStruct, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(super) fn certified(name: &str) -> CertifiedKey {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    CertifiedKey::from_der(
        vec![made.cert.der().clone()],
        key,
        &rustls_ring::default_provider(),
    )
    .unwrap()
}

/// Trusts the one certificate that the test made.
#[derive(Debug)]
struct Pinned(CertificateDer<'static>);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if end_entity == &self.0 {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::CertificateError::UnknownIssuer.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        panic!("TLS 1.2")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls_ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls_ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A client's configuration that trusts one certificate.
pub(super) fn trusting(certificate: CertificateDer<'static>) -> ClientConfig {
    let mut config = verifying(certificate).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn verifying(certificate: CertificateDer<'static>) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let provider = Arc::new(rustls_ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned(certificate)))
}

/// A running listener.
struct Fixture {
    addr: SocketAddr,
    certificate: Arc<ServerCertificate>,
    shown: CertificateDer<'static>,
    shutdown: Shutdown,
    /// Lets one request to `/wait` go on per permit.
    gate: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    serving: JoinHandle<Drained>,
}

#[derive(Clone)]
struct Gates {
    gate: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

async fn who(request: Request<axum::body::Body>) -> String {
    let connection = request.extensions().get::<Connection>().unwrap();
    format!(
        "{} {} {}",
        connection.peer_addr(),
        connection
            .peer_spki_sha256()
            .map_or("nobody".to_owned(), |spki| format!("{spki:02x?}")),
        format_args!("{:02x?}", connection.channel_binding()),
    )
}

async fn wait(State(gates): State<Gates>) -> &'static str {
    gates.waiting.add_permits(1);
    gates.gate.acquire().await.unwrap().forget();
    "waited"
}

async fn start(name: Name, limits: Limits) -> Fixture {
    let key = certified("localhost");
    let shown = key.cert.first().unwrap().clone();
    let certificate = ServerCertificate::new(key);
    let tls = match name {
        Name::Grpc => grpc_server(Arc::clone(&certificate)),
        Name::Public => http_server(Arc::clone(&certificate)),
        Name::Gateway => gateway_server(Arc::clone(&certificate)),
    };
    let gates = Gates {
        gate: Arc::new(Semaphore::new(0)),
        waiting: Arc::new(Semaphore::new(0)),
    };
    let router = Router::new()
        .route("/", get(who))
        .route("/wait", get(wait))
        .with_state(gates.clone());
    let listener = bind(name, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (shutdown, signal) = shutdown();
    let serving = tokio::spawn(serve(name, listener, tls.unwrap(), limits, router, signal));
    Fixture {
        addr,
        certificate,
        shown,
        shutdown,
        gate: gates.gate,
        waiting: gates.waiting,
        serving,
    }
}

impl Fixture {
    async fn tls(&self, alpn: &[u8], key: Option<CertifiedKey>) -> TlsStream<TcpStream> {
        let builder = verifying(self.shown.clone());
        let mut config = match key {
            None => builder.with_no_client_auth(),
            Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        let stream = TcpStream::connect(self.addr).await.unwrap();
        TlsConnector::from(Arc::new(config))
            .connect("localhost".try_into().unwrap(), stream)
            .await
            .unwrap()
    }

    async fn http2(&self) -> http2::SendRequest<Empty<Bytes>> {
        let stream = TokioIo::new(self.tls(b"h2", None).await);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream)
            .await
            .unwrap();
        tokio::spawn(connection);
        sender
    }
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://localhost{path}"))
        .body(Empty::new())
        .unwrap()
}

async fn text(response: http::Response<hyper::body::Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Reads until the peer closes; fails if it doesn't within 10 s.
async fn closes(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut bytes = vec![];
    let read = stream.read_to_end(&mut bytes);
    // Both a clean end and a cut one are an end.
    drop(
        tokio::time::timeout(Duration::from_secs(10), read)
            .await
            .expect("still open"),
    );
}

#[tokio::test]
async fn a_request_knows_its_connection() {
    let server = start(Name::Grpc, Limits::default()).await;
    for (key, alpn) in [(None, b"h2".as_slice()), (Some(certified("client")), b"h2")] {
        let spki = key
            .as_ref()
            .map(|key| spki_sha256(key.cert.first().unwrap()).unwrap());
        let stream = server.tls(alpn, key).await;
        let (tcp, session) = stream.get_ref();
        let binding = session
            .export_keying_material([0_u8; 32], b"EXPORTER-Channel-Binding", Some(&[]))
            .unwrap();
        let expected = format!(
            "{} {} {binding:02x?}",
            tcp.local_addr().unwrap(),
            spki.map_or("nobody".to_owned(), |spki| format!("{spki:02x?}")),
        );
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let answer = sender.send_request(request("/")).await.unwrap();
        assert_eq!(answer.version(), Version::HTTP_2);
        assert_eq!(text(answer).await, expected);
    }
}

#[tokio::test]
async fn public_never_asks_for_a_certificate() {
    // The gateway does, and needs none.
    for (name, client, asks) in [
        (Name::Public, Some(certified("client")), false),
        (Name::Gateway, Some(certified("client")), true),
        (Name::Gateway, None, false),
    ] {
        let server = start(name, Limits::default()).await;
        let stream = server.tls(b"http/1.1", client).await;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let answer = sender.send_request(request("/")).await.unwrap();
        assert_eq!(answer.version(), Version::HTTP_11);
        assert_eq!(!text(answer).await.contains(" nobody "), asks, "{name}");
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let server = start(Name::Grpc, Limits::default()).await;
    let (mine, victim) = (certified("thief"), certified("victim"));
    let stolen = CertifiedKey::new(victim.cert.clone(), Arc::clone(&mine.key));
    let mut stream = server.tls(b"h2", Some(stolen)).await;
    let error = stream.read(&mut [0; 16]).await.unwrap_err();
    let alert = error
        .into_inner()
        .unwrap()
        .downcast::<rustls::Error>()
        .unwrap();
    assert_eq!(
        *alert,
        rustls::Error::AlertReceived(AlertDescription::DecryptError)
    );
}

#[tokio::test]
async fn a_replaced_certificate_is_shown_to_the_next_connection() {
    let mut server = start(Name::Public, Limits::default()).await;
    let mut first = server.http2().await;
    let next = certified("localhost");
    server.shown = next.cert.first().unwrap().clone();
    server.certificate.replace(next);
    let mut second = server.http2().await;
    for sender in [&mut first, &mut second] {
        let answer = sender.send_request(request("/")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn connections_over_the_bound_are_closed_and_room_returns() {
    let server = start(
        Name::Public,
        Limits {
            max_connections: 1,
            ..Limits::default()
        },
    )
    .await;
    let first = server.http2().await;
    let mut second = TcpStream::connect(server.addr).await.unwrap();
    closes(&mut second).await;
    drop(first);
    // The room is free once the first connection's end was seen.
    loop {
        let stream = TcpStream::connect(server.addr).await.unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls_ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned(server.shown.clone())))
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let name = "localhost".try_into().unwrap();
        if connector.connect(name, stream).await.is_ok() {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_closed() {
    let short = Duration::from_millis(50);
    let no_handshake = Limits {
        handshake_timeout: short,
        ..Limits::default()
    };
    let server = start(Name::Public, no_handshake).await;
    closes(&mut TcpStream::connect(server.addr).await.unwrap()).await;

    let no_head = Limits {
        head_timeout: short,
        ..Limits::default()
    };
    for (name, alpn) in [
        (Name::Grpc, b"h2".as_slice()),
        (Name::Public, b"h2"),
        (Name::Public, b"http/1.1"),
    ] {
        let server = start(name, no_head.clone()).await;
        closes(&mut server.tls(alpn, None).await).await;
    }
}

#[tokio::test]
async fn a_head_over_the_bound_is_refused() {
    let server = start(Name::Public, Limits::default()).await;
    let large = |bytes: usize| {
        let mut large = request("/");
        large
            .headers_mut()
            .insert("x-large", "a".repeat(bytes).parse().unwrap());
        large
    };
    let mut sender = server.http2().await;
    let answer = sender.send_request(large(15 * 1024)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let answer = sender.send_request(large(17 * 1024)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);

    let stream = TokioIo::new(server.tls(b"http/1.1", None).await);
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(large(17 * 1024)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn a_thousand_calls_share_one_connection() {
    let server = start(Name::Grpc, Limits::default()).await;
    let sender = server.http2().await;
    let mut calls = vec![];
    for _ in 0..1_024 {
        let mut sender = sender.clone();
        calls.push(tokio::spawn(async move {
            sender.send_request(request("/")).await.unwrap().status()
        }));
    }
    for call in calls {
        assert_eq!(call.await.unwrap(), StatusCode::OK);
    }
}

#[tokio::test]
async fn an_old_connection_finishes_its_request_and_goes() {
    let server = start(
        Name::Grpc,
        Limits {
            connection_age: Duration::from_millis(500),
            ..Limits::default()
        },
    )
    .await;
    let stream = TokioIo::new(server.tls(b"h2", None).await);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    let ended = tokio::spawn(connection);
    let call = tokio::spawn(sender.send_request(request("/wait")));
    server.waiting.acquire().await.unwrap().forget();
    // After GOAWAY no new request is taken, while the old one goes on.
    while sender.send_request(request("/")).await.is_ok() {}
    assert!(!call.is_finished());
    server.gate.add_permits(1);
    assert_eq!(text(call.await.unwrap().unwrap()).await, "waited");
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_lets_requests_finish() {
    let server = start(Name::Grpc, Limits::default()).await;
    let mut sender = server.http2().await;
    let call = tokio::spawn(sender.send_request(request("/wait")));
    server.waiting.acquire().await.unwrap().forget();
    server.shutdown.begin();
    while TcpStream::connect(server.addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    server.gate.add_permits(1);
    assert_eq!(text(call.await.unwrap().unwrap()).await, "waited");
    assert_eq!(server.serving.await.unwrap(), Drained { cut: 0 });
}

#[tokio::test]
async fn shutdown_cuts_what_does_not_finish() {
    let server = start(
        Name::Grpc,
        Limits {
            drain: Duration::from_millis(50),
            ..Limits::default()
        },
    )
    .await;
    let mut sender = server.http2().await;
    let call = tokio::spawn(sender.send_request(request("/wait")));
    server.waiting.acquire().await.unwrap().forget();
    server.shutdown.begin();
    assert_eq!(server.serving.await.unwrap(), Drained { cut: 1 });
    assert!(!call.await.unwrap().unwrap_err().is_user());
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let first = bind(Name::Grpc, "127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let addr = first.local_addr().unwrap();
    assert_eq!(
        bind(Name::Public, addr).await.unwrap_err(),
        ListenError::Bind {
            name: Name::Public,
            addr,
            kind: std::io::ErrorKind::AddrInUse
        }
    );
}
