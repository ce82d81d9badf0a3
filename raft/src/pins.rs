//! Which disk each peer had when it was first met, so that one that lost its disk can't pass for its old self.
//!
//! A node that voted and forgot it can elect a second leader in the same term, and one that forgot entries it
//! acknowledged can elect a leader without them. So an id belongs to one disk: a peer that shows up with another
//! one is refused, both ways, until it was removed from the group (and may be added under a new id).
//!
//! A pin is an empty file, `peers/<id>-<disk>`, in hexadecimal; its name is all it says.
//!
//! What this can't see: a disk that was set back to an older state of itself.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::disk::Disk;
use crate::fault::Faults;

const DIR: &str = "peers";

/// The disks of all peers met so far.
pub(crate) struct Pins {
    disk: Arc<dyn Disk>,
    faults: Faults,
    known: Mutex<BTreeMap<u64, u128>>,
}

impl Pins {
    /// Reads the pins.
    ///
    /// # Errors
    /// What the disk says; `InvalidData` if a peer has two.
    pub(crate) async fn open(disk: Arc<dyn Disk>, faults: Faults) -> io::Result<Pins> {
        disk.create_dir(DIR).await?;
        let mut known = BTreeMap::new();
        for name in disk.list(DIR).await? {
            let Some((id, peer_disk)) = parse(&name) else {
                continue;
            };
            if known.insert(id, peer_disk).is_some() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{DIR}/{name}: node {id} is pinned to two disks"),
                ));
            }
        }
        Ok(Pins {
            disk,
            faults,
            known: Mutex::new(known),
        })
    }

    /// Whether a peer has the disk it had when it was first met; this may be the first time.
    ///
    /// # Errors
    /// `PermissionDenied` if it has another one; else what our own disk says, which is a fault.
    pub(crate) async fn check(&self, peer: u64, peer_disk: u128) -> io::Result<()> {
        let mut known = self.known.lock().await;
        match known.get(&peer) {
            Some(pinned) if *pinned == peer_disk => Ok(()),
            Some(pinned) => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "node {peer} has disk {peer_disk:032x}, but had {pinned:032x}: a node that lost its disk must \
                     be removed and come back under a new id"
                ),
            )),
            None => {
                let pinned = self.pin(&path(peer, peer_disk)).await;
                pinned.inspect_err(|error| self.faults.disk(error))?;
                known.insert(peer, peer_disk);
                Ok(())
            }
        }
    }

    async fn pin(&self, path: &str) -> io::Result<()> {
        self.disk.open(path, true).await?;
        self.disk.sync_dir(DIR).await
    }

    /// Forgets a peer that is no member any more.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) async fn forget(&self, peer: u64) -> io::Result<()> {
        let mut known = self.known.lock().await;
        if let Some(peer_disk) = known.remove(&peer) {
            self.disk.remove(&path(peer, peer_disk)).await?;
            self.disk.sync_dir(DIR).await?;
        }
        Ok(())
    }
}

fn path(peer: u64, peer_disk: u128) -> String {
    format!("{DIR}/{peer:016x}-{peer_disk:032x}")
}

fn parse(name: &str) -> Option<(u64, u128)> {
    let (id, disk) = name.split_once('-')?;
    (id.len() == 16 && disk.len() == 32)
        .then(|| {
            Some((
                u64::from_str_radix(id, 16).ok()?,
                u128::from_str_radix(disk, 16).ok()?,
            ))
        })
        .flatten()
}
