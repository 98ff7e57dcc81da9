//! What an enclave and a keyholder say to each other.
//!
//! The enclave asks for a nonce, and then for one operation: [`Request`]. Its evidence, of purpose `keyholder`, binds
//! the nonce and the request's digest, and the request names the key that the answer is sealed to, so that a share goes
//! to the enclave that was appraised and to nobody else. The keyholder signs what it answers: [`Answer`].
//!
//! | module | holds |
//! | --- | --- |
//! | [`request`](Request) | what is asked, in one canonical encoding |
//! | [`answer`](Answer) | what is answered, sealed and signed |
//! | [`wire`](Call) | both as they travel, JSON |

mod answer;
mod request;
mod wire;

pub use answer::{Answer, AnswerError, Released};
pub use request::{MAX_REQUEST_BYTES, Operation, Request, RequestError};
pub use wire::{Call, MAX_ANSWER_BYTES, MAX_CALL_BYTES, WireAnswer, WireError};

/// The length of a share.
pub const SHARE_BYTES: usize = 32;
