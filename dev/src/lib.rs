//! The service with an emulated enclave, and the demo stack around it.
//!
//! Nothing here protects anything: the chip is a file. `tokenkeep-dev` is for trying Tokenkeep out, for tests, and for
//! load on a machine without confidential-computing hardware. The service itself is the one that ships.
//!
//! | module | holds |
//! | --- | --- |
//! | [`emulated`] | the attester without hardware |
//! | [`names`] | what everything is called here |
//! | [`lab`] | a directory with keys, manifest and configuration |
//! | [`ports`] | sockets that are bound before the manifest names them |
//! | [`serve`] | the service alone |
//! | [`provider`] | the provider and API to test against |
//! | [`registration`] | what a user would register and deposit |
//! | [`stack`] | provider, service and registration together |
//! | [`demo`], [`thief`], [`screen`], `call` | the guided tour |
//! | [`crash`] | a service that dies between a provider's commit and its own |
//! | [`incident`] | a vendor that is compromised, stopped and told of |
//! | [`rollback`] | a disk that is put back, and found out |
//! | [`fill`] | a state with many grants, to measure with |
//! | [`up`] | the stack, kept running |
//! | [`store`] | a state checked, measured, exported and imported |
//! | [`stop`] | SIGTERM and SIGINT |

mod call;
pub mod crash;
pub mod demo;
pub mod emulated;
pub mod fill;
pub mod incident;
pub mod lab;
pub mod names;
pub mod ports;
pub mod provider;
pub mod registration;
pub mod rollback;
pub mod screen;
pub mod serve;
pub mod stack;
pub mod stop;
pub mod store;
pub mod thief;
pub mod up;
