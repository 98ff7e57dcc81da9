//! What Tokenkeep is for, through its real doors: real processes, TLS, files and providers.

mod audit;
mod audit_rate;
mod certificates;
mod command_line;
mod configuration;
mod crash;
mod deposit;
mod doors;
mod drain;
mod judge;
mod keyholders;
mod keys;
mod kills;
mod manifests;
mod many_grants;
mod oauth_client;
mod offline;
mod profiles;
mod providers;
mod python;
mod real_provider;
mod rollback;
mod single_flight;
mod soak_report;
mod stop;
