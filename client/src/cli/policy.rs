//! `policy`: a tenant's own policy, offline and in the service; and the reference values for evidence.

mod offline;
mod reference_values;
mod served;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::exit::{Exit, manual};
use super::failure::Failure;
use super::output::Output;
use super::session::Global;
use reference_values::AttestationPolicyCommand;

/// Policies: a tenant's own, in Cedar, and the reference values that evidence is compared with
///
/// A tenant's own policy narrows what its grants allow. Begin with a template, write tests beside it, and set it: from
/// then on each token and each call through the gateway is decided by it, and the log names it.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Policies for attestation
    #[command(subcommand)]
    Attestation(AttestationPolicyCommand),
    /// Print the schema that tenants' policies are written against
    #[command(after_long_help = manual!("  tokenkeep policy schema > tokenkeep.cedarschema\n  tokenkeep --json policy schema"))]
    Schema,
    /// Print a policy to begin with, or list those that there are
    #[command(after_long_help = manual!("  tokenkeep policy template\n  tokenkeep policy template read-only > acme.cedar"))]
    Template {
        /// Which [default: list them]
        name: Option<String>,
    },
    /// Say all that is wrong with policies, as the service would
    #[command(after_long_help = manual!("  tokenkeep policy check acme.cedar\n  tokenkeep --json policy check *.cedar"))]
    Check {
        /// The policies
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Ask a policy what a file of requests expects of it
    ///
    /// The file is TOML: [defaults] and one [[case]] for each request, with name, expect (permit or deny), by (the ids of
    /// the policies that must have made the decision, if you care), and the request: action, client, vendor, grant, app,
    /// provider, target, scopes, operation, method, audience, key, binding, tier, address, at.
    #[command(after_long_help = manual!("  tokenkeep policy test acme.cedar acme-tests.toml\n  tokenkeep --json policy test acme.cedar acme-tests.toml"))]
    Test {
        /// The policy
        policy: PathBuf,
        /// The file of requests
        tests: PathBuf,
    },
    /// Show for each request of a file what each policy says of it
    #[command(after_long_help = manual!("  tokenkeep policy explain acme.cedar acme-tests.toml --case 'no deletes'\n  tokenkeep --json policy explain acme.cedar acme-tests.toml"))]
    Explain {
        /// The policy
        policy: PathBuf,
        /// The file of requests
        tests: PathBuf,
        /// The one of this name [default: all]
        #[arg(long, value_name = "NAME")]
        case: Option<String>,
    },
    /// Say what a change adds and takes away, and whether it loosens; exit code 1 if it does
    ///
    /// A change tightens if it only adds policies that forbid and takes away ones that permit. All else may loosen, and
    /// needs the owner's signature.
    #[command(after_long_help = manual!("  tokenkeep policy diff acme.cedar acme-next.cedar\n  tokenkeep --json policy diff acme.cedar acme-next.cedar"))]
    Diff {
        /// The policy before
        old: PathBuf,
        /// The one after it
        new: PathBuf,
    },
    /// Print the owner's signature of a change, to be sent with `policy set --signature`
    ///
    /// Needs no connection: the key can stay where it is safe. It is good once, for this tenant, service and number.
    #[command(after_long_help = manual!("  tokenkeep policy sign acme-next.cedar --tenant acme --issuer https://tokens.example \\\n      --sequence 3 --before acme.cedar --owner-key owner.key > change.sig\n  tokenkeep policy sign --remove --tenant acme --issuer https://tokens.example \\\n      --sequence 3 --before acme.cedar --owner-key owner.key > change.sig"))]
    Sign(SignArgs),
    /// Show a tenant's policy as the service has it
    #[command(after_long_help = manual!("  tokenkeep policy show --tenant acme\n  tokenkeep --json policy show --tenant acme"))]
    Show {
        /// Whose
        #[arg(long)]
        tenant: String,
    },
    /// Set a tenant's policy, or remove it
    ///
    /// It is checked here first, and the change is shown. When the command returns, the policy is durable and decides.
    /// A change that loosens needs --owner-key, or a signature that was made elsewhere.
    #[command(after_long_help = manual!("  tokenkeep policy set acme.cedar --tenant acme\n  tokenkeep policy set acme-next.cedar --tenant acme --owner-key owner.key\n  tokenkeep policy set acme-next.cedar --tenant acme --sequence 3 --signature change.sig\n  tokenkeep policy set --remove --tenant acme --owner-key owner.key"))]
    Set(SetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// The new policy
    #[arg(required_unless_present = "remove", conflicts_with = "remove")]
    file: Option<PathBuf>,
    /// Remove the policy instead: all passes that the grants allow
    #[arg(long)]
    remove: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    #[command(flatten)]
    wanted: Wanted,
    /// Whose policy
    #[arg(long)]
    tenant: String,
    /// The issuer of the service's tokens, as its manifest writes it
    #[arg(long)]
    issuer: String,
    /// The sequence number of the policy in force, as `policy show` tells it; 0 if there was none yet
    #[arg(long)]
    sequence: u64,
    /// The policy in force, as `policy show` prints it [default: none]
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// The owner's ES256 key (PEM, mode 0600): that of an administrator of the role tenant:ID
    #[arg(long, value_name = "FILE")]
    owner_key: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    wanted: Wanted,
    /// Whose policy
    #[arg(long)]
    tenant: String,
    /// The sequence number of the policy that is changed [default: that of the one in force]
    #[arg(long)]
    sequence: Option<u64>,
    /// A signature that `policy sign` made
    #[arg(long, value_name = "FILE", conflicts_with = "owner_key")]
    signature: Option<PathBuf>,
    /// Sign with this key, if the change loosens: that of an administrator of the role tenant:ID (PEM, mode 0600)
    #[arg(long, value_name = "FILE")]
    owner_key: Option<PathBuf>,
}

pub(crate) async fn run(
    command: PolicyCommand,
    global: &Global,
    output: Output,
) -> Result<Exit, Failure> {
    match command {
        PolicyCommand::Attestation(AttestationPolicyCommand::Init) => {
            reference_values::init(&global.inspect().await?, output)?;
        }
        PolicyCommand::Schema => offline::schema(output)?,
        PolicyCommand::Template { name } => offline::template(name.as_deref(), output)?,
        PolicyCommand::Check { files } => offline::check(&files, output)?,
        PolicyCommand::Test { policy, tests } => return offline::test(&policy, &tests, output),
        PolicyCommand::Explain {
            policy,
            tests,
            case,
        } => offline::explain(&policy, &tests, case.as_deref(), output)?,
        PolicyCommand::Diff { old, new } => return offline::diff(&old, &new, output),
        PolicyCommand::Sign(args) => offline::sign(&args, output)?,
        PolicyCommand::Show { tenant } => served::show(tenant, global, output).await?,
        PolicyCommand::Set(args) => served::set(&args, global, output).await?,
    }
    Ok(Exit::Ok)
}
