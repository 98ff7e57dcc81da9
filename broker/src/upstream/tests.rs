//! Outgoing requests against servers on loopback that behave and misbehave.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "tests count small numbers and fail by panicking"
)]

use super::*;
use bytes::Bytes;
use enclave::ids::{GrantId, TenantId};
use enclave::secret::{CredentialHeader, UpstreamBody};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use rustls::crypto::ring as rustls_ring;
use rustls::{CertificateError, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use url::Url;

const CANARY: &str = "canary-7f31";

fn egress(loopback: Loopback, roots: RootCertStore) -> Egress {
    Egress::new(roots, loopback, EgressLimits::default()).unwrap()
}

fn impatient() -> Egress {
    let limits = EgressLimits {
        deadline: Duration::from_millis(500),
        idle: Duration::from_millis(500),
        ..EgressLimits::default()
    };
    Egress::new(RootCertStore::empty(), Loopback::Allowed, limits).unwrap()
}

fn post(url: &str) -> TokenRequest {
    TokenRequest {
        url: Url::parse(url).unwrap(),
        headers: HeaderMap::new(),
        authorization: Some(CredentialHeader::new(
            format!("Basic {CANARY}").into_bytes(),
        )),
        certificate: None,
        body: UpstreamBody::new(format!("refresh_token={CANARY}").into_bytes()),
        deadline: None,
    }
}

/// Reads one request: its head and a body of the length that it states.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = vec![];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap() == 0 {
            return text;
        }
    }
}

/// A server that answers its first connection with fixed bytes and closes it.
struct Scripted {
    addr: SocketAddr,
    request: JoinHandle<String>,
    listener: Arc<TcpListener>,
}

async fn scripted(answer: impl Into<Vec<u8>>) -> Scripted {
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let addr = listener.local_addr().unwrap();
    let (answer, task_listener) = (answer.into(), Arc::clone(&listener));
    let request = tokio::spawn(async move {
        let (mut stream, _peer) = task_listener.accept().await.unwrap();
        serve_once(&mut stream, &answer).await
    });
    Scripted {
        addr,
        request,
        listener,
    }
}

async fn serve_once(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: &[u8]) -> String {
    let request = read_request(stream).await;
    // The client may hang up before it has read all.
    drop(stream.write_all(answer).await);
    drop(stream.shutdown().await);
    request
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_form_is_posted_and_the_answer_given_back_whole() {
    let server = scripted(answer("200 OK", "dpop-nonce: n1\r\n", "{\"a\":1}")).await;
    let mut request = post(&format!("http://{}/token?tenant=a%20b", server.addr));
    request.headers.insert("dpop", "proof".parse().unwrap());
    let got = egress(Loopback::Allowed, RootCertStore::empty())
        .token_request(request)
        .await
        .unwrap();
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.headers.get("dpop-nonce").unwrap(), "n1");
    assert_eq!(got.body.expose(), b"{\"a\":1}");
    assert_eq!(
        server.request.await.unwrap(),
        format!(
            "POST /token?tenant=a%20b HTTP/1.1\r\n\
             dpop: proof\r\n\
             content-type: application/x-www-form-urlencoded\r\n\
             accept: application/json\r\n\
             authorization: Basic {CANARY}\r\n\
             host: {}\r\n\
             connection: close\r\n\
             content-length: 25\r\n\r\n\
             refresh_token={CANARY}",
            server.addr
        )
    );
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let target = scripted(answer("200 OK", "", "")).await;
    let location = format!("location: http://{}/token\r\n", target.addr);
    let server = scripted(answer("307 Temporary Redirect", &location, "")).await;
    let got = egress(Loopback::Allowed, RootCertStore::empty())
        .token_request(post(&format!("http://{}/", server.addr)))
        .await
        .unwrap();
    assert_eq!(got.status, StatusCode::TEMPORARY_REDIRECT);
    assert!(!target.request.is_finished());
}

#[tokio::test]
async fn a_failed_exchange_is_never_tried_again() {
    let server = scripted("").await;
    let error = egress(Loopback::Allowed, RootCertStore::empty())
        .token_request(post(&format!("http://{}/", server.addr)))
        .await
        .unwrap_err();
    assert_eq!(error, Ambiguous::NoAnswer.into());
    server.request.await.unwrap();
    let again = tokio::time::timeout(Duration::from_millis(50), server.listener.accept());
    assert!(again.await.is_err(), "a second connection came");
}

#[tokio::test]
async fn what_comes_back_broken_is_ambiguous() {
    let status = StatusCode::OK;
    let large = "a".repeat(64 * 1024 + 1);
    let largest = "a".repeat(64 * 1024);
    let rows = [
        ("nothing", String::new(), Ambiguous::NoAnswer),
        ("garbage", "garbage\r\n\r\n".to_owned(), Ambiguous::NoAnswer),
        (
            "half a head",
            "HTTP/1.1 200 OK\r\ncontent-le".to_owned(),
            Ambiguous::NoAnswer,
        ),
        (
            "an endless head",
            format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(1_000_000)),
            Ambiguous::NoAnswer,
        ),
    ];
    let cut = [
        (
            "half a body",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_owned(),
            "half",
            Ambiguous::Truncated { status },
        ),
        (
            "half a chunked body",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_owned(),
            "half",
            Ambiguous::Truncated { status },
        ),
        (
            "a large body",
            answer("200 OK", "", &large),
            &largest,
            Ambiguous::TooLarge { status },
        ),
        (
            "a large body of no stated length",
            format!("HTTP/1.1 200 OK\r\n\r\n{large}"),
            &largest,
            Ambiguous::TooLarge { status },
        ),
    ];
    let egress = egress(Loopback::Allowed, RootCertStore::empty());
    for (name, bytes, expected) in rows {
        let server = scripted(bytes).await;
        let error = egress
            .token_request(post(&format!("http://{}/", server.addr)))
            .await
            .unwrap_err();
        assert_eq!(error, expected.into(), "{name}");
        assert!(!format!("{error:?} {error}").contains(CANARY));
    }
    for (name, bytes, arrived, why) in cut {
        let server = scripted(bytes).await;
        let answer = egress
            .token_request(post(&format!("http://{}/", server.addr)))
            .await
            .unwrap();
        assert_eq!(answer.cut, Some(why), "{name}");
        assert_eq!(answer.body.expose(), arrived.as_bytes(), "{name}");
    }
    let server = scripted(answer("200 OK", "", &largest)).await;
    let got = egress
        .token_request(post(&format!("http://{}/", server.addr)))
        .await
        .unwrap();
    assert_eq!(got.body.expose().len(), 64 * 1024);
    assert!(!format!("{got:?}").contains("aaa"));
}

#[tokio::test]
async fn the_deadline_says_whether_the_request_was_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    // Nothing accepts: the system completes the connection, no TLS comes.
    let error = impatient()
        .token_request(post(&format!("https://{addr}/")))
        .await
        .unwrap_err();
    assert_eq!(error, NotSent::Deadline.into());
    let error = impatient()
        .token_request(post(&format!("http://{addr}/")))
        .await
        .unwrap_err();
    assert_eq!(error, Ambiguous::Deadline.into());
}

#[tokio::test]
async fn what_was_not_sent_is_known() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let address = |class| NotSent::Address { class };
    let rows = [
        (
            format!("http://{closed}/"),
            Loopback::Allowed,
            NotSent::Connect {
                kind: io::ErrorKind::ConnectionRefused,
            },
        ),
        (
            format!("https://{closed}/"),
            Loopback::Refused,
            address(AddressClass::Loopback),
        ),
        (
            "https://localhost/".to_owned(),
            Loopback::Refused,
            address(AddressClass::Loopback),
        ),
        (
            "https://0x7f000001/".to_owned(),
            Loopback::Refused,
            address(AddressClass::Loopback),
        ),
        (
            "https://[::ffff:10.0.0.1]/".to_owned(),
            Loopback::Allowed,
            address(AddressClass::Private),
        ),
        (
            "http://169.254.169.254/latest".to_owned(),
            Loopback::Allowed,
            address(AddressClass::LinkLocal),
        ),
        (
            "http://8.8.8.8/".to_owned(),
            Loopback::Allowed,
            NotSent::PlainText,
        ),
        (
            "https://user@8.8.8.8/".to_owned(),
            Loopback::Allowed,
            NotSent::Origin {
                source: OriginError::Userinfo,
            },
        ),
    ];
    for (url, loopback, expected) in rows {
        let error = egress(loopback, RootCertStore::empty())
            .token_request(post(&url))
            .await
            .unwrap_err();
        assert_eq!(error, expected.into(), "{url}");
    }
    let mut bad = post("https://8.8.8.8/");
    bad.authorization = Some(CredentialHeader::new(b"Basic a\r\nhost: b".to_vec()));
    let error = egress(Loopback::Refused, RootCertStore::empty())
        .token_request(bad)
        .await
        .unwrap_err();
    assert_eq!(error, NotSent::Request.into());
}

/// A TLS server with a certificate for `name`, and the certificate.
async fn tls_server(name: &str, body: &str) -> (u16, CertificateDer<'static>, JoinHandle<String>) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls_ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = answer("200 OK", "", body);
    let request = tokio::spawn(async move {
        let (stream, _peer) = listener.accept().await.unwrap();
        match TlsAcceptor::from(Arc::new(config)).accept(stream).await {
            Ok(mut stream) => serve_once(&mut stream, answer.as_bytes()).await,
            Err(_refused) => "refused".to_owned(),
        }
    });
    (port, made.cert.der().clone(), request)
}

#[tokio::test]
async fn the_servers_certificate_is_checked() {
    let (port, certificate, request) = tls_server("localhost", "hello").await;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let got = egress(Loopback::Allowed, roots)
        .token_request(post(&format!("https://localhost:{port}/")))
        .await
        .unwrap();
    assert_eq!(got.body.expose(), b"hello");
    assert!(request.await.unwrap().contains(CANARY));

    let (port, _unknown, request) = tls_server("localhost", "hello").await;
    let error = egress(Loopback::Allowed, RootCertStore::empty())
        .token_request(post(&format!("https://localhost:{port}/")))
        .await
        .unwrap_err();
    let expected = NotSent::Certificate {
        why: CertificateError::UnknownIssuer,
    };
    assert_eq!(error, expected.into());
    assert_eq!(request.await.unwrap(), "refused");

    let (port, certificate, request) = tls_server("another.test", "hello").await;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let error = egress(Loopback::Allowed, roots)
        .token_request(post(&format!("https://localhost:{port}/")))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            UpstreamError::NotSent {
                why: NotSent::Certificate {
                    why: CertificateError::NotValidForNameContext { .. }
                }
            }
        ),
        "{error:?}"
    );
    assert_eq!(request.await.unwrap(), "refused");
}

fn forwarded() -> Request<Full<Bytes>> {
    Request::get("https://elsewhere.example/v1/items?page=2")
        .header("authorization", "DPoP of-the-client")
        .header("host", "elsewhere.example")
        .body(Full::default())
        .unwrap()
}

fn owner(tenant: &str) -> Owner {
    let grant = GrantId::parse("crm").unwrap();
    Owner::new(TenantId::parse(tenant).unwrap(), grant)
}

fn bearer() -> (http::HeaderName, CredentialHeader) {
    let value = format!("Bearer {CANARY}").into_bytes();
    (http::header::AUTHORIZATION, CredentialHeader::new(value))
}

#[tokio::test]
async fn a_request_is_forwarded_with_the_credential_and_streamed_back() {
    let body = "x".repeat(300_000);
    let server = scripted(answer("201 Created", "x-api: 1\r\n", &body)).await;
    let origin = Origin::of(&Url::parse(&format!("http://{}/", server.addr)).unwrap()).unwrap();
    let got = egress(Loopback::Allowed, RootCertStore::empty())
        .forward(&owner("acme"), &origin, forwarded(), bearer())
        .await
        .unwrap();
    assert_eq!(got.status(), StatusCode::CREATED);
    assert_eq!(got.headers().get("x-api").unwrap(), "1");
    assert_eq!(got.into_body().collect().await.unwrap().to_bytes(), body);
    assert_eq!(
        server.request.await.unwrap(),
        format!(
            "GET /v1/items?page=2 HTTP/1.1\r\n\
             authorization: Bearer {CANARY}\r\n\
             host: {}\r\n\r\n",
            server.addr
        )
    );
}

#[tokio::test]
async fn a_forwarded_body_that_breaks_or_stands_still_is_an_error() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
    let server = scripted(half).await;
    let origin = Origin::of(&Url::parse(&format!("http://{}/", server.addr)).unwrap()).unwrap();
    let got = impatient()
        .forward(&owner("acme"), &origin, forwarded(), bearer())
        .await
        .unwrap();
    assert_eq!(
        got.into_body().collect().await.unwrap_err(),
        IdleBodyError::Truncated
    );

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let closed = tokio::spawn(async move {
        let (mut stream, _peer) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(half.as_bytes()).await.unwrap();
        stream.read(&mut [0; 1]).await
    });
    let origin = Origin::of(&Url::parse(&format!("http://{addr}/")).unwrap()).unwrap();
    let got = impatient()
        .forward(&owner("acme"), &origin, forwarded(), bearer())
        .await
        .unwrap();
    assert_eq!(
        got.into_body().collect().await.unwrap_err(),
        IdleBodyError::Idle
    );
    // Dropping the body has closed the connection.
    assert!(matches!(closed.await.unwrap(), Ok(0) | Err(_)));
}

/// A TLS server that speaks HTTP/2 alone and answers each request with what it saw of it.
async fn http2_server() -> (u16, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls_ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _peer) = listener.accept().await.unwrap();
        let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await;
        let seen = |request: Request<hyper::body::Incoming>| async move {
            let (head, body) = request.into_parts();
            let length = body.collect().await.unwrap().to_bytes().len();
            let names: Vec<_> = head.headers.iter().map(|(name, _)| name.as_str()).collect();
            let text = format!(
                "{:?} {} {} {names:?} {length}",
                head.version, head.method, head.uri
            );
            Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from(text))))
        };
        let service = hyper::service::service_fn(seen);
        let io = hyper_util::rt::TokioIo::new(stream.unwrap());
        hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
            .serve_connection(io, service)
            .await
    });
    (port, made.cert.der().clone())
}

#[tokio::test]
async fn an_api_that_speaks_http_2_gets_it() {
    let (port, certificate) = http2_server().await;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let origin = Origin::of(&Url::parse(&format!("https://localhost:{port}/")).unwrap()).unwrap();
    let mut request = forwarded();
    *request.method_mut() = http::Method::POST;
    *request.body_mut() = Full::new(Bytes::from("x".repeat(300_000)));
    let got = egress(Loopback::Allowed, roots)
        .forward(&owner("acme"), &origin, request, bearer())
        .await
        .unwrap();
    assert_eq!(got.status(), StatusCode::OK);
    let text = got.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(
        text,
        format!(
            "HTTP/2.0 POST https://localhost:{port}/v1/items?page=2 [\"authorization\", \"content-length\"] 300000"
        )
    );
}

/// A server whose every answer is these bytes and tells, by the header `x-connection`, which connection it came on.
/// After so many answers it closes a connection.
async fn counting(answers: usize, body: &'static str) -> Origin {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((mut stream, _peer)) = listener.accept().await {
            number += 1;
            tokio::spawn(async move {
                for _ in 0..answers {
                    let request = read_request(&mut stream).await;
                    if request.is_empty() {
                        return;
                    }
                    let mut answer = format!("HTTP/1.1 200 OK\r\nx-connection: {number}\r\n{body}");
                    if request.starts_with("HEAD ") {
                        answer.truncate(answer.find("\r\n\r\n").unwrap() + 4);
                    }
                    drop(stream.write_all(answer.as_bytes()).await);
                }
            });
        }
    });
    Origin::of(&Url::parse(&url).unwrap()).unwrap()
}

/// Calls and reads the answer to its end: which connection it came on, and its body.
async fn called(
    egress: &Egress,
    owner: &Owner,
    origin: &Origin,
    method: http::Method,
) -> (String, Bytes) {
    let mut request = forwarded();
    *request.method_mut() = method;
    asked(egress, owner, origin, request).await
}

async fn asked(
    egress: &Egress,
    owner: &Owner,
    origin: &Origin,
    request: Request<Full<Bytes>>,
) -> (String, Bytes) {
    let got = egress.forward(owner, origin, request, bearer()).await;
    let (head, body) = got.unwrap().into_parts();
    let connection = head.headers.get("x-connection").unwrap();
    let connection = connection.to_str().unwrap().to_owned();
    let body = body.collect().await.unwrap().to_bytes();
    // The connection is ready when its task has seen the end.
    tokio::task::yield_now().await;
    (connection, body)
}

const SHORT: &str = "content-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_connection_serves_the_calls_of_one_grant_and_of_no_other() {
    let origin = counting(9, SHORT).await;
    let egress = egress(Loopback::Allowed, RootCertStore::empty());
    let other_grant = Owner::new(
        TenantId::parse("acme").unwrap(),
        GrantId::parse("mail").unwrap(),
    );
    for (owner, method, expected) in [
        (owner("acme"), http::Method::GET, "1"),
        (owner("acme"), http::Method::HEAD, "1"),
        (owner("acme"), http::Method::GET, "1"),
        (owner("globex"), http::Method::GET, "2"),
        (other_grant, http::Method::GET, "3"),
        // What must not be sent twice goes over a new one, which may serve others.
        (owner("acme"), http::Method::POST, "4"),
        (owner("acme"), http::Method::DELETE, "5"),
        (owner("acme"), http::Method::GET, "5"),
        (owner("globex"), http::Method::GET, "2"),
    ] {
        let (connection, _body) = called(&egress, &owner, &origin, method.clone()).await;
        assert_eq!(connection, expected, "{owner:?} {method}");
    }
}

#[tokio::test]
async fn a_call_with_a_proof_is_sent_once_over_a_new_connection() {
    let origin = counting(9, SHORT).await;
    let egress = egress(Loopback::Allowed, RootCertStore::empty());
    let acme = owner("acme");
    let get = || called(&egress, &acme, &origin, http::Method::GET);
    assert_eq!(get().await.0, "1");
    assert_eq!(get().await.0, "1");
    let mut proved = forwarded();
    let proof = http::HeaderValue::from_static("proof");
    proved.headers_mut().insert("dpop", proof);
    assert_eq!(asked(&egress, &acme, &origin, proved).await.0, "2");
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_waited_is_nobodys_error() {
    let origin = counting(2, SHORT).await;
    let egress = egress(Loopback::Allowed, RootCertStore::empty());
    let mut connections = Vec::new();
    for _ in 0..20 {
        let (connection, body) = called(&egress, &owner("acme"), &origin, http::Method::GET).await;
        assert_eq!(body, "ok");
        connections.push(connection);
    }
    assert_eq!(connections.last().unwrap(), "10");
}

#[tokio::test]
async fn an_answer_too_many_ends_a_connection_and_reaches_nobody() {
    let more = "content-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nx-connection: 99\r\ncontent-length: 3\r\n\r\nbad";
    let origin = counting(9, more).await;
    let egress = egress(Loopback::Allowed, RootCertStore::empty());
    for expected in 1..10 {
        let (connection, body) = called(&egress, &owner("acme"), &origin, http::Method::GET).await;
        assert_eq!((connection, &*body), (expected.to_string(), &b"ok"[..]));
    }
}

#[tokio::test]
async fn an_answer_that_is_not_read_to_its_end_ends_its_connection() {
    let origin = counting(9, SHORT).await;
    let egress = egress(Loopback::Allowed, RootCertStore::empty());
    for expected in ["1", "2", "3"] {
        let owner = owner("acme");
        let got = egress.forward(&owner, &origin, forwarded(), bearer());
        let got = got.await.unwrap();
        assert_eq!(got.headers().get("x-connection").unwrap(), expected);
        drop(got);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_waits_for_a_minute_and_serves_for_five() {
    let origin = counting(9, SHORT).await;
    let egress = egress(Loopback::Allowed, RootCertStore::empty());
    let call = async |after_s| {
        tokio::time::sleep(Duration::from_secs(after_s)).await;
        let (connection, _body) = called(&egress, &owner("acme"), &origin, http::Method::GET).await;
        connection
    };
    for (after_s, expected) in [(0, "1"), (40, "1"), (70, "2"), (40, "2"), (61, "3")] {
        assert_eq!(call(after_s).await, expected, "after {after_s} s");
    }
    // However often it is used. (The clock of a test runs ahead while a socket is waited for.)
    let mut uses = 0;
    while call(9).await == "3" {
        uses += 1;
        assert!(uses < 60);
    }
    assert!(uses > 3, "{uses}");
}

#[test]
fn one_file_alone_exposes_secrets() {
    fn files(dir: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, found);
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            if name != "tests.rs" && text.contains(".expose()") {
                found.push(name);
            }
        }
    }
    let mut found = vec![];
    files(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    assert_eq!(found, ["reveal.rs"]);
}
