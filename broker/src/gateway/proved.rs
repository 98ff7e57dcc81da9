//! What the gateway's listener serves beside the gateway's own paths: the gRPC method that proves its connections,
//! and the OAuth endpoints for clients with certificates [RFC 8705 §5], as the public listener asks for none.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tower::Service;

use super::{AnswerBody, Gateway};
use crate::grpc::door::Door;
use crate::listener::Answers;
use crate::public;

/// The method by which a connection is proved. Nothing else of the gRPC services is served here.
pub const PROVE_CONNECTION: &str = "/tokenkeep.v1.AttestationService/ProveConnection";

/// The gateway, and what stands beside it.
#[derive(Clone, Debug)]
pub struct Proved {
    gateway: Gateway,
    proofs: Door,
    endpoints: Router,
}

impl Proved {
    /// `proofs` answers [`PROVE_CONNECTION`], `endpoints` its own paths; all else is the gateway's.
    #[must_use]
    pub fn new(gateway: Gateway, proofs: Door, endpoints: Router) -> Self {
        Self {
            gateway,
            proofs,
            endpoints,
        }
    }
}

impl Answers for Proved {}

impl Service<Request<Incoming>> for Proved {
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let path = request.uri().path();
        // All paths below a host that names an API are the API's.
        if self.gateway.is_below(request.uri(), request.headers()) {
            return self.gateway.call(request);
        }
        if public::is_endpoint(path) {
            let answer = self.endpoints.call(request);
            return Box::pin(async move {
                let answer = answer.await?;
                Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
            });
        }
        if path != PROVE_CONNECTION {
            return self.gateway.call(request);
        }
        let proof = self.proofs.call(request);
        Box::pin(async move {
            let answer = proof.await?;
            Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
        })
    }
}
