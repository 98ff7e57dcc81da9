//! The attested channel: a connection to an enclave whose evidence was accepted.

use std::sync::Arc;

use attestation::{Accepted, KeyBundle, Purpose, Verdict};
use proto::v1;
use proto::v1::attestation_service_client::AttestationServiceClient;
use proto::v1::audit_service_client::AuditServiceClient;
use proto::v1::event_service_client::EventServiceClient;
use proto::v1::grant_service_client::GrantServiceClient;
use proto::v1::key_service_client::KeyServiceClient;
use proto::v1::registry_service_client::RegistryServiceClient;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::clock::{Clock, SystemClock};
use crate::connection_proof::Prover;
use crate::deposit::DepositRecipient;
use crate::origin::{Origin, OriginError};
use crate::rpc_error::{self, RpcError};
use crate::tls::{self, ClientIdentity, TlsError};
use crate::transport::{Transport, TransportError};
use crate::verification::{Challenge, Inspection, ReplyError, Verification};

/// The longest reply that is read, bytes.
const MAX_REPLY_BYTES: usize = 4 << 20;

/// What a channel is made from.
#[derive(Clone)]
pub struct AttestedConfig {
    /// Where gRPC is served, such as `https://tokenkeep.example:8443`. The evidence must name it too.
    pub grpc_url: String,
    /// What evidence is verified with.
    pub verification: Verification,
    /// Who the caller is. It is shown to the verified enclave only.
    pub client_identity: Option<ClientIdentity>,
    /// The caller's clock.
    pub clock: Arc<dyn Clock>,
}

impl AttestedConfig {
    /// A configuration without client identity, on the machine's clock.
    #[must_use]
    pub fn new(grpc_url: impl Into<String>, verification: Verification) -> Self {
        Self {
            grpc_url: grpc_url.into(),
            verification,
            client_identity: None,
            clock: Arc::new(SystemClock),
        }
    }
}

impl std::fmt::Debug for AttestedConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttestedConfig")
            .field("grpc_url", &self.grpc_url)
            .field("client_identity", &self.client_identity)
            .finish_non_exhaustive()
    }
}

/// Why there is no attested channel.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is no origin.
    #[error("the server's URL is wrong")]
    Url(#[from] OriginError),
    /// TLS cannot be set up with what was given.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server was not reached.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// It refused to give evidence.
    #[error("the server gave no evidence")]
    Rpc(#[from] RpcError),
    /// What it gave is no evidence.
    #[error("the server's reply is not evidence")]
    Reply(#[from] ReplyError),
    /// The evidence was not accepted.
    #[error("the enclave's evidence was not accepted: {}", summary(.0))]
    NotAccepted(Box<Inspection>),
    /// The enclave changed its keys between two questions.
    #[error("the enclave has other keys than a moment ago: it was restarted, connect again")]
    KeysChanged,
    /// No randomness for a nonce.
    #[error("no randomness")]
    Random,
}

/// Verdict and failed checks in one line.
fn summary(inspection: &Inspection) -> String {
    let checks = inspection.appraisal().checks().iter();
    let wanted = match inspection.verdict() {
        Verdict::Reject => attestation::Outcome::Fail,
        Verdict::Accept | Verdict::Authentic => attestation::Outcome::NotRun,
    };
    let names: Vec<&str> = checks
        .filter(|check| check.outcome == wanted)
        .map(|check| check.name.as_str())
        .chain(
            inspection
                .bindings()
                .iter()
                .filter(|binding| binding.outcome == wanted)
                .map(|binding| binding.name),
        )
        .collect();
    let did = if wanted == attestation::Outcome::Fail {
        "failed"
    } else {
        "not run"
    };
    format!(
        "{}, {did}: {}",
        inspection.verdict().as_str(),
        names.join(", ")
    )
}

/// A connection to an enclave whose evidence was accepted; there is none for another verdict. Clones share
/// it.
///
/// It trusts one thing only: the keys that the accepted key bundle names. Each connection, the first and those
/// after a broken one, must show a certificate of the enclave's CA and be proved by the instance key's signature
/// over its TLS exporter [RFC 9266] before anything else is sent on it.
///
/// ```compile_fail,E0451
/// // Nobody can claim that a channel was attested.
/// let channel = tokenkeep::AttestedChannel { inner: todo!() };
/// ```
/// ```compile_fail,E0308
/// // An inspection is no channel, whatever it found.
/// fn tokens(inspection: tokenkeep::Inspection, key: std::sync::Arc<tokenkeep::DpopKey>) {
///     tokenkeep::TokenClient::new(&inspection, key);
/// }
/// ```
#[derive(Clone)]
pub struct AttestedChannel {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Transport,
    inspection: Inspection,
    accepted: Accepted,
    config: AttestedConfig,
}

/// Asks for evidence and appraises it, whatever the verdict. Nothing of the caller is shown to the server.
///
/// # Errors
/// [`ConnectError`], but not `NotAccepted`.
pub async fn inspect(config: &AttestedConfig) -> Result<Inspection, ConnectError> {
    let origin = Origin::parse(&config.grpc_url)?;
    let (tls, shown) = tls::danger_accept_any_server()?;
    let transport = Transport::new(origin.clone(), tls)?;
    transport.connect().await?;
    let challenge = Challenge::fresh(Purpose::Server)?;
    let reply = ask(&transport, &challenge).await?;
    let at_s = config.clock.unix_time_s();
    let chain = shown.certificates();
    Ok(challenge.judge(reply, &origin, Some(&chain), &config.verification, at_s)?)
}

/// Asks for the signed manifest; what it is worth, the caller finds out.
///
/// # Errors
/// [`ConnectError`].
pub(crate) async fn fetch_manifest(
    config: &AttestedConfig,
) -> Result<v1::GetManifestResponse, ConnectError> {
    let origin = Origin::parse(&config.grpc_url)?;
    let (tls, _shown) = tls::danger_accept_any_server()?;
    let transport = Transport::new(origin, tls)?;
    transport.connect().await?;
    let mut client = AttestationServiceClient::with_origin(transport.clone(), uri(&transport))
        .max_decoding_message_size(MAX_REPLY_BYTES);
    let reply = rpc_error::answer(client.get_manifest(v1::GetManifestRequest {})).await?;
    Ok(reply.into_inner())
}

impl AttestedChannel {
    /// Verifies the enclave and connects to it.
    ///
    /// # Errors
    /// [`ConnectError`]; [`ConnectError::NotAccepted`] has the appraisal.
    pub async fn connect(config: &AttestedConfig) -> Result<Self, ConnectError> {
        let inspection = Box::pin(inspect(config)).await?;
        Self::connect_inspected(config, inspection).await
    }

    /// Connects to an enclave that was inspected with the same configuration.
    ///
    /// # Errors
    /// [`ConnectError`]; [`ConnectError::NotAccepted`] unless the verdict is `accept`.
    pub async fn connect_inspected(
        config: &AttestedConfig,
        inspection: Inspection,
    ) -> Result<Self, ConnectError> {
        let Some(accepted) = inspection.accepted() else {
            return Err(ConnectError::NotAccepted(Box::new(inspection)));
        };
        let origin = Origin::parse(&config.grpc_url)?;
        let authorities: Vec<&[u8]> = inspection.bundle().authorities().collect();
        let tls = tls::pinned(&authorities, config.client_identity.as_ref())?;
        let transport = Transport::proved(origin, tls, prover(&inspection))?;
        transport.connect().await?;
        Ok(Self {
            inner: Arc::new(Inner {
                transport,
                inspection,
                accepted,
                config: config.clone(),
            }),
        })
    }

    /// The evidence and its appraisal.
    #[must_use]
    pub fn inspection(&self) -> &Inspection {
        &self.inner.inspection
    }

    /// What was accepted.
    #[must_use]
    pub fn accepted(&self) -> &Accepted {
        &self.inner.accepted
    }

    /// The keys that the enclave speaks with.
    #[must_use]
    pub fn bundle(&self) -> &KeyBundle {
        self.inner.inspection.bundle()
    }

    /// The caller's clock.
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.config.clock
    }

    /// The connection.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.inner.transport
    }

    /// A connection to another of the enclave's origins, held to the same CA and proved in the same way. No
    /// identity is shown there.
    pub(crate) fn transport_to(&self, origin: Origin) -> Result<Transport, ConnectError> {
        let authorities: Vec<&[u8]> = self.bundle().authorities().collect();
        let tls = tls::pinned(&authorities, None)?;
        Ok(Transport::proved(
            origin,
            tls,
            prover(&self.inner.inspection),
        )?)
    }

    /// The generated client of `GrantService`. Wait for its calls with [`rpc_error::answer`].
    #[must_use]
    pub fn grants(&self) -> GrantServiceClient<Transport> {
        GrantServiceClient::with_origin(self.inner.transport.clone(), uri(&self.inner.transport))
            .max_decoding_message_size(MAX_REPLY_BYTES)
    }

    /// The generated client of `AuditService`. Wait for its calls with [`rpc_error::answer`].
    #[must_use]
    pub fn audit(&self) -> AuditServiceClient<Transport> {
        AuditServiceClient::with_origin(self.inner.transport.clone(), uri(&self.inner.transport))
            .max_decoding_message_size(MAX_REPLY_BYTES)
    }

    /// The generated client of `EventService`. Wait for its calls with [`rpc_error::answer`].
    #[must_use]
    pub fn events(&self) -> EventServiceClient<Transport> {
        EventServiceClient::with_origin(self.inner.transport.clone(), uri(&self.inner.transport))
            .max_decoding_message_size(MAX_REPLY_BYTES)
    }

    /// The generated client of `KeyService`. Wait for its calls with [`rpc_error::answer`].
    #[must_use]
    pub fn keys(&self) -> KeyServiceClient<Transport> {
        KeyServiceClient::with_origin(self.inner.transport.clone(), uri(&self.inner.transport))
            .max_decoding_message_size(MAX_REPLY_BYTES)
    }

    /// The generated client of `RegistryService`. Wait for its calls with [`rpc_error::answer`].
    #[must_use]
    pub fn registry(&self) -> RegistryServiceClient<Transport> {
        RegistryServiceClient::with_origin(self.inner.transport.clone(), uri(&self.inner.transport))
            .max_decoding_message_size(MAX_REPLY_BYTES)
    }

    /// Asks for fresh evidence that the enclave made for deposits, and yields whom to seal to.
    ///
    /// # Errors
    /// [`ConnectError::NotAccepted`] unless that evidence is accepted too, [`ConnectError::KeysChanged`] if
    /// it is that of another instance than this channel's.
    pub async fn deposit_recipient(&self) -> Result<DepositRecipient, ConnectError> {
        let Inner {
            transport,
            inspection,
            accepted: _,
            config,
        } = self.inner.as_ref();
        let challenge = Challenge::fresh(Purpose::Deposit)?;
        let reply = ask(transport, &challenge).await?;
        let at_s = config.clock.unix_time_s();
        let found = challenge.judge(reply, transport.origin(), None, &config.verification, at_s)?;
        let Some(accepted) = found.accepted() else {
            return Err(ConnectError::NotAccepted(Box::new(found)));
        };
        // A key may have been rotated since; another boot has another instance key.
        let (new, old) = (found.bundle(), inspection.bundle());
        if new.instance_key != old.instance_key || new.boot_identity != old.boot_identity {
            return Err(ConnectError::KeysChanged);
        }
        Ok(DepositRecipient::new(
            &accepted,
            found.bundle(),
            *found.bundle_digest(),
        ))
    }
}

impl std::fmt::Debug for AttestedChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttestedChannel")
            .field("transport", &self.inner.transport)
            .finish_non_exhaustive()
    }
}

impl Challenge {
    fn fresh(purpose: Purpose) -> Result<Self, ConnectError> {
        let mut nonce = [0; 32];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| ConnectError::Random)?;
        Ok(Self { nonce, purpose })
    }
}

async fn ask(
    transport: &Transport,
    challenge: &Challenge,
) -> Result<v1::GetEvidenceResponse, ConnectError> {
    let mut client = AttestationServiceClient::with_origin(transport.clone(), uri(transport))
        .max_decoding_message_size(MAX_REPLY_BYTES);
    let reply = rpc_error::answer(client.get_evidence(challenge.request())).await?;
    Ok(reply.into_inner())
}

/// By whom connections are proved: the instance that was inspected, no other with the same CA.
fn prover(inspection: &Inspection) -> Prover {
    Prover::new(
        inspection.bundle().instance_key,
        *inspection.bundle_digest(),
    )
}

/// The origin as scheme and authority of requests.
pub(crate) fn uri(transport: &Transport) -> http::Uri {
    transport.origin().uri()
}

#[cfg(test)]
mod proof_tests;
#[cfg(test)]
mod tests;
