//! Writes a policy file pinned to one measurement and one manifest signer, with comments for its reviewer.

use crate::appraisal::Tier;

/// The text of a policy that accepts exactly one image and one manifest signer on the given tiers.
///
/// It is a starting point for review: floors for the TCB and the platform's bits are left as comments.
#[must_use]
pub fn pinned(measurement: &[u8; 48], manifest_signer: &[u8; 32], tiers: &[Tier]) -> String {
    let measurement = hex::encode(measurement);
    let signer = hex::encode(manifest_signer);
    let tiers = tiers
        .iter()
        .map(|tier| format!("\"{tier}\""))
        .collect::<Vec<_>>()
        .join(", ");
    format!(
        r#"# Attestation policy of Tokenkeep: the reference values that evidence is compared with.
# Pinned to what was running when this file was written. Review it before you rely on it: compare the measurement
# with one that you computed yourself from firmware, kernel, initrd and command line.
version = 1

# Which tiers are accepted. "hardware" is genuine hardware without a known forgery; "reduced" adds AMD Milan and keys
# of a cloud provider that csp_ids does not name; "emulated" is no hardware at all and protects nothing.
tiers = [{tiers}]

[snp]
# The image: launch measurements, 96 hex digits each. A table adds a window in Unix time:
# {{ value = "...", label = "release 1.2", not_before = 1790000000, not_after = 1800000000 }}
measurements = ["{measurement}"]

# Who may sign the enclave's manifest: SHA-256 over the signer's SubjectPublicKeyInfo, which HOST_DATA binds.
manifest_signers = ["{signer}"]

# Bits of the guest policy. Debugging and bits without a meaning are refused always.
policy_forbidden = ["debug", "migrate_ma"]
# policy_required = ["ciphertext_hiding"]

# Bits of the platform. "alias_check_complete" says that the memory was checked against BadRAM.
# platform_required = ["alias_check_complete"]

# Patch level floors, by processor family and model. A processor without an entry is then refused.
# [[snp.tcb]]
# family = 0x19
# model_first = 0x10
# model_last = 0x1f
# reported = {{ bootloader = 10, tee = 0, snp = 23, microcode = 84 }}
# committed = {{ bootloader = 10, tee = 0, snp = 23, microcode = 84 }}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    #[test]
    fn what_is_written_is_a_policy_with_these_values() {
        let policy =
            Policy::from_toml(pinned(&[0xAB; 48], &[0xCD; 32], &[Tier::Emulated]).as_bytes())
                .unwrap();
        assert_eq!(policy.tiers(), [Tier::Emulated]);
        assert_eq!(policy.snp().unwrap().manifest_signers, [[0xCD; 32]]);
        assert_eq!(
            policy
                .snp()
                .unwrap()
                .measurements
                .iter()
                .map(|m| m.value)
                .collect::<Vec<_>>(),
            [[0xAB; 48]]
        );
    }
}
