//! Reading entries back from their segments, neighbours at once.

use std::io;

use super::index::Found;
use crate::types::{Entry, LogId};
use crate::wal::{self, Place};

/// Bytes read at once, if one entry isn't longer.
const READ_BYTES: u64 = 1 << 20;

/// Loads what is not in memory.
///
/// # Errors
/// What the disk says; `InvalidData` with file and offset if an entry has rotted since it was written.
pub(super) async fn load(found: Vec<Found>) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::with_capacity(found.len());
    let mut run: Vec<(LogId, Place)> = Vec::new();
    for item in found {
        match item {
            Found::OnDisk(log_id, place) => {
                if !run
                    .last()
                    .is_none_or(|(_, last)| follows(&run[0].1, last, &place))
                {
                    read_run(&mut run, &mut entries).await?;
                }
                run.push((log_id, place));
            }
            Found::Here(entry) => {
                read_run(&mut run, &mut entries).await?;
                entries.push(entry);
            }
        }
    }
    read_run(&mut run, &mut entries).await?;
    Ok(entries)
}

/// Whether a frame can be read together with a run of frames.
fn follows(first: &Place, last: &Place, next: &Place) -> bool {
    first.segment.id == next.segment.id
        && next.offset > last.offset
        && next.offset + u64::from(next.len) - first.offset <= READ_BYTES
}

async fn read_run(run: &mut Vec<(LogId, Place)>, entries: &mut Vec<Entry>) -> io::Result<()> {
    let (Some((_, first)), Some((_, last))) = (run.first(), run.last()) else {
        return Ok(());
    };
    let (segment, base) = (first.segment.clone(), first.offset);
    let span = usize::try_from(last.offset + u64::from(last.len) - base).map_err(io::Error::other)?;
    let bytes = segment.file.read_at(base, span).await?;
    for (log_id, place) in run.drain(..) {
        let bad = |what: &dyn std::fmt::Display| {
            let (path, at) = (segment.path(), place.offset);
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{path} at {at}: entry {log_id}: {what}"),
            )
        };
        let start = usize::try_from(place.offset - base).map_err(io::Error::other)?;
        let end = start + place.len as usize;
        if end > bytes.len() {
            return Err(bad(&"the segment is shorter than it was"));
        }
        let entry = wal::read_entry(segment.salt, &bytes.slice(start..end)).map_err(|e| bad(&e))?;
        if entry.log_id != log_id {
            return Err(bad(&"another entry lies there"));
        }
        entries.push(entry);
    }
    Ok(())
}
