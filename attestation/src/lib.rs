//! Evidence, verification and appraisal for SEV-SNP and TDX, the key bundle, the manifest and the deposit envelope.
//!
//! The pipeline is a chain of types, each made in one place only: [`Evidence`] (raw) → [`Verified`] (authentic) →
//! [`Appraised`] (may be read) → [`Accepted`] (may be relied upon). Time, randomness and roots are parameters; this
//! crate opens no socket and reads no clock.

mod appraisal;
mod bundle;
mod canonical;
mod deposit;
pub mod eventlog;
mod evidence;
pub mod evidence_bundle;
mod exporter;
mod fields;
pub mod keyholder;
pub mod manifest;
mod nonces;
mod overview;
mod p256;
pub mod platform;
pub mod policy;
mod report_data;
pub mod secret_sharing;
pub mod snp;
pub mod tdx;
mod time;
mod token_public_key;

pub use appraisal::{
    Accepted, Appraisal, Appraised, Check, CheckName, Expected, Outcome, Tier, UnknownTier,
    Verdict, Verified, VerifyError, appraise, assess, verify,
};
pub use bundle::{BundleError, KeyBundle, MAX_BUNDLE_BYTES, MAX_OTHERS, TokenKey};
pub use canonical::CanonicalError;
pub use deposit::{
    DepositContext, DepositEnvelope, DepositError, DepositPrivateKey, DepositedSecret,
    HPKE_KEY_BYTES, MAX_DEPOSIT_BYTES,
};
pub use evidence::{
    Endorsements, Evidence, MAX_SAVED_EVIDENCE_BYTES, Platform, SavedEvidenceError,
};
pub use evidence_bundle::{
    BundlePart, EvidenceBundle, EvidenceBundleError, EvidenceStatement, PartDigest,
    evidence_statement_message,
};
pub use exporter::{
    EXPORTER_BYTES, EXPORTER_CONTEXT, EXPORTER_LABEL, exporter_message, verify_exporter,
};
pub use fields::{FieldFault, FieldProblem};
pub use manifest::Manifest;
pub use nonces::{MAX_NONCES, MAX_PATH, Nonce, NoncePath, NonceTree, NonceTreeError};
pub use overview::overview;
pub use p256::{BadSignature, NotP256, P256PublicKey};
pub use platform::{Attester, AttesterError, DerivedKey, SealingFields};
pub use policy::{Policy, PolicyError};
pub use report_data::{Purpose, report_data};
pub use snp::{RevocationError, Roots, RootsError, VerifyFault};
pub use time::UnixTime;
pub use token_public_key::{NotTokenKey, TokenPublicKey};
