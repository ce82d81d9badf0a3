//! The handle to one member of a group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::config::Config;
use crate::disk::Disk;
use crate::error::{CallError, ChangeError, Fault, ProposeError, ReadError, StartError, WaitError};
use crate::machine::StateMachine;
use crate::network::Network;
use crate::service::Service;
use crate::status::Status;
use crate::types::PeerAddr;

/// One member of a group. Cheap to clone; all clones are the same replica.
///
/// It runs until [`Replica::shutdown`] or a fault. Dropping every handle stops nothing gracefully: tasks end
/// as in a crash, which the log is made to bear.
#[derive(Clone)]
pub struct Replica {
    status: watch::Receiver<Status>,
    fault: watch::Receiver<Option<Fault>>,
    applied: watch::Receiver<Option<u64>>,
    listen: Arc<str>,
}

impl Replica {
    /// Opens the disk, restores the machine from the newest snapshot, replays what is known to be committed,
    /// listens, and takes part.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        config: Config,
        disk: Arc<dyn Disk>,
        network: Arc<dyn Network>,
        machine: Box<dyn StateMachine>,
        service: Arc<dyn Service>,
    ) -> Result<Replica, StartError> {
        let _ = (disk, network, machine, service);
        Err(StartError::Config(format!(
            "node {} can't start yet",
            config.node_id
        )))
    }

    /// Forms a group of these voters. To be called on every one of them at the first start, with the same
    /// members; does nothing if the log is not empty.
    ///
    /// # Errors
    /// `Refused` if this node is not among the members.
    pub async fn initialize(&self, members: BTreeMap<u64, PeerAddr>) -> Result<(), ChangeError> {
        let _ = members;
        Err(ChangeError::Stopped)
    }

    /// Appends payloads, in this order, and returns their indexes once all are committed and applied here.
    /// Many calls may be under way at once; each one's payloads stay together and in order unless leadership
    /// is lost among them.
    ///
    /// # Errors
    /// See [`ProposeError`]; dropping the future leaves the outcome unknown too.
    pub async fn propose(&self, payloads: Vec<Bytes>) -> Result<Vec<u64>, ProposeError> {
        let _ = payloads;
        Err(ProposeError::Stopped)
    }

    /// On the leader: an index such that state which has applied it shows every write that was acknowledged
    /// anywhere before this call. Does not wait for the apply: see [`Replica::wait_applied`].
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_barrier(&self) -> Result<u64, ReadError> {
        Err(ReadError::Stopped)
    }

    /// Waits until the machine here has applied `index`.
    ///
    /// # Errors
    /// See [`WaitError`].
    pub async fn wait_applied(&self, index: u64, deadline: Duration) -> Result<(), WaitError> {
        let _ = (index, deadline);
        Err(WaitError::Stopped)
    }

    /// Sends a request to a member's [`Service`] and waits for the answer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, peer: u64, request: Bytes, deadline: Duration) -> Result<Bytes, CallError> {
        let _ = (peer, request, deadline);
        Err(CallError::Stopped)
    }

    /// On the leader: adds a member without a vote, and returns the entry's index; it may still be catching
    /// up then.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn add_learner(&self, id: u64, addr: PeerAddr) -> Result<u64, ChangeError> {
        let _ = (id, addr);
        Err(ChangeError::Stopped)
    }

    /// On the leader: makes exactly these members the voters, by joint consensus; voters that are not among
    /// them become learners. Returns the index of the final configuration.
    ///
    /// # Errors
    /// See [`ChangeError`]; a joint configuration may be left behind, which the next change completes.
    pub async fn change_voters(&self, voters: BTreeSet<u64>) -> Result<u64, ChangeError> {
        let _ = voters;
        Err(ChangeError::Stopped)
    }

    /// On the leader: removes a member, voter or learner. Returns the index of the final configuration.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn remove(&self, id: u64) -> Result<u64, ChangeError> {
        let _ = id;
        Err(ChangeError::Stopped)
    }

    /// On the leader: hands leadership to `to`, or to the voter that is furthest along, and waits until
    /// another leader is known.
    ///
    /// # Errors
    /// `Refused` if there is no such voter; `Unknown` if none took over in time (this node goes on leading
    /// then, or someone else wins an election).
    pub async fn transfer_leader(&self, to: Option<u64>) -> Result<u64, ChangeError> {
        let _ = to;
        Err(ChangeError::Stopped)
    }

    /// Takes a snapshot now and returns the index it covers, once it is durable.
    ///
    /// # Errors
    /// See [`WaitError`].
    pub async fn trigger_snapshot(&self, deadline: Duration) -> Result<Option<u64>, WaitError> {
        let _ = deadline;
        Err(WaitError::Stopped)
    }

    /// Drops log up to `index`, as far as a durable snapshot covers it. Returns at once; see
    /// [`Status::purged`].
    ///
    /// # Errors
    /// `Stopped` only.
    pub async fn purge(&self, index: u64) -> Result<(), WaitError> {
        let _ = index;
        Err(WaitError::Stopped)
    }

    /// The newest status.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Every change of the status, the newest only.
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// The last applied index, the newest only; changes after the machine's `apply` returned.
    pub fn watch_applied(&self) -> watch::Receiver<Option<u64>> {
        self.applied.clone()
    }

    /// `Some` once the replica has stopped for a reason.
    pub fn fault(&self) -> watch::Receiver<Option<Fault>> {
        self.fault.clone()
    }

    /// Where it listens, with the port that was picked.
    pub fn listen_addr(&self) -> &str {
        &self.listen
    }

    /// Hands leadership over if it leads, stops taking requests, flushes and closes. Idempotent.
    ///
    /// # Errors
    /// The fault, if it had stopped for one.
    pub async fn shutdown(&self) -> Result<(), Fault> {
        Ok(())
    }
}
