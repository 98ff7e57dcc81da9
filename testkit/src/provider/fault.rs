//! Faults: what the provider does wrong, to whom and how often.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Faults that may wait at once.
const MAX_WAITING: usize = 1_024;
/// Longest delay that is modelled, in milliseconds.
const MAX_DELAY_MS: u64 = 600_000;
/// Largest body that is modelled, in bytes.
const MAX_BODY_BYTES: u64 = 1 << 30;

/// Where a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `POST /token`.
    Token,
    /// `POST /revoke`.
    Revocation,
    /// `POST /introspect`.
    Introspection,
    /// Everything under `/api/`.
    Api,
}

impl Endpoint {
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path {
            "/token" => Some(Self::Token),
            "/revoke" => Some(Self::Revocation),
            "/introspect" => Some(Self::Introspection),
            _ if path.starts_with("/api/") => Some(Self::Api),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Revocation => "revocation",
            Self::Introspection => "introspection",
            Self::Api => "api",
        }
    }
}

/// One way to misbehave: whether the request takes effect, after which delay, and with which answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Where.
    pub endpoint: Endpoint,
    /// Whether the request takes effect (a refresh token is used up, a contact is created). With
    /// [`Answer::Honest`] it always does: before the delay if this is true, after it otherwise.
    pub commit: bool,
    /// How long the answer is held back.
    #[serde(default)]
    pub delay_ms: u64,
    /// What is answered.
    pub answer: Answer,
    /// How many requests it strikes.
    #[serde(default = "once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

/// What a struck request is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// The real answer.
    Honest,
    /// An OAuth error in JSON.
    #[serde(rename = "oauth_error")]
    OAuthError {
        /// HTTP status.
        status: u16,
        /// The `error` code.
        error: String,
    },
    /// A status and a short HTML page, as a proxy in front would send.
    Status {
        /// HTTP status.
        status: u16,
    },
    /// 429 with `Retry-After` in seconds [RFC 6585 §4].
    RateLimited {
        /// Seconds to wait.
        retry_after_s: u32,
    },
    /// 200, `application/json`, and bytes that are no JSON.
    Garbage,
    /// 200 and no body.
    Empty,
    /// The real answer's headers and its first bytes; then the connection closes.
    Truncated {
        /// Bytes of the body that arrive.
        at_byte: u64,
    },
    /// The real answer, a JSON object, padded to this length with white space in front of it.
    Oversize {
        /// Length of the body.
        bytes: u64,
    },
    /// No answer: the connection is reset (TCP RST).
    Reset,
}

impl Answer {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Honest => "honest",
            Self::OAuthError { .. } => "oauth_error",
            Self::Status { .. } => "status",
            Self::RateLimited { .. } => "rate_limited",
            Self::Garbage => "garbage",
            Self::Empty => "empty",
            Self::Truncated { .. } => "truncated",
            Self::Oversize { .. } => "oversize",
            Self::Reset => "reset",
        }
    }

    fn needs_the_real_one(&self) -> bool {
        match self {
            Self::Honest | Self::Truncated { .. } | Self::Oversize { .. } => true,
            Self::OAuthError { .. }
            | Self::Status { .. }
            | Self::RateLimited { .. }
            | Self::Garbage
            | Self::Empty
            | Self::Reset => false,
        }
    }
}

impl Fault {
    /// One fault at the token endpoint.
    #[must_use]
    pub fn at_token(commit: bool, answer: Answer) -> Self {
        Self {
            endpoint: Endpoint::Token,
            commit,
            delay_ms: 0,
            answer,
            times: 1,
        }
    }

    /// One fault at the API.
    #[must_use]
    pub fn at_api(commit: bool, answer: Answer) -> Self {
        Self {
            endpoint: Endpoint::Api,
            ..Self::at_token(commit, answer)
        }
    }

    /// 400 `invalid_grant`, although the token is good and stays so.
    #[must_use]
    pub fn invalid_grant() -> Self {
        Self::at_token(
            false,
            Answer::OAuthError {
                status: 400,
                error: "invalid_grant".to_owned(),
            },
        )
    }

    /// 500 before the refresh token is used up.
    #[must_use]
    pub fn server_error_before_commit() -> Self {
        Self::at_token(false, Answer::Status { status: 500 })
    }

    /// 500 after the refresh token is used up.
    #[must_use]
    pub fn server_error_after_commit() -> Self {
        Self::at_token(true, Answer::Status { status: 500 })
    }

    /// The same fault, for `times` requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// The same fault, with the answer held back.
    #[must_use]
    pub fn delayed_by_ms(mut self, delay_ms: u64) -> Self {
        self.delay_ms = delay_ms;
        self
    }

    /// What is wrong with this fault, if anything.
    fn rule_broken(&self) -> Option<&'static str> {
        let Self {
            endpoint: _,
            commit,
            delay_ms,
            answer,
            times,
        } = self;
        if *times == 0 {
            return Some("times is 0");
        }
        if *delay_ms > MAX_DELAY_MS {
            return Some("delay_ms is above 600000");
        }
        if !commit && answer.needs_the_real_one() && *answer != Answer::Honest {
            return Some("truncated and oversize answers need commit: true");
        }
        match answer {
            Answer::OAuthError { status, .. } | Answer::Status { status }
                if !(200..=599).contains(status) =>
            {
                Some("status is outside 200 to 599")
            }
            Answer::Oversize { bytes } if *bytes > MAX_BODY_BYTES => {
                Some("bytes is above 1073741824")
            }
            Answer::Honest
            | Answer::OAuthError { .. }
            | Answer::Status { .. }
            | Answer::RateLimited { .. }
            | Answer::Garbage
            | Answer::Empty
            | Answer::Truncated { .. }
            | Answer::Oversize { .. }
            | Answer::Reset => None,
        }
    }
}

/// What became of the faults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultReport {
    /// Those still waiting, in order.
    pub waiting: Vec<Fault>,
    /// Requests struck since the start: a harness whose fault never fired proves nothing.
    pub fired: u64,
}

/// The faults that wait, first in, first out per endpoint.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    waiting: VecDeque<Fault>,
    fired: u64,
}

impl Schedule {
    /// Adds a fault behind those that wait.
    pub(crate) fn add(&mut self, fault: Fault) -> Result<(), &'static str> {
        if let Some(rule) = fault.rule_broken() {
            return Err(rule);
        }
        if self.waiting.len() >= MAX_WAITING {
            return Err("too many faults wait");
        }
        self.waiting.push_back(fault);
        Ok(())
    }

    /// The fault for the next request at `endpoint`.
    pub(crate) fn take(&mut self, endpoint: Endpoint) -> Option<Fault> {
        let place = self
            .waiting
            .iter()
            .position(|fault| fault.endpoint == endpoint)?;
        self.fired = self.fired.saturating_add(1);
        let fault = self.waiting.get_mut(place)?;
        fault.times = fault.times.saturating_sub(1);
        if fault.times == 0 {
            self.waiting.remove(place)
        } else {
            Some(fault.clone())
        }
    }

    /// Counts a fault that was not arranged.
    pub(crate) fn count(&mut self) {
        self.fired = self.fired.saturating_add(1);
    }

    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }

    pub(crate) fn report(&self) -> FaultReport {
        FaultReport {
            waiting: self.waiting.iter().cloned().collect(),
            fired: self.fired,
        }
    }
}
