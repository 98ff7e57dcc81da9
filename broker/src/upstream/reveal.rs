//! The one file of this crate that exposes secrets: to put them into a request.
//!
//! The bytes are lent to the HTTP library, not copied, and wiped when it lets go
//! of them. What it copies into its write buffer is beyond our reach.

use bytes::Bytes;
use enclave::secret::{CredentialHeader, UpstreamBody};
use http::HeaderValue;
use http_body_util::Full;

/// The body of a request to a token endpoint.
pub(super) fn body(secret: UpstreamBody) -> Full<Bytes> {
    struct Lent(UpstreamBody);
    impl AsRef<[u8]> for Lent {
        fn as_ref(&self) -> &[u8] {
            self.0.expose()
        }
    }
    Full::new(Bytes::from_owner(Lent(secret)))
}

/// A header's value, marked sensitive; `None` if it holds bytes that no header
/// may.
pub(super) fn header(secret: CredentialHeader) -> Option<HeaderValue> {
    struct Lent(CredentialHeader);
    impl AsRef<[u8]> for Lent {
        fn as_ref(&self) -> &[u8] {
            self.0.expose()
        }
    }
    let bytes = Bytes::from_owner(Lent(secret));
    let mut value = HeaderValue::from_maybe_shared(bytes).ok()?;
    value.set_sensitive(true);
    Some(value)
}
