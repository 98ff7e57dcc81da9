//! Provider profiles: what is known of an upstream authorization server and its
//! APIs, as data. Each profile is one TOML file; each fact in it names its source
//! and the day on which it was read there.
//!
//! | module | holds |
//! | --- | --- |
//! | [`document`] | the schema |
//! | [`check`] | its rules, all faults at once |
//! | [`template`] | URLs and paths with `{parameters}` |
//! | [`shipped`] | the profiles that come with the product |
//!
//! ```
//! let document = profiles::shipped::find("google").unwrap().document().unwrap();
//! assert_eq!(document.refresh.rotation, profiles::document::Rotation::Never);
//! ```

pub mod check;
pub mod document;
pub mod shipped;
pub mod template;

pub use check::{Fault, read};
pub use document::{Document, digest_of};

/// The largest profile in bytes.
pub const MAX_BYTES: usize = 64 * 1024;
