//! A leash on each answer: one that its peer does not take for too long is cut.
//!
//! HTTP asks for no more of an answer's body while the peer's window is closed or the connection's buffer full, so that
//! the body itself can't see that nobody reads. What drives the answer looks from outside.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::Response;
use hyper::body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::time::{Sleep, sleep};

/// What is handed out at a time. HTTP takes a piece when the peer's window has room for a byte of it, and keeps the rest:
/// whoever opens its window by a byte must not make it keep a whole answer.
const PIECE_BYTES: usize = 16 * 1024;

/// The last piece of each that is larger: when it was taken the answer may have ended, whatever HTTP still keeps of it.
const LAST_BYTES: usize = 4 * 1024;

/// In an answer's extensions: how long its peer may take none of it, where that is not as long as the listener says.
#[derive(Clone, Copy, Debug)]
pub struct Unread(pub Duration);

/// What is seen of an answer from outside.
#[derive(Debug, Default)]
pub(super) struct Leash {
    /// The number of the piece that the peer has not taken yet; 0 if there is none.
    handed: AtomicU64,
    bound: OnceLock<Duration>,
}

impl Leash {
    fn handed(&self) -> u64 {
        self.handed.load(Ordering::Relaxed)
    }
}

/// The leash of a connection's newest request.
#[derive(Clone, Debug)]
pub(super) struct Leashes {
    newest: Arc<Mutex<Newest>>,
    unread: Duration,
}

/// How the newest request is answered.
#[derive(Clone, Debug, Default)]
enum Newest {
    /// Not known: no request has come, or its answer has a task already.
    #[default]
    Unknown,
    /// On a leash.
    Leashed(Arc<Leash>),
    /// By an answer that is there, and has no body.
    AtOnce,
}

impl Newest {
    fn leash(&self) -> Option<Arc<Leash>> {
        match self {
            Self::Leashed(leash) => Some(Arc::clone(leash)),
            Self::Unknown | Self::AtOnce => None,
        }
    }
}

impl Leashes {
    /// For a connection whose peer may leave an answer unread for so long.
    pub(super) fn new(unread: Duration) -> Self {
        Self {
            newest: Arc::default(),
            unread,
        }
    }

    /// Begins one for a request.
    pub(super) fn begin(&self) -> Arc<Leash> {
        let leash = Arc::new(Leash::default());
        *self.newest.lock() = Newest::Leashed(Arc::clone(&leash));
        leash
    }

    /// Notes that a request needs none.
    pub(super) fn at_once(&self) {
        *self.newest.lock() = Newest::AtOnce;
    }

    /// Ends when the newest answer was not read for too long: for HTTP/1, whose answers come one after another. Looks
    /// now and then only, so that it may take twice as long.
    pub(super) async fn unread(&self) {
        loop {
            let before = self.newest.lock().leash();
            let piece = before.as_ref().map(|leash| leash.handed());
            sleep(self.unread).await;
            let now = self.newest.lock().leash();
            let same = before.zip(now).is_some_and(|(a, b)| {
                let handed = b.handed();
                Arc::ptr_eq(&a, &b) && handed != 0 && Some(handed) == piece
            });
            if same {
                return;
            }
        }
    }
}

/// HTTP/2 spawns a task for each request right behind the call that began its leash. An answer that is there takes none.
impl<F> Executor<F> for Leashes
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, work: F) {
        let newest = std::mem::take(&mut *self.newest.lock());
        match newest {
            Newest::Leashed(leash) => drop(tokio::spawn(cut(work, leash, self.unread))),
            Newest::AtOnce => {
                let mut work = Box::pin(work);
                if work.as_mut().now_or_never().is_none() {
                    drop(tokio::spawn(work));
                }
            }
            Newest::Unknown => drop(tokio::spawn(work)),
        }
    }
}

/// Drives an answer until it has ended, or was not read for too long.
async fn cut(work: impl Future<Output = ()>, leash: Arc<Leash>, unread: Duration) {
    let mut work = pin!(work);
    let mut since = 0;
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|context| {
        if work.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let piece = leash.handed();
        if piece != since {
            since = piece;
            let bound = leash.bound.get().copied().unwrap_or(unread);
            timer = (piece != 0).then(|| Box::pin(sleep(bound)));
        }
        match &mut timer {
            Some(timer) => timer.as_mut().poll(context),
            None => Poll::Pending,
        }
    })
    .await;
}

/// A body that says when a piece of it was handed out, and when more is asked for.
#[derive(Debug)]
pub(super) struct Watched<B>(Option<Leashed<B>>);

#[derive(Debug)]
struct Leashed<B> {
    body: Pin<Box<B>>,
    /// Of what the body gave, what was not handed out yet.
    rest: Bytes,
    pieces: u64,
    leash: Arc<Leash>,
}

/// An answer on its leash.
pub(super) fn watched<B>(answer: Response<B>, leash: Arc<Leash>) -> Response<Watched<B>> {
    if let Some(Unread(bound)) = answer.extensions().get() {
        leash.bound.get_or_init(|| *bound);
    }
    answer.map(|body| {
        Watched(Some(Leashed {
            body: Box::pin(body),
            rest: Bytes::new(),
            pieces: 0,
            leash,
        }))
    })
}

/// An answer whose body is at its end: there is nothing of it that could be left unread.
pub(super) fn bodiless<B>(answer: Response<B>) -> Response<Watched<B>> {
    answer.map(|_ended| Watched(None))
}

/// Takes the next piece off what is there.
fn piece(rest: &mut Bytes) -> Bytes {
    let most = match rest.len() {
        0..=LAST_BYTES => rest.len(),
        some => some.saturating_sub(LAST_BYTES).min(PIECE_BYTES),
    };
    rest.split_to(most)
}

impl<B: Body<Data = Bytes>> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(this) = &mut self.0 else {
            return Poll::Ready(None);
        };
        this.leash.handed.store(0, Ordering::Relaxed);
        let polled = if this.rest.is_empty() {
            this.body.as_mut().poll_frame(context)
        } else {
            Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.rest)))))
        };
        let Poll::Ready(Some(Ok(frame))) = polled else {
            return polled;
        };
        this.pieces = this.pieces.saturating_add(1);
        this.leash.handed.store(this.pieces, Ordering::Relaxed);
        let frame = match frame.into_data() {
            Ok(mut data) => {
                let piece = piece(&mut data);
                this.rest = data;
                Frame::data(piece)
            }
            Err(trailers) => trailers,
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        (self.0.as_ref()).is_none_or(|this| this.rest.is_empty() && this.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let Some(this) = &self.0 else {
            return SizeHint::with_exact(0);
        };
        let rest = u64::try_from(this.rest.len()).unwrap_or(u64::MAX);
        let of_body = this.body.size_hint();
        let mut all = SizeHint::new();
        all.set_lower(of_body.lower().saturating_add(rest));
        if let Some(upper) = of_body.upper() {
            all.set_upper(upper.saturating_add(rest));
        }
        all
    }
}

impl<B> Drop for Leashed<B> {
    fn drop(&mut self) {
        self.leash.handed.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        reason = "a test that overflows fails"
    )]

    use std::collections::VecDeque;
    use std::convert::Infallible;

    use http_body_util::BodyExt as _;

    use super::*;

    const BOUND: Duration = Duration::from_secs(10);

    /// The paused clock of the test.
    fn since() -> tokio::time::Instant {
        tokio::time::Instant::now()
    }

    /// Some pieces, and `None` where nothing more comes without an end.
    struct Pieces(VecDeque<Option<&'static str>>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.0.front() == Some(&None) {
                return Poll::Pending;
            }
            let piece = self.0.pop_front().flatten();
            Poll::Ready(piece.map(|piece| Ok(Frame::data(Bytes::from(piece)))))
        }
    }

    fn answer(pieces: &[Option<&'static str>], leash: &Arc<Leash>) -> Watched<Pieces> {
        let body = Pieces(pieces.iter().copied().collect());
        watched(Response::new(body), Arc::clone(leash)).into_body()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_is_cut() {
        let leash = Arc::new(Leash::default());
        let mut body = answer(&[Some("a"), Some("b")], &leash);
        let began = since();
        let work = async {
            for _ in 0..2 {
                body.frame().await.unwrap().unwrap();
                // The peer takes it, but slowly.
                sleep(BOUND * 9 / 10).await;
            }
            assert!(body.frame().await.is_none());
            body = answer(&[Some("c")], &leash);
            body.frame().await.unwrap().unwrap();
            std::future::pending::<()>().await;
        };
        cut(work, Arc::clone(&leash), BOUND).await;
        assert_eq!(began.elapsed(), BOUND * 28 / 10);
    }

    #[tokio::test]
    async fn what_is_large_is_handed_out_in_pieces_and_whole() {
        for (bytes, expected) in [
            (0, vec![]),
            (LAST_BYTES, vec![LAST_BYTES]),
            (LAST_BYTES + 1, vec![1, LAST_BYTES]),
            (
                2 * PIECE_BYTES + LAST_BYTES + 7,
                vec![PIECE_BYTES, PIECE_BYTES, 7, LAST_BYTES],
            ),
        ] {
            let whole: Vec<u8> = (0..bytes).map(|place| (place % 251) as u8).collect();
            let body = http_body_util::Full::new(Bytes::from(whole.clone()));
            let leash = Arc::new(Leash::default());
            let mut body = watched(Response::new(body), leash).into_body();
            let (mut sizes, mut taken) = (Vec::new(), Vec::new());
            while !body.is_end_stream() {
                let left = body.size_hint().exact().unwrap();
                assert_eq!(left, (bytes - taken.len()) as u64);
                let Some(frame) = body.frame().await else {
                    break;
                };
                let data = frame.unwrap().into_data().unwrap();
                sizes.push(data.len());
                taken.extend_from_slice(&data);
            }
            assert_eq!(taken, whole);
            assert_eq!(sizes, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_has_nothing_to_read_is_not() {
        let leash = Arc::new(Leash::default());
        let mut body = answer(&[None], &leash);
        let work = async {
            let waiting = tokio::time::timeout(BOUND * 100, body.frame());
            assert!(waiting.await.is_err());
        };
        let began = since();
        cut(work, Arc::clone(&leash), BOUND).await;
        assert!(began.elapsed() >= BOUND * 100);
    }

    #[tokio::test(start_paused = true)]
    async fn the_bound_is_the_answers_own_where_it_has_one() {
        let leash = Arc::new(Leash::default());
        let mut response = Response::new(Pieces([Some("a")].into()));
        response.extensions_mut().insert(Unread(BOUND / 5));
        let mut body = watched(response, Arc::clone(&leash)).into_body();
        let work = async {
            body.frame().await.unwrap().unwrap();
            std::future::pending::<()>().await;
        };
        let began = since();
        cut(work, leash, BOUND).await;
        assert_eq!(began.elapsed(), BOUND / 5);
    }

    #[tokio::test]
    async fn an_answer_that_is_there_takes_no_task() {
        let leashes = Leashes::new(BOUND);
        let tasks = || {
            tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks()
        };
        let before = tasks();
        let (done, ended) = tokio::sync::oneshot::channel();
        leashes.at_once();
        leashes.execute(async move { done.send(()).unwrap() });
        assert_eq!(tasks(), before);
        ended.await.unwrap();
        // One that has to wait after all gets its task.
        let (let_on, go) = tokio::sync::oneshot::channel();
        let (done, ended) = tokio::sync::oneshot::channel();
        leashes.at_once();
        leashes.execute(async move {
            let told: Result<(), _> = go.await;
            done.send(told.is_ok()).unwrap();
        });
        assert_eq!(tasks(), before + 1);
        let_on.send(()).unwrap();
        assert!(ended.await.unwrap());
        // So does each whose answer is not known to be there.
        leashes.execute(std::future::pending());
        assert_eq!(tasks(), before + 1);
        let _leash = leashes.begin();
        leashes.execute(std::future::ready(()));
        assert_eq!(tasks(), before + 2);
    }

    #[tokio::test]
    async fn an_answer_without_a_body_is_at_its_end() {
        let mut body = bodiless(Response::new(Pieces([Some("a")].into()))).into_body();
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
        assert!(body.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn over_http_1_the_newest_answer_is_looked_at() {
        let leashes = Leashes::new(BOUND);
        let first = leashes.begin();
        let mut body = answer(&[Some("a")], &first);
        body.frame().await.unwrap().unwrap();
        // Between answers nothing is unread.
        drop(body);
        let waiting = tokio::time::timeout(BOUND * 10, leashes.unread());
        assert!(waiting.await.is_err());
        let mut body = answer(&[Some("b")], &leashes.begin());
        body.frame().await.unwrap().unwrap();
        let began = since();
        leashes.unread().await;
        assert!(began.elapsed() <= BOUND * 2);
    }
}
