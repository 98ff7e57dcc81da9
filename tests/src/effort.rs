//! How much a test does: enough for every day, or all of it.

/// Whether `make soak` asked for the full counts, by `TOKENKEEP_SOAK=full`.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the counts of tests are no decision of the product"
)]
pub fn is_full() -> bool {
    std::env::var("TOKENKEEP_SOAK").is_ok_and(|value| value == "full")
}
