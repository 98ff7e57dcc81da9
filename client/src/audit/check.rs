//! One log, checked as it is read: entries against the schema, tiles against entries, heads against the tree.

use std::collections::{BTreeMap, VecDeque};

use tlog::tile::{BundleId, EntryBundle, HashTile, Resource, TileBuilder, TileId};
use tlog::{Hash, TreeHead, leaf_hash};

use super::leaf::{self, Leaf};
use super::name::LogName;
use super::report::Fault;
use super::steps::Steps;

/// Where a head comes from that the log is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// The auditor kept it.
    Kept(TreeHead),
    /// The control log holds it fast.
    Anchor(TreeHead),
}

impl Held {
    const fn head(&self) -> TreeHead {
        match self {
            Self::Kept(head) | Self::Anchor(head) => *head,
        }
    }
}

/// What is told of the leaves and of what is wrong.
pub trait Witnessed {
    /// A leaf that fits the schema.
    fn leaf(&mut self, index: u64, leaf: &Leaf<'_>);
    /// Something that is wrong.
    fn fault(&mut self, fault: Fault);
    /// A head that the log was held against, and is not of this log.
    fn other(&mut self, held: &Held);
}

/// A log that is being read. It asks for its resources in the order of [`Steps`].
#[derive(Debug)]
pub struct Check {
    name: LogName,
    tree: TileBuilder,
    /// Tiles that the entries made, and that are to be served in this order.
    due: VecDeque<HashTile>,
    /// Heads that the tree has to go through, by size.
    held: BTreeMap<u64, Vec<Held>>,
    to: TreeHead,
}

impl Check {
    /// A log of which nothing was read.
    #[must_use]
    pub fn new(name: LogName, held: Vec<Held>) -> Self {
        let mut check = Self {
            name,
            tree: TileBuilder::new(),
            due: VecDeque::new(),
            held: BTreeMap::new(),
            to: TreeHead::empty(),
        };
        check.hold(held);
        check
    }

    /// Leaves that were read.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Holds the log against more heads. Of those behind which it has been read nothing can be said any more.
    pub fn hold(&mut self, held: Vec<Held>) {
        let size = self.tree.size();
        for held in held.into_iter().filter(|held| held.head().size > size) {
            self.held.entry(held.head().size).or_default().push(held);
        }
    }

    /// What is to be read so that the log is known to this head, which its key signed.
    #[must_use]
    pub fn begin(&mut self, to: TreeHead) -> Steps {
        self.to = to;
        self.due.clear();
        Steps::new(self.tree.size(), to.size)
    }

    /// Takes what was read, in the order of the steps.
    ///
    /// # Errors
    /// A [`Fault`] behind which the log can't be read on.
    pub fn give(
        &mut self,
        resource: Resource,
        bytes: &[u8],
        witnessed: &mut impl Witnessed,
    ) -> Result<(), Fault> {
        match resource {
            Resource::Entries(id) => self.entries(id, bytes, witnessed),
            Resource::Tile(id) => self.tile(id, bytes),
            Resource::Checkpoint => Err(unasked(resource)),
        }
    }

    fn entries(
        &mut self,
        id: BundleId,
        bytes: &[u8],
        witnessed: &mut impl Witnessed,
    ) -> Result<(), Fault> {
        let bundle = EntryBundle::decode(id, bytes).map_err(Fault::Entries)?;
        let size = self.tree.size();
        let known = size.checked_sub(id.first_entry());
        let known = known.ok_or(unasked(Resource::Entries(id)))?;
        let before = self.before(id, known);
        for (index, entry) in (id.first_entry()..).zip(bundle.entries()) {
            let hash = leaf_hash(entry);
            if index < size {
                let offset = index.saturating_sub(id.first_entry());
                let same =
                    usize::try_from(offset).ok().and_then(|at| before.get(at)) == Some(&hash);
                if !same {
                    let path = id.path();
                    return Err(Fault::Changed { path, index });
                }
                continue;
            }
            match leaf::parse(&self.name, entry) {
                Ok(leaf) => witnessed.leaf(index, &leaf),
                Err(error) => witnessed.fault(Fault::Leaf { index, error }),
            }
            let filled = self.tree.append(hash).map_err(|_| Fault::Full)?;
            self.due.extend(filled);
            self.compare(witnessed);
        }
        if self.tree.size() == self.to.size {
            self.due.extend(self.tree.partials());
        }
        Ok(())
    }

    /// The hashes of a bundle's entries that were read when it was not as wide.
    fn before(&self, id: BundleId, known: u64) -> Vec<Hash> {
        if known == 0 {
            return Vec::new();
        }
        let mut partials = self.tree.partials().into_iter();
        let tile = partials.find(|tile| (tile.id().level(), tile.id().index()) == (0, id.index()));
        tile.map(|tile| tile.hashes().to_vec()).unwrap_or_default()
    }

    /// Compares the tree with the heads that it has to go through.
    fn compare(&mut self, witnessed: &mut impl Witnessed) {
        let size = self.tree.size();
        let is_next = self
            .held
            .first_key_value()
            .is_some_and(|(next, _)| *next == size);
        if !is_next {
            return;
        }
        let head = self.tree.head();
        for held in self.held.remove(&size).unwrap_or_default() {
            if held.head() != head {
                witnessed.other(&held);
            }
        }
    }

    fn tile(&mut self, id: TileId, bytes: &[u8]) -> Result<(), Fault> {
        let path = || id.path();
        match self.due.pop_front() {
            Some(tile) if tile.id() == id => {
                if tile.encode() == bytes {
                    Ok(())
                } else {
                    Err(Fault::Tile { path: path() })
                }
            }
            Some(_) | None => Err(unasked(Resource::Tile(id))),
        }
    }

    /// Says whether the log is what was signed, when all steps were given.
    ///
    /// # Errors
    /// [`Fault::Root`].
    pub fn end(&self) -> Result<(), Fault> {
        let found = self.tree.head();
        if found == self.to {
            Ok(())
        } else {
            let signed = self.to;
            Err(Fault::Root { signed, found })
        }
    }
}

fn unasked(resource: Resource) -> Fault {
    Fault::Unasked {
        path: resource.path(),
    }
}
