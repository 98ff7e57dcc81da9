//! The outermost layer of the gRPC services: a deadline for each request, and
//! tonic's own refusals in our terms.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::Service;

use crate::status::Refusal;

const GRPC_STATUS: &str = "grpc-status";
const GRPC_DETAILS: &str = "grpc-status-details-bin";

/// tonic's services behind a deadline.
#[derive(Clone, Debug)]
pub struct Door {
    routes: Routes,
    deadline: Duration,
}

impl Door {
    /// Lets each request take `deadline` at most.
    #[must_use]
    pub fn new(routes: Routes, deadline: Duration) -> Self {
        Self { routes, deadline }
    }
}

impl Service<Request<Incoming>> for Door {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let deadline = self.deadline;
        let answer = self.routes.call(request);
        Box::pin(async move {
            let Ok(answer) = tokio::time::timeout(deadline, answer).await else {
                return Ok(Refusal::deadline().status().into_http());
            };
            let Ok(answer) = answer;
            Ok(match foreign(answer.headers()) {
                Some(refusal) => refusal.status().into_http(),
                None => answer,
            })
        })
    }
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
