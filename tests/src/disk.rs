//! A simulated disk: it counts what is done to it, fails where it is told to, and loses power.
//!
//! What was not synced may be lost, as real disks lose it: of a file's writes some first ones reach the disk, of the
//! last of them some first sectors, or the file grows and the sectors stay zero; of a folder's names some first
//! changes. What was synced stays. After a sync of a file that failed, what it should have written is read back as if it
//! were there, and is lost all the same unless it is written again.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use broker::store::{Folder, Medium};
use parking_lot::Mutex;

pub use crate::dice::Dice;

/// The unit in which a disk writes.
const SECTOR_BYTES: u64 = 512;

/// What goes wrong at an operation that changes the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It fails; a write leaves its first half.
    Fails(io::ErrorKind),
    /// The power goes: it fails, and whatever comes after it.
    PowerLoss,
}

/// A change of a file that is not durable yet.
#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Clone, Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced_names: Vec<NameChange>,
    operations: u64,
    syncs: u64,
    trouble: Option<(u64, Trouble)>,
    off: bool,
    lies: bool,
}

/// A disk with one folder. Its clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

/// A file of a [`Disk`].
#[derive(Clone, Debug)]
pub struct DiskFile {
    disk: Disk,
    inode: usize,
}

impl Disk {
    /// A disk with one durable file.
    #[must_use]
    pub fn with(name: &str, bytes: &[u8]) -> Self {
        let disk = Self::default();
        {
            let mut state = disk.0.lock();
            state.inodes.push(Inode {
                now: bytes.to_vec(),
                durable: bytes.to_vec(),
                unsynced: Vec::new(),
            });
            state.names.insert(name.to_owned(), 0);
            state.durable_names.insert(name.to_owned(), 0);
        }
        disk
    }

    /// Lets the operation of this number (from 0) go wrong.
    pub fn trouble_at(&self, operation: u64, trouble: Trouble) {
        self.0.lock().trouble = Some((operation, trouble));
    }

    /// Nothing more is to go wrong.
    pub fn calm(&self) {
        self.0.lock().trouble = None;
    }

    /// From now on syncs do nothing and say that all is well.
    pub fn lie_about_syncs(&self) {
        self.0.lock().lies = true;
    }

    /// How many operations changed the disk, or tried to.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// How often files were synced, or should have been.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// What a file holds now.
    #[must_use]
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.0.lock();
        let inode = state.names.get(name)?;
        state.inodes.get(*inode).map(|inode| inode.now.clone())
    }

    /// The disk after the power came back: what was synced, and some of the rest.
    #[must_use]
    pub fn after_power_loss(&self, dice: &mut Dice) -> Self {
        let state = self.0.lock();
        let mut names = state.durable_names.clone();
        let kept = dice.below((state.unsynced_names.len() as u64).saturating_add(1));
        for change in state.unsynced_names.iter().zip(0..kept) {
            apply_name(&mut names, change.0);
        }
        let inodes = state.inodes.iter().map(|inode| {
            let durable = survived(inode, dice);
            Inode {
                now: durable.clone(),
                durable,
                unsynced: Vec::new(),
            }
        });
        let after = State {
            inodes: inodes.collect(),
            durable_names: names.clone(),
            names,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(after)))
    }

    /// Counts an operation, and fails if it is to.
    fn operate(state: &mut State) -> io::Result<()> {
        if state.off {
            return Err(io::Error::other("no power"));
        }
        let number = state.operations;
        state.operations = number.saturating_add(1);
        match state.trouble {
            Some((at, Trouble::Fails(kind))) if at == number => Err(kind.into()),
            Some((at, Trouble::PowerLoss)) if at == number => {
                state.off = true;
                Err(io::Error::other("the power goes"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn change_names(&self, change: NameChange) -> io::Result<()> {
        let mut state = self.0.lock();
        Self::operate(&mut state)?;
        apply_name(&mut state.names, &change);
        state.unsynced_names.push(change);
        Ok(())
    }
}

fn apply_name(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    match change {
        NameChange::Set(name, inode) => {
            names.insert(name.clone(), *inode);
        }
        NameChange::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        NameChange::Remove(name) => {
            names.remove(name);
        }
    }
}

/// What the disk holds of a file when the power went.
fn survived(inode: &Inode, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = inode.durable.clone();
    let kept = dice.below((inode.unsynced.len() as u64).saturating_add(1));
    for (change, number) in inode.unsynced.iter().zip(1..=kept) {
        match change {
            Change::Write { offset, bytes: new } if number == kept => {
                tear(&mut bytes, *offset, new, dice);
            }
            Change::Write { offset, bytes: new } => write(&mut bytes, *offset, new),
            Change::Length(length) => resize(&mut bytes, *length),
        }
    }
    bytes
}

/// The last write that reached the disk: whole, or its first sectors, or with room for the others; of one that makes the
/// file no longer any sectors.
fn tear(file: &mut Vec<u8>, offset: u64, new: &[u8], dice: &mut Dice) {
    let end = offset.saturating_add(new.len() as u64);
    if end <= file.len() as u64 && dice.below(4) != 0 {
        let mut at = offset;
        while at < end {
            let border = at.saturating_add(1).next_multiple_of(SECTOR_BYTES).min(end);
            let place = |at: u64| usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
            if dice.below(2) == 0 {
                let sector = new.get(place(at)..place(border)).unwrap_or_default();
                write(file, at, sector);
            }
            at = border;
        }
        return;
    }
    let sectors = end
        .div_ceil(SECTOR_BYTES)
        .saturating_sub(offset.checked_div(SECTOR_BYTES).unwrap_or(0));
    let kept = dice.below(sectors.saturating_add(1));
    let border = offset
        .checked_div(SECTOR_BYTES)
        .unwrap_or(0)
        .saturating_add(kept)
        .saturating_mul(SECTOR_BYTES)
        .clamp(offset, end);
    let kept_bytes = usize::try_from(border.saturating_sub(offset)).unwrap_or(usize::MAX);
    let (first, _lost) = new.split_at(kept_bytes.min(new.len()));
    write(file, offset, first);
    if dice.below(2) == 0 {
        let length = (file.len() as u64).max(end);
        resize(file, length);
    }
}

fn write(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let end = offset.saturating_add(bytes.len());
    if file.len() < end {
        file.resize(end, 0);
    }
    if let Some(place) = file.get_mut(offset..end) {
        place.copy_from_slice(bytes);
    }
}

fn resize(file: &mut Vec<u8>, length: u64) {
    file.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
}

impl Folder for Disk {
    type File = DiskFile;

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(name)
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        Ok(self.0.lock().names.contains_key(name))
    }

    fn open(&self, name: &str) -> io::Result<DiskFile> {
        let inode = self.0.lock().names.get(name).copied();
        Ok(DiskFile {
            disk: self.clone(),
            inode: inode.ok_or(io::ErrorKind::NotFound)?,
        })
    }

    fn create(&self, name: &str) -> io::Result<DiskFile> {
        let inode = {
            let mut state = self.0.lock();
            state.inodes.push(Inode::default());
            state.inodes.len().saturating_sub(1)
        };
        self.change_names(NameChange::Set(name.to_owned(), inode))?;
        self.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change_names(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        if self.exists(name)? {
            self.change_names(NameChange::Remove(name.to_owned()))?;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        Self::operate(&mut state)?;
        if !state.lies {
            state.unsynced_names.clear();
            state.durable_names = state.names.clone();
        }
        Ok(())
    }
}

impl DiskFile {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let was_off = state.off;
        let outcome = Disk::operate(&mut state);
        if was_off {
            return outcome;
        }
        // A write that was under way when the power went may have reached the disk.
        let off = state.off;
        let inode = state
            .inodes
            .get_mut(self.inode)
            .ok_or(io::ErrorKind::NotFound)?;
        let change = match (outcome.is_ok() || off, change) {
            (true, change) => change,
            // A short write.
            (false, Change::Write { offset, mut bytes }) => {
                bytes.truncate(bytes.len().checked_div(2).unwrap_or(0));
                Change::Write { offset, bytes }
            }
            (false, Change::Length(_)) => return outcome,
        };
        match &change {
            Change::Write { offset, bytes } => write(&mut inode.now, *offset, bytes),
            Change::Length(length) => resize(&mut inode.now, *length),
        }
        inode.unsynced.push(change);
        outcome
    }
}

impl Medium for DiskFile {
    fn length_bytes(&self) -> io::Result<u64> {
        let state = self.disk.0.lock();
        let inode = state.inodes.get(self.inode);
        Ok(inode.map_or(0, |inode| inode.now.len() as u64))
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let state = self.disk.0.lock();
        let found = state
            .inodes
            .get(self.inode)
            .and_then(|inode| inode.now.get(offset..offset.saturating_add(out.len())));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(Change::Write {
            offset,
            bytes: bytes.to_vec(),
        })
    }

    fn truncate(&self, length_bytes: u64) -> io::Result<()> {
        self.change(Change::Length(length_bytes))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let (was_off, outcome) = (state.off, Disk::operate(&mut state));
        let (off, lies) = (state.off, state.lies);
        state.syncs = state.syncs.saturating_add(1);
        let inode = state
            .inodes
            .get_mut(self.inode)
            .ok_or(io::ErrorKind::NotFound)?;
        if was_off || off || lies {
            return outcome;
        }
        // After a failure the system takes for clean what it did not write: no later sync writes it.
        let changes = std::mem::take(&mut inode.unsynced);
        if outcome.is_ok() {
            for change in changes {
                match change {
                    Change::Write { offset, bytes } => write(&mut inode.durable, offset, &bytes),
                    Change::Length(length) => resize(&mut inode.durable, length),
                }
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_stays_and_the_rest_may_be_lost() -> io::Result<()> {
        let disk = Disk::default();
        let file = disk.create("a")?;
        file.write_all_at(&[1; 1_000], 0)?;
        file.sync()?;
        let folder: &dyn Folder<File = DiskFile> = &disk;
        folder.sync()?;
        file.write_all_at(&[2; 2_000], 1_000)?;
        disk.rename("a", "b")?;
        let (mut lengths, mut renamed) = (std::collections::BTreeSet::new(), 0);
        for seed in 0..200 {
            let after = disk.after_power_loss(&mut Dice::new(seed));
            let name = if after.exists("b")? { "b" } else { "a" };
            renamed += u32::from(name == "b");
            let bytes = after.contents(name).unwrap_or_default();
            assert_eq!(bytes.get(..1_000), Some([1; 1_000].as_slice()));
            assert!(bytes.iter().skip(1_000).all(|byte| matches!(byte, 0 | 2)));
            lengths.insert(bytes.len());
        }
        // Nothing, all, or up to each sector's border between.
        let borders = [1_000, 1_024, 1_536, 2_048, 2_560, 3_000];
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), borders);
        assert!((20..180).contains(&renamed), "{renamed}");
        Ok(())
    }

    #[test]
    fn trouble_comes_where_it_was_told_to() -> io::Result<()> {
        let disk = Disk::default();
        let file = disk.create("a")?;
        disk.trouble_at(2, Trouble::Fails(io::ErrorKind::StorageFull));
        file.write_all_at(&[1; 10], 0)?;
        let failed = file.write_all_at(&[2; 10], 10).map_err(|e| e.kind());
        assert_eq!(failed, Err(io::ErrorKind::StorageFull));
        assert_eq!(file.length_bytes()?, 15);
        file.sync()?;
        disk.trouble_at(5, Trouble::PowerLoss);
        file.truncate(3)?;
        assert!(file.sync().is_err());
        assert!(file.write_all_at(&[1], 0).is_err());
        assert_eq!((disk.operations(), disk.syncs()), (6, 2));
        Ok(())
    }
}
