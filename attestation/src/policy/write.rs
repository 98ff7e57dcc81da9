//! Writes a policy file pinned to one image and one manifest signer, with comments for its reviewer.

use crate::appraisal::Tier;

/// What the head of every policy says.
fn head(tiers: &[Tier]) -> String {
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
"#
    )
}

/// The text of a policy that accepts exactly one TDX image and one manifest signer on the given tiers.
///
/// RTMR0 depends on the machine's shape and RTMR3 on what the application extends: both are left as comments, with
/// what was found.
#[must_use]
pub fn pinned_tdx(
    mrtd: &[u8; 48],
    rtmrs: &[[u8; 48]; 4],
    manifest_signer: &[u8; 32],
    tiers: &[Tier],
) -> String {
    let head = head(tiers);
    let mrtd = hex::encode(mrtd);
    let [rtmr0, rtmr1, rtmr2, rtmr3] = rtmrs.map(hex::encode);
    let signer = hex::encode(manifest_signer);
    format!(
        r#"{head}
[tdx]
# Who may sign the enclave's manifest: SHA-256 over the signer's SubjectPublicKeyInfo, which MRCONFIGID binds.
manifest_signers = ["{signer}"]

# Intel's word on the platform. Another one than UpToDate needs a reason.
statuses = ["UpToDate"]

# Bits of the TD. Debugging, profiling and bits without a meaning are refused always.
# attributes_forbidden = ["perfmon"]

# How new Intel's statements must be.
# minimum_evaluation_number = 18
# maximum_collateral_age_s = 2592000

# What a platform may have; machines with several sockets are dynamic and cache their keys.
# allow_dynamic_platform = true
# allow_cached_keys = true
# allow_smt = true

# The image: firmware (MRTD), kernel (RTMR1), command line and initrd (RTMR2), 96 hex digits each.
[[tdx.images]]
mrtd = "{mrtd}"
rtmr1 = "{rtmr1}"
rtmr2 = "{rtmr2}"
# RTMR0 depends on the machine's shape, RTMR3 on what the application adds. Found:
# rtmr0 = "{rtmr0}"
# rtmr3 = "{rtmr3}"
# label = "release 1.2"
# not_after = 1800000000
"#
    )
}

/// The text of a policy that accepts exactly one image and one manifest signer on the given tiers.
///
/// It is a starting point for review: floors for the TCB and the platform's bits are left as comments.
#[must_use]
pub fn pinned(measurement: &[u8; 48], manifest_signer: &[u8; 32], tiers: &[Tier]) -> String {
    let measurement = hex::encode(measurement);
    let signer = hex::encode(manifest_signer);
    let head = head(tiers);
    format!(
        r#"{head}
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

    #[test]
    fn what_is_written_for_tdx_is_a_policy_with_these_values() {
        let rtmrs = [[0; 48], [1; 48], [2; 48], [3; 48]];
        let text = pinned_tdx(&[0xAB; 48], &rtmrs, &[0xCD; 32], &[Tier::Hardware]);
        let policy = Policy::from_toml(text.as_bytes()).unwrap();
        assert_eq!(policy.tiers(), [Tier::Hardware]);
        assert!(policy.snp().is_none());
        let tdx = policy.tdx().unwrap();
        assert_eq!(tdx.manifest_signers, [[0xCD; 32]]);
        let [image] = tdx.images.as_slice() else {
            panic!("{:?}", tdx.images);
        };
        assert_eq!(image.mrtd, [0xAB; 48]);
        assert_eq!(image.rtmrs, [None, Some([1; 48]), Some([2; 48]), None]);
        // The comments are lines that a reviewer may take in as they stand.
        let open: String = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.contains(" = ") => format!("{rest}\n"),
                Some(_) | None => format!("{line}\n"),
            })
            .collect();
        assert!(Policy::from_toml(open.as_bytes()).is_ok(), "{open}");
    }
}
