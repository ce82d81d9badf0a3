//! The snapshot lane: begin, the attachments that the receiver lacks, chunk after chunk of the body, end. Each frame is
//! answered before the next is sent, so memory holds one chunk, and a deadline can be put on each.
//!
//! Attachments come before the body and are durable one by one: a transfer that breaks off goes on, when it is tried
//! again, with the file that was under way.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use crc32c::crc32c_append;

use super::frame::Frames;
use super::hello::{self, Lane};
use super::{Context, attachment, wire};
use crate::attachments::{Attachment, Attachments, By, Hold};
use crate::codec::{self, Reader};
use crate::snapshot::{Draft, Shelf, SnapshotFile};
use crate::types::{SnapshotMeta, Vote};

const BEGIN: u8 = 1;
pub(super) const CHUNK: u8 = 2;
pub(super) const END: u8 = 3;
const LIST: u8 = 4;
pub(super) const FILE: u8 = 5;

/// Attachments named in one frame.
const LISTED: usize = 512;

/// Sends a snapshot with what it refers to, and returns the receiver's vote after it has installed it (or refused it for a higher one).
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

    for listed in file.attachments.chunks(LISTED) {
        let list = codec::encode_postcard(&listed);
        let lacking = ask(&mut frames, deadline, [Bytes::from_static(&[LIST]), list]).await?;
        let lacking: Vec<u32> = postcard::from_bytes(&lacking).map_err(io::Error::other)?;
        for place in lacking {
            let wanted = usize::try_from(place).ok().and_then(|place| listed.get(place));
            let wanted = wanted.ok_or_else(|| io::Error::other("asks for what was not listed"))?;
            let sending = context.attachments.send(wanted, By::Snapshot).await?;
            attachment::send(context, &mut frames, place, sending).await?;
        }
    }

    let (mut offset, mut crc) = (0, 0);
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
        crc = crc32c_append(crc, &chunk);
        if offset >= file.body_bytes && crc != file.body_crc {
            // What rotted here is nobody else's fault. The peer never hears the end of it.
            let rotten = io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: the snapshot is damaged", file.path),
            );
            context.faults.disk(&rotten);
            return Err(rotten);
        }
        ask(&mut frames, deadline, [Bytes::from_static(&[CHUNK]), chunk]).await?;
    }

    let answer = ask(&mut frames, deadline, [Bytes::from_static(&[END]), Bytes::new()]).await?;
    Reader::new(answer).vote().map_err(io::Error::other)
}

pub(super) async fn ask(frames: &mut Frames, deadline: Duration, parts: [Bytes; 2]) -> io::Result<Bytes> {
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
    I: FnOnce(Vote, SnapshotMeta, Draft, Vec<Hold>) -> F,
    F: Future<Output = io::Result<Vote>>,
{
    // The sender reads a chunk between two frames; both sides know how long that may take.
    let deadline = 2 * context.config.timing.snapshot_chunk;
    let frame = hello::within(deadline, "the begin of a snapshot", frames.next()).await?;
    let (vote, meta, bytes, crc) = read_begin(frame).map_err(io::Error::other)?;
    let (attachments, held, first) =
        match receive_attachments(&mut frames, &shelf.attachments, deadline).await {
            Ok(received) => received,
            Err(error) => return refuse(frames, error).await,
        };
    let mut draft = match shelf
        .begin(meta.clone(), attachments.into(), Some((bytes, crc)))
        .await
    {
        Ok(draft) => draft,
        Err(error) => {
            context.faults.disk(&error);
            return refuse(frames, error).await;
        }
    };
    if let Err(error) = receive_chunks(context, &mut frames, &mut draft, first, deadline).await {
        shelf.discard(&draft.path).await;
        return refuse(frames, error).await;
    }
    let (draft_path, finished) = (draft.path.clone(), Arc::clone(&draft.finished));
    match install(vote, meta, draft, held).await {
        Ok(vote) => {
            // Whoever has a newer state by now, or another leader, has left it where it was.
            if !finished.load(Ordering::Relaxed) {
                shelf.discard(&draft_path).await;
            }
            let mut out = BytesMut::new();
            codec::put_vote(&mut out, &vote);
            answer(&mut frames, out.freeze()).await
        }
        Err(error) => refuse(frames, error).await,
    }
}

/// Answers the begin, and receives what the snapshot refers to and is not here yet. Returns what it refers to, kept
/// from being swept, and the frame behind it.
async fn receive_attachments(
    frames: &mut Frames,
    attachments: &Attachments,
    deadline: Duration,
) -> io::Result<(Vec<Attachment>, Vec<Hold>, Bytes)> {
    let (mut all, mut held) = (Vec::new(), Vec::new());
    let mut content = Bytes::new();
    loop {
        answer(frames, content).await?;
        let frame = hello::within(deadline, "a list of attachments", frames.next()).await?;
        if frame.first() != Some(&LIST) {
            return Ok((all, held, frame));
        }
        let listed: Vec<Attachment> = postcard::from_bytes(&frame[1..]).map_err(io::Error::other)?;
        let mut lacking = Vec::new();
        for (place, one) in (0u32..).zip(&listed) {
            match attachments.keep(one).await? {
                Some(hold) => held.push(hold),
                None => lacking.push(place),
            }
        }
        content = codec::encode_postcard(&lacking);
        for place in lacking {
            answer(frames, std::mem::take(&mut content)).await?;
            held.push(attachment::receive(frames, attachments, &listed, place, deadline).await?);
        }
        all.extend(listed);
    }
}

/// Receives the body, of which `frame` is the first.
async fn receive_chunks(
    context: &Context,
    frames: &mut Frames,
    draft: &mut Draft,
    mut frame: Bytes,
    deadline: Duration,
) -> io::Result<()> {
    loop {
        match frame.first() {
            Some(&CHUNK) => {
                let chunk = frame.slice(1..);
                draft.expects(&chunk)?;
                let written = draft.write(chunk).await;
                written.inspect_err(|error| context.faults.disk(error))?;
            }
            Some(&END) => return draft.check(),
            _ => return Err(io::Error::other("neither a chunk nor the end of a snapshot")),
        }
        answer(frames, Bytes::new()).await?;
        frame = hello::within(deadline, "a chunk of a snapshot", frames.next()).await?;
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

pub(super) async fn answer(frames: &mut Frames, content: Bytes) -> io::Result<()> {
    frames.queue(wire::good(content))?;
    frames.flush().await
}

pub(super) async fn refuse(mut frames: Frames, error: io::Error) -> io::Result<()> {
    frames.queue(wire::failed(&error.to_string()))?;
    frames.flush().await?;
    Err(error)
}
