//! The nodes' logs as they were: a segment that a node gives up stays under a second name, so that the checkers can
//! read the log from its beginning when all is over.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use checkers::wal::{Directory, Platter};

use super::layout::Layout;

/// Between two looks at the disks.
const LOOK: Duration = Duration::from_millis(20);
/// So much of a node's log is kept: its disk must not fill up with what it has given up.
const KEPT_BYTES: u64 = 400 << 20;
/// Where, on the node's own disk: names of one file are of one file system.
const KEPT: &str = "kept";
const LOG: &str = "log";

/// Keeps what nodes write.
#[derive(Debug)]
pub(super) struct Archive {
    disks: Vec<(u64, PathBuf)>,
}

impl Archive {
    pub(super) fn new(layout: &Layout, ids: &[u64]) -> Self {
        Archive {
            disks: ids.iter().map(|id| (*id, layout.disk(*id))).collect(),
        }
    }

    /// Looks, for ever.
    pub(super) async fn keep(&self) {
        loop {
            for (_, disk) in &self.disks {
                keep(disk);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// All that was on the disks, once no process runs any more.
    pub(super) fn shelves(&self) -> Vec<(u64, Shelf)> {
        let shelf = |disk: &PathBuf| {
            keep(disk);
            Shelf {
                disk: Directory(disk.clone()),
                kept: Directory(disk.join(KEPT)),
            }
        };
        self.disks.iter().map(|(id, disk)| (*id, shelf(disk))).collect()
    }
}

/// Gives every segment of a disk's log a second name. What fails now (the disk is without power, a file has just gone)
/// is tried again, and missed at the end.
fn keep(disk: &Path) {
    let (log, kept) = (disk.join(LOG), disk.join(KEPT).join(LOG));
    let Ok(names) = fs::read_dir(&log) else { return };
    if fs::create_dir_all(&kept).is_err() {
        return;
    }
    let inode = |path: &Path| fs::metadata(path).map(|file| file.ino()).ok();
    let mut new = false;
    for name in names.flatten().map(|entry| entry.file_name()) {
        let (own, second) = (log.join(&name), kept.join(&name));
        if own.extension().is_none_or(|kind| kind != "wal") || inode(&own) == inode(&second) {
            continue;
        }
        // After a power cut a name may stand for another file.
        let _ = fs::remove_file(&second);
        new |= bytes(&kept) < KEPT_BYTES && fs::hard_link(&own, &second).is_ok();
    }
    if new && let Ok(directory) = File::open(&kept) {
        let _ = directory.sync_all();
    }
}

fn bytes(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    files
        .filter_map(|file| file.metadata().ok())
        .map(|file| file.len())
        .sum()
}

/// A node's disk, with what it has given up.
#[derive(Debug)]
pub(super) struct Shelf {
    disk: Directory,
    kept: Directory,
}

impl Platter for Shelf {
    fn list(&self, dir: &str) -> Vec<String> {
        let names: BTreeSet<String> = [&self.disk, &self.kept]
            .iter()
            .flat_map(|directory| directory.list(dir))
            .collect();
        names.into_iter().collect()
    }

    fn read(&self, path: &str, offset: u64, len: usize) -> Vec<u8> {
        let own = self.disk.0.join(path).exists();
        let directory = if own { &self.disk } else { &self.kept };
        directory.read(path, offset, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_that_goes_is_kept_and_one_that_is_made_anew_counts() {
        let root = tempfile::tempdir().expect("a directory");
        let log = root.path().join(LOG);
        fs::create_dir(&log).expect("made");
        fs::write(log.join("1.wal"), "one").expect("written");
        fs::write(log.join("2.wal"), "lost").expect("written");
        fs::write(log.join("3.spare"), "0").expect("written");
        keep(root.path());
        // Grows, goes, is made anew.
        fs::write(log.join("1.wal"), "one more").expect("written");
        fs::remove_file(log.join("1.wal")).expect("removed");
        fs::remove_file(log.join("2.wal")).expect("removed");
        fs::write(log.join("2.wal"), "two").expect("written");
        let archive = Archive {
            disks: vec![(1, root.path().to_owned())],
        };
        let (_, shelf) = archive.shelves().pop().expect("a shelf");
        fs::remove_file(log.join("2.wal")).expect("removed");
        assert_eq!(shelf.list(LOG), ["1.wal", "2.wal", "3.spare"]);
        assert_eq!(shelf.read("log/1.wal", 0, 9), b"one more");
        assert_eq!(shelf.read("log/2.wal", 0, 9), b"two");
        assert_eq!(shelf.read("log/4.wal", 0, 9), b"");
    }
}
