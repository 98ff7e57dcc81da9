//! What a VEK certificate says about the chip: AMD's own extensions [AMD 57230 §3, arc 1.3.6.1.4.1.3704.1].

use super::product::Line;

const ARC: &str = "1.3.6.1.4.1.3704.1.";

/// The kind of a VEK, by its names and extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VekKind {
    /// Derived from the chip's own secret.
    Vcek,
    /// Loaded by a cloud service provider; it names the provider, not the chip.
    Vlek,
}

impl VekKind {
    /// AMD's name for the kind.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
        }
    }

    /// The common name of such a certificate.
    pub(crate) const fn common_name(self) -> &'static str {
        match self {
            Self::Vcek => "SEV-VCEK",
            Self::Vlek => "SEV-VLEK",
        }
    }

    /// The common name of the certificate that issues such a certificate.
    pub(crate) fn issuer_common_name(self, line: Line) -> String {
        match self {
            Self::Vcek => format!("SEV-{line}"),
            Self::Vlek => format!("SEV-VLEK-{line}"),
        }
    }
}

/// Why AMD's extensions do not say what a VEK must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExtensionProblem {
    /// It is not there.
    #[error("the extension {name} is absent")]
    Absent {
        /// Which.
        name: &'static str,
    },
    /// It is there, and must not be on a key of this kind.
    #[error("the extension {name} does not belong on a key of this kind")]
    Foreign {
        /// Which.
        name: &'static str,
    },
    /// Its value has not the form that the specification gives it.
    #[error("the extension {name} is malformed")]
    Malformed {
        /// Which.
        name: &'static str,
    },
    /// The structure version is neither 0 nor 1.
    #[error("the structure version {found} is unknown")]
    StructVersion {
        /// The version.
        found: u8,
    },
    /// The product name does not belong to the line of the issuer.
    #[error("the product name is not one of the line {line}")]
    ProductName {
        /// The line that issued the key.
        line: Line,
    },
}

/// The extensions, as found; nothing is required yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct AmdExtensions {
    struct_version: Option<u8>,
    product_name: Option<String>,
    bootloader: Option<u8>,
    tee: Option<u8>,
    snp: Option<u8>,
    spl_4: Option<u8>,
    spl_5: Option<u8>,
    spl_6: Option<u8>,
    spl_7: Option<u8>,
    microcode: Option<u8>,
    fmc: Option<u8>,
    hardware_id: Option<Vec<u8>>,
    csp_id: Option<String>,
}

/// What a VEK certificate vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endorsed {
    /// The TCB version, laid out as in a report of the same line.
    pub(crate) tcb: [u8; 8],
    /// The chip or the cloud service provider.
    pub(crate) holder: Holder,
}

/// Whose key it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The chip with this id: 64 bytes, or 8 on Turin.
    Chip(Vec<u8>),
    /// The cloud service provider with this id.
    Provider(String),
}

impl AmdExtensions {
    /// Takes in one extension. Yields whether it is one of AMD's.
    pub(crate) fn read(&mut self, oid: &str, value: &[u8]) -> Result<bool, ExtensionProblem> {
        let Some(arc) = oid.strip_prefix(ARC) else {
            return Ok(false);
        };
        match arc {
            "1" => self.struct_version = Some(small_integer("structVersion", value)?),
            "2" => self.product_name = Some(ia5_string("productName", value)?),
            "3.1" => self.bootloader = Some(small_integer("blSPL", value)?),
            "3.2" => self.tee = Some(small_integer("teeSPL", value)?),
            "3.3" => self.snp = Some(small_integer("snpSPL", value)?),
            "3.4" => self.spl_4 = Some(small_integer("spl4", value)?),
            "3.5" => self.spl_5 = Some(small_integer("spl5", value)?),
            "3.6" => self.spl_6 = Some(small_integer("spl6", value)?),
            "3.7" => self.spl_7 = Some(small_integer("spl7", value)?),
            "3.8" => self.microcode = Some(small_integer("ucodeSPL", value)?),
            "3.9" => self.fmc = Some(small_integer("fmcSPL", value)?),
            "4" => self.hardware_id = Some(value.to_vec()),
            "5" => self.csp_id = Some(ia5_string("cspID", value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Everything that a key of `kind` under `line` must say, and nothing that it must not.
    pub(crate) fn endorsed(&self, kind: VekKind, line: Line) -> Result<Endorsed, ExtensionProblem> {
        // Named one by one, so that a new extension cannot be read and then forgotten.
        let Self {
            struct_version,
            product_name,
            bootloader,
            tee,
            snp,
            spl_4,
            spl_5,
            spl_6,
            spl_7,
            microcode,
            fmc,
            hardware_id,
            csp_id,
        } = self;
        match require("structVersion", *struct_version)? {
            0 | 1 => {}
            found => return Err(ExtensionProblem::StructVersion { found }),
        }
        let product_name = product_name.as_deref().ok_or(ExtensionProblem::Absent {
            name: "productName",
        })?;
        if !names_line(product_name, line) {
            return Err(ExtensionProblem::ProductName { line });
        }
        let bootloader = require("blSPL", *bootloader)?;
        let tee = require("teeSPL", *tee)?;
        let snp = require("snpSPL", *snp)?;
        let microcode = require("ucodeSPL", *microcode)?;
        let spl_5 = require("spl5", *spl_5)?;
        let spl_6 = require("spl6", *spl_6)?;
        let spl_7 = require("spl7", *spl_7)?;
        let tcb = match line {
            Line::Milan | Line::Genoa => {
                forbid("fmcSPL", fmc.is_some())?;
                [
                    bootloader,
                    tee,
                    require("spl4", *spl_4)?,
                    spl_5,
                    spl_6,
                    spl_7,
                    snp,
                    microcode,
                ]
            }
            Line::Turin => {
                forbid("spl4", spl_4.is_some())?;
                [
                    require("fmcSPL", *fmc)?,
                    bootloader,
                    tee,
                    snp,
                    spl_5,
                    spl_6,
                    spl_7,
                    microcode,
                ]
            }
        };
        let holder = match kind {
            VekKind::Vcek => {
                forbid("cspID", csp_id.is_some())?;
                let value = hardware_id
                    .as_deref()
                    .ok_or(ExtensionProblem::Absent { name: "hwID" })?;
                Holder::Chip(hardware_id_bytes(value, line.hardware_id_bytes())?)
            }
            VekKind::Vlek => {
                forbid("hwID", hardware_id.is_some())?;
                Holder::Provider(
                    csp_id
                        .clone()
                        .ok_or(ExtensionProblem::Absent { name: "cspID" })?,
                )
            }
        };
        Ok(Endorsed { tcb, holder })
    }
}

fn require(name: &'static str, value: Option<u8>) -> Result<u8, ExtensionProblem> {
    value.ok_or(ExtensionProblem::Absent { name })
}

const fn forbid(name: &'static str, present: bool) -> Result<(), ExtensionProblem> {
    if present {
        Err(ExtensionProblem::Foreign { name })
    } else {
        Ok(())
    }
}

/// Both encodings occur: the id itself, and the id in an OCTET STRING. The raw length decides first, because a raw id
/// may begin like an OCTET STRING.
fn hardware_id_bytes(value: &[u8], length: usize) -> Result<Vec<u8>, ExtensionProblem> {
    if value.len() == length {
        return Ok(value.to_vec());
    }
    match value {
        [0x04, prefix, id @ ..] if usize::from(*prefix) == length && id.len() == length => {
            Ok(id.to_vec())
        }
        _ => Err(ExtensionProblem::Malformed { name: "hwID" }),
    }
}

/// A DER INTEGER from 0 to 255, in its one shortest form.
fn small_integer(name: &'static str, value: &[u8]) -> Result<u8, ExtensionProblem> {
    match value {
        [0x02, 1, number @ 0..=0x7F] | [0x02, 2, 0, number @ 0x80..=0xFF] => Ok(*number),
        _ => Err(ExtensionProblem::Malformed { name }),
    }
}

/// A DER IA5String of at most 127 printable characters.
fn ia5_string(name: &'static str, value: &[u8]) -> Result<String, ExtensionProblem> {
    match value {
        [0x16, length @ 1..=0x7F, text @ ..]
            if text.len() == usize::from(*length)
                && text.iter().all(|c| matches!(c, 0x20..=0x7E)) =>
        {
            String::from_utf8(text.to_vec()).map_err(|_| ExtensionProblem::Malformed { name })
        }
        _ => Err(ExtensionProblem::Malformed { name }),
    }
}

/// Whether `product_name` is a name of the line, alone or with a stepping: `Milan-B0`.
fn names_line(product_name: &str, line: Line) -> bool {
    line.product_names()
        .iter()
        .any(|name| match product_name.strip_prefix(name) {
            Some("") => true,
            Some(stepping) => stepping.starts_with('-'),
            None => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_has_its_own_length_and_letters_that_can_be_printed() {
        let malformed = || Err(ExtensionProblem::Malformed { name: "n" });
        let read = |value: &[u8]| ia5_string("n", value);
        assert_eq!(read(b"\x16\x05Milan"), Ok("Milan".to_owned()));
        assert_eq!(read(b"\x16\x02 ~"), Ok(" ~".to_owned()));
        for value in [
            &b"\x16\x04Milan"[..],
            b"\x16\x06Milan",
            b"\x16\x00",
            b"\x0C\x05Milan",
            b"\x16\x05Mila\n",
            b"\x16\x05Mila\x7F",
            b"\x16\x05Mila\x80",
            b"\x16",
            b"",
        ] {
            assert_eq!(read(value), malformed(), "{value:?}");
        }
    }

    #[test]
    fn the_raw_length_of_a_hardware_id_decides_before_the_octet_string() {
        let mut raw = [7; 64];
        raw[..2].copy_from_slice(&[0x04, 0x3E]);
        assert_eq!(hardware_id_bytes(&raw, 64), Ok(raw.to_vec()));
        let wrapped = [&[0x04, 64][..], &raw].concat();
        assert_eq!(hardware_id_bytes(&wrapped, 64), Ok(raw.to_vec()));
        let turin = [0x04, 0x06, 1, 2, 3, 4, 5, 6];
        assert_eq!(hardware_id_bytes(&turin, 8), Ok(turin.to_vec()));
    }

    #[test]
    fn a_hardware_id_of_another_length_is_malformed() {
        let malformed = Err(ExtensionProblem::Malformed { name: "hwID" });
        for value in [
            vec![],
            vec![1; 63],
            vec![1; 65],
            vec![1; 8],
            [&[0x04, 63][..], &[1; 64]].concat(),
        ] {
            assert_eq!(hardware_id_bytes(&value, 64), malformed);
        }
        assert_eq!(hardware_id_bytes(&[1; 64], 8), malformed);
    }

    #[test]
    fn a_patch_level_has_one_encoding() {
        let malformed = Err(ExtensionProblem::Malformed { name: "x" });
        assert_eq!(small_integer("x", &[2, 1, 0x7F]), Ok(0x7F));
        assert_eq!(small_integer("x", &[2, 2, 0, 0xFF]), Ok(0xFF));
        for value in [
            &[2, 1, 0x80][..],
            &[2, 2, 0, 0x7F],
            &[2, 2, 1, 0],
            &[2, 1],
            &[2, 1, 1, 0],
            &[4, 1, 1],
            &[],
        ] {
            assert_eq!(small_integer("x", value), malformed);
        }
    }

    #[test]
    fn a_product_name_belongs_to_its_line_whole() {
        assert!(names_line("Milan", Line::Milan));
        assert!(names_line("Milan-B0", Line::Milan));
        assert!(names_line("Siena-A1", Line::Genoa));
        assert!(!names_line("Milano", Line::Milan));
        assert!(!names_line("Genoa", Line::Milan));
        assert!(!names_line("", Line::Turin));
    }
}
