//! The service with an emulated enclave, and the demo stack.
