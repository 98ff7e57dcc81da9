//! What must not happen: every refusal with its exact words, and no secret anywhere.

mod abuse;
mod abuse_bars;
mod canaries;
mod control_bars;
mod evidence;
mod exports;
mod floods;
mod gateway_answers;
mod gateway_bars;
mod gateway_operations;
mod gateway_refusals;
mod grpc_refusals;
mod hygiene;
mod log_mutations;
mod replays;
mod row_swaps;
mod state_files;
mod store_bars;
mod timing;
mod wrong_measurements;
