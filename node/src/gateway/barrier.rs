//! Linearizable reads: one ReadIndex round serves all readers that were waiting when it began.
//!
//! A reader joins the *next* round, never one under way: a round that began before the reader arrived may have
//! fixed its index before a write that the reader's client already saw acknowledged.

use std::time::Duration;

use ledger::NodeId;
use raft::{ReadError, Replica};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Unanswered;
use super::protocol::{self, Request, Response};

/// A reader that waits for a read point.
pub(crate) type Reader = oneshot::Sender<Result<u64, Unanswered>>;

/// Runs rounds until no one can ask any more.
pub(crate) async fn run(mut readers: mpsc::Receiver<Reader>, replica: Replica, patience: Duration) {
    let mut waiting = Vec::new();
    while readers.recv_many(&mut waiting, usize::MAX).await > 0 {
        let point = read_point(&replica, patience).await;
        while planted!("late-reader")
            && let Ok(reader) = readers.try_recv()
        {
            waiting.push(reader);
        }
        for reader in waiting.drain(..) {
            let _ = reader.send(point.clone());
        }
    }
}

/// Asks this node if it leads, else its leader, until one answers or patience ends.
async fn read_point(replica: &Replica, patience: Duration) -> Result<u64, Unanswered> {
    let deadline = Instant::now() + patience;
    let mut status = replica.watch_status();
    loop {
        let now = Instant::now();
        let Some(left) = deadline
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())
        else {
            return Err(Unanswered::NoLeader);
        };
        let leader = status.borrow_and_update().leader;
        let answer = match leader {
            Some(leader) if leader == replica.status().id => local(replica, left).await,
            Some(leader) => remote(replica, leader, left).await,
            None => Err(Retry::WhenChanged),
        };
        match answer {
            Ok(index) => return Ok(index),
            Err(Retry::Never(why)) => return Err(why),
            Err(Retry::WhenChanged) => {
                // The status may already be newer than the one that misled us; a short pause bounds the rest.
                let pause = Duration::from_millis(50).min(left);
                let _ = tokio::time::timeout(pause, status.changed()).await;
            }
        }
    }
}

enum Retry {
    WhenChanged,
    Never(Unanswered),
}

async fn local(replica: &Replica, left: Duration) -> Result<u64, Retry> {
    match tokio::time::timeout(left, replica.read_barrier()).await {
        Ok(Ok(index)) => Ok(index),
        Ok(Err(ReadError::Stopped)) => Err(Retry::Never(Unanswered::Stopping)),
        Ok(Err(ReadError::NotLeader { .. } | ReadError::NoQuorum)) | Err(_) => Err(Retry::WhenChanged),
    }
}

async fn remote(replica: &Replica, leader: NodeId, left: Duration) -> Result<u64, Retry> {
    // One attempt must not use up all patience: the leader may be the one that just died.
    let attempt = left.min(Duration::from_millis(500));
    match replica
        .call(leader, protocol::encode(&Request::ReadPoint), attempt)
        .await
    {
        Ok(bytes) => match protocol::decode(&bytes) {
            Some(Response::ReadPoint(index)) => Ok(index),
            _ => Err(Retry::WhenChanged),
        },
        Err(raft::CallError::Stopped) => Err(Retry::Never(Unanswered::Stopping)),
        Err(_) => Err(Retry::WhenChanged),
    }
}
