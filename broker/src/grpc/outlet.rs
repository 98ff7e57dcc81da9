//! The way out of a stream: messages that wait for their reader, but not for ever, and the reason why it ended.

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tonic::Status;

use crate::status::Refusal;

/// How long a full queue waits for its reader before the stream is cut.
const PATIENCE: Duration = Duration::from_secs(30);

/// The refusal that a stream ends with, told behind what still waits in its queue.
type Last = Arc<Mutex<Option<Refusal>>>;

/// Where a stream's messages go.
#[derive(Debug)]
pub(super) struct Outlet<M> {
    sender: mpsc::Sender<M>,
    last: Last,
    /// What who does not read is told.
    slow: fn() -> Refusal,
}

/// An outlet with room for so many messages, and what the caller reads: the queue, and then why it ended, if there is a
/// reason.
pub(super) fn outlet<M: Send + 'static>(
    messages: usize,
    slow: fn() -> Refusal,
) -> (
    Outlet<M>,
    impl Stream<Item = Result<M, Status>> + Send + 'static,
) {
    let (sender, receiver) = mpsc::channel(messages);
    let last = Last::default();
    let outlet = Outlet {
        sender,
        last: Arc::clone(&last),
        slow,
    };
    let stream =
        futures_util::stream::unfold((receiver, last), |(mut receiver, last)| async move {
            let item = match receiver.recv().await {
                Some(message) => Ok(message),
                None => Err(last.lock().take()?.status()),
            };
            Some((item, (receiver, last)))
        });
    (outlet, stream)
}

impl<M> Outlet<M> {
    /// Whether the message found its way in time.
    pub(super) async fn send(&self, message: M) -> bool {
        match tokio::time::timeout(PATIENCE, self.sender.send(message)).await {
            Ok(sent) => sent.is_ok(),
            Err(_elapsed) => {
                self.end((self.slow)());
                false
            }
        }
    }

    /// Ends the stream when it is dropped.
    pub(super) fn end(&self, refusal: Refusal) {
        *self.last.lock() = Some(refusal);
    }

    /// Returns when nobody reads any more.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use futures_util::StreamExt as _;
    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_does_not_read_is_cut_and_told_so_behind_what_waits() {
        let (out, stream) = outlet::<u64>(4, Refusal::slow_consumer);
        let mut sent = 0;
        while out.send(sent).await {
            sent += 1;
        }
        assert_eq!(sent, 4);
        drop(out);
        let items: Vec<Result<u64, Status>> = stream.collect().await;
        let (end, read) = items.split_last().unwrap();
        let read: Vec<u64> = read.iter().map(|item| *item.as_ref().unwrap()).collect();
        assert_eq!(read, [0, 1, 2, 3]);
        let status = end.as_ref().unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.reason, "SLOW_CONSUMER");

        // One that goes away is no slow one.
        let (out, stream) = outlet::<u64>(4, Refusal::slow_consumer);
        drop(stream);
        assert!(!out.send(0).await);
        assert!(out.last.lock().is_none());
    }
}
