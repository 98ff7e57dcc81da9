//! Intel TDX: quote, collateral, roots and verification, by `dcap-qvl` behind types of our own.

mod attributes;
mod body;
mod claims;
mod collateral;
mod fault;
mod overview;
mod quote;
mod root;
mod sgx_type;
mod status;
mod verify;

pub use attributes::{TdAttributes, Xfam};
pub use body::BodyKind;
pub(crate) use body::{Rtmrs, TdBody};
pub use collateral::{CollateralProblem, MAX_COLLATERAL_BYTES};
pub use fault::{TdxFault, TdxStep};
pub(crate) use overview::overview;
pub use quote::{EncodingProblem, MAX_QUOTE_BYTES, Quote, QuoteProblem};
pub(crate) use root::{IntelRoot, is_intel_root};
pub use sgx_type::SgxType;
pub use status::{TcbStatus, UnknownTcbStatus};
pub(crate) use verify::{TdxPlatform, TdxVerified, verify};
