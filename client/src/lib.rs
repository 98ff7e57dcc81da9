//! Rust SDK and the command line tokenkeep.
