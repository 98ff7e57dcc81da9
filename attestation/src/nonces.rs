//! A Merkle tree over the nonces of several verifiers, so that one report is fresh for all of them.

use ring::digest;

/// The most nonces one report may serve.
pub const MAX_NONCES: usize = 65_536;

/// The most siblings a path may have: a tree of [`MAX_NONCES`] leaves is 16 levels high.
pub const MAX_PATH: usize = 16;

/// Hashed before a leaf and before a node, so that neither can be taken for the other.
const LEAF: u8 = 0;
const NODE: u8 = 1;
const DOMAIN: &[u8] = b"tokenkeep/nonce/v1";

/// 32 random bytes of one verifier.
pub type Nonce = [u8; 32];

/// Why a tree or a path cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NonceTreeError {
    /// No nonce, or more than [`MAX_NONCES`].
    #[error("{found} nonces, not 1 to {MAX_NONCES}")]
    Count {
        /// How many.
        found: usize,
    },
    /// The index is not that of a leaf.
    #[error("leaf {index} of {tree_size}")]
    Index {
        /// The index.
        index: u32,
        /// The number of leaves.
        tree_size: u32,
    },
    /// The path has not the length that its place in the tree gives it.
    #[error("{found} siblings where the path has {expected}")]
    PathLength {
        /// How many there are.
        found: usize,
        /// How many there must be.
        expected: usize,
    },
}

/// The tree over a batch of nonces.
#[derive(Debug, Clone)]
pub struct NonceTree {
    /// Leaves first, root last. A node without a sibling moves up as it is.
    levels: Vec<Vec<[u8; 32]>>,
    size: u32,
}

/// Proof that a nonce is in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoncePath {
    index: u32,
    tree_size: u32,
    siblings: Vec<[u8; 32]>,
}

impl NonceTree {
    /// The tree over `nonces`, in this order.
    ///
    /// # Errors
    /// [`NonceTreeError::Count`] for none or too many.
    pub fn new(nonces: &[Nonce]) -> Result<Self, NonceTreeError> {
        let count = NonceTreeError::Count {
            found: nonces.len(),
        };
        if nonces.is_empty() || nonces.len() > MAX_NONCES {
            return Err(count);
        }
        let size = u32::try_from(nonces.len()).map_err(|_| count)?;
        let mut level: Vec<[u8; 32]> = nonces.iter().map(leaf).collect();
        let mut levels = Vec::new();
        while level.len() > 1 {
            let next = level
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => node(left, right),
                    // The last chunk of an odd level; no other length occurs.
                    _ => pair.first().copied().unwrap_or_default(),
                })
                .collect();
            levels.push(std::mem::replace(&mut level, next));
        }
        levels.push(level);
        Ok(Self { levels, size })
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> [u8; 32] {
        self.levels
            .last()
            .and_then(|level| level.first())
            .copied()
            .unwrap_or_default()
    }

    /// The path of the nonce at `index`.
    ///
    /// # Errors
    /// [`NonceTreeError::Index`] if there is no such nonce.
    pub fn path(&self, index: u32) -> Result<NoncePath, NonceTreeError> {
        let missing = NonceTreeError::Index {
            index,
            tree_size: self.size,
        };
        if index >= self.size {
            return Err(missing);
        }
        let mut at = usize::try_from(index).map_err(|_| missing)?;
        let mut siblings = Vec::new();
        for level in &self.levels {
            if let Some(sibling) = level.get(at ^ 1)
                && level.len() > 1
            {
                siblings.push(*sibling);
            }
            at >>= 1;
        }
        Ok(NoncePath {
            index,
            tree_size: self.size,
            siblings,
        })
    }
}

impl NoncePath {
    /// A path from its parts, as received.
    ///
    /// # Errors
    /// [`NonceTreeError`], if no tree has such a path.
    pub fn new(
        index: u32,
        tree_size: u32,
        siblings: Vec<[u8; 32]>,
    ) -> Result<Self, NonceTreeError> {
        let size = usize::try_from(tree_size).unwrap_or(usize::MAX);
        if size == 0 || size > MAX_NONCES {
            return Err(NonceTreeError::Count { found: size });
        }
        if index >= tree_size {
            return Err(NonceTreeError::Index { index, tree_size });
        }
        let expected = places(index, tree_size).count();
        if siblings.len() != expected {
            return Err(NonceTreeError::PathLength {
                found: siblings.len(),
                expected,
            });
        }
        Ok(Self {
            index,
            tree_size,
            siblings,
        })
    }

    /// The place of the nonce.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// The number of nonces in the tree.
    #[must_use]
    pub const fn tree_size(&self) -> u32 {
        self.tree_size
    }

    /// The siblings, from the leaf up.
    #[must_use]
    pub fn siblings(&self) -> &[[u8; 32]] {
        &self.siblings
    }

    /// The root of the tree in which `nonce` has this path. The verifier hashes its *own* nonce.
    #[must_use]
    pub fn root(&self, nonce: &Nonce) -> [u8; 32] {
        places(self.index, self.tree_size).zip(&self.siblings).fold(
            leaf(nonce),
            |hash, (place, sibling)| match place {
                Place::Left => node(&hash, sibling),
                Place::Right => node(sibling, &hash),
            },
        )
    }
}

/// On which side of its sibling a node stands.
enum Place {
    Left,
    Right,
}

/// The places of a leaf and its ancestors that have siblings, from the leaf up.
fn places(index: u32, tree_size: u32) -> impl Iterator<Item = Place> {
    let mut at = index;
    let mut last = tree_size.saturating_sub(1);
    std::iter::from_fn(move || {
        while last > 0 {
            let place = match (at & 1, at == last) {
                (1, _) => Some(Place::Right),
                (_, false) => Some(Place::Left),
                // The last node of an odd level moves up without a sibling.
                (_, true) => None,
            };
            at >>= 1;
            last >>= 1;
            if place.is_some() {
                return place;
            }
        }
        None
    })
}

fn leaf(nonce: &Nonce) -> [u8; 32] {
    hash(LEAF, &[DOMAIN, nonce])
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    hash(NODE, &[left, right])
}

fn hash(kind: u8, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[kind]);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    // SHA-256 yields 32 bytes: the two slices have the same length.
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonces(count: u8) -> Vec<Nonce> {
        (0..count).map(|i| [i; 32]).collect()
    }

    #[test]
    fn every_nonce_of_every_small_tree_leads_to_the_root() {
        for count in 1..40u8 {
            let nonces = nonces(count);
            let tree = NonceTree::new(&nonces).unwrap();
            for (i, nonce) in (0u32..).zip(&nonces) {
                let path = tree.path(i).unwrap();
                let received =
                    NoncePath::new(path.index(), path.tree_size(), path.siblings().to_vec())
                        .unwrap();
                assert_eq!(received.root(nonce), tree.root(), "{i} of {count}");
                assert_ne!(received.root(&[0xFF; 32]), tree.root());
            }
        }
    }

    #[test]
    fn a_path_does_not_serve_at_another_place() {
        let nonces = nonces(8);
        let tree = NonceTree::new(&nonces).unwrap();
        let path = tree.path(3).unwrap();
        for index in [0u32, 1, 2, 4, 5, 6, 7] {
            let moved = NoncePath::new(index, 8, path.siblings().to_vec()).unwrap();
            assert_ne!(moved.root(&nonces[3]), tree.root());
        }
    }

    #[test]
    fn what_no_tree_has_is_refused() {
        assert_eq!(
            NonceTree::new(&[]).err(),
            Some(NonceTreeError::Count { found: 0 })
        );
        let many = vec![[0; 32]; MAX_NONCES + 1];
        assert_eq!(
            NonceTree::new(&many).err(),
            Some(NonceTreeError::Count {
                found: MAX_NONCES + 1
            })
        );
        let tree = NonceTree::new(&nonces(3)).unwrap();
        assert_eq!(
            tree.path(3),
            Err(NonceTreeError::Index {
                index: 3,
                tree_size: 3
            })
        );
        let rows = [
            (0, 0, 0, NonceTreeError::Count { found: 0 }),
            (0, 65_537, 16, NonceTreeError::Count { found: 65_537 }),
            (
                3,
                3,
                1,
                NonceTreeError::Index {
                    index: 3,
                    tree_size: 3,
                },
            ),
            (
                0,
                3,
                1,
                NonceTreeError::PathLength {
                    found: 1,
                    expected: 2,
                },
            ),
            (
                2,
                3,
                2,
                NonceTreeError::PathLength {
                    found: 2,
                    expected: 1,
                },
            ),
            (
                0,
                1,
                1,
                NonceTreeError::PathLength {
                    found: 1,
                    expected: 0,
                },
            ),
        ];
        for (index, size, siblings, error) in rows {
            assert_eq!(
                NoncePath::new(index, size, vec![[0; 32]; siblings]),
                Err(error)
            );
        }
    }

    #[test]
    fn the_largest_tree_has_paths_of_the_stated_length() {
        let last = u32::try_from(MAX_NONCES).unwrap();
        assert_eq!(places(0, last).count(), MAX_PATH);
    }

    #[test]
    fn a_leaf_is_not_a_node() {
        let tree = NonceTree::new(&nonces(2)).unwrap();
        assert_ne!(leaf(&tree.root()), tree.root());
        assert_ne!(NonceTree::new(&[tree.root()]).unwrap().root(), tree.root());
    }
}
