//! An enclave that answers with emulated evidence, for tests.

use std::sync::Arc;

use attestation::policy::pinned;
use attestation::{
    DepositPrivateKey, KeyBundle, NonceTree, P256PublicKey, Policy, Purpose, Roots, Tier, TokenKey,
};
use parking_lot::Mutex;
use proto::v1;
use proto::v1::attestation_service_server::AttestationService;
use rcgen::KeyPair;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING as ES256, EcdsaKeyPair, KeyPair as _};
use testkit::snp::{ReportFields, SnpPlatform};
use tonic::{Request, Response, Status};

use crate::test_server::{Exporter, TestCa};
use crate::verification::{Verification, sha256};

/// What stands in the report besides the report data.
pub(crate) const MEASUREMENT: [u8; 48] = [0x4D; 48];
pub(crate) const SIGNER: [u8; 32] = [0x51; 32];

/// An enclave with its keys. Each answer can be changed before it is sent.
pub(crate) struct TestEnclave {
    pub(crate) ca: TestCa,
    pub(crate) platform: SnpPlatform,
    pub(crate) deposit_key: DepositPrivateKey,
    pub(crate) bundle: KeyBundle,
    pub(crate) instance: EcdsaKeyPair,
}

impl TestEnclave {
    pub(crate) fn new(grpc_origin: &str) -> Self {
        let ca = TestCa::new();
        let key = || {
            let pair = KeyPair::generate().unwrap();
            P256PublicKey::from_point(pair.public_key_raw()).unwrap()
        };
        let (instance, instance_key) = new_instance();
        let deposit_key = DepositPrivateKey::generate(&SystemRandom::new()).unwrap();
        let bundle = KeyBundle {
            enclave_ca_der: ca.der().to_vec(),
            next_ca_ders: Vec::new(),
            instance_key,
            token_keys: vec![TokenKey {
                kid: "emulated-1".to_owned(),
                key: key().into(),
            }],
            hpke_public: *deposit_key.public(),
            log_key_spki: vec![6; 44],
            earlier_log_keys: Vec::new(),
            manifest_digest: [7; 32],
            manifest_signer: SIGNER,
            boot_identity: [9; 32],
            issuer: "https://issuer.test".to_owned(),
            grpc_origin: grpc_origin.to_owned(),
            public_origin: "https://public.test".to_owned(),
            gateway_origin: "https://gateway.test".to_owned(),
        };
        Self {
            ca,
            platform: SnpPlatform::development([3; 32]).unwrap(),
            deposit_key,
            bundle,
            instance,
        }
    }

    /// Signs bytes with the instance key, whatever they are.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.instance.sign(&SystemRandom::new(), message);
        signature.unwrap().as_ref().to_vec()
    }

    /// The proof of a connection with this exporter value.
    pub(crate) fn proof(&self, exporter: &Exporter) -> Vec<u8> {
        let digest = self.bundle.digest().unwrap();
        self.sign(&attestation::exporter_message(&digest, &exporter.0))
    }

    /// The roots and the policy under which its evidence is accepted.
    pub(crate) fn verification(&self) -> Verification {
        let roots = Roots::with_emulated(self.platform.root_pem()).unwrap();
        let text = pinned(&MEASUREMENT, &SIGNER, &[Tier::Emulated]);
        Verification::new(roots, Some(Policy::from_toml(text.as_bytes()).unwrap()))
    }

    /// The honest answer to a request.
    pub(crate) fn reply(&self, request: &v1::GetEvidenceRequest) -> v1::GetEvidenceResponse {
        self.reply_with(request, |_fields| {})
    }

    /// The answer with another report.
    pub(crate) fn reply_with(
        &self,
        request: &v1::GetEvidenceRequest,
        change: impl FnOnce(&mut ReportFields),
    ) -> v1::GetEvidenceResponse {
        let nonce = request.nonce.as_slice().try_into().unwrap();
        // Another verifier is served by the same report.
        let tree = NonceTree::new(&[[0xEE; 32], nonce]).unwrap();
        let path = tree.path(1).unwrap();
        let key_bundle = self.bundle.encode().unwrap();
        let purpose = match request.purpose() {
            v1::Purpose::Server => Purpose::Server,
            v1::Purpose::Deposit => Purpose::Deposit,
            v1::Purpose::Unspecified => panic!("no purpose"),
        };
        let mut fields = self.platform.fields();
        fields.measurement = MEASUREMENT;
        fields.host_data = SIGNER;
        fields.report_data = attestation::report_data(purpose, &tree.root(), &sha256(&key_bundle));
        change(&mut fields);
        let certificates = self.platform.certificates();
        v1::GetEvidenceResponse {
            evidence: Some(v1::Evidence {
                platform: v1::Platform::SevSnp.into(),
                report: self.platform.report(&fields).unwrap(),
                certificates: vec![
                    certificates.vek.clone(),
                    certificates.ask.clone(),
                    certificates.ark.clone(),
                ],
                collateral: Vec::new(),
            }),
            key_bundle,
            nonce_path: Some(v1::NoncePath {
                index: path.index(),
                size: path.tree_size(),
                siblings: path.siblings().iter().map(|hash| hash.to_vec()).collect(),
            }),
            purpose: request.purpose,
        }
    }
}

/// An instance key and its public half.
pub(crate) fn new_instance() -> (EcdsaKeyPair, P256PublicKey) {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ES256, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ES256, pkcs8.as_ref(), &random).unwrap();
    let public = P256PublicKey::from_point(pair.public_key().as_ref()).unwrap();
    (pair, public)
}

/// Changes an answer before it is sent.
pub(crate) type Change = fn(&mut v1::GetEvidenceResponse);

/// Serves an enclave's evidence; what is in `change` is done to each answer.
pub(crate) struct EvidenceServer {
    pub(crate) enclave: Arc<Mutex<TestEnclave>>,
    pub(crate) change: Change,
}

#[tonic::async_trait]
impl AttestationService for EvidenceServer {
    async fn get_evidence(
        &self,
        request: Request<v1::GetEvidenceRequest>,
    ) -> Result<Response<v1::GetEvidenceResponse>, Status> {
        let mut reply = self.enclave.lock().reply(request.get_ref());
        (self.change)(&mut reply);
        Ok(Response::new(reply))
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
        let exporter = request.extensions().get::<Exporter>().unwrap();
        let signature = self.enclave.lock().proof(exporter);
        Ok(Response::new(v1::ProveConnectionResponse { signature }))
    }
}
