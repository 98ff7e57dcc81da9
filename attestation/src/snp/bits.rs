//! The bit fields of the report: guest policy, platform information, key information.

/// The guest policy given at launch [AMD 56860, "Guest Policy"]. It is not part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GuestPolicy(u64);

/// Platform information [AMD 56860, "PLATFORM_INFO"].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlatformInfo(u64);

/// Key information [AMD 56860, "ATTESTATION_REPORT", offset 48h].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyInfo(u32);

/// The kind of key that signed a report, as the report says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SigningKey {
    /// Versioned chip endorsement key.
    Vcek,
    /// Versioned loaded endorsement key.
    Vlek,
    /// None: the report is not signed.
    None,
    /// A number without a meaning in the specification.
    Reserved(u8),
}

impl GuestPolicy {
    /// Bit 17, which firmware requires to be one.
    pub const RESERVED_ONE: u64 = 1 << 17;
    /// The named bits, lowest first: the vocabulary of policy files.
    pub const NAMES: [(&'static str, u64); 9] = [
        ("smt_allowed", 1 << 16),
        ("migrate_ma", 1 << 18),
        ("debug", 1 << 19),
        ("single_socket", 1 << 20),
        ("cxl_allowed", 1 << 21),
        ("mem_aes_256_xts", 1 << 22),
        ("rapl_disabled", 1 << 23),
        ("ciphertext_hiding", 1 << 24),
        ("page_swap_disabled", 1 << 25),
    ];
    /// Bits 0-15: the least ABI version of the firmware.
    const ABI: u64 = 0xFFFF;

    /// The policy with these bits.
    #[must_use]
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// All 64 bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The least ABI version of the firmware that the guest asked for: major, minor.
    #[must_use]
    pub const fn abi(self) -> (u8, u8) {
        let [minor, major, ..] = self.0.to_le_bytes();
        (major, minor)
    }

    /// Whether the host may read the guest's memory.
    #[must_use]
    pub const fn debug(self) -> bool {
        self.0 & (1 << 19) != 0
    }

    /// Whether a migration agent may be bound, and so the guest moved to another chip.
    #[must_use]
    pub const fn migrate_ma(self) -> bool {
        self.0 & (1 << 18) != 0
    }

    /// Bits that have no meaning in the specification.
    #[must_use]
    pub const fn unknown_bits(self) -> u64 {
        let mut known = Self::ABI | Self::RESERVED_ONE;
        let mut rest: &[(&str, u64)] = &Self::NAMES;
        while let [(_, bit), tail @ ..] = rest {
            known |= *bit;
            rest = tail;
        }
        self.0 & !known
    }
}

impl PlatformInfo {
    /// The named bits: the vocabulary of policy files.
    pub const NAMES: [(&'static str, u64); 7] = [
        ("smt_enabled", 1),
        ("tsme_enabled", 1 << 1),
        ("ecc_enabled", 1 << 2),
        ("rapl_disabled", 1 << 3),
        ("ciphertext_hiding_enabled", 1 << 4),
        ("alias_check_complete", 1 << 5),
        ("tio_enabled", 1 << 7),
    ];

    /// The information with these bits.
    #[must_use]
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// All 64 bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl KeyInfo {
    /// The information with these bits.
    #[must_use]
    pub const fn new(bits: u32) -> Self {
        Self(bits)
    }

    /// All 32 bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether the author key digest is meaningful.
    #[must_use]
    pub const fn author_key_enabled(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether the host forbids that the chip key signs.
    #[must_use]
    pub const fn mask_chip_key(self) -> bool {
        self.0 & 2 != 0
    }

    /// Bits 2-4: which key signed.
    #[must_use]
    pub const fn signing_key(self) -> SigningKey {
        match (self.0 >> 2) & 7 {
            0 => SigningKey::Vcek,
            1 => SigningKey::Vlek,
            7 => SigningKey::None,
            // Three bits: 2 to 6 remain.
            2 => SigningKey::Reserved(2),
            3 => SigningKey::Reserved(3),
            4 => SigningKey::Reserved(4),
            5 => SigningKey::Reserved(5),
            _ => SigningKey::Reserved(6),
        }
    }
}

/// The names of the bits of `bits` in `names`, for people.
pub(crate) fn describe(bits: u64, names: &[(&'static str, u64)]) -> String {
    let mut out = format!("{bits:#x}");
    for (name, bit) in names {
        if bits & bit != 0 {
            out.push(' ');
            out.push_str(name);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bits_without_a_meaning_are_unknown() {
        assert_eq!(GuestPolicy::new(0x03FF_FFFF).unknown_bits(), 0);
        assert_eq!(GuestPolicy::new(u64::MAX).unknown_bits(), !0x03FF_FFFF);
    }

    #[test]
    fn the_signing_key_is_read_from_its_three_bits() {
        let kinds = [
            SigningKey::Vcek,
            SigningKey::Vlek,
            SigningKey::Reserved(2),
            SigningKey::Reserved(3),
            SigningKey::Reserved(4),
            SigningKey::Reserved(5),
            SigningKey::Reserved(6),
            SigningKey::None,
        ];
        for (number, kind) in (0u32..).zip(kinds) {
            assert_eq!(KeyInfo::new(number << 2).signing_key(), kind);
            assert_eq!(KeyInfo::new((number << 2) | 3).signing_key(), kind);
        }
    }

    #[test]
    fn bits_are_described_by_name() {
        assert_eq!(
            describe(0xb0000, &GuestPolicy::NAMES),
            "0xb0000 smt_allowed debug"
        );
    }
}
