//! The gRPC contract of Tokenkeep: package `tokenkeep.v1`, generated from the
//! files under `tokenkeep/v1/`.

pub mod codec;
mod redact;

/// Messages, clients and servers of package `tokenkeep.v1`.
#[allow(
    clippy::all,
    missing_docs,
    reason = "generated code: its documentation is the contract's own comments"
)]
pub mod v1 {
    tonic::include_proto!("tokenkeep.v1");
}

/// The contract's descriptors, an encoded `google.protobuf.FileDescriptorSet`,
/// for server reflection and for tests that walk the contract.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
