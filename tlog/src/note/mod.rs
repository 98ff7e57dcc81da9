//! C2SP `signed-note`: text signed by one or more named keys [C2SP signed-note].

mod key;
mod name;
mod signature;
mod signed;

pub use key::{KeyError, KeyId, MAX_KEY_BYTES, NoteSigner, VerifierKey};
pub(crate) use key::{Vkey, public_key_of, verify_ed25519};
pub use name::{KeyName, KeyNameError, MAX_NAME_BYTES};
pub use signature::{NoteSignature, SignatureLineError};
pub use signed::{MAX_NOTE_BYTES, MAX_NOTE_SIGNATURES, Note, NoteError, VerifiedNote};
