//! The service as its own process beside a provider that the test holds in its hands.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a stack that does not come up fails the test"
)]

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;

use attestation::Platform;
use attestation::manifest::sign_manifest;
use dev::lab::{Lab, LabFiles, keyholder};
use dev::{lab, names, registration};
use http::Uri;
use proto::v1;
use ring::rand::SystemRandom;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tempfile::TempDir;
use testkit::provider::{
    Client, ClientAuth, Config, Consent, Granted, LedgerPage, Provider, Rotation,
};
use tokenkeep::rpc_error::answer;
use tokenkeep::{AttestedChannel, DpopKey, TokenClient, TokenRequest};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::binary::{binary, release_binary};
use crate::caller::{Refused, refused};
use crate::plain::plain_get;
use crate::process::Process;
use crate::wait::wait_for;

/// The program that is the service.
const SERVICE: &str = "tokenkeep-dev";

/// What a stack is to be like. [`Blueprint::default`] is what `tokenkeep-dev up` has, without a grant.
#[derive(Debug)]
pub struct Blueprint {
    /// What follows in the manifest: tables that a lab's does not have, such as `[token]`.
    pub manifest: &'static str,
    /// What follows in `host.toml`: tables that a lab's does not have, such as `[metrics]`.
    pub host_toml: String,
    /// The host of the origins: `127.0.0.1`, or a name for it.
    pub host: &'static str,
    /// What the provider does with a refresh token that is used.
    pub rotation: Rotation,
    /// Begins every token that the provider mints.
    pub token_marker: String,
    /// Life of an upstream access token, seconds.
    pub expires_in_s: u64,
    /// What the service logs: `error`, `warn`, `info` or `debug`.
    pub log_level: &'static str,
    /// Whether it is the service as it ships: of the release profile.
    pub release: bool,
    /// The hardware that is emulated.
    pub platform: Platform,
}

impl Default for Blueprint {
    fn default() -> Self {
        Self {
            manifest: "",
            host_toml: String::new(),
            host: "127.0.0.1",
            rotation: Rotation::Strict,
            token_marker: "provider-".to_owned(),
            expires_in_s: 300,
            log_level: "info",
            release: false,
            platform: Platform::Snp,
        }
    }
}

/// The provider while it can be reached.
#[derive(Debug)]
struct Network {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Network {
    fn on(listener: TcpListener, provider: &Provider) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        // The sender is dropped, never used: either way it is time to stop.
        let stopped = async move { drop(stopped.await) };
        let task = tokio::spawn(testkit::provider::serve(
            listener,
            provider.clone(),
            stopped,
        ));
        Self { stop, task }
    }
}

/// A service in a process of its own, a provider in this one, and their files.
#[derive(Debug)]
pub struct Stack {
    program: PathBuf,
    folder: TempDir,
    files: LabFiles,
    provider: Provider,
    network: Option<Network>,
    service: Process,
    ready: Value,
}

impl Stack {
    /// A stack with everything registered but no grant.
    pub async fn start(blueprint: Blueprint) -> Self {
        let Blueprint {
            manifest,
            host_toml,
            host,
            rotation,
            token_marker,
            expires_in_s,
            log_level,
            release,
            platform,
        } = blueprint;
        let program = match release {
            true => release_binary(SERVICE),
            false => binary(SERVICE),
        };
        let (folder, files) = new_lab(platform, manifest, host, log_level);
        append(&files.path(lab::HOST), &host_toml);
        let secret = files.app_secret().expect("the app's secret");
        let secret = String::from_utf8(secret.to_vec()).expect("a secret of text");
        let config = Config {
            clients: vec![Client::confidential(
                names::OAUTH_CLIENT_ID,
                ClientAuth::SecretBasic(SecretString::from(secret)),
            )],
            rotation,
            token_marker,
            expires_in_s,
            ..Config::default()
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("its number");
        let provider = Provider::new(config, &format!("http://{address}")).expect("a provider");
        let network = Some(Network::on(listener, &provider));
        let (service, ready) = serve(&program, folder.path(), files.dir()).await;
        let stack = Self {
            program,
            folder,
            files,
            provider,
            network,
            service,
            ready,
        };
        let admin = stack.admin().await;
        let url = stack.provider.base_url();
        Box::pin(registration::register(&admin, &stack.files, url))
            .await
            .expect("a registration");
        stack
    }

    /// Starts the service anew on no state, with everything registered and the usual grant.
    pub async fn begin_anew(&mut self) {
        fs::remove_dir_all(self.state()).expect("the state, removed");
        self.restart().await;
        let admin = self.admin().await;
        let url = self.provider.base_url();
        Box::pin(registration::register(&admin, &self.files, url))
            .await
            .expect("a registration");
        self.deposit().await;
    }

    /// A stack with the usual grant.
    pub async fn with_grant(blueprint: Blueprint) -> Self {
        let stack = Self::start(blueprint).await;
        stack.deposit().await;
        stack
    }

    /// The user consents at the provider.
    #[must_use]
    pub fn consent(&self) -> Granted {
        let consent = Consent::of(
            names::OAUTH_CLIENT_ID,
            &names::SCOPES.join(" "),
            names::USER,
        );
        self.provider().consent(&consent).expect("a consent")
    }

    /// The user consents and the tenant's administrator deposits the refresh token, anew if there is a grant.
    pub async fn deposit(&self) -> v1::Grant {
        let admin = self.admin().await;
        Box::pin(registration::deposit(&admin, self.provider()))
            .await
            .expect("a deposit")
    }

    /// A consent of its own, deposited under another id.
    pub async fn deposit_as(&self, id: &str) -> v1::Grant {
        let token = self.consent().refresh_token;
        self.deposit_token(id, token.expose_secret()).await
    }

    /// A given refresh token, deposited.
    pub async fn deposit_token(&self, id: &str, refresh_token: &str) -> v1::Grant {
        self.deposit_token_for(id, refresh_token, &names::SCOPES)
            .await
    }

    /// A given refresh token, deposited for these scopes.
    pub async fn deposit_token_for(
        &self,
        id: &str,
        refresh_token: &str,
        scopes: &[&str],
    ) -> v1::Grant {
        let admin = self.admin().await;
        let recipient = admin.deposit_recipient().await.expect("a recipient");
        let sealed = recipient
            .seal_refresh_token(names::TENANT, names::APP, id, refresh_token.as_bytes())
            .expect("a sealed token");
        let request = v1::DepositGrantRequest {
            grant: Some(v1::Grant {
                id: id.to_owned(),
                tenant: names::TENANT.to_owned(),
                app: names::APP.to_owned(),
                clients: vec![names::CLIENT.to_owned()],
                targets: vec![names::TARGET.to_owned()],
                scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
                ..v1::Grant::default()
            }),
            sealed_refresh_token: sealed,
            leave_unrotated: true,
            only_new: false,
        };
        let made = answer(admin.grants().deposit_grant(request)).await;
        made.expect("a deposit")
            .into_inner()
            .grant
            .expect("a grant")
    }

    /// A grant as its administrator sees it.
    pub async fn grant(&self, id: &str) -> v1::Grant {
        let request = v1::GetGrantRequest { id: id.to_owned() };
        let admin = self.admin().await;
        let found = answer(admin.grants().get_grant(request)).await;
        found
            .expect("an answer")
            .into_inner()
            .grant
            .expect("a grant")
    }

    /// State and cause of a grant.
    pub async fn grant_state(&self, id: &str) -> (v1::GrantState, String) {
        let grant = self.grant(id).await;
        (grant.state(), grant.cause)
    }

    /// Ends a grant for good, if that is acknowledged.
    ///
    /// # Errors
    /// The refusal: code and stable reason.
    pub async fn try_revoke(&self, id: &str) -> Result<(), Refused> {
        let request = v1::RevokeGrantRequest {
            id: id.to_owned(),
            reason: String::new(),
        };
        let admin = self.admin().await;
        let ended = admin.grants().revoke_grant(request).await;
        ended.map(|_| ()).map_err(refused)
    }

    /// Whether the service gives a token now; not if it can't be reached.
    pub async fn try_issue(&self) -> bool {
        let Ok(config) = self.files.client_config(self.url("grpc_url")) else {
            return false;
        };
        let Ok(channel) = Box::pin(AttestedChannel::connect(&config)).await else {
            return false;
        };
        let client = TokenClient::new(&channel, self.dpop_key() as _);
        let request = TokenRequest::new(names::GRANT.to_owned(), self.resource());
        client.token(&request).await.is_ok()
    }

    /// Whether the service's process runs.
    pub fn running(&mut self) -> bool {
        self.service.running()
    }

    /// Stops a subject.
    pub async fn freeze(&self, subject: v1::freeze_subject::Subject) {
        let request = v1::FreezeRequest {
            subject: Some(v1::FreezeSubject {
                subject: Some(subject),
            }),
            reason: "a test".to_owned(),
            tenant: names::TENANT.to_owned(),
        };
        let admin = self.admin().await;
        answer(admin.grants().freeze(request))
            .await
            .expect("a freeze");
    }

    /// Ends a freeze.
    pub async fn thaw(&self, subject: v1::freeze_subject::Subject) {
        let request = v1::ThawRequest {
            subject: Some(v1::FreezeSubject {
                subject: Some(subject),
            }),
            tenant: names::TENANT.to_owned(),
        };
        let admin = self.admin().await;
        answer(admin.grants().thaw(request)).await.expect("a thaw");
    }

    /// The tenant's, vendor's and operator's administrator over a verified channel.
    pub async fn admin(&self) -> AttestedChannel {
        let config = self.files.admin_config(self.url("grpc_url"));
        connect(&config.expect("the administrator's files")).await
    }

    /// The client over a verified channel.
    pub async fn client(&self) -> AttestedChannel {
        let config = self.files.client_config(self.url("grpc_url"));
        connect(&config.expect("the client's files")).await
    }

    /// A verified channel of nobody's: without a certificate.
    pub async fn nobody(&self) -> AttestedChannel {
        let config = self.files.client_config(self.url("grpc_url"));
        let mut config = config.expect("the client's files");
        config.client_identity = None;
        connect(&config).await
    }

    /// The client's DPoP key.
    #[must_use]
    pub fn dpop_key(&self) -> Arc<DpopKey> {
        Arc::new(self.files.dpop_key().expect("the DPoP key"))
    }

    /// A URL of the service's ready line: `grpc_url`, `public_url`, `gateway_url`, `issuer`.
    #[must_use]
    pub fn url(&self, name: &str) -> &str {
        self.ready
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("the ready line has no {name}"))
    }

    /// The gRPC origin, for generated clients.
    #[must_use]
    pub fn grpc_uri(&self) -> Uri {
        self.url("grpc_url").parse().expect("a URI")
    }

    /// The resource indicator of the API behind the gateway.
    #[must_use]
    pub fn resource(&self) -> String {
        names::resource(self.url("gateway_url"))
    }

    /// The provider.
    #[must_use]
    pub const fn provider(&self) -> &Provider {
        &self.provider
    }

    /// Takes the provider off the network; it keeps what it knows.
    pub async fn provider_down(&mut self) {
        if let Some(Network { stop, task }) = self.network.take() {
            drop(stop);
            task.await.expect("the provider's task");
        }
    }

    /// Brings it back at its old address.
    pub async fn provider_up(&mut self) {
        let address = self.provider.base_url().trim_start_matches("http://");
        let listener = wait_for("the provider's port is free", async || {
            TcpListener::bind(address).await.ok()
        })
        .await;
        self.network = Some(Network::on(listener, &self.provider));
    }

    /// What the provider wrote down.
    #[must_use]
    pub fn ledger(&self) -> LedgerPage {
        self.provider().ledger()
    }

    /// The lab's files.
    #[must_use]
    pub const fn files(&self) -> &LabFiles {
        &self.files
    }

    /// The directory of the service's state: store and envelope.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.files.path("state")
    }

    /// The directory of all logs and outputs.
    #[must_use]
    pub fn logs(&self) -> &Path {
        self.folder.path()
    }

    /// What the service has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.service.stderr()
    }

    /// Where the listener for metrics is, if `host_toml` has one: the log tells its port.
    #[must_use]
    pub fn metrics_addr(&self) -> String {
        let log = self.log();
        let events = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut started = events.filter_map(|event| {
            let is_it = event.get("event")?.as_str()? == "metrics_started";
            is_it.then(|| event.get("addr")?.as_str().map(str::to_owned))?
        });
        started.next_back().expect("a listener for metrics")
    }

    /// What the listener for metrics tells, in a page that was made after this was asked.
    pub async fn metrics(&self) -> String {
        let address = self.metrics_addr();
        let page = async || {
            let (status, page) = plain_get(&address, "/metrics").await;
            assert_eq!(status, 200, "{page}");
            let number = page
                .lines()
                .find_map(|line| line.strip_prefix("tokenkeep_metrics_pages_total "))
                .and_then(|number| number.parse::<u64>().ok());
            (number.expect("its number"), page)
        };
        let (before, _) = page().await;
        wait_for("a new page", async || {
            let (number, page) = page().await;
            (number > before).then_some(page)
        })
        .await
    }

    /// How many shares the lab's own keyholder holds for this service.
    #[must_use]
    pub fn own_shares(&self) -> usize {
        keyholder::shares(self.files.dir(), self.url("issuer")).expect("the lab's keyholder")
    }

    /// The one share that the lab's own keyholder holds.
    #[must_use]
    pub fn own_share(&self) -> PathBuf {
        let deployments = self.files.path(lab::KEYHOLDER).join("deployments");
        let only = |folder: PathBuf| {
            let mut entries = fs::read_dir(folder).expect("a folder");
            let entry = entries.next().expect("an entry");
            entry.expect("an entry").path()
        };
        only(only(deployments).join("shares"))
    }

    /// The service's process.
    #[must_use]
    pub const fn service(&self) -> &Process {
        &self.service
    }

    /// Kills the service outright.
    pub async fn kill(&mut self) {
        self.service.kill().await;
    }

    /// SIGTERM, and how the service ended.
    pub async fn stop(&mut self) -> ExitStatus {
        self.service.stop().await
    }

    /// How the service ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        self.service.ended().await
    }

    /// Starts the service again, on the same files and ports.
    pub async fn restart(&mut self) {
        let (service, ready) = serve(&self.program, self.folder.path(), self.files.dir()).await;
        self.service = service;
        self.ready = ready;
    }

    /// Starts the service again, if it starts.
    ///
    /// # Errors
    /// It does not: how it ended, and what it said.
    pub async fn try_restart(&mut self) -> Result<(), (ExitStatus, String)> {
        let before = self.service.stderr().len();
        let mut service = start(&self.program, self.folder.path(), self.files.dir());
        let came_up = service.ready().await;
        self.service = service;
        match came_up {
            Ok(ready) => {
                self.ready = ready;
                Ok(())
            }
            Err((status, text)) => Err((status, text.get(before..).unwrap_or_default().to_owned())),
        }
    }
}

async fn connect(config: &tokenkeep::AttestedConfig) -> AttestedChannel {
    Box::pin(AttestedChannel::connect(config))
        .await
        .expect("a verified channel")
}

/// A lab whose manifest says more than usual, signed anew.
fn new_lab(platform: Platform, more: &str, host: &str, log_level: &str) -> (TempDir, LabFiles) {
    let folder = tempfile::Builder::new()
        .prefix("tokenkeep-test-")
        .tempdir()
        .expect("a temporary directory");
    let files = Lab::open_on(&folder.path().join("lab"), Some(platform))
        .expect("a lab")
        .into_parts()
        .files;
    sign(&files, |manifest| {
        // Not the keyholder's: what calls it is no browser.
        let manifest = manifest.replace("https://127.0.0.1:", &format!("https://{host}:"));
        format!("{manifest}\n{more}")
    });
    let host = files.path(lab::HOST);
    let text = fs::read_to_string(&host).expect("host.toml");
    let text = text.replace("level = \"info\"", &format!("level = \"{log_level}\""));
    fs::write(&host, text).expect("host.toml written");
    (folder, files)
}

fn append(path: &Path, more: &str) {
    let text = fs::read_to_string(path).expect("a file of text");
    fs::write(path, format!("{text}\n{more}")).expect("it written");
}

/// Changes a lab's manifest and signs it with the lab's own signer.
pub fn sign(files: &LabFiles, change: impl FnOnce(String) -> String) {
    let path = files.path(lab::MANIFEST);
    let manifest = change(fs::read_to_string(&path).expect("a manifest"));
    let signer =
        PrivatePkcs8KeyDer::from_pem_file(files.path(lab::SIGNER)).expect("the signer's key");
    let signature = sign_manifest(
        manifest.as_bytes(),
        signer.secret_pkcs8_der(),
        &SystemRandom::new(),
    );
    fs::write(&path, manifest).expect("the manifest written");
    fs::write(files.path(lab::SIGNATURE), signature.expect("a signature")).expect("it written");
}

fn start(program: &Path, logs: &Path, lab: &Path) -> Process {
    let lab = lab.to_str().expect("a path of text");
    Process::start(program, &["serve", "--state", lab], logs, "service")
}

/// Starts the service; a port that something else took for a moment is waited for.
async fn serve(program: &Path, logs: &Path, lab: &Path) -> (Process, Value) {
    wait_for("the service is ready", async || {
        let mut service = start(program, logs, lab);
        match service.ready().await {
            Ok(ready) => Some((service, ready)),
            Err((_, text)) if text.ends_with("name another --state directory\n") => None,
            Err((status, text)) => panic!("the service did not come up ({status}): {text}"),
        }
    })
    .await
}
