//! Read barriers, many in one round: whoever asks while a round is under way is served by the next, which
//! begins after all of them asked.

use std::time::Duration;

use openraft::Raft;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::raft::ReadPolicy;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::applier::Applier;
use crate::error::ReadError;
use crate::runtime::Seeds;
use crate::types::TypeConfig;

/// Waiters that fit the queue before askers have to wait.
const QUEUE: usize = 4096;

type Waiter = oneshot::Sender<Result<u64, ReadError>>;

/// The queue of those who wait.
pub(super) struct Barrier(mpsc::Sender<Waiter>);

impl Barrier {
    pub(super) fn start(seeds: &Seeds, raft: Raft<TypeConfig, Applier>, deadline: Duration) -> Self {
        let (tx, mut queue) = mpsc::channel::<Waiter>(QUEUE);
        seeds.spawn(async move {
            while let Some(first) = queue.recv().await {
                let mut waiters = vec![first];
                while let Ok(waiter) = queue.try_recv() {
                    waiters.push(waiter);
                }
                let result = round(&raft, deadline).await;
                for waiter in waiters {
                    // Whoever stopped waiting needs no answer.
                    let _ = waiter.send(result.clone());
                }
            }
        });
        Barrier(tx)
    }

    pub(super) async fn pass(&self) -> Result<u64, ReadError> {
        let (tx, rx) = oneshot::channel();
        self.0.send(tx).await.map_err(|_| ReadError::Stopped)?;
        rx.await.unwrap_or(Err(ReadError::Stopped))
    }
}

async fn round(raft: &Raft<TypeConfig, Applier>, deadline: Duration) -> Result<u64, ReadError> {
    if planted!("stale-leader-read") {
        use openraft::async_runtime::WatchReceiver;
        let metrics = raft.metrics().borrow_watched().clone();
        if metrics.current_leader == Some(metrics.id) {
            return Ok(metrics.last_applied.map_or(0, |applied| applied.index()));
        }
    }
    let policy = match planted!("lease-read") {
        true => ReadPolicy::LeaseRead,
        false => ReadPolicy::ReadIndex,
    };
    match timeout(deadline, raft.get_read_linearizer(policy)).await {
        Err(_) => Err(ReadError::NoQuorum),
        Ok(Ok(linearizer)) => Ok(linearizer.read_log_id().index()),
        Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)))) => {
            Err(ReadError::NotLeader {
                leader: forward.leader_id,
            })
        }
        Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) => Err(ReadError::NoQuorum),
        Ok(Err(RaftError::Fatal(_))) => Err(ReadError::Stopped),
    }
}
