//! The kinds of secrets that the enclave holds, each its own type.
//!
//! None can be cloned, compared, serialised or printed. `expose` is the one
//! door, and the bytes are wiped when the value is dropped.

use std::fmt;

use secrecy::{ExposeSecret, SecretSlice};

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name(SecretSlice<u8>);

        impl $name {
            /// Takes ownership of the bytes; they are wiped on drop.
            #[must_use]
            pub fn new(bytes: Vec<u8>) -> Self {
                Self(SecretSlice::from(bytes))
            }

            /// The secret's bytes.
            #[must_use]
            pub fn expose(&self) -> &[u8] {
                self.0.expose_secret()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "([redacted])"))
            }
        }
    };
}

secret! {
    /// A refresh token of a provider: what a thief wants most.
    RefreshToken
}
secret! {
    /// A bearer access token of a provider, injected by the gateway last.
    UpstreamAccessToken
}
secret! {
    /// The secret with which an app authenticates at a provider.
    ClientSecret
}
secret! {
    /// The private key of an app at its provider, PKCS#8 in DER.
    AppPrivateKey
}
secret! {
    /// The private key that a grant's upstream tokens are bound to, PKCS#8 in DER.
    DpopPrivateKey
}
secret! {
    /// The verifier of a consent that is under way [RFC 7636 §4.1].
    CodeVerifier
}
secret! {
    /// An authorization code [RFC 6749 §4.1.2].
    AuthorizationCode
}
secret! {
    /// What a device is known by while its owner consents [RFC 8628 §3.2]: worth the tokens that come of it.
    DeviceCode
}
secret! {
    /// The body of a request to a provider's token endpoint: holds the refresh
    /// token and may hold the app's secret.
    UpstreamBody
}
secret! {
    /// A header value that carries a credential.
    CredentialHeader
}
secret! {
    /// A provider's raw answer at the token endpoint.
    RawResponse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let canary = b"canary-2b9e".to_vec();
        let shown = format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:#?}",
            RefreshToken::new(canary.clone()),
            UpstreamAccessToken::new(canary.clone()),
            ClientSecret::new(canary.clone()),
            AppPrivateKey::new(canary.clone()),
            DpopPrivateKey::new(canary.clone()),
            CodeVerifier::new(canary.clone()),
            AuthorizationCode::new(canary.clone()),
            DeviceCode::new(canary.clone()),
            UpstreamBody::new(canary.clone()),
            CredentialHeader::new(canary.clone()),
            RawResponse::new(canary),
        );
        assert!(!shown.contains("canary"), "{shown}");
        assert!(!shown.contains("99, 97, 110"), "{shown}");
    }
}
