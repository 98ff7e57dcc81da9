//! The command line: what it takes, and which command runs.

mod approval;
mod audit;
mod bound_manifest;
mod call;
mod collateral;
mod date;
mod events;
mod evidence;
mod exit;
mod failure;
mod freeze;
mod grant;
mod key;
mod key_rotation;
mod keyholder;
mod limits;
mod manifest;
mod measure;
mod members;
mod output;
mod pages;
mod policy;
mod proxy;
mod record;
mod recovery;
mod registry;
mod secret_input;
mod session;
mod token;
mod trust;
mod verify;
mod webhook;
mod witness;

use clap::{Parser, Subcommand};

use exit::manual;
use failure::Failure;
use session::Global;

pub(crate) use exit::Exit;
pub(crate) use output::Output;

/// Verify a Tokenkeep enclave, deposit refresh tokens into it, and use the tokens it issues
///
/// Nothing is deposited or asked for before the enclave's evidence was accepted: `verify` shows the evidence
/// and every check, all other commands that ask it check the same first and refuse anything but `accept`.
#[derive(Debug, Parser)]
#[command(name = "tokenkeep", version, max_term_width = 100, after_long_help = manual!("  tokenkeep verify --server https://keep.example:8443 --policy policy.toml\n  tokenkeep key new dpop.key\n  tokenkeep token --grant acme-crm --resource https://api.example --dpop-key dpop.key"))]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Verify the enclave and print verdict, evidence, keys and every check
    ///
    /// Asks for evidence with a fresh nonce and compares it with the policy's reference values. Without
    /// --allow-emulated an emulated enclave is rejected.
    #[command(after_long_help = verify::MANUAL)]
    Verify(verify::VerifyArgs),
    /// Evidence: show, verify, compare what was saved; make and check bundles for auditors
    #[command(subcommand)]
    Evidence(evidence::EvidenceCommand),
    /// AMD's revocation lists and Intel's statements: fetch, show, check
    #[command(subcommand)]
    Collateral(collateral::CollateralCommand),
    /// Launch measurements, computed from firmware, kernel, initrd and command line
    #[command(subcommand)]
    Measure(measure::MeasureCommand),
    /// Policies: a tenant's own, in Cedar, and the reference values that evidence is compared with
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Print the enclave's CA certificate (PEM), for programs that cannot verify evidence
    #[command(after_long_help = manual!("  tokenkeep trust --server https://keep.example:8443 --policy policy.toml > ca.pem"))]
    Trust,
    /// Keys that sign access tokens
    #[command(subcommand)]
    Jwks(trust::JwksCommand),
    /// Keys: make a DPoP key, list and replace those of the enclave
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// A tenant's grants: connect, deposit, import, update, wake, list, show, revoke, delete
    #[command(subcommand)]
    Grant(grant::GrantCommand),
    /// Calls that a person of the tenant must agree to: list, approve, deny
    #[command(subcommand)]
    Approval(approval::ApprovalCommand),
    /// Stop everything that a subject touches, at once and durably
    #[command(after_long_help = manual!("  tokenkeep freeze client sync --tenant acme --reason 'key leaked'\n  tokenkeep freeze vendor drift --reason 'breach reported'\n  tokenkeep freeze key 0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I --reason 'laptop stolen'"))]
    Freeze(freeze::FreezeArgs),
    /// End a freeze
    #[command(after_long_help = manual!("  tokenkeep thaw client sync --tenant acme"))]
    Thaw(freeze::ThawArgs),
    /// List the freezes in force
    #[command(after_long_help = manual!("  tokenkeep freezes --tenant acme\n  tokenkeep --json freezes"))]
    Freezes(freeze::FreezesArgs),
    /// Get an access token and print it
    ///
    /// It is of use only together with the DPoP key, at one resource, for a few minutes. With --upstream-bound it is
    /// the provider's own, which the client shows to the provider's API itself, past the gateway; the provider gets a
    /// proof by the same key with the exchange of the grant's refresh token.
    #[command(after_long_help = manual!("  tokenkeep token --grant acme-crm --resource https://api.example --scope contacts.read \\\n      --dpop-key dpop.key\n  tokenkeep --json token --grant acme-crm --resource https://api.example --dpop-key dpop.key\n  tokenkeep token --grant acme-crm --resource https://api.example --actor assistant --actor jane \\\n      --dpop-key dpop.key    # the assistant acts for jane\n  tokenkeep token --grant acme-crm --resource https://gateway.example/g/acme-crm/api \\\n      --dpop-key dpop.key --upstream-bound"))]
    Token(token::TokenArgs),
    /// Call an API through the gateway; body to standard output, status to standard error
    ///
    /// Gets a token, proves the DPoP key for this very request, and streams the answer. Exit code 1 also stands
    /// for a status that is not 2xx.
    #[command(after_long_help = manual!("  tokenkeep call GET https://keep.example:8445/g/acme-crm/api/contacts --dpop-key dpop.key\n  tokenkeep call POST https://keep.example:8445/g/acme-crm/api/contacts \\\n      --data @contact.json -H 'Content-Type: application/json' --dpop-key dpop.key"))]
    Call(call::CallArgs),
    /// Let programs that know nothing of tokens call an API through the gateway
    ///
    /// Listens on loopback or a Unix socket and adds token and proof to each request. Make it the base URL of an SDK,
    /// or call it with curl; credentials that a program sends itself are left behind. Whoever reaches the listener
    /// uses the grant: requests of web pages are refused, and a Unix socket is its owner's alone. SIGINT or SIGTERM
    /// lets requests finish.
    #[command(after_long_help = manual!("  tokenkeep proxy --grant acme-crm --target api --dpop-key dpop.key --listen 127.0.0.1:8080\n  curl http://127.0.0.1:8080/contacts\n\n  tokenkeep proxy --grant acme-crm --target api --dpop-key dpop.key --listen unix:crm.sock\n  curl --unix-socket crm.sock http://localhost/contacts\n\n  tokenkeep --json proxy --grant acme-crm --target api --dpop-key dpop.key   # prints the free port it took"))]
    Proxy(proxy::ProxyArgs),
    /// Tenants: the organisations whose data is at stake
    #[command(subcommand)]
    Tenant(registry::TenantCommand),
    /// Vendors: the organisations that run integrations
    #[command(subcommand)]
    Vendor(registry::VendorCommand),
    /// Clients: the registered workloads of vendors
    #[command(subcommand)]
    Client(registry::ClientCommand),
    /// Providers: upstream authorization servers and their APIs
    #[command(subcommand)]
    Provider(registry::ProviderCommand),
    /// Apps: vendors' registrations at providers
    #[command(subcommand)]
    App(registry::AppCommand),
    /// The logs: verify, copy, prove, list, follow
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// What a tenant must hear of: follow it
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// Webhooks: where a tenant's events are posted to; verify what was posted
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    /// A witness of logs: make one, serve it, look at it
    #[command(subcommand)]
    Witness(witness::WitnessCommand),
    /// A keyholder of root keys: make one, say whom it serves, serve it, look at it
    #[command(subcommand)]
    Keyholder(keyholder::KeyholderCommand),
    /// Manifests, for whoever signs them: begin one, sign, check, compare
    #[command(subcommand)]
    Manifest(manifest::ManifestCommand),
    /// Recovery shares: make them, put them together
    #[command(subcommand)]
    Recovery(recovery::RecoveryCommand),
}

impl Cli {
    /// Where results go.
    pub(crate) const fn output(&self) -> Output {
        self.global.output()
    }

    /// Runs the command. A failure is told on standard error.
    pub(crate) async fn run(self) -> Exit {
        let output = self.output();
        match Box::pin(self.try_run()).await {
            Ok(exit) => exit,
            Err(failure) => {
                output.failure(&failure);
                failure.exit()
            }
        }
    }

    async fn try_run(self) -> Result<Exit, Failure> {
        let Self { global, command } = self;
        let output = global.output();
        match command {
            Command::Verify(args) => {
                let inspection = global.inspect().await?;
                args.keep(&inspection)?;
                let server = global.server.as_deref().unwrap_or_default();
                let manifest = global.bound_manifest(&inspection).await?;
                return verify::run(&inspection, &manifest, server, output);
            }
            Command::Evidence(command) => {
                return Box::pin(evidence::run(&command, &global, output)).await;
            }
            Command::Collateral(command) => {
                return collateral::run(&command, &global, output).await;
            }
            Command::Measure(command) => measure::run(&command, output)?,
            Command::Policy(command) => {
                return Box::pin(policy::run(command, &global, output)).await;
            }
            Command::Key(command) => key::run(command, &global, output).await?,
            Command::Trust => trust::trust(&global.channel().await?, output)?,
            Command::Jwks(trust::JwksCommand::Export(_)) => {
                trust::jwks(&global.channel().await?, output)?;
            }
            Command::Grant(command) => {
                grant::run(command, &global.channel().await?, output).await?
            }
            Command::Approval(command) => {
                approval::run(command, &global.channel().await?, output).await?;
            }
            Command::Freeze(args) => freeze::freeze(args, &global.channel().await?, output).await?,
            Command::Thaw(args) => freeze::thaw(args, &global.channel().await?, output).await?,
            Command::Freezes(args) => {
                freeze::freezes(args, &global.channel().await?, output).await?;
            }
            Command::Token(args) => token::run(args, &global.channel().await?, output).await?,
            Command::Call(args) => return call::run(args, &global.channel().await?, output).await,
            Command::Proxy(args) => proxy::run(args, &global.channel().await?, output).await?,
            Command::Tenant(command) => {
                registry::run_tenant(command, &global.channel().await?, output).await?;
            }
            Command::Vendor(command) => {
                registry::run_vendor(command, &global.channel().await?, output).await?;
            }
            Command::Client(command) => command.run(&global.channel().await?, output).await?,
            Command::Provider(command) => Box::pin(command.run(&global, output)).await?,
            Command::Audit(command) => return Box::pin(audit::run(command, &global, output)).await,
            Command::Events(command) => {
                events::run(command, &global.channel().await?, output).await?;
            }
            Command::Webhook(command) => {
                return Box::pin(webhook::run(command, &global, output)).await;
            }
            Command::Witness(command) => witness::run(command, output).await?,
            Command::Keyholder(command) => keyholder::run(command, &global, output).await?,
            Command::Manifest(command) => return manifest::run(&command, output),
            Command::Recovery(command) => recovery::run(&command, output)?,
            Command::App(command) => command.run(&global.channel().await?, output).await?,
        }
        Ok(Exit::Ok)
    }
}

/// A command line that cannot be read, as a failure for programs.
pub(crate) fn usage_failure(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let what = lines.next().unwrap_or("wrong usage");
    let what = what.strip_prefix("error: ").unwrap_or(what).to_owned();
    Failure::usage(what, "see --help")
}

#[cfg(test)]
mod tests;
