//! The bare server: the [issuer](crate::issuer) behind the same TLS, HTTP/2 and gRPC as the service, and no more. Its
//! other method answers nothing with nothing: what a call costs by itself.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use broker::listener::{self, Limits, Name, shutdown};
use broker::tls::{self, ServerCertificate};
use proto::v1::token_service_server::{TokenService, TokenServiceServer};
use proto::v1::{IssueTokenRequest, IssueTokenResponse};
use rcgen::{CertificateParams, KeyPair};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::AsyncReadExt;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::issuer::Issuer;

struct Bare(Issuer);

#[tonic::async_trait]
impl TokenService for Bare {
    async fn issue_token(
        &self,
        request: Request<IssueTokenRequest>,
    ) -> Result<Response<IssueTokenResponse>, Status> {
        let values = request.metadata().get_all("dpop");
        let values = values.iter().map(AsciiMetadataValue::as_encoded_bytes);
        let now_s = broker::clock::Clock::new(0).now().lo_s;
        let issued = self.0.bound_to_key(values, request.get_ref(), now_s);
        issued
            .map(Response::new)
            .map_err(|error| Status::unauthenticated(error.to_string()))
    }

    async fn issue_tokens(
        &self,
        _request: Request<proto::v1::IssueTokensRequest>,
    ) -> Result<Response<proto::v1::IssueTokensResponse>, Status> {
        Err(Status::unimplemented("one token at a time"))
    }

    async fn introspect_token(
        &self,
        _request: Request<proto::v1::IntrospectTokenRequest>,
    ) -> Result<Response<proto::v1::IntrospectTokenResponse>, Status> {
        Ok(Response::new(proto::v1::IntrospectTokenResponse::default()))
    }

    async fn revoke_token(
        &self,
        _request: Request<proto::v1::RevokeTokenRequest>,
    ) -> Result<Response<proto::v1::RevokeTokenResponse>, Status> {
        Err(Status::unimplemented("the bare server issues only"))
    }
}

/// Runs the server until standard input ends.
pub(crate) async fn run() -> anyhow::Result<()> {
    let socket = listener::bind(Name::Grpc, ([127, 0, 0, 1], 0).into()).await?;
    let origin = format!("https://{}", socket.local_addr()?);
    let service = Bare(Issuer::new(&origin)?);
    let routes = Routes::new(TokenServiceServer::new(service)).prepare();

    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&key)?;
    let der = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| anyhow!(error))?;
    let signer = rustls::crypto::ring::sign::any_ecdsa_type(&der)?;
    let chain = vec![certificate.der().clone()];
    let tls = tls::grpc_server(ServerCertificate::new(CertifiedKey::new(chain, signer)))?;

    let ready = serde_json::json!({ "origin": origin, "ca": certificate.pem() });
    writeln!(std::io::stdout(), "{ready}").context("nobody reads the ready line")?;
    let (stop, stopped) = shutdown();
    let limits = Limits {
        drain: Duration::from_secs(1),
        ..Limits::default()
    };
    let serving = tokio::spawn(listener::serve(
        Name::Grpc,
        socket,
        Arc::clone(&tls),
        limits,
        routes,
        stopped,
    ));
    let mut rest = Vec::new();
    tokio::io::stdin().read_to_end(&mut rest).await?;
    stop.begin();
    serving.await?;
    Ok(())
}
