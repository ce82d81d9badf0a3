//! The listening end: hello, then whatever the lane is for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use openraft::Raft;
use serde::Serialize;

use super::client::{PRE_VOTE, TRANSFER, VOTE, split_control};
use super::frame::Frames;
use super::hello::{self, Lane};
use super::{Context, append, attachment, caller, snapshot, suspect, wire};
use crate::applier::{Applier, SnapshotData};
use crate::codec;
use crate::network::{BoxStream, Listener};
use crate::service::Service;
use crate::snapshot::Shelf;
use crate::types::{Snapshot, TypeConfig};

/// After a failed accept (no more file descriptors, say) the listener rests this long.
const REST: Duration = Duration::from_millis(50);

/// What answers peers.
pub(crate) struct Served {
    pub(crate) context: Arc<Context>,
    pub(crate) raft: Raft<TypeConfig, Applier>,
    pub(crate) shelf: Shelf,
    pub(crate) service: Arc<dyn Service>,
}

/// Accepts connections for as long as it is polled, each in a task of its own.
pub(crate) async fn serve(mut listener: Box<dyn Listener>, served: Arc<Served>) {
    loop {
        match listener.accept().await {
            Ok((stream, addr)) => {
                let connection = Arc::clone(&served);
                served
                    .context
                    .seeds
                    .spawn(async move { connection.run(stream, addr).await });
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

impl Served {
    async fn run(&self, stream: BoxStream, addr: String) {
        let (frames, lane, from) = match hello::accept(&self.context, stream).await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%addr, %error, "refused a connection");
                return;
            }
        };
        let ended = match lane {
            Lane::Append => {
                let ended = self.appends(frames).await;
                suspect::lost(&self.context, &self.raft, from).await;
                ended
            }
            Lane::Control => self.control(frames).await,
            Lane::Snapshot => self.snapshot(frames, from).await,
            Lane::Call => caller::serve(&self.context, frames, from, &self.service).await,
            Lane::Attachment => attachment::serve(&self.context, frames).await,
        };
        if let Err(error) = ended {
            tracing::debug!(%addr, from, ?lane, %error, "a connection ended");
        }
    }

    async fn appends(&self, frames: Frames) -> io::Result<()> {
        append::serve(frames, |requests| {
            self.raft
                .stream_append(requests)
                .map(|answer| answer.map_err(io::Error::other))
        })
        .await
    }

    async fn control(&self, mut frames: Frames) -> io::Result<()> {
        let deadline = self.context.config.timing.connect;
        let question = hello::within(deadline, "a question", frames.next()).await?;
        let Some((kind, content)) = split_control(&question) else {
            return Ok(());
        };
        let malformed = |e: postcard::Error| io::Error::new(io::ErrorKind::InvalidData, e);
        let answer = match kind {
            VOTE => encode(
                self.raft
                    .vote(postcard::from_bytes(&content).map_err(malformed)?)
                    .await,
            ),
            PRE_VOTE => encode(
                self.raft
                    .pre_vote(postcard::from_bytes(&content).map_err(malformed)?)
                    .await,
            ),
            TRANSFER => encode(
                self.raft
                    .handle_transfer_leader(postcard::from_bytes(&content).map_err(malformed)?)
                    .await,
            ),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "an unknown question")),
        };
        frames.queue(answer)?;
        hello::within(deadline, "the answer's way", frames.flush()).await?;
        // The asker closes; waiting for it keeps the answer from being cut off by a reset.
        let _ = hello::within(deadline, "the close", frames.next()).await;
        Ok(())
    }

    async fn snapshot(&self, frames: Frames, from: u64) -> io::Result<()> {
        snapshot::receive(&self.context, frames, &self.shelf, |vote, meta, draft, held| async move {
            tracing::info!(from, last = ?meta.last_log_id.map(|last| last.index()), "received a snapshot");
            let snapshot: Snapshot<SnapshotData> =
                Snapshot { meta, snapshot: SnapshotData::Received(Box::new(draft), held) };
            let answer = self.raft.install_full_snapshot(vote, snapshot).await;
            answer.map(|answer| answer.vote).map_err(io::Error::other)
        })
        .await
    }
}

fn encode<A: Serialize, E: std::fmt::Display>(answer: Result<A, E>) -> [Bytes; 2] {
    match answer {
        Ok(answer) => wire::good(codec::encode_postcard(&answer)),
        Err(error) => wire::failed(&error.to_string()),
    }
}
