//! Why a keyholder does not do what is asked: a stable reason, a status, and words.

use thiserror::Error;

use super::state::StateError;

/// A refusal.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The call cannot be read.
    #[error("the call cannot be read: {0}")]
    Malformed(String),
    /// The nonce is not one of this keyholder, or too old.
    #[error("the nonce is not of this keyholder, or is older than a minute: ask for another")]
    StaleNonce,
    /// The nonce has served already.
    #[error("the nonce has served already: ask for another")]
    SpentNonce,
    /// Asked of another keyholder.
    #[error("the request is to another keyholder")]
    OtherKeyholder,
    /// The issuer is none that was added.
    #[error("no such deployment was added: run `tokenkeep keyholder add` for its issuer")]
    UnknownDeployment,
    /// The evidence is not accepted by the deployment's policy.
    #[error("the evidence is not accepted: {0}")]
    Evidence(String),
    /// There are no roots to verify evidence with.
    #[error("the keyholder has no roots to verify evidence with")]
    NoRoots,
    /// The manifest is not signed by whom the evidence names, or is not the one that it was asked under.
    #[error("the manifest is not accepted: {0}")]
    Manifest(String),
    /// A newer manifest of this deployment has been seen.
    #[error("the manifest has the sequence number {found}, and {seen} has been seen")]
    ManifestLower {
        /// That of the manifest.
        found: u64,
        /// The highest.
        seen: u64,
    },
    /// The manifest does not let this image open the state.
    #[error("the manifest does not let this image open the state: {0}")]
    Image(String),
    /// There is no such share.
    #[error("there is no such share")]
    UnknownShare,
    /// The share was destroyed.
    #[error("the share was destroyed")]
    Destroyed,
    /// The deployment has as many shares as it may.
    #[error("the deployment has as many shares as it may: destroy those that are not in use")]
    TooManyShares,
    /// Nobody combined the recovery set here.
    #[error("the recovery set was not combined here")]
    NoRecoveryKey,
    /// Too many calls.
    #[error("too many calls: ask again in a few seconds")]
    Busy,
    /// The disk.
    #[error("the keyholder's disk failed, so nothing was released")]
    State(#[from] StateError),
}

impl Refusal {
    /// The stable reason.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "MALFORMED",
            Self::StaleNonce => "STALE_NONCE",
            Self::SpentNonce => "SPENT_NONCE",
            Self::OtherKeyholder => "OTHER_KEYHOLDER",
            Self::UnknownDeployment => "UNKNOWN_DEPLOYMENT",
            Self::Evidence(_) => "EVIDENCE_REFUSED",
            Self::NoRoots => "NO_ROOTS",
            Self::Manifest(_) => "MANIFEST_REFUSED",
            Self::ManifestLower { .. } => "MANIFEST_LOWER",
            Self::Image(_) => "IMAGE_FORBIDDEN",
            Self::UnknownShare => "UNKNOWN_SHARE",
            Self::Destroyed => "SHARE_DESTROYED",
            Self::TooManyShares => "TOO_MANY_SHARES",
            Self::NoRecoveryKey => "NO_RECOVERY_KEY",
            Self::Busy => "BUSY",
            Self::State(_) => "KEYHOLDER_FAILED",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::OtherKeyholder => 400,
            Self::StaleNonce | Self::SpentNonce => 401,
            Self::Evidence(_)
            | Self::Manifest(_)
            | Self::ManifestLower { .. }
            | Self::Image(_)
            | Self::TooManyShares => 403,
            Self::UnknownDeployment | Self::UnknownShare | Self::NoRecoveryKey => 404,
            Self::Destroyed => 410,
            Self::Busy => 429,
            Self::NoRoots | Self::State(_) => 500,
        }
    }

    /// What the peer is told: no paths, no control characters, at most 500 characters.
    #[must_use]
    pub fn message(&self) -> String {
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let mut message = String::new();
        for character in self.to_string().chars().map(printable) {
            if message.len().saturating_add(character.len_utf8()) > 500 {
                break;
            }
            message.push(character);
        }
        message
    }
}
