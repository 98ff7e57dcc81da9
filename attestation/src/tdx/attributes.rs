//! The bit fields of a TD: its attributes and its extended features.

/// TD attributes [Intel 348551-008US, table 3.23].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TdAttributes(u64);

/// Extended features that the TD may use (XFAM), by their numbers in XCR0 and IA32_XSS [Intel 348551-008US].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Xfam(u64);

impl TdAttributes {
    /// The named bits, lowest first: the vocabulary of policy files.
    pub const NAMES: [(&'static str, u64); 10] = [
        ("debug", 1),
        ("icssd", 1 << 16),
        ("servtd_ext", 1 << 17),
        ("lass", 1 << 27),
        ("sept_ve_disable", 1 << 28),
        ("migratable", 1 << 29),
        ("pks", 1 << 30),
        ("key_locker", 1 << 31),
        ("tpa", 1 << 62),
        ("perfmon", 1 << 63),
    ];
    /// Bits 4 to 6: the host profiles the TD.
    const PROFILING: u64 = 0x70;
    /// Bits that a verifier must refuse: 1-3, 7-15, 23-26, 32-61.
    const RESERVED: u64 = 0x3FFF_FFFF_0780_FF8E;

    /// The attributes with these bits.
    #[must_use]
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// All 64 bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether the host may read the TD's memory.
    #[must_use]
    pub const fn debug(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether the host may profile the TD.
    #[must_use]
    pub const fn profiling(self) -> bool {
        self.0 & Self::PROFILING != 0
    }

    /// Whether service TDs may be bound after launch.
    #[must_use]
    pub const fn servtd_ext(self) -> bool {
        self.0 & (1 << 17) != 0
    }

    /// Whether the host cannot make the TD take an exception by removing a page.
    #[must_use]
    pub const fn sept_ve_disable(self) -> bool {
        self.0 & (1 << 28) != 0
    }

    /// Whether a migration TD may move the TD to another machine.
    #[must_use]
    pub const fn migratable(self) -> bool {
        self.0 & (1 << 29) != 0
    }

    /// The bits that must be zero and are not.
    #[must_use]
    pub const fn reserved(self) -> u64 {
        self.0 & Self::RESERVED
    }
}

impl Xfam {
    /// The named bits, lowest first: the vocabulary of policy files.
    pub const NAMES: [(&'static str, u64); 19] = [
        ("x87", 1),
        ("sse", 1 << 1),
        ("avx", 1 << 2),
        ("bndregs", 1 << 3),
        ("bndcsr", 1 << 4),
        ("opmask", 1 << 5),
        ("zmm_hi256", 1 << 6),
        ("hi16_zmm", 1 << 7),
        ("pt", 1 << 8),
        ("pkru", 1 << 9),
        ("cet_u", 1 << 11),
        ("cet_s", 1 << 12),
        ("hdc", 1 << 13),
        ("uintr", 1 << 14),
        ("lbr", 1 << 15),
        ("hwp", 1 << 16),
        ("amx_tilecfg", 1 << 17),
        ("amx_tiledata", 1 << 18),
        ("apx", 1 << 19),
    ];

    /// The features with these bits.
    #[must_use]
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// All 64 bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Bits that have no meaning to this verifier.
    #[must_use]
    pub const fn unknown_bits(self) -> u64 {
        let mut known = 0;
        let mut rest: &[(&str, u64)] = &Self::NAMES;
        while let [(_, bit), tail @ ..] = rest {
            known |= *bit;
            rest = tail;
        }
        self.0 & !known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bits_without_a_meaning_are_reserved() {
        let defined = [
            0, 4, 5, 6, 16, 17, 18, 19, 20, 21, 22, 27, 28, 29, 30, 31, 62, 63,
        ];
        for bit in 0..64u32 {
            let attributes = TdAttributes::new(1 << bit);
            assert_eq!(attributes.reserved() == 0, defined.contains(&bit), "{bit}");
        }
    }

    #[test]
    fn features_of_real_machines_are_known() {
        for bits in [0x600E7, 0x618E7, 0x602E7, 0x642E7, 0x61AE7] {
            assert_eq!(Xfam::new(bits).unknown_bits(), 0, "{bits:#x}");
        }
        assert_eq!(Xfam::new(u64::MAX).unknown_bits(), !0xF_FBFF);
    }
}
