//! AMD's key distribution service: what it is asked [AMD 57230, §3 and §4].

use super::product::{Line, Product};
use super::report::Report;

/// AMD's own service.
pub const AMD_KDS: &str = "https://kdsintf.amd.com";
/// The longest answer that is read, bytes: a certificate has below 2 KiB, a list names a handful of keys.
pub const MAX_KDS_ANSWER_BYTES: usize = 64 * 1024;

/// The path of the revocation list of a line.
#[must_use]
pub fn crl_path(line: Line) -> String {
    format!("/vcek/v1/{line}/crl")
}

/// The path of the certificate for the key that signed a report: by chip and reported TCB. None for a report that
/// names no processor or no chip, or is not signed by a VCEK.
#[must_use]
pub fn vcek_path(report: &Report) -> Option<String> {
    let line = report.cpuid()?.product().map(Product::line)?;
    let signed_by_vcek = report.key_info().signing_key() == super::SigningKey::Vcek;
    let chip = report.chip_id().get(..line.hardware_id_bytes())?;
    if !signed_by_vcek || chip.iter().all(|byte| *byte == 0) {
        return None;
    }
    let tcb = report.reported_tcb(line).parts();
    let fmc = tcb
        .fmc
        .map_or_else(String::new, |fmc| format!("fmcSPL={fmc:02}&"));
    Some(format!(
        "/vcek/v1/{line}/{}?{fmc}blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}",
        hex::encode(chip),
        tcb.bootloader,
        tcb.tee,
        tcb.snp,
        tcb.microcode
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(vector: &str) -> Option<String> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/snp");
        let report = std::fs::read(format!("{folder}/{vector}/report.bin")).unwrap();
        vcek_path(&Report::parse(&report).unwrap())
    }

    #[test]
    fn a_vcek_is_asked_for_by_chip_and_tcb() {
        let turin = path("turin-v5-aci").unwrap();
        let (before, query) = turin.split_once('?').unwrap();
        assert_eq!(before.len(), "/vcek/v1/Turin/".len() + 16);
        assert!(query.starts_with("fmcSPL="), "{query}");
        let milan = path("milan-v3-aci").unwrap();
        let (before, query) = milan.split_once('?').unwrap();
        assert_eq!(before.len(), "/vcek/v1/Milan/".len() + 128);
        assert!(query.starts_with("blSPL=0"), "{query}");
        // A VLEK is not AMD's to hand out, and version 2 names no processor.
        assert_eq!(path("milan-v3-vlek-vmpl1"), None);
        assert_eq!(path("milan-v2-clean"), None);
        assert_eq!(crl_path(Line::Genoa), "/vcek/v1/Genoa/crl");
    }

    #[test]
    fn a_chip_without_a_name_has_no_certificate() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/snp");
        let mut report = std::fs::read(format!("{folder}/milan-v3-aci/report.bin")).unwrap();
        assert!(vcek_path(&Report::parse(&report).unwrap()).is_some());
        // The id of the chip, masked; then a VLEK's report that names a chip.
        let chip = report[0x1A0..0x1E0].to_vec();
        report[0x1A0..0x1E0].fill(0);
        assert_eq!(vcek_path(&Report::parse(&report).unwrap()), None);
        report[0x1A0..0x1E0].copy_from_slice(&chip);
        report[0x48] |= 1 << 2;
        assert_eq!(vcek_path(&Report::parse(&report).unwrap()), None);
    }
}
