//! A disk that forgets, tears, fails and fills, and that knows to the byte what was synced.
//!
//! A [`SimDisk`] is the machine's drive: it outlives every process. A process sees it through [`SimDisk::mount`],
//! which is [`raft::Disk`]; a crash ([`SimDisk::crash`]) ends that mount, so that no code of the dead
//! process, not even a destructor, can change anything afterwards.
//!
//! What always holds:
//!
//! - A process reads what it wrote.
//! - After a crash every byte is one that a sync made durable, or one of those written after it; nothing else
//!   ever appears, except by the faults of [`DiskFaults`].
//! - A name is there after a crash if its directory was synced since; else perhaps.
//!
//! Absent on purpose: permissions, more than one level of directories, and the promise of some file systems that
//! a synced file has a synced name: `raft::Disk` does not make it.

mod file;
mod names;
mod pages;
mod platter;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use raft::{BoxFuture, Disk, DiskFile, DiskLock};

use self::file::File;
pub use self::file::Loss;
use self::names::{FileId, Names};
use crate::rng::{PerMillion, Rng};
use crate::{timeline, trace};

/// What goes wrong with a disk, and how fast it is when nothing does.
#[derive(Clone, Debug)]
pub struct DiskFaults {
    /// A sync takes so many milliseconds; 0 is done at once.
    pub sync_ms: RangeInclusive<u64>,
    /// A read takes so many milliseconds; 0 is done at once, as from a page cache.
    pub read_ms: RangeInclusive<u64>,
    /// How often a sync takes `slow_sync_ms` instead.
    pub slow_sync: PerMillion,
    /// What a slow sync takes.
    pub slow_sync_ms: RangeInclusive<u64>,
    /// How often a sync fails with an I/O error; its bytes are then in doubt for ever.
    pub sync_error: PerMillion,
    /// How often a write lands in another page of its file.
    pub misdirected: PerMillion,
    /// Bytes that fit, if that matters.
    pub capacity: Option<u64>,
    /// Syncs say yes and do nothing. No honest node can bear this one: it exists to test the checkers.
    pub lies: bool,
}

impl Default for DiskFaults {
    /// A healthy disk: a sync takes a millisecond or two.
    fn default() -> Self {
        DiskFaults {
            sync_ms: 1..=2,
            read_ms: 0..=0,
            slow_sync: PerMillion::NEVER,
            slow_sync_ms: 20..=200,
            sync_error: PerMillion::NEVER,
            misdirected: PerMillion::NEVER,
            capacity: None,
            lies: false,
        }
    }
}

/// A machine's drive.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<Core>>);

struct Core {
    rng: Rng,
    faults: DiskFaults,
    dirs: BTreeMap<String, Names>,
    files: BTreeMap<FileId, File>,
    next_file: FileId,
    /// Which process may use the disk; those before it are dead.
    mounts: u64,
    locked: bool,
    fail_next_sync: Option<Failing>,
    /// The last mount under which a sync failed.
    failed_mount: Option<u64>,
    /// A fault was felt since the last mount.
    felt: bool,
    /// Files that a fault took away, and that are not there again.
    lost: BTreeSet<String>,
    syncs: u64,
    synced_bytes: u64,
    /// Changes with what is on the platter.
    durable_version: u64,
}

/// What becomes of a file, on the platter and in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// A bit of this byte flips.
    Flip {
        /// Which byte.
        at: u64,
        /// Which bit.
        bit: u8,
    },
    /// All from this byte on is gone.
    Cut {
        /// Which byte.
        at: u64,
    },
    /// All of it is gone, and its name.
    Lose,
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Harm::Flip { at, bit } => write!(f, "bit {bit} of byte {at} flips"),
            Harm::Cut { at } => write!(f, "only {at} bytes are left"),
            Harm::Lose => f.write_str("it is gone"),
        }
    }
}

/// Which sync is to fail.
enum Failing {
    /// Whichever comes first; mostly the log's.
    Any,
    /// Of a directory, or of a file in it.
    In(Box<str>),
}

impl Failing {
    fn means(&self, what: &str) -> bool {
        match self {
            Failing::Any => true,
            Failing::In(dir) => **dir == *what || **dir == *split(what).0,
        }
    }
}

impl SimDisk {
    /// An empty drive, whose faults this stream decides.
    pub fn new(rng: Rng) -> Self {
        SimDisk(Arc::new(Mutex::new(Core {
            rng,
            faults: DiskFaults::default(),
            dirs: BTreeMap::from([(String::new(), Names::default())]),
            files: BTreeMap::new(),
            next_file: 1,
            mounts: 0,
            locked: false,
            fail_next_sync: None,
            failed_mount: None,
            felt: false,
            lost: BTreeSet::new(),
            syncs: 0,
            synced_bytes: 0,
            durable_version: 0,
        })))
    }

    /// The disk as a new process sees it. Mounts made before are dead from here on.
    pub fn mount(&self) -> Mount {
        let mut core = self.0.lock();
        core.mounts += 1;
        core.locked = false;
        core.felt = false;
        Mount {
            core: Arc::clone(&self.0),
            id: core.mounts,
        }
    }

    /// Ends the process that uses it; the machine lives on, and what was written and not synced waits in its
    /// page cache for a sync by the next process, or for a power cut.
    pub fn unmount(&self) {
        let mut core = self.0.lock();
        core.mounts += 1;
        core.locked = false;
        for file in core.files.values_mut() {
            file.handles = 0;
        }
    }

    /// Ends the process that uses it, and settles what becomes of everything that was not synced.
    pub fn crash(&self, loss: Loss) {
        let core = &mut *self.0.lock();
        core.durable_version += 1;
        core.mounts += 1;
        core.locked = false;
        for file in core.files.values_mut() {
            file.crash(loss, &mut core.rng);
        }
        for names in core.dirs.values_mut() {
            names.crash(loss, &mut core.rng);
        }
        core.forget_unnamed();
    }

    /// Puts an empty drive in its place. Processes that used it are dead.
    pub fn wipe(&self) {
        let mut core = self.0.lock();
        core.mounts += 1;
        core.locked = false;
        core.files.clear();
        core.lost.clear();
        core.dirs = BTreeMap::from([(String::new(), Names::default())]);
    }

    /// Puts a copy of what a reader of another drive sees in its place, all of it synced.
    pub fn copy_of(&self, other: &SimDisk) {
        let (dirs, files, next_file) = {
            let other = other.0.lock();
            (other.dirs.clone(), other.files.clone(), other.next_file)
        };
        let mut core = self.0.lock();
        core.mounts += 1;
        core.locked = false;
        core.dirs = dirs;
        core.files = files;
        core.lost.clear();
        core.next_file = next_file;
        for file in core.files.values_mut() {
            file.handles = 0;
            file.sync(file.mark());
        }
    }

    /// Changes what goes wrong from here on.
    pub fn set_faults(&self, faults: DiskFaults) {
        self.0.lock().faults = faults;
    }

    /// What goes wrong now.
    pub fn faults(&self) -> DiskFaults {
        self.0.lock().faults.clone()
    }

    /// The next sync fails.
    pub fn fail_next_sync(&self) {
        self.0.lock().fail_next_sync = Some(Failing::Any);
    }

    /// The next sync in some directory fails, but not in `dir`. Nothing if there is no other.
    pub fn fail_next_sync_beside(&self, dir: &str) {
        let mut core = self.0.lock();
        let others = core.dirs.keys().filter(|name| !name.is_empty() && **name != dir);
        let others: Vec<Box<str>> = others.map(|name| name.as_str().into()).collect();
        if !others.is_empty() {
            let other = core.rng.pick(&others).clone();
            core.fail_next_sync = Some(Failing::In(other));
        }
    }

    /// No sync fails any more that was still to come.
    pub fn spare_syncs(&self) {
        self.0.lock().fail_next_sync = None;
    }

    /// Whether a sync has failed in the life of the process that uses it now.
    pub fn sync_failed(&self) -> bool {
        let core = self.0.lock();
        core.failed_mount == Some(core.mounts)
    }

    /// Whether the last process that used it was refused anything by a fault, a sync or room, or came upon what was
    /// [harmed](SimDisk::harm).
    pub fn was_felt(&self) -> bool {
        self.0.lock().felt
    }

    /// Flips a bit of a file on the platter. False if there is no such byte.
    pub fn rot(&self, path: &str, offset: u64, bit: u8) -> bool {
        self.damage(path, offset, |file| file.rot(offset, bit))
    }

    /// Makes the page around a byte unreadable. False if there is no such byte.
    pub fn spoil(&self, path: &str, offset: u64) -> bool {
        self.damage(path, offset, |file| file.spoil(offset))
    }

    /// Does this to a file on the platter; whoever comes upon it from here on has felt a fault. False if there is no such byte.
    pub fn harm(&self, path: &str, harm: Harm) -> bool {
        let (Harm::Flip { at, .. } | Harm::Cut { at }) = harm else {
            return self.lose(path);
        };
        self.damage(path, at, |file| {
            match harm {
                Harm::Flip { bit, .. } => file.rot(at, bit),
                _ => file.lose_end(at),
            }
            file.harmed = true;
        })
    }

    fn lose(&self, path: &str) -> bool {
        let core = &mut *self.0.lock();
        let (dir, name) = split(path);
        if core.find(path).is_none() {
            return false;
        }
        if let Some(names) = core.dirs.get_mut(dir) {
            names.lose(name);
        }
        core.lost.insert(path.to_owned());
        core.durable_version += 1;
        core.forget_unnamed();
        true
    }

    /// What a file is, if that is the same to a process and after a power cut, whatever is lost by it.
    pub fn settled(&self, path: &str) -> Option<Bytes> {
        let core = self.0.lock();
        let (dir, name) = split(path);
        let id = core.find(path)?;
        let durable = core.dirs.get(dir)?.durable().get(name).copied();
        let file = core.files.get(&id).filter(|file| file.is_synced())?;
        let len = usize::try_from(file.len()).ok()?;
        (durable == Some(id)).then(|| file.durable().read(0, len).into())
    }

    fn damage(&self, path: &str, offset: u64, how: impl FnOnce(&mut File)) -> bool {
        let mut core = self.0.lock();
        match core.find(path).and_then(|id| core.files.get_mut(&id)) {
            Some(file) if offset < file.len() => {
                how(file);
                core.durable_version += 1;
                true
            }
            _ => false,
        }
    }

    /// All files as a process would see them, with their lengths, in order.
    pub fn files(&self) -> Vec<(String, u64)> {
        let core = self.0.lock();
        let mut files = Vec::new();
        for (dir, names) in &core.dirs {
            for name in names.list() {
                let path = if dir.is_empty() {
                    name
                } else {
                    format!("{dir}/{name}")
                };
                let len = core
                    .find(&path)
                    .and_then(|id| core.files.get(&id))
                    .map_or(0, File::len);
                files.push((path, len));
            }
        }
        files
    }

    /// Syncs so far, and the bytes they were for.
    pub fn work(&self) -> (u64, u64) {
        let core = self.0.lock();
        (core.syncs, core.synced_bytes)
    }
}

/// A directory and a name in it.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl Core {
    fn find(&self, path: &str) -> Option<FileId> {
        let (dir, name) = split(path);
        self.dirs.get(dir)?.get(name)
    }

    fn dir(&mut self, dir: &str) -> io::Result<&mut Names> {
        self.dirs.get_mut(dir).ok_or_else(|| not_found(dir))
    }

    fn file(&mut self, id: FileId) -> io::Result<&mut File> {
        self.files
            .get_mut(&id)
            .ok_or_else(|| not_found("an unlinked file"))
    }

    /// Room for a file to grow by so much.
    fn reserve(&mut self, grow: u64) -> io::Result<()> {
        match self.faults.capacity {
            Some(capacity) if self.files.values().map(File::len).sum::<u64>() + grow > capacity => {
                self.felt = true;
                let full = "no space left on the simulated disk";
                Err(io::Error::new(io::ErrorKind::StorageFull, full))
            }
            _ => Ok(()),
        }
    }

    fn forget_unnamed(&mut self) {
        let named: BTreeSet<FileId> = self.dirs.values().flat_map(Names::referenced).collect();
        self.files
            .retain(|id, file| file.handles > 0 || named.contains(id));
    }

    /// How long a read takes. Nothing is drawn for a disk whose reads take no time.
    fn draw_read(&mut self) -> u64 {
        match self.faults.read_ms.clone() {
            range if *range.end() == 0 => 0,
            range => self.rng.within(range),
        }
    }

    /// How long a sync takes, and if it will fail.
    fn draw_sync(&mut self, what: &str) -> (u64, bool) {
        self.syncs += 1;
        let slow = self.rng.chance(self.faults.slow_sync);
        let range = if slow {
            &self.faults.slow_sync_ms
        } else {
            &self.faults.sync_ms
        };
        let ms = self.rng.within(range.clone());
        let meant = self.fail_next_sync.take_if(|failing| failing.means(what));
        let fails = meant.is_some() || self.rng.chance(self.faults.sync_error);
        (ms, fails)
    }
}

fn not_found(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("no such file or directory: {what}"),
    )
}

fn dead() -> io::Error {
    io::Error::other("the process that mounted this simulated disk is dead")
}

fn io_error(what: &str) -> io::Error {
    io::Error::other(format!("simulated I/O error: {what}"))
}

/// The disk as one process sees it.
#[derive(Clone)]
pub struct Mount {
    core: Arc<Mutex<Core>>,
    id: u64,
}

impl Mount {
    /// Does something to the disk at once, unless the process is dead.
    fn with<T>(&self, op: impl FnOnce(&mut Core) -> io::Result<T>) -> io::Result<T> {
        let mut core = self.core.lock();
        if core.mounts != self.id {
            return Err(dead());
        }
        op(&mut core)
    }

    /// The time a sync takes, with all the process can see of it: begin, wait, and then `done`, which is
    /// told whether it fails.
    async fn sync<M>(
        &self,
        what: &str,
        begin: impl FnOnce(&mut Core) -> io::Result<M>,
        done: impl FnOnce(&mut Core, M, bool) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mark, ms, fails) = self.with(|core| {
            let mark = begin(core)?;
            let (ms, fails) = core.draw_sync(what);
            Ok((mark, ms, fails))
        })?;
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        self.with(|core| {
            if core.faults.lies {
                return Ok(());
            }
            core.durable_version += 1;
            done(core, mark, fails)?;
            trace::record(format_args!(
                "disk sync {what} {ms} ms{}",
                if fails { " failed" } else { "" }
            ));
            timeline::sync(ms, fails);
            if fails {
                core.failed_mount = Some(self.id);
                core.felt = true;
                return Err(io_error(what));
            }
            Ok(())
        })
    }
}

impl Disk for Mount {
    fn lock(&self) -> BoxFuture<'_, io::Result<DiskLock>> {
        Box::pin(async {
            self.with(|core| {
                if core.locked {
                    return Err(io::Error::new(
                        io::ErrorKind::WouldBlock,
                        "the simulated disk is locked",
                    ));
                }
                core.locked = true;
                Ok(())
            })?;
            Ok(DiskLock::new(Locked(self.clone())))
        })
    }

    fn open<'a>(&'a self, path: &'a str, create: bool) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>> {
        Box::pin(async move {
            let id = self.with(|core| {
                let id = match core.find(path) {
                    Some(id) => id,
                    None if !create => {
                        core.felt |= core.lost.contains(path);
                        return Err(not_found(path));
                    }
                    None => {
                        core.reserve(0)?;
                        let id = core.next_file;
                        let (dir, name) = split(path);
                        core.dir(dir)?.link(name, id);
                        core.next_file += 1;
                        core.files.insert(id, File::default());
                        id
                    }
                };
                core.file(id)?.handles += 1;
                Ok(id)
            })?;
            Ok(Arc::new(OpenFile {
                mount: self.clone(),
                id,
                path: path.into(),
            }) as Arc<dyn DiskFile>)
        })
    }

    fn create_dir<'a>(&'a self, dir: &'a str) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.with(|core| {
                core.dirs.entry(dir.to_owned()).or_default();
                Ok(())
            })
        })
    }

    fn list<'a>(&'a self, dir: &'a str) -> BoxFuture<'a, io::Result<Vec<String>>> {
        Box::pin(async move { self.with(|core| Ok(core.dir(dir)?.list())) })
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.with(|core| {
                let id = core.find(from).ok_or_else(|| not_found(from))?;
                let ((from_dir, from_name), (to_dir, to_name)) = (split(from), split(to));
                if from_dir == to_dir {
                    core.dir(from_dir)?.rename(from_name, to_name, id);
                } else {
                    // Two directories are two syncs: a crash between them may leave both names or none.
                    core.dir(to_dir)?.link(to_name, id);
                    core.dir(from_dir)?.unlink(from_name);
                }
                core.lost.remove(to);
                trace::record(format_args!("disk rename {from} {to}"));
                Ok(())
            })
        })
    }

    fn remove<'a>(&'a self, path: &'a str) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.with(|core| {
                core.find(path).ok_or_else(|| not_found(path))?;
                let (dir, name) = split(path);
                core.dir(dir)?.unlink(name);
                trace::record(format_args!("disk remove {path}"));
                Ok(())
            })
        })
    }

    fn sync_dir<'a>(&'a self, dir: &'a str) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(self.sync(
            dir,
            move |core| Ok(core.dir(dir)?.mark()),
            move |core, mark, fails| {
                let names = core.dirs.get_mut(dir).ok_or_else(|| not_found(dir))?;
                if fails {
                    names.fail_sync(mark, &mut core.rng);
                } else {
                    names.sync(mark);
                    core.forget_unnamed();
                }
                Ok(())
            },
        ))
    }
}

/// Lets go of the directory, if its process still lives.
struct Locked(Mount);

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.with(|core| {
            core.locked = false;
            Ok(())
        });
    }
}

struct OpenFile {
    mount: Mount,
    id: FileId,
    path: Box<str>,
}

impl OpenFile {
    fn with<T>(&self, op: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        self.mount.with(|core| op(core.file(self.id)?))
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let _ = self.with(|file| {
            file.handles = file.handles.saturating_sub(1);
            Ok(())
        });
    }
}

impl DiskFile for OpenFile {
    fn size(&self) -> BoxFuture<'_, io::Result<u64>> {
        Box::pin(async { self.with(|file| Ok(file.len())) })
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        Box::pin(async move {
            let ms = self.mount.with(|core| Ok(core.draw_read()))?;
            if ms > 0 {
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            self.mount.with(|core| {
                let file = core.file(self.id)?;
                let (bytes, harmed) = (file.read(offset, len), file.harmed);
                core.felt |= harmed;
                match bytes {
                    Some(bytes) => Ok(bytes.into()),
                    None => Err(io_error(&format!("{} can't be read at {offset}", self.path))),
                }
            })
        })
    }

    fn write_at(&self, offset: u64, data: Bytes) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.mount.with(|core| {
                let len = core.file(self.id)?.len();
                core.reserve((offset + data.len() as u64).saturating_sub(len))?;
                let offset = if core.rng.chance(core.faults.misdirected) {
                    core.rng.below(len.max(1))
                } else {
                    offset
                };
                core.file(self.id)?.write(offset, data);
                Ok(())
            })
        })
    }

    fn sync(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(self.mount.sync(
            &self.path,
            |core| Ok(core.file(self.id)?.mark()),
            |core, mark, fails| {
                let file = core
                    .files
                    .get_mut(&self.id)
                    .ok_or_else(|| not_found(&self.path))?;
                core.synced_bytes += file.dirty_bytes(mark);
                if fails {
                    file.fail_sync(mark, &mut core.rng);
                } else {
                    file.sync(mark);
                }
                Ok(())
            },
        ))
    }

    fn allocate(&self, len: u64) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.mount.with(|core| {
                let now = core.file(self.id)?.len();
                if now < len {
                    core.reserve(len - now)?;
                    core.file(self.id)?.set_len(len);
                }
                Ok(())
            })
        })
    }

    fn truncate(&self, len: u64) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.with(|file| {
                file.set_len(len);
                Ok(())
            })
        })
    }
}

#[cfg(test)]
mod tests;
