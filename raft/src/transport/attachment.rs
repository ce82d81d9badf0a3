//! Attachments on the wire: one file, chunk after chunk, each answered before the next is sent.
//!
//! A snapshot's sender gives those that the receiver lacks; and whoever finds one of its own damaged or gone asks for it
//! on a lane of its own ([`fetch`]), and receives it in the same way.

use std::io;
use std::time::Duration;

use bytes::Bytes;

use super::frame::Frames;
use super::hello::{self, Lane};
use super::snapshot::{CHUNK, END, FILE, answer, ask, refuse};
use super::{Context, wire};
use crate::attachments::{Attachment, Attachments, By, Hold, Sending};
use crate::codec;

/// Fetches a file from a peer, and makes it durable in place of what is here under its name.
///
/// # Errors
/// What broke, or that the peer hasn't got it.
pub(super) async fn fetch(
    context: &Context,
    peer: u64,
    addr: &str,
    attachment: &Attachment,
) -> io::Result<Hold> {
    let deadline = 2 * context.config.timing.snapshot_chunk;
    let mut frames = hello::dial(context, peer, addr, Lane::Attachment).await?;
    frames.queue([codec::encode_postcard(attachment)])?;
    frames.flush().await?;
    let has = hello::within(deadline, "whether a peer has an attachment", frames.next()).await?;
    wire::open(has).map_err(io::Error::other)?;
    let wanted = std::slice::from_ref(attachment);
    let hold = receive(&mut frames, &context.attachments, wanted, 0, deadline).await?;
    // It is here; that the sender doesn't hear so costs nothing.
    let _ = answer(&mut frames, Bytes::new()).await;
    Ok(hold)
}

/// Answers one [`fetch`].
///
/// # Errors
/// What broke; that the file is not here was told to the peer.
pub(super) async fn serve(context: &Context, mut frames: Frames) -> io::Result<()> {
    let deadline = context.config.timing.snapshot_chunk;
    let question = hello::within(deadline, "the name of an attachment", frames.next()).await?;
    let wanted: Attachment = postcard::from_bytes(&question).map_err(io::Error::other)?;
    match context.attachments.send(&wanted, By::Peer).await {
        Ok(sending) => {
            answer(&mut frames, Bytes::new()).await?;
            send(context, &mut frames, 0, sending).await
        }
        Err(error) => refuse(frames, error).await,
    }
}

/// Sends one file, which the receiver knows by its place in a list.
///
/// # Errors
/// What broke; that it is damaged here.
pub(super) async fn send(
    context: &Context,
    frames: &mut Frames,
    place: u32,
    mut sending: Sending,
) -> io::Result<()> {
    let deadline = context.config.timing.snapshot_chunk;
    let begin = codec::encode_postcard(&place);
    ask(frames, deadline, [Bytes::from_static(&[FILE]), begin]).await?;
    while let Some(chunk) = sending.next(context.config.snapshots.chunk_bytes.max(1)).await? {
        ask(frames, deadline, [Bytes::from_static(&[CHUNK]), chunk]).await?;
    }
    ask(frames, deadline, [Bytes::from_static(&[END]), Bytes::new()]).await?;
    Ok(())
}

/// Receives one file, up to the answer to its end.
///
/// # Errors
/// What broke, which side's disk included.
pub(super) async fn receive(
    frames: &mut Frames,
    attachments: &Attachments,
    listed: &[Attachment],
    place: u32,
    deadline: Duration,
) -> io::Result<Hold> {
    let frame = hello::within(deadline, "an attachment", frames.next()).await?;
    let begun = (frame.first() == Some(&FILE))
        .then(|| postcard::from_bytes::<u32>(&frame[1..]).ok())
        .flatten();
    let wanted = usize::try_from(place).ok().and_then(|place| listed.get(place));
    let (Some(wanted), true) = (wanted, begun == Some(place)) else {
        return Err(io::Error::other("not the attachment that was asked for"));
    };
    let mut draft = attachments.begin(wanted.clone()).await?;
    loop {
        let received = async {
            answer(frames, Bytes::new()).await?;
            let frame = hello::within(deadline, "a chunk of an attachment", frames.next()).await?;
            match frame.first() {
                Some(&CHUNK) => draft.write(frame.slice(1..)).await.map(|()| true),
                Some(&END) => Ok(false),
                _ => Err(io::Error::other("neither a chunk nor the end of an attachment")),
            }
        };
        match received.await {
            Ok(true) => {}
            Ok(false) => return draft.finish().await,
            Err(error) => {
                draft.discard().await;
                return Err(error);
            }
        }
    }
}
