//! Connections that do not end inside the enclave that was verified, one way of lying a row.

use super::*;
use crate::connection_proof::ProofError;
use crate::test_enclave::{TestEnclave, new_instance};
use crate::test_server::{Exporter, TestServer};
use crate::transport::Transport;
use attestation::BadSignature;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use proto::v1::attestation_service_server::{AttestationService, AttestationServiceServer};
use tonic::{Code, Request, Response, Status};

/// How a server answers the demand for proof.
#[derive(Debug, Clone)]
enum Proof {
    /// As the enclave does.
    Honest,
    /// With what it once gave for another connection.
    Replayed(Vec<u8>),
    /// With what the enclave gives to the relay for the relay's own connection.
    Relayed(Transport),
    /// With a signature over the exporter, but of another key.
    OtherKey,
    /// With the enclave's signature over the exporter and another key bundle.
    OtherBundle,
    /// With the enclave's signature over something else that names this exporter.
    OtherPurpose,
    /// With nothing.
    Empty,
    /// Not at all.
    Refused(Code),
}

/// A server between client and enclave. It has a certificate of the enclave's own CA: the worst case, in which
/// only the proof tells it from the enclave.
struct Middle {
    enclave: Arc<Mutex<TestEnclave>>,
    proof: Arc<Mutex<Proof>>,
    /// What was asked, and on which connection.
    asked: Arc<Mutex<Vec<(Exporter, &'static str)>>>,
}

impl Middle {
    fn note<T>(&self, request: &Request<T>, what: &'static str) -> Exporter {
        let exporter = *request.extensions().get::<Exporter>().unwrap();
        self.asked.lock().push((exporter, what));
        exporter
    }
}

#[tonic::async_trait]
impl AttestationService for Middle {
    async fn get_evidence(
        &self,
        request: Request<v1::GetEvidenceRequest>,
    ) -> Result<Response<v1::GetEvidenceResponse>, Status> {
        self.note(&request, "evidence");
        Ok(Response::new(self.enclave.lock().reply(request.get_ref())))
    }

    async fn get_manifest(
        &self,
        _request: Request<v1::GetManifestRequest>,
    ) -> Result<Response<v1::GetManifestResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn prove_connection(
        &self,
        request: Request<v1::ProveConnectionRequest>,
    ) -> Result<Response<v1::ProveConnectionResponse>, Status> {
        let exporter = self.note(&request, "proof");
        let proof = self.proof.lock().clone();
        let signature = match proof {
            Proof::Honest => self.enclave.lock().proof(&exporter),
            Proof::Replayed(signature) => signature,
            Proof::Relayed(transport) => {
                let origin = transport.origin().uri();
                let mut enclave = AttestationServiceClient::with_origin(transport, origin);
                return enclave.prove_connection(request.into_inner()).await;
            }
            Proof::OtherKey => {
                let mut other = TestEnclave::new("https://other.test");
                other.bundle = self.enclave.lock().bundle.clone();
                other.proof(&exporter)
            }
            Proof::OtherBundle => {
                let message = attestation::exporter_message(&[1; 32], &exporter.0);
                self.enclave.lock().sign(&message)
            }
            Proof::OtherPurpose => {
                let enclave = self.enclave.lock();
                let digest = enclave.bundle.digest().unwrap();
                let data = attestation::report_data(Purpose::Server, &exporter.0, &digest);
                enclave.sign(&data)
            }
            Proof::Empty => Vec::new(),
            Proof::Refused(code) => return Err(Status::new(code, "no")),
        };
        Ok(Response::new(v1::ProveConnectionResponse { signature }))
    }
}

struct Scene {
    enclave: Arc<Mutex<TestEnclave>>,
    proof: Arc<Mutex<Proof>>,
    asked: Arc<Mutex<Vec<(Exporter, &'static str)>>>,
    config: AttestedConfig,
}

async fn scene(proof: Proof) -> Scene {
    let socket = TestServer::bind().await;
    let enclave = TestEnclave::new(socket.origin());
    let config = AttestedConfig::new(socket.origin(), enclave.verification());
    let ca = enclave.ca.clone();
    let scene = Scene {
        enclave: Arc::new(Mutex::new(enclave)),
        proof: Arc::new(Mutex::new(proof)),
        asked: Arc::default(),
        config,
    };
    let middle = Middle {
        enclave: scene.enclave.clone(),
        proof: scene.proof.clone(),
        asked: scene.asked.clone(),
    };
    let service = TowerToHyperService::new(AttestationServiceServer::new(middle));
    socket.serve(&ca, service);
    scene
}

/// What came of a demand for proof.
fn outcome<T: std::fmt::Debug>(result: Result<T, &TransportError>) -> String {
    match result {
        Ok(value) => panic!("{value:?}"),
        Err(error @ TransportError::Unproved { error: proof, .. }) => match proof.as_ref() {
            ProofError::NotThisConnection(BadSignature) => {
                assert!(error.is_untrusted_peer());
                "not this connection".to_owned()
            }
            ProofError::Refused(rpc) => {
                assert_eq!(error.is_untrusted_peer(), !rpc.is_unavailable());
                format!("refused: {:?}", rpc.code())
            }
            ProofError::NoExporter(error) => panic!("{error:?}"),
        },
        Err(other) => panic!("{other:?}"),
    }
}

fn connect_outcome(result: Result<AttestedChannel, ConnectError>) -> String {
    match result {
        Ok(channel) => panic!("{channel:?}"),
        Err(ConnectError::Transport(error)) => outcome::<()>(Err(&error)),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_connection_is_proved_before_anything_else_is_sent_on_it() {
    let scene = scene(Proof::Honest).await;
    let channel = AttestedChannel::connect(&scene.config).await.unwrap();
    channel.deposit_recipient().await.unwrap();
    channel.transport().break_connection().await;
    channel.deposit_recipient().await.unwrap();

    let asked = scene.asked.lock().clone();
    let order: Vec<_> = asked.iter().map(|(_, what)| *what).collect();
    assert_eq!(
        order,
        ["evidence", "proof", "evidence", "proof", "evidence"]
    );
    let connections: std::collections::HashSet<_> = asked.iter().map(|(on, _)| on).collect();
    assert_eq!(connections.len(), 3);
    assert_eq!(asked[1].0, asked[2].0);
    assert_eq!(asked[3].0, asked[4].0);
}

#[tokio::test]
async fn a_connection_that_does_not_end_in_the_enclave_carries_nothing() {
    // The honest enclave behind the relay, and a proof that it once gave there.
    let behind = scene(Proof::Honest).await;
    let socket_origin = Origin::parse(&behind.config.grpc_url).unwrap();
    let ca = behind.enclave.lock().ca.der().to_vec();
    let to_enclave = Transport::new(socket_origin, tls::pinned(&[&ca], None).unwrap()).unwrap();

    let rows = [
        (Proof::Relayed(to_enclave), "not this connection"),
        (Proof::Replayed(Vec::new()), "not this connection"),
        (Proof::OtherKey, "not this connection"),
        (Proof::OtherBundle, "not this connection"),
        (Proof::OtherPurpose, "not this connection"),
        (Proof::Empty, "not this connection"),
        (
            Proof::Refused(Code::Unimplemented),
            "refused: Unimplemented",
        ),
        (Proof::Refused(Code::Unavailable), "refused: Unavailable"),
    ];
    for (proof, expected) in rows {
        let middle = scene(proof.clone()).await;
        if matches!(proof, Proof::Relayed(_) | Proof::Replayed(_)) {
            // The relay passes on the evidence of the enclave behind it: only origin and CA name the relay.
            let (ca, origin) = {
                let shown = middle.enclave.lock();
                (shown.ca.clone(), shown.bundle.grpc_origin.clone())
            };
            let mut real = behind.enclave.lock();
            real.bundle.grpc_origin = origin;
            real.bundle.enclave_ca_der = ca.der().to_vec();
            let mut shown = middle.enclave.lock();
            shown.bundle = real.bundle.clone();
            if matches!(proof, Proof::Replayed(_)) {
                let earlier = real.proof(&Exporter([7; 32]));
                *middle.proof.lock() = Proof::Replayed(earlier);
            }
        }
        let result = AttestedChannel::connect(&middle.config).await;
        assert_eq!(connect_outcome(result), expected, "{proof:?}");
        let asked = middle.asked.lock();
        let on_proved: Vec<_> = asked.iter().skip(1).map(|(_, what)| *what).collect();
        assert_eq!(on_proved, ["proof"], "{proof:?}");
    }
}

#[tokio::test]
async fn the_rows_above_fail_by_their_proof_alone() {
    // The same relay with the same evidence, which proves the connection honestly.
    let middle = scene(Proof::Honest).await;
    assert!(AttestedChannel::connect(&middle.config).await.is_ok());
}

#[tokio::test]
async fn a_reconnect_to_another_instance_with_the_same_ca_carries_nothing() {
    let scene = scene(Proof::Honest).await;
    let channel = AttestedChannel::connect(&scene.config).await.unwrap();
    // The name now leads to another instance: same CA, same manifest, own instance key.
    let (instance, public) = new_instance();
    {
        let mut enclave = scene.enclave.lock();
        enclave.instance = instance;
        enclave.bundle.instance_key = public;
    }
    channel.transport().break_connection().await;
    scene.asked.lock().clear();
    match channel.deposit_recipient().await {
        Err(ConnectError::Rpc(error)) => {
            let transport = error.transport().unwrap();
            assert_eq!(outcome::<()>(Err(transport)), "not this connection");
        }
        other => panic!("{other:?}"),
    }
    let asked: Vec<_> = scene.asked.lock().iter().map(|(_, what)| *what).collect();
    assert_eq!(asked, ["proof"]);
    // Verified anew, the other instance is as good as the first.
    assert!(AttestedChannel::connect(&scene.config).await.is_ok());
    *scene.proof.lock() = Proof::OtherKey;
    let result = AttestedChannel::connect(&scene.config).await;
    assert_eq!(connect_outcome(result), "not this connection");
}
