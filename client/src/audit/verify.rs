//! All logs of a service, verified from their tiles: the control log, and the issuance log of each boot that it names.
//!
//! What is read first has grown when the rest is read. So the logs that may grow are read twice: whole, and then on to
//! checkpoints that were taken together, so that the numbers of each tenant can be held against all logs at one time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use thiserror::Error;
use tlog::tile::Resource;
use tlog::{CosignerKey, TreeHead, VerifiedCheckpoint};
use tokio::task::{JoinError, JoinHandle};

use super::check::{Check, Held, Witnessed};
use super::kept::Kept;
use super::leaf::{Anchor, Kind, Leaf};
use super::name::{Boot, LogKeys, LogName, NameError};
use super::numbers::Numbers;
use super::report::{Fault, LogReport, Parted, Report, missing};
use super::source::{Source, SourceError};

/// Whose cosignatures the control log must have.
#[derive(Debug, Clone)]
pub struct Witnesses {
    /// Who may cosign.
    pub keys: Vec<CosignerKey>,
    /// How many must.
    pub quorum: usize,
}

/// Why an audit came to no end.
#[derive(Debug, Error)]
pub enum AuditError {
    /// Something was not read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A log can't be named.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The program is being stopped.
    #[error("the audit was stopped")]
    Stopped(#[from] JoinError),
}

/// How far an audit is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The log that is being read.
    pub log: &'a LogName,
    /// Leaves of it that were read.
    pub read: u64,
    /// Leaves that it has.
    pub size: u64,
}

/// Told from time to time.
pub type OnProgress<'a> = &'a mut (dyn FnMut(Progress<'_>) + Send);

/// Who audits a service: whose key it trusts, and what it has seen before.
#[derive(Debug, Clone)]
pub struct Auditor {
    /// The key of the logs.
    pub keys: LogKeys,
    /// Whose cosignatures are required.
    pub witnesses: Option<Witnesses>,
    /// The checkpoints that were verified last. They rise with each audit that finds nothing.
    pub kept: Kept,
}

impl Auditor {
    /// An auditor that has seen nothing.
    #[must_use]
    pub fn new(keys: LogKeys) -> Self {
        Self {
            keys,
            witnesses: None,
            kept: Kept::default(),
        }
    }

    /// Reads and verifies all logs.
    ///
    /// # Errors
    /// [`AuditError`] if not all could be read; what is wrong with the logs is in the report.
    pub async fn verify(
        &mut self,
        source: &Source,
        progress: OnProgress<'_>,
    ) -> Result<Report, AuditError> {
        let mut run = Run {
            auditor: self,
            source,
            progress,
            known: Known::default(),
            logs: BTreeMap::new(),
            broken: BTreeSet::new(),
        };
        // Whole, and then on to checkpoints that are taken together.
        for _ in 0..2 {
            run.read(&LogName::Control).await?;
            let mut boots = run.known.boots.order.clone();
            // The newest first: its log may grow while the others are read.
            boots.reverse();
            for boot in boots {
                run.read(&LogName::Issuance(boot)).await?;
            }
        }
        let Run {
            mut known,
            logs,
            broken,
            ..
        } = run;
        for name in self.kept.names() {
            if !logs.contains_key(name) && !broken.contains(name) {
                let origin = self.keys.origin(name)?;
                known
                    .report
                    .add(origin.as_str(), missing(Resource::Checkpoint));
            }
        }
        known.settle(self.keys.host());
        if known.report.found == 0 {
            for (name, log) in logs {
                if let Some(checkpoint) = log.checkpoint {
                    let key = self.keys.verifier_key(&name)?;
                    self.kept.raise(name, checkpoint, key);
                }
            }
        }
        Ok(known.report)
    }
}

/// A boot that the control log has seen begin.
#[derive(Debug, Default)]
struct BootHeads {
    anchors: Vec<TreeHead>,
    last: Option<TreeHead>,
}

#[derive(Debug, Default)]
struct Boots {
    /// Oldest first.
    order: Vec<Boot>,
    heads: BTreeMap<Boot, BootHeads>,
}

/// What the leaves have said so far.
#[derive(Debug, Default)]
struct Known {
    report: Report,
    numbers: Numbers,
    boots: Boots,
}

impl Known {
    /// Judges the numbers, when all logs were read.
    fn settle(&mut self, host: &str) {
        self.report.tenants = self.numbers.tenants();
        for gap in self.numbers.gaps() {
            if gap.is_settled {
                self.report.add(host, Fault::Gap(gap));
            } else {
                self.report.open.push(gap);
            }
        }
    }

    fn anchor(&mut self, origin: &str, index: u64, anchor: &Anchor) {
        let Some(heads) = self.boots.heads.get_mut(&anchor.boot) else {
            self.report.add(origin, Fault::NoBoot { index });
            return;
        };
        heads.anchors.push(anchor.head);
        if anchor.is_last {
            heads.last = Some(anchor.head);
        }
    }
}

/// Hears what is said of one log.
struct Ear<'a> {
    known: &'a mut Known,
    origin: &'a str,
    is_control: bool,
    /// The kept checkpoint and the one that is shown.
    proof: Option<[String; 2]>,
    shown: TreeHead,
}

impl Witnessed for Ear<'_> {
    fn leaf(&mut self, index: u64, leaf: &Leaf<'_>) {
        let report = &mut self.known.report;
        report.leaves = report.leaves.saturating_add(1);
        if !self.known.numbers.note(leaf.tenant, leaf.seq, leaf.at_s) {
            let number = leaf.seq;
            report.add(self.origin, Fault::Repeated { index, number });
        }
        if !self.is_control {
            return;
        }
        if let Some(anchor) = &leaf.anchor {
            self.known.anchor(self.origin, index, anchor);
        }
        if leaf.kind == Kind::Booted
            && let Ok(boot) = leaf.boot.parse::<Boot>()
        {
            let boots = &mut self.known.boots;
            boots.heads.entry(boot.clone()).or_default();
            boots.order.push(boot);
        } else if self.known.boots.order.last().map(Boot::as_str) != Some(leaf.boot) {
            // Only the boot that began last writes.
            self.known.report.add(self.origin, Fault::NoBoot { index });
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.known.report.add(self.origin, fault);
    }

    fn other(&mut self, held: &Held) {
        let fault = match (held, &self.proof) {
            (Held::Kept(kept), Some(proof)) => Fault::Forked(Box::new(Parted {
                kept: *kept,
                shown: self.shown,
                proof: proof.clone(),
            })),
            (Held::Kept(anchor), None) | (Held::Anchor(anchor), _) => {
                Fault::Anchor { anchor: *anchor }
            }
        };
        self.known.report.add(self.origin, fault);
    }
}

/// A log as far as it was read.
#[derive(Debug)]
struct Log {
    check: Check,
    /// The checkpoint that it was verified to.
    checkpoint: Option<VerifiedCheckpoint>,
}

struct Run<'a> {
    auditor: &'a Auditor,
    source: &'a Source,
    progress: OnProgress<'a>,
    known: Known,
    logs: BTreeMap<LogName, Log>,
    /// Logs that can't be read on.
    broken: BTreeSet<LogName>,
}

impl Run<'_> {
    /// Reads a log, or what has come to it since.
    async fn read(&mut self, name: &LogName) -> Result<(), AuditError> {
        if self.broken.contains(name) || self.is_complete(name) {
            return Ok(());
        }
        let origin = self.auditor.keys.origin(name)?;
        if let Err(fault) = self.try_read(name).await? {
            self.known.report.add(origin.as_str(), fault);
            self.broken.insert(name.clone());
        }
        Ok(())
    }

    /// Whether a log was read to its end, behind which nothing can come.
    fn is_complete(&self, name: &LogName) -> bool {
        let LogName::Issuance(boot) = name else {
            return false;
        };
        let last = self
            .known
            .boots
            .heads
            .get(boot)
            .and_then(|heads| heads.last);
        let read = self.logs.get(name).and_then(|log| log.checkpoint.as_ref());
        last.is_some_and(|last| read.is_some_and(|read| read.head() == last))
    }

    async fn try_read(&mut self, name: &LogName) -> Result<Result<(), Fault>, AuditError> {
        let bytes = self.source.read(name, Resource::Checkpoint).await?;
        let Some(bytes) = bytes else {
            // A boot that issued nothing has left no log.
            let may_be_absent = self.may_be_absent(name);
            return Ok(if may_be_absent {
                Ok(())
            } else {
                Err(missing(Resource::Checkpoint))
            });
        };
        let keys = &self.auditor.keys;
        let (origin, key) = (keys.origin(name)?, keys.verifier_key(name)?);
        let shown = match VerifiedCheckpoint::open(&bytes, &origin, &[key]) {
            Ok(shown) => shown,
            Err(error) => return Ok(Err(Fault::Checkpoint(error))),
        };
        let cosigned_by = match self.cosigned_by(name, &shown) {
            Ok(names) => names,
            Err(fault) => return Ok(Err(fault)),
        };
        if let Err(fault) = self.compare(name, &shown) {
            return Ok(Err(fault));
        }
        let proof = self
            .auditor
            .kept
            .of(name)
            .map(|kept| [note(kept), note(&shown)]);
        let mut log = self.logs.remove(name).unwrap_or_else(|| Log {
            check: Check::new(name.clone(), Vec::new()),
            checkpoint: None,
        });
        log.check.hold(self.held(name));
        let read = self
            .advance(name, &mut log.check, origin.as_str(), (shown.head(), proof))
            .await?;
        let report = LogReport {
            origin: origin.to_string(),
            head: shown.head(),
            cosigned_by,
            kept_size: self.auditor.kept.of(name).map(|kept| kept.head().size),
            checkpoint: note(&shown),
        };
        log.checkpoint = Some(shown);
        self.logs.insert(name.clone(), log);
        let logs = &mut self.known.report.logs;
        match logs.iter_mut().find(|known| known.origin == report.origin) {
            Some(known) => *known = report,
            None => logs.push(report),
        }
        Ok(read)
    }

    fn may_be_absent(&self, name: &LogName) -> bool {
        let LogName::Issuance(boot) = name else {
            return false;
        };
        let boots = &self.known.boots;
        let anchored = boots
            .heads
            .get(boot)
            .is_some_and(|heads| !heads.anchors.is_empty());
        let is_newest = boots.order.last() == Some(boot);
        !anchored && !is_newest && self.auditor.kept.of(name).is_none()
    }

    fn cosigned_by(
        &self,
        name: &LogName,
        shown: &VerifiedCheckpoint,
    ) -> Result<Vec<String>, Fault> {
        let Some(witnesses) = self
            .auditor
            .witnesses
            .as_ref()
            .filter(|_| *name == LogName::Control)
        else {
            return Ok(Vec::new());
        };
        let cosigned = shown
            .cosignatures(&witnesses.keys)
            .map_err(Fault::Cosignature)?;
        let (found, needed) = (cosigned.len(), witnesses.quorum);
        if found < needed {
            return Err(Fault::Quorum { found, needed });
        }
        let names = cosigned
            .iter()
            .map(|cosigned| cosigned.key().name().to_string());
        Ok(names.collect())
    }

    /// Holds what is shown against what was kept, and against what was shown before in this audit.
    fn compare(&self, name: &LogName, shown: &VerifiedCheckpoint) -> Result<(), Fault> {
        let before = self.logs.get(name).and_then(|log| log.checkpoint.as_ref());
        for kept in self.auditor.kept.of(name).into_iter().chain(before) {
            let parted = |old, new| {
                Box::new(Parted {
                    kept: old,
                    shown: new,
                    proof: [note(kept), note(shown)],
                })
            };
            let (old, new) = (kept.head(), shown.head());
            if new.size < old.size {
                return Err(Fault::Shrunk(parted(old, new)));
            }
            if new.size == old.size && new.root != old.root {
                return Err(Fault::Forked(parted(old, new)));
            }
        }
        let last = match name {
            LogName::Control => None,
            LogName::Issuance(boot) => self
                .known
                .boots
                .heads
                .get(boot)
                .and_then(|heads| heads.last),
        };
        match last {
            Some(anchor) if anchor != shown.head() => Err(Fault::End {
                anchor,
                found: shown.head(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// The heads that a log has to go through.
    fn held(&self, name: &LogName) -> Vec<Held> {
        let kept = self
            .auditor
            .kept
            .of(name)
            .map(|kept| Held::Kept(kept.head()));
        let heads = match name {
            LogName::Control => None,
            LogName::Issuance(boot) => self.known.boots.heads.get(boot),
        };
        let anchors = heads.into_iter().flat_map(|heads| &heads.anchors);
        kept.into_iter()
            .chain(anchors.map(|anchor| Held::Anchor(*anchor)))
            .collect()
    }

    /// Reads a log on to a head.
    async fn advance(
        &mut self,
        name: &LogName,
        check: &mut Check,
        origin: &str,
        (shown, proof): (TreeHead, Option<[String; 2]>),
    ) -> Result<Result<(), Fault>, AuditError> {
        let mut ear = Ear {
            known: &mut self.known,
            origin,
            is_control: *name == LogName::Control,
            proof,
            shown,
        };
        let mut steps = check.begin(shown);
        let mut ahead = Ahead::new(self.source, name);
        loop {
            ahead.fill(&mut steps);
            let Some((resource, bytes)) = ahead.next().await? else {
                break;
            };
            let Some(bytes) = bytes else {
                return Ok(Err(missing(resource)));
            };
            if let Err(fault) = check.give(resource, &bytes, &mut ear) {
                return Ok(Err(fault));
            }
            if matches!(resource, Resource::Entries(_)) {
                let (read, size) = (check.size(), shown.size);
                (self.progress)(Progress {
                    log: name,
                    read,
                    size,
                });
            }
        }
        Ok(check.end())
    }
}

fn note(checkpoint: &VerifiedCheckpoint) -> String {
    checkpoint.note().note().to_string()
}

type Read = Result<Option<Vec<u8>>, SourceError>;

/// Reads that are under way, in their order.
struct Ahead<'a> {
    source: &'a Source,
    name: &'a LogName,
    reads: VecDeque<(Resource, Option<JoinHandle<Read>>)>,
}

impl<'a> Ahead<'a> {
    const fn new(source: &'a Source, name: &'a LogName) -> Self {
        Self {
            source,
            name,
            reads: VecDeque::new(),
        }
    }

    fn fill(&mut self, steps: &mut impl Iterator<Item = Resource>) {
        let depth = self.source.depth();
        while self.reads.len() < depth {
            let Some(resource) = steps.next() else {
                return;
            };
            let read = (depth > 1).then(|| {
                let (source, name) = (self.source.clone(), self.name.clone());
                tokio::spawn(async move { source.read(&name, resource).await })
            });
            self.reads.push_back((resource, read));
        }
    }

    async fn next(&mut self) -> Result<Option<(Resource, Option<Vec<u8>>)>, AuditError> {
        let Some((resource, read)) = self.reads.pop_front() else {
            return Ok(None);
        };
        let read = match read {
            Some(read) => read.await?,
            None => self.source.read(self.name, resource).await,
        };
        Ok(Some((resource, read?)))
    }
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        for read in self.reads.drain(..).filter_map(|(_, read)| read) {
            read.abort();
        }
    }
}
