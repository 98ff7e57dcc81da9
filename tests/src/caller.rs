//! A client by hand: every proof, nonce and header can be got wrong on purpose.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a request that cannot be made fails the test"
)]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dev::names;
use http::Method;
use jose::dpop::{ProofParams, random_jti};
use proto::v1;
use proto::v1::token_service_client::TokenServiceClient;
use ring::rand::SystemRandom;
use tokenkeep::{
    AttestedChannel, Clock as _, DpopKey, RpcError, Signer as _, SystemClock, TokenClient,
    TokenRequest,
};
use tonic::{Code, Request, Status};

use crate::https::{Https, Reply, Streaming};
use crate::stack::Stack;

/// The metadata and the header of a proof.
pub const DPOP: &str = "dpop";
/// The metadata and the header of the next nonce.
pub const DPOP_NONCE: &str = "dpop-nonce";

/// What a refusal over gRPC says: the code and the stable reason.
pub type Refused = (Code, String);

/// A client with its certificate, its DPoP key and a plain connection to the gateway.
#[derive(Debug)]
pub struct Caller {
    /// The verified channel, with the client's certificate.
    pub channel: AttestedChannel,
    /// The DPoP key.
    pub key: Arc<DpopKey>,
    /// Connections to the gateway and the public listener.
    pub https: Https,
    grant: String,
    grpc: http::Uri,
    htu: String,
    resource: String,
    gateway: String,
}

impl Caller {
    /// The stack's own client.
    pub async fn of(stack: &Stack) -> Self {
        Self::over(stack, stack.client().await, stack.dpop_key())
    }

    /// A client over another channel or with another key.
    #[must_use]
    pub fn over(stack: &Stack, channel: AttestedChannel, key: Arc<DpopKey>) -> Self {
        let https = Https::trusting(&channel.bundle().enclave_ca_der);
        let grpc = stack.grpc_uri();
        Self {
            channel,
            key,
            https,
            htu: format!(
                "{}/tokenkeep.v1.TokenService/IssueToken",
                stack.url("grpc_url")
            ),
            grpc,
            grant: names::GRANT.to_owned(),
            resource: stack.resource(),
            gateway: stack.url("gateway_url").to_owned(),
        }
    }

    /// The same client at another grant.
    #[must_use]
    pub fn at(&self, grant: &str) -> Self {
        Self {
            channel: self.channel.clone(),
            key: Arc::clone(&self.key),
            https: self.https.clone(),
            grant: grant.to_owned(),
            grpc: self.grpc.clone(),
            htu: self.htu.clone(),
            resource: format!("{}/g/{grant}/{}", self.gateway, names::TARGET),
            gateway: self.gateway.clone(),
        }
    }

    /// The same client at another resource of the same grant.
    #[must_use]
    pub fn for_resource(&self, resource: &str) -> Self {
        Self {
            resource: resource.to_owned(),
            ..self.at(&self.grant)
        }
    }

    /// Where proofs for `IssueToken` are to be used.
    #[must_use]
    pub fn htu(&self) -> &str {
        &self.htu
    }

    /// The origin of its gRPC calls.
    #[must_use]
    pub const fn grpc(&self) -> &http::Uri {
        &self.grpc
    }

    /// The usual request.
    #[must_use]
    pub fn request(&self) -> v1::IssueTokenRequest {
        v1::IssueTokenRequest {
            grant: self.grant.clone(),
            resource: self.resource.clone(),
            ..Default::default()
        }
    }

    /// A proof, right in all that the arguments leave.
    #[must_use]
    pub fn proof(&self, htm: &str, htu: &str, nonce: &str, token: Option<&str>) -> String {
        proof(&self.key, htm, htu, nonce, token)
    }

    /// A fresh proof for `IssueToken`.
    #[must_use]
    pub fn issue_proof(&self, nonce: &str) -> String {
        self.proof("POST", &self.htu, nonce, None)
    }

    /// Asks for a token with exactly these proofs.
    ///
    /// # Errors
    /// The refusal.
    pub async fn issue(
        &self,
        request: v1::IssueTokenRequest,
        proofs: &[&str],
    ) -> Result<v1::IssueTokenResponse, Status> {
        let proved = request.binding != i32::from(v1::TokenBinding::Certificate);
        let mut message = Request::new(request);
        for proof in proofs {
            let value = proof.parse().expect("a proof is a metadata value");
            message.metadata_mut().append(DPOP, value);
        }
        let transport = self.channel.transport().clone();
        let mut client = TokenServiceClient::with_origin(transport, self.grpc.clone());
        let answered = client.issue_token(message).await?;
        assert_eq!(
            answered.metadata().contains_key(DPOP_NONCE),
            proved,
            "a good answer to a proof carries a nonce, too"
        );
        Ok(answered.into_inner())
    }

    /// The newest nonce of the token service.
    pub async fn nonce(&self) -> String {
        let refused = Box::pin(self.issue(self.request(), &[])).await;
        let refused = refused.expect_err("a request without a proof");
        nonce_of(&refused)
    }

    /// A token for the API behind the gateway.
    pub async fn token(&self) -> String {
        let nonce = self.nonce().await;
        let proof = self.issue_proof(&nonce);
        let issued = Box::pin(self.issue(self.request(), &[&proof])).await;
        issued.expect("a token").access_token
    }

    /// A client of the SDK with the same certificate and key.
    #[must_use]
    pub fn sdk(&self) -> TokenClient {
        TokenClient::new(&self.channel, Arc::clone(&self.key) as _)
    }

    /// The usual request, for the SDK.
    #[must_use]
    pub fn sdk_request(&self) -> TokenRequest {
        TokenRequest::new(self.grant.clone(), self.resource.clone())
    }

    /// A URL of the API behind the gateway.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.resource)
    }

    /// The newest nonce of the gateway.
    pub async fn gateway_nonce(&self) -> String {
        let reply = self.https.get(&self.gateway).await;
        reply.header(DPOP_NONCE).to_owned()
    }

    /// Calls the API with a token, a nonce and a right proof, if the gateway answers at all.
    ///
    /// # Errors
    /// There is no whole answer.
    pub async fn try_call(
        &self,
        method: Method,
        path: &str,
        token: &str,
        nonce: &str,
    ) -> io::Result<Reply> {
        let url = self.url(path);
        let proof = self.proof(method.as_str(), &url, nonce, Some(token));
        let authorization = format!("DPoP {token}");
        let headers = [("authorization", authorization.as_str()), (DPOP, &proof)];
        Box::pin(self.https.try_send(method, &url, &headers, "")).await
    }

    /// `GET`s from the API and gives the answer as soon as its head is there.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn open(&self, path: &str, token: &str, nonce: &str) -> io::Result<Streaming> {
        let url = self.url(path);
        let proof = self.proof("GET", &url, nonce, Some(token));
        let authorization = format!("DPoP {token}");
        let headers = [("authorization", authorization.as_str()), (DPOP, &proof)];
        Box::pin(self.https.open(Method::GET, &url, &headers, "")).await
    }

    /// Calls the API with a token: a fresh nonce, a right proof.
    pub async fn call(&self, method: Method, path: &str, token: &str) -> Reply {
        self.call_with(method, path, token, Bytes::new(), &[]).await
    }

    /// Calls the API with a body and headers.
    pub async fn call_with(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: impl Into<Bytes>,
        headers: &[(&str, &str)],
    ) -> Reply {
        let nonce = self.gateway_nonce().await;
        let url = self.url(path);
        let proof = self.proof(method.as_str(), &url, &nonce, Some(token));
        let authorization = format!("DPoP {token}");
        let mut all = vec![("authorization", authorization.as_str()), (DPOP, &proof)];
        all.extend_from_slice(headers);
        self.https.send(method, &url, &all, body).await
    }

    /// `GET`s from the API, and comes back when it is told to, as a good client does:
    /// after the quiet time, the provider's own `Retry-After`, a refusal that is still
    /// remembered. A refusal for the reason `expected` is an answer as any other.
    pub async fn call_in_turn(&self, path: &str, token: &str, expected: &str) -> Reply {
        const LATER: [&str; 3] = [
            "PROVIDER_QUIET_TIME",
            "PROVIDER_RATE_LIMITED",
            "PROVIDER_REFUSED",
        ];
        for _ in 0..30 {
            let reply = self.call(Method::GET, path, token).await;
            let (_, reason) = reply.refusal();
            if reason == expected || !LATER.contains(&reason.as_str()) {
                return reply;
            }
            let after_s = reply.header("retry-after").parse().unwrap_or(1);
            tokio::time::sleep(Duration::from_secs(after_s)).await;
        }
        self.call(Method::GET, path, token).await
    }

    /// Gets a token and reads the contacts: the whole way once.
    pub async fn contacts(&self) -> Reply {
        let token = self.token().await;
        self.call(Method::GET, "/contacts", &token).await
    }
}

/// A proof by any key.
#[must_use]
pub fn proof(key: &DpopKey, htm: &str, htu: &str, nonce: &str, token: Option<&str>) -> String {
    let jti = random_jti(&SystemRandom::new()).expect("randomness");
    let params = ProofParams {
        htm,
        htu,
        iat_s: SystemClock.unix_time_s(),
        jti: &jti,
        nonce: (!nonce.is_empty()).then_some(nonce),
        access_token: token,
    };
    key.proof(&params).expect("a proof")
}

/// The nonce that a refusal carries.
///
/// # Panics
/// It carries none.
#[must_use]
pub fn nonce_of(status: &Status) -> String {
    let nonce = status.metadata().get(DPOP_NONCE);
    let nonce = nonce.and_then(|nonce| nonce.to_str().ok());
    nonce.expect("a refusal carries a nonce").to_owned()
}

/// What a refusal says.
#[must_use]
pub fn refused(status: Status) -> Refused {
    let error = RpcError::from(status);
    let reason = error.reason().unwrap_or_default().to_owned();
    (error.code(), reason)
}
