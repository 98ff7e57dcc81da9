//! What a keyholder answers: sealed to the enclave that asked, signed by the keyholder.

use ring::rand::SecureRandom;
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use super::SHARE_BYTES;
use super::request::{Operation, Request};
use crate::canonical::Writer;
use crate::deposit::{DepositContext, DepositEnvelope, DepositError, DepositPrivateKey};

/// The name and version of what is signed.
const DOMAIN: &str = "tokenkeep/keyholder-answer/v1";
/// What is sealed when there is nothing to release.
const DESTROYED: &[u8] = b"destroyed";

/// An answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    sealed: DepositEnvelope,
    signature: [u8; 64],
}

/// What an answer held.
pub enum Released {
    /// A share, or the private key of a recovery set.
    Share(Zeroizing<[u8; SHARE_BYTES]>),
    /// The keyholder's word that the share is destroyed.
    Destroyed,
}

impl std::fmt::Debug for Released {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Share(_) => "Share([redacted])",
            Self::Destroyed => "Destroyed",
        })
    }
}

/// Why an answer could not be made or is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Sealing or opening failed.
    #[error("the answer does not open")]
    Sealed(#[from] DepositError),
    /// A length that no answer has.
    #[error("the answer is of the wrong length")]
    Length,
    /// The keyholder of the request did not sign it.
    #[error("the answer is not signed by the keyholder")]
    Signature,
    /// It opens, and is no answer to what was asked.
    #[error("the answer is to another operation")]
    Operation,
}

/// Sealed for this very request.
fn context(digest: &[u8; 32]) -> DepositContext<'_> {
    DepositContext {
        tenant: "",
        app: "keyholder",
        grant: "",
        kind: "answer",
        bundle_digest: digest,
    }
}

fn message(digest: &[u8; 32], sealed: &DepositEnvelope) -> Vec<u8> {
    let mut writer = Writer::new(DOMAIN);
    writer
        .part(digest)
        .part(sealed.encapsulated_key())
        .part(sealed.ciphertext());
    writer.finish()
}

impl Answer {
    /// Seals and signs an answer.
    ///
    /// # Errors
    /// [`AnswerError::Operation`] for a share where destruction was asked, or the other way round;
    /// [`AnswerError::Sealed`] if the recipient's key is none.
    pub fn seal(
        request: &Request,
        released: &Released,
        key: &Ed25519KeyPair,
        random: &dyn SecureRandom,
    ) -> Result<Self, AnswerError> {
        let plain: &[u8] = match (request.operation, released) {
            (
                Operation::Enrol | Operation::Release | Operation::Recover,
                Released::Share(share),
            ) => share.as_slice(),
            (Operation::Destroy, Released::Destroyed) => DESTROYED,
            (
                Operation::Enrol | Operation::Release | Operation::Recover | Operation::Destroy,
                Released::Share(_) | Released::Destroyed,
            ) => return Err(AnswerError::Operation),
        };
        let digest = request.digest();
        let sealed = DepositEnvelope::seal(&request.recipient, &context(&digest), plain, random)?;
        let signature = key.sign(&message(&digest, &sealed));
        let signature = signature
            .as_ref()
            .try_into()
            .map_err(|_| AnswerError::Signature)?;
        Ok(Self { sealed, signature })
    }

    /// The bytes as they travel: signature, encapsulated key, ciphertext.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [
            self.signature.as_slice(),
            self.sealed.encapsulated_key(),
            self.sealed.ciphertext(),
        ]
        .concat()
    }

    /// Reads what travelled.
    ///
    /// # Errors
    /// [`AnswerError::Length`].
    pub fn decode(bytes: &[u8]) -> Result<Self, AnswerError> {
        let (signature, rest) = bytes.split_first_chunk().ok_or(AnswerError::Length)?;
        let (encapsulated, ciphertext) =
            rest.split_first_chunk::<32>().ok_or(AnswerError::Length)?;
        let sealed = DepositEnvelope::from_parts(encapsulated, ciphertext.to_vec())
            .map_err(|_| AnswerError::Length)?;
        Ok(Self {
            sealed,
            signature: *signature,
        })
    }

    /// Checks the signature of the keyholder that `request` names, then opens the answer with the private key of
    /// `request.recipient`.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn open(
        &self,
        request: &Request,
        private: &DepositPrivateKey,
    ) -> Result<Released, AnswerError> {
        let digest = request.digest();
        UnparsedPublicKey::new(&ED25519, &request.keyholder)
            .verify(&message(&digest, &self.sealed), &self.signature)
            .map_err(|_| AnswerError::Signature)?;
        let opened = self.sealed.open(private, &context(&digest))?;
        let plain = opened.expose_secret();
        match request.operation {
            Operation::Destroy if plain == DESTROYED => Ok(Released::Destroyed),
            Operation::Destroy => Err(AnswerError::Operation),
            Operation::Enrol | Operation::Release | Operation::Recover => {
                let mut share = Zeroizing::new([0; SHARE_BYTES]);
                if plain.len() != share.len() {
                    return Err(AnswerError::Operation);
                }
                share.copy_from_slice(plain);
                Ok(Released::Share(share))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::KeyPair as _;

    struct World {
        keyholder: Ed25519KeyPair,
        enclave: DepositPrivateKey,
        request: Request,
    }

    fn world(operation: Operation) -> World {
        let random = SystemRandom::new();
        let keyholder = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let enclave = DepositPrivateKey::generate(&random).unwrap();
        let request = Request {
            operation,
            keyholder: keyholder.public_key().as_ref().try_into().unwrap(),
            issuer: "https://tokens.example".to_owned(),
            state: [2; 16],
            share: [3; 16],
            recipient: *enclave.public(),
            manifest: [5; 32],
        };
        World {
            keyholder,
            enclave,
            request,
        }
    }

    fn share() -> Released {
        Released::Share(Zeroizing::new([0x5a; SHARE_BYTES]))
    }

    #[test]
    fn an_answer_opens_for_its_own_request_only() {
        let random = SystemRandom::new();
        let World {
            keyholder,
            enclave,
            request,
        } = world(Operation::Release);
        let answer = Answer::seal(&request, &share(), &keyholder, &random).unwrap();
        let answer = Answer::decode(&answer.encode()).unwrap();
        let Released::Share(found) = answer.open(&request, &enclave).unwrap() else {
            panic!("no share");
        };
        assert_eq!(*found, [0x5a; SHARE_BYTES]);

        let stranger = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
        let forged = Answer::seal(&request, &share(), &stranger, &random).unwrap();
        assert_eq!(
            forged.open(&request, &enclave).unwrap_err(),
            AnswerError::Signature
        );
        let others: [fn(&mut Request); 4] = [
            |request| request.share = [9; 16],
            |request| request.state = [9; 16],
            |request| request.operation = Operation::Enrol,
            |request| request.keyholder = [9; 32],
        ];
        for change in others {
            let mut other = request.clone();
            change(&mut other);
            assert_eq!(
                answer.open(&other, &enclave).unwrap_err(),
                AnswerError::Signature,
                "{other:?}"
            );
        }
        let thief = DepositPrivateKey::generate(&random).unwrap();
        assert_eq!(
            answer.open(&request, &thief).unwrap_err(),
            AnswerError::Sealed(DepositError::Open)
        );
        let bytes = answer.encode();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let opened = Answer::decode(&changed).unwrap().open(&request, &enclave);
            assert_eq!(opened.unwrap_err(), AnswerError::Signature, "byte {at}");
        }
        for length in [0, 63, 95, 96 + 16] {
            let cut = Answer::decode(&bytes[..length]);
            assert_eq!(cut.unwrap_err(), AnswerError::Length, "{length}");
        }
    }

    #[test]
    fn what_is_answered_is_what_was_asked() {
        let random = SystemRandom::new();
        let World {
            keyholder,
            enclave,
            request,
        } = world(Operation::Destroy);
        let wrong = Answer::seal(&request, &share(), &keyholder, &random);
        assert_eq!(wrong.unwrap_err(), AnswerError::Operation);
        let answer = Answer::seal(&request, &Released::Destroyed, &keyholder, &random).unwrap();
        let opened = answer.open(&request, &enclave).unwrap();
        assert_eq!(format!("{opened:?}"), "Destroyed");
        let enrol = world(Operation::Enrol).request;
        let wrong = Answer::seal(&enrol, &Released::Destroyed, &keyholder, &random);
        assert_eq!(wrong.unwrap_err(), AnswerError::Operation);
        assert_eq!(format!("{:?}", share()), "Share([redacted])");
    }
}
