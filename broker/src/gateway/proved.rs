//! The gateway's connections are proved too: one gRPC method beside the gateway's own paths.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tower::Service;

use super::{AnswerBody, Gateway};
use crate::grpc::door::Door;

/// The method by which a connection is proved. Nothing else of the gRPC services is served here.
pub const PROVE_CONNECTION: &str = "/tokenkeep.v1.AttestationService/ProveConnection";

/// The gateway, and the method that proves the connections to it.
#[derive(Clone, Debug)]
pub struct Proved {
    gateway: Gateway,
    proofs: Door,
}

impl Proved {
    /// `proofs` answers [`PROVE_CONNECTION`]; all else is the gateway's.
    #[must_use]
    pub fn new(gateway: Gateway, proofs: Door) -> Self {
        Self { gateway, proofs }
    }
}

impl Service<Request<Incoming>> for Proved {
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        if request.uri().path() != PROVE_CONNECTION {
            return self.gateway.call(request);
        }
        let proof = self.proofs.call(request);
        Box::pin(async move {
            let answer = proof.await?;
            Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
        })
    }
}
