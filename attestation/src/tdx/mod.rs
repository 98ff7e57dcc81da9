//! Intel TDX: quote, collateral, roots and verification, by `dcap-qvl` behind types of our own.

mod attributes;
mod body;
mod claims;
mod collateral;
mod fault;
mod model;
mod overview;
mod pcs;
mod quote;
mod root;
mod sgx_type;
mod statements;
mod status;
mod verify;

pub use attributes::{TdAttributes, Xfam};
pub use body::BodyKind;
pub(crate) use body::{Rtmrs, TdBody};
pub use collateral::{CollateralProblem, MAX_COLLATERAL_BYTES};
pub use fault::{TdxFault, TdxStep};
pub use model::{PckCa, PlatformModel};
pub(crate) use overview::overview;
pub use pcs::{Answer, Answers, INTEL_PCS, INTEL_ROOT_CRL, MAX_ANSWER_BYTES, PcsError, Statement};
pub use quote::{EncodingProblem, MAX_QUOTE_BYTES, Quote, QuoteProblem};
pub(crate) use root::{IntelRoot, is_intel_root};
pub use sgx_type::SgxType;
pub(crate) use statements::read as read_statements;
pub use statements::{CollateralSummary, StatementError};
pub use status::{TcbStatus, UnknownTcbStatus};
pub(crate) use verify::{TdxPlatform, TdxVerified, verify};
