//! `grant`: deposit and import refresh tokens, have owners consent, and look at grants.

mod connect;
mod import;
mod importing;
mod terms;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use proto::v1;
use serde_json::json;
use tokenkeep::AttestedChannel;
use tokenkeep::rpc_error::answer;
use tokenkeep::{Clock as _, SystemClock};

use super::date;
use super::exit::{Exit, manual};
use super::failure::Failure;
use super::limits;
use super::output::Output;
use super::pages::all_pages;
use super::record::Record;
use super::secret_input;

/// A tenant's grants
#[derive(Debug, Subcommand)]
pub(crate) enum GrantCommand {
    /// Seal a refresh token to the attested enclave and make a grant of it
    ///
    /// The token comes from a file or standard input, never from the command line. For a grant that exists it
    /// replaces the refresh token; the rest must then be equal. It is exchanged at the provider at once, so that a copy
    /// that was left elsewhere is of no use; where the provider gives no other in its place, or can't be asked yet, the
    /// grant shows `exposed_before_deposit`.
    #[command(after_long_help = manual!("  tokenkeep grant deposit --tenant acme --app crm --grant acme-crm --client sync \\\n      --target api --scope contacts.read --token-file refresh-token\n  tokenkeep grant deposit --tenant acme --app crm --grant acme-crm --client sync \\\n      --target api < refresh-token\n  tokenkeep grant deposit --tenant acme --app crm --grant acme-crm --client sync --target api \\\n      --operation api/contacts-list --operation api/contacts-get \\\n      --host api=acme.my.crm.example --token-file refresh-token"))]
    Deposit(DepositArgs),
    /// Deposit many grants from a file, one JSON object a line
    ///
    /// Each line has the fields grant, tenant, app, clients, targets and refresh_token, perhaps scopes, operations,
    /// hosts (an object of target and host) and expires_at_s. Each token is sealed here to the attested enclave as with
    /// `deposit`, and exchanged at the provider at once; it appears in no report, log or error.
    ///
    /// Reports each line on standard output (with --json an object: line, grant, outcome, token, error) and how far it
    /// is on standard error. Outcomes: imported, present, needs_consent, refused, ill_formed, stopped. What became of
    /// the token: rotated, exposed, pending, left, refused. A line that fails does not stop the others; the exit code
    /// is then not 0.
    ///
    /// Run it again after whatever ended it: the service says of each grant whether it is there, and a grant that is
    /// there is left as it is, so that no token is presented twice. Nothing is kept beside the file.
    #[command(after_long_help = manual!("  tokenkeep grant import grants.jsonl\n  export-grants | tokenkeep --json grant import - > report.jsonl\n\nA line:\n  {\"grant\":\"acme-crm\",\"tenant\":\"acme\",\"app\":\"crm\",\"clients\":[\"sync\"],\"targets\":[\"api\"],\n   \"scopes\":[\"contacts.read\"],\"refresh_token\":\"…\"}    # in one line"))]
    Import(import::ImportArgs),
    /// Have the owner consent at the provider, and make a grant of it
    ///
    /// Prints the provider's page, to be opened in a browser of this machine. What comes back is forwarded to the
    /// enclave, which exchanges it: no token, secret or verifier is ever here. Without a browser here: --device, or
    /// --public.
    #[command(after_long_help = manual!("  tokenkeep grant connect --tenant acme --app crm --grant acme-crm --client sync \\\n      --target api --scope contacts.read\n  tokenkeep grant connect --tenant acme --app crm --grant acme-crm --client sync \\\n      --target api --listen 127.0.0.1:8400    # where the provider wants the port registered\n  tokenkeep grant connect --tenant acme --app crm --grant acme-crm --client sync \\\n      --target api --device    # a code, typed in a browser anywhere"))]
    Connect(connect::ConnectArgs),
    /// Have the owner of a grant consent again: it keeps its id, clients, targets and scopes
    #[command(after_long_help = manual!("  tokenkeep grant reconnect acme-crm"))]
    Reconnect(connect::ReconnectArgs),
    /// Set a grant's terms anew: who answers for it, until when, and what may be done with it
    ///
    /// What no option names stays. It holds from the next token and call on. Who guards the tenant (role
    /// tenant-security) may set less than before; more, the owner alone.
    #[command(after_long_help = manual!("  tokenkeep grant update acme-crm --limit calls=10/s:20 --limit bytes=5G/d\n  tokenkeep grant update acme-crm --target-limit api:calls=2/s\n  tokenkeep grant update acme-crm --owner crm-team@acme.example --purpose 'nightly sync' \\\n      --review 2027-06-30 --sleep-after 30d\n  tokenkeep grant update acme-crm --limit calls=none"))]
    Update(terms::UpdateArgs),
    /// Wake a grant that fell asleep for want of use
    #[command(after_long_help = manual!("  tokenkeep grant wake acme-crm"))]
    Wake {
        /// The grant
        id: String,
    },
    /// List a tenant's grants
    #[command(after_long_help = manual!("  tokenkeep grant list --tenant acme\n  tokenkeep --json grant list --tenant acme\n  tokenkeep grant list --tenant acme --review-before 2027-01-31"))]
    List {
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// Those alone that are to be reviewed before this day
        #[arg(long, value_name = "YYYY-MM-DD", value_parser = date::parse)]
        review_before: Option<u64>,
    },
    /// End a grant for good: its refresh token leaves custody, and nothing is issued or used for it again
    ///
    /// When this returns it is true, whatever was under way. The provider is told afterwards; until it has
    /// answered the grant shows `revocation_pending`, then `provider_told` as proved, refused or unsupported. To use
    /// the id again, delete the grant and deposit a new consent.
    #[command(after_long_help = manual!("  tokenkeep grant revoke acme-crm --reason 'contract ended'"))]
    Revoke {
        /// The grant
        id: String,
        /// Why, for the log
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Delete a grant and all that was kept of it
    ///
    /// The provider is told nothing: revoke the grant first for that.
    #[command(after_long_help = manual!("  tokenkeep grant delete acme-crm"))]
    Delete {
        /// The grant
        id: String,
    },
    /// Show a grant: state, clients, scopes, and the resources to ask tokens for
    #[command(after_long_help = manual!("  tokenkeep grant show acme-crm"))]
    Show {
        /// The grant
        id: String,
    },
}

/// A grant as it is to be.
#[derive(Debug, Args)]
pub(crate) struct GrantArgs {
    /// The tenant that owns the grant
    #[arg(long)]
    tenant: String,
    /// The app that the refresh token was issued to
    #[arg(long)]
    app: String,
    /// The id of the grant
    #[arg(long)]
    grant: String,
    /// A client that may ask for tokens; repeat for more
    #[arg(long = "client", value_name = "CLIENT", required = true)]
    clients: Vec<String>,
    /// A target of the provider that tokens may be used at; repeat for more
    #[arg(long = "target", value_name = "TARGET", required = true)]
    targets: Vec<String>,
    /// An operation that may be called; repeat for more [default: all that the targets have]
    #[arg(long = "operation", value_name = "TARGET/OPERATION")]
    operations: Vec<String>,
    /// The tenant's own host at a target that has one for each tenant; repeat for more
    #[arg(long = "host", value_name = "TARGET=HOST", value_parser = target_host)]
    hosts: Vec<v1::TargetHost>,
    /// A scope that tokens may carry; repeat for more
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// End the grant after so many days [default: no end]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    valid_days: Option<u32>,
    #[command(flatten)]
    terms: terms::TermsArgs,
    /// Let clients have the provider's own tokens, bound to their DPoP keys: what those do, the scopes alone bound
    #[arg(long)]
    allow_upstream_bound: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DepositArgs {
    #[command(flatten)]
    grant: GrantArgs,
    /// The file with the refresh token [default: standard input]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Leave the token as it is: whoever has a copy goes on using it until the first exchange
    #[arg(long)]
    leave_unrotated: bool,
}

pub(crate) async fn run(
    command: GrantCommand,
    channel: &AttestedChannel,
    output: Output,
) -> Result<(), Failure> {
    let mut grants = channel.grants();
    match command {
        GrantCommand::Deposit(deposit) => deposit.run(channel, output).await,
        GrantCommand::Import(import) => Box::pin(import.run(channel, output)).await,
        GrantCommand::Connect(connect) => connect.run(channel, output).await,
        GrantCommand::Reconnect(reconnect) => reconnect.run(channel, output).await,
        GrantCommand::Update(update) => update.run(channel, output).await,
        GrantCommand::Wake { id } => {
            let request = v1::WakeGrantRequest { id };
            let woken = answer(grants.wake_grant(request)).await?.into_inner();
            output.record(&record(woken.grant.ok_or_else(no_grant)?))
        }
        GrantCommand::List {
            tenant,
            review_before,
        } => {
            let found = all_pages(async |page_token| {
                let request = v1::ListGrantsRequest {
                    tenant: tenant.clone(),
                    page_size: 0,
                    page_token,
                    review_before_s: review_before.unwrap_or_default(),
                };
                let page = answer(grants.list_grants(request)).await?.into_inner();
                Ok((page.grants, page.next_page_token))
            })
            .await?;
            let records: Vec<Record> = found.into_iter().map(brief).collect();
            output.records("grants", &records)
        }
        GrantCommand::Revoke { id, reason } => {
            let request = v1::RevokeGrantRequest { id, reason };
            let ended = answer(grants.revoke_grant(request)).await?;
            output.record(&record(ended.into_inner().grant.ok_or_else(no_grant)?))
        }
        GrantCommand::Delete { id } => {
            let request = v1::DeleteGrantRequest { id: id.clone() };
            answer(grants.delete_grant(request)).await?;
            output.record(&Record::new([("id", json!(id)), ("deleted", json!(true))]))
        }
        GrantCommand::Show { id } => {
            let request = v1::GetGrantRequest { id };
            let found = answer(grants.get_grant(request)).await?.into_inner().grant;
            output.record(&record(found.ok_or_else(no_grant)?))
        }
    }
}

impl GrantArgs {
    fn wire(self) -> v1::Grant {
        let Self {
            tenant,
            app,
            grant,
            clients,
            targets,
            operations,
            hosts,
            scopes,
            valid_days,
            terms,
            allow_upstream_bound,
        } = self;
        let expires_at_s = valid_days.map_or(0, |days| {
            let life_s = u64::from(days).saturating_mul(24 * 3_600);
            SystemClock.unix_time_s().saturating_add(life_s)
        });
        v1::Grant {
            id: grant,
            tenant,
            app,
            clients,
            targets,
            scopes,
            expires_at_s,
            operations,
            hosts,
            terms: terms.wire(),
            allow_upstream_bound,
            ..Default::default()
        }
    }
}

impl DepositArgs {
    async fn run(self, channel: &AttestedChannel, output: Output) -> Result<(), Failure> {
        let grant = self.grant.wire();
        let recipient = Box::pin(channel.deposit_recipient()).await?;
        let refresh_token = secret_input::read("refresh token", self.token_file.as_deref())?;
        let sealed_refresh_token =
            recipient.seal_refresh_token(&grant.tenant, &grant.app, &grant.id, &refresh_token)?;
        let request = v1::DepositGrantRequest {
            grant: Some(grant),
            sealed_refresh_token,
            leave_unrotated: self.leave_unrotated,
            only_new: false,
        };
        let made = answer(channel.grants().deposit_grant(request)).await?;
        let made = made.into_inner();
        let (rotation, reason) = (made.rotation(), made.pending_reason);
        let grant = made.grant.ok_or_else(no_grant)?;
        let id = grant.id.clone();
        output.record(&record(grant))?;
        match rotation {
            v1::DepositRotation::Refused => Err(Failure::new(
                Exit::Refused,
                "the provider does not take the token: the grant is there and needs its owner",
                format!("deposit another, or have the owner consent: `tokenkeep grant reconnect {id}`"),
            )),
            v1::DepositRotation::Pending => output.note(&format!(
                "the token is not exchanged yet ({reason}): it is tried again until it is"
            )),
            v1::DepositRotation::Exposed => output.note(
                "the provider gave no token that ends this one: whoever has a copy can go on using it",
            ),
            v1::DepositRotation::Rotated
            | v1::DepositRotation::Left
            | v1::DepositRotation::Unspecified => Ok(()),
        }
    }
}

fn target_host(text: &str) -> Result<v1::TargetHost, String> {
    match text.split_once('=') {
        Some((target, host)) if !target.is_empty() && !host.is_empty() => Ok(v1::TargetHost {
            target: target.to_owned(),
            host: host.to_owned(),
        }),
        Some(_) | None => Err("must be TARGET=HOST".to_owned()),
    }
}

fn no_grant() -> Failure {
    Failure::answer("the answer has no grant")
}

fn state(number: i32) -> String {
    match v1::GrantState::try_from(number) {
        Ok(v1::GrantState::Active) => "active".to_owned(),
        Ok(v1::GrantState::NeedsConsent) => "needs_consent".to_owned(),
        Ok(v1::GrantState::Revoked) => "revoked".to_owned(),
        Ok(v1::GrantState::Asleep) => "asleep".to_owned(),
        Ok(v1::GrantState::Unspecified) | Err(_) => format!("unknown ({number})"),
    }
}

/// What a list shows of a grant.
fn brief(grant: v1::Grant) -> Record {
    let terms = grant.terms.unwrap_or_default();
    Record::new([
        ("id", json!(grant.id)),
        ("app", json!(grant.app)),
        ("state", json!(state(grant.state))),
        ("cause", json!(grant.cause)),
        ("frozen", json!(grant.frozen)),
        ("clients", json!(grant.clients)),
        ("targets", json!(grant.targets)),
        ("scopes", json!(grant.scopes)),
        (
            "exposed_before_deposit",
            json!(grant.exposed_before_deposit),
        ),
        ("owner", json!(terms.owner)),
        ("review", json!(date::shown(terms.review_at_s))),
    ])
}

fn record(grant: v1::Grant) -> Record {
    let v1::Grant {
        id,
        tenant,
        app,
        clients,
        targets,
        scopes,
        state: number,
        cause,
        frozen,
        resources,
        created_at_s,
        refresh_generation,
        revocation_pending,
        expires_at_s,
        provider_told,
        operations,
        hosts,
        exposed_before_deposit,
        terms,
        asleep_since_s,
        last_used_at_s,
        allow_upstream_bound,
    } = grant;
    let v1::GrantTerms {
        limits: own,
        target_limits,
        owner,
        purpose,
        review_at_s,
        sleep_after_idle_s,
        max_actor_depth,
        approval_operations,
    } = terms.unwrap_or_default();
    let hosts = hosts
        .iter()
        .map(|v1::TargetHost { target, host }| format!("{target}={host}"));
    let hosts: Vec<String> = hosts.collect();
    Record::new([
        ("id", json!(id)),
        ("tenant", json!(tenant)),
        ("app", json!(app)),
        ("state", json!(state(number))),
        ("cause", json!(cause)),
        ("frozen", json!(frozen)),
        ("clients", json!(clients)),
        ("targets", json!(targets)),
        ("operations", json!(operations)),
        ("hosts", json!(hosts)),
        ("resources", json!(resources)),
        ("scopes", json!(scopes)),
        ("created_at_s", json!(created_at_s)),
        ("expires_at_s", json!(expires_at_s)),
        ("refresh_generation", json!(refresh_generation)),
        ("revocation_pending", json!(revocation_pending)),
        ("provider_told", json!(provider_told)),
        ("exposed_before_deposit", json!(exposed_before_deposit)),
        ("owner", json!(owner)),
        ("purpose", json!(purpose)),
        ("review", json!(date::shown(review_at_s))),
        ("sleep_after_idle_s", json!(sleep_after_idle_s)),
        ("asleep_since_s", json!(asleep_since_s)),
        ("last_used_at_s", json!(last_used_at_s)),
        ("max_actor_depth", json!(max_actor_depth)),
        ("approval_operations", json!(approval_operations)),
        ("limits", json!(limits::shown(own.as_ref()))),
        (
            "target_limits",
            json!(limits::shown_at_targets(&target_limits)),
        ),
        ("allow_upstream_bound", json!(allow_upstream_bound)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_one_of_a_target() {
        let host = target_host("api=acme.crm.example").unwrap();
        assert_eq!(
            (host.target.as_str(), host.host.as_str()),
            ("api", "acme.crm.example")
        );
        for text in ["", "api", "api=", "=host"] {
            assert_eq!(
                target_host(text),
                Err("must be TARGET=HOST".to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn an_unknown_state_is_never_shown_as_active() {
        assert_eq!(state(v1::GrantState::Active.into()), "active");
        assert_eq!(state(v1::GrantState::NeedsConsent.into()), "needs_consent");
        assert_eq!(state(v1::GrantState::Revoked.into()), "revoked");
        assert_eq!(state(0), "unknown (0)");
        assert_eq!(state(77), "unknown (77)");
    }
}
