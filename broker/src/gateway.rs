//! The gateway's door: HTTP requests with a token and a proof, forwarded with
//! the provider's bearer.

mod metadata;
mod problem;
pub mod proved;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use enclave::gateway::{Admitted, GatewayError, GatewayRequest, UpstreamCall, answer_headers};
use enclave::nonce::Role;
use enclave::pending::Pending;
use enclave::policy::Denied;
use enclave::refresh::RefreshError;
use enclave::store::StoreError;
use http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderName};
use http::{HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use url::Url;

use crate::events;
use crate::refresher::Refresher;
use crate::shell::Shell;
use crate::upstream::{Egress, Origin, UpstreamError};

/// The body of an answer: our own, or the API's as it streams.
pub type AnswerBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// Says who answered: `gateway` or `api`.
const ANSWERED_BY: HeaderName = HeaderName::from_static("tokenkeep-answered-by");

/// Why a call was not forwarded, or its answer did not come.
#[derive(Debug)]
pub enum CallError {
    /// The enclave does not admit it.
    Refused(GatewayError),
    /// Its leaf could not be made durable.
    Store(StoreError),
    /// There is no upstream access token.
    Refresh(RefreshError),
    /// The API could not be reached or did not answer.
    Upstream(UpstreamError),
    /// The request can't be written.
    Malformed,
}

impl CallError {
    /// The stable word for it, as the caller learns it.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        problem::reason(self)
    }
}

/// The service behind the gateway's listener.
#[derive(Clone, Debug)]
pub struct Gateway {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shell: Arc<Shell>,
    refresher: Arc<Refresher>,
    egress: Egress,
}

impl Gateway {
    /// With the enclave, its exchanges, and the way out.
    #[must_use]
    pub fn new(shell: Arc<Shell>, refresher: Arc<Refresher>, egress: Egress) -> Self {
        Self {
            inner: Arc::new(Inner {
                shell,
                refresher,
                egress,
            }),
        }
    }
}

impl tower::Service<Request<Incoming>> for Gateway {
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { Ok(inner.answer(request).await) })
    }
}

impl Inner {
    async fn answer(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        let config = self.shell.enclave.config();
        let uri = request.uri().clone();
        if let Some(document) = metadata::answer(config, request.method(), uri.path()) {
            return document;
        }
        let mut response = match self.forward(request).await {
            Ok(response) => response,
            Err(error) => {
                events::call_refused(&error);
                problem::answer(&error, metadata::url(config, uri.path()).as_deref())
            }
        };
        let nonce = self
            .shell
            .enclave
            .dpop_nonce(Role::Gateway, &self.shell.clock.now());
        let headers = response.headers_mut();
        if let Ok(nonce) = HeaderValue::try_from(nonce) {
            headers.insert(DPOP_NONCE, nonce);
        }
        // An answer with a nonce must not be kept by anyone [RFC 9449 §8.2].
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    async fn forward(&self, request: Request<Incoming>) -> Result<Response<AnswerBody>, CallError> {
        let (head, body) = request.into_parts();
        let admitted = {
            let request = GatewayRequest {
                method: &head.method,
                path: head.uri.path(),
                query: head.uri.query(),
                headers: &head.headers,
            };
            let now = self.shell.clock.now();
            self.shell
                .enclave
                .admit(&request, &now)
                .map_err(CallError::Refused)?
        };
        let admitted = self.write_down(admitted).await?;
        let access = self
            .refresher
            .access(&admitted.grant, &admitted.scopes)
            .await
            .map_err(CallError::Refresh)?;
        events::call_forwarded(&admitted);
        let call = self
            .shell
            .enclave
            .forward(admitted, &access)
            .map_err(|denied| CallError::Refused(denied.into()))?;
        self.send(call, body).await
    }

    async fn write_down(&self, pending: Pending<Admitted>) -> Result<Admitted, CallError> {
        let durable = pending
            .commit(&*self.shell.store)
            .await
            .map_err(CallError::Store)?;
        self.shell
            .enclave
            .release(durable)
            .map_err(|denied: Denied| CallError::Refused(denied.into()))
    }

    async fn send(
        &self,
        call: UpstreamCall,
        body: Incoming,
    ) -> Result<Response<AnswerBody>, CallError> {
        let url: Url = call
            .base_url
            .as_str()
            .parse()
            .map_err(|_| CallError::Malformed)?;
        let origin = Origin::of(&url).map_err(|_| CallError::Malformed)?;
        let mut request = Request::new(body);
        *request.method_mut() = call.method;
        *request.uri_mut() = call
            .path_and_query
            .parse()
            .map_err(|_| CallError::Malformed)?;
        *request.headers_mut() = call.headers;
        let answer = self
            .egress
            .forward(&origin, request, (AUTHORIZATION, call.authorization))
            .await
            .map_err(CallError::Upstream)?;
        let (head, body) = answer.into_parts();
        let mut response = Response::new(body.map_err(Into::into).boxed_unsync());
        *response.status_mut() = head.status;
        *response.headers_mut() = answer_headers(head.status, &head.headers);
        response
            .headers_mut()
            .insert(ANSWERED_BY, HeaderValue::from_static("api"));
        Ok(response)
    }
}

fn full(bytes: Vec<u8>) -> AnswerBody {
    Full::new(Bytes::from(bytes))
        .map_err(|never| match never {})
        .boxed_unsync()
}
