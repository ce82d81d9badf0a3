//! Real files. Whoever waits for one hops to tokio's blocking threads and back (10–20 µs beside a sync of 170 µs
//! and more), so that segments, snapshots and reads of several replicas go to the disk at once.
//!
//! The log's writer has a thread of its own instead, on which its calls block where they stand: of all that a single
//! record waits for, its hops were the largest part that is not the disk.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use rustix::io::Errno;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::{Disk, DiskFile, DiskLock, DiskWork};

/// Zeros are written in pieces of this size.
const ZEROS: usize = 1 << 20;
/// What a device writes at least.
const BLOCK: u64 = 4096;

/// Files below a real directory.
#[derive(Debug, Clone)]
pub struct FileDisk {
    root: Arc<Path>,
    counted: Arc<Counted>,
}

/// What was asked of a disk.
#[derive(Debug, Default)]
struct Counted {
    syncs: AtomicU64,
    blocks: AtomicU64,
}

impl Counted {
    fn sync(&self) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
    }

    /// A write of `len` bytes from `offset`: every block that it touches.
    fn write(&self, offset: u64, len: usize) {
        let end = (offset + len as u64).div_ceil(BLOCK);
        self.blocks.fetch_add(end - offset / BLOCK, Ordering::Relaxed);
    }
}

impl FileDisk {
    /// A disk rooted at `root`, which is created when the disk is locked.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        FileDisk {
            root: root.into().into(),
            counted: Arc::default(),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

thread_local! {
    /// Whether this thread is a log's writer, which nobody else waits behind.
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
}

/// Runs a blocking operation; a panic or a shut-down runtime becomes an error.
async fn blocking<T: Send + 'static>(op: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    if MAY_BLOCK.get() {
        return op();
    }
    match spawn_blocking(op).await {
        Ok(result) => result,
        Err(join) => Err(io::Error::other(join)),
    }
}

/// Adds the path to what the file system says.
fn at(path: &Path) -> impl FnOnce(io::Error) -> io::Error + '_ {
    move |e| io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(at(path))
}

/// Makes a directory and what is above it. A directory lasts only once the one that names it was synced, or a power cut
/// takes it away with all that was synced in it.
fn create_durably(path: &Path) -> io::Result<()> {
    let missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
    let made: Vec<&Path> = path.ancestors().take_while(missing).collect();
    fs::create_dir_all(path).map_err(at(path))?;
    for dir in made {
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_dir(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Opens a file, and waits a while for descriptors where all are taken: that is no fault of the disk's.
async fn open_patiently(path: &Path, create: bool) -> io::Result<File> {
    const TRIES: u32 = 50;
    const PAUSE: Duration = Duration::from_millis(100);
    let taken = |error: &io::Error| {
        let code = error.raw_os_error();
        code == Some(Errno::MFILE.raw_os_error()) || code == Some(Errno::NFILE.raw_os_error())
    };
    let mut tries = 1..TRIES;
    loop {
        let opening = path.to_owned();
        let opened = blocking(move || {
            let mut options = OpenOptions::new();
            options.create(create).truncate(false).read(true).write(true);
            options.open(opening)
        });
        match opened.await {
            Err(error) if taken(&error) && tries.next().is_some() => tokio::time::sleep(PAUSE).await,
            opened => return opened.map_err(at(path)),
        }
    }
}

impl Disk for FileDisk {
    fn lock(&self) -> BoxFuture<'_, io::Result<DiskLock>> {
        let root = Arc::clone(&self.root);
        Box::pin(blocking(move || {
            create_durably(&root)?;
            let path = root.join("lock");
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .map_err(at(&path))?;
            match file.try_lock() {
                Ok(()) => Ok(DiskLock::new(file)),
                Err(TryLockError::WouldBlock) => Err(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    format!("{}", root.display()),
                )),
                Err(TryLockError::Error(e)) => Err(at(&path)(e)),
            }
        }))
    }

    fn open<'a>(&'a self, path: &'a str, create: bool) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>> {
        let (path, counted) = (self.path(path), Arc::clone(&self.counted));
        Box::pin(async move {
            let file = Arc::new(open_patiently(&path, create).await?);
            Ok(Arc::new(OpenFile { file, counted }) as Arc<dyn DiskFile>)
        })
    }

    fn create_dir<'a>(&'a self, dir: &'a str) -> BoxFuture<'a, io::Result<()>> {
        let (root, path) = (Arc::clone(&self.root), self.path(dir));
        Box::pin(blocking(move || {
            fs::create_dir_all(&path).map_err(at(&path))?;
            sync_dir(&root)
        }))
    }

    fn list<'a>(&'a self, dir: &'a str) -> BoxFuture<'a, io::Result<Vec<String>>> {
        let path = self.path(dir);
        Box::pin(blocking(move || {
            let mut names = Vec::new();
            for entry in fs::read_dir(&path).map_err(at(&path))? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    names.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
            names.sort();
            Ok(names)
        }))
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> BoxFuture<'a, io::Result<()>> {
        let (from, to) = (self.path(from), self.path(to));
        Box::pin(blocking(move || fs::rename(&from, &to).map_err(at(&from))))
    }

    fn remove<'a>(&'a self, path: &'a str) -> BoxFuture<'a, io::Result<()>> {
        let path = self.path(path);
        Box::pin(blocking(move || fs::remove_file(&path).map_err(at(&path))))
    }

    fn sync_dir<'a>(&'a self, dir: &'a str) -> BoxFuture<'a, io::Result<()>> {
        let path = self.path(dir);
        self.counted.sync();
        Box::pin(blocking(move || sync_dir(&path)))
    }

    fn work(&self) -> DiskWork {
        DiskWork {
            syncs: self.counted.syncs.load(Ordering::Relaxed),
            bytes: self.counted.blocks.load(Ordering::Relaxed) * BLOCK,
        }
    }

    fn run_writer(&self, writer: BoxFuture<'static, ()>) -> io::Result<()> {
        let runtime = Handle::current();
        let run = move || {
            MAY_BLOCK.set(true);
            // Timers and tasks of the writer's belong to the runtime; only the writer itself runs here.
            runtime.block_on(writer);
        };
        // It ends with the queue to it.
        let thread = std::thread::Builder::new().name("log-writer".into());
        thread.spawn(run).map(drop)
    }
}

struct OpenFile {
    file: Arc<File>,
    /// The disk's count.
    counted: Arc<Counted>,
}

impl OpenFile {
    fn run<T: Send + 'static>(
        &self,
        op: impl FnOnce(&File) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, io::Result<T>> {
        let file = Arc::clone(&self.file);
        Box::pin(blocking(move || op(&file)))
    }
}

impl DiskFile for OpenFile {
    fn size(&self) -> BoxFuture<'_, io::Result<u64>> {
        self.run(|file| Ok(file.metadata()?.len()))
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        self.run(move |file| {
            let mut buffer = vec![0; len];
            let mut filled = 0;
            while filled < len {
                match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(n) => filled += n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            buffer.truncate(filled);
            Ok(buffer.into())
        })
    }

    fn write_at(&self, offset: u64, data: Bytes) -> BoxFuture<'_, io::Result<()>> {
        self.counted.write(offset, data.len());
        self.run(move |file| file.write_all_at(&data, offset))
    }

    fn sync(&self) -> BoxFuture<'_, io::Result<()>> {
        self.counted.sync();
        self.run(File::sync_data)
    }

    fn write_and_sync(&self, offset: u64, data: Bytes) -> BoxFuture<'_, io::Result<()>> {
        self.counted.write(offset, data.len());
        self.counted.sync();
        self.run(move |file| {
            file.write_all_at(&data, offset)?;
            file.sync_data()
        })
    }

    fn allocate(&self, len: u64) -> BoxFuture<'_, io::Result<()>> {
        // Zeros are written, not merely reserved: a sync after the first write into a reserved extent has to
        // journal that the extent is in use now (170 µs against 260 at 64 KiB on ext4).
        let counted = Arc::clone(&self.counted);
        self.run(move |file| {
            let zeros = vec![0; ZEROS];
            let mut at = file.metadata()?.len();
            while at < len {
                let step = usize::try_from(len - at).unwrap_or(ZEROS).min(ZEROS);
                file.write_all_at(&zeros[..step], at)?;
                counted.write(at, step);
                at += step as u64;
            }
            Ok(())
        })
    }

    fn truncate(&self, len: u64) -> BoxFuture<'_, io::Result<()>> {
        self.run(move |file| file.set_len(len))
    }
}
