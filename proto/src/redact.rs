//! `Debug` of the messages that carry a secret: shows all but the secret.

use std::fmt;

use crate::v1::{
    CompleteConnectRequest, IntrospectTokenRequest, IssueTokenResponse, RevokeTokenRequest,
};

impl fmt::Debug for IssueTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            access_token: _,
            token_type,
            expires_in_s,
            scopes,
            resource,
            mode,
            receipt,
        } = self;
        f.debug_struct("IssueTokenResponse")
            .field("access_token", &"[redacted]")
            .field("token_type", token_type)
            .field("expires_in_s", expires_in_s)
            .field("scopes", scopes)
            .field("resource", resource)
            .field("mode", mode)
            .field("receipt", receipt)
            .finish()
    }
}

impl fmt::Debug for CompleteConnectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            state: _,
            code: _,
            iss,
            confirmation: _,
        } = self;
        f.debug_struct("CompleteConnectRequest")
            .field("state", &"[redacted]")
            .field("code", &"[redacted]")
            .field("iss", iss)
            .finish()
    }
}

impl fmt::Debug for IntrospectTokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token: _ } = self;
        f.debug_struct("IntrospectTokenRequest")
            .field("token", &"[redacted]")
            .finish()
    }
}

impl fmt::Debug for RevokeTokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token: _ } = self;
        f.debug_struct("RevokeTokenRequest")
            .field("token", &"[redacted]")
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown() {
        let reply = IssueTokenResponse {
            access_token: "canary-7f3a".into(),
            token_type: "DPoP".into(),
            ..Default::default()
        };
        let token = || "canary-7f3a".into();
        let asked = (
            IntrospectTokenRequest { token: token() },
            RevokeTokenRequest { token: token() },
            CompleteConnectRequest {
                state: token(),
                code: token(),
                iss: String::new(),
                confirmation: token(),
            },
        );
        let shown = format!("{reply:?} {reply:#?} {asked:?}");
        assert!(shown.contains("DPoP"), "{shown}");
        assert!(!shown.contains("canary"), "{shown}");
    }
}
