//! A provider's profile: how its token endpoint behaves beyond rotation, and how
//! much is asked of it.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::http_url::MAX_URL_BYTES;
use crate::rate::Rate;
use crate::registry::{AuthMethod, Rotation};

/// How long nothing is presented after an exchange whose request may still be at
/// work: the deadline of an exchange, and half as long again.
pub const DEFAULT_QUIET_MS: u64 = 15_000;

/// The longest quiet time: a caller has to wait through it.
pub const MAX_QUIET_MS: u64 = 600_000;

/// How long an exchange may take, from the connection to the answer's last byte.
pub const DEFAULT_DEADLINE_MS: u64 = 10_000;

/// The longest and shortest deadline that may be set.
pub const DEADLINE_RANGE_MS: std::ops::RangeInclusive<u64> = 100..=60_000;

/// Exchanges a second that one tenant's grants may need of one provider.
pub const DEFAULT_RATE: Rate = Rate {
    per_s: 50,
    burst: 100,
};

/// The highest rate that may be set.
pub const MAX_RATE_PER_S: u32 = 10_000;

/// Exchanges under way at once at a provider whose tokens are lost for good if an
/// answer is: as many as a crash may cost.
pub const DEFAULT_STRICT_IN_FLIGHT: u32 = 8;

/// The most exchanges under way that may be set as the bound.
pub const MAX_IN_FLIGHT: u32 = 1_024;

/// The shortest idle lifetime that keep-alive can serve.
pub const MIN_IDLE_LIFETIME_S: u64 = 600;

/// The most error codes of a provider's own, and the longest of them.
pub const MAX_DEAD_CODES: usize = 16;
const MAX_CODE_BYTES: usize = 64;

/// As many methods as there are.
const MAX_AUTH_METHODS: usize = 5;

/// How a provider's token endpoint behaves, and how it is treated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// How long nothing is presented after an exchange without an answer, while its
    /// request may still be at work, in milliseconds.
    pub quiet_ms: u64,
    /// How long an exchange may take in milliseconds.
    pub deadline_ms: u64,
    /// After how long without use the provider drops a refresh token, in seconds.
    /// Half of it is never exceeded. `None` if it drops none.
    pub idle_lifetime_s: Option<u64>,
    /// Exchanges a second for one tenant in the long run.
    pub requests_per_s: u32,
    /// As many at once.
    pub requests_burst: u32,
    /// Error codes that mean what `invalid_grant` means, such as Slack's
    /// `invalid_refresh_token`.
    pub dead_codes: Vec<String>,
    /// How many exchanges may be under way at once, of all tenants.
    pub max_in_flight: Option<u32>,
    /// How apps may authenticate; empty: by any method.
    pub auth_methods: Vec<AuthMethod>,
    /// The sole audience of apps' assertions [RFC 7523 §3]; `None` for the issuer, or the token endpoint if the issuer is
    /// not known.
    pub assertion_audience: Option<String>,
    /// Whether access tokens are bound to a key that the enclave makes for each grant [RFC 9449].
    pub dpop: bool,
    /// Whether a refresh token that was replaced still works, so that to replace it does not end its copies.
    pub superseded_still_work: bool,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            quiet_ms: DEFAULT_QUIET_MS,
            deadline_ms: DEFAULT_DEADLINE_MS,
            idle_lifetime_s: None,
            requests_per_s: DEFAULT_RATE.per_s,
            requests_burst: DEFAULT_RATE.burst,
            dead_codes: Vec::new(),
            max_in_flight: None,
            auth_methods: Vec::new(),
            assertion_audience: None,
            dpop: false,
            superseded_still_work: false,
        }
    }
}

/// A rule that a profile breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{field}: {rule}")]
pub struct ProfileError {
    /// The field.
    pub field: &'static str,
    /// The rule.
    pub rule: &'static str,
}

impl Profile {
    /// The rate of exchanges for one tenant.
    #[must_use]
    pub fn rate(&self) -> Rate {
        Rate {
            per_s: self.requests_per_s,
            burst: self.requests_burst,
        }
    }

    /// How many exchanges may be under way at once; `None` is without a bound.
    #[must_use]
    pub fn in_flight(&self, rotation: Rotation) -> Option<u32> {
        let default = match rotation {
            Rotation::Strict => Some(DEFAULT_STRICT_IN_FLIGHT),
            Rotation::Grace | Rotation::Never => None,
        };
        self.max_in_flight.or(default)
    }

    /// Whether an error code says that the refresh token is not accepted.
    #[must_use]
    pub fn is_dead(&self, code: &str) -> bool {
        code == "invalid_grant" || self.dead_codes.iter().any(|dead| dead == code)
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`ProfileError`] with the first rule that is broken.
    pub fn check(&self) -> Result<(), ProfileError> {
        let Self {
            quiet_ms,
            deadline_ms,
            idle_lifetime_s,
            requests_per_s,
            requests_burst,
            dead_codes,
            max_in_flight,
            auth_methods,
            assertion_audience,
            dpop: _,
            superseded_still_work: _,
        } = self;
        let rate = 1..=MAX_RATE_PER_S;
        let rows = [
            (
                *quiet_ms <= MAX_QUIET_MS,
                "provider.profile.quiet_ms",
                "at most 600000",
            ),
            (
                DEADLINE_RANGE_MS.contains(deadline_ms),
                "provider.profile.deadline_ms",
                "100 to 60000",
            ),
            (
                idle_lifetime_s.is_none_or(|s| s >= MIN_IDLE_LIFETIME_S),
                "provider.profile.idle_lifetime_s",
                "at least 600",
            ),
            (
                rate.contains(requests_per_s),
                "provider.profile.requests_per_s",
                "1 to 10000",
            ),
            (
                rate.contains(requests_burst),
                "provider.profile.requests_burst",
                "1 to 10000",
            ),
            (
                dead_codes.len() <= MAX_DEAD_CODES && dead_codes.iter().all(|code| is_code(code)),
                "provider.profile.dead_codes",
                "at most 16, each 1 to 64 of a-z, 0-9 and _",
            ),
            (
                max_in_flight.is_none_or(|bound| (1..=MAX_IN_FLIGHT).contains(&bound)),
                "provider.profile.max_in_flight",
                "1 to 1024",
            ),
            (
                auth_methods.len() <= MAX_AUTH_METHODS,
                "provider.profile.auth_methods",
                "each once",
            ),
            (
                assertion_audience.as_deref().is_none_or(is_audience),
                "provider.profile.assertion_audience",
                "1 to 2048 visible ASCII characters",
            ),
        ];
        match rows.iter().find(|(holds, _, _)| !holds) {
            Some((_, field, rule)) => Err(ProfileError { field, rule }),
            None => Ok(()),
        }
    }
}

fn is_audience(text: &str) -> bool {
    (1..=MAX_URL_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

fn is_code(code: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (1..=MAX_CODE_BYTES).contains(&code.len()) && code.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_kept() {
        assert_eq!(Profile::default().check(), Ok(()));
        type Row = (&'static str, fn(&mut Profile));
        let rows: [Row; 15] = [
            ("quiet_ms", |p| p.quiet_ms = MAX_QUIET_MS + 1),
            ("deadline_ms", |p| p.deadline_ms = 99),
            ("deadline_ms", |p| p.deadline_ms = 60_001),
            ("idle_lifetime_s", |p| p.idle_lifetime_s = Some(599)),
            ("requests_per_s", |p| p.requests_per_s = 0),
            ("requests_per_s", |p| p.requests_per_s = 10_001),
            ("requests_burst", |p| p.requests_burst = 0),
            ("dead_codes", |p| p.dead_codes = vec![String::new()]),
            ("dead_codes", |p| p.dead_codes = vec!["A".into()]),
            ("dead_codes", |p| p.dead_codes = vec!["a".into(); 17]),
            ("max_in_flight", |p| p.max_in_flight = Some(0)),
            ("max_in_flight", |p| p.max_in_flight = Some(1_025)),
            ("auth_methods", |p| {
                p.auth_methods = vec![AuthMethod::None; 6]
            }),
            ("assertion_audience", |p| {
                p.assertion_audience = Some(String::new());
            }),
            ("assertion_audience", |p| {
                p.assertion_audience = Some("a b".into());
            }),
        ];
        for (field, change) in rows {
            let mut profile = Profile::default();
            change(&mut profile);
            let found = profile.check().unwrap_err();
            assert_eq!(found.field, format!("provider.profile.{field}"));
        }
    }

    #[test]
    fn a_crash_costs_few_grants_at_a_strict_provider() {
        let of = |max_in_flight, rotation| {
            let profile = Profile {
                max_in_flight,
                ..Profile::default()
            };
            profile.in_flight(rotation)
        };
        assert_eq!(of(None, Rotation::Strict), Some(8));
        assert_eq!(of(Some(2), Rotation::Strict), Some(2));
        assert_eq!(of(None, Rotation::Grace), None);
        assert_eq!(of(Some(2), Rotation::Never), Some(2));
    }

    #[test]
    fn a_record_without_a_profile_has_the_default() {
        let found: Profile = serde_json::from_str("{}").unwrap();
        assert_eq!(found, Profile::default());
    }
}
