//! A request that holds no secret and whose answer is its status alone: an event on its way to a webhook.

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use tokio::time::timeout;
use url::Url;

use super::super::error::{Ambiguous, NotSent, UpstreamError};
use super::super::origin::Origin;
use super::{Egress, target};

impl Egress {
    /// Posts a body over a connection of its own, and gives the answer's status. No redirect is followed, nothing of
    /// the answer's body is read.
    ///
    /// # Errors
    /// [`UpstreamError::NotSent`] when it can't have been seen; else [`UpstreamError::Ambiguous`].
    pub async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<StatusCode, UpstreamError> {
        let origin = Origin::of(url).map_err(|source| NotSent::Origin { source })?;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target(url)?;
        *request.headers_mut() = headers;
        let opened = timeout(self.limits.deadline, self.open(&origin, &self.tls)).await;
        let mut stage = opened.map_err(|_elapsed| NotSent::Deadline)??;
        stage.prepare(&origin, &mut request)?;
        let close = HeaderValue::from_static("close");
        request.headers_mut().insert(CONNECTION, close);
        let answer = timeout(self.limits.deadline, stage.sender.send_request(request)).await;
        let answer = answer.map_err(|_elapsed| Ambiguous::Deadline)?;
        let answer = answer.map_err(|_broken| Ambiguous::NoAnswer)?;
        Ok(answer.status())
    }
}
