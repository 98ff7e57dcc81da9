//! Connections to APIs that wait for the next call of the same grant.
//!
//! A connection is used by one call at a time, whatever its version of HTTP, and by the calls of one grant alone: what
//! an API keeps of it (a sign-in by connection, an answer too many) reaches nobody else. It waits for a minute: one that
//! the server closes meanwhile is seen to be closed, and if that crosses with a call, the call is one that may be sent
//! again. It serves a bounded number of calls and has a bounded age, so that names are resolved and their addresses
//! looked at again.

use bytes::Bytes;
use enclave::ids::{GrantId, TenantId};
use http_body_util::combinators::UnsyncBoxBody;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::egress::Stage;
use super::origin::Origin;

/// The body of a request to an API.
pub(super) type ApiBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Connections of one grant to one origin that wait.
const MAX_WAITING_EACH: usize = 64;

/// Connections that wait in all.
const MAX_WAITING: usize = 1_024;

/// Calls on one connection: what a busy one serves in half a minute. Few, and connections that are used alike are
/// replaced all at once, again and again.
const MAX_CALLS: u32 = 10_000;

/// How often those that wait are looked at; one that has waited for six looks is closed: after 50 to 60 s, as long as
/// other proxies wait.
const LOOK: Duration = Duration::from_secs(10);
const LOOKS: u64 = 6;

/// After so many looks, five minutes, a connection waits no more, however often it is used.
const MAX_AGE_LOOKS: u64 = 30;

/// Whose calls share connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    tenant: TenantId,
    grant: GrantId,
}

impl Owner {
    /// A grant of a tenant.
    #[must_use]
    pub fn new(tenant: TenantId, grant: GrantId) -> Self {
        Self { tenant, grant }
    }
}

/// What a connection is for.
pub(super) type Key = (Owner, Origin);

/// The connections that wait.
#[derive(Default)]
pub(super) struct Pool {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    by_key: HashMap<Key, Vec<Idle>>,
    count: usize,
    /// Whether somebody looks after them.
    is_looked_after: bool,
    /// Looks so far.
    looks: u64,
    /// Looks in a row that found nobody.
    idle_looks: u64,
}

struct Idle {
    stage: Stage<ApiBody>,
    used: Used,
    /// The look at which it began to wait.
    since: u64,
}

/// How much a connection was used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    calls: u32,
    /// The look at which it began.
    born: u64,
}

impl Pool {
    /// A connection that waits, ready for a call, and how much it was used.
    pub(super) fn take(&self, key: &Key) -> Option<(Stage<ApiBody>, Used)> {
        let mut waiting = self.waiting.lock();
        let idle = waiting.by_key.get_mut(key)?;
        // The one that waited least is the least likely to be closed.
        let at = idle.iter().rposition(|idle| idle.stage.is_ready())?;
        let taken = idle.remove(at);
        if idle.is_empty() {
            waiting.by_key.remove(key);
        }
        waiting.count = waiting.count.saturating_sub(1);
        Some((taken.stage, taken.used))
    }

    /// For a connection that is new.
    pub(super) fn new_used(&self) -> Used {
        Used {
            calls: 0,
            born: self.waiting.lock().looks,
        }
    }

    fn give(self: &Arc<Self>, key: Key, stage: Stage<ApiBody>, used: Used) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if used.calls >= MAX_CALLS || stage.is_closed() {
            return;
        }
        let mut waiting = self.waiting.lock();
        let since = waiting.looks;
        let age = since.saturating_sub(used.born);
        if waiting.count >= MAX_WAITING || age >= MAX_AGE_LOOKS {
            return;
        }
        let idle = waiting.by_key.entry(key).or_default();
        if idle.len() >= MAX_WAITING_EACH {
            return;
        }
        idle.push(Idle { stage, used, since });
        waiting.count = waiting.count.saturating_add(1);
        if !waiting.is_looked_after {
            waiting.is_looked_after = true;
            waiting.idle_looks = 0;
            runtime.spawn(look_after(Arc::downgrade(self)));
        }
    }

    /// Closes those that have waited for too long. Whether to look again.
    fn look(&self) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.looks = waiting.looks.saturating_add(1);
        let (now, mut count) = (waiting.looks, 0_usize);
        waiting.by_key.retain(|_, idle| {
            idle.retain(|idle| now.saturating_sub(idle.since) < LOOKS && !idle.stage.is_closed());
            count = count.saturating_add(idle.len());
            !idle.is_empty()
        });
        waiting.count = count;
        // Those in use age too.
        waiting.idle_looks = match count {
            0 => waiting.idle_looks.saturating_add(1),
            _ => 0,
        };
        waiting.is_looked_after = waiting.idle_looks < LOOKS;
        waiting.is_looked_after
    }
}

/// As long as there are some that wait.
async fn look_after(pool: Weak<Pool>) {
    loop {
        sleep(LOOK).await;
        match pool.upgrade() {
            Some(pool) if pool.look() => {}
            Some(_) | None => return,
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("waiting", &self.waiting.lock().count)
            .finish_non_exhaustive()
    }
}

/// A connection while it is used: it ends with this, unless it is given back.
pub(super) struct Lease {
    pool: Arc<Pool>,
    key: Key,
    stage: Stage<ApiBody>,
    used: Used,
}

impl Lease {
    pub(super) fn new(pool: Arc<Pool>, key: Key, stage: Stage<ApiBody>, used: Used) -> Self {
        let used = Used {
            calls: used.calls.saturating_add(1),
            ..used
        };
        Self {
            pool,
            key,
            stage,
            used,
        }
    }

    pub(super) fn stage(&mut self) -> &mut Stage<ApiBody> {
        &mut self.stage
    }

    /// Its call is over, and nothing of it is left on the connection.
    pub(super) fn give_back(self) {
        let Self {
            pool,
            key,
            stage,
            used,
        } = self;
        pool.give(key, stage, used);
    }
}
