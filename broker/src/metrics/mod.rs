//! Numbers about the service: how much, how fast, how full.
//!
//! | module | holds |
//! | --- | --- |
//! | [`counter`], [`histogram`], [`reasons`] | the numbers: atomics that exist from the start |
//! | [`shards`] | a part of a number for each thread |
//! | [`rpc`], [`doors`], [`stages`], [`refusals`], [`storage`], [`upstream`] | those that are counted as things happen |
//! | [`readings`] | those that are read when somebody asks |
//! | [`text`], [`page`], [`exporter`] | how they are told: Prometheus' text format, on a listener of its own |
//!
//! A process is one service, so the numbers are the process's. What is counted is counted by words of the source and of
//! the contract; a label holds nothing that a peer, a tenant or a vendor chose but a bounded number of providers' ids.

pub mod counter;
pub mod doors;
pub mod exporter;
pub mod histogram;
pub mod page;
pub mod readings;
pub mod reasons;
pub mod refusals;
pub mod rpc;
pub mod shards;
pub mod stages;
pub mod storage;
pub mod text;
pub mod upstream;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::clock::Stopwatch;
use histogram::Durations;

static ON: AtomicBool = AtomicBool::new(false);

/// Begins to measure. Before, nothing is counted and no clock is read.
pub fn switch_on() {
    ON.store(true, Ordering::Relaxed);
}

/// Whether anything is measured.
#[must_use]
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// A stopwatch, where anything is measured.
#[derive(Clone, Copy, Debug)]
pub struct Watch(Option<Stopwatch>);

impl Watch {
    /// From now on.
    #[must_use]
    pub fn start() -> Self {
        Self(is_on().then(Stopwatch::start))
    }

    /// Notes how long it was.
    pub fn stop(self, took: &Durations) {
        if let Some(watch) = self.0 {
            took.observe(watch.elapsed_us());
        }
    }
}
