//! One start, for `main` and for the simulator.
//!
//! [`start`] joins the parts in the order in which they can fail: disk and log, the record of what was signed,
//! the HTTP port; then it takes part. Everything it spawns ends with the returned [`Node`]'s shutdown, or with
//! the runtime, as in a crash.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use ledger::block::Header;
use ledger::{Genesis, Ledger, NodeId, PublicKey};
use parking_lot::RwLock;
use raft::{Attachments, PeerAddr, Replica, Role};
use tokio::sync::{mpsc, watch};

use crate::actors::{self, Backlog, Record};
use crate::alarm::Alarms;
use crate::api;
use crate::archive::Archive;
use crate::config::Cluster;
use crate::falsify::Falsify;
use crate::gateway::{self, Batcher, Gateway, Inner, Peers, Waiters};
use crate::listen::{self, HttpListener};
use crate::machine::Machine;
use crate::membership;
use crate::seams::Seams;

/// Offers that wait for the batcher; beyond, whoever offers waits.
const OFFERS: usize = 4096;

/// What one node is told.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its id.
    pub id: NodeId,
    /// The cluster file.
    pub cluster: Cluster,
    /// The first entry of the log; its digest is the cluster's id.
    pub genesis: Genesis,
    /// Signs block headers.
    pub node_key: SigningKey,
    /// Signs unsigned requests; `None` where they are refused.
    pub gateway_key: Option<SigningKey>,
    /// For demonstrations: how this node's ledger computes wrongly.
    pub falsify: Option<Falsify>,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The cluster file has no such node.
    #[error("{file} has no node {id}")]
    UnknownNode {
        /// The cluster file.
        file: String,
        /// The id asked for.
        id: NodeId,
    },
    /// The log, its disk or the peers' port.
    #[error(transparent)]
    Raft(#[from] raft::StartError),
    /// The group could not be formed.
    #[error("can't form the group: {0}")]
    Form(raft::ChangeError),
    /// What was signed can't be read.
    #[error("can't read what this node has signed: {0}")]
    Record(io::Error),
    /// The HTTP port.
    #[error("can't listen on {addr} for HTTP: {source}")]
    Listen {
        /// The address.
        addr: String,
        /// What the network said.
        source: io::Error,
    },
}

/// A running node.
pub struct Node {
    gateway: Gateway,
    api_addr: String,
    stop_http: watch::Sender<bool>,
    foreign: watch::Receiver<Option<String>>,
}

/// Starts a node. Must be called on a `LocalSet`, which the balancing actors share.
///
/// # Errors
/// See [`StartError`]; nothing goes on running then.
pub async fn start(config: NodeConfig, seams: Seams) -> Result<Node, StartError> {
    let NodeConfig {
        id,
        cluster,
        genesis,
        node_key,
        gateway_key,
        falsify,
    } = config;
    let Some(member) = cluster.node(id) else {
        return Err(StartError::UnknownNode {
            file: cluster.source.clone(),
            id,
        });
    };
    let cluster_id = genesis.cluster();
    let patience = Duration::from_millis(cluster.timing.request_ms);

    let ledger = Arc::new(RwLock::new(Ledger::new()));
    let alarms = Alarms::default();
    let waiters = Waiters::new(cluster.limits.pending);
    let backlog = Backlog::new(cluster.limits.body_bytes);
    let (fed, feed) = mpsc::unbounded_channel();
    let (foreign, foreign_seen) = watch::channel(None);
    let archive = Arc::new(Archive::new(
        Arc::clone(&ledger),
        Attachments::new(Arc::clone(&seams.disk)),
        cluster.archive,
        cluster_id,
        fed.downgrade(),
        Arc::clone(&backlog),
    ));
    let machine = Machine {
        ledger: Arc::clone(&ledger),
        archive: Arc::clone(&archive),
        decoded: VecDeque::new(),
        waiters: Arc::clone(&waiters),
        actors: fed,
        backlog: Arc::clone(&backlog),
        alarms: alarms.clone(),
        cluster: cluster_id,
        foreign,
        contradicted: BTreeMap::new(),
        #[cfg(feature = "planted")]
        clock: Arc::clone(&seams.clock),
        falsify: falsify.zip(gateway_key.clone()),
    };

    // A start applies what the log has: whoever recomputes it must be at work by then.
    let verified = actors::recompute(
        cluster_id,
        Arc::clone(&ledger),
        alarms.clone(),
        feed,
        Arc::clone(&backlog),
    );
    let (offers, offered) = mpsc::channel(OFFERS);
    let known_replica = Arc::new(OnceLock::new());
    let peers = Peers::new(offers.clone(), Arc::clone(&known_replica));
    let replica = Replica::start(
        raft_config(
            id,
            &cluster,
            member.bind_peer.clone(),
            cluster_id.0,
            seams.entropy.seed(),
        ),
        Arc::clone(&seams.disk),
        Arc::clone(&seams.network),
        Box::new(machine),
        Arc::new(peers),
    )
    .await?;
    let _ = known_replica.set(replica.clone());
    let started = finish(
        Parts {
            id,
            cluster,
            genesis,
            node_key,
            gateway_key,
            ledger,
            archive,
            alarms,
            waiters,
            backlog,
            offers,
            patience,
        },
        &seams,
        replica.clone(),
        offered,
        verified,
        foreign_seen,
    )
    .await;
    if started.is_err() {
        // The error at hand says more than what stopping might add.
        let _ = replica.shutdown().await;
    }
    started
}

struct Parts {
    id: NodeId,
    cluster: Cluster,
    genesis: Genesis,
    node_key: SigningKey,
    gateway_key: Option<SigningKey>,
    ledger: Arc<RwLock<Ledger>>,
    archive: Arc<Archive>,
    alarms: Alarms,
    waiters: Arc<Waiters>,
    backlog: Arc<Backlog>,
    offers: mpsc::Sender<gateway::Offer>,
    patience: Duration,
}

/// Everything behind the replica's start, which must be stopped again if this fails.
async fn finish(
    parts: Parts,
    seams: &Seams,
    replica: Replica,
    offered: mpsc::Receiver<gateway::Offer>,
    verified: mpsc::UnboundedReceiver<Header>,
    foreign: watch::Receiver<Option<String>>,
) -> Result<Node, StartError> {
    let Parts {
        id,
        cluster,
        genesis,
        node_key,
        gateway_key,
        ledger,
        archive,
        alarms,
        waiters,
        backlog,
        offers,
        patience,
    } = parts;
    let cluster_id = genesis.cluster();
    let record = Record::open(&*seams.disk).await.map_err(StartError::Record)?;
    // Checked by the caller.
    let bind_api = cluster
        .node(id)
        .map(|member| member.bind_api.clone())
        .unwrap_or_default();
    let listener = seams
        .network
        .listen(&bind_api)
        .await
        .map_err(|source| StartError::Listen {
            addr: bind_api.clone(),
            source,
        })?;
    let listener = HttpListener::new(listener);

    if genesis.nodes.iter().any(|(founder, _)| *founder == id) {
        replica
            .initialize(founders(&cluster, &genesis))
            .await
            .map_err(StartError::Form)?;
    }
    let (signed, signed_seen) = watch::channel(None);
    let (ready_at, _) = watch::channel(None);
    let gateway = Gateway::new(Inner {
        replica: replica.clone(),
        ledger: Arc::clone(&ledger),
        archive: Arc::clone(&archive),
        cluster: cluster_id,
        created: genesis.created,
        node_key: node_key.clone(),
        gateway_key: gateway_key.filter(|key| {
            genesis.development
                && genesis
                    .gateways
                    .contains(&PublicKey(key.verifying_key().to_bytes()))
        }),
        waiters,
        merging: gateway::Merging::default(),
        offers,
        readers: gateway::start_barrier(replica.clone(), patience),
        entropy: Arc::clone(&seams.entropy),
        disk: Arc::clone(&seams.disk),
        alarms: alarms.clone(),
        signed: signed_seen,
        backlog: Arc::clone(&backlog),
        ready_at,
        given: gateway::Given::default(),
        patience,
    });
    let batcher = Batcher {
        replica: replica.clone(),
        ledger: Arc::clone(&ledger),
        clock: Arc::clone(&seams.clock),
        genesis,
        offers: offered,
        alarmed: alarms.watch(),
    };
    tokio::spawn(batcher.run());
    let mut status = replica.watch_status();
    let (archivist, ready_seen, archiving) = (Arc::clone(&archive), gateway.ready_at(), replica.clone());
    tokio::spawn(async move {
        tokio::select! {
            error = archivist.run(ready_seen) => {
                if !planted!("file-sync-error-ignored") {
                    archiving.disk_failed(&error);
                }
            }
            _ = status.wait_for(|status| status.role == Role::Stopped) => {}
        }
    });
    tokio::spawn(membership::run(gateway.clone()));
    tokio::spawn(resign_when_alarmed(replica.clone(), alarms.clone()));
    let learner = gateway.clone();
    tokio::spawn(async move { learner.learn_ready().await });
    actors::start(actors::Setup {
        node: id,
        key: node_key,
        record,
        gateway: gateway.clone(),
        alarms,
        verified,
        signed,
        sealing: cluster.seal,
    });

    let api_addr = listener.addr();
    let (stop_http, stopping) = watch::channel(false);
    let app = api::router(Arc::new(gateway.clone()), &cluster);
    tokio::spawn(listen::serve(listener, app, stopping));
    tracing::info!(node = id, cluster = %cluster_id, api = api_addr, peers = replica.listen_addr(), "started");
    Ok(Node {
        gateway,
        api_addr,
        stop_http,
        foreign,
    })
}

impl Node {
    /// What its HTTP edge asks, for whoever runs it in the same process.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Where it serves HTTP, with the port that was picked.
    pub fn api_addr(&self) -> &str {
        &self.api_addr
    }

    /// Waits until the node can't go on, and says why: its disk failed, or its log is another cluster's.
    pub async fn stopped(&self) -> String {
        let mut fault = self.gateway.replica().fault();
        let mut foreign = self.foreign.clone();
        let fault = async {
            match fault.wait_for(Option::is_some).await {
                Ok(fault) => fault.as_ref().map(ToString::to_string).unwrap_or_default(),
                Err(_) => "the replica is gone".to_owned(),
            }
        };
        let foreign = async {
            match foreign.wait_for(Option::is_some).await {
                Ok(message) => message.clone().unwrap_or_default(),
                // The machine ends with the replica, whose fault says more.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            message = fault => message,
            message = foreign => message,
        }
    }

    /// Takes no more requests, hands leadership over if it leads, and closes the log.
    ///
    /// # Errors
    /// The fault, if it had stopped for one.
    pub async fn shutdown(self) -> Result<(), raft::Fault> {
        self.stop_http.send_replace(true);
        self.gateway.replica().shutdown().await
    }
}

/// A node with an alarm sends no snapshots and doesn't lead: whenever it does, it hands over.
async fn resign_when_alarmed(replica: Replica, alarms: Alarms) {
    if alarms.watch().wait_for(|raised| *raised).await.is_err() {
        return;
    }
    replica.withhold_snapshots();
    if planted!("alarmed-node-leads") {
        return;
    }
    let mut status = replica.watch_status();
    while status
        .wait_for(|status| status.role == Role::Leader)
        .await
        .is_ok()
    {
        if let Err(error) = replica.transfer_leader(None).await {
            tracing::warn!(%error, "can't hand leadership over");
        }
        // The role may lag behind the transfer; asking again at once would only spin.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn founders(cluster: &Cluster, genesis: &Genesis) -> BTreeMap<u64, PeerAddr> {
    let ids: BTreeSet<NodeId> = genesis.nodes.iter().map(|(id, _)| *id).collect();
    let founders = cluster.nodes.iter().filter(|member| ids.contains(&member.id));
    founders
        .map(|member| (member.id, PeerAddr(member.peer.clone())))
        .collect()
}

fn raft_config(
    id: NodeId,
    cluster: &Cluster,
    listen: String,
    cluster_id: [u8; 32],
    seed: u64,
) -> raft::Config {
    let mut config = raft::Config::new(id, cluster_id, listen, seed);
    config.timing.heartbeat = Duration::from_millis(cluster.timing.heartbeat_ms);
    config.timing.election_min = Duration::from_millis(cluster.timing.election_min_ms);
    config.timing.election_max = Duration::from_millis(cluster.timing.election_max_ms);
    config.snapshots.every_entries = cluster.log.snapshot_after_entries;
    config.snapshots.every_bytes = cluster.log.snapshot_after_bytes;
    config.snapshots.keep_entries = cluster.log.keep_entries;
    config.snapshots.keep_bytes = usize::try_from(cluster.log.keep_bytes).unwrap_or(usize::MAX);
    config.log.segment_bytes = cluster.log.segment_bytes;
    config
}
