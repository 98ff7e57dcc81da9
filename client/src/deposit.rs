//! Secrets sealed to an attested enclave: refresh tokens and app secrets.

use attestation::{Accepted, DepositContext, DepositEnvelope, DepositError, KeyBundle};
use ring::rand::SystemRandom;

/// The kind of deposit that is a grant's refresh token.
const REFRESH_TOKEN: &str = "refresh-token";

/// The kind of deposit that is an app's secret.
const CLIENT_SECRET: &str = "client-secret";

/// The enclave that a secret may be sealed to: its evidence for deposits was accepted.
///
/// ```compile_fail,E0451
/// // Whom to seal to comes from accepted evidence only.
/// let recipient = tokenkeep::DepositRecipient { hpke_public: [0; 32], bundle_digest: [0; 32] };
/// ```
#[derive(Debug, Clone)]
pub struct DepositRecipient {
    hpke_public: [u8; 32],
    bundle_digest: [u8; 32],
}

impl DepositRecipient {
    /// From evidence for deposits and the bundle that it binds.
    pub(crate) fn new(_accepted: &Accepted, bundle: &KeyBundle, bundle_digest: [u8; 32]) -> Self {
        Self {
            hpke_public: bundle.hpke_public,
            bundle_digest,
        }
    }

    /// Seals a refresh token for one grant: it opens for this tenant, app and grant alone. The bytes are
    /// those of `DepositGrantRequest.sealed_refresh_token`.
    ///
    /// # Errors
    /// [`DepositError`], for a token or id out of bounds.
    pub fn seal_refresh_token(
        &self,
        tenant: &str,
        app: &str,
        grant: &str,
        refresh_token: &[u8],
    ) -> Result<Vec<u8>, DepositError> {
        self.seal(tenant, app, grant, REFRESH_TOKEN, refresh_token)
    }

    /// Seals an app's secret: it opens for this vendor, app and provider alone. The bytes are those of
    /// `CreateAppRequest.sealed_client_secret`.
    ///
    /// # Errors
    /// [`DepositError`], for a secret or id out of bounds.
    pub fn seal_client_secret(
        &self,
        vendor: &str,
        app: &str,
        provider: &str,
        client_secret: &[u8],
    ) -> Result<Vec<u8>, DepositError> {
        self.seal(vendor, app, provider, CLIENT_SECRET, client_secret)
    }

    /// The encapsulated key of 32 bytes, then the ciphertext with its tag.
    fn seal(
        &self,
        tenant: &str,
        app: &str,
        grant: &str,
        kind: &str,
        secret: &[u8],
    ) -> Result<Vec<u8>, DepositError> {
        let context = DepositContext {
            tenant,
            app,
            grant,
            kind,
            bundle_digest: &self.bundle_digest,
        };
        let envelope =
            DepositEnvelope::seal(&self.hpke_public, &context, secret, &SystemRandom::new())?;
        Ok([
            envelope.encapsulated_key().as_slice(),
            envelope.ciphertext(),
        ]
        .concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attestation::DepositPrivateKey;

    #[test]
    fn what_is_sealed_opens_in_its_own_context_only() {
        let private = DepositPrivateKey::generate(&SystemRandom::new()).unwrap();
        let recipient = DepositRecipient {
            hpke_public: *private.public(),
            bundle_digest: [7; 32],
        };
        let sealed = recipient
            .seal_refresh_token("acme", "crm", "acme-crm", b"secret")
            .unwrap();
        assert_eq!(sealed.len(), 32 + 6 + 16);
        let (encapsulated, ciphertext) = sealed.split_at(32);
        let envelope = DepositEnvelope::from_parts(encapsulated, ciphertext.to_vec()).unwrap();
        let right = DepositContext {
            tenant: "acme",
            app: "crm",
            grant: "acme-crm",
            kind: "refresh-token",
            bundle_digest: &[7; 32],
        };
        assert_eq!(
            envelope.open(&private, &right).unwrap().expose_secret(),
            b"secret"
        );
        let wrong = [
            DepositContext {
                tenant: "other",
                ..right
            },
            DepositContext {
                app: "other",
                ..right
            },
            DepositContext {
                grant: "other",
                ..right
            },
            DepositContext {
                kind: "client-secret",
                ..right
            },
            DepositContext {
                bundle_digest: &[8; 32],
                ..right
            },
        ];
        for context in wrong {
            assert_eq!(
                envelope.open(&private, &context).unwrap_err(),
                DepositError::Open,
                "{context:?}"
            );
        }
    }

    #[test]
    fn an_app_secret_is_bound_to_vendor_app_and_provider() {
        let private = DepositPrivateKey::generate(&SystemRandom::new()).unwrap();
        let recipient = DepositRecipient {
            hpke_public: *private.public(),
            bundle_digest: [7; 32],
        };
        let sealed = recipient
            .seal_client_secret("vendor", "app", "provider", b"s3cret")
            .unwrap();
        let (encapsulated, ciphertext) = sealed.split_at(32);
        let envelope = DepositEnvelope::from_parts(encapsulated, ciphertext.to_vec()).unwrap();
        let context = DepositContext {
            tenant: "vendor",
            app: "app",
            grant: "provider",
            kind: "client-secret",
            bundle_digest: &[7; 32],
        };
        let opened = envelope.open(&private, &context).unwrap();
        assert_eq!(opened.expose_secret(), b"s3cret");
    }
}
