//! The body of a quote: what the TDX module states about the TD.

use super::attributes::{TdAttributes, Xfam};

/// The kinds of body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BodyKind {
    /// TDX 1.0, 584 bytes: body type 2, and the only one of version 4.
    Td10,
    /// TDX 1.5, 648 bytes: body type 3.
    Td15,
    /// TDX 1.5 with the fields of extended service TDs, 885 bytes: body type 4.
    Td15Ex,
}

impl BodyKind {
    /// The kind with this number in a version 5 quote.
    pub(crate) const fn of_type(number: u16) -> Option<Self> {
        match number {
            2 => Some(Self::Td10),
            3 => Some(Self::Td15),
            4 => Some(Self::Td15Ex),
            _ => None,
        }
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Td10 => 584,
            Self::Td15 => 648,
            Self::Td15Ex => 885,
        }
    }

    /// The name in results.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Td10 => "TDX 1.0",
            Self::Td15 => "TDX 1.5",
            Self::Td15Ex => "TDX 1.5 extended",
        }
    }
}

/// The four run-time measurement registers.
pub(crate) type Rtmrs = [[u8; 48]; 4];

/// What a TD report states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TdBody {
    pub(crate) tee_tcb_svn: [u8; 16],
    pub(crate) mr_seam: [u8; 48],
    pub(crate) mr_signer_seam: [u8; 48],
    pub(crate) seam_attributes: [u8; 8],
    pub(crate) td_attributes: TdAttributes,
    pub(crate) xfam: Xfam,
    pub(crate) mrtd: [u8; 48],
    pub(crate) mr_config_id: [u8; 48],
    pub(crate) mr_owner: [u8; 48],
    pub(crate) mr_owner_config: [u8; 48],
    pub(crate) rtmrs: Rtmrs,
    pub(crate) report_data: [u8; 64],
    pub(crate) td15: Option<Td15>,
    pub(crate) service_tds: Option<ServiceTds>,
}

/// What TDX 1.5 adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Td15 {
    pub(crate) tee_tcb_svn2: [u8; 16],
    pub(crate) mr_service_td: [u8; 48],
}

/// The hashes of the service TDs in an extended body: at launch and now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServiceTds {
    pub(crate) at_launch: [u8; 48],
    pub(crate) current: [u8; 48],
}

/// Takes fixed parts off the front of bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
}

impl TdBody {
    /// Reads a body of a kind; `None` if `bytes` are not of its size.
    pub(super) fn read(kind: BodyKind, bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let body = Self {
            tee_tcb_svn: from.array()?,
            mr_seam: from.array()?,
            mr_signer_seam: from.array()?,
            seam_attributes: from.array()?,
            td_attributes: TdAttributes::new(u64::from_le_bytes(from.array()?)),
            xfam: Xfam::new(u64::from_le_bytes(from.array()?)),
            mrtd: from.array()?,
            mr_config_id: from.array()?,
            mr_owner: from.array()?,
            mr_owner_config: from.array()?,
            rtmrs: [from.array()?, from.array()?, from.array()?, from.array()?],
            report_data: from.array()?,
            td15: match kind {
                BodyKind::Td10 => None,
                BodyKind::Td15 | BodyKind::Td15Ex => Some(Td15 {
                    tee_tcb_svn2: from.array()?,
                    mr_service_td: from.array()?,
                }),
            },
            service_tds: match kind {
                BodyKind::Td10 | BodyKind::Td15 => None,
                BodyKind::Td15Ex => {
                    // VM index, TD id, hash of the device information.
                    from.bytes(1 + 32 + 48)?;
                    let at_launch = from.array()?;
                    // Attributes at launch, initial CPUSVN, TEE_TCB_SVN and FMSPC.
                    from.bytes(8 + 16 + 16 + 12)?;
                    let current = from.array()?;
                    // Its attributes.
                    from.bytes(8)?;
                    Some(ServiceTds { at_launch, current })
                }
            },
        };
        from.0.is_empty().then_some(body)
    }

    /// The manifest signer's digest that MRCONFIGID carries: 32 bytes and then zeros. All zero, which is nobody's
    /// digest, if it is of another form.
    pub(crate) fn manifest_signer(&self) -> [u8; 32] {
        match self.mr_config_id.split_first_chunk::<32>() {
            Some((digest, rest)) if rest.iter().all(|byte| *byte == 0) => *digest,
            Some(_) | None => [0; 32],
        }
    }
}
