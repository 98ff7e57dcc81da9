//! The outermost layer of the gRPC services: room and a deadline for each request, numbers and traces of it, and tonic's
//! own refusals in our terms.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, ready};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::Either;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use crate::grpc::services::{Answering, Services};
use crate::listener::{Answers, Unread};
use crate::metrics::rpc;
use crate::room::{BODY, Errand, Room, Seat};
use crate::seated::Seated;
use crate::shell::Shell;
use crate::status::Refusal;
use crate::traces::timeline::End;
use crate::traces::{self, Called};

const GRPC_STATUS: &str = "grpc-status";
const GRPC_DETAILS: &str = "grpc-status-details-bin";

/// What gRPC puts before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// The administrators' services.
const ADMINISTRATION: [&str; 3] = [
    "/tokenkeep.v1.GrantService/",
    "/tokenkeep.v1.KeyService/",
    "/tokenkeep.v1.RegistryService/",
];

/// Methods of theirs that wait for a provider or an owner: they would fill the reserve.
const WAITING: [&str; 4] = [
    "/tokenkeep.v1.GrantService/AwaitConnect",
    "/tokenkeep.v1.GrantService/BeginDeviceConnect",
    "/tokenkeep.v1.GrantService/CompleteConnect",
    "/tokenkeep.v1.GrantService/DepositGrant",
];

const REVOKE_TOKEN: &str = "/tokenkeep.v1.TokenService/RevokeToken";

const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// What a method is about, as far as room is concerned.
fn errand(path: &str) -> Errand {
    let administers = || ADMINISTRATION.iter().any(|prefix| path.starts_with(prefix));
    if path == HEALTH_CHECK {
        Errand::Health
    } else if path == REVOKE_TOKEN || (administers() && !WAITING.contains(&path)) {
        Errand::Stop
    } else {
        Errand::Other
    }
}

/// tonic's services behind a deadline. Cheap to clone: each request does.
#[derive(Clone, Debug)]
pub struct Door(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    services: Services,
    shell: Arc<Shell>,
    room: Room,
    deadline: Duration,
    message_bytes: usize,
}

impl Door {
    /// Lets as many requests in as there is room for; each may take `deadline` at most once its message is there.
    #[must_use]
    pub fn new(
        services: Services,
        shell: Arc<Shell>,
        room: Room,
        deadline: Duration,
        message_bytes: usize,
    ) -> Self {
        Self(Arc::new(Inner {
            services,
            shell,
            room,
            deadline,
            message_bytes,
        }))
    }
}

impl Service<Request<Incoming>> for Door {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Answering {
        match self.answer(request) {
            Either::Left(answer) => Box::pin(ready(Ok(answer))),
            Either::Right(making) => making,
        }
    }
}

/// What is turned away is answered at once.
impl Answers for Door {
    fn answer(&mut self, mut request: Request<Incoming>) -> Either<Response<Body>, Answering> {
        let path = request.uri().path();
        let Self(door) = self;
        let seat = door
            .room
            .seat(&door.shell, request.extensions(), errand(path));
        let seat = match seat {
            Ok(seat) => Arc::new(seat),
            Err(shed) => {
                let answer = door.room.answer(shed);
                return match pass_over(request.into_body()) {
                    None => Either::Left(answer),
                    Some(passing) => Either::Right(Box::pin(async move {
                        passing.await;
                        Ok(answer)
                    })),
                };
            }
        };
        let method = rpc::method(path);
        let call = rpc::begin(method);
        let called = Called {
            service: &method.service,
            method: &method.name,
        };
        let trace = traces::begin(called, request.headers());
        // A method that waits for somebody else gives its place up.
        request.extensions_mut().insert(Arc::clone(&seat));
        let door = Arc::clone(door);
        let (head, body) = request.into_parts();
        let work = async move {
            let deadline = door.deadline;
            let most = door.message_bytes.saturating_add(PREFIX_BYTES);
            let message = whole(body, most, deadline.min(BODY), &seat).await;
            let answer = match message {
                Err(refusal) => refusal.status().into_http(),
                Ok(message) => match seat.enter() {
                    Err(shed) => door.room.answer(shed),
                    Ok(()) => {
                        let request = Request::from_parts(head, Body::new(Full::new(message)));
                        let answer = in_time(door.services.call(request), deadline).await;
                        carrying(answer, seat, method.streams)
                    }
                },
            };
            if let Some(call) = call {
                call.ended(code(&answer));
            }
            Ok(answer)
        };
        match trace {
            None => Either::Right(Box::pin(work)),
            Some(trace) => Either::Right(Box::pin(trace.around(
                Box::pin(work),
                |answer| match answer {
                    Ok(answer) => End::Grpc(code(answer)),
                    Err(never) => match *never {},
                },
            ))),
        }
    }
}

/// How much of a body is passed over, and for how long, whose request is turned away.
const PASSED_OVER_BYTES: usize = 64 * 1024;
const PASSED_OVER: Duration = Duration::from_millis(50);

/// Passes over what is there of a body. A stream that is answered before its body has come is reset, and a connection with
/// many of those is closed: whoever is turned away would lose its other calls with it. `None` if all of it was there.
fn pass_over(body: Incoming) -> Option<impl Future<Output = ()> + Send> {
    let mut body = Limited::new(body, PASSED_OVER_BYTES);
    loop {
        match body.frame().now_or_never() {
            Some(Some(Ok(_))) => {}
            Some(Some(Err(_)) | None) => return None,
            None => break,
        }
    }
    Some(async move {
        let over = async { while let Some(Ok(_)) = body.frame().await {} };
        timeout(PASSED_OVER, over).await.unwrap_or_default();
    })
}

/// All of a request's message, of so many bytes at most: no method takes a stream.
async fn whole(body: Incoming, most: usize, time: Duration, seat: &Seat) -> Result<Bytes, Refusal> {
    let mut body = pin!(Limited::new(body, most).collect());
    // No clock is read for what is there.
    let body = match body.as_mut().now_or_never() {
        Some(body) => body,
        None => {
            seat.is_late();
            let body = timeout(time, body).await;
            body.map_err(|_elapsed| Refusal::deadline())?
        }
    };
    Ok(body.map_err(|error| refused(&*error))?.to_bytes())
}

fn refused(error: &(dyn Error + Send + Sync + 'static)) -> Refusal {
    if error.is::<LengthLimitError>() {
        Refusal::too_large()
    } else {
        // The stream broke off: nobody may be there any more to read this.
        Refusal::malformed()
    }
}

/// How long a peer may take nothing of a stream.
const STREAM_UNREAD: Duration = Duration::from_secs(60);

/// An answer keeps its request's place until the peer has taken it. Streams go on for as long as they like, and have
/// bounds of their own.
fn carrying(mut answer: Response<Body>, seat: Arc<Seat>, streams: bool) -> Response<Body> {
    if answer.headers().contains_key(GRPC_STATUS) || seat.is_of_health() {
        return answer;
    }
    if streams {
        answer.extensions_mut().insert(Unread(STREAM_UNREAD));
        return answer;
    }
    answer.map(|body| Body::new(Seated::new(body, seat)))
}

async fn in_time(answer: Answering, deadline: Duration) -> Response<Body> {
    let Ok(answer) = timeout(deadline, answer).await else {
        return Refusal::deadline().status().into_http();
    };
    let Ok(answer) = answer;
    match foreign(answer.headers()) {
        Some(refusal) => refusal.status().into_http(),
        None => answer,
    }
}

/// The code of an answer that says it in its head; what says it behind its body, went well so far.
fn code(answer: &Response<Body>) -> Code {
    answer
        .headers()
        .get(GRPC_STATUS)
        .map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
}

/// What tonic refused by itself: our own refusals carry details.
fn foreign(headers: &HeaderMap) -> Option<Refusal> {
    if headers.contains_key(GRPC_DETAILS) || !headers.contains_key(GRPC_STATUS) {
        return None;
    }
    let status = Status::from_header_map(headers)?;
    match status.code() {
        // The message is longer than the bound, by its own word.
        Code::OutOfRange => Some(Refusal::too_large()),
        // It does not decode.
        Code::Internal => Some(Refusal::malformed()),
        Code::Unimplemented => Some(Refusal::unknown_method()),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stops_something_is_told_from_what_waits() {
        let all = rpc::methods();
        let there = |path: &str| {
            let mut paths = all.iter().map(|m| format!("/{}/{}", m.service, m.name));
            paths.any(|found| found == path)
        };
        for path in WAITING.into_iter().chain([REVOKE_TOKEN, HEALTH_CHECK]) {
            assert!(there(path), "{path}");
        }
        let rows = [
            (HEALTH_CHECK, Errand::Health),
            ("/grpc.health.v1.Health/Watch", Errand::Other),
            (REVOKE_TOKEN, Errand::Stop),
            ("/tokenkeep.v1.TokenService/IssueToken", Errand::Other),
            (
                "/tokenkeep.v1.AttestationService/GetEvidence",
                Errand::Other,
            ),
            ("/tokenkeep.v1.GrantService/Freeze", Errand::Stop),
            ("/tokenkeep.v1.GrantService/RevokeGrant", Errand::Stop),
            ("/tokenkeep.v1.GrantService/SetPolicy", Errand::Stop),
            ("/tokenkeep.v1.GrantService/AwaitConnect", Errand::Other),
            ("/tokenkeep.v1.GrantService/DepositGrant", Errand::Other),
            ("/tokenkeep.v1.KeyService/RotateKey", Errand::Stop),
            ("/tokenkeep.v1.RegistryService/UpdateClient", Errand::Stop),
            ("/tokenkeep.v1.AuditService/TailLeaves", Errand::Other),
            ("/other", Errand::Other),
        ];
        for (path, expected) in rows {
            assert_eq!(errand(path), expected, "{path}");
        }
    }
}
