//! Comparisons of secrets take as long for a guess that is wrong at its end as for one that is wrong at its beginning.
//!
//! A statistic, not a time: Welch's t-test over samples of two classes that are drawn in random order [Reparaz,
//! Balasch, Verbauwhede: Dude, is my code constant time?, 2017]. It says "leak" only if three measurements of its own
//! each find one, on the same side; a comparison that stops at the first difference shows that it can.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    reason = "a failed test may panic; this one measures time"
)]

use std::hint::black_box;
use std::time::Instant;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use enclave::nonce::{Nonces, Role};
use jose::Thumbprint;
use ring::rand::SystemRandom;
use tests::core::BEGIN;

/// Samples of both classes in one measurement.
const SAMPLES: usize = 60_000;

/// How many of all samples, the slowest, are the machine's doing and not counted: one in this many.
const CROPPED: usize = 10;

/// From which |t| on two classes differ beyond doubt; 4.5 is where doubt begins.
const DIFFERENT: f64 = 10.0;

/// Measurements that must agree.
const AGREE: usize = 3;

/// Guesses of each class, so that no one address or value is special.
const GUESSES: usize = 64;

#[derive(Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// [Welford 1962]
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let off = value - self.mean;
        self.mean += off / self.count;
        self.squares += off * (value - self.mean);
    }

    fn error(&self) -> f64 {
        self.squares / (self.count - 1.0) / self.count
    }
}

/// Welch's t of how long `compare` takes for the guesses of each class.
fn t<G>(guesses: &[Vec<G>; 2], batch: u32, seed: u64, compare: impl Fn(&G) -> bool) -> f64 {
    let mut state = seed;
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let class = usize::try_from(state >> 63).unwrap();
        let guess = &guesses[class][usize::try_from(state >> 32).unwrap() % GUESSES];
        let start = Instant::now();
        for _ in 0..batch {
            assert!(!black_box(compare(black_box(guess))));
        }
        let took = u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX);
        samples.push((class, took));
    }
    let mut times: Vec<u32> = samples.iter().map(|(_, took)| *took).collect();
    times.sort_unstable();
    let slowest = times[SAMPLES - SAMPLES / CROPPED];
    let mut classes = [Moments::default(), Moments::default()];
    for (class, took) in samples {
        if took <= slowest {
            classes[class].add(f64::from(took));
        }
    }
    let [first, last] = classes;
    (last.mean - first.mean) / (first.error() + last.error()).sqrt()
}

/// Whether every measurement finds the classes different, and on the same side.
fn leaks<G>(guesses: &[Vec<G>; 2], batch: u32, compare: impl Fn(&G) -> bool) -> (bool, Vec<f64>) {
    let measured: Vec<f64> = (1..=AGREE)
        .map(|run| t(guesses, batch, 0x7469_6d65 + run as u64, &compare))
        .collect();
    let slower_late = measured.iter().all(|t| *t > DIFFERENT);
    let slower_early = measured.iter().all(|t| *t < -DIFFERENT);
    (slower_late || slower_early, measured)
}

/// The right bytes with one wrong: at `early` or at `late`.
fn classes(right: &[u8], early: usize, late: usize) -> [Vec<Vec<u8>>; 2] {
    [early, late].map(|at| {
        (1..=GUESSES)
            .map(|number| {
                let mut guess = right.to_vec();
                guess[at] ^= u8::try_from(number).unwrap();
                guess
            })
            .collect()
    })
}

/// What a comparison that leaks looks like.
fn stops_at_the_first_difference(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| black_box(a) == black_box(b))
}

#[test]
#[ignore = "a statistic of times: on a quiet machine, by make soak"]
fn a_secrets_comparison_tells_nothing_by_its_time() {
    let secret = [0x5a; 32];
    let guesses = classes(&secret, 0, 31);
    let (leak, measured) = leaks(&guesses, 50, |guess| {
        stops_at_the_first_difference(&secret, guess)
    });
    assert!(
        leak,
        "the statistic sees no leak where there is one: {measured:?}"
    );

    // The MAC of a nonce: who could guess it byte by byte could make nonces.
    let nonces = Nonces::new(&SystemRandom::new()).unwrap();
    let right = nonces.current(Role::Token, &BEGIN);
    assert!(nonces.check(Role::Token, Some(&right), &BEGIN).is_ok());
    let right = Base64UrlUnpadded::decode_vec(&right).unwrap();
    let guesses = classes(&right, right.len() - 16, right.len() - 1);
    let guesses = guesses.map(|class| {
        let text = class
            .iter()
            .map(|guess| Base64UrlUnpadded::encode_string(guess));
        text.collect::<Vec<String>>()
    });
    let (leak, measured) = leaks(&guesses, 8, |guess| {
        nonces.check(Role::Token, Some(guess), &BEGIN).is_ok()
    });
    assert!(!leak, "the MAC of nonces: {measured:?}");

    // Thumbprints, to which tokens are bound.
    let right = Thumbprint::from_bytes(secret);
    let guesses = classes(&secret, 0, 31).map(|class| {
        let thumbprints = class.iter().map(|guess| {
            let bytes: [u8; 32] = guess.as_slice().try_into().unwrap();
            Thumbprint::from_bytes(bytes)
        });
        thumbprints.collect::<Vec<_>>()
    });
    let (leak, measured) = leaks(&guesses, 50, |guess| *guess == right);
    assert!(!leak, "thumbprints: {measured:?}");
}
