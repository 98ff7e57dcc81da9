//! An access token as it was issued.

use std::fmt;

use proto::v1::{IssueTokenResponse, TokenMode};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::audit::Receipt;
use crate::audit::receipt::ReceiptError;

/// The longest token that is accepted, bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A short-lived token, bound to a DPoP key and good at one resource: the service's own, or the provider's if that was
/// asked for. `Debug` does not show it.
pub struct AccessToken {
    token: SecretString,
    expires_in_s: u32,
    scopes: Vec<String>,
    resource: String,
    receipt: Option<Receipt>,
}

/// Why an answer holds no usable token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessTokenError {
    /// It is empty, longer than [`MAX_TOKEN_BYTES`] or not printable ASCII.
    #[error("the token is no token")]
    Form,
    /// It is not bound to a key.
    #[error("the token's type is not DPoP")]
    NotBound,
    /// It is for another resource than asked for.
    #[error("the token is for {found:?}, which was not asked for")]
    Resource {
        /// For which.
        found: String,
    },
    /// Its receipt is none.
    #[error("the token's receipt can't be read")]
    Receipt(#[from] ReceiptError),
    /// It was issued in a way that this program does not know, or that was not asked for.
    #[error("the token was issued in a mode that was not asked for, number {found}")]
    Mode {
        /// The number.
        found: i32,
    },
}

impl AccessToken {
    /// Takes the token out of an answer to a request for `resource` in the mode `asked`.
    ///
    /// # Errors
    /// [`AccessTokenError`].
    pub fn from_answer(
        answer: IssueTokenResponse,
        resource: &str,
        asked: TokenMode,
    ) -> Result<Self, AccessTokenError> {
        let IssueTokenResponse {
            access_token,
            token_type,
            expires_in_s,
            scopes,
            resource: found,
            mode,
            receipt,
        } = answer;
        // From here on the received text is wiped, whatever happens.
        let access_token = Zeroizing::new(access_token);
        let fits = (1..=MAX_TOKEN_BYTES).contains(&access_token.len());
        if !fits || !access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AccessTokenError::Form);
        }
        if !token_type.eq_ignore_ascii_case("DPoP") {
            return Err(AccessTokenError::NotBound);
        }
        if found != resource {
            return Err(AccessTokenError::Resource { found });
        }
        // None is issued in the unspecified one.
        if mode != i32::from(asked) || asked == TokenMode::Unspecified {
            return Err(AccessTokenError::Mode { found: mode });
        }
        let receipt = receipt.map(Receipt::try_from).transpose()?;
        Ok(Self {
            token: SecretString::from(access_token.as_str()),
            expires_in_s,
            scopes,
            resource: found,
            receipt,
        })
    }

    /// The token. Whoever has it still needs the DPoP key.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        self.token.expose_secret()
    }

    /// How long it lives from when it was issued, seconds.
    #[must_use]
    pub const fn expires_in_s(&self) -> u32 {
        self.expires_in_s
    }

    /// The scopes it carries.
    #[must_use]
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// Where its issuance was written down, if the service says so.
    #[must_use]
    pub const fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_ref()
    }

    /// The one resource it is good at.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            token: _,
            expires_in_s,
            scopes,
            resource,
            receipt,
        } = self;
        f.debug_struct("AccessToken")
            .field("token", &"[redacted]")
            .field("expires_in_s", expires_in_s)
            .field("scopes", scopes)
            .field("resource", resource)
            .field("receipt", receipt)
            .finish()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn answer(token: &str, expires_in_s: u32) -> IssueTokenResponse {
        IssueTokenResponse {
            access_token: token.to_owned(),
            token_type: "DPoP".to_owned(),
            expires_in_s,
            scopes: vec!["read".to_owned()],
            resource: "https://api.example".to_owned(),
            mode: TokenMode::Minted.into(),
            receipt: None,
        }
    }

    #[test]
    fn a_token_is_taken_and_not_shown() {
        let token = AccessToken::from_answer(
            answer("canary-55aa", 300),
            "https://api.example",
            TokenMode::Minted,
        )
        .unwrap();
        assert_eq!(token.expose_secret(), "canary-55aa");
        let shown = format!("{token:?} {token:#?}");
        assert!(
            shown.contains("api.example") && !shown.contains("canary"),
            "{shown}"
        );
    }

    #[test]
    fn each_answer_that_is_not_what_was_asked_for_is_refused() {
        type Change = fn(&mut IssueTokenResponse);
        let rows: [(Change, AccessTokenError); 9] = [
            (|a| a.access_token.clear(), AccessTokenError::Form),
            (
                |a| a.access_token = "t".repeat(MAX_TOKEN_BYTES + 1),
                AccessTokenError::Form,
            ),
            (|a| a.access_token.push('\n'), AccessTokenError::Form),
            (
                |a| a.token_type = "Bearer".to_owned(),
                AccessTokenError::NotBound,
            ),
            (|a| a.token_type.clear(), AccessTokenError::NotBound),
            (
                |a| a.resource.push('/'),
                AccessTokenError::Resource {
                    found: "https://api.example/".to_owned(),
                },
            ),
            (|a| a.mode = 0, AccessTokenError::Mode { found: 0 }),
            (|a| a.mode = 2, AccessTokenError::Mode { found: 2 }),
            (|a| a.mode = 77, AccessTokenError::Mode { found: 77 }),
        ];
        for (change, error) in rows {
            let mut answer = answer("token", 300);
            change(&mut answer);
            assert_eq!(
                AccessToken::from_answer(answer, "https://api.example", TokenMode::Minted)
                    .unwrap_err(),
                error
            );
        }
    }
}
