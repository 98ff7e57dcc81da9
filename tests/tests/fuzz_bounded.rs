//! Every fuzz body over its seeds and a fixed number of their mutations, the same ones on every run.

#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use tests::fuzz::{Mutator, TARGETS, Target, target};

/// Mutations of each target. Those that verify signatures get a tenth.
fn mutations(name: &str) -> u32 {
    let soak = tests::effort::is_full();
    let costly = [
        "attestation_collateral",
        "attestation_event_log",
        "attestation_evidence",
        "broker_export",
        "broker_snapshot",
        "broker_store",
        "enclave_assertion",
    ]
    .contains(&name);
    let every_day = if costly { 2_000 } else { 20_000 };
    if soak { every_day * 20 } else { every_day }
}

/// Runs the target on an input; what panics is shown in hex.
fn run(target: Target, input: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).unwrap_or_else(|_| {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{} panics on {hex}", target.name)
    })
}

fn try_out(name: &str) {
    let target = target(name);
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    let mut refused = 0u32;
    for seed in &seeds {
        if !run(target, seed) {
            refused += 1;
        }
    }
    assert_eq!(refused, 0, "{name} refuses seeds of its own");
    run(target, b"");
    for seed in &seeds {
        let step = (seed.len() / 64).max(1);
        for length in (0..seed.len()).step_by(step) {
            run(target, &seed[..length]);
        }
    }
    let mut mutator = Mutator::new(0x746f_6b65_6e6b_6565);
    let mut refused = 0u32;
    for _ in 0..mutations(name) {
        if !run(target, &mutator.next(&seeds)) {
            refused += 1;
        }
    }
    assert!(refused > 0, "{name} accepts whatever it is given");
}

macro_rules! each {
    ($($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                try_out(stringify!($name));
            }
        )+

        #[test]
        fn every_target_is_tried() {
            let tried = [$(stringify!($name)),+];
            assert_eq!(tried, TARGETS.map(|target| target.name));
        }
    };
}

each![
    attestation_bundle,
    attestation_certificate_table,
    attestation_collateral,
    attestation_deposit,
    attestation_event_log,
    attestation_evidence,
    attestation_evidence_bundle,
    attestation_manifest,
    attestation_nonce_path,
    attestation_pcs,
    attestation_policy,
    attestation_quote,
    attestation_report,
    broker_form,
    broker_export,
    broker_host_config,
    broker_messages,
    broker_metadata,
    broker_snapshot,
    broker_store,
    broker_traceparent,
    enclave_assertion,
    client_audit,
    client_callback,
    client_import,
    client_keyholder,
    client_recovery,
    client_webhook,
    enclave_device,
    enclave_envelope,
    enclave_frame,
    enclave_headers,
    enclave_record,
    enclave_spiffe_id,
    enclave_text,
    jose_dpop,
    jose_dpop_signed,
    jose_json,
    jose_jwk,
    jose_jws,
    policy_cases,
    policy_text,
    profiles_document,
    tlog_note,
    tlog_proof,
    tlog_tile,
    tlog_witness,
];
