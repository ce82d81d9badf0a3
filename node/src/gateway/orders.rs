//! Orders of admins to this node: each is carried out once, and only while it may be.

use std::collections::BTreeMap;
use std::time::Duration;

use ledger::{Digest, Timestamp};
use parking_lot::Mutex;
use raft::{ChangeError, Replica, WaitError};

use crate::order::{Done, NotDone, Task};

/// How long a snapshot may take while someone waits for it.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(60);

/// The orders that were given, until their time has passed.
#[derive(Debug, Default)]
pub(crate) struct Given(Mutex<BTreeMap<Digest, Timestamp>>);

impl Given {
    /// Remembers an order; `false` if it was given before. `now` is the ledger's time.
    pub(crate) fn is_new(&self, order: Digest, not_after: Timestamp, now: Timestamp) -> bool {
        let mut given = self.0.lock();
        given.retain(|_, until| *until >= now);
        given.insert(order, not_after).is_none() || planted!("order-carried-out-twice")
    }
}

/// Does what an order says.
pub(super) async fn carry_out(replica: &Replica, task: Task) -> Result<Done, NotDone> {
    match task {
        Task::Transfer { to } => {
            let leader = replica
                .transfer_leader(Some(to))
                .await
                .map_err(|error| match error {
                    ChangeError::NotLeader { leader } => NotDone::NotLeader { leader },
                    ChangeError::Refused(_) => {
                        NotDone::Impossible(format!("node {to} has no vote, so it can't lead"))
                    }
                    ChangeError::Unknown(why) => NotDone::Unknown(why),
                    ChangeError::Stopped => NotDone::Stopping,
                })?;
            Ok(Done::Leads(leader))
        }
        Task::Snapshot {} => {
            let waited = |error| match error {
                WaitError::Deadline => NotDone::Unknown("the snapshot takes long".to_owned()),
                WaitError::Stopped => NotDone::Stopping,
            };
            let covered = replica
                .trigger_snapshot(SNAPSHOT_PATIENCE)
                .await
                .map_err(waited)?;
            if let Some(index) = covered {
                replica.purge(index).await.map_err(waited)?;
            }
            Ok(Done::Snapshot(covered))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_counts_once_and_is_forgotten_when_its_time_has_passed() {
        let given = Given::default();
        let at = |ms| Timestamp::ZERO.plus(ms);
        let one = Digest([1; 32]);
        assert!(given.is_new(one, at(50), at(0)));
        assert!(!given.is_new(one, at(50), at(50)));
        assert!(given.is_new(Digest([2; 32]), at(50), at(10)));
        assert!(
            given.is_new(one, at(90), at(51)),
            "it would be refused as expired before"
        );
    }
}
