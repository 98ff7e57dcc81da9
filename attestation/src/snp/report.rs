//! The attestation report: 1184 bytes, little endian, read in order and kept raw.

use std::fmt;

use super::bits::{GuestPolicy, KeyInfo, PlatformInfo};
use super::product::{Cpuid, Line};
use super::tcb::Tcb;
use crate::canonical::sha256;

/// The length of a report in bytes.
pub const REPORT_BYTES: usize = 0x4A0;

/// How many of them are signed, from the start; the signature and its padding follow, unsigned.
pub const SIGNED_BYTES: usize = 0x2A0;

/// The signature algorithm "ECDSA P-384 with SHA-384" [AMD 56860, "Signature Algorithm Encoding"].
pub(crate) const ECDSA_P384_SHA384: u32 = 1;

/// Why bytes are no report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReportProblem {
    /// Not 1184 bytes.
    #[error("the report has {found_bytes} bytes, not {REPORT_BYTES}")]
    Length {
        /// How many it has.
        found_bytes: usize,
    },
    /// A version other than 2, 3, 4 and 5. It is never read as the nearest one.
    #[error("report version {found} is unknown")]
    Version {
        /// The version.
        found: u32,
    },
}

/// A version of the security processor's firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FirmwareVersion {
    /// Major ABI version.
    pub major: u8,
    /// Minor ABI version.
    pub minor: u8,
    /// Build.
    pub build: u8,
}

/// A parsed report. Parsing bounds it and no more: what it claims is worth nothing before verification.
///
/// Measurement, report data and the other fields that a relying party binds to can be read from
/// [`crate::Appraised`] only.
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    raw: Box<[u8; REPORT_BYTES]>,
    fields: Fields,
}

/// The fields, in the order of the bytes. TCB versions stay raw until the product line is known.
#[derive(Clone, PartialEq, Eq)]
struct Fields {
    version: u32,
    guest_svn: u32,
    policy: GuestPolicy,
    family_id: [u8; 16],
    image_id: [u8; 16],
    vmpl: u32,
    signature_algorithm: u32,
    current_tcb: [u8; 8],
    platform_info: PlatformInfo,
    key_info: KeyInfo,
    report_data: [u8; 64],
    measurement: [u8; 48],
    host_data: [u8; 32],
    id_key_digest: [u8; 48],
    author_key_digest: [u8; 48],
    report_id: [u8; 32],
    report_id_ma: [u8; 32],
    reported_tcb: [u8; 8],
    cpuid: Option<Cpuid>,
    chip_id: [u8; 64],
    committed_tcb: [u8; 8],
    current_firmware: FirmwareVersion,
    committed_firmware: FirmwareVersion,
    launch_tcb: [u8; 8],
    mitigations: Option<(u64, u64)>,
    signature: Signature,
}

/// The unsigned tail, as it lies there.
#[derive(Clone, PartialEq, Eq)]
struct Signature {
    r: [u8; 72],
    s: [u8; 72],
    padding: [u8; 368],
}

impl Report {
    /// Reads a report. Versions 2 to 5 are known.
    ///
    /// # Errors
    /// [`ReportProblem`] for another length or version.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReportProblem> {
        let length = ReportProblem::Length {
            found_bytes: bytes.len(),
        };
        let raw: &[u8; REPORT_BYTES] = bytes.try_into().map_err(|_| length)?;
        let version = match raw.first_chunk::<4>() {
            Some(version) => u32::from_le_bytes(*version),
            None => return Err(length),
        };
        if !(2..=5).contains(&version) {
            return Err(ReportProblem::Version { found: version });
        }
        let fields = Fields::read(raw).ok_or(length)?;
        Ok(Self {
            raw: Box::new(*raw),
            fields,
        })
    }

    /// All 1184 bytes.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        self.raw.as_slice()
    }

    /// The signed bytes, 0 to 0x2A0.
    #[must_use]
    pub fn signed_body(&self) -> &[u8] {
        self.raw.get(..SIGNED_BYTES).unwrap_or(&[])
    }

    /// The canonical name of this evidence: SHA-256 of the signed bytes.
    ///
    /// The signature is malleable and its padding unsigned, so neither the report nor a hash of all of it may be
    /// the key of a replay cache or an audit record.
    #[must_use]
    pub fn evidence_id(&self) -> [u8; 32] {
        sha256(self.signed_body())
    }

    /// The version of the format, 2 to 5.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.fields.version
    }

    /// The guest's security version number.
    #[must_use]
    pub const fn guest_svn(&self) -> u32 {
        self.fields.guest_svn
    }

    /// The guest policy.
    #[must_use]
    pub const fn policy(&self) -> GuestPolicy {
        self.fields.policy
    }

    /// The privilege level of the requester: 0 to 3, or `0xFFFF_FFFF` for a report that the host asked for.
    #[must_use]
    pub const fn vmpl(&self) -> u32 {
        self.fields.vmpl
    }

    /// What the platform is and has switched on.
    #[must_use]
    pub const fn platform_info(&self) -> PlatformInfo {
        self.fields.platform_info
    }

    /// Which keys are meant and masked.
    #[must_use]
    pub const fn key_info(&self) -> KeyInfo {
        self.fields.key_info
    }

    /// The processor; version 2 does not name it.
    #[must_use]
    pub const fn cpuid(&self) -> Option<Cpuid> {
        self.fields.cpuid
    }

    /// The chip's id; all zero when the host masks it.
    #[must_use]
    pub const fn chip_id(&self) -> &[u8; 64] {
        &self.fields.chip_id
    }

    /// The TCB that is running.
    #[must_use]
    pub const fn current_tcb(&self, line: Line) -> Tcb {
        Tcb::new(self.fields.current_tcb, line)
    }

    /// The TCB that the signing key was derived for. The host may set it lower than the current one.
    #[must_use]
    pub const fn reported_tcb(&self, line: Line) -> Tcb {
        Tcb::new(self.fields.reported_tcb, line)
    }

    /// The TCB below which the firmware refuses to go.
    #[must_use]
    pub const fn committed_tcb(&self, line: Line) -> Tcb {
        Tcb::new(self.fields.committed_tcb, line)
    }

    /// The TCB when the guest was launched.
    #[must_use]
    pub const fn launch_tcb(&self, line: Line) -> Tcb {
        Tcb::new(self.fields.launch_tcb, line)
    }

    /// The firmware that is running.
    #[must_use]
    pub const fn current_firmware(&self) -> FirmwareVersion {
        self.fields.current_firmware
    }

    /// The firmware below which the platform refuses to go.
    #[must_use]
    pub const fn committed_firmware(&self) -> FirmwareVersion {
        self.fields.committed_firmware
    }

    /// The mitigation vectors at launch and now; from version 5 on.
    #[must_use]
    pub const fn mitigations(&self) -> Option<(u64, u64)> {
        self.fields.mitigations
    }

    pub(crate) const fn signature_algorithm(&self) -> u32 {
        self.fields.signature_algorithm
    }

    pub(crate) const fn report_data(&self) -> &[u8; 64] {
        &self.fields.report_data
    }

    pub(crate) const fn measurement(&self) -> &[u8; 48] {
        &self.fields.measurement
    }

    pub(crate) const fn host_data(&self) -> &[u8; 32] {
        &self.fields.host_data
    }

    pub(crate) const fn family_id(&self) -> &[u8; 16] {
        &self.fields.family_id
    }

    pub(crate) const fn image_id(&self) -> &[u8; 16] {
        &self.fields.image_id
    }

    pub(crate) const fn id_key_digest(&self) -> &[u8; 48] {
        &self.fields.id_key_digest
    }

    pub(crate) const fn author_key_digest(&self) -> &[u8; 48] {
        &self.fields.author_key_digest
    }

    pub(crate) const fn report_id(&self) -> &[u8; 32] {
        &self.fields.report_id
    }

    pub(crate) const fn report_id_ma(&self) -> &[u8; 32] {
        &self.fields.report_id_ma
    }

    /// r and s: 48 bytes each, little endian, and the 24 bytes after each that must be zero.
    pub(crate) fn signature_parts(&self) -> Option<[(&[u8; 48], &[u8]); 2]> {
        let Signature { r, s, padding: _ } = &self.fields.signature;
        Some([r.split_first_chunk::<48>()?, s.split_first_chunk::<48>()?])
    }

    /// The 368 bytes after the signature that must be zero.
    pub(crate) const fn signature_padding(&self) -> &[u8; 368] {
        &self.fields.signature.padding
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("version", &self.fields.version)
            .field("evidence_id", &hex::encode(self.evidence_id()))
            .finish_non_exhaustive()
    }
}

impl fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            major,
            minor,
            build,
        } = self;
        write!(f, "{major}.{minor}.{build}")
    }
}

impl Fields {
    fn read(raw: &[u8; REPORT_BYTES]) -> Option<Self> {
        let mut cursor = Cursor {
            rest: raw.as_slice(),
        };
        // In the order of the bytes; the comment is the offset of the field.
        let version = cursor.u32()?; // 0x000
        let guest_svn = cursor.u32()?; // 0x004
        let policy = GuestPolicy::new(cursor.u64()?); // 0x008
        let family_id = cursor.array()?; // 0x010
        let image_id = cursor.array()?; // 0x020
        let vmpl = cursor.u32()?; // 0x030
        let signature_algorithm = cursor.u32()?; // 0x034
        let current_tcb = cursor.array()?; // 0x038
        let platform_info = PlatformInfo::new(cursor.u64()?); // 0x040
        let key_info = KeyInfo::new(cursor.u32()?); // 0x048
        let _reserved = cursor.array::<4>()?; // 0x04C
        let report_data = cursor.array()?; // 0x050
        let measurement = cursor.array()?; // 0x090
        let host_data = cursor.array()?; // 0x0C0
        let id_key_digest = cursor.array()?; // 0x0E0
        let author_key_digest = cursor.array()?; // 0x110
        let report_id = cursor.array()?; // 0x140
        let report_id_ma = cursor.array()?; // 0x160
        let reported_tcb = cursor.array()?; // 0x180
        let [family, model, stepping] = cursor.array()?; // 0x188
        let _reserved = cursor.array::<21>()?; // 0x18B
        let chip_id = cursor.array()?; // 0x1A0
        let committed_tcb = cursor.array()?; // 0x1E0
        let current_firmware = cursor.firmware()?; // 0x1E8
        let committed_firmware = cursor.firmware()?; // 0x1EC
        let launch_tcb = cursor.array()?; // 0x1F0
        let launch_mitigations = cursor.u64()?; // 0x1F8
        let current_mitigations = cursor.u64()?; // 0x200
        let _reserved = cursor.array::<152>()?; // 0x208
        let signature = Signature {
            r: cursor.array()?,
            s: cursor.array()?,
            padding: cursor.array()?,
        }; // 0x2A0
        Some(Self {
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
            // Reserved in version 2.
            cpuid: (version >= 3).then_some(Cpuid {
                family,
                model,
                stepping,
            }),
            chip_id,
            committed_tcb,
            current_firmware,
            committed_firmware,
            launch_tcb,
            // Reserved before version 5.
            mitigations: (version >= 5).then_some((launch_mitigations, current_mitigations)),
            signature,
        })
    }
}

/// Reads fields from the front.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*field)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn firmware(&mut self) -> Option<FirmwareVersion> {
        let [build, minor, major, _reserved] = self.array()?;
        Some(FirmwareVersion {
            major,
            minor,
            build,
        })
    }
}
