//! Whether the bytes of an event are what its digest measured. A log is the host's: only the digests are replayed, and
//! the text beside them may say anything unless it hashes to them.

use ring::digest::{SHA384, digest};

/// Bytes of an event against its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Payload {
    /// The digest is that of the bytes, in the way that is defined for the type.
    Measured,
    /// For this type the digest is of something outside the log, such as a file: the bytes are a label.
    Label,
    /// The digest should be that of the bytes, and is not: they lie.
    Mismatch,
}

impl Payload {
    pub(super) fn of(event_type: u32, data: &[u8], expected: &[u8; 48]) -> Self {
        let is = |bytes: &[u8]| digest(&SHA384, bytes).as_ref() == expected;
        let settle = |holds| {
            if holds {
                Self::Measured
            } else {
                Self::Mismatch
            }
        };
        match event_type {
            // EV_SEPARATOR, EV_EFI_VARIABLE_DRIVER_CONFIG, EV_EFI_GPT_EVENT, EV_EFI_ACTION,
            // EV_EFI_VARIABLE_AUTHORITY: the event's bytes.
            0x4 | 0x8000_0001 | 0x8000_0006 | 0x8000_0007 | 0x8000_00E0 => settle(is(data)),
            // EV_EFI_VARIABLE_BOOT: some firmware measures the whole event, some the variable's value alone.
            0x8000_0002 => settle(is(data) || variable_value(data).is_some_and(is)),
            // EV_IPL: GRUB measures a command without the words and the zero around it; the rest names files.
            0xD => command(data).map_or(Self::Label, |command| settle(is(command))),
            _ => Self::Label,
        }
    }
}

/// The value in a UEFI_VARIABLE_DATA: GUID, length of the name in characters, length of the value, name, value.
fn variable_value(data: &[u8]) -> Option<&[u8]> {
    let (_, rest) = data.split_first_chunk::<16>()?;
    let (name_chars, rest) = rest.split_first_chunk::<8>()?;
    let (value_bytes, rest) = rest.split_first_chunk::<8>()?;
    let name_bytes = usize::try_from(u64::from_le_bytes(*name_chars))
        .ok()?
        .checked_mul(2)?;
    let (_, value) = rest.split_at_checked(name_bytes)?;
    let stated = usize::try_from(u64::from_le_bytes(*value_bytes)).ok()?;
    (value.len() == stated).then_some(value)
}

/// The command in an event of GRUB's.
fn command(data: &[u8]) -> Option<&[u8]> {
    let text = data.strip_suffix(b"\0").unwrap_or(data);
    text.strip_prefix(b"grub_cmd: ")
        .or_else(|| text.strip_prefix(b"kernel_cmdline: "))
}
