//! A server on loopback with a certificate of a CA of its own, for tests.

use std::error::Error;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::origin::Origin;
use crate::tls;
use crate::transport::Transport;

/// A CA, as the enclave has one.
#[derive(Clone)]
pub(crate) struct TestCa {
    params: CertificateParams,
    key: Arc<KeyPair>,
    der: Vec<u8>,
}

impl TestCa {
    pub(crate) fn new() -> Self {
        let key = Arc::new(KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.self_signed(&*key).unwrap().der().to_vec();
        Self { params, key, der }
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    fn server_config(&self) -> rustls::ServerConfig {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".to_owned()])
            .unwrap()
            .signed_by(&key, &Issuer::from_params(&self.params, &*self.key))
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

/// The exporter value of the connection on which a request came; in its extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Exporter(pub(crate) [u8; 32]);

/// A bound socket that nobody serves yet.
pub(crate) struct TestServer {
    listener: TcpListener,
    origin: String,
}

impl TestServer {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        Self { listener, origin }
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// A transport to it that trusts one CA.
    pub(crate) fn transport(&self, ca_der: &[u8]) -> Transport {
        let tls = tls::pinned(&[ca_der], None).unwrap();
        Transport::new(Origin::parse(&self.origin).unwrap(), tls).unwrap()
    }

    /// Serves HTTP/2 under a certificate of `ca`.
    pub(crate) fn serve<S, B>(self, ca: &TestCa, service: S) -> JoinHandle<()>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let acceptor = TlsAcceptor::from(Arc::new(ca.server_config()));
        tokio::spawn(async move {
            loop {
                let (tcp, _) = self.listener.accept().await.unwrap();
                let Ok(tls) = acceptor.accept(tcp).await else {
                    continue;
                };
                let (_tcp, session) = tls.get_ref();
                let exporter = session
                    .export_keying_material([0; 32], attestation::EXPORTER_LABEL, Some(&[]))
                    .unwrap();
                let service = service.clone();
                let service = service_fn(move |mut request: Request<Incoming>| {
                    request.extensions_mut().insert(Exporter(exporter));
                    service.call(request)
                });
                tokio::spawn(
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(tls), service),
                );
            }
        })
    }
}
