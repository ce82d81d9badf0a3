//! The snapshot lane: begin, chunk after chunk, end. Each frame is answered before the next is sent, so memory
//! holds one chunk, and a deadline can be put on each.

use std::io;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::Frames;
use super::hello::{self, Lane};
use super::{Context, wire};
use crate::codec::{self, Reader};
use crate::snapshot::{Draft, Shelf, SnapshotFile};
use crate::types::{SnapshotMeta, Vote};

const BEGIN: u8 = 1;
const CHUNK: u8 = 2;
const END: u8 = 3;

/// Sends a snapshot, and returns the receiver's vote after it has installed it (or refused it for a higher one).
///
/// # Errors
/// What broke, which side's disk included.
pub(super) async fn send(
    context: &Context,
    target: u64,
    addr: &str,
    vote: Vote,
    meta: SnapshotMeta,
    file: SnapshotFile,
) -> io::Result<Vote> {
    let deadline = context.config.timing.snapshot_chunk;
    let mut frames = hello::dial(context, target, addr, Lane::Snapshot).await?;

    let mut begin = BytesMut::new();
    begin.put_u8(BEGIN);
    codec::put_vote(&mut begin, &vote);
    begin.put_u64(file.body_bytes);
    begin.put_u32(file.body_crc);
    begin.put_slice(&codec::encode_postcard(&meta));
    ask(&mut frames, deadline, [begin.freeze(), Bytes::new()]).await?;

    let mut offset = 0;
    while offset < file.body_bytes {
        let chunk = file
            .read(offset, context.config.snapshots.chunk_bytes.max(1))
            .await?;
        if chunk.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} is too short", file.path),
            ));
        }
        offset += chunk.len() as u64;
        ask(&mut frames, deadline, [Bytes::from_static(&[CHUNK]), chunk]).await?;
    }

    let answer = ask(&mut frames, deadline, [Bytes::from_static(&[END]), Bytes::new()]).await?;
    Reader::new(answer).vote().map_err(io::Error::other)
}

async fn ask(frames: &mut Frames, deadline: Duration, parts: [Bytes; 2]) -> io::Result<Bytes> {
    let answer = hello::within(deadline, "a chunk of a snapshot", frames.ask(parts)).await?;
    wire::open(answer).map_err(io::Error::other)
}

/// Receives one snapshot, hands it to `install`, and answers with the vote that it returns.
///
/// # Errors
/// What broke; an error of this side's disk was told to the sender.
pub(super) async fn receive<I, F>(
    context: &Context,
    mut frames: Frames,
    shelf: &Shelf,
    install: I,
) -> io::Result<()>
where
    I: FnOnce(Vote, SnapshotMeta, Draft) -> F,
    F: Future<Output = io::Result<Vote>>,
{
    // The sender reads a chunk between two frames; both sides know how long that may take.
    let deadline = 2 * context.config.timing.snapshot_chunk;
    let frame = hello::within(deadline, "the begin of a snapshot", frames.next()).await?;
    let (vote, meta, bytes, crc) = read_begin(frame).map_err(io::Error::other)?;
    let mut draft = match shelf.begin(meta.clone(), bytes, crc).await {
        Ok(draft) => draft,
        Err(error) => return refuse(frames, error).await,
    };
    if let Err(error) = receive_chunks(&mut frames, &mut draft, deadline).await {
        shelf.discard(draft).await;
        return refuse(frames, error).await;
    }
    match install(vote, meta, draft).await {
        Ok(vote) => {
            let mut out = BytesMut::new();
            codec::put_vote(&mut out, &vote);
            answer(&mut frames, out.freeze()).await
        }
        Err(error) => refuse(frames, error).await,
    }
}

async fn receive_chunks(frames: &mut Frames, draft: &mut Draft, deadline: Duration) -> io::Result<()> {
    answer(frames, Bytes::new()).await?;
    loop {
        let frame = hello::within(deadline, "a chunk of a snapshot", frames.next()).await?;
        match frame.first() {
            Some(&CHUNK) => draft.write(frame.slice(1..)).await?,
            Some(&END) => return Ok(()),
            _ => return Err(io::Error::other("neither a chunk nor the end of a snapshot")),
        }
        answer(frames, Bytes::new()).await?;
    }
}

fn read_begin(frame: Bytes) -> Result<(Vote, SnapshotMeta, u64, u32), codec::Malformed> {
    let mut reader = Reader::new(frame);
    if reader.u8("begin")? != BEGIN {
        return Err(codec::Malformed("begin of a snapshot"));
    }
    let vote = reader.vote()?;
    let (bytes, crc) = (reader.u64("body length")?, reader.u32("body crc")?);
    let meta = postcard::from_bytes(&reader.rest()).map_err(|_| codec::Malformed("snapshot meta"))?;
    Ok((vote, meta, bytes, crc))
}

async fn answer(frames: &mut Frames, content: Bytes) -> io::Result<()> {
    frames.queue(wire::good(content))?;
    frames.flush().await
}

async fn refuse(mut frames: Frames, error: io::Error) -> io::Result<()> {
    frames.queue(wire::failed(&error.to_string()))?;
    frames.flush().await?;
    Err(error)
}
