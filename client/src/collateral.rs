//! AMD's revocation lists: fetched from its key distribution service or a mirror, and kept with a floor.
//!
//! A list is signed by AMD's root, so it does not matter who hands it out: a mirror may be asked in clear. What matters
//! is that a newer one is not replaced by an older one; the store refuses that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use attestation::snp::{Line, RevocationSummary};
use attestation::{RevocationError, Roots};
use bytes::Bytes;
use http::header::{HOST, RETRY_AFTER};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::private_file::{FileError, create_private, read_public};

/// AMD's key distribution service.
pub const AMD_KDS: &str = "https://kdsintf.amd.com";

/// The longest list that is read, bytes.
const MAX_LIST_BYTES: usize = 64 * 1024;

/// How long one request may take, look-up and handshakes included.
const DEADLINE: Duration = Duration::from_secs(20);

/// Why a list was not fetched or not kept.
#[derive(Debug, thiserror::Error)]
pub enum CollateralError {
    /// No `http` or `https` URL with a host.
    #[error("{url:?} is no http or https URL")]
    Url {
        /// What was given.
        url: String,
    },
    /// No connection, or it broke.
    #[error("{host} was not reached: {why}")]
    Unreached {
        /// Who was asked.
        host: String,
        /// What happened.
        why: String,
    },
    /// Nothing within the deadline.
    #[error("{host} did not answer in time")]
    Timeout {
        /// Who was asked.
        host: String,
    },
    /// Too many requests.
    #[error("{host} has had too many requests")]
    Busy {
        /// Who was asked.
        host: String,
        /// When to come back, seconds, if it says so.
        retry_after_s: Option<u64>,
    },
    /// Another answer than a list.
    #[error("{host} answers with status {status}")]
    Status {
        /// Who was asked.
        host: String,
        /// The status.
        status: u16,
    },
    /// Not a list that a pinned root signed, or one older than that in the store.
    #[error("the list is refused")]
    List(#[from] RevocationError),
    /// A list of another line than asked for.
    #[error("the list is of {found}, not of {expected}")]
    Line {
        /// What was asked for.
        expected: Line,
        /// Whose root signed it.
        found: Line,
    },
    /// A file of the store.
    #[error(transparent)]
    File(#[from] FileError),
    /// The new file could not take the place of the old one.
    #[error("{path:?} cannot be replaced")]
    Replace {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Asks a key distribution service for the revocation list of a line [AMD 57230, "VCEK CRL"]. Nothing is verified yet.
///
/// # Errors
/// [`CollateralError`], by what went wrong on the way.
pub async fn fetch(endpoint: &str, line: Line) -> Result<Vec<u8>, CollateralError> {
    let malformed = || CollateralError::Url {
        url: endpoint.to_owned(),
    };
    let base = Url::parse(endpoint).map_err(|_| malformed())?;
    if !matches!(base.scheme(), "http" | "https") {
        return Err(malformed());
    }
    let host = base.host_str().ok_or_else(malformed)?.to_owned();
    let port = base.port_or_known_default().ok_or_else(malformed)?;
    let path = format!("{}/vcek/v1/{line}/crl", base.path().trim_end_matches('/'));
    let request = Request::get(path)
        .header(HOST, format!("{host}:{port}"))
        .body(Empty::<Bytes>::new())
        .map_err(|_| malformed())?;
    let asked = async {
        let unreached = |why: String| CollateralError::Unreached {
            host: host.clone(),
            why,
        };
        let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port))
            .await
            .map_err(|error| unreached(error.to_string()))?;
        match base.scheme() {
            "http" => ask(tcp, request, &host).await,
            "https" => {
                let name = ServerName::try_from(host.clone()).map_err(|_| malformed())?;
                let tls = tls().map_err(|error| unreached(error.to_string()))?;
                let tls = TlsConnector::from(Arc::new(tls))
                    .connect(name, tcp)
                    .await
                    .map_err(|error| unreached(error.to_string()))?;
                ask(tls, request, &host).await
            }
            _ => Err(malformed()),
        }
    };
    timeout(DEADLINE, asked)
        .await
        .unwrap_or_else(|_elapsed| Err(CollateralError::Timeout { host: host.clone() }))
}

async fn ask(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
    host: &str,
) -> Result<Vec<u8>, CollateralError> {
    let unreached = |why: String| CollateralError::Unreached {
        host: host.to_owned(),
        why,
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(io))
        .await
        .map_err(|error| unreached(error.to_string()))?;
    // Ends with the connection; how it ended, the request on it learns.
    tokio::spawn(async move { connection.await.unwrap_or_default() });
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| unreached(error.to_string()))?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::TOO_MANY_REQUESTS => {
            let value = answer.headers().get(RETRY_AFTER);
            let text = value.and_then(|value| value.to_str().ok());
            return Err(CollateralError::Busy {
                host: host.to_owned(),
                retry_after_s: text.and_then(|text| text.parse().ok()),
            });
        }
        status => {
            return Err(CollateralError::Status {
                host: host.to_owned(),
                status: status.as_u16(),
            });
        }
    }
    let body = Limited::new(answer.into_body(), MAX_LIST_BYTES)
        .collect()
        .await
        .map_err(|error| unreached(error.to_string()))?;
    Ok(body.to_bytes().to_vec())
}

fn tls() -> Result<ClientConfig, rustls::Error> {
    let roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// A folder with one list a line, `amd-milan.crl` and so on: also the form in which lists are carried to a machine
/// without a network.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The store in a folder that exists.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The lists that are there, DER, unverified.
    ///
    /// # Errors
    /// [`FileError`] for a file that is there and cannot be read.
    pub fn lists(&self) -> Result<Vec<(Line, Vec<u8>)>, FileError> {
        let mut lists = Vec::new();
        for line in Line::ALL {
            let path = self.path(line);
            if path.exists() {
                lists.push((line, read_public(&path, MAX_LIST_BYTES)?.to_vec()));
            }
        }
        Ok(lists)
    }

    /// Keeps a list: one that a root of the set signed, of this line, and not older than the one that is there.
    ///
    /// # Errors
    /// [`CollateralError`]; the store is then as it was.
    pub fn keep(
        &self,
        line: Line,
        der: &[u8],
        roots: &Roots,
    ) -> Result<RevocationSummary, CollateralError> {
        let summary = roots.read_revocation_list(der)?;
        if summary.line != line {
            return Err(CollateralError::Line {
                expected: line,
                found: summary.line,
            });
        }
        let mut known = roots.clone();
        for (_, der) in self.lists()? {
            known.add_revocation_list(&der)?;
        }
        known.add_revocation_list(der)?;
        let path = self.path(line);
        let new = path.with_extension("crl.new");
        let replace = |source| CollateralError::Replace {
            path: path.clone(),
            source,
        };
        if new.exists() {
            // What an earlier run left when it was cut off.
            std::fs::remove_file(&new).map_err(replace)?;
        }
        create_private(&new, der)?;
        std::fs::rename(&new, &path).map_err(replace)?;
        Ok(summary)
    }

    fn path(&self, line: Line) -> PathBuf {
        let name = line.as_str().to_lowercase();
        self.folder.join(format!("amd-{name}.crl"))
    }
}

#[cfg(test)]
mod tests;
