//! All numbers on one page. Each family is there from the first moment on.

use super::doors;
use super::exporter;
use super::readings::{ProviderReading, Readings};
use super::reasons::Reasons;
use super::refusals;
use super::rpc::{self, CODES};
use super::stages;
use super::storage;
use super::text::Kind::{Counter, Gauge, Histogram};
use super::text::{Label, Page, Unit};
use super::upstream;
use crate::traces;

/// How all providers are named that are not told apart. No id begins so.
const OTHER_PROVIDERS: &str = "_other";

/// The page.
#[must_use]
pub fn page(readings: &Readings) -> String {
    let mut page = Page::default();
    rpc(&mut page);
    doors(&mut page);
    stages(&mut page);
    refusals(&mut page);
    store(&mut page, readings);
    memory(&mut page, readings);
    providers(&mut page, readings);
    logs(&mut page, readings);
    process(&mut page, readings);
    page.into_text()
}

fn number(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn rpc(page: &mut Page) {
    let methods = rpc::methods();
    let mut calls = page.family(
        "tokenkeep_rpc_total",
        Counter,
        "gRPC calls that were answered, by method and code.",
    );
    for method in &methods {
        for (code, count) in CODES.iter().zip(method.ended.values()) {
            // Of the most methods most codes are never seen; the good one is there from the start.
            if count > 0 || *code == "OK" {
                calls.count(
                    &[
                        ("service", Label::Word(&method.service)),
                        ("method", Label::Word(&method.name)),
                        ("code", Label::Word(code)),
                    ],
                    count,
                );
            }
        }
    }
    let mut took = page.family(
        "tokenkeep_rpc_seconds",
        Histogram,
        "How long gRPC calls took until the answer's head, by method; those that were called.",
    );
    for method in methods {
        if method.took.read().count > 0 || method.name == "IssueToken" {
            let labels = [
                ("service", Label::Word(&method.service)),
                ("method", Label::Word(&method.name)),
            ];
            took.histogram(&labels, &method.took, Unit::Micros);
        }
    }
    page.family("tokenkeep_rpc_in_flight", Gauge, "gRPC calls under way.")
        .count(&[], rpc::UNDER_WAY.value());
    let help = "Requests that were turned away because there was no room, by reason.";
    words(
        page,
        "tokenkeep_requests_shed_total",
        help,
        "reason",
        &[("", &rpc::SHED)],
    );
}

/// A family that is counted by a word; `what` tells several counts apart.
fn words(
    page: &mut Page,
    name: &'static str,
    help: &'static str,
    label: &'static str,
    counts: &[(&'static str, &Reasons)],
) {
    let mut family = page.family(name, Counter, help);
    for (what, reasons) in counts {
        for (word, count) in reasons.read() {
            let by_word = (label, Label::Word(word));
            if what.is_empty() {
                family.count(&[by_word], count);
            } else {
                family.count(&[("what", Label::Word(what)), by_word], count);
            }
        }
    }
}

fn doors(page: &mut Page) {
    let label = |door: &doors::Door| ("listener", Label::Word(door.name));
    let mut open = page.family(
        "tokenkeep_connections_open",
        Gauge,
        "Connections, by listener.",
    );
    for door in doors::ALL {
        open.count(&[label(door)], door.open.value());
    }
    let mut ended = page.family(
        "tokenkeep_connections_total",
        Counter,
        "Connections that came: accepted, refused for want of room, or without a handshake.",
    );
    for door in doors::ALL {
        for (outcome, count) in [
            ("accepted", &door.accepted),
            ("refused", &door.refused),
            ("handshake_failed", &door.unsecured),
        ] {
            ended.count(
                &[label(door), ("outcome", Label::Word(outcome))],
                count.value(),
            );
        }
    }
    let help = "How long TLS handshakes took that were completed.";
    let mut handshakes = page.family("tokenkeep_handshake_seconds", Histogram, help);
    for door in doors::ALL {
        handshakes.histogram(&[label(door)], &door.handshakes, Unit::Micros);
    }
    let help = "Requests of HTTP, those of gRPC included, by listener.";
    let mut requests = page.family("tokenkeep_http_requests_total", Counter, help);
    for door in doors::ALL {
        requests.count(&[label(door)], door.requests.value());
    }
    let help = "Answers of the public listener and the gateway, by class of status.";
    let mut answers = page.family("tokenkeep_http_answers_total", Counter, help);
    let http = [&doors::PUBLIC, &doors::GATEWAY];
    for door in http {
        for (class, count) in doors::CLASSES.iter().zip(door.answers.values()) {
            answers.count(&[label(door), ("class", Label::Word(class))], count);
        }
    }
    let help = "How long those took until their heads.";
    let mut took = page.family("tokenkeep_http_seconds", Histogram, help);
    for door in http {
        took.histogram(&[label(door)], &door.took, Unit::Micros);
    }
}

fn stages(page: &mut Page) {
    let mut took = page.family(
        "tokenkeep_stage_seconds",
        Histogram,
        "How long each stage took that was passed: of a token, and of a call through the gateway.",
    );
    for part in stages::ALL {
        took.histogram(
            &[("stage", Label::Word(part.name))],
            &part.took,
            Unit::Micros,
        );
    }
}

fn refusals(page: &mut Page) {
    let help = "Refusals, by what was asked and the stable reason.";
    let counts = [
        ("token", &refusals::TOKENS),
        ("administration", &refusals::ADMINISTRATION),
        ("call", &refusals::CALLS),
    ];
    words(page, "tokenkeep_refusals_total", help, "reason", &counts);
}

fn store(page: &mut Page, readings: &Readings) {
    let (waiting, room) = readings.store_queue;
    page.family(
        "tokenkeep_store_queue",
        Gauge,
        "Batches that wait for the store's writer.",
    )
    .count(&[], number(waiting));
    page.family("tokenkeep_store_queue_capacity", Gauge, "As many may wait.")
        .count(&[], number(room));
    let help = "How many batches were made durable together.";
    page.family("tokenkeep_store_group_batches", Histogram, help)
        .histogram(&[], &storage::GROUPS, Unit::One);
    page.family(
        "tokenkeep_store_sync_seconds",
        Histogram,
        "How long the disk took for each group.",
    )
    .histogram(&[], &storage::SYNCS, Unit::Micros);
    let help = "The store's file: all of it, and what a compaction would keep.";
    let mut bytes = page.family("tokenkeep_store_bytes", Gauge, help);
    if let Some(stats) = readings.store {
        bytes
            .count(&[("part", Label::Word("file"))], stats.file_bytes)
            .count(&[("part", Label::Word("live"))], stats.live_bytes);
    }
    let mut records = page.family("tokenkeep_store_records", Gauge, "Records in the store.");
    if let Some(stats) = readings.store {
        records.count(&[], stats.records);
    }
    let help = "How many compactions the state has come through.";
    let mut epochs = page.family("tokenkeep_store_compactions", Gauge, help);
    if let Some(stats) = readings.store {
        epochs.count(&[], stats.epoch);
    }
}

fn memory(page: &mut Page, readings: &Readings) {
    let fill = &readings.fill;
    page.family("tokenkeep_grants", Gauge, "Grants.")
        .count(&[], number(fill.grants));
    let help = "What is remembered: proofs against replay, those relayed to providers, client assertions, grants with an upstream access token, \
                nonces of providers, revoked tokens.";
    let mut entries = page.family("tokenkeep_cache_entries", Gauge, help);
    for (cache, held) in [
        ("proofs", fill.proofs),
        ("relayed_proofs", fill.relayed_proofs),
        ("assertions", fill.assertions),
        ("upstream_tokens", fill.upstream_tokens),
        ("server_nonces", fill.server_nonces),
        ("revoked_tokens", fill.revoked_tokens),
    ] {
        entries.count(&[("cache", Label::Word(cache))], number(held));
    }
    let help = "How much may be remembered where full means that requests are refused.";
    page.family("tokenkeep_cache_capacity", Gauge, help)
        .count(
            &[("cache", Label::Word("proofs"))],
            number(fill.proofs_capacity),
        )
        .count(
            &[("cache", Label::Word("relayed_proofs"))],
            number(fill.relayed_proofs_capacity),
        )
        .count(
            &[("cache", Label::Word("assertions"))],
            number(fill.assertions_capacity),
        );
    let (waiting, room) = readings.evidence_queue;
    page.family(
        "tokenkeep_evidence_queue",
        Gauge,
        "Verifiers that wait for evidence.",
    )
    .count(&[], number(waiting));
    page.family(
        "tokenkeep_evidence_queue_capacity",
        Gauge,
        "As many may wait.",
    )
    .count(&[], number(room));
}

fn providers(page: &mut Page, readings: &Readings) {
    let named = readings.providers.iter();
    let named = named.map(|(id, reading)| (Label::Provider(id), reading));
    let other = (Label::Word(OTHER_PROVIDERS), &readings.other_providers);
    let all: Vec<_> = named.chain([other]).collect();
    let mut family = |name, help, of: fn(&ProviderReading) -> usize| {
        let mut family = page.family(name, Gauge, help);
        for (label, reading) in &all {
            family.count(&[("provider", *label)], number(of(reading)));
        }
    };
    family(
        "tokenkeep_provider_circuits_open",
        "Tenants for which a provider is left alone because it failed again and again.",
        |reading| reading.held_back.circuits_open,
    );
    family(
        "tokenkeep_provider_patience",
        "Tenants for which a provider is left alone because it asked for that.",
        |reading| reading.held_back.patient,
    );
    family(
        "tokenkeep_provider_exchanges_in_flight",
        "Exchanges of refresh tokens that are under way.",
        |reading| reading.in_flight,
    );
    let help = "Exchanges that are over: REFRESHED, or why not.";
    words(
        page,
        "tokenkeep_exchanges_total",
        help,
        "outcome",
        &[("", &upstream::EXCHANGES)],
    );
    let help = "How long requests to token endpoints took, by what became of them.";
    let mut took = page.family("tokenkeep_provider_request_seconds", Histogram, help);
    for answered in upstream::ALL {
        let label = ("outcome", Label::Word(answered.outcome));
        took.histogram(&[label], &answered.took, Unit::Micros);
    }
}

fn logs(page: &mut Page, readings: &Readings) {
    let mut leaves = page.family(
        "tokenkeep_log_leaves",
        Gauge,
        "Leaves that are durable, by log.",
    );
    for log in readings.logs {
        leaves.count(&[("log", Label::Word(log.name))], log.leaves);
    }
    let help = "Leaves that no checkpoint of this boot covers yet, once there was one: checkpoints are signed when they \
                are asked for.";
    let mut unsigned = page.family("tokenkeep_log_unsigned_leaves", Gauge, help);
    for log in readings.logs {
        if let Some(count) = log.unsigned {
            unsigned.count(&[("log", Label::Word(log.name))], count);
        }
    }
    let help = "Leaves of the control log that no quorum of witnesses has cosigned; absent without witnesses.";
    let mut lag = page.family("tokenkeep_witness_lag_leaves", Gauge, help);
    if let Some(count) = readings.witness_lag {
        lag.count(&[], count);
    }
    let help =
        "How long the witnesses' word lasts: at 0 nothing is issued; absent without witnesses.";
    let mut lease = page.family("tokenkeep_lease_left_seconds", Gauge, help);
    if let Some(left_ms) = readings.lease_left_ms {
        lease.count(&[], left_ms / 1_000);
    }
    let help = "Days for which what vouches for evidence holds: what was fetched, and what the platform has itself.";
    let mut days = page.family("tokenkeep_collateral_days_left", Gauge, help);
    for (source, left) in [
        ("fetched", readings.collateral_days_left),
        ("platform", readings.endorsement_days_left),
    ] {
        if let Some(left) = left {
            days.count(&[("source", Label::Word(source))], left);
        }
    }
}

fn process(page: &mut Page, readings: &Readings) {
    let help = "What is under way: leaves written behind answers, exchanges with providers, tasks of the runtime.";
    page.family("tokenkeep_tasks", Gauge, help)
        .count(
            &[("kind", Label::Word("afterwards"))],
            number(readings.afterwards),
        )
        .count(
            &[("kind", Label::Word("exchanges"))],
            number(readings.exchanges),
        )
        .count(
            &[("kind", Label::Word("runtime"))],
            number(readings.runtime_tasks),
        );
    let help =
        "Traces: sent to the collector, dropped because too many waited, or not taken by it.";
    words(
        page,
        "tokenkeep_traces_total",
        help,
        "outcome",
        &[("", &traces::OUTCOMES)],
    );
    let help = "Pages such as this that were made; within a second the same is told again.";
    page.family("tokenkeep_metrics_pages_total", Counter, help)
        .count(&[], exporter::PAGES.value());
    page.family(
        "tokenkeep_build_info",
        Gauge,
        "The version and the tier of the enclave; always 1.",
    )
    .count(
        &[
            ("version", Label::Word(env!("CARGO_PKG_VERSION"))),
            ("tier", Label::Word(readings.tier)),
        ],
        1,
    );
    let mut resident = page.family(
        "process_resident_memory_bytes",
        Gauge,
        "Resident memory of the process.",
    );
    if let Some(process) = readings.process {
        resident.count(&[], process.resident_bytes);
    }
    let mut cpu = page.family(
        "process_cpu_seconds_total",
        Counter,
        "User and system time of the process.",
    );
    if let Some(process) = readings.process {
        let us = process.cpu_ms.saturating_mul(1_000);
        cpu.number(&[], Unit::Micros.told(us));
    }
}
