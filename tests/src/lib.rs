//! End-to-end tests, and what they share.

pub mod audit_logs;
pub mod bars;
pub mod binary;
pub mod caller;
pub mod campaign;
pub mod cli;
pub mod core;
pub mod disk;
pub mod effort;
pub mod fuzz;
pub mod https;
pub mod keyholders;
pub mod life;
pub mod oidc;
pub mod process;
pub mod stack;
pub mod targets;
pub mod wait;
pub mod web_client;
pub mod witnesses;
