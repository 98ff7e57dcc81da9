//! The bytes of a report, by offset [AMD 56860, "ATTESTATION_REPORT"].

/// The length of a report.
pub const REPORT_BYTES: usize = 1184;

/// Where the signature begins; everything before it is signed.
pub const SIGNATURE_OFFSET: usize = 0x2A0;

/// Every field of a report. A platform gives valid ones; a test changes what matters to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportFields {
    /// 0x000
    pub version: u32,
    /// 0x004
    pub guest_svn: u32,
    /// 0x008
    pub policy: u64,
    /// 0x010
    pub family_id: [u8; 16],
    /// 0x020
    pub image_id: [u8; 16],
    /// 0x030
    pub vmpl: u32,
    /// 0x034
    pub signature_algorithm: u32,
    /// 0x038
    pub current_tcb: [u8; 8],
    /// 0x040
    pub platform_info: u64,
    /// 0x048
    pub key_info: u32,
    /// 0x050
    pub report_data: [u8; 64],
    /// 0x090
    pub measurement: [u8; 48],
    /// 0x0C0
    pub host_data: [u8; 32],
    /// 0x0E0
    pub id_key_digest: [u8; 48],
    /// 0x110
    pub author_key_digest: [u8; 48],
    /// 0x140
    pub report_id: [u8; 32],
    /// 0x160
    pub report_id_ma: [u8; 32],
    /// 0x180
    pub reported_tcb: [u8; 8],
    /// 0x188: family, model, stepping; written from version 3 on.
    pub cpuid: [u8; 3],
    /// 0x1A0
    pub chip_id: [u8; 64],
    /// 0x1E0
    pub committed_tcb: [u8; 8],
    /// 0x1E8
    pub current_firmware: Firmware,
    /// 0x1EC
    pub committed_firmware: Firmware,
    /// 0x1F0
    pub launch_tcb: [u8; 8],
    /// 0x1F8; written from version 5 on.
    pub launch_mitigations: u64,
    /// 0x200; written from version 5 on.
    pub current_mitigations: u64,
}

/// A firmware version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firmware {
    /// Major.
    pub major: u8,
    /// Minor.
    pub minor: u8,
    /// Build.
    pub build: u8,
}

impl ReportFields {
    /// The report without its signature: all 1184 bytes, zero from [`SIGNATURE_OFFSET`] on.
    #[must_use]
    pub fn unsigned(&self) -> [u8; REPORT_BYTES] {
        let Self {
            version,
            guest_svn,
            policy,
            family_id,
            image_id,
            vmpl,
            signature_algorithm,
            current_tcb,
            platform_info,
            key_info,
            report_data,
            measurement,
            host_data,
            id_key_digest,
            author_key_digest,
            report_id,
            report_id_ma,
            reported_tcb,
            cpuid,
            chip_id,
            committed_tcb,
            current_firmware,
            committed_firmware,
            launch_tcb,
            launch_mitigations,
            current_mitigations,
        } = self;
        let firmware = |Firmware {
                            major,
                            minor,
                            build,
                        }: &Firmware| [*build, *minor, *major, 0];
        let mut report = Bytes([0; REPORT_BYTES]);
        report.put(0x000, &version.to_le_bytes());
        report.put(0x004, &guest_svn.to_le_bytes());
        report.put(0x008, &policy.to_le_bytes());
        report.put(0x010, family_id);
        report.put(0x020, image_id);
        report.put(0x030, &vmpl.to_le_bytes());
        report.put(0x034, &signature_algorithm.to_le_bytes());
        report.put(0x038, current_tcb);
        report.put(0x040, &platform_info.to_le_bytes());
        report.put(0x048, &key_info.to_le_bytes());
        report.put(0x050, report_data);
        report.put(0x090, measurement);
        report.put(0x0C0, host_data);
        report.put(0x0E0, id_key_digest);
        report.put(0x110, author_key_digest);
        report.put(0x140, report_id);
        report.put(0x160, report_id_ma);
        report.put(0x180, reported_tcb);
        if *version >= 3 {
            report.put(0x188, cpuid);
        }
        report.put(0x1A0, chip_id);
        report.put(0x1E0, committed_tcb);
        report.put(0x1E8, &firmware(current_firmware));
        report.put(0x1EC, &firmware(committed_firmware));
        report.put(0x1F0, launch_tcb);
        if *version >= 5 {
            report.put(0x1F8, &launch_mitigations.to_le_bytes());
            report.put(0x200, &current_mitigations.to_le_bytes());
        }
        report.0
    }
}

/// A report that is being written.
struct Bytes([u8; REPORT_BYTES]);

impl Bytes {
    fn put(&mut self, offset: usize, field: &[u8]) {
        for (place, byte) in self.0.iter_mut().skip(offset).zip(field) {
            *place = *byte;
        }
    }
}

/// Writes an ECDSA signature, `r || s` big endian, as the report has it: little endian, 72 bytes each.
pub(super) fn put_signature(report: &mut [u8; REPORT_BYTES], signature: &[u8]) {
    let (r, s) = signature.split_at_checked(48).unwrap_or((&[], &[]));
    let places = report.iter_mut().skip(SIGNATURE_OFFSET);
    let zeros = std::iter::repeat_n(&0u8, 24);
    let bytes = r.iter().rev().chain(zeros).chain(s.iter().rev());
    for (place, byte) in places.zip(bytes) {
        *place = *byte;
    }
}
