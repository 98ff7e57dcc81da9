//! What every fuzz target does: seeds first, then the body.

mod seeds;

pub use libfuzzer_sys;
pub use seeds::write_seeds;
pub use tests::fuzz::{Target, target};

/// The whole of a fuzz target: `target!("name")`.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        $crate::libfuzzer_sys::fuzz_target!(
            init: $crate::write_seeds($crate::target($name)),
            |data: &[u8]| {
                static TARGET: std::sync::LazyLock<$crate::Target> =
                    std::sync::LazyLock::new(|| $crate::target($name));
                (TARGET.run)(data);
            }
        );
    };
}
