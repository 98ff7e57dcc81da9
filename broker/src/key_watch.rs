//! What happens to the enclave's keys with time: overlaps end, a CA takes over, a signing key grows old; and the
//! listeners' certificates, which are renewed before they expire and when another CA issues.

use std::sync::Arc;
use std::time::Duration;

use enclave::admin::AdminError;
use enclave::keys::KeyState;
use enclave::keys::authority::AuthorityError;
use enclave::pending::Pending;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use crate::events;
use crate::shell::Shell;
use crate::tls::{ServerCertificate, TlsError};

/// Between looks at what is over.
const LOOK: Duration = Duration::from_secs(10);

/// How often the listeners' certificates are renewed, in milliseconds.
const RENEWAL_MS: u64 = 24 * 3_600 * 1_000;

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum LeafError {
    /// The CA does not issue.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// TLS does not take it.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Looks after the keys.
#[derive(Debug)]
pub struct KeyWatch {
    shell: Arc<Shell>,
    certificate: Arc<ServerCertificate>,
    issued_by: CertificateDer<'static>,
    issued_at_ms: u64,
}

impl KeyWatch {
    /// Ends what ended while the service was down, and makes the listeners' certificate.
    ///
    /// # Errors
    /// [`LeafError`].
    pub async fn start(shell: Arc<Shell>) -> Result<Self, LeafError> {
        turn(&shell).await;
        let issued_by = shell.enclave.keys().authority().certificate().clone();
        Ok(Self {
            issued_at_ms: shell.clock.now().mono_ms,
            certificate: ServerCertificate::new(leaf(&shell)?),
            issued_by,
            shell,
        })
    }

    /// The listeners' certificate.
    #[must_use]
    pub fn certificate(&self) -> Arc<ServerCertificate> {
        Arc::clone(&self.certificate)
    }

    /// Looks after them until it is dropped.
    pub async fn keep(mut self) {
        let mut changes = self.shell.changes.subscribe();
        loop {
            tokio::select! {
                // An error means that the shell is gone: then nobody polls this.
                _ = changes.changed() => {}
                () = tokio::time::sleep(LOOK) => turn(&self.shell).await,
            }
            self.renew();
        }
    }

    fn renew(&mut self) {
        let authority = self.shell.enclave.keys().authority().certificate().clone();
        let now_ms = self.shell.clock.now().mono_ms;
        let age_ms = now_ms.saturating_sub(self.issued_at_ms);
        if authority == self.issued_by && age_ms < RENEWAL_MS {
            return;
        }
        match leaf(&self.shell) {
            Ok(next) => {
                self.certificate.replace(next);
                self.issued_by = authority;
                self.issued_at_ms = now_ms;
                events::certificates_renewed();
            }
            Err(error) => events::certificates_not_renewed(&error),
        }
    }
}

/// Ends what is over, and replaces what is too old.
async fn turn(shell: &Arc<Shell>) {
    loop {
        let retired = shell.enclave.retire_keys(&shell.clock.now());
        if !settled(shell, "retired", retired).await {
            break;
        }
    }
    let due = shell.enclave.rotate_if_due(&shell.clock.now());
    settled(shell, "rotated", due).await;
}

/// Whether there was something, and it is done.
async fn settled(
    shell: &Arc<Shell>,
    what: &'static str,
    pending: Result<Option<Pending<Vec<KeyState>>>, AdminError>,
) -> bool {
    let pending = match pending {
        Ok(Some(pending)) => pending,
        Ok(None) => return false,
        Err(error) => {
            events::keys_not_turned(&error);
            return false;
        }
    };
    match shell.settle(pending).await {
        Ok(_states) => {
            events::keys_turned(what);
            true
        }
        // Someone else changed a key meanwhile, or the store is full: it is tried again.
        Err(_refused) => false,
    }
}

/// A new certificate for the listeners, from the enclave CA.
fn leaf(shell: &Arc<Shell>) -> Result<CertifiedKey, LeafError> {
    let enclave = &shell.enclave;
    let hosts = &enclave.config().certificate_hosts();
    let rng = &**enclave.rng();
    let keys = enclave.keys();
    let leaf = keys.authority().issue(hosts, &shell.clock.now(), rng)?;
    let key = rustls::crypto::ring::sign::any_ecdsa_type(&PrivateKeyDer::Pkcs8(leaf.key))
        .map_err(|source| TlsError::Config { source })?;
    Ok(CertifiedKey::new(leaf.chain, key))
}
