//! What came of an audit.

use serde_json::{Value, json};
use thiserror::Error;
use tlog::tile::{EntryBundleError, Resource};
use tlog::{CosignatureError, OpenError, TreeHead};

use super::leaf::LeafError;
use super::numbers::Gap;

/// Findings that are listed; more are counted.
pub const MAX_FINDINGS: usize = 100;

/// Two checkpoints that one key signed, of which one does not lead to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parted {
    /// What the auditor kept.
    pub kept: TreeHead,
    /// What is shown now.
    pub shown: TreeHead,
    /// Both checkpoints: the proof.
    pub proof: [String; 2],
}

/// What is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// Something that the log must serve is not there.
    #[error("{path} is not there")]
    Missing {
        /// Its path.
        path: String,
    },
    /// The checkpoint is not signed by the log's key, or is none.
    #[error("the checkpoint is refused: {0}")]
    Checkpoint(OpenError),
    /// Too few of the witnesses cosigned.
    #[error("{found} of {needed} witnesses cosigned the checkpoint")]
    Quorum {
        /// As many did.
        found: usize,
        /// As many must.
        needed: usize,
    },
    /// A cosignature by one of the witnesses is wrong.
    #[error("a cosignature is wrong: {0}")]
    Cosignature(CosignatureError),
    /// The log is smaller than it was.
    #[error("the log has shrunk from {} to {} leaves", .0.kept.size, .0.shown.size)]
    Shrunk(Box<Parted>),
    /// The log does not begin with what it was.
    #[error("the log has another history than it had at {} leaves: a fork", .0.kept.size)]
    Forked(Box<Parted>),
    /// A bundle of entries can't be read.
    #[error("the entries can't be read: {0}")]
    Entries(EntryBundleError),
    /// The first entries of a bundle are not those of the bundle before it grew.
    #[error("{path}: entry {index} is not the one that was there before")]
    Changed {
        /// The bundle.
        path: String,
        /// The entry.
        index: u64,
    },
    /// A hash tile is not that of the entries.
    #[error("{path} is not what the entries hash to")]
    Tile {
        /// Its path.
        path: String,
    },
    /// The entries do not hash to the root that was signed.
    #[error("the entries hash to {}, the checkpoint says {}", .found.root, .signed.root)]
    Root {
        /// What was signed.
        signed: TreeHead,
        /// What was found.
        found: TreeHead,
    },
    /// What was given is not what was asked for: the caller's fault.
    #[error("{path} was not asked for")]
    Unasked {
        /// Its path.
        path: String,
    },
    /// A leaf breaks the schema.
    #[error("leaf {index}: {error}")]
    Leaf {
        /// Its index.
        index: u64,
        /// How.
        error: LeafError,
    },
    /// Two leaves of a tenant have one number.
    #[error("leaf {index} has the number {number}, which another leaf of the tenant has")]
    Repeated {
        /// The second leaf's index.
        index: u64,
        /// The number.
        number: u64,
    },
    /// Numbers of a tenant that no leaf has: leaves were kept back.
    #[error("no leaf of {} has the numbers {} to {}", .0.tenant.as_deref().unwrap_or("the system"), .0.from, .0.to)]
    Gap(Gap),
    /// The control log holds fast another head of this log.
    #[error("at {} leaves the log is not what the control log says it was", .anchor.size)]
    Anchor {
        /// What the control log says.
        anchor: TreeHead,
    },
    /// The log of a boot that is over does not end where the control log says.
    #[error("the log ends at {} leaves, the control log says {}", .found.size, .anchor.size)]
    End {
        /// What the control log says.
        anchor: TreeHead,
        /// What is shown.
        found: TreeHead,
    },
    /// The control log holds fast a log of a boot that never began.
    #[error("leaf {index} speaks of a boot that the control log has not seen begin")]
    NoBoot {
        /// The leaf of the control log.
        index: u64,
    },
    /// A log has no more leaves than can be counted.
    #[error("the log is full")]
    Full,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The log's origin.
    pub log: String,
    /// What is wrong.
    pub fault: Fault,
}

impl Finding {
    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"log": self.log, "what": self.fault.to_string(), "proof": self.proof()})
    }

    /// The two checkpoints that prove it, if it can be proved to others.
    #[must_use]
    pub fn proof(&self) -> Option<&[String; 2]> {
        match &self.fault {
            Fault::Shrunk(parted) | Fault::Forked(parted) => Some(&parted.proof),
            Fault::Missing { .. }
            | Fault::Checkpoint(_)
            | Fault::Quorum { .. }
            | Fault::Cosignature(_)
            | Fault::Entries(_)
            | Fault::Changed { .. }
            | Fault::Tile { .. }
            | Fault::Root { .. }
            | Fault::Unasked { .. }
            | Fault::Leaf { .. }
            | Fault::Repeated { .. }
            | Fault::Gap(_)
            | Fault::Anchor { .. }
            | Fault::End { .. }
            | Fault::NoBoot { .. }
            | Fault::Full => None,
        }
    }
}

/// One log that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogReport {
    /// Its origin.
    pub origin: String,
    /// What was verified of it.
    pub head: TreeHead,
    /// The witnesses that cosigned.
    pub cosigned_by: Vec<String>,
    /// What the auditor had kept of it, and it was held against.
    pub kept_size: Option<u64>,
    /// The signed note, to be kept.
    pub checkpoint: String,
}

/// What came of an audit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The logs that were read, the control log first.
    pub logs: Vec<LogReport>,
    /// Leaves that were read.
    pub leaves: u64,
    /// Tenants that have leaves.
    pub tenants: usize,
    /// Numbers that are missing and may be under way.
    pub open: Vec<Gap>,
    /// What is wrong, as far as it is listed.
    pub findings: Vec<Finding>,
    /// How much is wrong.
    pub found: usize,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All of it holds.
    Holds,
    /// Nothing is wrong, but some of the newest numbers are under way: a later audit will tell.
    Open,
    /// Something is wrong.
    Refused,
}

impl Verdict {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Open => "open",
            Self::Refused => "refused",
        }
    }
}

impl Report {
    pub(super) fn add(&mut self, log: &str, fault: Fault) {
        self.found = self.found.saturating_add(1);
        if self.findings.len() < MAX_FINDINGS {
            let log = log.to_owned();
            self.findings.push(Finding { log, fault });
        }
    }

    /// How it ended.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        match (self.found, self.open.is_empty()) {
            (0, true) => Verdict::Holds,
            (0, false) => Verdict::Open,
            _ => Verdict::Refused,
        }
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let log = |log: &LogReport| {
            json!({
                "origin": log.origin,
                "size": log.head.size,
                "root": log.head.root.to_string(),
                "cosigned_by": log.cosigned_by,
                "kept_size": log.kept_size,
            })
        };
        let gap = |gap: &Gap| json!({"tenant": gap.tenant, "from": gap.from, "to": gap.to});
        json!({
            "verdict": self.verdict().as_str(),
            "leaves": self.leaves,
            "tenants": self.tenants,
            "logs": self.logs.iter().map(log).collect::<Vec<_>>(),
            "under_way": self.open.iter().map(gap).collect::<Vec<_>>(),
            "findings": self.findings.iter().map(Finding::to_json).collect::<Vec<_>>(),
            "found": self.found,
        })
    }
}

/// The path of what is missing.
pub(super) fn missing(resource: Resource) -> Fault {
    Fault::Missing {
        path: resource.path(),
    }
}
