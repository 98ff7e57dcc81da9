//! The word that the service is to stop.

use tokio::sync::watch;

/// Gives the word. Dropping it gives it too, so that nothing outlives its owner.
#[derive(Debug)]
pub struct Shutdown(watch::Sender<bool>);

/// Hears the word.
#[derive(Clone, Debug)]
pub struct ShutdownSignal(watch::Receiver<bool>);

/// A pair of speaker and hearer; hearers can be cloned.
#[must_use]
pub fn shutdown() -> (Shutdown, ShutdownSignal) {
    let (sender, receiver) = watch::channel(false);
    (Shutdown(sender), ShutdownSignal(receiver))
}

impl Shutdown {
    /// All listeners stop accepting and drain.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }
}

impl ShutdownSignal {
    /// Returns once the word was given.
    pub async fn begun(&mut self) {
        // An error means that the speaker is gone, which is the word too.
        drop(self.0.wait_for(|begun| *begun).await.map(|_seen| ()));
    }

    /// Whether the word was given.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}
