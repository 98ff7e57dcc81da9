//! Handshakes that come together: no more of them than half of the processors are worked on at a time.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use std::sync::{Arc, Condvar, Mutex};
use std::thread::available_parallelism;
use std::time::Duration;

use axum::Router;
use rustls::ServerConfig;
use rustls::crypto::ring as rustls_ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::tests::{certified, trusting};
use super::*;

/// More than there are threads.
const STRANGERS: usize = 24;

/// Shows a certificate, and takes its time: a handshake that others join meanwhile is seen with them.
#[derive(Debug)]
struct Slow {
    key: Arc<CertifiedKey>,
    at_a_time: usize,
    inside: Mutex<Inside>,
    joined: Condvar,
}

#[derive(Debug, Default)]
struct Inside {
    now: usize,
    most: usize,
}

impl ResolvesServerCert for Slow {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut inside = self.inside.lock().unwrap();
        inside.now += 1;
        inside.most = inside.most.max(inside.now);
        self.joined.notify_all();
        // Ends as soon as there are too many.
        let few = |inside: &mut Inside| inside.most <= self.at_a_time;
        let waited = self
            .joined
            .wait_timeout_while(inside, Duration::from_millis(10), few);
        waited.unwrap().0.now -= 1;
        Some(Arc::clone(&self.key))
    }
}

#[test]
fn handshakes_leave_half_of_the_processors_to_others() {
    let at_a_time = available_parallelism().unwrap().get().div_ceil(2);
    let key = certified("localhost");
    let client = Arc::new(trusting(key.cert.first().unwrap().clone()));
    let slow = Arc::new(Slow {
        key: Arc::new(key),
        at_a_time,
        inside: Mutex::default(),
        joined: Condvar::new(),
    });
    let provider = Arc::new(rustls_ring::default_provider());
    let resolver: Arc<dyn ResolvesServerCert> = slow.clone();
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    tls.alpn_protocols = vec![b"h2".to_vec()];
    // Threads enough for all of them to be worked on at a time.
    let runtime = Builder::new_multi_thread()
        .worker_threads(at_a_time + 3)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = bind(Name::Grpc, "127.0.0.1:0".parse().unwrap());
        let listener = listener.await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (_shutdown, signal) = shutdown();
        let tls = Arc::new(tls);
        let limits = Limits::default();
        let serving = serve(Name::Grpc, listener, tls, limits, Router::new(), signal);
        tokio::spawn(serving);
        let mut strangers = JoinSet::new();
        for _ in 0..STRANGERS {
            let connector = TlsConnector::from(Arc::clone(&client));
            strangers.spawn(async move {
                let stream = TcpStream::connect(addr).await?;
                connector
                    .connect("localhost".try_into().unwrap(), stream)
                    .await
            });
        }
        for connected in strangers.join_all().await {
            connected.unwrap();
        }
    });
    let inside = slow.inside.lock().unwrap();
    assert!((1..=at_a_time).contains(&inside.most), "{inside:?}");
}
