//! What a report claims, as text for a person to look at.

use super::bits::{GuestPolicy, PlatformInfo, describe};
use super::product::{Line, Product};
use super::report::Report;
use super::tcb::Tcb;

impl Report {
    /// What the report claims, field by field as text, for a person to look at. It is *not* verified, and no
    /// program should decide anything by it.
    ///
    /// The parts of a TCB version depend on the product line. A verifier knows it from the issuer of the key; without
    /// it the processor's name decides, and a report that does not name its processor shows the bytes.
    #[must_use]
    pub fn claims_for_display(&self, line: Option<Line>) -> Vec<(&'static str, String)> {
        let line = line.or_else(|| {
            self.cpuid()
                .and_then(|cpuid| cpuid.product())
                .map(Product::line)
        });
        // The line only labels the bytes, so any will do to fetch them.
        let tcb = |read: &dyn Fn(Line) -> Tcb| match line {
            Some(line) => read(line).parts().to_string(),
            None => hex::encode(read(Line::Genoa).raw()),
        };
        let unknown = || "not in this version".to_owned();
        let mitigations = |pick: fn((u64, u64)) -> u64| {
            self.mitigations()
                .map_or_else(unknown, |both| format!("{:#x}", pick(both)))
        };
        vec![
            ("version", self.version().to_string()),
            ("guest_svn", self.guest_svn().to_string()),
            (
                "policy",
                describe(self.policy().bits(), &GuestPolicy::NAMES),
            ),
            ("family_id", hex::encode(self.family_id())),
            ("image_id", hex::encode(self.image_id())),
            ("vmpl", self.vmpl().to_string()),
            ("current_tcb", tcb(&|line| self.current_tcb(line))),
            (
                "platform_info",
                describe(self.platform_info().bits(), &PlatformInfo::NAMES),
            ),
            ("key_info", format!("{:#x}", self.key_info().bits())),
            ("report_data", hex::encode(self.report_data())),
            ("measurement", hex::encode(self.measurement())),
            ("host_data", hex::encode(self.host_data())),
            ("id_key_digest", hex::encode(self.id_key_digest())),
            ("author_key_digest", hex::encode(self.author_key_digest())),
            ("report_id", hex::encode(self.report_id())),
            ("report_id_ma", hex::encode(self.report_id_ma())),
            ("reported_tcb", tcb(&|line| self.reported_tcb(line))),
            (
                "cpuid",
                self.cpuid().map_or_else(unknown, |cpuid| cpuid.to_string()),
            ),
            ("chip_id", hex::encode(self.chip_id())),
            ("committed_tcb", tcb(&|line| self.committed_tcb(line))),
            ("current_firmware", self.current_firmware().to_string()),
            ("committed_firmware", self.committed_firmware().to_string()),
            ("launch_tcb", tcb(&|line| self.launch_tcb(line))),
            ("launch_mitigations", mitigations(|(launch, _)| launch)),
            ("current_mitigations", mitigations(|(_, current)| current)),
            ("evidence_id", hex::encode(self.evidence_id())),
        ]
    }
}
