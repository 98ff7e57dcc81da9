//! Tests of calls through the gateway.

use super::*;
use crate::access_token::tests::answer as token_answer;
use crate::clock::{Clock as _, SystemClock};
use crate::dpop_key::DpopKey;
use crate::test_server::{TestCa, TestServer};
use http::{Request, Response};
use hyper_util::service::TowerToHyperService;
use jose::dpop::{Expected, IatRule, Proof};
use jose::target_uri::TargetUri;
use parking_lot::Mutex;
use proto::v1::token_service_server::{TokenService, TokenServiceServer};
use proto::v1::{IssueTokenRequest, IssueTokenResponse};
use std::convert::Infallible;

/// What the gateway saw of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    method: String,
    path_and_query: String,
    nonce: Option<String>,
    jti: String,
    custom: Option<String>,
    body: Vec<u8>,
}

/// How the gateway answers one request: status, headers, body.
type Turn = (u16, &'static [(&'static str, &'static str)], &'static str);

const WANT_NONCE: Turn = (
    401,
    &[
        ("www-authenticate", "DPoP error=\"use_dpop_nonce\""),
        ("dpop-nonce", "n1"),
    ],
    "",
);

struct Issuer {
    asked: Arc<Mutex<Vec<IssueTokenRequest>>>,
}

#[tonic::async_trait]
impl TokenService for Issuer {
    async fn issue_token(
        &self,
        request: tonic::Request<IssueTokenRequest>,
    ) -> Result<tonic::Response<IssueTokenResponse>, tonic::Status> {
        let request = request.into_inner();
        let mut answer = token_answer("the-token", 300);
        answer.resource = request.resource.clone();
        self.asked.lock().push(request);
        Ok(tonic::Response::new(answer))
    }

    async fn issue_tokens(
        &self,
        _request: tonic::Request<proto::v1::IssueTokensRequest>,
    ) -> Result<tonic::Response<proto::v1::IssueTokensResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("one at a time"))
    }

    async fn introspect_token(
        &self,
        _request: tonic::Request<proto::v1::IntrospectTokenRequest>,
    ) -> Result<tonic::Response<proto::v1::IntrospectTokenResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented(
            "the issuer of this test issues only",
        ))
    }

    async fn revoke_token(
        &self,
        _request: tonic::Request<proto::v1::RevokeTokenRequest>,
    ) -> Result<tonic::Response<proto::v1::RevokeTokenResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented(
            "the issuer of this test issues only",
        ))
    }
}

struct Bench {
    client: GatewayClient,
    origin: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    asked: Arc<Mutex<Vec<IssueTokenRequest>>>,
}

/// Reads a request as the gateway does: token, proof for this very request by one key, body.
async fn look(request: Request<Incoming>, origin: &str) -> Seen {
    let (head, body) = request.into_parts();
    assert_eq!(head.headers[header::AUTHORIZATION], "DPoP the-token");
    let values = head.headers.get_all(DPOP).iter().map(HeaderValue::as_bytes);
    let proof = Proof::from_header_values(values).unwrap();
    let nonce = proof.nonce().map(str::to_owned);
    let htu = format!("{origin}{}", head.uri.path());
    let verified = proof
        .verify(&Expected {
            htm: head.method.as_str(),
            htu: TargetUri::parse(&htu).unwrap(),
            access_token: Some("the-token"),
            bound_jkt: None,
            now_s: SystemClock.unix_time_s(),
            iat: IatRule::WITHOUT_NONCE,
        })
        .unwrap();
    let custom = head
        .headers
        .get("x-custom")
        .map(|value| value.to_str().unwrap().to_owned());
    Seen {
        method: head.method.to_string(),
        path_and_query: head.uri.path_and_query().unwrap().to_string(),
        nonce,
        jti: hex::encode(verified.replay_id()),
        custom,
        body: body.collect().await.unwrap().to_bytes().to_vec(),
    }
}

async fn bench(turns: Vec<Turn>) -> Bench {
    let ca = TestCa::new();
    let issuer = TestServer::bind().await;
    let gateway = TestServer::bind().await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let key = Arc::new(DpopKey::generate().unwrap());
    let clock = Arc::new(SystemClock);
    let issuer_origin = issuer.origin().to_owned();
    let transport = issuer.transport(ca.der());
    let tokens = TokenClient::over(transport, &issuer_origin, key, clock);
    let service = TokenServiceServer::new(Issuer {
        asked: asked.clone(),
    });
    issuer.serve(&ca, TowerToHyperService::new(service));

    let origin = gateway.origin().to_owned();
    let transport = gateway.transport(ca.der());
    let client = GatewayClient::over(transport, origin.clone(), Arc::new(tokens));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let turns = Arc::new(Mutex::new(turns.into_iter()));
    let service = {
        let (seen, origin) = (seen.clone(), origin.clone());
        hyper::service::service_fn(move |request| {
            let (seen, origin, turns) = (seen.clone(), origin.clone(), turns.clone());
            async move {
                let found = look(request, &origin).await;
                seen.lock().push(found);
                let (status, headers, body) = turns.lock().next().unwrap();
                let mut answer = Response::builder().status(status);
                for (name, value) in headers {
                    answer = answer.header(*name, *value);
                }
                Ok::<_, Infallible>(answer.body(Full::new(Bytes::from(body))).unwrap())
            }
        })
    };
    gateway.serve(&ca, service);
    Bench {
        client,
        origin,
        seen,
        asked,
    }
}

fn request(url: String) -> GatewayRequest {
    GatewayRequest {
        method: Method::POST,
        url,
        headers: HeaderMap::from_iter([(
            HeaderName::from_static("x-custom"),
            HeaderValue::from_static("kept"),
        )]),
        body: Bytes::from_static(b"hello"),
        scopes: vec!["read".to_owned()],
    }
}

async fn text(mut answer: GatewayResponse) -> String {
    let mut all = Vec::new();
    while let Some(piece) = answer.chunk().await.unwrap() {
        all.extend_from_slice(&piece);
    }
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn a_call_has_token_and_proof_and_is_made_again_with_the_nonce_that_is_asked_for() {
    let turns = vec![
        WANT_NONCE,
        (200, &[("dpop-nonce", "n2")], "done"),
        (404, &[], "gone"),
    ];
    let bench = bench(turns).await;
    let url = format!("{}/g/acme-crm/api/v1/x?y=z", bench.origin);
    let answer = bench.client.call(&request(url.clone())).await.unwrap();
    assert_eq!(
        (answer.status(), answer.challenge()),
        (StatusCode::OK, None)
    );
    assert_eq!(text(answer).await, "done");
    let answer = bench.client.call(&request(url)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(text(answer).await, "gone");

    let seen = bench.seen.lock().clone();
    let nonces: Vec<_> = seen.iter().map(|seen| seen.nonce.as_deref()).collect();
    assert_eq!(nonces, [None, Some("n1"), Some("n2")]);
    let jtis: std::collections::HashSet<_> = seen.iter().map(|seen| &seen.jti).collect();
    assert_eq!(jtis.len(), 3);
    for seen in &seen {
        assert_eq!(seen.method, "POST");
        assert_eq!(seen.path_and_query, "/g/acme-crm/api/v1/x?y=z");
        assert_eq!(seen.custom.as_deref(), Some("kept"));
        assert_eq!(seen.body, b"hello");
    }
    // One token serves both calls.
    let expected = IssueTokenRequest {
        grant: "acme-crm".to_owned(),
        resource: format!("{}/g/acme-crm/api", bench.origin),
        scopes: vec!["read".to_owned()],
        ..Default::default()
    };
    assert_eq!(*bench.asked.lock(), [expected]);
}

#[tokio::test]
async fn a_nonce_is_asked_for_again_once_only() {
    let bench = bench(vec![WANT_NONCE, WANT_NONCE]).await;
    let url = format!("{}/g/a/b", bench.origin);
    let answer = bench.client.call(&request(url)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.challenge().as_deref(), Some("use_dpop_nonce"));
    assert_eq!(bench.seen.lock().len(), 2);
}

#[tokio::test]
async fn a_refused_token_is_not_used_again() {
    const REFUSED: Turn = (
        401,
        &[("www-authenticate", "DPoP error=\"invalid_token\"")],
        "",
    );
    let bench = bench(vec![REFUSED, (204, &[], "")]).await;
    let url = format!("{}/g/a/b", bench.origin);
    let answer = bench.client.call(&request(url.clone())).await.unwrap();
    assert_eq!(answer.challenge().as_deref(), Some("invalid_token"));
    assert_eq!(bench.seen.lock().len(), 1);
    let answer = bench.client.call(&request(url)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(bench.asked.lock().len(), 2);
}

#[tokio::test]
async fn nothing_is_sent_elsewhere_or_with_headers_that_are_not_the_callers() {
    let bench = bench(vec![]).await;
    let elsewhere = request("https://localhost:1/g/a/b".to_owned());
    assert!(matches!(
        bench.client.call(&elsewhere).await,
        Err(CallError::Url(ResourceUrlError::OtherOrigin { .. }))
    ));
    for name in RESERVED {
        let mut request = request(format!("{}/g/a/b", bench.origin));
        request
            .headers
            .insert(name.clone(), HeaderValue::from_static("x"));
        match bench.client.call(&request).await {
            Err(CallError::Header { name: found }) => assert_eq!(found, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(bench.seen.lock().is_empty() && bench.asked.lock().is_empty());
}

#[test]
fn the_error_of_a_dpop_challenge_is_found() {
    for (challenge, error) in [
        ("DPoP error=\"use_dpop_nonce\"", Some("use_dpop_nonce")),
        (
            "dpop error=use_dpop_nonce, algs=\"ES256\"",
            Some("use_dpop_nonce"),
        ),
        (
            "DPoP realm=\"a, error=b\", error=\"invalid_token\", algs=\"ES256 EdDSA\"",
            Some("invalid_token"),
        ),
        ("DPoP ERROR = \"x\"", Some("x")),
        ("DPoP error_description=\"error\"", None),
        ("DPoP algs=\"ES256\"", None),
        ("DPoP", None),
        ("DPoP error=\"unterminated", None),
        ("Bearer error=\"use_dpop_nonce\"", None),
        ("", None),
    ] {
        assert_eq!(dpop_error(challenge).as_deref(), error, "{challenge}");
    }
}

#[test]
fn a_challenge_counts_on_a_401_alone() {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_static("DPoP error=\"use_dpop_nonce\"");
    headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    headers.append(header::WWW_AUTHENTICATE, value);
    let found = |status| challenge_of(status, &headers);
    assert_eq!(
        found(StatusCode::UNAUTHORIZED).as_deref(),
        Some("use_dpop_nonce")
    );
    assert_eq!(found(StatusCode::FORBIDDEN), None);
    assert_eq!(found(StatusCode::OK), None);
}
