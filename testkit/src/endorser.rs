//! The services of AMD and Intel that hand out collateral, on loopback: they answer what they were given.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::tdx::FMSPC;

/// What is answered at one path.
#[derive(Debug, Clone)]
struct Served {
    body: Bytes,
    header: Option<(&'static str, String)>,
}

#[derive(Debug, Default)]
struct Shelf {
    served: BTreeMap<String, Served>,
    failing: Option<StatusCode>,
    asked: Vec<String>,
}

/// A service. It ends when this is dropped.
#[derive(Debug)]
pub struct Endorser {
    url: String,
    shelf: Arc<Mutex<Shelf>>,
    task: JoinHandle<()>,
}

impl Endorser {
    /// A service with nothing to hand out yet.
    ///
    /// # Errors
    /// [`io::Error`] if there is no port.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let shelf = Arc::<Mutex<Shelf>>::default();
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shelf));
        let task = tokio::spawn(async move {
            // It serves until it is aborted.
            axum::serve(listener, router).await.unwrap_or_default();
        });
        Ok(Self { url, shelf, task })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it hands out the list of Intel's root.
    #[must_use]
    pub fn root_crl_url(&self) -> String {
        format!("{}/IntelSGXRootCA.der", self.url)
    }

    /// Hands out `body` at a path with its query.
    pub fn put(&self, path: &str, body: impl Into<Bytes>) {
        self.place(path, body.into(), None);
    }

    /// Hands out collateral, JSON, part by part, as Intel's service does.
    pub fn put_collateral(&self, json: &[u8]) {
        let json: Value = serde_json::from_slice(json).unwrap_or_default();
        let text = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or_default();
        let signed = |name: &str, key: &str| {
            let signature = text(&format!("{name}_signature"));
            format!("{{\"{key}\":{},\"signature\":\"{signature}\"}}", text(name))
        };
        let chain = |name: &str| escaped(text(name));
        let fmspc = hex::encode_upper(FMSPC);
        self.place(
            &format!("/tdx/certification/v4/tcb?fmspc={fmspc}&update=standard"),
            signed("tcb_info", "tcbInfo").into(),
            Some(("tcb-info-issuer-chain", chain("tcb_info_issuer_chain"))),
        );
        self.place(
            "/tdx/certification/v4/qe/identity?update=standard",
            signed("qe_identity", "enclaveIdentity").into(),
            Some((
                "sgx-enclave-identity-issuer-chain",
                chain("qe_identity_issuer_chain"),
            )),
        );
        let der = |name: &str| hex::decode(text(name)).unwrap_or_default();
        self.place(
            "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
            der("pck_crl").into(),
            Some(("sgx-pck-crl-issuer-chain", chain("pck_crl_issuer_chain"))),
        );
        // Caching services give this one in hexadecimal.
        self.place(
            "/IntelSGXRootCA.der",
            text("root_ca_crl").to_owned().into(),
            None,
        );
    }

    /// From now on every answer has this status; with none, it answers again.
    pub fn fail(&self, status: Option<StatusCode>) {
        self.shelf().failing = status;
    }

    /// Paths and queries that were asked for, in their order.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.shelf().asked.clone()
    }

    fn place(&self, path: &str, body: Bytes, header: Option<(&'static str, String)>) {
        let served = Served { body, header };
        self.shelf().served.insert(path.to_owned(), served);
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Endorser {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(shelf): State<Arc<Mutex<Shelf>>>, request: Request) -> Response {
    let path = request
        .uri()
        .path_and_query()
        .map_or_else(String::new, ToString::to_string);
    let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
    shelf.asked.push(path.clone());
    let status = |status: StatusCode| {
        let mut response = Response::default();
        *response.status_mut() = status;
        response
    };
    if let Some(failing) = shelf.failing {
        return status(failing);
    }
    let Some(Served { body, header }) = shelf.served.get(&path).cloned() else {
        return status(StatusCode::NOT_FOUND);
    };
    let mut response = Response::new(body.into());
    if let Some((name, value)) = header
        && let Ok(value) = value.parse()
    {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Percent-encoded, as Intel's service writes PEM into headers.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
