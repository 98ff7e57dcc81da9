//! What an echoed bearer looks like: all its spellings, in one trie.
//!
//! The automaton is that of Aho and Corasick: reading one byte leads from a
//! state to the state of the longest spelling that may have begun.

use base64ct::{Base64Unpadded, Base64UrlUnpadded, Encoding};
use zeroize::Zeroizing;

/// A shorter token is not looked for: it would be found by chance.
pub(crate) const MIN_TOKEN_BYTES: usize = 12;

/// Bytes that a base64 group may begin before the token.
const GROUP: usize = 3;

const ROOT: u32 = 0;

/// The spellings of one bearer.
pub(crate) struct Needles {
    /// The byte that leads to each state; wiped when dropped.
    bytes: Zeroizing<Vec<u8>>,
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Default)]
struct Node {
    first_child: u32,
    next_sibling: u32,
    fail: u32,
    depth: u32,
    accepts: bool,
}

impl std::fmt::Debug for Needles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Needles([redacted])")
    }
}

/// A state of the automaton.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(u32);

impl State {
    pub(super) const START: Self = Self(ROOT);

    pub(super) fn is_start(self) -> bool {
        self.0 == ROOT
    }
}

impl Needles {
    /// For a bearer token; none if it is too short to be told from other text.
    pub(crate) fn new(token: &[u8]) -> Option<Self> {
        if token.len() < MIN_TOKEN_BYTES {
            return None;
        }
        let mut needles = Self {
            bytes: Zeroizing::new(vec![0]),
            nodes: vec![Node::default()],
        };
        needles.insert(token)?;
        needles.insert(&hex(token, b"0123456789abcdef"))?;
        needles.insert(&hex(token, b"0123456789ABCDEF"))?;
        for before in 0..GROUP {
            needles.insert(&base64::<Base64Unpadded>(token, before)?)?;
            needles.insert(&base64::<Base64UrlUnpadded>(token, before)?)?;
        }
        needles.link();
        Some(needles)
    }

    /// The state after one more byte.
    pub(super) fn next(&self, from: State, byte: u8) -> State {
        let mut state = from.0;
        loop {
            if let Some(child) = self.child(state, byte) {
                return State(child);
            }
            if state == ROOT {
                return State(ROOT);
            }
            state = self.node(state).fail;
        }
    }

    /// How many bytes of a spelling a state stands for.
    pub(super) fn depth(&self, state: State) -> usize {
        usize::try_from(self.node(state.0).depth).unwrap_or(usize::MAX)
    }

    /// Whether a whole spelling was read.
    pub(super) fn accepts(&self, state: State) -> bool {
        self.node(state.0).accepts
    }

    /// Whether a spelling begins with this byte.
    pub(super) fn begins(&self, byte: u8) -> bool {
        self.child(ROOT, byte).is_some()
    }

    fn node(&self, state: u32) -> Node {
        usize::try_from(state)
            .ok()
            .and_then(|at| self.nodes.get(at))
            .copied()
            .unwrap_or_default()
    }

    fn byte(&self, state: u32) -> u8 {
        usize::try_from(state)
            .ok()
            .and_then(|at| self.bytes.get(at))
            .copied()
            .unwrap_or_default()
    }

    fn node_mut(&mut self, state: u32) -> Option<&mut Node> {
        self.nodes.get_mut(usize::try_from(state).ok()?)
    }

    fn child(&self, state: u32, byte: u8) -> Option<u32> {
        let mut child = self.node(state).first_child;
        while child != ROOT {
            if self.byte(child) == byte {
                return Some(child);
            }
            child = self.node(child).next_sibling;
        }
        None
    }

    fn insert(&mut self, spelling: &[u8]) -> Option<()> {
        let mut state = ROOT;
        for byte in spelling {
            state = match self.child(state, *byte) {
                Some(child) => child,
                None => {
                    let child = u32::try_from(self.nodes.len()).ok()?;
                    let parent = self.node(state);
                    self.bytes.push(*byte);
                    self.nodes.push(Node {
                        next_sibling: parent.first_child,
                        depth: parent.depth.checked_add(1)?,
                        ..Node::default()
                    });
                    self.node_mut(state)?.first_child = child;
                    child
                }
            };
        }
        self.node_mut(state)?.accepts = true;
        Some(())
    }

    /// Sets the states to fall back to, level by level.
    fn link(&mut self) {
        let mut order: Vec<u32> = Vec::with_capacity(self.nodes.len());
        order.push(ROOT);
        let mut at = 0;
        while let Some(parent) = order.get(at).copied() {
            at = at.saturating_add(1);
            let mut child = self.node(parent).first_child;
            while child != ROOT {
                order.push(child);
                let fail = if parent == ROOT {
                    ROOT
                } else {
                    self.next(State(self.node(parent).fail), self.byte(child)).0
                };
                let accepts = self.node(fail).accepts;
                if let Some(node) = self.node_mut(child) {
                    node.fail = fail;
                    node.accepts |= accepts;
                }
                child = self.node(child).next_sibling;
            }
        }
    }
}

fn hex(token: &[u8], digits: &[u8; 16]) -> Zeroizing<Vec<u8>> {
    let digit = |value: u8| digits.get(usize::from(value)).copied().unwrap_or_default();
    let text = token
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    let mut out = Zeroizing::new(Vec::with_capacity(token.len().saturating_mul(2)));
    out.extend(text);
    out
}

/// The characters of a base64 text that the token alone decides, when `before`
/// bytes of the first group belong to something else.
fn base64<E: Encoding>(token: &[u8], before: usize) -> Option<Zeroizing<Vec<u8>>> {
    let mut all = Zeroizing::new(vec![0; before]);
    all.extend_from_slice(token);
    let text = Zeroizing::new(E::encode_string(&all));
    // Six bits a character.
    let first = before.checked_mul(8)?.div_ceil(6);
    let end = all.len().checked_mul(8)?.checked_div(6)?;
    Some(Zeroizing::new(text.as_bytes().get(first..end)?.to_vec()))
}
