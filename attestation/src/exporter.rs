//! Proof that a TLS connection ends inside the attested enclave: the instance key's signature over its exporter.

use crate::canonical::Writer;
use crate::p256::{BadSignature, P256PublicKey};

/// The label under which both ends of a connection export [RFC 9266 §4].
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// The context for the exporter: empty, but present [RFC 9266 §4].
pub const EXPORTER_CONTEXT: &[u8] = b"";

/// How many bytes are exported [RFC 9266 §4].
pub const EXPORTER_BYTES: usize = 32;

/// The name and version of what is signed.
const DOMAIN: &str = "tokenkeep/channel/v1";

/// What the instance key signs: the domain, the digest of the key bundle and the exporter value of *this* connection,
/// each part length-prefixed. A relay ends the client's connection itself and so has another exporter value.
#[must_use]
pub fn exporter_message(bundle_digest: &[u8; 32], exporter: &[u8; EXPORTER_BYTES]) -> Vec<u8> {
    let mut writer = Writer::new(DOMAIN);
    writer.part(bundle_digest).part(exporter);
    writer.finish()
}

/// Verifies the instance key's ES256 signature over the exporter value of this connection.
///
/// # Errors
/// [`BadSignature`] if the connection does not end where the key is.
pub fn verify_exporter(
    instance_key: &P256PublicKey,
    bundle_digest: &[u8; 32],
    exporter: &[u8; EXPORTER_BYTES],
    signature: &[u8],
) -> Result<(), BadSignature> {
    instance_key.verify_es256(&exporter_message(bundle_digest, exporter), signature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

    #[test]
    fn a_proof_holds_for_its_connection_and_bundle_only() {
        let random = SystemRandom::new();
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
                .unwrap();
        let key = P256PublicKey::from_point(pair.public_key().as_ref()).unwrap();
        let signature = pair
            .sign(&random, &exporter_message(&[1; 32], &[2; 32]))
            .unwrap();
        assert_eq!(
            verify_exporter(&key, &[1; 32], &[2; 32], signature.as_ref()),
            Ok(())
        );
        assert_eq!(
            verify_exporter(&key, &[1; 32], &[3; 32], signature.as_ref()),
            Err(BadSignature)
        );
        assert_eq!(
            verify_exporter(&key, &[3; 32], &[2; 32], signature.as_ref()),
            Err(BadSignature)
        );
    }
}
