//! [`Files`]: what a disk can hold after a crash, given all writes to it and the syncs that had ended.
//!
//! Everything that a sync covered is there. Every other sector of 512 bytes may be there or not, in any combination. The
//! same holds for each truncation, and for each creation and deletion of a file whose directory was not synced since.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use crate::trace::{Event, What};

const SECTOR: usize = 512;
/// The directory itself.
const DIRECTORY: &str = ".";

/// How much of the data that was not synced is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsynced {
    /// All of it: only the process was killed.
    All,
    /// Nothing.
    Nothing,
    /// Any part of it.
    Torn,
}

/// The files of a directory: what is certainly on the disk, and what may be.
#[derive(Default)]
pub(crate) struct Files {
    files: BTreeMap<String, File>,
    /// For each sync that is running: how many changes of each file it covers.
    syncs: HashMap<u64, BTreeMap<String, usize>>,
}

#[derive(Clone, Default)]
struct File {
    /// The content that is certainly on the disk.
    durable: Vec<u8>,
    /// The changes since, in order.
    pending: Vec<Change>,
    /// The number of all changes so far.
    changes: usize,
    /// Whether its creation is certainly on the disk.
    is_created: bool,
    is_unlinked: bool,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Truncate { length: usize },
}

impl Files {
    /// Applies the next event.
    pub(crate) fn follow(&mut self, event: &Event) {
        match &event.what {
            What::Append { .. } => {}
            What::Write { offset, data } => {
                self.change(&event.file, Change::Write { offset: *offset, data: data.clone() });
            }
            What::Truncate { length } => self.change(&event.file, Change::Truncate { length: *length }),
            What::Unlink => self.files.entry(event.file.clone()).or_default().is_unlinked = true,
            What::SyncBegins { number } => {
                let covered = self.files.iter().map(|(name, file)| (name.clone(), file.changes)).collect();
                self.syncs.insert(*number, covered);
            }
            What::SyncEnds { number } => {
                let covered = self.syncs.remove(number).unwrap();
                if event.file == DIRECTORY {
                    self.files.retain(|_, file| !file.is_unlinked);
                    self.files.values_mut().for_each(|file| file.is_created = true);
                } else if let (Some(file), Some(covered)) =
                    (self.files.get_mut(&event.file), covered.get(&event.file))
                {
                    file.is_created = true;
                    file.settle(*covered);
                }
            }
        }
    }

    /// Writes the files that the disk can hold after a crash now.
    pub(crate) fn write(&self, directory: &Path, unsynced: Unsynced, rng: &mut Rng) {
        for (name, file) in &self.files {
            let (is_created, is_unlinked) = match unsynced {
                Unsynced::All => (true, file.is_unlinked),
                Unsynced::Nothing => (file.is_created, false),
                Unsynced::Torn => (file.is_created || rng.flip(), file.is_unlinked && rng.flip()),
            };
            if is_created && !is_unlinked {
                fs::write(directory.join(name), file.after_crash(unsynced, rng)).unwrap();
            }
        }
    }

    fn change(&mut self, name: &str, change: Change) {
        let file = self.files.entry(name.to_owned()).or_default();
        if file.is_unlinked {
            // This is a new file with the same name.
            *file = File { changes: file.changes, ..File::default() };
        }
        file.changes += 1;
        file.pending.push(change);
    }
}

impl File {
    /// The changes up to this number are certainly on the disk.
    fn settle(&mut self, covered: usize) {
        let settled = self.changes - self.pending.len();
        for change in self.pending.drain(..covered.saturating_sub(settled)) {
            apply(&mut self.durable, &change, &mut |_| true);
        }
    }

    fn after_crash(&self, unsynced: Unsynced, rng: &mut Rng) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        // Sometimes little is missing, and sometimes much.
        let percent = rng.below(101);
        for change in &self.pending {
            apply(&mut bytes, change, &mut |_| match unsynced {
                Unsynced::All => true,
                Unsynced::Nothing => false,
                Unsynced::Torn => rng.below(100) < percent,
            });
        }
        bytes
    }
}

/// Applies the sectors of a change that are on the disk.
fn apply(bytes: &mut Vec<u8>, change: &Change, is_there: &mut dyn FnMut(usize) -> bool) {
    match change {
        Change::Truncate { length } => {
            if is_there(*length) {
                bytes.resize(*length, 0);
            }
        }
        Change::Write { offset, data } => {
            let mut at = 0;
            while at < data.len() {
                let until_next = SECTOR - (offset + at) % SECTOR;
                let part = &data[at..data.len().min(at + until_next)];
                let (begin, end) = (offset + at, offset + at + part.len());
                if is_there(begin) {
                    if bytes.len() < end {
                        bytes.resize(end, 0);
                    }
                    bytes[begin..end].copy_from_slice(part);
                }
                at += part.len();
            }
        }
    }
}

/// A small random number generator (`SplitMix64`): the seed decides everything.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn flip(&mut self) -> bool {
        self.below(2) == 0
    }
}
