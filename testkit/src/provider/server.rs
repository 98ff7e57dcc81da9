//! The provider as a value: start, stop, and the doors into it that need no HTTP.

use std::{collections::HashMap, fs, io, net::SocketAddr, sync::Arc};

use axum::{Router, extract::DefaultBodyLimit, middleware::from_fn_with_state};
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use super::{
    admin, api,
    clock::Clock,
    config::Config,
    connection::serve,
    endpoints,
    fault::{Endpoint, Fault, FaultReport, Schedule},
    flaky::Dice,
    ledger::{Event, Ledger, LedgerPage, RevokedBy},
    misbehave::inject,
    state::{Consent, ConsentError, GrantState, Granted, State},
    state_file,
};

/// Largest request body, in bytes.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// Why a provider does not start.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// No socket.
    #[error("cannot listen on loopback")]
    Listen(#[source] io::Error),
    /// The ledger file cannot be opened.
    #[error("cannot open the ledger file")]
    LedgerFile(#[source] io::Error),
    /// The state file cannot be read or is ill-formed.
    #[error("cannot read the state file")]
    StateFile(#[source] io::Error),
    /// The consent that a start was to give is refused.
    #[error("the consent is refused")]
    Consent(#[from] ConsentError),
}

/// A provider: what it knows, and the doors into it that need no HTTP. Clones are the same provider.
#[derive(Debug, Clone)]
pub struct Provider {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    base_url: String,
    random: SystemRandom,
    state: Mutex<State>,
    ledger: Mutex<Ledger>,
    faults: Mutex<Schedule>,
    dice: Mutex<Option<Dice>>,
    contacts: api::Contacts,
    open: Mutex<HashMap<String, u32>>,
}

impl Provider {
    /// A provider that will answer at `base_url` (scheme, host and port; no final slash).
    ///
    /// # Errors
    /// The ledger or state file cannot be opened.
    pub fn new(config: Config, base_url: &str) -> Result<Self, ProviderError> {
        let state = match &config.state_file {
            Some(path) => state_file::load(path).map_err(ProviderError::StateFile)?,
            None => State::default(),
        };
        let file = config
            .ledger_file
            .as_ref()
            .map(|path| fs::OpenOptions::new().append(true).create(true).open(path))
            .transpose()
            .map_err(ProviderError::LedgerFile)?;
        Ok(Self {
            inner: Arc::new(Inner {
                ledger: Mutex::new(Ledger::new(config.max_ledger_entries, file)),
                base_url: base_url.to_owned(),
                random: SystemRandom::new(),
                state: Mutex::new(state),
                faults: Mutex::new(Schedule::default()),
                dice: Mutex::new(config.flaky.map(Dice::new)),
                contacts: api::Contacts::default(),
                open: Mutex::new(HashMap::new()),
                config,
            }),
        })
    }

    /// Starts a provider on a free loopback port, in this process.
    ///
    /// # Errors
    /// No socket, or the provider's files cannot be opened.
    pub async fn spawn(config: Config) -> Result<Running, ProviderError> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(ProviderError::Listen)?;
        Self::spawn_on(listener, config)
    }

    /// Starts a provider on `listener`, in this process.
    ///
    /// # Errors
    /// The listener has no address, or the provider's files cannot be opened.
    pub fn spawn_on(listener: TcpListener, config: Config) -> Result<Running, ProviderError> {
        let address = listener.local_addr().map_err(ProviderError::Listen)?;
        let provider = Self::new(config, &format!("http://{address}"))?;
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve(listener, provider.clone(), async move {
            // The sender is dropped, never used: either way it is time to stop.
            drop(stopped.await);
        }));
        Ok(Running {
            provider,
            address,
            stop,
            task,
        })
    }

    /// Scheme, host and port; also the issuer.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.inner.base_url
    }

    /// The provider's clock; advance it to make tokens expire.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.inner.config.clock
    }

    /// A user consents; gives the first refresh token.
    ///
    /// # Errors
    /// Unknown client or scope, or too many grants.
    pub fn consent(&self, consent: &Consent) -> Result<Granted, ConsentError> {
        let now_ms = self.now_ms();
        self.change(|state, log| {
            state.consent(&self.inner.config, &self.inner.random, consent, now_ms, log)
        })
        .map_err(|_| ConsentError::Failed)?
    }

    /// The user takes the consent back; false if there is no such live grant.
    ///
    /// # Errors
    /// The provider's files cannot be written.
    pub fn revoke_grant(&self, grant: &str) -> io::Result<bool> {
        self.change(|state, log| state.revoke(grant, RevokedBy::User, log))
    }

    /// What the provider thinks of one grant.
    #[must_use]
    pub fn grant(&self, grant: &str) -> Option<GrantState> {
        self.inner.state.lock().grant(grant)
    }

    /// What the provider thinks of all grants.
    #[must_use]
    pub fn grants(&self) -> Vec<GrantState> {
        self.inner.state.lock().grants()
    }

    /// The whole ledger that is in memory.
    #[must_use]
    pub fn ledger(&self) -> LedgerPage {
        self.ledger_since(0, usize::MAX)
    }

    /// At most `limit` ledger entries from `since_seq` on.
    #[must_use]
    pub fn ledger_since(&self, since_seq: u64, limit: usize) -> LedgerPage {
        self.inner.ledger.lock().page(since_seq, limit)
    }

    /// Arranges a fault.
    ///
    /// # Errors
    /// The rule that the fault breaks.
    pub fn fault(&self, fault: Fault) -> Result<(), FaultRefused> {
        self.inner.faults.lock().add(fault).map_err(FaultRefused)
    }

    /// Forgets the faults that wait.
    pub fn clear_faults(&self) {
        self.inner.faults.lock().clear();
    }

    /// Which faults wait, and how many struck.
    #[must_use]
    pub fn faults(&self) -> FaultReport {
        self.inner.faults.lock().report()
    }

    pub(super) fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(super) fn random(&self) -> &SystemRandom {
        &self.inner.random
    }

    pub(super) fn contacts(&self) -> &api::Contacts {
        &self.inner.contacts
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.inner.config.clock.now_ms()
    }

    pub(super) fn look<T>(&self, at: impl FnOnce(&State) -> T) -> T {
        at(&self.inner.state.lock())
    }

    /// One step: changes the state, writes the ledger and then the state file, all under one lock,
    /// so that the ledger's order is the order of events.
    pub(super) fn change<T>(
        &self,
        step: impl FnOnce(&mut State, &mut Vec<Event>) -> T,
    ) -> io::Result<T> {
        let mut state = self.inner.state.lock();
        let mut log = Vec::new();
        let done = step(&mut state, &mut log);
        let changed = log.iter().any(|event| match event {
            Event::Consented { .. } | Event::Presented { .. } | Event::Revoked { .. } => true,
            Event::Faulted { .. } | Event::ApiCall { .. } => false,
        });
        let now_ms = self.now_ms();
        {
            let mut ledger = self.inner.ledger.lock();
            for event in log {
                ledger.record(now_ms, event)?;
            }
        }
        if changed && let Some(path) = &self.inner.config.state_file {
            state_file::save(path, &state)?;
        }
        Ok(done)
    }

    /// Counts a presentation as open until the guard is dropped.
    pub(super) fn open(&self, grant: Option<&str>) -> OpenPresentation {
        let mut open = self.inner.open.lock();
        let before = grant.map_or(0, |grant| {
            let count = open.entry(grant.to_owned()).or_insert(0);
            let before = *count;
            *count = count.saturating_add(1);
            before
        });
        OpenPresentation(Arc::new(Open {
            provider: self.clone(),
            grant: grant.map(str::to_owned),
            before,
        }))
    }

    /// The fault that strikes the next request at `endpoint`.
    pub(super) fn strike(&self, endpoint: Endpoint) -> Option<Fault> {
        let mut faults = self.inner.faults.lock();
        let arranged = faults.take(endpoint);
        if arranged.is_some() || endpoint != Endpoint::Token {
            return arranged;
        }
        let thrown = self.inner.dice.lock().as_mut()?.throw();
        if thrown.is_some() {
            faults.count();
        }
        thrown
    }

    pub(super) fn router(&self) -> Router {
        Router::new()
            .merge(endpoints::routes())
            .merge(api::routes())
            .layer(from_fn_with_state(self.clone(), inject))
            .merge(admin::routes())
            .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
            .with_state(self.clone())
    }
}

/// A fault breaks this rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FaultRefused(pub &'static str);

/// A presentation that is not answered yet; rides in the response's extensions.
#[derive(Debug, Clone)]
pub(super) struct OpenPresentation(Arc<Open>);

#[derive(Debug)]
struct Open {
    provider: Provider,
    grant: Option<String>,
    before: u32,
}

impl OpenPresentation {
    /// How many others were open for the grant.
    pub(super) fn concurrent(&self) -> u32 {
        self.0.before
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(grant) = &self.grant else { return };
        let mut open = self.provider.inner.open.lock();
        if let Some(count) = open.get_mut(grant) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(grant);
            }
        }
    }
}

/// A provider that runs in this process; dropping it stops it without waiting.
#[derive(Debug)]
pub struct Running {
    provider: Provider,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    /// The provider itself.
    #[must_use]
    pub fn provider(&self) -> &Provider {
        &self.provider
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Scheme, host and port; also the issuer.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.provider.base_url()
    }

    /// Where refresh tokens go.
    #[must_use]
    pub fn token_endpoint(&self) -> String {
        format!("{}/token", self.base_url())
    }

    /// Finishes open exchanges for a moment, then cuts them.
    pub async fn stop(self) {
        let Self {
            provider: _,
            address: _,
            stop,
            task,
        } = self;
        drop(stop);
        // A panic in the task has been printed; there is nothing left to stop.
        drop(task.await);
    }
}
