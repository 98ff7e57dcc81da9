//! What the enclave binds into its reports: a purpose, the verifiers' nonces and the keys it speaks with.

use crate::canonical::{Writer, sha512};

/// The name and version of the construction.
const DOMAIN: &str = "tokenkeep/report-data/v1";

/// What a report is for. A report for one purpose never serves another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Shown to those who connect to the service.
    Server,
    /// Shown to those who seal a deposit.
    Deposit,
    /// Shown to another instance.
    Peer,
    /// Shown to a keyholder.
    Keyholder,
}

impl Purpose {
    /// The name that is hashed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Deposit => "deposit",
            Self::Peer => "peer",
            Self::Keyholder => "keyholder",
        }
    }
}

/// The 64 bytes of report data: SHA-512 over `"tokenkeep/report-data/v1"`, the purpose, the root of the nonce tree and
/// the SHA-256 of the key bundle, each part preceded by its length as 8 bytes, big endian.
#[must_use]
pub fn report_data(purpose: Purpose, nonce_root: &[u8; 32], bundle_digest: &[u8; 32]) -> [u8; 64] {
    let mut writer = Writer::new(DOMAIN);
    writer
        .part(purpose.as_str().as_bytes())
        .part(nonce_root)
        .part(bundle_digest);
    sha512(&writer.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_construction_is_what_the_documentation_says() {
        let mut bytes = Vec::new();
        for part in [
            &b"tokenkeep/report-data/v1"[..],
            b"server",
            &[1; 32],
            &[2; 32],
        ] {
            bytes.extend_from_slice(&u64::try_from(part.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(part);
        }
        assert_eq!(
            report_data(Purpose::Server, &[1; 32], &[2; 32]),
            sha512(&bytes)
        );
    }

    #[test]
    fn every_input_changes_the_result() {
        let base = report_data(Purpose::Server, &[1; 32], &[2; 32]);
        for purpose in [Purpose::Deposit, Purpose::Peer, Purpose::Keyholder] {
            assert_ne!(report_data(purpose, &[1; 32], &[2; 32]), base);
        }
        assert_ne!(report_data(Purpose::Server, &[3; 32], &[2; 32]), base);
        assert_ne!(report_data(Purpose::Server, &[1; 32], &[3; 32]), base);
        assert_ne!(report_data(Purpose::Server, &[2; 32], &[1; 32]), base);
    }
}
