//! The bare server: what any issuer of DPoP-bound tokens must do, and no more.
//! One proof is verified and one token signed a call; nothing is authorized,
//! remembered or written down.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use broker::listener::{self, Limits, Name, shutdown};
use broker::tls::{self, ServerCertificate};
use jose::dpop::{Expected, IatRule, Proof};
use jose::jws::{self, HeaderMember};
use jose::target_uri::TargetUri;
use jose::{Alg, SigningKey};
use proto::v1::token_service_server::{TokenService, TokenServiceServer};
use proto::v1::{IssueTokenRequest, IssueTokenResponse, TokenMode};
use rcgen::{CertificateParams, KeyPair};
use ring::rand::SystemRandom;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::AsyncReadExt;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

struct Bare {
    htu: String,
    key: SigningKey,
    rng: SystemRandom,
}

#[tonic::async_trait]
impl TokenService for Bare {
    async fn issue_token(
        &self,
        request: Request<IssueTokenRequest>,
    ) -> Result<Response<IssueTokenResponse>, Status> {
        let refuse = |_| Status::unauthenticated("the proof is not valid");
        let values = request.metadata().get_all("dpop");
        let values = values.iter().map(AsciiMetadataValue::as_encoded_bytes);
        let proof = Proof::from_header_values(values).map_err(refuse)?;
        let expected = Expected {
            htm: "POST",
            htu: TargetUri::parse(&self.htu).map_err(|_| Status::internal("htu"))?,
            access_token: None,
            bound_jkt: None,
            now_s: broker::clock::Clock::new(0).now().lo_s,
            iat: IatRule::WITH_NONCE,
        };
        let proof = proof.verify(&expected).map_err(refuse)?;
        let message = request.get_ref();
        let claims = serde_json::json!({
            "iss": "https://bare.test",
            "sub": "client",
            "aud": message.resource,
            "exp": proof.iat_s().saturating_add(300),
            "iat": proof.iat_s(),
            "jti": "0123456789abcdef012345",
            "client_id": "client",
            "scope": "contacts.read contacts.write",
            "cnf": { "jkt": proof.jkt().to_string() },
            "grant": message.grant,
            "tier": "emulated",
        });
        let members = [HeaderMember::Typ("at+jwt"), HeaderMember::Kid("bare")];
        let access_token = jws::sign(
            &members,
            claims.to_string().as_bytes(),
            &self.key,
            &self.rng,
        )
        .map_err(|_| Status::internal("sign"))?;
        Ok(Response::new(IssueTokenResponse {
            access_token,
            token_type: "DPoP".to_owned(),
            expires_in_s: 300,
            scopes: vec!["contacts.read".to_owned(), "contacts.write".to_owned()],
            resource: message.resource.clone(),
            mode: TokenMode::Minted.into(),
            receipt: None,
        }))
    }

    async fn introspect_token(
        &self,
        _request: Request<proto::v1::IntrospectTokenRequest>,
    ) -> Result<Response<proto::v1::IntrospectTokenResponse>, Status> {
        Err(Status::unimplemented("the bare server issues only"))
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
    let rng = SystemRandom::new();
    let socket = listener::bind(Name::Grpc, ([127, 0, 0, 1], 0).into()).await?;
    let origin = format!("https://{}", socket.local_addr()?);
    let pkcs8 = SigningKey::generate(Alg::Es256, &rng)?;
    let service = Bare {
        htu: format!("{origin}/tokenkeep.v1.TokenService/IssueToken"),
        key: SigningKey::from_pkcs8(&pkcs8, &rng)?,
        rng,
    };
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
