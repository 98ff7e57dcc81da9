//! The trusted-computing-base version: eight security patch levels, whose places depend on the product line.

use std::fmt;

use super::product::Line;

/// A TCB version as the report holds it: 8 bytes, and the line whose layout they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tcb {
    raw: [u8; 8],
    line: Line,
}

/// The named parts of a TCB version, each a security patch level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcbParts {
    /// Firmware of the security processor's mission-critical core; from Turin on.
    pub fmc: Option<u8>,
    /// Boot loader.
    pub bootloader: u8,
    /// Operating system of the security processor.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Lowest microcode patch level of all cores.
    pub microcode: u8,
}

impl Tcb {
    /// The TCB version `raw` of a processor of `line`.
    #[must_use]
    pub const fn new(raw: [u8; 8], line: Line) -> Self {
        Self { raw, line }
    }

    /// The 8 bytes, as signed.
    #[must_use]
    pub const fn raw(self) -> [u8; 8] {
        self.raw
    }

    /// The parts. Milan and Genoa: `{bl, tee, 0, 0, 0, 0, snp, ucode}`; Turin: `{fmc, bl, tee, snp, 0, 0, 0, ucode}`
    /// [AMD 56860, "TCB_VERSION"].
    #[must_use]
    pub const fn parts(self) -> TcbParts {
        match self.line {
            Line::Milan | Line::Genoa => {
                let [bootloader, tee, _, _, _, _, snp, microcode] = self.raw;
                TcbParts {
                    fmc: None,
                    bootloader,
                    tee,
                    snp,
                    microcode,
                }
            }
            Line::Turin => {
                let [fmc, bootloader, tee, snp, _, _, _, microcode] = self.raw;
                TcbParts {
                    fmc: Some(fmc),
                    bootloader,
                    tee,
                    snp,
                    microcode,
                }
            }
        }
    }
}

impl TcbParts {
    /// Whether every part is at least as high as in `floor`. A floor with an `fmc` is not met by a TCB without one.
    #[must_use]
    pub const fn meets(&self, floor: &Self) -> bool {
        let fmc = match (self.fmc, floor.fmc) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(have), Some(need)) => have >= need,
        };
        fmc && self.bootloader >= floor.bootloader
            && self.tee >= floor.tee
            && self.snp >= floor.snp
            && self.microcode >= floor.microcode
    }
}

impl fmt::Display for TcbParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            fmc,
            bootloader,
            tee,
            snp,
            microcode,
        } = self;
        if let Some(fmc) = fmc {
            write!(f, "fmc {fmc} ")?;
        }
        write!(
            f,
            "bootloader {bootloader} tee {tee} snp {snp} microcode {microcode}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turin_has_its_own_layout() {
        let raw = [1, 2, 3, 4, 0, 0, 7, 8];
        let genoa = TcbParts {
            fmc: None,
            bootloader: 1,
            tee: 2,
            snp: 7,
            microcode: 8,
        };
        let turin = TcbParts {
            fmc: Some(1),
            bootloader: 2,
            tee: 3,
            snp: 4,
            microcode: 8,
        };
        assert_eq!(Tcb::new(raw, Line::Milan).parts(), genoa);
        assert_eq!(Tcb::new(raw, Line::Genoa).parts(), genoa);
        assert_eq!(Tcb::new(raw, Line::Turin).parts(), turin);
    }

    #[test]
    fn a_floor_is_missed_by_each_part_alone() {
        let have = TcbParts {
            fmc: Some(1),
            bootloader: 2,
            tee: 3,
            snp: 4,
            microcode: 5,
        };
        assert!(have.meets(&have));
        let floors = [
            TcbParts {
                fmc: Some(2),
                ..have
            },
            TcbParts {
                bootloader: 3,
                ..have
            },
            TcbParts { tee: 4, ..have },
            TcbParts { snp: 5, ..have },
            TcbParts {
                microcode: 6,
                ..have
            },
        ];
        for floor in floors {
            assert!(!have.meets(&floor), "{floor}");
        }
        assert!(!TcbParts { fmc: None, ..have }.meets(&TcbParts {
            fmc: Some(0),
            ..have
        }));
    }
}
