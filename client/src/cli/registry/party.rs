//! `tenant` and `vendor`: organisations.

use clap::Subcommand;
use proto::v1;
use serde_json::{Value, json};
use tokenkeep::AttestedChannel;
use tokenkeep::rpc_error::answer;

use super::{missing, not_found};
use crate::cli::exit::manual;
use crate::cli::failure::Failure;
use crate::cli::limits::{self, LimitChange};
use crate::cli::output::Output;
use crate::cli::pages::all_pages;
use crate::cli::record::Record;

/// Tenants: the organisations whose data is at stake
#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Register a tenant
    #[command(after_long_help = manual!("  tokenkeep tenant create acme --name 'Acme Corp.'"))]
    Create {
        /// The id: 1 to 63 of a-z, 0-9 and single - inside
        id: String,
        /// What people call it
        #[arg(long, default_value = "")]
        name: String,
    },
    /// List the tenants
    #[command(after_long_help = manual!("  tokenkeep tenant list"))]
    List,
    /// Show a tenant, or how far its erasure is
    #[command(after_long_help = manual!("  tokenkeep tenant show acme\n  tokenkeep --json tenant show acme"))]
    Show {
        /// The id
        id: String,
    },
    /// Set what may be done with all of a tenant's grants together
    ///
    /// What no option names stays. It holds from the next token and call on. The tenant's own administrators alone may:
    /// who guards it (role tenant-security) may set less than before, its owner also more.
    #[command(after_long_help = manual!("  tokenkeep tenant limit acme --limit calls=100/s:200 --limit bytes=50G/d\n  tokenkeep tenant limit acme --limit exchanges=none"))]
    Limit {
        /// The id
        id: String,
        /// Tokens, calls, bytes or exchanges, as calls=100/s:200 or calls=none; repeat for more
        #[arg(long = "limit", value_name = limits::FORM, value_parser = limits::limit_change, required = true)]
        limits: Vec<LimitChange>,
    },
    /// Erase a tenant for good: grants, refresh tokens, private parts of its leaves
    ///
    /// Nothing of it is served any more when this returns. Until `tenant show` says `done`, an older copy of the disk
    /// could still be opened by those who are listed as not having confirmed. Providers are told nothing: revoke the
    /// grants first. The id can't be used again.
    #[command(after_long_help = manual!("  tokenkeep tenant erase acme --yes-erase acme"))]
    Erase {
        /// The id
        id: String,
        /// The id once more: there is no way back
        #[arg(long, value_name = "ID")]
        yes_erase: Option<String>,
    },
}

/// Vendors: the organisations that run integrations
#[derive(Debug, Subcommand)]
pub(crate) enum VendorCommand {
    /// Register a vendor
    #[command(after_long_help = manual!("  tokenkeep vendor create drift --name 'Drift Inc.'"))]
    Create {
        /// The id: 1 to 63 of a-z, 0-9 and single - inside
        id: String,
        /// What people call it
        #[arg(long, default_value = "")]
        name: String,
    },
    /// List the vendors
    #[command(after_long_help = manual!("  tokenkeep vendor list"))]
    List,
    /// Show a vendor
    #[command(after_long_help = manual!("  tokenkeep vendor show drift"))]
    Show {
        /// The id
        id: String,
    },
}

pub(crate) async fn run_tenant(
    command: TenantCommand,
    channel: &AttestedChannel,
    output: Output,
) -> Result<(), Failure> {
    let party = tenant_record;
    match command {
        TenantCommand::Create { id, name } => {
            let request = v1::CreateTenantRequest {
                tenant: Some(v1::Tenant {
                    id,
                    display_name: name,
                    limits: None,
                }),
            };
            let made = answer(channel.registry().create_tenant(request)).await?;
            let tenant = made.into_inner().tenant.ok_or_else(|| missing("tenant"))?;
            output.record(&party(tenant))
        }
        TenantCommand::List => {
            let all = tenants(channel).await?;
            let records: Vec<Record> = all.into_iter().map(party).collect();
            output.records("tenants", &records)
        }
        TenantCommand::Show { id } => {
            let request = v1::GetTenantRequest { id };
            let found = answer(channel.registry().get_tenant(request)).await?;
            let found = found.into_inner();
            match (found.tenant, found.erasure) {
                (_, Some(erasure)) => output.record(&erasure_record(erasure)),
                (Some(tenant), None) => output.record(&party(tenant)),
                (None, None) => Err(missing("tenant")),
            }
        }
        TenantCommand::Limit {
            id,
            limits: changes,
        } => {
            let mut registry = channel.registry();
            let request = v1::GetTenantRequest { id: id.clone() };
            let found = answer(registry.get_tenant(request)).await?.into_inner();
            let mut of_tenant = found.tenant.ok_or_else(|| not_found("tenant", &id))?.limits;
            limits::apply(changes, &mut of_tenant);
            let request = v1::SetTenantLimitsRequest {
                id,
                limits: of_tenant,
            };
            let made = answer(registry.set_tenant_limits(request)).await?;
            let tenant = made.into_inner().tenant.ok_or_else(|| missing("tenant"))?;
            output.record(&party(tenant))
        }
        TenantCommand::Erase { id, yes_erase } => {
            if yes_erase.as_deref() != Some(id.as_str()) {
                let what = format!("erasing {id} destroys its grants and refresh tokens for good");
                return Err(Failure::usage(
                    what,
                    format!("say so: `tokenkeep tenant erase {id} --yes-erase {id}`"),
                ));
            }
            let request = v1::EraseTenantRequest { id };
            let begun = answer(channel.registry().erase_tenant(request)).await?;
            let erasure = begun.into_inner().erasure;
            output.record(&erasure_record(erasure.ok_or_else(|| missing("erasure"))?))
        }
    }
}

pub(crate) async fn run_vendor(
    command: VendorCommand,
    channel: &AttestedChannel,
    output: Output,
) -> Result<(), Failure> {
    let party = |vendor: v1::Vendor| record(vendor.id, vendor.display_name);
    match command {
        VendorCommand::Create { id, name } => {
            let request = v1::CreateVendorRequest {
                vendor: Some(v1::Vendor {
                    id,
                    display_name: name,
                }),
            };
            let made = answer(channel.registry().create_vendor(request)).await?;
            let vendor = made.into_inner().vendor.ok_or_else(|| missing("vendor"))?;
            output.record(&party(vendor))
        }
        VendorCommand::List => {
            let all = vendors(channel).await?;
            let records: Vec<Record> = all.into_iter().map(party).collect();
            output.records("vendors", &records)
        }
        VendorCommand::Show { id } => {
            let mut all = vendors(channel).await?.into_iter();
            let found = all.find(|vendor| vendor.id == id);
            output.record(&party(found.ok_or_else(|| not_found("vendor", &id))?))
        }
    }
}

async fn tenants(channel: &AttestedChannel) -> Result<Vec<v1::Tenant>, Failure> {
    let mut registry = channel.registry();
    all_pages(async |page_token| {
        let request = v1::ListTenantsRequest {
            page_size: 0,
            page_token,
        };
        let page = answer(registry.list_tenants(request)).await?.into_inner();
        Ok((page.tenants, page.next_page_token))
    })
    .await
}

async fn vendors(channel: &AttestedChannel) -> Result<Vec<v1::Vendor>, Failure> {
    let mut registry = channel.registry();
    all_pages(async |page_token| {
        let request = v1::ListVendorsRequest {
            page_size: 0,
            page_token,
        };
        let page = answer(registry.list_vendors(request)).await?.into_inner();
        Ok((page.vendors, page.next_page_token))
    })
    .await
}

fn erasure_record(erasure: v1::Erasure) -> Record {
    let v1::Erasure {
        tenant,
        state,
        waits_for,
        begun_at_s,
        done_at_s,
        by,
    } = erasure;
    let done = if done_at_s == 0 {
        Value::Null
    } else {
        json!(done_at_s)
    };
    Record::new([
        ("id", json!(tenant)),
        ("erasure", json!(state)),
        ("waits_for", json!(waits_for)),
        ("begun_at_s", json!(begun_at_s)),
        ("done_at_s", done),
        ("by", json!(by)),
    ])
}

fn tenant_record(tenant: v1::Tenant) -> Record {
    let v1::Tenant {
        id,
        display_name,
        limits: of_tenant,
    } = tenant;
    Record::new([
        ("id", json!(id)),
        ("display_name", json!(display_name)),
        ("limits", json!(limits::shown(of_tenant.as_ref()))),
    ])
}

fn record(id: String, display_name: String) -> Record {
    Record::new([("id", json!(id)), ("display_name", json!(display_name))])
}
