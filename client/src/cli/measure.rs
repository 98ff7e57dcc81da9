//! `measure`: what a launch will measure, computed from its parts.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use sev::measurement::snp::{SnpMeasurementArgs, snp_calc_launch_digest};
use sev::measurement::vcpu_types::CpuType;
use sev::measurement::vmsa::{GuestFeatures, VMMType};

use super::failure::Failure;
use super::output::Output;

/// The largest firmware that is read, bytes; OVMF builds have 4 MiB.
const MAX_OVMF_BYTES: u64 = 64 * 1024 * 1024;

/// The largest kernel or initrd that is read, bytes.
const MAX_BOOT_FILE_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// The most processors: each measures a page of its own.
const MAX_VCPUS: u32 = 4096;

const MANUAL: &str = "\
Examples:
  tokenkeep measure snp --ovmf OVMF.fd --kernel vmlinuz --initrd initrd.img \\
      --append 'console=ttyS0' --vcpus 4 --vcpu-type EPYC-Genoa
  tokenkeep --json measure snp --ovmf OVMF.fd --vcpus 2 --vcpu-sig 0xa10f10 --vmm ec2

Exit codes:
  0  computed
  1  never: nothing is verified
  2  wrong usage, or a file that cannot be read or measured
  3  never: nothing is verified
  4  never: no server is asked";

/// Launch measurements, computed from firmware, kernel, initrd and command line
#[derive(Debug, Subcommand)]
pub(crate) enum MeasureCommand {
    /// Compute the launch digest of a SEV-SNP guest, for `measurements` of the policy
    ///
    /// It depends on every part, the number of processors included. The guest policy and HOST_DATA are no part of
    /// it: a policy checks them apart.
    #[command(after_long_help = MANUAL)]
    Snp(SnpArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SnpArgs {
    /// The firmware: an OVMF build with SEV metadata
    #[arg(long, value_name = "FILE")]
    ovmf: PathBuf,
    /// The digest of the whole firmware, if FILE is its last part only (96 hex digits)
    #[arg(long, value_name = "HEX")]
    ovmf_hash: Option<String>,
    /// The kernel, if it is measured at launch
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// The initial RAM disk
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// The kernel's command line
    #[arg(long, value_name = "TEXT", requires = "kernel")]
    append: Option<String>,
    /// How many virtual processors
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_VCPUS)))]
    vcpus: u32,
    /// Their type, as QEMU names it: EPYC-v4, EPYC-Milan, EPYC-Genoa, EPYC-Turin, ...
    #[arg(long, value_name = "TYPE", value_parser = vcpu_type, required_unless_present = "vcpu_sig", conflicts_with = "vcpu_sig")]
    vcpu_type: Option<Vcpu>,
    /// Their signature, CPUID 1 EAX, for machines that do not name a type
    #[arg(long, value_name = "NUMBER", value_parser = vcpu_sig)]
    vcpu_sig: Option<Vcpu>,
    /// SEV features of the guest, a number; bit 0 is SEV-SNP itself
    #[arg(long, value_name = "BITS", default_value = "0x1", value_parser = number)]
    guest_features: u64,
    /// The monitor: qemu, ec2 or krun
    #[arg(long, value_name = "KIND", default_value = "qemu", value_parser = vmm)]
    vmm: VMMType,
}

/// A processor type; `sev`'s is no `Display`.
#[derive(Debug, Clone, Copy)]
struct Vcpu(CpuType);

/// QEMU's names.
const VCPU_TYPES: [(&str, CpuType); 18] = [
    ("EPYC", CpuType::Epyc),
    ("EPYC-v1", CpuType::EpycV1),
    ("EPYC-v2", CpuType::EpycV2),
    ("EPYC-IBPB", CpuType::EpycIBPB),
    ("EPYC-v3", CpuType::EpycV3),
    ("EPYC-v4", CpuType::EpycV4),
    ("EPYC-Rome", CpuType::EpycRome),
    ("EPYC-Rome-v1", CpuType::EpycRomeV1),
    ("EPYC-Rome-v2", CpuType::EpycRomeV2),
    ("EPYC-Rome-v3", CpuType::EpycRomeV3),
    ("EPYC-Milan", CpuType::EpycMilan),
    ("EPYC-Milan-v1", CpuType::EpycMilanV1),
    ("EPYC-Milan-v2", CpuType::EpycMilanV2),
    ("EPYC-Genoa", CpuType::EpycGenoa),
    ("EPYC-Genoa-v1", CpuType::EpycGenoaV1),
    ("EPYC-Turin", CpuType::EpycTurin),
    ("EPYC-Turin-v1", CpuType::EpycTurinV1),
    ("EPYC-Turin-v2", CpuType::EpycTurinV2),
];

pub(crate) fn run(command: &MeasureCommand, output: Output) -> Result<(), Failure> {
    let MeasureCommand::Snp(args) = command;
    let digest = snp(args)?;
    if output.is_json() {
        output.json(&json!({"platform": "snp", "measurement": digest}))
    } else {
        output.line(&digest)
    }
}

fn snp(args: &SnpArgs) -> Result<String, Failure> {
    let SnpArgs {
        ovmf,
        ovmf_hash,
        kernel,
        initrd,
        append,
        vcpus,
        vcpu_type,
        vcpu_sig,
        guest_features,
        vmm,
    } = args;
    let Vcpu(vcpu_type) = vcpu_type
        .or(*vcpu_sig)
        .ok_or_else(|| Failure::usage("no processor is named", "give --vcpu-type or --vcpu-sig"))?;
    if let Some(hash) = ovmf_hash
        && hex::decode(hash).map(|bytes| bytes.len()) != Ok(48)
    {
        return Err(Failure::usage(
            "--ovmf-hash is not 96 hex digits",
            "give the SHA-384 launch digest of the whole firmware",
        ));
    }
    readable(ovmf, MAX_OVMF_BYTES)?;
    for file in [kernel, initrd].into_iter().flatten() {
        readable(file, MAX_BOOT_FILE_BYTES)?;
    }
    let digest = snp_calc_launch_digest(SnpMeasurementArgs {
        vcpus: *vcpus,
        vcpu_type,
        ovmf_file: ovmf.clone(),
        guest_features: GuestFeatures(*guest_features),
        kernel_file: kernel.clone(),
        initrd_file: initrd.clone(),
        append: append.as_deref(),
        ovmf_hash_str: ovmf_hash.as_deref(),
        vmm_type: Some(*vmm),
    });
    digest.map(|digest| digest.get_hex_ld()).map_err(|error| {
        Failure::usage(
            format!("{} cannot be measured: {error}", ovmf.display()),
            "give an OVMF build with SEV metadata; with --kernel, one with a place for the kernel's hashes",
        )
    })
}

/// Whether a file can be opened and is not larger than may be; the calculation reads it whole.
fn readable(file: &Path, max_bytes: u64) -> Result<(), Failure> {
    let metadata = std::fs::File::open(file)
        .and_then(|file| file.metadata())
        .map_err(|error| {
            Failure::usage(
                format!("{} cannot be read: {error}", file.display()),
                "name a file that exists and that you may read",
            )
        })?;
    if metadata.is_dir() || metadata.len() > max_bytes {
        return Err(Failure::usage(
            format!("{} is no file of at most {max_bytes} bytes", file.display()),
            "name firmware, kernel and initrd as they are given to the monitor",
        ));
    }
    Ok(())
}

fn vcpu_type(text: &str) -> Result<Vcpu, String> {
    VCPU_TYPES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text))
        .map(|(_, vcpu)| Vcpu(*vcpu))
        .ok_or_else(|| {
            format!(
                "must be one of {}",
                VCPU_TYPES.map(|(name, _)| name).join(", ")
            )
        })
}

fn vcpu_sig(text: &str) -> Result<Vcpu, String> {
    let signature = number(text)?;
    let signature = i32::try_from(signature).map_err(|_| "is no signature".to_owned())?;
    CpuType::try_from(signature)
        .map(Vcpu)
        .map_err(|error| error.to_string())
}

/// A number, decimal or hexadecimal after `0x`.
fn number(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| "must be a number".to_owned())
}

fn vmm(text: &str) -> Result<VMMType, String> {
    text.parse()
        .map_err(|_| "must be qemu, ec2 or krun".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../attestation/tests/vectors/measurement")
    }

    fn published() -> Value {
        serde_json::from_slice(&std::fs::read(folder().join("expected.json")).unwrap()).unwrap()
    }

    fn args(case: &Value, common: &Value) -> SnpArgs {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        SnpArgs {
            ovmf: folder().join(common["ovmf_file"].as_str().unwrap()),
            ovmf_hash: text(&common["ovmf_hash"]),
            kernel: text(&common["kernel"]).map(PathBuf::from),
            initrd: text(&common["initrd"]).map(PathBuf::from),
            append: text(&case["append"]),
            vcpus: 1,
            vcpu_type: Some(vcpu_type("EPYC-v4").unwrap()),
            vcpu_sig: None,
            guest_features: number(case["guest_features"].as_str().unwrap()).unwrap(),
            vmm: vmm(case["vmm"].as_str().unwrap()).unwrap(),
        }
    }

    #[test]
    fn every_published_digest_is_computed() {
        let published = published();
        let cases = published["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 5);
        for case in cases {
            let digest = snp(&args(case, &published["common"])).unwrap();
            assert_eq!(digest, case["digest"].as_str().unwrap(), "{case}");
        }
    }

    #[test]
    fn every_part_changes_the_digest() {
        let published = published();
        let case = &published["cases"][0];
        let given = || args(case, &published["common"]);
        let base = snp(&given()).unwrap();
        let ovmf = folder().join("ovmf_AmdSev_suffix.bin");
        let changed = [
            SnpArgs {
                vcpus: 2,
                ..given()
            },
            SnpArgs {
                vcpu_type: Some(vcpu_type("epyc-genoa").unwrap()),
                ..given()
            },
            SnpArgs {
                append: Some("quiet".to_owned()),
                ..given()
            },
            SnpArgs {
                kernel: Some(ovmf.clone()),
                ..given()
            },
            SnpArgs {
                initrd: Some(ovmf),
                ..given()
            },
            SnpArgs {
                ovmf_hash: Some("ab".repeat(48)),
                ..given()
            },
        ];
        for args in changed {
            assert_ne!(snp(&args).unwrap(), base, "{args:?}");
        }
    }

    #[test]
    fn what_cannot_be_measured_is_named() {
        let published = published();
        let case = &published["cases"][0];
        let given = || args(case, &published["common"]);
        let absent = PathBuf::from("/nonexistent/OVMF.fd");
        let rows = [
            (
                SnpArgs {
                    ovmf: absent,
                    ..given()
                },
                "/nonexistent/OVMF.fd cannot be read: No such file or directory (os error 2)",
            ),
            (
                SnpArgs {
                    ovmf_hash: Some("ab".to_owned()),
                    ..given()
                },
                "--ovmf-hash is not 96 hex digits",
            ),
        ];
        for (args, expected) in rows {
            let failure = snp(&args).unwrap_err();
            assert_eq!(failure.to_json()["error"]["message"], expected);
            assert_eq!(failure.exit().number(), 2);
        }
        assert_eq!(vcpu_sig("0x800f12").unwrap().0, CpuType::Epyc);
        assert!(
            vcpu_type("Pentium")
                .unwrap_err()
                .starts_with("must be one of EPYC, ")
        );
        assert_eq!(number("x").unwrap_err(), "must be a number");
        assert_eq!(vmm("xen").unwrap_err(), "must be qemu, ec2 or krun");
    }
}
