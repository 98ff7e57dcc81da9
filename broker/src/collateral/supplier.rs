//! The task that keeps the supply current.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use attestation::tdx::{CollateralSummary, MAX_COLLATERAL_BYTES};
use attestation::{Attester, Endorsements, Evidence, Roots, UnixTime, overview, verify};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::ClientConfig;

use super::ask::ask;
use super::{Held, Lack, Supply, SupplyFault};
use crate::events;
use crate::files::read_bounded;
use crate::host_config::{CollateralConfig, Fetch};
use crate::listener::ShutdownSignal;
use crate::shell::Shell;
use crate::store::create_or_replace;

/// The first wait after a failure; it doubles up to the time between two refreshes. No caller makes it shorter: the
/// services count requests.
const FIRST_WAIT: Duration = Duration::from_secs(60);

/// With fewer days left it is an error that nothing newer comes.
const FEW_DAYS: u64 = 7;

const DAY_S: u64 = 86_400;

/// Whose time certificates and statements are judged by.
pub(super) trait UnixClock: Send + Sync {
    /// Now, Unix time in seconds.
    fn unix_time_s(&self) -> u64;
}

impl UnixClock for Shell {
    fn unix_time_s(&self) -> u64 {
        self.clock.now().hi_s
    }
}

/// Keeps the supply current.
pub struct Supplier {
    attester: Arc<dyn Attester>,
    roots: Roots,
    config: CollateralConfig,
    tls: Arc<ClientConfig>,
    clock: Arc<dyn UnixClock>,
    supply: Supply,
}

impl std::fmt::Debug for Supplier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supplier")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Supplier {
    /// For an attester whose evidence ends in one of `roots`.
    pub fn new(
        attester: Arc<dyn Attester>,
        roots: Roots,
        config: CollateralConfig,
        tls: Arc<ClientConfig>,
        shell: Arc<Shell>,
    ) -> (Supply, Self) {
        Self::with_clock(attester, roots, config, tls, shell)
    }

    pub(super) fn with_clock(
        attester: Arc<dyn Attester>,
        roots: Roots,
        config: CollateralConfig,
        tls: Arc<ClientConfig>,
        clock: Arc<dyn UnixClock>,
    ) -> (Supply, Self) {
        let supply = Supply::default();
        let supplier = Self {
            attester,
            roots,
            config,
            tls,
            clock,
            supply: supply.clone(),
        };
        (supply, supplier)
    }

    /// Refreshes until the service stops: at once, then now and then, and sooner when evidence went out incomplete.
    pub async fn keep(self, mut stop: ShutdownSignal) {
        let mut wait = FIRST_WAIT;
        loop {
            let usual = Duration::from_secs(self.config.refresh_s);
            let refreshed = self.refresh().await;
            let left = self.days_left();
            let next = match refreshed {
                Ok(()) => {
                    wait = FIRST_WAIT.min(usual);
                    usual
                }
                Err(fault) => {
                    events::collateral_not_renewed(&fault, left);
                    let next = wait;
                    wait = wait.saturating_mul(2).min(usual);
                    next
                }
            };
            if let Some(left) = left.filter(|left| *left < FEW_DAYS) {
                events::collateral_ends(left);
            }
            tokio::select! {
                () = stop.begun() => return,
                () = async {
                    tokio::time::sleep(FIRST_WAIT.min(next)).await;
                    tokio::select! {
                        () = self.supply.wanted() => {}
                        () = tokio::time::sleep(jittered(next.saturating_sub(FIRST_WAIT))) => {}
                    }
                } => {}
            }
        }
    }

    /// One refresh: what is lacking is taken from the folder, then from the service, and kept if it is good and not
    /// older than what is there.
    pub(super) async fn refresh(&self) -> Result<(), SupplyFault> {
        let attester = Arc::clone(&self.attester);
        // A report over zeros answers nobody's question, and it stays here.
        let sample = tokio::task::spawn_blocking(move || attester.evidence(&[0; 64])).await;
        let sample = match sample {
            Ok(Ok(evidence)) => evidence,
            Ok(Err(error)) => return Err(SupplyFault::Platform(error)),
            Err(_stopped) => return Ok(()),
        };
        let Some(lack) = Lack::of(&sample) else {
            return Ok(());
        };
        let carried = self.carried(&lack);
        if let Ok(Some(bytes)) = &carried {
            // Older than what is there, or broken: the service may have better.
            let taken = self.take(&lack, &sample, bytes.clone());
            if let (Err(fault), false) = (taken, self.fetches()) {
                return Err(fault);
            }
        }
        if self.fetches() && !self.is_final(&lack) {
            let bytes = ask(&lack, &self.config, &self.tls).await?;
            if self.take(&lack, &sample, bytes.clone())? {
                self.write(&lack, &bytes)?;
            }
        }
        carried.map(|_| ())
    }

    fn fetches(&self) -> bool {
        match self.config.fetch {
            Fetch::Always => true,
            Fetch::OnHardware => !self.attester.is_emulated(),
            Fetch::Never => false,
        }
    }

    /// A chip's certificate for a TCB is there: another one says the same.
    fn is_final(&self, lack: &Lack) -> bool {
        let held = self.supply.held();
        matches!(lack, Lack::Vcek(_)) && held.is_some_and(|held| held.lack == *lack)
    }

    /// Verifies what came and puts it in the supply. Whether it is new.
    fn take(&self, lack: &Lack, sample: &Evidence, bytes: Vec<u8>) -> Result<bool, SupplyFault> {
        let known = self.supply.held().filter(|held| held.lack == *lack);
        if known.as_ref().is_some_and(|known| known.bytes == bytes) {
            return Ok(false);
        }
        let (summary, expires_at_s) = match lack {
            Lack::Vcek(_) => (None, self.vcek_end(sample, &bytes)?),
            Lack::Statements(model) => {
                let summary = self.roots.read_collateral(&bytes)?;
                if summary.model != *model {
                    return Err(SupplyFault::Model);
                }
                let known = known.as_ref().and_then(|known| known.summary.as_ref());
                if let Some(part) = known.and_then(|known| summary.older_than(known)) {
                    return Err(attestation::tdx::StatementError::Older { part }.into());
                }
                let end = CollateralSummary::clone(&summary).expires_at.secs();
                (Some(summary), end)
            }
        };
        self.supply.put(Held {
            lack: lack.clone(),
            bytes,
            summary,
            expires_at_s,
        });
        events::collateral_kept(lack.what(), self.days_left().unwrap_or_default());
        Ok(true)
    }

    /// The last second of a certificate that vouches for the sample.
    fn vcek_end(&self, sample: &Evidence, der: &[u8]) -> Result<u64, SupplyFault> {
        let endorsements = Endorsements {
            vek: Some(der.to_vec()),
            ..sample.endorsements.clone()
        };
        let endorsed = Evidence::snp(sample.report.clone(), endorsements);
        let at = UnixTime::from_secs(self.clock.unix_time_s());
        let verified = verify(&endorsed, &self.roots, at);
        let end = overview(&endorsed)
            .get("vek_expires_at")
            .and_then(serde_json::Value::as_u64);
        match (verified, end) {
            (Ok(_), Some(end)) => Ok(end),
            (Err(_), _) | (_, None) => Err(SupplyFault::Certificate),
        }
    }

    fn days_left(&self) -> Option<u64> {
        let held = self.supply.held()?;
        let left_s = held.expires_at_s.saturating_sub(self.clock.unix_time_s());
        left_s.checked_div(DAY_S)
    }

    /// What the folder has; none without one.
    fn carried(&self, lack: &Lack) -> Result<Option<Vec<u8>>, SupplyFault> {
        let Some(dir) = &self.config.dir else {
            return Ok(None);
        };
        let path = dir.join(lack.file());
        if !fs::exists(&path).unwrap_or(true) {
            return Ok(None);
        }
        Ok(Some(read_bounded(&path, MAX_COLLATERAL_BYTES)?))
    }

    fn write(&self, lack: &Lack, bytes: &[u8]) -> Result<(), SupplyFault> {
        let Some(dir) = &self.config.dir else {
            return Ok(());
        };
        let name = lack.file();
        create_or_replace(dir, &name, bytes).map_err(|error| SupplyFault::Write {
            name,
            kind: error.kind(),
        })
    }
}

/// Between nine and eleven tenths, so that many services do not ask at once.
fn jittered(wait: Duration) -> Duration {
    let mut byte = [0];
    if SystemRandom::new().fill(&mut byte).is_err() {
        return wait;
    }
    let [byte] = byte;
    wait.mul_f64(0.9 + f64::from(byte) / 1_275.0)
}
