//! The service: from configuration and attester to three listeners, until it is
//! told to stop.

use std::net::TcpListener as StdTcpListener;
use std::sync::Arc;
use std::time::Duration;

use attestation::manifest::{EnclaveKind, Manifest, ManifestError};
use attestation::{Attester, AttesterError, Roots, RootsError};
use enclave::log::LogError;
use futures_util::future::join_all;
use proto::v1::attestation_service_server::AttestationServiceServer;
use proto::v1::audit_service_server::AuditServiceServer;
use proto::v1::event_service_server::EventServiceServer;
use proto::v1::grant_service_server::GrantServiceServer;
use proto::v1::key_service_server::KeyServiceServer;
use proto::v1::registry_service_server::RegistryServiceServer;
use proto::v1::token_service_server::TokenServiceServer;
use rustls::RootCertStore;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use crate::boot::{Booted, StartError, boot};
use crate::caretaker;
use crate::clock::Clock;
use crate::collateral::{Supplier, Supply};
use crate::configure::{ConfigureError, configure, known_witnesses};
use crate::consents::Consents;
use crate::events;
use crate::evidence::EvidenceDesk;
use crate::evidence_bundle::Bundler;
use crate::files::{FileError, read_bounded};
use crate::gateway::Gateway;
use crate::gateway::proved::Proved;
use crate::grpc::attestation::Attestation;
use crate::grpc::audit::Audit;
use crate::grpc::door::Door;
use crate::grpc::event::EventsDoor;
use crate::grpc::grant::Grants;
use crate::grpc::key::Keys;
use crate::grpc::registry::Registry;
use crate::grpc::services::Services;
use crate::grpc::token::Token;
use crate::grpc::webhook::Webhooks;
use crate::host_config::{HostConfig, Limits, ManifestFiles};
use crate::key_watch::{KeyWatch, LeafError};
use crate::listener::{self, ListenError, Name, Shutdown, ShutdownSignal, shutdown};
use crate::metrics::exporter::{BindError, Exporter};
use crate::metrics::readings::{Named, Sources};
use crate::public;
use crate::refresher::Refresher;
use crate::room::Room;
use crate::root::Ground;
use crate::root::erase::Eraser;
use crate::root::keeper::RotateError;
use crate::shell::Shell;
use crate::svid::TrustDomains;
use crate::teller::Teller;
use crate::tls::{self, TlsError};
use crate::traces::{self, collector::Collector};
use crate::upstream::{Egress, EgressLimits, Loopback};
use crate::watchman::Watchman;
use crate::webhooks::Poster;
use crate::witness::ask::Superseded;
use crate::witness::keeper::Keeper;

/// The earliest time that the host's clock is believed: 2026-11-01.
const CLOCK_FLOOR_S: u64 = 1_793_491_200;

/// How long the last completions of calls may take at the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Sockets that are bound already: for whoever must know the ports before the
/// manifest is written.
#[derive(Debug)]
pub struct Sockets {
    /// For gRPC.
    pub grpc: StdTcpListener,
    /// For the public documents.
    pub public: StdTcpListener,
    /// For the gateway.
    pub gateway: StdTcpListener,
}

/// What the service runs on.
#[derive(Debug)]
pub struct Config {
    /// The host's configuration.
    pub host: HostConfig,
    /// Sockets to listen on, instead of binding those of the host's
    /// configuration.
    pub sockets: Option<Sockets>,
}

/// Why the service did not run.
#[derive(Debug, Error)]
pub enum RunError {
    /// A file can't be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The platform does not say who signs the manifest.
    #[error("the platform does not tell the manifest's signer")]
    Platform(#[from] AttesterError),
    /// The manifest is not accepted.
    #[error("the manifest is not accepted")]
    Manifest(#[from] ManifestError),
    /// The manifest holds what can't be used.
    #[error(transparent)]
    Configure(#[from] ConfigureError),
    /// The control log can't be named, so that no witness could know it.
    #[error("the control log can't be named")]
    Log(#[from] LogError),
    /// A witness proved that the state is not the newest one, or not the only one.
    #[error("refused to serve: {0}")]
    Superseded(Box<Superseded>),
    /// The state can't be opened.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A root that was half replaced can't be finished.
    #[error(transparent)]
    Root(#[from] RotateError),
    /// A socket can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The listener for metrics can't begin.
    #[error(transparent)]
    Metrics(#[from] BindError),
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The listeners' certificates can't be made.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// The roots that evidence ends in can't be read.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// A socket that was handed over can't be used.
    #[error("a socket that was handed over can't be used: {0}")]
    Socket(std::io::ErrorKind),
}

/// Reads and checks the manifest, as the service would.
///
/// # Errors
/// [`RunError::File`], [`RunError::Manifest`] with all faults.
pub fn open_manifest(
    files: &ManifestFiles,
    signer: &[u8; 32],
    kind: EnclaveKind,
) -> Result<(Manifest, Vec<u8>, Vec<u8>), RunError> {
    use attestation::manifest::{MAX_MANIFEST_BYTES, MAX_SIGNATURE_BYTES};
    let toml = read_bounded(&files.file, MAX_MANIFEST_BYTES)?;
    let signature = read_bounded(&files.signature, MAX_SIGNATURE_BYTES)?;
    let manifest = Manifest::open(&toml, &signature, signer, kind)?;
    Ok((manifest, toml, signature))
}

/// Runs the service until `stop`, then drains.
///
/// `ready` is called when all listeners answer.
///
/// # Errors
/// [`RunError`] if it did not come up.
pub async fn run(
    config: Config,
    attester: Arc<dyn Attester>,
    mut stop: ShutdownSignal,
    ready: impl FnOnce(),
) -> Result<(), RunError> {
    let Config { host, sockets } = config;
    let kind = if attester.is_emulated() {
        EnclaveKind::Emulated
    } else {
        EnclaveKind::Hardware
    };
    let signer = attester.host_data()?;
    let (manifest, toml, signature) = open_manifest(&host.manifest, &signer, kind)?;
    let clock = Clock::new(CLOCK_FLOOR_S);
    let now = clock.now();
    let emulated = attester.is_emulated();
    let endorsed_until_s = endorsed_until_s(&*attester);
    let told = configure(
        &manifest,
        emulated,
        endorsed_until_s,
        host.limits.replay_entries,
    )?;
    let ground = Ground::new(
        &host,
        &manifest,
        (&toml, &signature),
        Arc::clone(&attester),
        tls::client(roots(&manifest))?,
    )?;
    // Keyholders that don't answer are waited for.
    let Some(root) = Box::pin(ground.open(&mut stop)).await? else {
        return Ok(());
    };
    let keys = root.keys();
    let retiring = root.retiring();
    let opened = (&*keys, retiring.as_deref());
    let Booted { enclave, store } = boot(told, &host, opened, &*attester, &now).await?;
    // A root that is replaced must not stay in memory.
    drop((keys, retiring));
    let root = Arc::new(root);

    let shell = Arc::new(Shell {
        enclave,
        store: Arc::new(store),
        clock,
        trust_domains: TrustDomains::new(manifest.trust_domains()),
        changes: watch::Sender::new(0),
        root: Some(Arc::clone(&root)),
        witnessing: manifest.witnesses().map(|_| Arc::default()),
        afterwards: TaskTracker::new(),
        consents: Consents::default(),
    });
    let keeper = keeper(&manifest, &shell)?;
    match &keeper {
        // Nothing is done, and nobody answered, before the witnesses' word is there.
        Some(keeper) => {
            if !keeper.gate(&mut stop).await.map_err(RunError::Superseded)? {
                shell.store.close();
                return Ok(());
            }
            events::witnessed();
        }
        None => events::no_witnesses(),
    }
    root.finish_begun(&shell).await?;
    // A witness can end the service as well as its owner.
    let (speaker, stop) = relayed(stop);
    let kept = keeper.map(|keeper| {
        let stop = stop.clone();
        tokio::spawn(async move {
            let kept = keeper.keep(stop).await;
            if kept.is_err() {
                speaker.begin();
            }
            kept
        })
    });
    let eraser = Eraser::new(Arc::clone(&shell), root);
    let destroying = tokio::spawn(Box::pin(eraser.keep(stop.clone())));
    let egress = egress(&manifest, &host)?;
    let refresher = Refresher::new(Arc::clone(&shell), egress.clone());
    refresher.resume().await;

    let poster = Poster::new(Arc::clone(&shell), egress.clone());
    let key_watch = KeyWatch::start(Arc::clone(&shell)).await?;
    let certificate = key_watch.certificate();
    let (supply, supplier) = supplier(&attester, &host, &shell)?;
    let supplying = tokio::spawn(supplier.keep(stop.clone()));
    let spoken = Arc::clone(&shell);
    let watchman = Watchman::new(Arc::clone(&shell), supply.clone());
    let desk = EvidenceDesk::start(attester, move || spoken.enclave.bundle(), supply.clone());
    let sources = Sources {
        shell: Arc::clone(&shell),
        refresher: Arc::clone(&refresher),
        supply,
        desk: desk.clone(),
        named: Named::default(),
    };
    let attestation = Attestation {
        shell: Arc::clone(&shell),
        desk,
        manifest: Arc::new((toml, signature)),
    };
    let request_deadline = Duration::from_secs(host.limits.request_s);
    let Limits {
        requests,
        message_bytes,
        ..
    } = host.limits;
    let door = |services, room| {
        let shell = Arc::clone(&shell);
        Door::new(services, shell, room, request_deadline, message_bytes)
    };
    // Each listener has room of its own.
    let gateway_room = Room::new(requests);
    let proofs =
        AttestationServiceServer::new(attestation.clone()).max_decoding_message_size(message_bytes);
    let proofs = Services::new(Routes::new(proofs).prepare());
    let proofs = door(proofs, gateway_room.clone());
    let stopped = stop.clone();
    let services = services(
        &shell,
        (&refresher, &poster),
        attestation,
        message_bytes,
        stopped,
    )
    .await;
    let door = door(services, Room::before(requests, shell.store.callers()));
    let calls = host.limits.calls;
    let gateway = Gateway::new(Arc::clone(&shell), Arc::clone(&refresher), egress, calls);
    let endpoints = public::mtls_router(&shell, gateway_room, request_deadline);
    let completing = gateway.clone();
    let gateway = Proved::new(gateway, proofs, endpoints);
    let public = public::router(&shell, Room::open(requests), request_deadline);

    let (grpc_socket, public_socket, gateway_socket) = listen(sockets, &host).await?;
    let grpc_tls = tls::grpc_server(Arc::clone(&certificate))?;
    let public_tls = tls::http_server(Arc::clone(&certificate))?;
    let gateway_tls = tls::gateway_server(Arc::clone(&certificate))?;
    for (name, socket) in [
        (Name::Grpc, &grpc_socket),
        (Name::Public, &public_socket),
        (Name::Gateway, &gateway_socket),
    ] {
        if let Ok(addr) = socket.local_addr() {
            events::listener_started(name, addr);
        }
    }
    let (quiet, silence) = shutdown();
    let telling_on = watched(&host, sources, &stop, silence).await?;
    let limits = host.limits.of_listener();
    if emulated {
        events::service_emulated();
    }
    let config = shell.enclave.config();
    events::service_ready(&config.issuer, &config.tier);
    ready();

    let keep_alive = tokio::spawn(Arc::clone(&refresher).keep_alive());
    let tending = tokio::spawn(caretaker::tend(Arc::clone(&shell)));
    let teller = Teller::new(Arc::clone(&shell), Arc::clone(&refresher));
    let telling = tokio::spawn(teller.run());
    let watching = tokio::spawn(watchman.keep());
    let posting = tokio::spawn(poster.keep(stop.clone()));
    let renewal = tokio::spawn(key_watch.keep());
    let (grpc_limits, public_limits) = (limits.clone(), limits.clone());
    let gateway_limits = listener::Limits {
        unread: Duration::from_secs(host.limits.gateway_idle_s),
        ..limits
    };
    let mut asked = stop.clone();
    let told = tokio::spawn(async move {
        asked.begun().await;
        events::shutdown_began();
    });
    let (grpc, public, gateway) = tokio::join!(
        listener::serve(
            Name::Grpc,
            grpc_socket,
            grpc_tls,
            grpc_limits,
            door,
            stop.clone()
        ),
        listener::serve(
            Name::Public,
            public_socket,
            public_tls,
            public_limits,
            public,
            stop.clone(),
        ),
        listener::serve(
            Name::Gateway,
            gateway_socket,
            gateway_tls,
            gateway_limits,
            gateway,
            stop
        ),
    );
    for (name, drained) in [
        (Name::Grpc, grpc),
        (Name::Public, public),
        (Name::Gateway, gateway),
    ] {
        events::listener_stopped(name, drained.cut);
    }
    told.abort();
    destroying.abort();
    renewal.abort();
    keep_alive.abort();
    tending.abort();
    telling.abort();
    watching.abort();
    supplying.abort();
    // No call comes any more: the last traces are sent while the last exchanges end.
    quiet.begin();
    let drain = Duration::from_secs(host.limits.drain_s);
    // An exchange that outlasts the drain has its intent in the store.
    shell.afterwards.close();
    let told = join_all(telling_on);
    let written =
        async { tokio::join!(refresher.drained(), shell.afterwards.wait(), posting, told) };
    drop(tokio::time::timeout(drain, written).await);
    // Calls that were cut may have ended since.
    drop(tokio::time::timeout(LAST_WORDS, completing.written()).await);
    shell.store.close_for_good();
    shell.enclave.abandon();
    match kept {
        Some(kept) => match kept.await {
            Ok(Err(proof)) => Err(RunError::Superseded(proof)),
            Ok(Ok(())) | Err(_) => Ok(()),
        },
        None => Ok(()),
    }
}

/// Begins to tell numbers and traces to whom the host's configuration names: numbers until the service stops, traces until
/// silence is asked for.
async fn watched(
    host: &HostConfig,
    sources: Sources,
    stop: &ShutdownSignal,
    silence: ShutdownSignal,
) -> Result<Vec<JoinHandle<()>>, RunError> {
    let mut tasks = Vec::new();
    if let Some(addr) = host.metrics {
        let exporter = Exporter::bind(addr).await?;
        tasks.push(tokio::spawn(exporter.serve(sources, stop.clone())));
    }
    if let Some(wanted) = &host.traces
        && let Some(finished) = traces::start(wanted.one_in)
    {
        let mut web = RootCertStore::empty();
        web.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let collector = Collector::new(wanted.endpoint.clone(), tls::client(web)?);
        tasks.push(tokio::spawn(collector.run(finished, silence)));
        events::traces_started(wanted.one_in);
    }
    Ok(tasks)
}

/// When what endorses the platform's evidence expires, if the platform tells.
fn endorsed_until_s(attester: &dyn Attester) -> Option<u64> {
    let evidence = attester.evidence(&[0; 64]).ok()?;
    evidence.endorsements.expires_at_s()
}

/// A signal that is given when the other one is, or by the speaker.
fn relayed(mut outer: ShutdownSignal) -> (Arc<Shutdown>, ShutdownSignal) {
    let (speaker, inner) = shutdown();
    let speaker = Arc::new(speaker);
    let relay = Arc::clone(&speaker);
    tokio::spawn(async move {
        outer.begun().await;
        relay.begin();
    });
    (speaker, inner)
}

fn keeper(manifest: &Manifest, shell: &Arc<Shell>) -> Result<Option<Keeper>, RunError> {
    let Some(witnesses) = manifest.witnesses() else {
        return Ok(None);
    };
    let known = known_witnesses(witnesses)?;
    let tls = tls::client(roots(manifest))?;
    Ok(Keeper::new(shell, known, tls)?)
}

async fn services(
    shell: &Arc<Shell>,
    (refresher, poster): (&Arc<Refresher>, &Arc<Poster>),
    attestation: Attestation,
    message_bytes: usize,
    stop: ShutdownSignal,
) -> Services {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter
        .set_serving::<AttestationServiceServer<Attestation>>()
        .await;
    reporter.set_serving::<TokenServiceServer<Token>>().await;
    reporter.set_serving::<GrantServiceServer<Grants>>().await;
    reporter
        .set_serving::<RegistryServiceServer<Registry>>()
        .await;
    reporter.set_serving::<AuditServiceServer<Audit>>().await;
    let bundler = Bundler {
        shell: Arc::clone(shell),
        desk: attestation.desk.clone(),
        manifest: Arc::clone(&attestation.manifest),
    };
    let audit = Audit::new(bundler, stop.clone());
    reporter
        .set_serving::<EventServiceServer<EventsDoor>>()
        .await;
    let webhooks = Webhooks {
        shell: Arc::clone(shell),
        poster: Arc::clone(poster),
    };
    let events = EventsDoor::new(webhooks, stop);
    reporter.set_serving::<KeyServiceServer<Keys>>().await;
    let token = Token {
        shell: Arc::clone(shell),
        refresher: Arc::clone(refresher),
    };
    let grants = Grants {
        shell: Arc::clone(shell),
        refresher: Arc::clone(refresher),
    };
    let registry = Registry {
        shell: Arc::clone(shell),
    };
    let keys = Keys {
        shell: Arc::clone(shell),
    };
    let others = Routes::new(health)
        .add_service(
            AttestationServiceServer::new(attestation).max_decoding_message_size(message_bytes),
        )
        .add_service(GrantServiceServer::new(grants).max_decoding_message_size(message_bytes))
        .add_service(RegistryServiceServer::new(registry).max_decoding_message_size(message_bytes))
        .add_service(AuditServiceServer::new(audit).max_decoding_message_size(message_bytes))
        .add_service(EventServiceServer::new(events).max_decoding_message_size(message_bytes))
        .add_service(KeyServiceServer::new(keys).max_decoding_message_size(message_bytes))
        .prepare();
    let tokens = TokenServiceServer::new(token).max_decoding_message_size(message_bytes);
    Services::new(others).with_tokens(tokens)
}

async fn listen(
    sockets: Option<Sockets>,
    host: &HostConfig,
) -> Result<(TcpListener, TcpListener, TcpListener), RunError> {
    if let Some(sockets) = sockets {
        let adopt = |socket: StdTcpListener| {
            socket
                .set_nonblocking(true)
                .and_then(|()| TcpListener::from_std(socket))
                .map_err(|error| RunError::Socket(error.kind()))
        };
        return Ok((
            adopt(sockets.grpc)?,
            adopt(sockets.public)?,
            adopt(sockets.gateway)?,
        ));
    }
    Ok((
        listener::bind(Name::Grpc, host.listen.grpc).await?,
        listener::bind(Name::Public, host.listen.public).await?,
        listener::bind(Name::Gateway, host.listen.gateway).await?,
    ))
}

/// Whom the manifest trusts upstream.
pub(crate) fn roots(manifest: &Manifest) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    if manifest.tls().webpki_roots {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    // The manifest's check has parsed them.
    roots.add_parsable_certificates(manifest.tls().roots.iter().cloned());
    roots
}

fn egress(manifest: &Manifest, host: &HostConfig) -> Result<Egress, RunError> {
    let roots = roots(manifest);
    let loopback = if manifest.upstream().allow_loopback {
        Loopback::Allowed
    } else {
        Loopback::Refused
    };
    let limits = EgressLimits {
        idle: Duration::from_secs(host.limits.gateway_idle_s),
        ..EgressLimits::default()
    };
    Ok(Egress::new(roots, loopback, limits)?)
}

/// Who keeps what vouches for the platform's evidence.
fn supplier(
    attester: &Arc<dyn Attester>,
    host: &HostConfig,
    shell: &Arc<Shell>,
) -> Result<(Supply, Supplier), RunError> {
    let roots = match attester.development_root() {
        Some(pem) => Roots::with_emulated(&pem),
        None => Roots::amd(),
    };
    // Whose word on collateral is worth anything is in its own signatures: any web server may hand it out.
    let mut web = RootCertStore::empty();
    web.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    Ok(Supplier::new(
        Arc::clone(attester),
        roots?,
        host.collateral.clone(),
        tls::client(web)?,
        Arc::clone(shell),
    ))
}
