//! The gateway's door: HTTP requests with a token and a proof, forwarded with
//! the provider's bearer.

mod answer;
mod calls;
mod completions;
pub mod metadata;
mod pacing;
mod problem;
pub mod proved;
mod report;
mod request;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use enclave::gateway::{
    Admitted, AnswerError, CallEnd, GatewayError, GatewayRequest, METHODS, address,
};
use enclave::nonce::Role;
use enclave::pending::Pending;
use enclave::policy::Denied;
use enclave::refresh::{RefreshError, UpstreamAccess};
use enclave::store::StoreError;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, TRANSFER_ENCODING,
};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use url::Url;

use answer::Answer;
use calls::Calls;
use completions::Completions;
use pacing::{Pacing, Reached};
pub(crate) use problem::reason_of_refresh;
use report::Report;
use request::{RequestBody, was_cut};

use crate::events;
use crate::metrics::{Watch, doors, stages};
use crate::refresher::Refresher;
use crate::shell::Shell;
use crate::traces::timeline::End;
use crate::traces::{self, Called};
use crate::upstream::{Egress, Origin, Owner, UpstreamError};

/// The body of an answer: our own, or the API's as it streams.
pub type AnswerBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Ends when the call must not go on.
type Stop = Pin<Box<dyn Future<Output = Denied> + Send>>;

/// How long calls that were cut may take to end when the service stops, and how often that is looked at.
const LAST_CALLS: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);

const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// Says who answered: `gateway` or `api`.
const ANSWERED_BY: HeaderName = HeaderName::from_static("tokenkeep-answered-by");

/// How a call is named in traces.
const CALLED: Called = Called {
    service: "tokenkeep.gateway",
    method: "Call",
};

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
    /// The API refused the proof for want of its newest nonce, which is known now.
    Challenged,
    /// The API's answer can't be passed on.
    Answer(AnswerError),
    /// The request can't be written.
    Malformed,
    /// More calls are under way than may be.
    Overloaded,
    /// It does not name one host.
    Authority,
    /// Its body has two lengths.
    Framing,
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
    /// For calls under way, until their answers have ended.
    calls: Arc<Calls>,
    completions: Arc<Completions>,
}

impl Gateway {
    /// With the enclave, its exchanges, the way out, and room for so many calls. Of the runtime that it is called in.
    #[must_use]
    pub fn new(shell: Arc<Shell>, refresher: Arc<Refresher>, egress: Egress, calls: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                shell,
                refresher,
                egress,
                calls: Calls::new(calls),
                completions: Completions::on(Handle::current()),
            }),
        }
    }
}

impl Gateway {
    /// Writes down what is left to be said of calls, when no more come: those that were cut end first, if they do so in
    /// a second.
    pub async fn written(&self) {
        let Inner {
            shell,
            calls,
            completions,
            ..
        } = &*self.inner;
        let over = async {
            while calls.under_way() > 0 {
                sleep(LOOK).await;
            }
        };
        // Those that are not over then are lost, and the service ends all the same.
        drop(timeout(LAST_CALLS, over).await);
        completions.write(shell).await;
    }

    /// Whether a request names a host that stands for a target of a grant.
    pub(crate) fn is_below(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let origin = &self.inner.shell.enclave.config().gateway_origin;
        authority(uri, headers).is_some_and(|named| address::is_below(origin, named))
    }
}

/// The one host that a request names: in its target, in `Host`, or the same in both [RFC 9112 §3.2].
fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, _) => None,
        (Some(host), None) => Some(host.to_str().ok()?),
        (Some(_), Some(_)) => return None,
    };
    match (uri.authority().map(http::uri::Authority::as_str), host) {
        (Some(target), Some(host)) => target.eq_ignore_ascii_case(host).then_some(target),
        (Some(one), None) | (None, Some(one)) => Some(one),
        (None, None) => None,
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
        let watch = Watch::start();
        let trace = traces::begin(CALLED, request.headers());
        let work = async move {
            let answer = inner.answer(request).await;
            doors::GATEWAY.answered(watch, answer.status());
            Ok(answer)
        };
        match trace {
            None => Box::pin(work),
            Some(trace) => Box::pin(trace.around(Box::pin(work), |answer| match answer {
                Ok(answer) => End::Http(answer.status().as_u16()),
                Err(never) => match *never {},
            })),
        }
    }
}

impl Inner {
    async fn answer(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        let config = self.shell.enclave.config();
        let uri = request.uri().clone();
        let named = authority(&uri, request.headers()).map(ToOwned::to_owned);
        let host = named.as_deref().unwrap_or_default();
        if let Some(document) = metadata::answer(config, request.method(), host, uri.path()) {
            return document;
        }
        let answered = match &named {
            Some(named) => self.forward(request, named).await,
            // `CONNECT` names whom to connect to.
            None if !METHODS.contains(request.method()) => {
                Err(CallError::Refused(GatewayError::Method))
            }
            None => Err(CallError::Authority),
        };
        let mut response = match answered {
            Ok(response) => response,
            Err(error) => {
                events::call_refused(&error);
                let metadata = metadata::url_below_host(config, host)
                    .or_else(|| metadata::url(config, uri.path()));
                problem::answer(&error, metadata.as_deref())
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

    async fn forward(
        &self,
        request: Request<Incoming>,
        authority: &str,
    ) -> Result<Response<AnswerBody>, CallError> {
        let (head, body) = request.into_parts();
        // The parser goes by the one; whoever stands in between may have gone by the other [RFC 9112 §6.3].
        if head.headers.contains_key(TRANSFER_ENCODING) && head.headers.contains_key(CONTENT_LENGTH)
        {
            return Err(CallError::Framing);
        }
        let place = self.calls.enter().ok_or(CallError::Overloaded)?;
        let begun = stages::ADMIT.begin();
        let admitted = {
            let peer = self.shell.peer(&head.extensions);
            let request = GatewayRequest {
                peer: &peer,
                method: &head.method,
                authority,
                path: head.uri.path(),
                query: head.uri.query(),
                headers: &head.headers,
                body_bytes: body.size_hint().exact(),
            };
            let now = self.shell.clock.now();
            self.shell
                .enclave
                .admit(&request, &now)
                .map_err(CallError::Refused)?
        };
        begun.passed();
        let admitted = self.write_down(admitted).await?;
        let place = place.of(&admitted.client).ok_or(CallError::Overloaded)?;
        let mut report = Report::new(
            Arc::clone(&self.shell),
            Arc::clone(&self.completions),
            admitted,
            place,
        );
        let touched = report.admitted().touched();
        let mut stop: Stop = Box::pin(Arc::clone(&self.shell).stopped(touched));
        let answer = tokio::select! {
            biased;
            denied = &mut stop => {
                report.ended(CallEnd::Stopped);
                return Err(CallError::Refused(denied.into()));
            }
            answer = Box::pin(self.ask(&report, body)) => answer,
        };
        let answer = answer.inspect_err(|error| {
            if matches!(error, CallError::Refused(GatewayError::Limit(_))) {
                report.ended(CallEnd::Limited);
            }
        })?;
        let pacing = Pacing::of(&self.shell, report.admitted(), &Reached::default());
        answer.pass_on(report, stop, pacing)
    }

    /// The API's answer.
    async fn ask(&self, report: &Report, body: Incoming) -> Result<Answer, CallError> {
        let access = self.access(report).await?;
        events::call_forwarded(report.admitted());

        // Without a body it can be sent again.
        let again = body.is_end_stream().then(RequestBody::empty);
        let max_bytes = report.admitted().max_body_bytes();
        let reached = Reached::default();
        let pacing = Pacing::of(&self.shell, report.admitted(), &reached);
        let body = RequestBody::new(body, report.sent(), max_bytes, pacing);
        let answer = match self.send(report, &access, body).await {
            Ok(answer) => answer,
            Err(_) if let Some(limit) = reached.get() => {
                return Err(CallError::Refused((*limit).into()));
            }
            Err(_) if was_cut(&report.sent(), max_bytes) => {
                let too_large = report.admitted().body_too_large();
                return Err(too_large.map_or(CallError::Malformed, CallError::Refused));
            }
            Err(error) => return Err(error),
        };
        let answer = match (answer.challenged, &again) {
            (false, _) => answer,
            // The API has not acted on it, and wants its newest nonce in the proof.
            (true, Some(_)) => self.send(report, &access, RequestBody::empty()).await?,
            (true, None) => return Err(CallError::Challenged),
        };
        if answer.challenged {
            return Err(CallError::Challenged);
        }
        match again {
            Some(again) if answer.response.status() == StatusCode::UNAUTHORIZED => {
                self.once_more(report, access, answer, again).await
            }
            Some(_) | None => Ok(answer),
        }
    }

    async fn access(&self, report: &Report) -> Result<Arc<UpstreamAccess>, CallError> {
        let admitted = report.admitted();
        let begun = stages::ACCESS.begin();
        let access = self
            .refresher
            .access(&admitted.grant, &admitted.wanted)
            .await
            .map_err(CallError::Refresh)?;
        begun.passed();
        Ok(access)
    }

    /// After a 401: once more with another token, if there is a point in it. What
    /// the API said first stands if there is no other token.
    async fn once_more(
        &self,
        report: &Report,
        refused: Arc<UpstreamAccess>,
        answer: Answer,
        body: RequestBody,
    ) -> Result<Answer, CallError> {
        let now = self.shell.clock.now();
        let enclave = &self.shell.enclave;
        if !enclave.doubt_upstream(report.admitted(), &refused, &now) {
            return Ok(answer);
        }
        match self.access(report).await {
            Ok(access) => self.send(report, &access, body).await,
            Err(error) => {
                events::call_not_repeated(&error);
                Ok(answer)
            }
        }
    }

    async fn write_down(&self, pending: Pending<Admitted>) -> Result<Admitted, CallError> {
        let concluded = self.shell.conclude(pending).await;
        let (released, _receipt) = concluded.map_err(CallError::Store)?;
        released.map_err(|denied: Denied| CallError::Refused(denied.into()))
    }

    async fn send(
        &self,
        report: &Report,
        access: &Arc<UpstreamAccess>,
        body: RequestBody,
    ) -> Result<Answer, CallError> {
        let call = self
            .shell
            .enclave
            .forward(report.admitted(), access, &self.shell.clock.now())
            .map_err(CallError::Refused)?;
        let url: Url = call
            .base_url
            .as_str()
            .parse()
            .map_err(|_| CallError::Malformed)?;
        let origin = Origin::of(&url).map_err(|_| CallError::Malformed)?;
        let admitted = report.admitted();
        let owner = Owner::new(admitted.tenant.clone(), admitted.grant.clone());
        let mut request = Request::new(body);
        *request.method_mut() = call.method;
        *request.uri_mut() = call
            .path_and_query
            .parse()
            .map_err(|_| CallError::Malformed)?;
        *request.headers_mut() = call.headers;
        let begun = stages::UPSTREAM.begin();
        let response = self
            .egress
            .forward(
                &owner,
                &origin,
                request,
                (AUTHORIZATION, call.authorization),
            )
            .await
            .map_err(CallError::Upstream)?;
        begun.passed();
        let status = response.status().as_u16();
        let challenged =
            self.shell
                .enclave
                .api_answered(report.admitted(), access, status, response.headers());
        Ok(Answer {
            challenged,
            response,
            rules: call.answer,
            access: Arc::clone(access),
        })
    }
}

fn full(bytes: Vec<u8>) -> AnswerBody {
    Full::new(Bytes::from(bytes))
        .map_err(|never| match never {})
        .boxed_unsync()
}
