//! An API's answer on its way to the client: searched for the bearer, counted,
//! and written down when it is over.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use enclave::gateway::{AnswerError, AnswerRules, CallEnd, EchoFilter, Echoed};
use enclave::limits::LimitError;
use enclave::policy::Denied;
use enclave::refresh::UpstreamAccess;
use futures_util::FutureExt;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};

use super::pacing::Pacing;
use super::report::Report;
use super::{ANSWERED_BY, AnswerBody, CallError, Stop};
use crate::upstream::{Ambiguous, IdleBody};

/// An answer that nothing was passed on of.
pub(super) struct Answer {
    /// Whether the API asks for its newest nonce.
    pub(super) challenged: bool,
    pub(super) response: Response<IdleBody>,
    pub(super) rules: AnswerRules,
    pub(super) access: Arc<UpstreamAccess>,
}

impl Answer {
    /// Lets the answer pass as it streams.
    ///
    /// # Errors
    /// [`CallError::Answer`] if its headers say that it must not.
    pub(super) fn pass_on(
        self,
        mut report: Report,
        stop: Stop,
        pacing: Pacing,
    ) -> Result<Response<AnswerBody>, CallError> {
        let (head, body) = self.response.into_parts();
        report.answered(head.status);
        let (headers, echo) = self.rules.accept(&head.headers).map_err(|error| {
            match error {
                AnswerError::Echoed(_) => report.echoed(&self.access),
                AnswerError::Encoded => report.ended(CallEnd::Encoded),
            }
            CallError::Answer(error)
        })?;
        let hint = if headers.contains_key(CONTENT_LENGTH) {
            // What is declared comes whole, or the connection is cut.
            body.size_hint()
        } else {
            SizeHint::default()
        };
        let over = body.is_end_stream();
        if over {
            report.ended(CallEnd::Complete);
        }
        let mut stream = AnswerStream {
            body,
            echo,
            hint,
            access: self.access,
            report,
            stop,
            over,
            pacing,
            first: None,
        };
        // What came along with the head is looked at before the head is passed on: an
        // error can still be told then.
        match stream.frame().now_or_never() {
            Some(Some(Ok(frame))) => stream.first = frame.into_data().ok(),
            Some(Some(Err(error))) => return Err(cut(&error, head.status)),
            Some(None) | None => {}
        }
        let mut response = Response::new(stream.boxed_unsync());
        *response.status_mut() = head.status;
        *response.headers_mut() = headers;
        response
            .headers_mut()
            .insert(ANSWERED_BY, HeaderValue::from_static("api"));
        Ok(response)
    }
}

/// An administrator stopped what the answer touches.
#[derive(Clone, Debug, thiserror::Error)]
#[error("stopped by an administrator")]
struct Stopped(Denied);

/// The body of an answer.
struct AnswerStream {
    body: IdleBody,
    echo: EchoFilter,
    hint: SizeHint,
    access: Arc<UpstreamAccess>,
    report: Report,
    /// Ends when nothing more of it may be passed on.
    stop: Stop,
    /// Nothing more comes.
    over: bool,
    pacing: Pacing,
    /// What came along with the head.
    first: Option<Bytes>,
}

/// Why an answer was cut before anything of it was passed on.
fn cut(error: &Cause, status: StatusCode) -> CallError {
    if let Some(Stopped(denied)) = error.downcast_ref() {
        return CallError::Refused(denied.clone().into());
    }
    if let Some(limit) = error.downcast_ref::<LimitError>() {
        return CallError::Refused((*limit).into());
    }
    match error.downcast_ref() {
        Some(Echoed) => CallError::Answer(Echoed.into()),
        None => CallError::Upstream(Ambiguous::Truncated { status }.into()),
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Body for AnswerStream {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let this = &mut *self;
        let more = this.first.is_some() || !this.over || !this.pacing.is_empty();
        if more && let Poll::Ready(denied) = this.stop.as_mut().poll(context) {
            this.over = true;
            this.first = None;
            this.pacing.clear();
            this.report.ended(CallEnd::Stopped);
            return Poll::Ready(Some(Err(Stopped(denied).into())));
        }
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        loop {
            match ready!(this.pacing.poll(context)) {
                Some(Ok(piece)) => {
                    this.report.passed_on(piece.len());
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Some(Err(limit)) => {
                    this.over = true;
                    this.report.ended(CallEnd::Limited);
                    return Poll::Ready(Some(Err(limit.into())));
                }
                None if this.over => return Poll::Ready(None),
                None => {}
            }
            let part = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => match this.echo.push(data) {
                        Ok(part) => part,
                        Err(echoed) => {
                            this.over = true;
                            this.report.echoed(&this.access);
                            return Poll::Ready(Some(Err(echoed.into())));
                        }
                    },
                    // Trailers are not passed on: no rule is applied to them.
                    Err(_trailers) => continue,
                },
                Some(Err(error)) => {
                    this.over = true;
                    this.report.ended(CallEnd::Broken);
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => {
                    this.over = true;
                    this.report.ended(CallEnd::Complete);
                    this.echo.finish()
                }
            };
            this.pacing.push(part);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over && self.first.is_none() && self.pacing.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}
