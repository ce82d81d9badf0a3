//! The storage seam: files in one directory, and what it takes to make them last.
//!
//! The contract is that of a POSIX file system, said out loud because the simulated disk keeps to the letter
//! of it:
//!
//! - Written bytes may be lost, kept, or kept in part by a crash, in any order, until [`DiskFile::sync`] has
//!   returned. A length given by [`DiskFile::allocate`] or a growing write is durable at the same moment.
//! - Created, renamed and removed *names* are durable only when [`Disk::sync_dir`] of their directory has
//!   returned; a synced file without a synced name may be gone.
//! - A rename replaces its target in one step.
//! - After a failed sync nothing is known about the bytes in question; no one may try again and believe it.

mod file;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

pub use file::FileDisk;

/// Files below one directory. Paths are relative, with `/` between parts; directories are one level deep.
///
/// Dropping a future may or may not undo what it began; an implementation must only not corrupt anything else.
pub trait Disk: Send + Sync + 'static {
    /// Takes the directory for this process until the guard is dropped, creating the directory if needed.
    ///
    /// # Errors
    /// `WouldBlock` when another process has it; else what the file system says.
    fn lock(&self) -> BoxFuture<'_, io::Result<DiskLock>>;

    /// Opens a file to read and write; with `create`, makes an empty one if there is none.
    ///
    /// # Errors
    /// `NotFound` without `create`; else what the file system says.
    fn open<'a>(&'a self, path: &'a str, create: bool) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>>;

    /// Creates a directory and makes its name durable; does nothing if it exists.
    ///
    /// # Errors
    /// What the file system says.
    fn create_dir<'a>(&'a self, dir: &'a str) -> BoxFuture<'a, io::Result<()>>;

    /// The names of the files in a directory, sorted.
    ///
    /// # Errors
    /// `NotFound` if there is no such directory.
    fn list<'a>(&'a self, dir: &'a str) -> BoxFuture<'a, io::Result<Vec<String>>>;

    /// Renames a file, replacing what is there.
    ///
    /// # Errors
    /// What the file system says.
    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> BoxFuture<'a, io::Result<()>>;

    /// Removes a file. Open handles stay usable.
    ///
    /// # Errors
    /// What the file system says.
    fn remove<'a>(&'a self, path: &'a str) -> BoxFuture<'a, io::Result<()>>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// What the file system says; see the module on failed syncs.
    fn sync_dir<'a>(&'a self, dir: &'a str) -> BoxFuture<'a, io::Result<()>>;

    /// What was asked of this disk so far. Zeros where nobody counts.
    fn work(&self) -> DiskWork {
        DiskWork::default()
    }

    /// Runs the log's writer, which does nothing but wait for work, write and sync: an implementation whose
    /// calls block may give it a thread. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// There is no thread to be had.
    fn run_writer(&self, writer: BoxFuture<'static, ()>) -> io::Result<()> {
        tokio::spawn(writer);
        Ok(())
    }
}

/// What durability costs: everything that was asked of a disk since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskWork {
    /// Syncs, of files and of directories.
    pub syncs: u64,
    /// Bytes written, in whole blocks of 4 KiB, as the device has to write them. The file system's own
    /// bookkeeping is not in it. (Linux's `/proc/PID/io` counts whole folios instead: up to a mebibyte for a
    /// synced write of a hundred bytes into a preallocated file.)
    pub bytes: u64,
}

/// An open file. Calls on one file may run at once; the caller orders those that must not.
pub trait DiskFile: Send + Sync + 'static {
    /// Its length in bytes.
    ///
    /// # Errors
    /// What the file system says.
    fn size(&self) -> BoxFuture<'_, io::Result<u64>>;

    /// Up to `len` bytes from `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// What the file system says.
    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, io::Result<Bytes>>;

    /// Writes all of `data`, growing the file if needed.
    ///
    /// # Errors
    /// `StorageFull`, or what the file system says; any part may have been written.
    fn write_at(&self, offset: u64, data: Bytes) -> BoxFuture<'_, io::Result<()>>;

    /// Makes all that was written before durable, and the length with it.
    ///
    /// # Errors
    /// What the file system says; see the module on failed syncs.
    fn sync(&self) -> BoxFuture<'_, io::Result<()>>;

    /// [`DiskFile::write_at`], then [`DiskFile::sync`]: the log's hot path, for which an implementation may
    /// have a shorter way.
    ///
    /// # Errors
    /// As the two.
    fn write_and_sync(&self, offset: u64, data: Bytes) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.write_at(offset, data).await?;
            self.sync().await
        })
    }

    /// Grows the file with zeros to `len` bytes, such that later writes below `len` change no metadata:
    /// a sync then has half the work. Does nothing if it is as long already.
    ///
    /// # Errors
    /// `StorageFull`, or what the file system says.
    fn allocate(&self, len: u64) -> BoxFuture<'_, io::Result<()>>;

    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// What the file system says.
    fn truncate(&self, len: u64) -> BoxFuture<'_, io::Result<()>>;
}

/// Holds a directory; releases it when dropped.
#[must_use]
pub struct DiskLock(#[expect(dead_code, reason = "held for its drop")] Box<dyn Send + Sync>);

impl DiskLock {
    /// Wraps what releases the directory when it is dropped.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        DiskLock(Box::new(guard))
    }
}

impl std::fmt::Debug for DiskLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DiskLock")
    }
}
