//! The journal: a provider's raw answer, kept until it is adopted.
//!
//! An entry names the generation of the custody record that it answers, so that
//! an older one is never taken for the answer to a later exchange.

use zeroize::Zeroizing;

use crate::secret::RawResponse;

/// An entry: the custody record's generation (u64, big-endian), then the answer.
pub(super) fn encode(custody_generation: u64, answer: &RawResponse) -> Zeroizing<Vec<u8>> {
    let capacity = answer.expose().len().saturating_add(8);
    let mut entry = Zeroizing::new(Vec::with_capacity(capacity));
    entry.extend_from_slice(&custody_generation.to_be_bytes());
    entry.extend_from_slice(answer.expose());
    entry
}

/// The answer in an entry, if it belongs to this generation.
pub(super) fn decode(entry: &[u8], custody_generation: u64) -> Option<RawResponse> {
    let (generation, answer) = entry.split_first_chunk::<8>()?;
    (u64::from_be_bytes(*generation) == custody_generation)
        .then(|| RawResponse::new(answer.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_serves_its_own_generation_only() {
        let entry = encode(7, &RawResponse::new(b"{}".to_vec()));
        let decoded = |generation| decode(&entry, generation).map(|raw| raw.expose().to_vec());
        assert_eq!(decoded(7), Some(b"{}".to_vec()));
        assert_eq!(decoded(8), None);
        assert!(decode(&entry[..7], 7).is_none());
    }
}
