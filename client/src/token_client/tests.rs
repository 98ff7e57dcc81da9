//! Tests of tokens: nonces, attempts, and what is kept.

use super::*;
use crate::access_token::tests::answer;
use crate::dpop_key::DpopKey;
use crate::rpc_error::ERROR_DOMAIN;
use crate::test_server::{TestCa, TestServer};
use crate::tls;
use hyper_util::service::TowerToHyperService;
use jose::dpop::{Expected, IatRule, Proof};
use jose::target_uri::TargetUri;
use parking_lot::Mutex;
use proto::v1::token_answer::Answer;
use proto::v1::token_service_server::{TokenService, TokenServiceServer};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::Semaphore;
use tonic::{Code, Response};
use tonic_types::{ErrorDetails, StatusExt as _};

/// What the server does with the next call.
enum Turn {
    /// Refuses with a fresh nonce.
    WantNonce(&'static str),
    /// Refuses without one.
    Refuse(Code, &'static str),
    /// Refuses a proof and tells both clocks; from now on this is the server's.
    WantTime(u64),
    /// Refuses, and says what a proof for the provider must carry.
    WantUpstream(&'static str, String, Option<&'static str>),
    /// Gives the provider's own token.
    IssueUpstream(&'static str),
    /// Issues a token, with a nonce for the next.
    Issue(&'static str, Option<&'static str>),
}

#[derive(Default)]
struct Seen {
    turns: Mutex<VecDeque<Turn>>,
    calls: AtomicUsize,
    proofs: Mutex<Vec<String>>,
    upstream_proofs: Mutex<Vec<String>>,
    nonces: Mutex<Vec<Option<String>>>,
    htu: Mutex<String>,
    now_s: AtomicU64,
}

struct Server {
    seen: Arc<Seen>,
    /// A call waits for a permit before it is answered.
    gate: Arc<Semaphore>,
}

#[tonic::async_trait]
impl TokenService for Server {
    async fn issue_token(
        &self,
        request: Request<IssueTokenRequest>,
    ) -> Result<Response<IssueTokenResponse>, Status> {
        self.seen.calls.fetch_add(1, Ordering::SeqCst);
        let proof = request
            .metadata()
            .get("dpop")
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let htu = self.seen.htu.lock().clone();
        let parsed = Proof::from_header_values([proof.as_bytes()]).unwrap();
        let nonce = parsed.nonce().map(str::to_owned);
        parsed
            .verify(&Expected {
                htm: "POST",
                htu: TargetUri::parse(&htu).unwrap(),
                access_token: None,
                bound_jkt: None,
                now_s: self.seen.now_s.load(Ordering::SeqCst),
                iat: IatRule::WITHOUT_NONCE,
            })
            .unwrap();
        self.seen.proofs.lock().push(proof);
        let upstream_proof = request.into_inner().upstream_proof;
        self.seen.upstream_proofs.lock().push(upstream_proof);
        self.seen.nonces.lock().push(nonce);
        self.gate.acquire().await.unwrap().forget();
        let turn = self.seen.turns.lock().pop_front().unwrap();
        match turn {
            Turn::WantNonce(nonce) => {
                let details =
                    ErrorDetails::with_error_info(USE_DPOP_NONCE, ERROR_DOMAIN, HashMap::new());
                let mut status =
                    Status::with_error_details(Code::Unauthenticated, "nonce", details);
                status
                    .metadata_mut()
                    .insert(DPOP_NONCE, nonce.parse().unwrap());
                Err(status)
            }
            Turn::WantTime(now_s) => {
                self.seen.now_s.store(now_s, Ordering::SeqCst);
                let clocks = [
                    ("claimed_time_s", OWN_TIME_S),
                    (SERVER_TIME_S, now_s),
                    // What else is told is no clock.
                    ("oauth_error", 7),
                ];
                let clocks = clocks.map(|(name, s)| (name.to_owned(), s.to_string()));
                let details = ErrorDetails::with_error_info(
                    INVALID_DPOP_PROOF,
                    ERROR_DOMAIN,
                    HashMap::from(clocks),
                );
                Err(Status::with_error_details(
                    Code::Unauthenticated,
                    "clocks",
                    details,
                ))
            }
            Turn::Refuse(code, reason) => {
                let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, HashMap::new());
                Err(Status::with_error_details(code, "refused", details))
            }
            Turn::WantUpstream(reason, htu, nonce) => {
                let mut told = HashMap::from([("upstream_htu".to_owned(), htu)]);
                if let Some(nonce) = nonce {
                    told.insert("upstream_dpop_nonce".to_owned(), nonce.to_owned());
                }
                let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, told);
                let code = Code::Unauthenticated;
                Err(Status::with_error_details(code, "upstream", details))
            }
            Turn::IssueUpstream(token) => Ok(Response::new(IssueTokenResponse {
                mode: TokenMode::UpstreamBound.into(),
                ..answer(token, 100)
            })),
            Turn::Issue(token, nonce) => {
                let mut answer = Response::new(answer(token, 100));
                if let Some(nonce) = nonce {
                    answer
                        .metadata_mut()
                        .insert(DPOP_NONCE, nonce.parse().unwrap());
                }
                Ok(answer)
            }
        }
    }

    /// Refuses what is for a resource with `refused` in its name. Each call must bring a proof of its own method.
    async fn issue_tokens(
        &self,
        request: Request<proto::v1::IssueTokensRequest>,
    ) -> Result<Response<proto::v1::IssueTokensResponse>, Status> {
        let proof = request.metadata().get("dpop").unwrap().to_str().unwrap();
        self.seen.proofs.lock().push(proof.to_owned());
        let parsed = Proof::from_header_values([proof.as_bytes()]).unwrap();
        let htu = self.seen.htu.lock().replace("/IssueToken", "/IssueTokens");
        parsed
            .verify(&Expected {
                htm: "POST",
                htu: TargetUri::parse(&htu).unwrap(),
                access_token: None,
                bound_jkt: None,
                now_s: self.seen.now_s.load(Ordering::SeqCst),
                iat: IatRule::WITHOUT_NONCE,
            })
            .unwrap();
        let turn = self.seen.turns.lock().pop_front().unwrap();
        if let Turn::WantNonce(nonce) = turn {
            let details =
                ErrorDetails::with_error_info(USE_DPOP_NONCE, ERROR_DOMAIN, HashMap::new());
            let mut status = Status::with_error_details(Code::Unauthenticated, "nonce", details);
            let metadata = status.metadata_mut();
            metadata.insert(DPOP_NONCE, nonce.parse().unwrap());
            return Err(status);
        }
        if let Turn::Refuse(code, reason) = turn
            && code != Code::Ok
        {
            let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, HashMap::new());
            return Err(Status::with_error_details(code, "refused", details));
        }
        let Turn::Issue(token, _) = turn else {
            return Ok(Response::new(proto::v1::IssueTokensResponse::default()));
        };
        let answers = request.into_inner().tokens.into_iter().map(|ask| {
            let answer = if ask.resource.contains("refused") {
                Answer::Refused(proto::v1::TokenRefusal {
                    code: Code::PermissionDenied.into(),
                    reason: "POLICY_DENIED".to_owned(),
                    message: "no".to_owned(),
                    oauth_error: "access_denied".to_owned(),
                    retry_after_ms: 1_500,
                })
            } else {
                Answer::Issued(IssueTokenResponse {
                    resource: ask.resource,
                    ..answer(token, 100)
                })
            };
            proto::v1::TokenAnswer {
                answer: Some(answer),
            }
        });
        Ok(Response::new(proto::v1::IssueTokensResponse {
            answers: answers.collect(),
        }))
    }

    async fn introspect_token(
        &self,
        _request: Request<proto::v1::IntrospectTokenRequest>,
    ) -> Result<Response<proto::v1::IntrospectTokenResponse>, Status> {
        Err(Status::unimplemented("the issuer of this test issues only"))
    }

    async fn revoke_token(
        &self,
        _request: Request<proto::v1::RevokeTokenRequest>,
    ) -> Result<Response<proto::v1::RevokeTokenResponse>, Status> {
        Err(Status::unimplemented("the issuer of this test issues only"))
    }
}

#[derive(Default)]
struct SetClock {
    monotonic_ms: AtomicU64,
}

/// What the client's clock says.
const OWN_TIME_S: u64 = 1_000_000;

impl Clock for SetClock {
    fn unix_time_s(&self) -> u64 {
        OWN_TIME_S
    }

    fn monotonic_ms(&self) -> u64 {
        self.monotonic_ms.load(Ordering::SeqCst)
    }
}

struct Bench {
    tokens: Arc<TokenClient>,
    seen: Arc<Seen>,
    gate: Arc<Semaphore>,
    clock: Arc<SetClock>,
    server: tokio::task::JoinHandle<()>,
}

/// A server on loopback with a certificate of its own CA, and a client that trusts this CA.
async fn bench(turns: Vec<Turn>, permits: usize) -> Bench {
    let seen = Arc::new(Seen::default());
    seen.now_s.store(OWN_TIME_S, Ordering::SeqCst);
    seen.turns.lock().extend(turns);
    let gate = Arc::new(Semaphore::new(permits));
    let ca = TestCa::new();
    let socket = TestServer::bind().await;
    let origin = socket.origin().to_owned();
    *seen.htu.lock() = format!("{origin}{ISSUE_TOKEN}");
    let transport = socket.transport(ca.der());
    let service = TokenServiceServer::new(Server {
        seen: seen.clone(),
        gate: gate.clone(),
    });
    let server = socket.serve(&ca, TowerToHyperService::new(service));
    let clock = Arc::new(SetClock::default());
    let key = Arc::new(DpopKey::generate().unwrap());
    let tokens = Arc::new(TokenClient::over(transport, &origin, key, clock.clone()));
    Bench {
        tokens,
        seen,
        gate,
        clock,
        server,
    }
}

fn request() -> TokenRequest {
    TokenRequest::new("acme-crm", "https://api.example")
}

#[tokio::test]
async fn a_wanted_nonce_is_learned_and_the_attempt_made_again_with_a_new_proof() {
    let turns = vec![
        Turn::WantNonce("n1"),
        Turn::Issue("t1", Some("n2")),
        Turn::Issue("t2", None),
    ];
    let bench = bench(turns, 9).await;
    let token = bench.tokens.token(&request()).await.unwrap();
    assert_eq!(token.expose_secret(), "t1");
    // The nonce of a good answer serves the next request.
    let next = request().with_scopes(["read"]);
    assert_eq!(
        bench.tokens.token(&next).await.unwrap().expose_secret(),
        "t2"
    );
    let expected = [None, Some("n1".to_owned()), Some("n2".to_owned())];
    assert_eq!(*bench.seen.nonces.lock(), expected);
    let mut proofs = bench.seen.proofs.lock().clone();
    proofs.dedup();
    assert_eq!(proofs.len(), 3);
}

#[tokio::test]
async fn a_nonce_is_asked_for_again_once_only() {
    let turns = vec![
        Turn::WantNonce("n1"),
        Turn::WantNonce("n2"),
        Turn::Issue("t", None),
    ];
    let bench = bench(turns, 9).await;
    match bench.tokens.token(&request()).await {
        Err(TokenError::Rpc(error)) => assert_eq!(error.reason(), Some(USE_DPOP_NONCE)),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.seen.calls.load(Ordering::SeqCst), 2);
    // The second refusal taught its nonce nevertheless.
    assert!(bench.tokens.token(&request()).await.is_ok());
    assert_eq!(
        bench.seen.nonces.lock().last(),
        Some(&Some("n2".to_owned()))
    );
}

/// The server of these tests refuses a proof that is not of its own minute.
#[tokio::test]
async fn a_clock_that_is_off_is_learned_and_the_attempt_made_again() {
    for server_s in [OWN_TIME_S + 200_000, OWN_TIME_S - 200_000] {
        let turns = vec![
            Turn::WantNonce("n1"),
            Turn::WantTime(server_s),
            Turn::Issue("t1", None),
            Turn::Issue("t2", None),
        ];
        let bench = bench(turns, 9).await;
        let token = bench.tokens.token(&request()).await.unwrap();
        assert_eq!(token.expose_secret(), "t1");
        // What was learned dates the next proofs, those for the gateway too.
        assert_eq!(bench.tokens.proof_time_s(), server_s);
        let next = request().with_scopes(["read"]);
        assert!(bench.tokens.token(&next).await.is_ok());
        assert_eq!(bench.seen.calls.load(Ordering::SeqCst), 4);
        let mut proofs = bench.seen.proofs.lock().clone();
        proofs.dedup();
        assert_eq!(proofs.len(), 4, "a proof for each attempt");
    }
}

#[tokio::test]
async fn a_clock_is_learned_once_a_request_and_only_if_it_is_another() {
    // One that runs away, and one that is the client's already.
    let rows = [
        (
            vec![
                Turn::WantTime(OWN_TIME_S + 5),
                Turn::WantTime(OWN_TIME_S + 9),
            ],
            2,
        ),
        (vec![Turn::WantTime(OWN_TIME_S)], 1),
    ];
    for (turns, calls) in rows {
        let bench = bench(turns, 9).await;
        match bench.tokens.token(&request()).await {
            Err(TokenError::Rpc(error)) => assert_eq!(error.reason(), Some(INVALID_DPOP_PROOF)),
            other => panic!("{other:?}"),
        }
        assert_eq!(bench.seen.calls.load(Ordering::SeqCst), calls);
    }
}

const REQUIRED: &str = "UPSTREAM_PROOF_REQUIRED";
const OTHER_NONCE: &str = "UPSTREAM_DPOP_NONCE_REQUIRED";
const PROVIDER: &str = "https://op.example/token";

#[tokio::test]
async fn a_proof_for_the_provider_is_made_as_a_refusal_says() {
    let turns = vec![
        Turn::WantUpstream(REQUIRED, PROVIDER.to_owned(), None),
        Turn::WantUpstream(OTHER_NONCE, PROVIDER.to_owned(), Some("p1")),
        // What is wrong with the proof of the call itself changes nothing of that.
        Turn::WantNonce("n1"),
        Turn::IssueUpstream("t1"),
    ];
    let bench = bench(turns, 9).await;
    let request = request().upstream_bound();
    let token = bench.tokens.token(&request).await.unwrap();
    assert_eq!(token.expose_secret(), "t1");
    let proofs = bench.seen.upstream_proofs.lock().clone();
    assert_eq!(proofs[0], "");
    let jkt = bench.tokens.signer().jkt();
    let nonces = proofs[1..].iter().map(|proof| {
        let proof = Proof::from_header_values([proof.as_bytes()]).unwrap();
        let verified = proof.verify(&Expected {
            htm: "POST",
            htu: TargetUri::parse(PROVIDER).unwrap(),
            access_token: None,
            bound_jkt: Some(jkt),
            now_s: OWN_TIME_S,
            iat: IatRule::WITHOUT_NONCE,
        });
        let verified = verified.unwrap();
        assert!(!verified.has_ath());
        verified.nonce().map(str::to_owned)
    });
    let p1 = Some("p1".to_owned());
    assert_eq!(nonces.collect::<Vec<_>>(), [None, p1.clone(), p1]);
    assert_ne!(proofs[2], proofs[3], "a proof for each attempt");
    // It is kept apart from the service's own.
    assert!(bench.tokens.token(&request).await.is_ok());
    assert_eq!(bench.seen.calls.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_proof_for_the_provider_is_made_so_often_and_for_whoever_asked_alone() {
    let again = || Turn::WantUpstream(OTHER_NONCE, PROVIDER.to_owned(), Some("p"));
    let turns = (0..9).map(|_| again()).collect();
    let bench = bench(turns, 99).await;
    let own_htu = bench.seen.htu.lock().clone();
    for (request, calls) in [
        (request().upstream_bound(), 1 + UPSTREAM_PROOFS),
        // Whoever wants no token of the provider's makes no proof for it.
        (request(), 1),
    ] {
        let before = bench.seen.calls.load(Ordering::SeqCst);
        match bench.tokens.token(&request).await {
            Err(TokenError::Rpc(error)) => assert_eq!(error.reason(), Some(OTHER_NONCE)),
            other => panic!("{other:?}"),
        }
        let made = bench.seen.calls.load(Ordering::SeqCst) - before;
        assert_eq!(made, usize::try_from(calls).unwrap());
    }
    // Nor is one made for the service itself.
    let own = Turn::WantUpstream(REQUIRED, own_htu, None);
    *bench.seen.turns.lock() = VecDeque::from([own]);
    let request = request().upstream_bound();
    assert!(bench.tokens.token(&request).await.is_err());
    assert_eq!(bench.seen.upstream_proofs.lock().last().unwrap(), "");
}

#[tokio::test]
async fn a_token_of_a_mode_that_was_not_asked_for_is_not_taken() {
    let turns = vec![Turn::IssueUpstream("t"), Turn::Issue("t", None)];
    let bench = bench(turns, 9).await;
    for (request, found) in [(request(), 2), (request().upstream_bound(), 1)] {
        match bench.tokens.token(&request).await {
            Err(TokenError::Answer(error)) => {
                assert_eq!(error, AccessTokenError::Mode { found });
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn another_refusal_is_not_tried_again() {
    let turns = vec![Turn::Refuse(Code::Unauthenticated, "INVALID_DPOP_PROOF")];
    let bench = bench(turns, 9).await;
    match bench.tokens.token(&request()).await {
        Err(TokenError::Rpc(error)) => {
            assert_eq!(
                (error.code(), error.reason()),
                (Code::Unauthenticated, Some("INVALID_DPOP_PROOF"))
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.seen.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_token_is_kept_until_80_percent_of_its_life_and_asked_for_once() {
    let turns = vec![Turn::Issue("t1", None), Turn::Issue("t2", None)];
    let bench = bench(turns, 0).await;
    let callers: Vec<_> = (0..5)
        .map(|_| {
            let tokens = bench.tokens.clone();
            tokio::spawn(async move {
                tokens
                    .token(&request())
                    .await
                    .unwrap()
                    .expose_secret()
                    .to_owned()
            })
        })
        .collect();
    bench.gate.add_permits(1);
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "t1");
    }
    assert_eq!(bench.seen.calls.load(Ordering::SeqCst), 1);
    bench.clock.monotonic_ms.store(79_999, Ordering::SeqCst);
    assert_eq!(
        bench
            .tokens
            .token(&request())
            .await
            .unwrap()
            .expose_secret(),
        "t1"
    );
    assert_eq!(bench.seen.calls.load(Ordering::SeqCst), 1);

    // One renews, the others go on with what is good.
    bench.clock.monotonic_ms.store(80_000, Ordering::SeqCst);
    let tokens = bench.tokens.clone();
    let renewing = tokio::spawn(async move { tokens.token(&request()).await });
    while bench.seen.calls.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        bench
            .tokens
            .token(&request())
            .await
            .unwrap()
            .expose_secret(),
        "t1"
    );
    bench.gate.add_permits(1);
    assert_eq!(renewing.await.unwrap().unwrap().expose_secret(), "t2");
    assert_eq!(
        bench
            .tokens
            .token(&request())
            .await
            .unwrap()
            .expose_secret(),
        "t2"
    );
    assert_eq!(bench.seen.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_unreachable_service_leaves_what_is_good_and_a_refusal_does_not() {
    let turns = vec![
        Turn::Issue("t1", None),
        Turn::Refuse(Code::Unavailable, "STORE_UNAVAILABLE"),
        Turn::Refuse(Code::FailedPrecondition, "FROZEN"),
        Turn::Refuse(Code::FailedPrecondition, "FROZEN"),
    ];
    let bench = bench(turns, 9).await;
    assert!(bench.tokens.token(&request()).await.is_ok());
    bench.clock.monotonic_ms.store(85_000, Ordering::SeqCst);
    assert_eq!(
        bench
            .tokens
            .token(&request())
            .await
            .unwrap()
            .expose_secret(),
        "t1"
    );
    // Frozen: the token at hand is given up although it has not expired.
    for _ in 0..2 {
        match bench.tokens.token(&request()).await {
            Err(TokenError::Rpc(error)) => assert_eq!(error.reason(), Some("FROZEN")),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bench.seen.calls.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_server_that_is_not_the_enclaves_gets_nothing() {
    let bench = bench(vec![], 9).await;
    let other_ca = TestCa::new();
    let transport = Transport::new(
        bench.tokens.issuer.transport.origin().clone(),
        tls::pinned(&[other_ca.der()], None).unwrap(),
    )
    .unwrap();
    let error = transport.connect().await.unwrap_err();
    assert!(error.is_untrusted_peer(), "{error:?}");
    assert_eq!(bench.seen.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn nobody_listening_is_unavailable_not_refused() {
    let bench = bench(vec![], 9).await;
    bench.server.abort();
    assert!(bench.server.await.unwrap_err().is_cancelled());
    match bench.tokens.token(&request()).await {
        Err(TokenError::Rpc(error)) => {
            assert!(error.is_unavailable());
            assert!(
                matches!(
                    error.transport(),
                    Some(crate::transport::TransportError::Connect { .. })
                ),
                "{error:?}"
            );
        }
        other => panic!("{other:?}"),
    }
}

fn at(resource: &str) -> TokenRequest {
    TokenRequest::new("acme-crm", format!("https://api.example/{resource}"))
}

#[tokio::test]
async fn several_tokens_take_one_proof_and_come_in_the_order_of_the_requests() {
    let turns = vec![
        Turn::WantNonce("n1"),
        Turn::Issue("t1", None),
        Turn::Issue("t2", None),
    ];
    let bench = bench(turns, 9).await;
    let wanted = [at("a"), at("refused"), at("b")];
    let answers = bench.tokens.tokens(&wanted).await.unwrap();
    let resource = |place: usize| answers[place].as_ref().unwrap().resource();
    assert_eq!(
        (resource(0), resource(2)),
        (wanted[0].resource(), wanted[2].resource())
    );
    let Err(TokenError::Rpc(refused)) = &answers[1] else {
        panic!("{:?}", answers[1]);
    };
    assert_eq!(
        (refused.code(), refused.reason(), refused.retry_after()),
        (
            Code::PermissionDenied,
            Some("POLICY_DENIED"),
            Some(std::time::Duration::from_millis(1_500))
        )
    );
    // One refused for its nonce, one good one for all three.
    assert_eq!(bench.seen.proofs.lock().len(), 2);

    // What is at hand is not asked for again, what was refused is.
    let answers = bench.tokens.tokens(&wanted).await.unwrap();
    assert_eq!(answers[0].as_ref().unwrap().expose_secret(), "t1");
    assert!(answers[1].is_err());
    let kept = bench.tokens.token(&wanted[2]).await.unwrap();
    assert_eq!(kept.expose_secret(), "t1");
    assert_eq!(bench.seen.proofs.lock().len(), 3);
}

#[tokio::test]
async fn more_than_sixteen_take_a_proof_for_each_sixteen() {
    let bench = bench(vec![Turn::Issue("t1", None), Turn::Issue("t2", None)], 9).await;
    let wanted: Vec<_> = (0..17).map(|number| at(&number.to_string())).collect();
    let answers = bench.tokens.tokens(&wanted).await.unwrap();
    let last = answers[16].as_ref().unwrap();
    assert_eq!((answers.len(), last.expose_secret()), (17, "t2"));
}

#[tokio::test]
async fn fewer_answers_than_requests_are_no_answer() {
    let bench = bench(vec![Turn::Refuse(Code::Ok, "")], 9).await;
    match bench.tokens.tokens(&[at("a"), at("b")]).await {
        Err(TokenError::Answers { asked: 2, found: 0 }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_unreachable_service_leaves_what_is_good_of_several() {
    let turns = vec![
        Turn::Issue("t1", None),
        Turn::Refuse(Code::Unavailable, "STORE_UNAVAILABLE"),
        Turn::Refuse(Code::ResourceExhausted, "OVERLOADED"),
        Turn::Refuse(Code::Unavailable, "STORE_UNAVAILABLE"),
        Turn::Refuse(Code::FailedPrecondition, "FROZEN"),
        Turn::Refuse(Code::Unavailable, "STORE_UNAVAILABLE"),
    ];
    let bench = bench(turns, 9).await;
    assert!(bench.tokens.tokens(&[at("a")]).await.unwrap()[0].is_ok());
    bench.clock.monotonic_ms.store(85_000, Ordering::SeqCst);
    let answers = bench.tokens.tokens(&[at("a"), at("b")]).await.unwrap();
    assert_eq!(answers[0].as_ref().unwrap().expose_secret(), "t1");
    let Err(TokenError::Rpc(error)) = &answers[1] else {
        panic!("{:?}", answers[1]);
    };
    assert_eq!(error.reason(), Some("STORE_UNAVAILABLE"));
    let refused = async || match bench.tokens.tokens(&[at("a")]).await {
        Err(TokenError::Rpc(error)) => error.reason().map(str::to_owned),
        other => panic!("{other:?}"),
    };
    // A want of room ends nothing that was kept, and a refusal does.
    assert_eq!(refused().await.as_deref(), Some("OVERLOADED"));
    let answers = bench.tokens.tokens(&[at("a")]).await.unwrap();
    assert_eq!(answers[0].as_ref().unwrap().expose_secret(), "t1");
    assert_eq!(refused().await.as_deref(), Some("FROZEN"));
    assert!(matches!(
        &bench.tokens.tokens(&[at("a")]).await.unwrap()[..],
        [Err(TokenError::Rpc(error))] if error.is_unavailable()
    ));
}
