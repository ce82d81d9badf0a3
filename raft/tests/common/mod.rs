//! A group of replicas in one process: real files, real sockets on ports that the system picks.
#![allow(unreachable_pub, dead_code, reason = "each test file uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use raft::{
    BoxFuture, Capture, Committed, Config, FileDisk, Payload, PeerAddr, Replica, RestoreError, Role, Service,
    StateMachine, Status, TcpNetwork,
};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Remembers every payload with its index.
#[derive(Clone, Default)]
pub struct Journal(pub Arc<Mutex<BTreeMap<u64, Bytes>>>);

impl Journal {
    pub fn payloads(&self) -> Vec<Bytes> {
        self.0.lock().values().cloned().collect()
    }
}

impl StateMachine for Journal {
    fn apply(&mut self, batch: Vec<Committed>) {
        let mut journal = self.0.lock();
        for entry in batch {
            if let Payload::App(payload) = entry.payload {
                let known = journal.insert(entry.index, payload);
                assert_eq!(known, None, "entry {} was applied twice", entry.index);
            }
        }
    }

    fn snapshot(&mut self) -> Capture {
        let journal = self.0.lock().clone();
        Capture::new(move || {
            let mut out = Vec::new();
            for (index, payload) in &journal {
                out.extend(index.to_be_bytes());
                out.extend((payload.len() as u64).to_be_bytes());
                out.extend(payload);
            }
            out.into()
        })
    }

    fn restore(&mut self, snapshot: Bytes, _index: u64) -> Result<(), RestoreError> {
        let mut journal = BTreeMap::new();
        let mut rest = &snapshot[..];
        while !rest.is_empty() {
            let (head, tail) = rest
                .split_at_checked(16)
                .ok_or_else(|| RestoreError("short".into()))?;
            let word = |at: usize| u64::from_be_bytes(head[at..at + 8].try_into().expect("eight bytes"));
            let len = usize::try_from(word(8)).expect("fits");
            let (payload, tail) = tail
                .split_at_checked(len)
                .ok_or_else(|| RestoreError("short".into()))?;
            journal.insert(word(0), Bytes::copy_from_slice(payload));
            rest = tail;
        }
        *self.0.lock() = journal;
        Ok(())
    }
}

/// Answers with who asked and what.
pub struct Echo(pub u64);

impl Service for Echo {
    fn serve(&self, from: u64, request: Bytes) -> BoxFuture<'_, Bytes> {
        let me = self.0;
        Box::pin(async move { format!("{from}>{me}:{}", String::from_utf8_lossy(&request)).into() })
    }
}

pub struct Node {
    pub id: u64,
    pub replica: Replica,
    pub journal: Journal,
    pub addr: String,
}

pub struct Group {
    dir: tempfile::TempDir,
    pub nodes: BTreeMap<u64, Node>,
    tune: Box<dyn Fn(&mut Config) + Send>,
    /// A new seed for each start, as in production.
    seed: u64,
}

pub const CLUSTER: [u8; 32] = [7; 32];

impl Group {
    /// Starts and initializes a group of voters.
    pub async fn start(
        ids: impl IntoIterator<Item = u64>,
        tune: impl Fn(&mut Config) + Send + 'static,
    ) -> Group {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut group = Group {
            dir,
            nodes: BTreeMap::new(),
            tune: Box::new(tune),
            seed: 1000,
        };
        for id in ids {
            group.spawn(id, "127.0.0.1:0").await;
        }
        let members = group.members();
        for node in group.nodes.values() {
            node.replica
                .initialize(members.clone())
                .await
                .expect("all are members");
        }
        group
    }

    pub fn members(&self) -> BTreeMap<u64, PeerAddr> {
        self.nodes
            .values()
            .map(|node| (node.id, PeerAddr(node.addr.clone())))
            .collect()
    }

    pub fn path(&self, id: u64) -> std::path::PathBuf {
        self.dir.path().join(id.to_string())
    }

    pub fn config(&self, id: u64, listen: &str) -> Config {
        let mut config = Config::new(id, CLUSTER, listen, self.seed);
        config.log.segment_bytes = 256 << 10;
        (self.tune)(&mut config);
        config
    }

    /// Starts a node on its directory.
    pub async fn spawn(&mut self, id: u64, listen: &str) {
        self.seed += 1;
        let journal = Journal::default();
        let replica = Replica::start(
            self.config(id, listen),
            Arc::new(FileDisk::new(self.path(id))),
            Arc::new(TcpNetwork),
            Box::new(journal.clone()),
            Arc::new(Echo(id)),
        )
        .await
        .expect("a healthy directory");
        let addr = replica.listen_addr().to_owned();
        self.nodes.insert(
            id,
            Node {
                id,
                replica,
                journal,
                addr,
            },
        );
    }

    /// Stops a node gracefully and returns its address.
    pub async fn stop(&mut self, id: u64) -> String {
        let node = self.nodes.remove(&id).expect("a running node");
        node.replica.shutdown().await.expect("no fault");
        node.addr
    }

    pub fn replica(&self, id: u64) -> &Replica {
        &self.nodes[&id].replica
    }

    /// The node that leads and knows it, and whom all running nodes follow.
    pub async fn leader(&self) -> u64 {
        self.leader_among(self.nodes.keys().copied().collect()).await
    }

    pub async fn leader_among(&self, ids: BTreeSet<u64>) -> u64 {
        let looking = async {
            loop {
                let leader = wait(self.replica(*ids.first().expect("a node")), |status| {
                    status.leader.is_some()
                })
                .await
                .leader
                .expect("waited for");
                if !ids.contains(&leader) {
                    tokio::task::yield_now().await;
                    continue;
                }
                let mut agreed = self.replica(leader).status().role == Role::Leader;
                for id in &ids {
                    agreed &= self.replica(*id).status().leader == Some(leader);
                }
                if agreed && self.replica(leader).read_barrier().await.is_ok() {
                    return leader;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, looking)
            .await
            .expect("a leader is elected")
    }

    /// Proposes through whoever leads, until it is acknowledged.
    pub async fn propose(&self, payload: &str) -> u64 {
        let proposing = async {
            loop {
                for node in self.nodes.values() {
                    match node
                        .replica
                        .propose(vec![Bytes::copy_from_slice(payload.as_bytes())])
                        .await
                    {
                        Ok(indexes) => return indexes[0],
                        Err(raft::ProposeError::NotLeader { .. }) => tokio::task::yield_now().await,
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, proposing)
            .await
            .expect("someone leads")
    }

    /// Waits until every node has applied an index, and checks that their journals are equal.
    pub async fn settle(&self, index: u64) {
        for node in self.nodes.values() {
            node.replica
                .wait_applied(index, PATIENCE)
                .await
                .expect("the node catches up");
        }
        let upto = |node: &Node| -> Vec<(u64, Bytes)> {
            node.journal
                .0
                .lock()
                .range(..=index)
                .map(|(at, payload)| (*at, payload.clone()))
                .collect()
        };
        let mut nodes = self.nodes.values();
        let first = upto(nodes.next().expect("a node"));
        for node in nodes {
            assert_eq!(upto(node), first, "node {} differs", node.id);
        }
    }
}

/// Waits for a status.
pub async fn wait(replica: &Replica, until: impl FnMut(&Status) -> bool) -> Status {
    let mut watch = replica.watch_status();
    let waiting = watch.wait_for(until);
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(status) => status.expect("the replica lives").clone(),
        Err(_) => panic!("waited in vain; the status is {:?}", replica.status()),
    }
}
