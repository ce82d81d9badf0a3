//! The write-ahead log: what a replica must not forget, in segment files, each change one frame.
//!
//! # What always holds
//!
//! - One writer, one queue: votes, entries, truncations, commit marks and purges become durable in the order
//!   in which they were asked for, in batches, each by one write and one sync. A batch is written only when
//!   the one before it is synced.
//! - A change is reported durable only after its sync has returned. The first error poisons the log: nothing
//!   is written after it, and nothing is tried twice.
//! - On opening, the log is exactly what was reported durable, and perhaps a beginning of the batch that was
//!   under way; or it is refused with file and offset.
//!
//! # Format, version 1 (integers big-endian)
//!
//! `log/` holds segments, named by their number in hexadecimal, `0000000000000001.wal` and on, without a gap.
//!
//! ```text
//! segment   head, frames, zeros
//! head      magic "GRIDWAL\x01" · cluster [32] · node u64 · disk u128 · segment u64 · first seq u64 · crc u32
//! frame     length u32 · seq u64 · batch u64 · body crc u32 · head crc u32 · 0xF7 · body · 0xE7
//! body      kind u8 · content
//!           1 checkpoint  optional vote · optional purged · optional committed (log ids)
//!           2 vote        vote
//!           3 entry       entry, see `codec`
//!           4 truncate    optional log id: the last entry that stays
//!           5 committed   log id
//!           6 purge       log id: the last entry that goes
//! ```
//!
//! `seq` counts frames without a gap across segments. `batch` is the offset in this segment at which the
//! frame's batch begins: everything before it was synced when this frame was written. Both crcs are CRC32C;
//! the head's covers length, seq, batch and body crc, and begins with the disk and segment number. The first frame of a segment is a
//! checkpoint, so that older segments can go.
//!
//! A segment is prepared under another name: filled with zeros (which halves the cost of every sync into it),
//! then given head and checkpoint, synced, renamed, and its directory synced. A file named `.wal` therefore
//! always has a head.
//!
//! # Torn or damaged
//!
//! Reading stops at the first frame that isn't whole. Only the newest segment may end so, and only where a
//! crash explains it. It is *damage*, and refused, if
//!
//! 1. a whole frame further on says by its `batch` that the bad place was synced before it; or
//! 2. no lost write looks like this. Writes go into zeros, so what is lost reads as zeros: the bad frame's
//!    last byte is zero, which no frame's is, or one of its 512-byte sectors is. Anything else is rot.
//!
//! Otherwise the tail is cut off at the bad frame: it belongs to the last batch, which nobody was told of.
//! What this can't tell from a crash is rot that turns a whole sector of the very last batch into zeros, or
//! that hits a payload there with a sector of zeros of its own.
//!
//! # Absent on purpose
//!
//! Reuse of old segments (stale frames would have to be told from fresh ones), compression, and retrying.

mod frame;
mod record;
mod recovery;
mod segment;
mod writer;

pub(crate) use frame::read_entry;
pub(crate) use recovery::{Recovered, recover};
pub(crate) use segment::{Identity, Place, hex};
pub(crate) use writer::{Op, Writer, WriterHandle};

/// The directory of the segments.
pub(crate) const DIR: &str = "log";
