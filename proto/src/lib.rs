//! The gRPC contract, package tokenkeep.v1.
