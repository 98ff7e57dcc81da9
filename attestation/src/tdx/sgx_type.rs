//! What protects a platform's memory, as its PCK certificate states [Intel, "PCK Certificate and CRL Profile", §1.3.5].

/// The SGX type of a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SgxType {
    /// Encrypted, with integrity and replay protection for a small region.
    Standard,
    /// Encrypted.
    Scalable,
    /// Encrypted, and changes are noticed.
    ScalableWithIntegrity,
}

impl SgxType {
    pub(crate) const ALL: [Self; 3] = [Self::Standard, Self::Scalable, Self::ScalableWithIntegrity];

    /// The name in results and policies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Scalable => "scalable",
            Self::ScalableWithIntegrity => "scalable-with-integrity",
        }
    }

    /// By its number in the certificate; none for a number without a meaning.
    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Standard),
            1 => Some(Self::Scalable),
            2 => Some(Self::ScalableWithIntegrity),
            _ => None,
        }
    }
}
