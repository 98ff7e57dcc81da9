//! All logs of the enclave: they take leaves in as the store has ordered them,
//! and give heads, checkpoints, proofs and tiles.

use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use thiserror::Error;
use tlog::{
    BundleId, Checkpoint, ConsistencyProof, HashTile, InclusionProof, KeyName, NodeId, Note,
    NoteSigner, Origin, TileId, TileSet, TreeHead, leaf_hash,
};

use super::Recovery;
use super::name::{BootId, LogName};
use super::reading::{Reading, Wanted};
use super::tree::Tree;
use crate::keys::keyring::{Keyring, KeyringError, LogKey};
use crate::store::Log;
use crate::time::Now;

/// Milliseconds for which a signed checkpoint stands for a log that has grown
/// since, unless a leaf must be covered.
const CHECKPOINT_MS: u64 = 200;

/// Issuance logs whose last checkpoints are kept; another is signed again.
const MAX_SIGNED: usize = 64;

/// Why a log could not do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LogError {
    /// There is no such log.
    #[error("there is no such log")]
    Unknown,
    /// The log has not that many leaves (yet).
    #[error("the log has {size} leaves")]
    Beyond {
        /// How many it has.
        size: u64,
    },
    /// The old size is above the new one.
    #[error("a log does not shrink")]
    Reversed,
    /// A leaf is not one that this enclave wrote.
    #[error("leaf {index} of {log:?} can't be read")]
    Leaf {
        /// The stream.
        log: Log,
        /// Its place in the stream.
        index: u64,
    },
    /// Leaves of a tenant are missing: more than can have been under way when a boot ended.
    #[error("more leaves of a tenant are missing than can have been under way")]
    Missing,
    /// Leaves came out of order.
    #[error("the leaves begin at {from}, not at {taken}")]
    Gap {
        /// Where they begin.
        from: u64,
        /// Where they should.
        taken: u64,
    },
    /// Not the leaves that were wanted.
    #[error("not the leaves that were wanted")]
    Leaves,
    /// The tree could not be read.
    #[error("the tree can't be read")]
    Read,
    /// No log has more leaves.
    #[error("the log is full")]
    Full,
    /// The issuer's name makes no name of a log.
    #[error("the issuer makes no name of a log")]
    Origin,
    /// The log key does not sign.
    #[error("the log key does not sign")]
    Key,
}

impl From<KeyringError> for LogError {
    fn from(_: KeyringError) -> Self {
        Self::Key
    }
}

/// A tree head that this enclave signed with the log key. Made by
/// [`Logs::checkpoint`] alone.
///
/// ```compile_fail,E0451
/// # fn forge(head: tlog::TreeHead, note: tlog::Note) -> enclave::log::SignedCheckpoint {
/// enclave::log::SignedCheckpoint { head, note }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    head: TreeHead,
    note: Note,
}

impl SignedCheckpoint {
    /// Size and root.
    #[must_use]
    pub const fn head(&self) -> TreeHead {
        self.head
    }

    /// The C2SP note; its `Display` is what is served.
    #[must_use]
    pub const fn note(&self) -> &Note {
        &self.note
    }
}

/// The log of one boot in the issuance stream.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) boot: BootId,
    /// Where it begins in the stream.
    pub(super) begins: u64,
    pub(super) tree: Tree,
}

impl Shard {
    pub(super) fn new(boot: BootId, begins: u64) -> Self {
        Self {
            boot,
            begins,
            tree: Tree::default(),
        }
    }
}

#[derive(Debug)]
struct Trees {
    control: Tree,
    /// In the order of the stream; the last is this boot's.
    shards: Vec<Shard>,
}

impl Trees {
    fn find(&self, name: LogName) -> Result<(&Tree, u64), LogError> {
        match name {
            LogName::Control => Ok((&self.control, 0)),
            LogName::Issuance(boot) => {
                let shard = self.shards.iter().rev().find(|shard| shard.boot == boot);
                let shard = shard.ok_or(LogError::Unknown)?;
                Ok((&shard.tree, shard.begins))
            }
        }
    }

    fn taken(&self, log: Log) -> u64 {
        match log {
            Log::Control => self.control.size(),
            Log::Issuance => self
                .shards
                .last()
                .map_or(0, |shard| shard.begins.saturating_add(shard.tree.size())),
        }
    }
}

fn origin(host: &str, name: LogName) -> Result<Origin, LogError> {
    let origin = format!("{host}/{}", name.path());
    origin.parse().map_err(|_| LogError::Origin)
}

/// The logs.
#[derive(Debug)]
pub struct Logs {
    /// The issuer without its scheme: the first part of each log's origin.
    host: String,
    boot: BootId,
    /// Those of the logs that this boot writes.
    own: OwnOrigins,
    trees: RwLock<Trees>,
    signers: Mutex<HashMap<LogName, Signer>>,
    /// The current one first; all sign.
    keys: RwLock<Vec<LogKey>>,
}

#[derive(Debug)]
struct OwnOrigins {
    control: Origin,
    issuance: Origin,
}

#[derive(Debug)]
struct Signer {
    origin: Origin,
    signers: Vec<NoteSigner>,
    last: Option<(SignedCheckpoint, u64)>,
}

impl Logs {
    /// The logs of a boot: those of earlier boots, and a new one for issuance.
    pub(crate) fn new(
        issuer: &str,
        keys: &Keyring,
        boot: BootId,
        recovered: Recovery,
    ) -> Result<Self, LogError> {
        let begins = recovered.taken(Log::Issuance);
        let Recovery {
            control,
            mut shards,
            ..
        } = recovered;
        shards.push(Shard::new(boot, begins));
        let host = issuer
            .split_once("://")
            .map_or(issuer, |(_scheme, host)| host);
        let own = OwnOrigins {
            control: origin(host, LogName::Control)?,
            issuance: origin(host, LogName::Issuance(boot))?,
        };
        let logs = Self {
            host: host.to_owned(),
            boot,
            own,
            trees: RwLock::new(Trees { control, shards }),
            signers: Mutex::new(HashMap::new()),
            keys: RwLock::new(keys.log_keys()),
        };
        // What can't be named or signed is found at boot.
        for name in [LogName::Control, LogName::Issuance(boot)] {
            let signer = logs.signer(name)?;
            logs.signers.lock().insert(name, signer);
        }
        Ok(logs)
    }

    fn signer(&self, name: LogName) -> Result<Signer, LogError> {
        let origin = self.origin(name)?;
        let key_name: KeyName = origin.as_str().parse().map_err(|_| LogError::Origin)?;
        let keys = self.keys.read();
        let signers = keys.iter().map(|key| key.note_signer(key_name.clone()));
        Ok(Signer {
            origin,
            signers: signers.collect::<Result<_, _>>()?,
            last: None,
        })
    }

    /// By which keys checkpoints are signed from now on, the current one first.
    pub(crate) fn set_keys(&self, keys: Vec<LogKey>) {
        let mut signers = self.signers.lock();
        *self.keys.write() = keys;
        signers.clear();
    }

    /// The identity of this boot.
    #[must_use]
    pub const fn boot(&self) -> BootId {
        self.boot
    }

    /// The name of a log in its checkpoints: `<issuer without scheme>/log/…`
    /// [C2SP tlog-checkpoint].
    ///
    /// # Errors
    /// [`LogError::Origin`] if it would be too long.
    pub fn origin(&self, name: LogName) -> Result<Origin, LogError> {
        match name {
            LogName::Control => Ok(self.own.control.clone()),
            LogName::Issuance(boot) if boot == self.boot => Ok(self.own.issuance.clone()),
            LogName::Issuance(_) => origin(&self.host, name),
        }
    }

    /// The log with this origin.
    ///
    /// # Errors
    /// [`LogError::Unknown`].
    pub fn find(&self, origin: &str) -> Result<LogName, LogError> {
        let path = origin
            .strip_prefix(self.host.as_str())
            .and_then(|rest| rest.strip_prefix('/'));
        let name = path.and_then(LogName::from_path);
        let name = name.ok_or(LogError::Unknown)?;
        self.current_head(name).map(|_| name)
    }

    /// The boots that have an issuance log here, oldest first, this one last.
    #[must_use]
    pub fn boots(&self) -> Vec<BootId> {
        let trees = self.trees.read();
        trees.shards.iter().map(|shard| shard.boot).collect()
    }

    /// The issuance log that ended before this boot, with its last head.
    pub(super) fn previous(&self) -> Option<(BootId, TreeHead)> {
        let trees = self.trees.read();
        let (_this, before) = trees.shards.split_last()?;
        let shard = before.last()?;
        Some((shard.boot, shard.tree.head()))
    }

    /// Leaves of a stream that were taken in: the place of the next one.
    #[must_use]
    pub fn taken(&self, log: Log) -> u64 {
        self.trees.read().taken(log)
    }

    /// The place in a stream up to which the newest checkpoint of this boot covers it; none before the first.
    #[must_use]
    pub fn signed(&self, log: Log) -> Option<u64> {
        let name = match log {
            Log::Control => LogName::Control,
            Log::Issuance => LogName::Issuance(self.boot),
        };
        let size = {
            let signers = self.signers.lock();
            let (checkpoint, _at_ms) = signers.get(&name)?.last.as_ref()?;
            checkpoint.head.size
        };
        let trees = self.trees.read();
        let (_tree, begins) = trees.find(name).ok()?;
        Some(begins.saturating_add(size))
    }

    /// Takes in the next leaves of a stream, in the store's order, from the one
    /// at `from`. Those that were taken in already are passed over.
    ///
    /// # Errors
    /// [`LogError::Gap`] if leaves before `from` are not taken in yet.
    pub fn take_in(&self, log: Log, from: u64, leaves: &[Vec<u8>]) -> Result<(), LogError> {
        let hashes: Vec<_> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        let mut trees = self.trees.write();
        let taken = trees.taken(log);
        let known = taken
            .checked_sub(from)
            .ok_or(LogError::Gap { from, taken })?;
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let tree = match log {
            Log::Control => &mut trees.control,
            Log::Issuance => match trees.shards.last_mut() {
                Some(shard) => &mut shard.tree,
                None => return Err(LogError::Unknown),
            },
        };
        for hash in hashes.into_iter().skip(known) {
            tree.append(hash).map_err(|_| LogError::Full)?;
        }
        Ok(())
    }

    /// The log that a place of a stream belongs to, and the leaf's index there.
    #[must_use]
    pub fn locate(&self, log: Log, place: u64) -> Option<(LogName, u64)> {
        match log {
            Log::Control => Some((LogName::Control, place)),
            Log::Issuance => {
                let trees = self.trees.read();
                let mut shards = trees.shards.iter().rev();
                let shard = shards.find(|shard| shard.begins <= place)?;
                let index = place.checked_sub(shard.begins)?;
                Some((LogName::Issuance(shard.boot), index))
            }
        }
    }

    /// Size and root of what was taken in.
    ///
    /// # Errors
    /// [`LogError::Unknown`].
    pub fn current_head(&self, name: LogName) -> Result<TreeHead, LogError> {
        let trees = self.trees.read();
        trees.find(name).map(|(tree, _)| tree.head())
    }

    /// The signed head of a log, of at least `at_least` leaves. While a log
    /// grows, a head that was signed less than 200 ms ago is given again if it is
    /// large enough.
    ///
    /// Sizes never shrink and no two roots are signed for one size.
    ///
    /// # Errors
    /// [`LogError::Unknown`], [`LogError::Beyond`], [`LogError::Key`].
    pub fn checkpoint(
        &self,
        name: LogName,
        at_least: u64,
        now: &Now,
    ) -> Result<SignedCheckpoint, LogError> {
        self.current_head(name)?;
        let mut signers = self.signers.lock();
        if !signers.contains_key(&name) {
            let signer = self.signer(name)?;
            if signers.len() >= MAX_SIGNED {
                signers.retain(|name, _| {
                    *name == LogName::Control || *name == LogName::Issuance(self.boot)
                });
            }
            signers.insert(name, signer);
        }
        let signer = signers.get_mut(&name).ok_or(LogError::Unknown)?;
        // Read behind the lock, so that heads are signed in their order.
        let head = self.current_head(name)?;
        if head.size < at_least {
            return Err(LogError::Beyond { size: head.size });
        }
        if let Some((last, at_ms)) = &signer.last {
            let fresh = now.mono_ms.saturating_sub(*at_ms) < CHECKPOINT_MS;
            if last.head == head || (fresh && last.head.size >= at_least) {
                return Ok(last.clone());
            }
        }
        let checkpoint =
            Checkpoint::new(signer.origin.clone(), head).map_err(|_| LogError::Read)?;
        let text = checkpoint.to_string();
        let signatures = signer.signers.iter().map(|signer| signer.sign(&text));
        let signatures = signatures.collect::<Result<_, _>>();
        let note = Note::new(text.clone(), signatures.map_err(|_| LogError::Key)?);
        let note = note.map_err(|_| LogError::Key)?;
        let signed = SignedCheckpoint { head, note };
        signer.last = Some((signed.clone(), now.mono_ms));
        Ok(signed)
    }

    /// Begins the proof that the log at size `new` begins with the log at size
    /// `old`.
    ///
    /// # Errors
    /// [`LogError::Unknown`], [`LogError::Beyond`], [`LogError::Reversed`].
    pub fn consistency(
        &self,
        name: LogName,
        old: u64,
        new: u64,
    ) -> Result<Reading<ConsistencyProof>, LogError> {
        let nodes = ConsistencyProof::nodes(old, new).map_err(|_| LogError::Reversed)?;
        self.reading(name, new, &nodes, move |set| {
            ConsistencyProof::prove(set, old, new).map_err(|_| LogError::Read)
        })
    }

    /// Begins the proof that a leaf is in the log at size `size`.
    ///
    /// # Errors
    /// [`LogError::Unknown`], [`LogError::Beyond`].
    pub fn inclusion(
        &self,
        name: LogName,
        index: u64,
        size: u64,
    ) -> Result<Reading<InclusionProof>, LogError> {
        let nodes = InclusionProof::nodes(index, size).map_err(|_| LogError::Beyond { size })?;
        self.reading(name, size, &nodes, move |set| {
            InclusionProof::prove(set, index, size).map_err(|_| LogError::Read)
        })
    }

    /// Begins reading a hash tile [C2SP tlog-tiles].
    ///
    /// # Errors
    /// [`LogError::Unknown`], [`LogError::Beyond`].
    pub fn tile(&self, name: LogName, id: TileId) -> Result<Reading<HashTile>, LogError> {
        let size = self.current_head(name)?.size;
        if !id.is_within(size) {
            return Err(LogError::Beyond { size });
        }
        let level = id.level().saturating_mul(tlog::tile::TILE_HEIGHT);
        let first = id.index().saturating_mul(u64::from(tlog::tile::TILE_WIDTH));
        let nodes: Vec<NodeId> = (first..)
            .take(usize::from(id.width()))
            .filter_map(|index| NodeId::new(level, index))
            .collect();
        self.reading(name, size, &nodes, move |set| {
            HashTile::from_reader(set, id).map_err(|_| LogError::Read)
        })
    }

    /// Where the entries of a bundle are in the store [C2SP tlog-tiles].
    ///
    /// # Errors
    /// [`LogError::Unknown`], [`LogError::Beyond`].
    pub fn entries(&self, name: LogName, id: BundleId) -> Result<Wanted, LogError> {
        let trees = self.trees.read();
        let (tree, begins) = trees.find(name)?;
        if !id.is_within(tree.size()) {
            return Err(LogError::Beyond { size: tree.size() });
        }
        Ok(Wanted {
            log: name.stream(),
            from: begins.saturating_add(id.first_entry()),
            count: id.width(),
        })
    }

    /// Where some leaves of a log are in the store, from an index on: at most
    /// `count` of them, and at most 256.
    ///
    /// # Errors
    /// [`LogError::Unknown`], [`LogError::Beyond`] if there is none at the index.
    pub fn stretch(&self, name: LogName, index: u64, count: u16) -> Result<Wanted, LogError> {
        let trees = self.trees.read();
        let (tree, begins) = trees.find(name)?;
        let size = tree.size();
        let rest = size.checked_sub(index).filter(|rest| *rest > 0);
        let rest = rest.ok_or(LogError::Beyond { size })?;
        let most = u64::from(count.min(tlog::tile::TILE_WIDTH));
        Ok(Wanted {
            log: name.stream(),
            from: begins.saturating_add(index),
            count: u16::try_from(rest.min(most)).unwrap_or(tlog::tile::TILE_WIDTH),
        })
    }

    fn reading<T>(
        &self,
        name: LogName,
        size: u64,
        nodes: &[NodeId],
        end: impl FnOnce(&TileSet) -> Result<T, LogError> + Send + 'static,
    ) -> Result<Reading<T>, LogError> {
        let trees = self.trees.read();
        let (tree, begins) = trees.find(name)?;
        if size > tree.size() {
            return Err(LogError::Beyond { size: tree.size() });
        }
        let mut set = TileSet::new(size);
        let mut absent = Vec::new();
        for id in set.tiles_for(nodes) {
            match tree.at_hand(id) {
                Some(tile) => set.insert(tile),
                None => absent.push(id),
            }
        }
        Ok(Reading {
            name,
            begins,
            set,
            absent,
            end: Box::new(end),
        })
    }
}
