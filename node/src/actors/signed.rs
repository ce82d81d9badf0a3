//! The last header this node signed, durable before the signature leaves it (SPEC §7).
//!
//! It is what keeps a node honest across a crash: whatever its log says after a restart, it signs no second
//! header for an index. Two slots are written in turn, each with a checksum and a sequence number, so that a
//! torn write can only cost the slot that was not the newest; the newest slot was synced before its signature
//! was sent.
//!
//! ```text
//! slot, at 0 and 4096:  magic "GSSIGNED" | sequence u64 | index u64 | header digest 32 | CRC32C u32
//! ```

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use ledger::Digest;
use raft::{Disk, DiskFile};

const DIR: &str = "signed";
const FILE: &str = "signed/last";
const MAGIC: &[u8; 8] = b"GSSIGNED";
/// A slot has a page of its own: writing one can't tear the other.
const SLOT: u64 = 4096;
const LENGTH: usize = 8 + 8 + 8 + 32 + 4;

/// A header that was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    /// The index of its block.
    pub(crate) index: u64,
    /// The header's digest.
    pub(crate) header: Digest,
}

/// The record on disk.
pub(crate) struct Record {
    file: Arc<dyn DiskFile>,
    sequence: u64,
    last: Option<Signed>,
}

impl Record {
    /// Reads the record, or begins an empty one.
    ///
    /// # Errors
    /// The disk's, or `InvalidData` if the file is there and has been written, but no slot can be read: what was
    /// signed is not known then, so nothing may be.
    pub(crate) async fn open(disk: &dyn Disk) -> io::Result<Self> {
        disk.create_dir(DIR).await?;
        let file = disk.open(FILE, true).await?;
        disk.sync_dir(DIR).await?;
        let mut newest: Option<(u64, Signed)> = None;
        let mut written = false;
        for slot in [0, SLOT] {
            let bytes = file.read_at(slot, LENGTH).await?;
            written |= bytes.iter().any(|byte| *byte != 0);
            if let Some(found) = parse(&bytes)
                && newest.is_none_or(|(sequence, _)| found.0 > sequence)
            {
                newest = Some(found);
            }
        }
        match newest {
            Some((sequence, signed)) => {
                // What was read may stand in the page cache only, after a sync that failed. Written and synced
                // once more it is durable, or this node doesn't start.
                file.write_and_sync(slot_of(sequence), encode(sequence, signed))
                    .await?;
                Ok(Record {
                    file,
                    sequence,
                    last: Some(signed),
                })
            }
            // The very first write may have been torn: it was not synced, so nothing left this node.
            None if written && file.size().await? > SLOT => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{FILE}: neither slot is intact, so it isn't known what this node has signed"),
            )),
            None => Ok(Record {
                file,
                sequence: 0,
                last: None,
            }),
        }
    }

    /// What was signed last.
    pub(crate) fn last(&self) -> Option<Signed> {
        self.last
    }

    /// Records a header as signed; when this returns, it is durable.
    ///
    /// # Errors
    /// The disk's. Nothing may be signed after that: it isn't known which slots last.
    pub(crate) async fn put(&mut self, signed: Signed) -> io::Result<()> {
        self.sequence += 1;
        let slot = slot_of(self.sequence);
        if !planted!("signed-not-persisted") {
            self.file
                .write_and_sync(slot, encode(self.sequence, signed))
                .await?;
        }
        self.last = Some(signed);
        Ok(())
    }
}

/// The first record goes into the first slot, so that a torn one is told from two damaged ones by the size.
fn slot_of(sequence: u64) -> u64 {
    (sequence.wrapping_sub(1) % 2) * SLOT
}

fn encode(sequence: u64, signed: Signed) -> Bytes {
    let mut bytes = Vec::with_capacity(LENGTH);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&signed.index.to_be_bytes());
    bytes.extend_from_slice(&signed.header.0);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
    bytes.into()
}

fn parse(bytes: &[u8]) -> Option<(u64, Signed)> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let (magic, rest) = body.split_first_chunk::<8>()?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let (index, rest) = rest.split_first_chunk::<8>()?;
    let header = <[u8; 32]>::try_from(rest).ok()?;
    (magic == MAGIC && crc32c::crc32c(body) == u32::from_be_bytes(*crc)).then(|| {
        let signed = Signed {
            index: u64::from_be_bytes(*index),
            header: Digest(header),
        };
        (u64::from_be_bytes(*sequence), signed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(index: u64) -> Signed {
        Signed {
            index,
            header: Digest([u8::try_from(index).expect("small"); 32]),
        }
    }

    #[tokio::test]
    async fn the_newest_intact_slot_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = raft::FileDisk::new(dir.path());
        let mut record = Record::open(&disk).await.expect("a fresh record");
        assert_eq!(record.last(), None);
        for index in 1..=3 {
            record.put(signed(index)).await.expect("a write");
        }
        drop(record);
        assert_eq!(
            Record::open(&disk).await.expect("it reopens").last(),
            Some(signed(3))
        );

        // The first slot holds sequence 3. Torn, it falls back to 2: the disk lied, but the record is not lost.
        let path = dir.path().join(FILE);
        let mut bytes = std::fs::read(&path).expect("the file");
        bytes[20] ^= 1;
        std::fs::write(&path, &bytes).expect("a write");
        assert_eq!(
            Record::open(&disk).await.expect("it reopens").last(),
            Some(signed(2))
        );

        // Both damaged: what was signed isn't known, and that is said.
        bytes[4096 + 20] ^= 1;
        std::fs::write(&path, &bytes).expect("a write");
        let error = Record::open(&disk)
            .await
            .map(|_| ())
            .expect_err("no slot is intact");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
