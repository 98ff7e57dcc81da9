//! One good request for every RPC, with who makes it and what the log must say of it.
//!
//! **For a new RPC add a row to [`all`]**: by whom it is asked, so that it succeeds in the [`World`] as it is, and the
//! kind and words of its leaf if it changes anything. The bars of the controls then cover it: it is asked by everybody
//! else with the same ids and with ids that look alike, its answers are searched, and its leaf is looked for. The rows
//! are asked in their order.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a failed test may panic"
)]

use dev::names;
use proto::v1;
use proto::v1::freeze_subject::Subject;
use secrecy::ExposeSecret as _;

use super::contract::Contract;
use super::world::{
    CONSENTING, HOOK, KNOWN_KEY, LISTED, OTHER_CLIENT, OTHER_TENANT, OTHER_VENDOR, POLICY, World,
    bytes, consent_of, new_spki,
};

/// Who makes a request so that it succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// The one with the roles of operator, owner and vendor.
    Root,
    /// The victim's owner alone.
    Owner,
    /// The victim's client.
    Client,
    /// Anybody.
    Anyone,
}

/// What the log must say of a change.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// The kind of the leaf.
    pub(super) kind: &'static str,
    /// What it must name.
    pub(super) names: Vec<String>,
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// `GrantService/GetGrant`.
    pub(super) rpc: &'static str,
    pub(super) by: By,
    pub(super) message: Vec<u8>,
    /// None for what changes nothing that lasts.
    pub(super) told: Option<Told>,
}

fn reads(rpc: &'static str, by: By, message: &impl prost::Message) -> Ask {
    Ask {
        rpc,
        by,
        message: bytes(message),
        told: None,
    }
}

fn changes(
    rpc: &'static str,
    by: By,
    message: &impl prost::Message,
    kind: &'static str,
    names: &[&str],
) -> Ask {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Ask {
        told: Some(Told { kind, names }),
        ..reads(rpc, by, message)
    }
}

/// A good request for each RPC of the contract.
///
/// # Panics
/// The contract has an RPC that there is no request for, or the other way round.
pub(super) async fn all(world: &World, contract: &Contract) -> Vec<Ask> {
    let mut asks = attestation_and_audit();
    asks.extend(tokens(world));
    asks.extend(Box::pin(registry(world)).await);
    asks.extend(Box::pin(grants(world)).await);
    asks.extend(policy_and_freezes());
    asks.extend(events(world));
    asks.extend(keys_and_the_end());
    for rpc in &contract.rpcs {
        let rows = asks.iter().filter(|ask| ask.rpc == rpc.name).count();
        assert_eq!(
            rows, 1,
            "control_bars/asks.rs needs one good request for {}: add a row, so that the bars cover it",
            rpc.name
        );
    }
    let gone = asks
        .iter()
        .find(|ask| !contract.rpcs.iter().any(|rpc| rpc.name == ask.rpc));
    assert!(gone.is_none(), "the contract has no {gone:?} any more");
    asks
}

fn attestation_and_audit() -> Vec<Ask> {
    let tenant = || names::TENANT.to_owned();
    vec![
        reads(
            "AttestationService/GetEvidence",
            By::Anyone,
            &v1::GetEvidenceRequest {
                nonce: vec![7; 32],
                purpose: v1::Purpose::Server.into(),
            },
        ),
        reads(
            "AttestationService/GetManifest",
            By::Anyone,
            &v1::GetManifestRequest {},
        ),
        reads(
            "AttestationService/ProveConnection",
            By::Anyone,
            &v1::ProveConnectionRequest::default(),
        ),
        reads(
            "AuditService/ListLogs",
            By::Anyone,
            &v1::ListLogsRequest::default(),
        ),
        reads(
            "AuditService/GetCheckpoint",
            By::Anyone,
            &v1::GetCheckpointRequest::default(),
        ),
        reads(
            "AuditService/ProveInclusion",
            By::Anyone,
            &v1::ProveInclusionRequest::default(),
        ),
        reads(
            "AuditService/ProveConsistency",
            By::Anyone,
            &v1::ProveConsistencyRequest {
                old_size: 1,
                ..v1::ProveConsistencyRequest::default()
            },
        ),
        reads(
            "AuditService/ListLeaves",
            By::Owner,
            &v1::ListLeavesRequest {
                tenant: tenant(),
                page_size: 1_000,
                ..v1::ListLeavesRequest::default()
            },
        ),
        reads(
            "AuditService/MakeEvidenceBundle",
            By::Owner,
            &v1::MakeEvidenceBundleRequest {
                tenant: tenant(),
                nonce: vec![7; 32],
            },
        ),
        reads(
            "AuditService/TailLeaves",
            By::Owner,
            &v1::TailLeavesRequest {
                tenant: tenant(),
                ..v1::TailLeavesRequest::default()
            },
        ),
    ]
}

fn tokens(world: &World) -> Vec<Ask> {
    vec![
        changes(
            "TokenService/IssueToken",
            By::Client,
            &world.caller.request(),
            "token_issued",
            &[names::GRANT, names::CLIENT],
        ),
        changes(
            "TokenService/IssueTokens",
            By::Client,
            &v1::IssueTokensRequest {
                tokens: vec![v1::TokenAsk {
                    grant: world.caller.request().grant,
                    resource: world.caller.request().resource,
                    ..v1::TokenAsk::default()
                }],
                ..v1::IssueTokensRequest::default()
            },
            "token_issued",
            &[names::GRANT, names::CLIENT],
        ),
        reads(
            "TokenService/IntrospectToken",
            By::Client,
            &v1::IntrospectTokenRequest {
                token: world.token.clone(),
            },
        ),
        changes(
            "TokenService/RevokeToken",
            By::Client,
            &v1::RevokeTokenRequest {
                token: world.second_token.clone(),
            },
            "token_revoked",
            &[names::GRANT, names::CLIENT],
        ),
    ]
}

fn new_client(id: &str, vendor: &str) -> v1::Client {
    v1::Client {
        id: id.to_owned(),
        vendor: vendor.to_owned(),
        tls_spki_sha256: new_spki(),
        ..v1::Client::default()
    }
}

fn new_app(id: &str, vendor: &str) -> v1::CreateAppRequest {
    v1::CreateAppRequest {
        app: Some(v1::App {
            id: id.to_owned(),
            vendor: vendor.to_owned(),
            provider: CONSENTING.to_owned(),
            oauth_client_id: "somebody-else".to_owned(),
            auth_method: v1::ClientAuthMethod::None.into(),
            ..v1::App::default()
        }),
        sealed_client_secret: Vec::new(),
    }
}

fn limit(amount: u64) -> Option<v1::Limits> {
    let limit = v1::Limit {
        amount,
        period_s: 1,
        burst: 0,
    };
    Some(v1::Limits {
        tokens: Some(limit),
        ..v1::Limits::default()
    })
}

async fn registry(world: &World) -> Vec<Ask> {
    let id = |id: &str| id.to_owned();
    let by = By::Root;
    let provider = v1::GetProviderRequest {
        id: id(names::PROVIDER),
    };
    let found = world.root.registry().get_provider(provider.clone()).await;
    let found = found.unwrap().into_inner().provider.unwrap();
    let new_provider = v1::Provider {
        id: id("made-provider"),
        ..found
    };
    // As it is registered, with a limit that is wide.
    let own_client = v1::Client {
        id: id(names::CLIENT),
        vendor: id(names::VENDOR),
        tls_spki_sha256: world.stack.files().client_spki_sha256().unwrap().to_vec(),
        limits: limit(100_000),
        ..v1::Client::default()
    };
    vec![
        changes(
            "RegistryService/CreateTenant",
            by,
            &v1::CreateTenantRequest {
                tenant: Some(v1::Tenant {
                    id: id("made-tenant"),
                    ..v1::Tenant::default()
                }),
            },
            "registered",
            &["tenant", "made-tenant"],
        ),
        reads(
            "RegistryService/ListTenants",
            by,
            &v1::ListTenantsRequest::default(),
        ),
        reads(
            "RegistryService/GetTenant",
            By::Owner,
            &v1::GetTenantRequest {
                id: id(names::TENANT),
            },
        ),
        changes(
            "RegistryService/SetTenantLimits",
            By::Owner,
            &v1::SetTenantLimitsRequest {
                id: id(names::TENANT),
                limits: limit(100_001),
            },
            "tenant_limits_set",
            &["100001"],
        ),
        changes(
            "RegistryService/CreateVendor",
            by,
            &v1::CreateVendorRequest {
                vendor: Some(v1::Vendor {
                    id: id("made-vendor"),
                    display_name: String::new(),
                }),
            },
            "registered",
            &["vendor", "made-vendor"],
        ),
        reads(
            "RegistryService/ListVendors",
            by,
            &v1::ListVendorsRequest::default(),
        ),
        changes(
            "RegistryService/CreateClient",
            by,
            &v1::CreateClientRequest {
                client: Some(new_client("made-client", names::VENDOR)),
            },
            "registered",
            &["client", "made-client"],
        ),
        reads(
            "RegistryService/GetClient",
            by,
            &v1::GetClientRequest {
                id: id(names::CLIENT),
            },
        ),
        changes(
            "RegistryService/UpdateClient",
            by,
            &v1::UpdateClientRequest {
                client: Some(own_client),
            },
            "client_changed",
            &[names::CLIENT],
        ),
        reads(
            "RegistryService/ListClients",
            by,
            &v1::ListClientsRequest {
                vendor: id(names::VENDOR),
                ..v1::ListClientsRequest::default()
            },
        ),
        changes(
            "RegistryService/CreateProvider",
            by,
            &v1::CreateProviderRequest {
                provider: Some(new_provider),
                profile_file: None,
            },
            "registered",
            &["provider", "made-provider"],
        ),
        reads("RegistryService/GetProvider", by, &provider),
        reads(
            "RegistryService/ListProviders",
            by,
            &v1::ListProvidersRequest::default(),
        ),
        changes(
            "RegistryService/CreateApp",
            by,
            &new_app("made-app", names::VENDOR),
            "registered",
            &["app", "made-app"],
        ),
        reads(
            "RegistryService/GetApp",
            by,
            &v1::GetAppRequest { id: id(names::APP) },
        ),
        reads(
            "RegistryService/ListApps",
            by,
            &v1::ListAppsRequest {
                vendor: id(names::VENDOR),
                ..v1::ListAppsRequest::default()
            },
        ),
    ]
}

/// A deposit of a consent of its own.
async fn deposit(world: &World, tenant: &str, id: &str) -> v1::DepositGrantRequest {
    let token = world.stack.consent().refresh_token;
    let recipient = world.root.deposit_recipient().await.unwrap();
    let token = token.expose_secret().as_bytes();
    let sealed = recipient.seal_refresh_token(tenant, names::APP, id, token);
    v1::DepositGrantRequest {
        grant: Some(v1::Grant {
            id: id.to_owned(),
            tenant: tenant.to_owned(),
            app: names::APP.to_owned(),
            ..consent_of(id)
        }),
        sealed_refresh_token: sealed.unwrap(),
        leave_unrotated: true,
        only_new: false,
    }
}

async fn grants(world: &World) -> Vec<Ask> {
    let id = |id: &str| id.to_owned();
    let by = By::Owner;
    let begun = By::Root;
    vec![
        changes(
            "GrantService/DepositGrant",
            by,
            &deposit(world, names::TENANT, "made-grant").await,
            "deposited",
            &["made-grant"],
        ),
        reads(
            "GrantService/BeginConnect",
            by,
            &v1::BeginConnectRequest {
                grant: Some(consent_of("to-connect")),
                redirect_uri: "http://127.0.0.1:7/callback".to_owned(),
            },
        ),
        changes(
            "GrantService/CompleteConnect",
            begun,
            &v1::CompleteConnectRequest {
                state: world.state.clone(),
                code: "code".to_owned(),
                ..v1::CompleteConnectRequest::default()
            },
            "connected",
            &["connected"],
        ),
        reads(
            "GrantService/BeginDeviceConnect",
            by,
            &v1::BeginDeviceConnectRequest {
                grant: Some(consent_of("to-connect")),
            },
        ),
        // What a person does at the provider, and no administrator, makes the grant.
        reads(
            "GrantService/AwaitConnect",
            begun,
            &v1::AwaitConnectRequest {
                handle: world.handle.clone(),
            },
        ),
        reads(
            "GrantService/GetGrant",
            by,
            &v1::GetGrantRequest {
                id: id(names::GRANT),
            },
        ),
        reads(
            "GrantService/ListGrants",
            by,
            &v1::ListGrantsRequest {
                tenant: id(names::TENANT),
                ..v1::ListGrantsRequest::default()
            },
        ),
        changes(
            "GrantService/UpdateGrant",
            by,
            &v1::UpdateGrantRequest {
                id: id("to-update"),
                terms: Some(v1::GrantTerms {
                    purpose: "another purpose".to_owned(),
                    ..v1::GrantTerms::default()
                }),
            },
            "grant_changed",
            &["to-update", "another purpose"],
        ),
        changes(
            "GrantService/WakeGrant",
            by,
            &v1::WakeGrantRequest { id: id("to-sleep") },
            "grant_woken",
            &["to-sleep"],
        ),
        reads(
            "GrantService/ListApprovals",
            by,
            &v1::ListApprovalsRequest {
                tenant: id(names::TENANT),
            },
        ),
        changes(
            "GrantService/DecideApproval",
            by,
            &v1::DecideApprovalRequest {
                id: world.approval.clone(),
                decision: v1::ApprovalDecision::Deny.into(),
                reason: "not today".to_owned(),
            },
            "approval_denied",
            &[LISTED, &world.approval, "not today"],
        ),
        changes(
            "GrantService/RevokeGrant",
            by,
            &v1::RevokeGrantRequest {
                id: id("to-revoke"),
                reason: "no longer".to_owned(),
            },
            "grant_revoked",
            &["to-revoke", "no longer"],
        ),
        changes(
            "GrantService/DeleteGrant",
            by,
            &v1::DeleteGrantRequest {
                id: id("to-delete"),
            },
            "grant_deleted",
            &["to-delete"],
        ),
    ]
}

fn policy_and_freezes() -> Vec<Ask> {
    let id = |id: &str| id.to_owned();
    let by = By::Owner;
    let subject = |subject| {
        Some(v1::FreezeSubject {
            subject: Some(subject),
        })
    };
    // A permission is the same by whatever id: this forbids beside it.
    let same = POLICY.replace("canary-policy-61fe", "everything");
    let tighter = format!(
        "{same}@id(\"no-deletes\")\nforbid(principal, action == Action::\"call\", resource)\n\
         when {{ context.method == \"DELETE\" }};\n"
    );
    vec![
        changes(
            "GrantService/SetPolicy",
            by,
            &v1::SetPolicyRequest {
                tenant: id(names::TENANT),
                text: tighter,
                sequence: 1,
                ..v1::SetPolicyRequest::default()
            },
            "policy_set",
            &["\"sequence\":2"],
        ),
        reads(
            "GrantService/GetPolicy",
            by,
            &v1::GetPolicyRequest {
                tenant: id(names::TENANT),
            },
        ),
        changes(
            "GrantService/Freeze",
            by,
            &v1::FreezeRequest {
                subject: subject(Subject::Grant(id("to-update"))),
                reason: "a look at it".to_owned(),
                tenant: id(names::TENANT),
            },
            "frozen",
            &["grant/to-update", "a look at it"],
        ),
        changes(
            "GrantService/Thaw",
            by,
            &v1::ThawRequest {
                subject: subject(Subject::Jkt(id(KNOWN_KEY))),
                tenant: id(names::TENANT),
            },
            "thawed",
            &[KNOWN_KEY],
        ),
        reads(
            "GrantService/ListFreezes",
            by,
            &v1::ListFreezesRequest {
                tenant: id(names::TENANT),
            },
        ),
    ]
}

fn events(world: &World) -> Vec<Ask> {
    let (tenant, by) = (|| names::TENANT.to_owned(), By::Owner);
    let id = |id: &str| id.to_owned();
    vec![
        reads(
            "EventService/Watch",
            by,
            &v1::WatchRequest {
                tenant: tenant(),
                from: Some(0),
                until_now: true,
                ..v1::WatchRequest::default()
            },
        ),
        changes(
            "EventService/CreateWebhook",
            by,
            &v1::CreateWebhookRequest {
                tenant: tenant(),
                id: id("made-webhook"),
                url: world.receiver.url.clone(),
                kinds: vec![v1::EventKind::PolicyChange.into()],
                from: None,
            },
            "webhook_created",
            &["made-webhook"],
        ),
        reads(
            "EventService/ListWebhooks",
            by,
            &v1::ListWebhooksRequest { tenant: tenant() },
        ),
        reads(
            "EventService/GetWebhook",
            by,
            &v1::GetWebhookRequest {
                tenant: tenant(),
                id: id(HOOK),
            },
        ),
        changes(
            "EventService/DeleteWebhook",
            by,
            &v1::DeleteWebhookRequest {
                tenant: tenant(),
                id: id("to-unhook"),
            },
            "webhook_deleted",
            &["to-unhook"],
        ),
        reads(
            "EventService/TestWebhook",
            by,
            &v1::TestWebhookRequest {
                tenant: tenant(),
                id: id(HOOK),
            },
        ),
    ]
}

fn keys_and_the_end() -> Vec<Ask> {
    let tenant = || names::TENANT.to_owned();
    vec![
        reads(
            "KeyService/ListKeys",
            By::Owner,
            &v1::ListKeysRequest { tenant: tenant() },
        ),
        changes(
            "KeyService/RotateKey",
            By::Owner,
            &v1::RotateKeyRequest {
                kind: v1::KeyKind::Tenant.into(),
                tenant: tenant(),
                overlap_s: None,
            },
            "tenant_key_rotated",
            &["\"number\":2"],
        ),
        changes(
            "RegistryService/EraseTenant",
            By::Root,
            &v1::EraseTenantRequest { id: tenant() },
            "tenant_erased",
            &[names::TENANT],
        ),
    ]
}

/// What others try in their own names: to take what is the victim's by its id.
pub(super) async fn claims(world: &World) -> Vec<Ask> {
    let own = |id: &str| v1::Grant {
        tenant: OTHER_TENANT.to_owned(),
        ..consent_of(id)
    };
    let redirect_uri = "http://127.0.0.1:7/callback".to_owned();
    let client = |id: &str| v1::Client {
        id: id.to_owned(),
        ..new_client(id, OTHER_VENDOR)
    };
    let by = By::Anyone;
    vec![
        reads(
            "GrantService/DepositGrant",
            by,
            &deposit(world, OTHER_TENANT, names::GRANT).await,
        ),
        reads(
            "GrantService/BeginConnect",
            by,
            &v1::BeginConnectRequest {
                grant: Some(own(names::GRANT)),
                redirect_uri,
            },
        ),
        reads(
            "GrantService/BeginDeviceConnect",
            by,
            &v1::BeginDeviceConnectRequest {
                grant: Some(own(names::GRANT)),
            },
        ),
        reads(
            "RegistryService/CreateClient",
            by,
            &v1::CreateClientRequest {
                client: Some(client(names::CLIENT)),
            },
        ),
        reads(
            "RegistryService/UpdateClient",
            by,
            &v1::UpdateClientRequest {
                client: Some(client(names::CLIENT)),
            },
        ),
        reads(
            "RegistryService/UpdateClient",
            by,
            &v1::UpdateClientRequest {
                client: Some(v1::Client {
                    tls_spki_sha256: world.stack.files().client_spki_sha256().unwrap().to_vec(),
                    ..client(OTHER_CLIENT)
                }),
            },
        ),
        reads(
            "RegistryService/CreateApp",
            by,
            &new_app(names::APP, OTHER_VENDOR),
        ),
    ]
}
