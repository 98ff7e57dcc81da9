//! Replayed proofs: across restarts, replicas, nonces that end and clocks that jump.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a failed test may panic"
)]

use enclave::issue::IssueError;
use enclave::nonce::{ACCEPTED_STEPS, STEP_MS};
use enclave::replay::ReplayError;
use enclave::time::Now;
use tests::bars::{self, Bar, Row};
use tests::core::{BEGIN, Core, issue, key, proof};
use tests::effort;

/// A sequence of numbers, the same on every run [xorshift64*].
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

const SEED: u64 = 0x6f61_7574_6821;

/// Proofs that are remembered to be shown again.
const KEPT: usize = 2_000;

/// How much happens between two restarts or replicas.
const EPOCH: u64 = 5_000;

#[tokio::test]
async fn no_replayed_proof_is_accepted() {
    let wanted: u64 = if effort::is_full() { 1_000_000 } else { 20_000 };
    let mut numbers = Numbers(SEED);
    let mut core = Core::new().await;
    let mut other = core.replica(&BEGIN).await;
    let keys = [key(), key(), key()];
    let mut now = BEGIN;
    let mut used: Vec<String> = Vec::new();
    let (mut replayed, mut accepted, mut seen_before, mut nonce_gone) = (0_u64, 0_u64, 0, 0);
    while replayed < wanted {
        // Time goes on; the host's clock jumps as it likes, either way.
        now.mono_ms += numbers.below(40);
        if numbers.below(50) == 0 {
            now.mono_ms += numbers.below(2 * STEP_MS);
        }
        if numbers.below(50) == 0 {
            now.lo_s = BEGIN.lo_s - 7_200 + numbers.below(14_400);
            now.hi_s = now.lo_s + 5;
        }
        if numbers.below(EPOCH) == 0 {
            core.restart(&now).await;
        }
        if numbers.below(EPOCH) == 0 {
            other = core.replica(&now).await;
        }
        let at_other = numbers.below(2) == 0;
        let enclave = if at_other { &other } else { &core.enclave };
        if used.is_empty() || numbers.below(10) == 0 {
            let by = &keys[usize::try_from(numbers.below(3)).unwrap()];
            let fresh = proof(enclave, by, &now);
            assert!(issue(enclave, &fresh, &now).is_ok(), "a fresh proof passes");
            if used.len() < KEPT {
                used.push(fresh);
            } else {
                let at = numbers.below(u64::try_from(KEPT).unwrap());
                used[usize::try_from(at).unwrap()] = fresh;
            }
        }
        let at = numbers.below(u64::try_from(used.len()).unwrap());
        // Half of the time the last one: its nonce still holds.
        let again = if numbers.below(2) == 0 {
            used.last().unwrap()
        } else {
            &used[usize::try_from(at).unwrap()]
        };
        replayed += 1;
        match issue(enclave, again, &now) {
            Ok(_) => accepted += 1,
            Err(IssueError::Replay(ReplayError::Replayed)) => seen_before += 1,
            Err(IssueError::Nonce(_)) => nonce_gone += 1,
            Err(other) => panic!("refused for another reason: {other}"),
        }
    }
    let row = Row {
        name: "replayed proofs accepted",
        value: f64::from(u32::try_from(accepted).unwrap_or(u32::MAX)),
        unit: "count",
        bar: Bar::AtMost(0.0),
        runs: replayed,
        seed: SEED,
    };
    assert!(bars::record("oauth", row).unwrap());
    assert_eq!(accepted, 0);
    // Both ways of refusing were met.
    assert!(
        seen_before > wanted / 100 && nonce_gone > wanted / 100,
        "{seen_before} {nonce_gone}"
    );
}

/// A proof from a clock ahead of ours is acceptable for long: its entry must live as long.
#[tokio::test]
async fn a_late_replay_of_a_proof_from_a_fast_clock_is_refused() {
    let core = Core::new().await;
    let by = key();
    let ahead = Now {
        lo_s: BEGIN.lo_s + 295,
        hi_s: BEGIN.hi_s + 295,
        ..BEGIN
    };
    let fast = proof(&core.enclave, &by, &ahead);
    assert!(issue(&core.enclave, &fast, &BEGIN).is_ok());
    // As long as its nonce holds it was seen before; then the nonce is gone.
    for step in 0..2 * ACCEPTED_STEPS * 6 {
        let elapsed_ms = step * STEP_MS / 6;
        let now = Now {
            lo_s: BEGIN.lo_s + elapsed_ms / 1_000,
            hi_s: BEGIN.hi_s + elapsed_ms / 1_000,
            mono_ms: BEGIN.mono_ms + elapsed_ms,
        };
        let found = issue(&core.enclave, &fast, &now).map(drop);
        let refused = matches!(
            found,
            Err(IssueError::Replay(ReplayError::Replayed) | IssueError::Nonce(_))
        );
        assert!(refused, "after {elapsed_ms} ms: {found:?}");
    }
}
