//! A keyholder: holds shares of root keys, and releases each only to an enclave that it appraised by its own reference
//! values.
//!
//! | module | holds |
//! | --- | --- |
//! | [`judge`] | whether a call is an enclave's that may have what it asks for |
//! | [`state`] | its directory: key, deployments with policies, shares, and what was released and refused |
//! | [`challenge`] | its nonces |
//! | [`serve`] | its HTTP interface |
//! | [`refusal`] | why it does not do what is asked |

pub mod challenge;
pub mod judge;
pub mod refusal;
pub mod serve;
pub mod state;

use std::path::Path;

use attestation::Roots;
use attestation::keyholder::{Answer, Call, Operation, Released, Request};
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use challenge::Challenges;
use judge::Asking;
use refusal::Refusal;
use state::{Directory, StateError};

/// The roots to verify with, read anew for each call: revocation lists come and go while a keyholder runs.
pub type ReadRoots = Box<dyn Fn() -> Option<Roots> + Send + Sync>;

/// A keyholder. One process serves from its directory.
pub struct Keyholder {
    key: Ed25519KeyPair,
    public: [u8; 32],
    directory: Directory,
    challenges: Challenges,
    roots: ReadRoots,
    /// Held from judging a call until what it changes is durable.
    turn: Mutex<()>,
}

impl std::fmt::Debug for Keyholder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyholder")
            .field("key", &hex::encode(self.public))
            .finish_non_exhaustive()
    }
}

impl Keyholder {
    /// Makes a key in a new directory.
    ///
    /// # Errors
    /// [`StateError`]; a directory that holds a keyholder already is left alone.
    pub fn init(path: &Path, roots: ReadRoots) -> Result<Self, StateError> {
        Directory::init(path)?;
        Self::open(path, roots)
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(path: &Path, roots: ReadRoots) -> Result<Self, StateError> {
        let (directory, key) = Directory::open(path)?;
        let damaged = || StateError::damaged(path, "no keyholder");
        let public = key.public_key().as_ref();
        Ok(Self {
            public: public.try_into().map_err(|_| damaged())?,
            key,
            directory,
            challenges: Challenges::new(&SystemRandom::new()).ok_or_else(damaged)?,
            roots,
            turn: Mutex::new(()),
        })
    }

    /// Its public key, as manifests name it.
    #[must_use]
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.public
    }

    /// Its directory.
    #[must_use]
    pub const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// A nonce to ask with.
    #[must_use]
    pub fn challenge(&self, now_s: u64) -> Option<[u8; 32]> {
        self.challenges.issue(now_s, &SystemRandom::new())
    }

    /// Judges a call, makes what it leads to durable, and answers. Blocks on the disk.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn ask(&self, body: &[u8], now_s: u64) -> Result<Answer, Refusal> {
        let call = Call::from_json(body).map_err(|error| Refusal::Malformed(error.to_string()))?;
        self.challenges.check(&call.nonce, now_s)?;
        if call.request.keyholder != self.public {
            return Err(Refusal::OtherKeyholder);
        }
        let asking = self.judged(&call, now_s);
        let asking = match asking {
            Ok(asking) => asking,
            Err(refusal) => {
                self.directory.note_refusal(&call.request, &refusal, now_s);
                return Err(refusal);
            }
        };
        let _turn = self.turn.lock();
        let released = self
            .challenges
            .spend(&call.nonce, now_s)
            .and_then(|()| self.done(&call.request, &asking));
        // What leaves is written down first; what is refused to an appraised enclave, too.
        self.directory
            .note(&call.request, &asking, released.as_ref().err(), now_s)?;
        let released = released?;
        Answer::seal(&call.request, &released, &self.key, &SystemRandom::new())
            .map_err(|error| Refusal::Malformed(error.to_string()))
    }

    fn judged(&self, call: &Call, now_s: u64) -> Result<Asking, Refusal> {
        let deployment = self.directory.deployment(&call.request.issuer)?;
        let roots = (self.roots)().ok_or(Refusal::NoRoots)?;
        judge::judge(call, &deployment, &roots, now_s)
    }

    fn done(&self, request: &Request, asking: &Asking) -> Result<Released, Refusal> {
        let deployment = self.directory.deployment(&request.issuer)?;
        deployment.raise_sequence(asking.sequence)?;
        let (state, share) = (&request.state, &request.share);
        match request.operation {
            Operation::Enrol => Ok(Released::Share(deployment.enrol(state, share)?)),
            Operation::Release => Ok(Released::Share(deployment.share(state, share)?)),
            Operation::Destroy => {
                deployment.destroy(state, share)?;
                Ok(Released::Destroyed)
            }
            Operation::Recover => Ok(Released::Share(self.directory.recovery_key(share)?)),
        }
    }
}
