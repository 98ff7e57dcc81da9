//! The gRPC services behind a door.

use std::convert::Infallible;
use std::pin::Pin;

use http::{Request, Response};
use proto::v1::token_service_server::TokenServiceServer;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower::Service as _;

use crate::grpc::token::Token;

/// An answer that is being made.
pub type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// All services of a listener. Tokens are asked for more often than anything else, so that their service is not looked
/// for among the others: tonic's router takes ten allocations and a microsecond.
#[derive(Clone, Debug)]
pub struct Services {
    tokens: Option<TokenServiceServer<Token>>,
    others: Routes,
}

impl Services {
    /// Those of the router alone.
    #[must_use]
    pub fn new(others: Routes) -> Self {
        Self {
            tokens: None,
            others,
        }
    }

    /// And the one for tokens, in front of them.
    #[must_use]
    pub fn with_tokens(self, tokens: TokenServiceServer<Token>) -> Self {
        Self {
            tokens: Some(tokens),
            ..self
        }
    }

    /// Has a request answered.
    pub fn call(&self, request: Request<Body>) -> Answering {
        match &self.tokens {
            Some(tokens) if is_of::<TokenServiceServer<Token>>(request.uri().path()) => {
                tokens.clone().call(request)
            }
            Some(_) | None => Box::pin(self.others.clone().call(request)),
        }
    }
}

/// Whether a method is one of a service.
fn is_of<S: NamedService>(path: &str) -> bool {
    let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    service.is_some_and(|(service, _method)| service == S::NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_of_the_service_that_its_path_begins_with() {
        let rows = [
            ("/tokenkeep.v1.TokenService/IssueToken", true),
            ("/tokenkeep.v1.TokenService/", true),
            ("/tokenkeep.v1.TokenService", false),
            ("tokenkeep.v1.TokenService/IssueToken", false),
            ("/tokenkeep.v1.TokenServices/IssueToken", false),
            ("//tokenkeep.v1.TokenService/IssueToken", false),
            ("/tokenkeep.v1.GrantService/IssueToken", false),
            ("", false),
        ];
        for (path, expected) in rows {
            assert_eq!(is_of::<TokenServiceServer<Token>>(path), expected, "{path}");
        }
    }
}
