//! The stages of a decision as they pass, for whoever times them: the core has no clock.

/// A part of the decision on a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Who asks: the certificate was looked up, or the assertion verified.
    Authenticate,
    /// With which key: nonce, signature, replay.
    Proof,
    /// On which grant, and may it.
    Policy,
    /// The token is signed, and its leaf made.
    Mint,
}

/// Is told when a stage was passed. A stage that refuses is not.
pub trait Stages {
    /// This one was.
    fn passed(&self, stage: Stage);
}

/// Nobody looks.
impl Stages for () {
    fn passed(&self, _stage: Stage) {}
}
