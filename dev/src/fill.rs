//! `fill`: a state with many grants, to measure what they cost. Through the enclave's own deposits, but offline.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use attestation::manifest::EnclaveKind;
use attestation::{Attester, AttesterError, DepositContext, DepositEnvelope, DepositError};
use broker::Sockets;
use broker::boot::{Booted, StartError, boot};
use broker::clock::Clock;
use broker::configure::{ConfigureError, configure};
use broker::listener::shutdown;
use broker::root::Ground;
use broker::run::{RunError, open_manifest};
use broker::shell::Shell;
use broker::status::Refusal;
use broker::svid::TrustDomains;
use broker::tls;
use enclave::admin::{
    AdminError, Administrator, DepositRequest, NewApp, PolicyError, Role, SetPolicy,
};
use enclave::http_url::{HttpUrl, HttpUrlError};
use enclave::ids::{AppId, ClientId, GrantId, IdError, ProviderId, TargetName, TenantId, VendorId};
use enclave::limits::Limits;
use enclave::pending::Pending;
use enclave::profile::Profile;
use enclave::registry::{
    Api, App, AuthMethod, Client, ClientKind, Grant, Provider, Rotation, Target,
};
use enclave::registry::{Tenant, Vendor};
use enclave::scope::{ScopeError, Scopes};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::RootCertStore;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::lab::{Lab, LabError, LabFiles};
use crate::names;

/// Deposits under way at a time: one sync of the store serves many of them.
const UNDER_WAY: usize = 256;

/// What a state is filled with.
#[derive(Debug, Clone, Copy)]
pub struct Amount {
    /// Grants.
    pub grants: u32,
    /// Whose they are, in turn.
    pub tenants: u32,
    /// The length of each refresh token; 100 bytes is about what large providers give.
    pub token_bytes: u16,
    /// Each tenant has a policy.
    pub policies: bool,
}

/// What each tenant's policy says: what the lab's client may do anyhow, so that it decides and refuses nothing.
fn policy() -> String {
    let (client, target) = (names::CLIENT, names::TARGET);
    format!(
        r#"@id("worker-tokens")
permit(principal == Client::"{client}", action == Action::"issue", resource)
when {{ context.target == "{target}" }};

@id("worker-calls")
permit(principal == Client::"{client}", action == Action::"call", resource);

@id("nothing-else")
forbid(principal, action, resource)
unless {{ context.target == "{target}" }};
"#
    )
}

/// Why the state was not filled.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The manifest.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The emulated platform.
    #[error(transparent)]
    Platform(#[from] AttesterError),
    /// What the manifest says.
    #[error(transparent)]
    Configure(#[from] ConfigureError),
    /// The state.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Nobody could stop it, and it stopped.
    #[error("the state was not opened")]
    Stopped,
    /// The enclave refused.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The store did not take it.
    #[error("the store did not take it: {}", .0.message)]
    Refused(Refusal),
    /// A name that the lab uses.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A URL that the lab uses.
    #[error(transparent)]
    Url(#[from] HttpUrlError),
    /// The scopes that the lab uses.
    #[error(transparent)]
    Scopes(#[from] ScopeError),
    /// A token can't be sealed.
    #[error(transparent)]
    Seal(#[from] DepositError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// A deposit's task did not end.
    #[error("a deposit did not end")]
    Task(#[from] tokio::task::JoinError),
}

/// A lab's state, opened without a service: the enclave and its store, with nobody who listens.
#[derive(Debug)]
pub struct Opened {
    /// The enclave, its store and its clock.
    pub shell: Arc<Shell>,
    /// The lab.
    pub files: LabFiles,
    /// The lab's ports stay bound: nobody else serves it.
    _sockets: Sockets,
}

/// Opens a lab's state, which no service may use meanwhile.
///
/// # Errors
/// [`FillError`]
pub async fn open(dir: &Path) -> Result<Opened, FillError> {
    let parts = Lab::open(dir)?.into_parts();
    let attester = parts.files.attester()?;
    let signer = attester.host_data()?;
    let (manifest, toml, signature) =
        open_manifest(&parts.host.manifest, &signer, EnclaveKind::Emulated)?;
    let config = configure(&manifest, true, None, parts.host.limits.replay_entries)?;
    let clock = Clock::new(0);
    let issuer = manifest.issuer().as_str();
    let keyholder = parts
        .keyholder
        .map(|keyholder| keyholder.serve(issuer))
        .transpose()?;
    // The lab's keyholder speaks plain HTTP.
    let tls = tls::client(RootCertStore::empty()).map_err(RunError::from)?;
    let signed = (&*toml, &*signature);
    let attester: Arc<dyn Attester> = Arc::new(attester);
    let ground = Ground::new(&parts.host, &manifest, signed, Arc::clone(&attester), tls)?;
    let (_stop, mut stopping) = shutdown();
    let root = Box::pin(ground.open(&mut stopping)).await?;
    let root = root.ok_or(FillError::Stopped)?;
    if let Some(keyholder) = keyholder {
        keyholder.stop().await;
    }
    let keys = root.keys();
    let now = clock.now();
    let retiring = root.retiring();
    let opened = (&*keys, retiring.as_deref());
    let booted = boot(config, &parts.host, opened, &*attester, &now);
    let Booted { enclave, store } = Box::pin(booted).await?;
    let shell = Arc::new(Shell {
        enclave,
        store: Arc::new(store),
        clock,
        trust_domains: TrustDomains::default(),
        root: None,
        changes: watch::Sender::new(0),
        witnessing: None,
        afterwards: TaskTracker::new(),
        consents: Default::default(),
    });
    Ok(Opened {
        shell,
        files: parts.files,
        _sockets: parts.sockets,
    })
}

/// Deposits grants into a lab's state, which no service may use meanwhile. Grants that are there are deposited anew.
///
/// # Errors
/// [`FillError`]
pub async fn fill(dir: &Path, amount: Amount) -> Result<(), FillError> {
    let opened = Box::pin(open(dir)).await?;
    let filler = Arc::new(Filler::new(Arc::clone(&opened.shell), amount)?);
    filler.register(&opened.files).await?;
    let mut under_way = JoinSet::new();
    for number in 0..amount.grants {
        if under_way.len() >= UNDER_WAY
            && let Some(done) = under_way.join_next().await
        {
            done??;
        }
        let filler = Arc::clone(&filler);
        under_way.spawn(async move { filler.deposit(number).await });
        progress(number, amount.grants);
    }
    while let Some(done) = under_way.join_next().await {
        done??;
    }
    filler.shell.store.close();
    Ok(())
}

/// Says at each twentieth how far it is.
fn progress(number: u32, of: u32) {
    let twentieth = of.div_ceil(20).max(1_000);
    if number > 0 && number.checked_rem(twentieth) == Some(0) {
        // Nobody is there to be told if standard error is gone.
        writeln!(io::stderr(), "{number} of {of} grants").unwrap_or_default();
    }
}

struct Filler {
    shell: Arc<Shell>,
    by: Administrator,
    tenants: Vec<TenantId>,
    scopes: Scopes,
    token_bytes: usize,
    policies: bool,
    rng: SystemRandom,
}

impl Filler {
    fn new(shell: Arc<Shell>, amount: Amount) -> Result<Self, FillError> {
        let name = |number: u32| match number {
            0 => names::TENANT.to_owned(),
            number => format!("tenant-{number}"),
        };
        let tenants: Vec<TenantId> = (0..amount.tenants)
            .map(|number| TenantId::parse(&name(number)))
            .collect::<Result<_, _>>()?;
        let mut roles = vec![
            Role::Operator,
            Role::Vendor(VendorId::parse(names::VENDOR)?),
        ];
        roles.extend(tenants.iter().cloned().map(Role::Tenant));
        let by = Administrator {
            name: names::ADMINISTRATOR.to_owned(),
            spki_sha256: [0; 32],
            roles,
        };
        Ok(Self {
            shell,
            by,
            tenants,
            scopes: Scopes::parse(names::SCOPES)?,
            token_bytes: amount.token_bytes.into(),
            policies: amount.policies,
            rng: SystemRandom::new(),
        })
    }

    async fn settle<T: Send + 'static>(&self, pending: Pending<T>) -> Result<T, FillError> {
        self.shell.settle(pending).await.map_err(FillError::Refused)
    }

    /// Registers a tenant or whatever it is, unless it is there.
    async fn new_or_there<T: Send + 'static>(
        &self,
        asked: Result<Pending<T>, AdminError>,
    ) -> Result<(), FillError> {
        match asked {
            Ok(pending) => self.settle(pending).await.map(drop),
            Err(AdminError::Exists(_) | AdminError::Policy(PolicyError::Sequence { .. })) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn register(&self, files: &LabFiles) -> Result<(), FillError> {
        let (enclave, by) = (&self.shell.enclave, &self.by);
        let now = self.shell.clock.now();
        let policy = policy();
        for id in &self.tenants {
            let tenant = Tenant {
                id: id.clone(),
                display_name: "One of many".to_owned(),
                limits: Limits::default(),
            };
            self.new_or_there(enclave.create_tenant(by, tenant, &now))
                .await?;
            if self.policies {
                let change = SetPolicy {
                    tenant: id.clone(),
                    text: Some(policy.as_bytes()),
                    sequence: 0,
                    signature: &[],
                };
                self.new_or_there(enclave.set_policy(by, &change, &now))
                    .await?;
            }
        }
        let vendor_id = VendorId::parse(names::VENDOR)?;
        let vendor = Vendor {
            id: vendor_id.clone(),
            display_name: "CRM Sync".to_owned(),
        };
        self.new_or_there(enclave.create_vendor(by, vendor, &now))
            .await?;
        let client = Client {
            id: ClientId::parse(names::CLIENT)?,
            vendor: vendor_id.clone(),
            tls_spki_sha256: Some(files.client_spki_sha256()?),
            jwks: Vec::new(),
            spiffe_id: None,
            limits: Limits::default(),
            kind: ClientKind::default(),
        };
        self.new_or_there(enclave.create_client(by, client, &now))
            .await?;
        let base_url = HttpUrl::parse("http://127.0.0.1:1/api")?;
        let provider = Provider {
            issuer: None,
            consent: None,
            id: ProviderId::parse(names::PROVIDER)?,
            token_endpoint: HttpUrl::parse("http://127.0.0.1:1/token")?,
            revocation_endpoint: None,
            rotation: Rotation::Strict,
            profile: Profile::default(),
            made_from: None,
            targets: vec![Target {
                name: TargetName::parse(names::TARGET)?,
                api: Api::behind_gateway(base_url),
            }],
        };
        self.new_or_there(enclave.create_provider(by, provider, &now))
            .await?;
        let app = App {
            id: AppId::parse(names::APP)?,
            vendor: vendor_id,
            provider: ProviderId::parse(names::PROVIDER)?,
            oauth_client_id: names::OAUTH_CLIENT_ID.to_owned(),
            auth_method: AuthMethod::None,
            key: None,
        };
        let app = NewApp {
            app,
            sealed_client_secret: &[],
        };
        self.new_or_there(enclave.create_app(by, app, &now)).await
    }

    async fn deposit(&self, number: u32) -> Result<(), FillError> {
        let id = format!("grant-{number:07}");
        let turn = usize::try_from(number)
            .unwrap_or_default()
            .checked_rem(self.tenants.len());
        let tenant = turn
            .and_then(|turn| self.tenants.get(turn))
            .ok_or(AdminError::NotFound("tenant"))?;
        let mut token = vec![0; self.token_bytes.div_ceil(2)];
        self.rng
            .fill(&mut token)
            .map_err(|_unspecified| FillError::Random)?;
        let enclave = &self.shell.enclave;
        let context = DepositContext {
            tenant: tenant.as_str(),
            app: names::APP,
            grant: &id,
            kind: "refresh-token",
            bundle_digest: &enclave.bundle().digest,
        };
        let mut token = hex::encode(token);
        token.truncate(self.token_bytes);
        let public = *enclave.keys().hpke_public();
        let sealed = DepositEnvelope::seal(&public, &context, token.as_bytes(), &self.rng)?;
        let sealed = [sealed.encapsulated_key(), sealed.ciphertext()].concat();
        let grant = Grant {
            id: GrantId::parse(&id)?,
            tenant: tenant.clone(),
            app: AppId::parse(names::APP)?,
            clients: vec![ClientId::parse(names::CLIENT)?],
            targets: vec![TargetName::parse(names::TARGET)?],
            scopes: self.scopes.clone(),
            created_at_s: 0,
            expires_at_s: None,
            operations: Vec::new(),
            hosts: Vec::new(),
            terms: None,
            allow_upstream_bound: false,
        };
        let request = DepositRequest {
            grant,
            sealed_refresh_token: &sealed,
            rotate: false,
            only_new: false,
        };
        let pending = enclave.deposit(&self.by, request, &self.shell.clock.now())?;
        self.settle(pending).await.map(drop)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn tenants_have_their_policies_and_a_second_time_changes_none() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("lab");
        let amount = Amount {
            grants: 3,
            tenants: 3,
            token_bytes: 32,
            policies: true,
        };
        for _ in 0..2 {
            Box::pin(fill(&dir, amount)).await.unwrap();
        }
        let opened = Box::pin(open(&dir)).await.unwrap();
        let filler = Filler::new(Arc::clone(&opened.shell), amount).unwrap();
        for tenant in &filler.tenants {
            let found = opened.shell.enclave.policy(&filler.by, tenant).unwrap();
            assert_eq!((found.sequence, found.text), (1, Some(policy())));
        }
    }
}
