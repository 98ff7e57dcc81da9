//! Pace: when a grant, and when a provider, may be asked again.
//!
//! Three things hold an exchange back before anything of it is written or sent:
//!
//! - the **hold** of a grant: the quiet time after an exchange whose request may
//!   still be at work at the provider, or what the provider refused a short while
//!   ago (a negative cache: the same answer comes without asking);
//! - the **patience** that a provider asked of one tenant by `Retry-After`;
//! - the **circuit breaker** and the **rate** of a provider and tenant: one
//!   tenant's broken registration holds no other tenant back.
//!
//! All of it is memory of this boot. What it protects against a restart, the
//! durable phase of the grant protects: a grant whose exchange was cut off is
//! quiet from the start of the boot on.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;

use super::RefreshError;
use crate::fill::HeldBack;
use crate::ids::{GrantId, ProviderId, TenantId};
use crate::profile::Profile;
use crate::rate::Meter;
use crate::time::Now;

/// So many failures in a row open the circuit.
const FAILURES_TO_OPEN: u32 = 5;

/// How long the circuit is open at first; it doubles with each failed probe.
const FIRST_OPEN_MS: u64 = 1_000;

/// The longest that the circuit stays open, and that a refusal is remembered.
const LONGEST_MS: u64 = 60_000;

/// The longest `Retry-After` that is honoured.
const LONGEST_PATIENCE_MS: u64 = 3_600_000;

/// How long the first refusal of a grant is remembered; it doubles each time.
const FIRST_REFUSAL_MS: u64 = 1_000;

/// How a provider took a request, as far as its health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It answered.
    Well,
    /// It could not be reached, failed, or did not answer.
    Unwell,
}

/// What the pace hangs on.
pub(super) type Whom = (ProviderId, TenantId);

#[derive(Debug, Default)]
struct Health {
    meter: Meter,
    /// What `Retry-After` asked for.
    patient_until_ms: u64,
    failures: u32,
    /// The circuit is open until then; the next request is a probe.
    open_until_ms: u64,
}

impl Health {
    fn waits(&self, now: &Now) -> Result<(), RefreshError> {
        let patience_ms = self.patient_until_ms.saturating_sub(now.mono_ms);
        if patience_ms > 0 {
            return Err(limited(patience_ms));
        }
        let open_ms = self.open_until_ms.saturating_sub(now.mono_ms);
        if open_ms > 0 {
            return Err(RefreshError::ProviderPaused {
                retry_after_s: open_ms.div_ceil(1_000),
            });
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Hold {
    until_ms: u64,
    /// How often it was refused since it last worked.
    times: u32,
    /// What is answered until then; `None` for quiet.
    refusal: Option<RefreshError>,
}

/// The memory of this boot.
#[derive(Debug)]
pub(crate) struct Pace {
    began_ms: u64,
    // As many as are registered, at most.
    providers: Mutex<HashMap<Whom, Health>>,
    grants: Mutex<HashMap<GrantId, Hold>>,
}

impl Pace {
    pub(crate) fn new(began_ms: u64) -> Self {
        Self {
            began_ms,
            providers: Mutex::default(),
            grants: Mutex::default(),
        }
    }

    /// Whether a grant is held back. `cut_off` says that what became of its last
    /// exchange is not known: one of an earlier boot is quiet from the start on.
    pub(super) fn held(
        &self,
        grant: &GrantId,
        cut_off: bool,
        profile: &Profile,
        now: &Now,
    ) -> Result<(), RefreshError> {
        let grants = self.grants.lock();
        let hold = grants.get(grant);
        let quiet = self.began_ms.saturating_add(profile.quiet_ms);
        let (until_ms, refusal) = match hold {
            Some(hold) => (hold.until_ms, hold.refusal.clone()),
            None if cut_off => (quiet, None),
            None => return Ok(()),
        };
        let left_ms = until_ms.saturating_sub(now.mono_ms);
        if left_ms == 0 {
            return Ok(());
        }
        Err(refusal.unwrap_or(RefreshError::Quiet {
            retry_after_s: left_ms.div_ceil(1_000),
        }))
    }

    /// Whether a provider is left alone now, whoever asks.
    pub(super) fn waits(&self, whom: &Whom, now: &Now) -> Result<(), RefreshError> {
        let providers = self.providers.lock();
        providers
            .get(whom)
            .map_or(Ok(()), |health| health.waits(now))
    }

    /// Whether a provider may be asked for a tenant now; counts the request.
    pub(super) fn admit(
        &self,
        whom: &Whom,
        profile: &Profile,
        now: &Now,
    ) -> Result<(), RefreshError> {
        let mut providers = self.providers.lock();
        let health = providers.entry(whom.clone()).or_default();
        health.waits(now)?;
        let taken = health.meter.take(profile.rate(), now);
        taken.map_err(|exceeded| limited(exceeded.retry_after_ms))?;
        if health.failures >= FAILURES_TO_OPEN {
            // A probe: nobody else goes until it came back, or must have.
            health.open_until_ms = now.mono_ms.saturating_add(profile.deadline_ms);
        }
        Ok(())
    }

    /// Notes how a provider took a request.
    pub(super) fn report(&self, whom: &Whom, taken: Taken, now: &Now) {
        let mut providers = self.providers.lock();
        let health = providers.entry(whom.clone()).or_default();
        match taken {
            Taken::Well => {
                health.failures = 0;
                health.open_until_ms = 0;
            }
            Taken::Unwell => {
                health.failures = health.failures.saturating_add(1);
                if let Some(probes) = health.failures.checked_sub(FAILURES_TO_OPEN) {
                    let open_ms = doubled(FIRST_OPEN_MS, probes);
                    health.open_until_ms = now.mono_ms.saturating_add(open_ms);
                }
            }
        }
    }

    /// For how many tenants each provider is left alone now; those that are not are left out.
    pub(crate) fn held_back(&self, now: &Now) -> BTreeMap<ProviderId, HeldBack> {
        let mut all: BTreeMap<ProviderId, HeldBack> = BTreeMap::new();
        for ((provider, _tenant), health) in self.providers.lock().iter() {
            let open = health.open_until_ms > now.mono_ms;
            let patient = health.patient_until_ms > now.mono_ms;
            if open || patient {
                let held = all.entry(provider.clone()).or_default();
                held.circuits_open = held.circuits_open.saturating_add(usize::from(open));
                held.patient = held.patient.saturating_add(usize::from(patient));
            }
        }
        all
    }

    /// Notes that a provider asked for patience.
    pub(super) fn be_patient(&self, whom: &Whom, retry_after_s: u64, now: &Now) {
        let patience_ms = retry_after_s.saturating_mul(1_000).min(LONGEST_PATIENCE_MS);
        let until_ms = now.mono_ms.saturating_add(patience_ms);
        let mut providers = self.providers.lock();
        let health = providers.entry(whom.clone()).or_default();
        health.patient_until_ms = health.patient_until_ms.max(until_ms);
    }

    /// A request of the grant may still be at work: nothing more is sent for a while.
    pub(super) fn quiet(&self, grant: &GrantId, profile: &Profile, now: &Now) {
        self.hold(grant, now.mono_ms.saturating_add(profile.quiet_ms));
    }

    /// What became of the grant's token is not known, but no request of it is under
    /// way any more.
    pub(super) fn settled(&self, grant: &GrantId, now: &Now) {
        self.hold(grant, now.mono_ms);
    }

    fn hold(&self, grant: &GrantId, until_ms: u64) {
        let mut grants = self.grants.lock();
        let hold = grants.entry(grant.clone()).or_default();
        hold.until_ms = until_ms;
        hold.refusal = None;
    }

    /// The provider refused the grant for a reason that asking again soon will not
    /// mend.
    pub(super) fn refused(&self, grant: &GrantId, refusal: &RefreshError, now: &Now) {
        let mut grants = self.grants.lock();
        let hold = grants.entry(grant.clone()).or_default();
        let hold_ms = doubled(FIRST_REFUSAL_MS, hold.times);
        hold.until_ms = now.mono_ms.saturating_add(hold_ms);
        hold.times = hold.times.saturating_add(1);
        hold.refusal = Some(refusal.clone());
    }

    /// The grant works, or has another token, or is no more.
    pub(crate) fn forget(&self, grant: &GrantId) {
        self.grants.lock().remove(grant);
    }
}

fn doubled(first_ms: u64, times: u32) -> u64 {
    let factor = 1_u64.checked_shl(times.min(32)).unwrap_or(u64::MAX);
    first_ms.saturating_mul(factor).min(LONGEST_MS)
}

fn limited(wait_ms: u64) -> RefreshError {
    RefreshError::RateLimited {
        retry_after_s: wait_ms.div_ceil(1_000),
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]
mod tests {
    use super::*;

    fn at(mono_ms: u64) -> Now {
        Now {
            lo_s: 0,
            hi_s: 0,
            mono_ms,
        }
    }

    fn whom(tenant: &str) -> Whom {
        let tenant = TenantId::parse(tenant).unwrap();
        (ProviderId::parse("p").unwrap(), tenant)
    }

    fn grant() -> GrantId {
        GrantId::parse("g").unwrap()
    }

    #[test]
    fn a_provider_that_fails_is_left_alone_for_longer_and_longer_and_probed_by_one() {
        let (pace, profile, whom) = (Pace::new(0), Profile::default(), whom("acme"));
        let paused = |retry_after_s| Err(RefreshError::ProviderPaused { retry_after_s });
        for _ in 0..FAILURES_TO_OPEN {
            assert_eq!(pace.admit(&whom, &profile, &at(0)), Ok(()));
            pace.report(&whom, Taken::Unwell, &at(0));
        }
        assert_eq!(pace.admit(&whom, &profile, &at(1)), paused(1));
        let one = HeldBack {
            circuits_open: 1,
            patient: 0,
        };
        let held_back = |ms| pace.held_back(&at(ms)).into_values().collect::<Vec<_>>();
        assert_eq!(held_back(1), [one]);
        assert_eq!(held_back(1_000), []);
        // Another tenant is not held back.
        let other = self::whom("other");
        assert_eq!(pace.admit(&other, &profile, &at(1)), Ok(()));
        // One probe goes; until it came back nobody else does.
        assert_eq!(pace.admit(&whom, &profile, &at(1_000)), Ok(()));
        assert_eq!(pace.admit(&whom, &profile, &at(1_000)), paused(10));
        pace.report(&whom, Taken::Unwell, &at(1_500));
        assert_eq!(pace.admit(&whom, &profile, &at(1_500)), paused(2));
        // A probe that never came back does not close the door for good.
        assert_eq!(pace.admit(&whom, &profile, &at(3_500)), Ok(()));
        assert_eq!(pace.admit(&whom, &profile, &at(13_500)), Ok(()));
        for _ in 0..20 {
            pace.report(&whom, Taken::Unwell, &at(14_000));
        }
        assert_eq!(pace.admit(&whom, &profile, &at(14_000)), paused(60));
        assert_eq!(pace.admit(&whom, &profile, &at(74_000)), Ok(()));
        pace.report(&whom, Taken::Well, &at(74_000));
        for _ in 0..FAILURES_TO_OPEN {
            assert_eq!(pace.admit(&whom, &profile, &at(74_000)), Ok(()));
        }
    }

    #[test]
    fn retry_after_is_honoured_and_bounded() {
        let (pace, profile, whom) = (Pace::new(0), Profile::default(), whom("acme"));
        let limited = |retry_after_s| Err(RefreshError::RateLimited { retry_after_s });
        pace.be_patient(&whom, 30, &at(0));
        // A shorter one does not end the longer one.
        pace.be_patient(&whom, 1, &at(0));
        assert_eq!(pace.admit(&whom, &profile, &at(29_999)), limited(1));
        assert_eq!(pace.admit(&whom, &profile, &at(30_000)), Ok(()));
        pace.be_patient(&whom, u64::MAX, &at(0));
        assert_eq!(pace.admit(&whom, &profile, &at(0)), limited(3_600));
    }

    #[test]
    fn a_rate_is_of_one_provider_and_tenant() {
        let (pace, whom) = (Pace::new(0), whom("acme"));
        let profile = Profile {
            requests_per_s: 1,
            requests_burst: 2,
            ..Profile::default()
        };
        for _ in 0..2 {
            assert_eq!(pace.admit(&whom, &profile, &at(0)), Ok(()));
        }
        let limited = Err(RefreshError::RateLimited { retry_after_s: 1 });
        assert_eq!(pace.admit(&whom, &profile, &at(0)), limited);
        assert_eq!(pace.admit(&self::whom("other"), &profile, &at(0)), Ok(()));
        assert_eq!(pace.admit(&whom, &profile, &at(1_000)), Ok(()));
    }

    #[test]
    fn a_grant_is_quiet_while_its_request_may_be_at_work() {
        let (pace, profile) = (Pace::new(1_000), Profile::default());
        let quiet = |retry_after_s| Err(RefreshError::Quiet { retry_after_s });
        let held = |cut_off, ms| pace.held(&grant(), cut_off, &profile, &at(ms));
        // Of an earlier boot: from this boot's start on.
        assert_eq!(held(true, 1_000), quiet(15));
        assert_eq!(held(true, 16_000), Ok(()));
        assert_eq!(held(false, 1_000), Ok(()));
        pace.quiet(&grant(), &profile, &at(20_000));
        assert_eq!(held(true, 34_999), quiet(1));
        assert_eq!(held(true, 35_000), Ok(()));
        // An answer, though a bad one, says that nothing is under way.
        pace.settled(&grant(), &at(1_000));
        assert_eq!(held(true, 1_000), Ok(()));
    }

    #[test]
    fn a_quiet_time_is_no_refusal_any_more() {
        let (pace, profile) = (Pace::new(0), Profile::default());
        let refusal = RefreshError::ProviderRefused {
            code: "invalid_client",
        };
        let held = |ms| pace.held(&grant(), false, &profile, &at(ms));
        pace.refused(&grant(), &refusal, &at(0));
        pace.quiet(&grant(), &profile, &at(500));
        assert_eq!(held(500), Err(RefreshError::Quiet { retry_after_s: 15 }));
        assert_eq!(held(15_500), Ok(()));
        // How often it was refused before is not forgotten by that.
        pace.refused(&grant(), &refusal, &at(20_000));
        assert_eq!(held(21_999), Err(refusal));
        assert_eq!(held(22_000), Ok(()));
    }

    #[test]
    fn to_look_whether_a_provider_waits_takes_nothing() {
        let (pace, whom) = (Pace::new(0), whom("acme"));
        let profile = Profile {
            requests_per_s: 1,
            requests_burst: 1,
            ..Profile::default()
        };
        assert_eq!(pace.waits(&whom, &at(0)), Ok(()));
        pace.be_patient(&whom, 2, &at(0));
        let limited = Err(RefreshError::RateLimited { retry_after_s: 2 });
        assert_eq!(pace.waits(&whom, &at(0)), limited);
        for _ in 0..FAILURES_TO_OPEN {
            pace.report(&whom, Taken::Unwell, &at(2_000));
        }
        let paused = Err(RefreshError::ProviderPaused { retry_after_s: 1 });
        assert_eq!(pace.waits(&whom, &at(2_000)), paused);
        // Neither the probe nor the rate.
        for _ in 0..3 {
            assert_eq!(pace.waits(&whom, &at(3_000)), Ok(()));
        }
        assert_eq!(pace.admit(&whom, &profile, &at(3_000)), Ok(()));
        let probing = Err(RefreshError::ProviderPaused { retry_after_s: 10 });
        assert_eq!(pace.waits(&whom, &at(3_000)), probing);
    }

    #[test]
    fn a_refusal_is_remembered_for_longer_and_longer() {
        let (pace, profile) = (Pace::new(0), Profile::default());
        let refusal = RefreshError::ProviderRefused {
            code: "invalid_client",
        };
        let held = |ms| pace.held(&grant(), false, &profile, &at(ms));
        for hold_ms in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            pace.refused(&grant(), &refusal, &at(0));
            assert_eq!(held(hold_ms - 1), Err(refusal.clone()));
            assert_eq!(held(hold_ms), Ok(()));
        }
        pace.forget(&grant());
        pace.refused(&grant(), &refusal, &at(0));
        assert_eq!(held(1_000), Ok(()));
    }
}
