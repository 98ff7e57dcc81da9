//! How much the hardware behind evidence is worth.

use std::str::FromStr;

use serde::Serialize;

/// The tier of evidence, named in results, tokens and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Genuine hardware without a known way to forge its evidence by software.
    Hardware,
    /// Genuine keys, less assurance: AMD Milan, whose root seed has been extracted by software
    /// (arXiv 2605.12990), or a VLEK whose cloud service provider no policy names.
    Reduced,
    /// A development root: no hardware at all.
    Emulated,
}

/// Text that names no tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be hardware, reduced or emulated")]
pub struct UnknownTier;

impl Tier {
    /// The name in results and policies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::Reduced => "reduced",
            Self::Emulated => "emulated",
        }
    }
}

impl FromStr for Tier {
    type Err = UnknownTier;

    fn from_str(text: &str) -> Result<Self, UnknownTier> {
        [Self::Hardware, Self::Reduced, Self::Emulated]
            .into_iter()
            .find(|tier| tier.as_str() == text)
            .ok_or(UnknownTier)
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
