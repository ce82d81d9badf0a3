//! Power cuts: each node's disk is a file system of its own, which is shut down without writing back.
//!
//! The order matters. The process is stopped first, so that nothing is acknowledged after the file system is gone;
//! then the file system forgets what was not synced; only then the process is killed. The other way round, syncs that
//! fail in between would look like lost ones.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use super::command::{need_root, run};
use super::layout::Layout;
use super::undo::Undo;

/// Size of a node's disk. The file is sparse.
const IMAGE_BYTES: u64 = 1 << 30;
/// ext4's order to shut down, as an ioctl: `EXT4_IOC_SHUTDOWN`.
const SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587d;
/// Its argument: without flushing the journal, `EXT4_GOING_FLAGS_NOLOGFLUSH`.
const NO_LOG_FLUSH: u32 = 2;

/// Whether it can be done here: by doing it.
///
/// # Errors
/// Not root, or the system lacks what it takes.
pub(super) async fn possible(layout: &Layout, undo: &mut Undo) -> io::Result<()> {
    need_root()?;
    let (image, disk) = (layout.data.join("try.img"), layout.data.join("try"));
    make(&image, &disk, 16 << 20, undo).await?;
    forget(&disk)?;
    unmount(&disk).await?;
    fs::remove_dir(&disk)?;
    fs::remove_file(&image)
}

/// Gives a node a new disk.
///
/// # Errors
/// The system says no.
pub(super) async fn mount_new(layout: &Layout, id: u64, undo: &mut Undo) -> io::Result<()> {
    make(&image(layout, id), &layout.disk(id), IMAGE_BYTES, undo).await
}

fn image(layout: &Layout, id: u64) -> std::path::PathBuf {
    layout.data.join(format!("node-{id}.img"))
}

async fn make(image: &Path, disk: &Path, bytes: u64, undo: &mut Undo) -> io::Result<()> {
    fs::create_dir_all(disk)?;
    File::create(image)?.set_len(bytes)?;
    run(&[
        "mkfs.ext4".as_ref(),
        "-q".as_ref(),
        "-F".as_ref(),
        image.as_os_str(),
    ])
    .await?;
    mount(image, disk).await?;
    // If something still holds it, it goes with that.
    let shown = disk.display().to_string();
    undo.run(&["umount", "--lazy", &shown]);
    undo.run(&["umount", &shown]);
    Ok(())
}

async fn mount(image: &Path, disk: &Path) -> io::Result<()> {
    let words = [
        "mount".as_ref(),
        "-o".as_ref(),
        "loop".as_ref(),
        image.as_os_str(),
        disk.as_os_str(),
    ];
    run(&words).await.map(drop)
}

async fn unmount(disk: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match run(&["umount".as_ref(), disk.as_os_str()]).await {
            Ok(_) => return Ok(()),
            // A killed process lets go of its files a little later.
            Err(_) if tries < 20 => tries += 1,
            Err(e) => return Err(e),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The power is off: the disk of this node, whose process is stopped, forgets what was not synced.
///
/// # Errors
/// The file system says no.
pub(super) fn cut(layout: &Layout, id: u64) -> io::Result<()> {
    forget(&layout.disk(id))
}

/// The power is on again, the process gone.
///
/// # Errors
/// The system says no.
pub(super) async fn restore(layout: &Layout, id: u64) -> io::Result<()> {
    let disk = layout.disk(id);
    unmount(&disk).await?;
    mount(&image(layout, id), &disk).await
}

fn forget(disk: &Path) -> io::Result<()> {
    let directory = File::open(disk)?;
    #[expect(
        unsafe_code,
        reason = "there is no other way to cut the power of a file system"
    )]
    // SAFETY: the kernel reads one u32 through this opcode, on any file of an ext4; elsewhere it refuses.
    let done = unsafe {
        rustix::ioctl::ioctl(
            &directory,
            rustix::ioctl::Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH),
        )
    };
    Ok(done?)
}
