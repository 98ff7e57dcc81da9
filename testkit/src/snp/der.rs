//! DER, written by hand: the little that certificates need.

/// One element: tag, length, content [X.690 §8.1].
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = length
        .iter()
        .skip_while(|byte| **byte == 0)
        .copied()
        .collect::<Vec<u8>>();
    let mut out = vec![tag];
    match significant.as_slice() {
        [] => out.push(0),
        [short @ 0..=0x7F] => out.push(*short),
        long => {
            // At most eight bytes of length.
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(content);
    out
}

pub(super) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

pub(super) fn set(parts: &[Vec<u8>]) -> Vec<u8> {
    element(0x31, &parts.concat())
}

/// A non-negative INTEGER from big-endian bytes.
pub(super) fn integer(big_endian: &[u8]) -> Vec<u8> {
    let mut digits: Vec<u8> = big_endian
        .iter()
        .skip_while(|byte| **byte == 0)
        .copied()
        .collect();
    if digits.first().is_none_or(|first| first & 0x80 != 0) {
        digits.insert(0, 0);
    }
    element(0x02, &digits)
}

pub(super) fn boolean(value: bool) -> Vec<u8> {
    element(0x01, &[if value { 0xFF } else { 0 }])
}

pub(super) fn null() -> Vec<u8> {
    element(0x05, &[])
}

pub(super) fn octet_string(bytes: &[u8]) -> Vec<u8> {
    element(0x04, bytes)
}

/// A BIT STRING of whole bytes.
pub(super) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    element(0x03, &[&[0], bytes].concat())
}

/// An OBJECT IDENTIFIER from its dotted form; arcs that are no numbers are left out.
pub(super) fn oid(dotted: &str) -> Vec<u8> {
    let mut arcs = dotted.split('.').filter_map(|arc| arc.parse::<u32>().ok());
    let first = arcs.next().unwrap_or(0);
    let second = arcs.next().unwrap_or(0);
    let mut content = base_128(first.saturating_mul(40).saturating_add(second));
    for arc in arcs {
        content.extend(base_128(arc));
    }
    element(0x06, &content)
}

/// `[number]`, constructed.
pub(super) fn explicit(number: u8, content: &[u8]) -> Vec<u8> {
    element(0xA0 | number, content)
}

fn base_128(arc: u32) -> Vec<u8> {
    let groups =
        [arc >> 28, arc >> 21, arc >> 14, arc >> 7, arc].map(|group| (group & 0x7F).to_le_bytes());
    let mut out: Vec<u8> = groups
        .iter()
        .map(|[low, ..]| *low)
        .skip_while(|group| *group == 0)
        .collect();
    if out.is_empty() {
        out.push(0);
    }
    let (last, leading) = match out.split_last() {
        Some((last, leading)) => (
            *last,
            leading
                .iter()
                .map(|group| group | 0x80)
                .collect::<Vec<u8>>(),
        ),
        None => (0, Vec::new()),
    };
    leading.into_iter().chain([last]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_have_their_shortest_length() {
        assert_eq!(element(4, &[]), [4, 0]);
        assert_eq!(element(4, &[7; 127])[..2], [4, 127]);
        assert_eq!(element(4, &[7; 128])[..3], [4, 0x81, 128]);
        assert_eq!(element(4, &[7; 300])[..4], [4, 0x82, 1, 44]);
    }

    #[test]
    fn an_object_identifier_is_written_in_groups_of_seven_bits() {
        assert_eq!(
            oid("1.2.840.10045.2.1"),
            [6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]
        );
        assert_eq!(
            oid("1.3.6.1.4.1.3704.1.3.8"),
            [6, 10, 0x2b, 6, 1, 4, 1, 0x9c, 0x78, 1, 3, 8]
        );
    }

    #[test]
    fn an_integer_is_never_negative() {
        assert_eq!(integer(&[0]), [2, 1, 0]);
        assert_eq!(integer(&[0, 0x7F]), [2, 1, 0x7F]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
    }
}
