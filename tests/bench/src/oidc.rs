//! npm's `oidc-provider` beside the service: the nearest thing that it does. A client with a certificate asks on a grant
//! that an owner gave it (`refresh_token`), with a proof that carries the provider's nonce, and gets a JWT for one
//! resource, ES256 signed. Of two clients one has its refresh tokens rotated, the other keeps its own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jose::dpop::{ProofParams, random_jti};
use jose::{Alg, SigningKey};
use ring::rand::SystemRandom;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use testkit::node::{NodeEnv, OidcProvider};
use testkit::pki::loopback_certificate;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::clock;
use crate::load::{Crew, Slot};
use crate::stats::What;

/// What becomes of a refresh token that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refreshing {
    /// Another one takes its place.
    Rotated,
    /// It stays: a client with a certificate needs no rotation [RFC 9700 §2.2.2].
    Kept,
}

impl Refreshing {
    /// The client that asks so.
    const fn client(self) -> &'static str {
        match self {
            Self::Rotated => "rotating",
            Self::Kept => "keeping",
        }
    }
}

/// What the token is for.
const RESOURCE: &str = "https://api.example/contacts";

/// What it allows.
const SCOPE: &str = "contacts.read contacts.write";

/// Nonces that a slot is refused for before it is an error.
const MOST_NONCES: u32 = 4;

/// A running provider and how it is reached.
pub(crate) struct Oidc {
    provider: OidcProvider,
    tls: Arc<ClientConfig>,
}

impl Oidc {
    /// Starts it. `scripts/node.sh` must have told where Node is.
    ///
    /// # Errors
    /// It does not come up.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let node = NodeEnv::from_env()?;
        let (certificate, key) = loopback_certificate()?;
        let client_key = rcgen::KeyPair::generate()?;
        let client = rcgen::CertificateParams::default().self_signed(&client_key)?;
        let (x, y) = coordinates(client_key.public_key_raw())?;
        let clients = [Refreshing::Rotated, Refreshing::Kept].map(|refreshing| {
            json!({
                "client_id": refreshing.client(),
                "token_endpoint_auth_method": "self_signed_tls_client_auth",
                "jwks": { "keys": [{
                    "kty": "EC", "crv": "P-256", "x": x, "y": y,
                    "x5c": [Base64::encode_string(client.der())],
                }] },
            })
        });
        let config = json!({
            "dpop_nonces": true,
            "rotate": [Refreshing::Rotated.client()],
            "presentations": false,
            "access_token_ttl_s": 300,
            // Connections wait while others have their turn.
            "keep_alive_ms": 600_000,
            "clients": clients,
            "resources": {
                RESOURCE: { "scope": SCOPE, "jwt": true, "alg": "ES256" },
            },
            "tls": { "cert": certificate, "key": key.expose_secret() },
        });
        let provider = OidcProvider::spawn(&node, &config).await?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certificate.as_bytes())?)?;
        let der =
            PrivateKeyDer::try_from(client_key.serialize_der()).map_err(anyhow::Error::msg)?;
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(ring)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![client.der().clone()], der)?;
        let tls = Arc::new(tls);
        Ok(Self { provider, tls })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.provider.endpoints().pid
    }

    /// Connects, each connection with a grant of its own: HTTP/1.1 has one call at a time on a connection.
    ///
    /// # Errors
    /// A connection or a grant is refused.
    pub(crate) async fn connect(
        &self,
        connections: u32,
        refreshing: Refreshing,
    ) -> anyhow::Result<Crew<HttpSlot>> {
        let endpoint = self.provider.endpoints().token_endpoint.clone();
        let mut slots = Vec::new();
        for _ in 0..connections {
            let client = refreshing.client();
            let consented = self.provider.consent_for(client, SCOPE, "owner", RESOURCE);
            let refresh_token = consented.await?.refresh_token;
            slots.push(HttpSlot::connect(&endpoint, &self.tls, client, refresh_token).await?);
        }
        Ok(Crew::new(slots))
    }

    /// Stops it.
    ///
    /// # Errors
    /// It does not stop.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        Ok(self.provider.stop().await?)
    }
}

/// The coordinates of an uncompressed point, base64url [RFC 7518 §6.2.1].
fn coordinates(point: &[u8]) -> anyhow::Result<(String, String)> {
    let Some((4, both)) = point.split_first().map(|(form, both)| (*form, both)) else {
        bail!("not an uncompressed point");
    };
    let (x, y) = both.split_at_checked(32).context("not a point of P-256")?;
    Ok((
        Base64UrlUnpadded::encode_string(x),
        Base64UrlUnpadded::encode_string(y),
    ))
}

/// Of an answer with a token.
#[derive(Deserialize)]
struct Granted {
    refresh_token: Option<String>,
}

/// A connection with a client, its refresh token, its key and the newest nonce.
pub(crate) struct HttpSlot {
    sender: http1::SendRequest<Full<Bytes>>,
    endpoint: String,
    authority: String,
    path: String,
    client: &'static str,
    refresh_token: SecretString,
    key: SigningKey,
    rng: SystemRandom,
    nonce: Option<String>,
}

impl HttpSlot {
    async fn connect(
        endpoint: &str,
        tls: &Arc<ClientConfig>,
        client: &'static str,
        refresh_token: SecretString,
    ) -> anyhow::Result<Self> {
        let uri: http::Uri = endpoint.parse()?;
        let authority = uri.authority().context("no host")?;
        let (host, port) = (authority.host(), authority.port_u16().unwrap_or(443));
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned())?;
        let stream = TlsConnector::from(Arc::clone(tls))
            .connect(name, stream)
            .await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the sender; what goes wrong is told to the call under way.
        tokio::spawn(connection);
        let rng = SystemRandom::new();
        let pkcs8 = SigningKey::generate(Alg::Es256, &rng)?;
        Ok(Self {
            sender,
            endpoint: endpoint.to_owned(),
            authority: authority.to_string(),
            path: uri.path().to_owned(),
            client,
            refresh_token,
            key: SigningKey::from_pkcs8(&pkcs8, &rng)?,
            rng,
            nonce: None,
        })
    }

    /// What is posted.
    fn form(&self) -> String {
        let pairs = [
            ("grant_type", "refresh_token"),
            ("client_id", self.client),
            ("refresh_token", self.refresh_token.expose_secret()),
            ("scope", SCOPE),
            ("resource", RESOURCE),
        ];
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(pairs).finish()
    }

    async fn ask(&mut self) -> anyhow::Result<What> {
        for _ in 0..MOST_NONCES {
            let params = ProofParams {
                htm: "POST",
                htu: &self.endpoint,
                iat_s: clock::unix_s(),
                jti: &random_jti(&self.rng)?,
                nonce: self.nonce.as_deref(),
                access_token: None,
            };
            let request = Request::post(&self.path)
                .header(header::HOST, &self.authority)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .header("dpop", params.sign(&self.key, &self.rng)?)
                .body(Full::new(Bytes::from(self.form())))?;
            self.sender.ready().await?;
            let answer = self.sender.send_request(request).await?;
            let status = answer.status();
            let nonce = answer.headers().get("dpop-nonce");
            let nonce = nonce
                .and_then(|nonce| nonce.to_str().ok())
                .map(str::to_owned);
            let learned = nonce.is_some();
            if learned {
                self.nonce = nonce;
            }
            let body = answer.into_body().collect().await?.to_bytes();
            if status == StatusCode::OK {
                let granted: Granted = serde_json::from_slice(&body)?;
                if let Some(next) = granted.refresh_token {
                    self.refresh_token = SecretString::from(next);
                }
                return Ok(What::Good);
            }
            if !learned {
                let said = String::from_utf8_lossy(&body);
                bail!("oidc-provider answers {status}: {said}");
            }
        }
        bail!("oidc-provider refuses each nonce that it gave")
    }
}

impl Slot for HttpSlot {
    async fn call(&mut self, within: Option<Duration>) -> anyhow::Result<What> {
        match within {
            None => self.ask().await,
            Some(within) => match tokio::time::timeout(within, self.ask()).await {
                Ok(done) => done,
                Err(_elapsed) => Ok(What::Late),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_two_coordinates() {
        let mut point = vec![4];
        point.extend([1; 32]);
        point.extend([2; 32]);
        let (x, y) = coordinates(&point).unwrap();
        assert_eq!(Base64UrlUnpadded::decode_vec(&x).unwrap(), [1; 32]);
        assert_eq!(Base64UrlUnpadded::decode_vec(&y).unwrap(), [2; 32]);
        for (bad, why) in [
            (vec![3; 33], "not an uncompressed point"),
            (Vec::new(), "not an uncompressed point"),
            (vec![4; 20], "not a point of P-256"),
        ] {
            assert_eq!(coordinates(&bad).unwrap_err().to_string(), why);
        }
    }

    #[tokio::test]
    async fn it_issues_bound_tokens_to_a_client_with_a_certificate() {
        let oidc = Oidc::start().await.unwrap();
        for (refreshing, rotated) in [(Refreshing::Rotated, true), (Refreshing::Kept, false)] {
            let mut crew = oidc.connect(2, refreshing).await.unwrap();
            let tokens = |crew: &Crew<HttpSlot>| {
                let tokens = crew.slots().iter().map(|slot| &slot.refresh_token);
                let tokens = tokens.map(|token| token.expose_secret().to_owned());
                tokens.collect::<std::collections::BTreeSet<_>>()
            };
            let before = tokens(&crew);
            let outcome = crew.closed(Duration::from_millis(100)).await.unwrap();
            assert!(outcome.samples.len() >= 2);
            let good = |sample: &crate::stats::Sample| sample.what == What::Good;
            assert!(outcome.samples.iter().all(good));
            assert_eq!(
                tokens(&crew).is_disjoint(&before),
                rotated,
                "{refreshing:?}"
            );
        }
        oidc.stop().await.unwrap();
    }
}
