//! What is read when somebody asks for the numbers: how full, how far behind, how long it lasts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;

use enclave::fill::{Fill, HeldBack};
use enclave::ids::ProviderId;
use enclave::log::LogName;
use enclave::store::Log;
use parking_lot::Mutex;

use crate::collateral::Supply;
use crate::evidence::EvidenceDesk;
use crate::refresher::Refresher;
use crate::shell::Shell;
use crate::store::{QUEUE_BATCHES, Stats};

/// As many providers are told apart: those that were told of first, as long as the process lasts.
pub const MAX_PROVIDERS: usize = 32;

const DAY_S: u64 = 86_400;

/// Clock ticks a second in `/proc`: fixed in the interface of Linux.
const TICKS_PER_S: u64 = 100;

/// Where the numbers are.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The enclave, its store, its clock.
    pub shell: Arc<Shell>,
    /// The exchanges.
    pub refresher: Arc<Refresher>,
    /// What vouches for evidence.
    pub supply: Supply,
    /// Who wait for evidence.
    pub desk: EvidenceDesk,
    /// The providers that are told apart.
    pub named: Named,
}

/// The providers that are told apart. Once told of, one is always told of: a series that comes and goes says nothing.
#[derive(Clone, Debug, Default)]
pub struct Named(Arc<Mutex<BTreeSet<ProviderId>>>);

/// How a provider does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProviderReading {
    /// For how many tenants it is left alone.
    pub held_back: HeldBack,
    /// Exchanges that are under way.
    pub in_flight: usize,
}

/// How far a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogReading {
    /// Its name, in a word.
    pub name: &'static str,
    /// Leaves that are durable.
    pub leaves: u64,
    /// Leaves that no checkpoint of this boot covers; none before the first.
    pub unsigned: Option<u64>,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Readings {
    /// `hardware`, `reduced` or `emulated`.
    pub tier: &'static str,
    /// How full the memories are.
    pub fill: Fill,
    /// Of the store, if it can be read.
    pub store: Option<Stats>,
    /// Batches that wait for the store's writer, and how many may.
    pub store_queue: (usize, usize),
    /// Verifiers that wait for evidence, and how many may.
    pub evidence_queue: (usize, usize),
    /// Each provider that is known by name; then all others.
    pub providers: BTreeMap<ProviderId, ProviderReading>,
    /// All others.
    pub other_providers: ProviderReading,
    /// The logs.
    pub logs: [LogReading; 2],
    /// Leaves of the control log that no quorum of witnesses has cosigned; none without witnesses.
    pub witness_lag: Option<u64>,
    /// How long the witnesses' word lasts, in milliseconds; none without witnesses.
    pub lease_left_ms: Option<u64>,
    /// Days for which what vouches for evidence holds, if it was fetched.
    pub collateral_days_left: Option<u64>,
    /// Days for which the platform's own certificates hold, if it tells.
    pub endorsement_days_left: Option<u64>,
    /// What is written behind answers that have left.
    pub afterwards: usize,
    /// Exchanges with providers.
    pub exchanges: usize,
    /// Tasks of the runtime.
    pub runtime_tasks: usize,
    /// Of the process.
    pub process: Option<ProcessReading>,
}

/// What the process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessReading {
    /// Resident memory.
    pub resident_bytes: u64,
    /// User and system time.
    pub cpu_ms: u64,
}

impl Sources {
    /// Reads them all.
    #[must_use]
    pub fn read(&self) -> Readings {
        let Self {
            shell,
            refresher,
            supply,
            desk,
            named,
        } = self;
        let now = shell.clock.now();
        let enclave = &shell.enclave;
        let days_left = |end_s: u64| end_s.saturating_sub(now.hi_s) / DAY_S;
        let leaves = |log| shell.store.leaf_count(log).unwrap_or_default();
        let log = |name, log| {
            let leaves = leaves(log);
            let signed = enclave.logs().signed(log);
            LogReading {
                name,
                leaves,
                unsigned: signed.map(|signed| leaves.saturating_sub(signed)),
            }
        };
        let witness_lag = shell.witnessing.as_ref().map(|_| {
            let cosigned = shell.cosigned_checkpoint(LogName::Control);
            let cosigned = cosigned.map_or(0, |(_note, head)| head.size);
            leaves(Log::Control).saturating_sub(cosigned)
        });
        let flying = refresher.flying();
        let exchanges = flying.len();
        let all = providers(
            enclave.held_back(&now),
            flying.iter().filter_map(|grant| enclave.provider_of(grant)),
        );
        let (providers, other_providers) = named.bounded(all);
        let runtime = tokio::runtime::Handle::try_current();
        Readings {
            tier: tier(&enclave.config().tier),
            fill: enclave.fill(),
            store: shell.store.stats().ok(),
            store_queue: (shell.store.waiting(), QUEUE_BATCHES),
            evidence_queue: desk.waiting(),
            providers,
            other_providers,
            logs: [log("control", Log::Control), log("issuance", Log::Issuance)],
            witness_lag,
            lease_left_ms: enclave.lease_left_ms(&now),
            collateral_days_left: supply.expires_at_s().map(days_left),
            endorsement_days_left: enclave.config().endorsed_until_s.map(days_left),
            afterwards: shell.afterwards.len(),
            exchanges,
            runtime_tasks: runtime.map_or(0, |runtime| runtime.metrics().num_alive_tasks()),
            process: process(),
        }
    }
}

fn tier(tier: &str) -> &'static str {
    match tier {
        "hardware" => "hardware",
        "reduced" => "reduced",
        "emulated" => "emulated",
        _ => "other",
    }
}

fn providers(
    held_back: BTreeMap<ProviderId, HeldBack>,
    in_flight: impl Iterator<Item = ProviderId>,
) -> BTreeMap<ProviderId, ProviderReading> {
    let mut all: BTreeMap<ProviderId, ProviderReading> = BTreeMap::new();
    for (provider, held_back) in held_back {
        all.entry(provider).or_default().held_back = held_back;
    }
    for provider in in_flight {
        let reading = all.entry(provider).or_default();
        reading.in_flight = reading.in_flight.saturating_add(1);
    }
    all
}

impl Named {
    /// Those that are told apart, and the rest together.
    fn bounded(
        &self,
        mut all: BTreeMap<ProviderId, ProviderReading>,
    ) -> (BTreeMap<ProviderId, ProviderReading>, ProviderReading) {
        let mut named = self.0.lock();
        for provider in all.keys() {
            if named.len() >= MAX_PROVIDERS {
                break;
            }
            named.insert(provider.clone());
        }
        let known = named.iter().map(|provider| {
            let reading = all.remove(provider).unwrap_or_default();
            (provider.clone(), reading)
        });
        let known = known.collect();
        (known, together(all.into_values()))
    }
}

fn together(readings: impl Iterator<Item = ProviderReading>) -> ProviderReading {
    let mut others = ProviderReading::default();
    for reading in readings {
        let ProviderReading {
            held_back:
                HeldBack {
                    circuits_open,
                    patient,
                },
            in_flight,
        } = reading;
        let sum = &mut others.held_back;
        sum.circuits_open = sum.circuits_open.saturating_add(circuits_open);
        sum.patient = sum.patient.saturating_add(patient);
        others.in_flight = others.in_flight.saturating_add(in_flight);
    }
    others
}

/// What the kernel says of this process.
fn process() -> Option<ProcessReading> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    read_process(&status, &stat)
}

/// `status` has a line with the resident memory in KiB; `stat` the name in parentheses, which may hold anything, and as
/// its 14th and 15th fields user and system time in ticks [proc(5)].
fn read_process(status: &str, stat: &str) -> Option<ProcessReading> {
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident_kib: u64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
    let (_name, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = user.saturating_add(system);
    Some(ProcessReading {
        resident_bytes: resident_kib.saturating_mul(1_024),
        cpu_ms: ticks.saturating_mul(1_000) / TICKS_PER_S,
    })
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        reason = "a test that overflows fails"
    )]

    use super::*;

    fn id(number: usize) -> ProviderId {
        ProviderId::parse(&format!("provider-{number:05}")).unwrap()
    }

    #[test]
    fn however_many_providers_there_are_few_are_told_apart() {
        let held_back = (0..5_000).map(|number| {
            let held_back = HeldBack {
                circuits_open: 2,
                patient: 1,
            };
            (id(number), held_back)
        });
        let in_flight = (0..10_000).map(|number| id(number % 5_000));
        let told = Named::default();
        let (named, others) = told.bounded(providers(held_back.collect(), in_flight));
        assert_eq!(named.len(), MAX_PROVIDERS);
        let one = ProviderReading {
            held_back: HeldBack {
                circuits_open: 2,
                patient: 1,
            },
            in_flight: 2,
        };
        assert!(named.values().all(|reading| *reading == one));
        let rest = 5_000 - MAX_PROVIDERS;
        let all_others = ProviderReading {
            held_back: HeldBack {
                circuits_open: 2 * rest,
                patient: rest,
            },
            in_flight: 2 * rest,
        };
        assert_eq!(others, all_others);

        // The same are told of, whoever else is asked later.
        let busy = || std::iter::once(id(4_999));
        let (later, others) = told.bounded(providers(BTreeMap::new(), busy()));
        assert!(later.keys().eq(named.keys()));
        assert!(
            later
                .values()
                .all(|reading| *reading == ProviderReading::default())
        );
        assert_eq!(others.in_flight, 1);
    }

    #[test]
    fn the_kernels_words_are_read() {
        let status = "Name:\ta\nVmHWM:\t  900 kB\nVmRSS:\t  100 kB\nThreads:\t3\n";
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0";
        let expected = ProcessReading {
            resident_bytes: 102_400,
            cpu_ms: 3_000,
        };
        assert_eq!(read_process(status, stat), Some(expected));
        for (status, stat) in [
            ("", stat),
            ("VmRSS:\t1 MB\n", stat),
            ("VmRSS:\tx kB\n", stat),
            (status, "7 (a) S"),
        ] {
            assert_eq!(read_process(status, stat), None, "{status}: {stat}");
        }
        let own = process().unwrap();
        assert!(own.resident_bytes > 1_000_000);
    }
}
