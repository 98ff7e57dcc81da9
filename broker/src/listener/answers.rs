//! What a listener serves: a service that may answer at once.

use std::convert::Infallible;

use axum::Router;
use futures_util::future::Either;
use http::Request;
use hyper::body::Incoming;
use tonic::service::Routes;

/// What tower calls a service, ready at any time. An answer that it makes gets a task of its own, unless it is there at
/// once.
pub trait Answers: tower::Service<Request<Incoming>, Error = Infallible> {
    /// The answer to a request, if nothing has to be waited for, or the one that is being made.
    fn answer(&mut self, request: Request<Incoming>) -> Either<Self::Response, Self::Future> {
        Either::Right(self.call(request))
    }
}

impl Answers for Router {}

impl Answers for Routes {}
