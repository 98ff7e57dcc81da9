//! Generates the messages and services of `tokenkeep.v1`, without a system `protoc`.

use std::path::PathBuf;

use prost::Message;

/// Messages that carry a secret: their `Debug` is written by hand in `src/redact.rs`.
const SECRET_MESSAGES: [&str; 4] = [
    ".tokenkeep.v1.CompleteConnectRequest",
    ".tokenkeep.v1.IssueTokenResponse",
    ".tokenkeep.v1.IntrospectTokenRequest",
    ".tokenkeep.v1.RevokeTokenRequest",
];

#[expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script where to write by its environment"
)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "tokenkeep/v1/attestation.proto",
        "tokenkeep/v1/audit.proto",
        "tokenkeep/v1/event.proto",
        "tokenkeep/v1/grant.proto",
        "tokenkeep/v1/key.proto",
        "tokenkeep/v1/limits.proto",
        "tokenkeep/v1/registry.proto",
        "tokenkeep/v1/token.proto",
    ];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .skip_debug(SECRET_MESSAGES)
        .codec_path("crate::codec::SmallFirst")
        .compile_fds(descriptors)?;
    Ok(())
}
