//! A disk in memory that keeps to the letter of the contract in `disk`: what was not synced may be lost, in
//! part, by sectors; names that were not synced too; and any operation can be the one at which it fails.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, pending};
use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile, DiskLock};

const SECTOR: usize = 512;

/// What happens at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The process is gone: this operation and all after it never return.
    Crash,
    /// This operation fails, and what it should have made durable is lost; the next ones would work.
    Error,
}

/// What a crash leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Nothing,
    Everything,
    /// Each sector and each name, by a coin that this number seeds.
    Some(u64),
}

#[derive(Clone, Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    operations: u64,
    fail_at: Option<(u64, Failure)>,
    crashed: bool,
}

#[derive(Clone, Default)]
pub(crate) struct MemoryDisk(Arc<Mutex<State>>);

impl MemoryDisk {
    pub(crate) fn fail_at(&self, operation: u64, failure: Failure) {
        self.0.lock().fail_at = Some((operation, failure));
    }

    /// Changing operations so far.
    pub(crate) fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// What a new process finds.
    pub(crate) fn after_crash(&self, keep: Keep) -> MemoryDisk {
        let state = self.0.lock();
        let mut coin = Coin(keep);
        let mut names = state.durable_names.clone();
        let all: Vec<String> = state
            .names
            .keys()
            .chain(state.durable_names.keys())
            .cloned()
            .collect();
        for name in all {
            if coin.keeps() {
                match state.names.get(&name) {
                    Some(inode) => drop(names.insert(name, *inode)),
                    None => drop(names.remove(&name)),
                }
            }
        }
        let inodes = state
            .inodes
            .iter()
            .map(|inode| {
                let survived = coin.mix(inode);
                Inode {
                    durable: survived.clone(),
                    current: survived,
                }
            })
            .collect();
        let next = State {
            inodes,
            durable_names: names.clone(),
            names,
            ..State::default()
        };
        MemoryDisk(Arc::new(Mutex::new(next)))
    }

    /// A disk with the same contents, all durable.
    pub(crate) fn copy(&self) -> MemoryDisk {
        self.after_crash(Keep::Everything)
    }

    /// Paths of all files.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.0.lock().names.keys().cloned().collect()
    }

    pub(crate) fn with<T>(&self, path: &str, change: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut state = self.0.lock();
        let inode = state.names[path];
        let result = change(&mut state.inodes[inode].current);
        state.inodes[inode].durable = state.inodes[inode].current.clone();
        result
    }

    pub(crate) fn delete(&self, path: &str) {
        let mut state = self.0.lock();
        state.names.remove(path);
        state.durable_names.remove(path);
    }

    /// Counts an operation, and says how it goes.
    fn step(&self) -> Step {
        let mut state = self.0.lock();
        if state.crashed {
            return Step::Never;
        }
        state.operations += 1;
        match state.fail_at {
            Some((at, Failure::Crash)) if at == state.operations => {
                state.crashed = true;
                Step::Never
            }
            Some((at, Failure::Error)) if at == state.operations => Step::Fail,
            _ => Step::Go,
        }
    }

    /// An operation that changes something; `lose` is what a failure does instead.
    fn change<'a, T: Send + 'a>(
        &'a self,
        apply: impl FnOnce(&mut State) -> io::Result<T> + Send + 'a,
        lose: impl FnOnce(&mut State) + Send + 'a,
    ) -> BoxFuture<'a, io::Result<T>> {
        Box::pin(async move {
            // The disk takes its time: others run meanwhile.
            tokio::task::yield_now().await;
            match self.step() {
                Step::Go => apply(&mut self.0.lock()),
                Step::Fail => {
                    lose(&mut self.0.lock());
                    Err(io::Error::other("injected"))
                }
                Step::Never => pending().await,
            }
        })
    }
}

enum Step {
    Go,
    Fail,
    Never,
}

struct Coin(Keep);

impl Coin {
    fn keeps(&mut self) -> bool {
        match &mut self.0 {
            Keep::Nothing => false,
            Keep::Everything => true,
            Keep::Some(seed) => {
                *seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                *seed >> 63 == 1
            }
        }
    }

    /// The length is kept or not, then every sector that differs is.
    fn mix(&mut self, inode: &Inode) -> Vec<u8> {
        let mut mixed = inode.durable.clone();
        if inode.current.len() != mixed.len() && self.keeps() {
            mixed.resize(inode.current.len(), 0);
        }
        for start in (0..mixed.len()).step_by(SECTOR) {
            let end = (start + SECTOR).min(mixed.len()).min(inode.current.len());
            if start < end && mixed[start..end] != inode.current[start..end] && self.keeps() {
                mixed[start..end].copy_from_slice(&inode.current[start..end]);
            }
        }
        mixed
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn not_found(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.to_owned())
}

impl Disk for MemoryDisk {
    fn lock(&self) -> BoxFuture<'_, io::Result<DiskLock>> {
        Box::pin(std::future::ready(Ok(DiskLock::new(()))))
    }

    fn open<'a>(&'a self, path: &'a str, create: bool) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>> {
        let open = move |state: &mut State| {
            let inode = match state.names.get(path) {
                Some(inode) => *inode,
                None if create => {
                    state.inodes.push(Inode::default());
                    state.names.insert(path.to_owned(), state.inodes.len() - 1);
                    state.inodes.len() - 1
                }
                None => return Err(not_found(path)),
            };
            Ok(Arc::new(MemoryFile {
                disk: self.clone(),
                inode,
            }) as Arc<dyn DiskFile>)
        };
        self.change(open, |_| {})
    }

    fn create_dir<'a>(&'a self, _dir: &'a str) -> BoxFuture<'a, io::Result<()>> {
        self.change(|_| Ok(()), |_| {})
    }

    fn list<'a>(&'a self, dir: &'a str) -> BoxFuture<'a, io::Result<Vec<String>>> {
        let state = self.0.lock();
        let names = state.names.keys().filter(|path| parent(path) == dir);
        let names = names.map(|path| path[dir.len() + 1..].to_owned()).collect();
        Box::pin(std::future::ready(Ok(names)))
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> BoxFuture<'a, io::Result<()>> {
        let rename = move |state: &mut State| {
            let inode = state.names.remove(from).ok_or_else(|| not_found(from))?;
            state.names.insert(to.to_owned(), inode);
            Ok(())
        };
        self.change(rename, |_| {})
    }

    fn remove<'a>(&'a self, path: &'a str) -> BoxFuture<'a, io::Result<()>> {
        let remove = |state: &mut State| state.names.remove(path).map(drop).ok_or_else(|| not_found(path));
        self.change(remove, |_| {})
    }

    fn sync_dir<'a>(&'a self, dir: &'a str) -> BoxFuture<'a, io::Result<()>> {
        let sync = move |state: &mut State| {
            state.durable_names.retain(|path, _| parent(path) != dir);
            let names: Vec<_> = state
                .names
                .iter()
                .filter(|(path, _)| parent(path) == dir)
                .collect();
            let names: Vec<_> = names
                .into_iter()
                .map(|(path, inode)| (path.clone(), *inode))
                .collect();
            state.durable_names.extend(names);
            Ok(())
        };
        self.change(sync, |_| {})
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    inode: usize,
}

impl MemoryFile {
    fn change<'a>(&'a self, apply: impl FnOnce(&mut Inode) + Send + 'a) -> BoxFuture<'a, io::Result<()>> {
        let change = move |state: &mut State| {
            apply(&mut state.inodes[self.inode]);
            Ok(())
        };
        self.disk.change(change, |_| {})
    }
}

impl DiskFile for MemoryFile {
    fn size(&self) -> BoxFuture<'_, io::Result<u64>> {
        let size = self.disk.0.lock().inodes[self.inode].current.len() as u64;
        Box::pin(std::future::ready(Ok(size)))
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        let state = self.disk.0.lock();
        let bytes = &state.inodes[self.inode].current;
        let start = usize::try_from(offset).expect("a small file").min(bytes.len());
        let end = start.saturating_add(len).min(bytes.len());
        Box::pin(std::future::ready(Ok(Bytes::copy_from_slice(&bytes[start..end]))))
    }

    fn write_at(&self, offset: u64, data: Bytes) -> BoxFuture<'_, io::Result<()>> {
        self.change(move |inode| {
            let start = usize::try_from(offset).expect("a small file");
            let end = start + data.len();
            if inode.current.len() < end {
                inode.current.resize(end, 0);
            }
            inode.current[start..end].copy_from_slice(&data);
        })
    }

    fn sync(&self) -> BoxFuture<'_, io::Result<()>> {
        let sync = |state: &mut State| {
            let inode = &mut state.inodes[self.inode];
            inode.durable = inode.current.clone();
            Ok(())
        };
        // As Linux does it: the pages are clean now, whatever became of them.
        let lose = |state: &mut State| {
            let inode = &mut state.inodes[self.inode];
            inode.current = inode.durable.clone();
        };
        self.disk.change(sync, lose)
    }

    fn allocate(&self, len: u64) -> BoxFuture<'_, io::Result<()>> {
        self.change(move |inode| {
            let len = usize::try_from(len).expect("a small file");
            if inode.current.len() < len {
                inode.current.resize(len, 0);
            }
        })
    }

    fn truncate(&self, len: u64) -> BoxFuture<'_, io::Result<()>> {
        self.change(move |inode| {
            inode
                .current
                .truncate(usize::try_from(len).expect("a small file"))
        })
    }
}
