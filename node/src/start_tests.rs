//! Three nodes in one process, over a network in memory and real files: what they sign, and when one falls out.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use ledger::contract::{Delivery, Direction, Status, Terms};
use ledger::envelope::LIFETIME_MS;
use ledger::rule::Rule;
use ledger::{
    Action, AssetId, Epoch, Genesis, GramsCo2, MicroCurrency, Outcome, PublicKey, Refusal, Settlement,
    Timestamp, Wh,
};
use parking_lot::Mutex;
use raft::{BoxFuture, BoxStream, FileDisk, Listener, Network};
use tokio::sync::mpsc;

use crate::config::Cluster;
use crate::falsify::{Falsify, Wrong};
use crate::gateway::{Backend as _, Receipt, sign_envelope};
use crate::seams::{Seams, SystemClock, SystemEntropy};
use crate::start::{Node, NodeConfig, start};

/// Connections are pairs of pipes; an address is a name.
#[derive(Clone, Default)]
struct Memory {
    listening: Arc<Mutex<BTreeMap<String, mpsc::UnboundedSender<BoxStream>>>>,
}

struct Accepting {
    addr: String,
    streams: mpsc::UnboundedReceiver<BoxStream>,
}

impl Network for Memory {
    fn dial<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let (near, far) = tokio::io::duplex(1 << 20);
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let listener = self.listening.lock().get(addr).cloned().ok_or_else(refused)?;
            listener.send(Box::new(far)).map_err(|_| refused())?;
            Ok(Box::new(near) as BoxStream)
        })
    }

    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (sender, streams) = mpsc::unbounded_channel();
            self.listening.lock().insert(addr.to_owned(), sender);
            Ok(Box::new(Accepting {
                addr: addr.to_owned(),
                streams,
            }) as Box<dyn Listener>)
        })
    }
}

impl Listener for Accepting {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, String)>> {
        Box::pin(async move {
            let stream = self
                .streams
                .recv()
                .await
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
            Ok((stream, "memory".to_owned()))
        })
    }

    fn local_addr(&self) -> String {
        self.addr.clone()
    }
}

/// Three nodes, and what they need to start again.
struct Three {
    dir: tempfile::TempDir,
    network: Memory,
    config: Cluster,
    genesis: Genesis,
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

impl Three {
    fn new(more: &str) -> Self {
        let nodes: String = (1..=3)
            .map(|id| {
                format!("[[node]]\nid = {id}\napi = \"127.0.0.1:{id}\"\npeer = \"127.0.0.1:100{id}\"\n")
            })
            .collect();
        let text = format!("epoch_ms = 900000\ndevelopment = true\n{nodes}{more}");
        Three {
            dir: tempfile::tempdir().expect("a directory"),
            network: Memory::default(),
            config: Cluster::parse("test", &text).expect("a cluster file"),
            genesis: Genesis {
                salt: [9; 32],
                created: Timestamp::new(1_700_000_000_000).expect("a moment"),
                epoch_ms: 900_000,
                nodes: (1..=3).map(|id| (u64::from(id), public(&key(id)))).collect(),
                admins: vec![public(&key(101))],
                gateways: vec![public(&key(100))],
                development: true,
            },
        }
    }

    async fn start(&self, id: u8, falsify: Option<Falsify>) -> Node {
        let config = NodeConfig {
            id: u64::from(id),
            cluster: self.config.clone(),
            genesis: self.genesis.clone(),
            node_key: key(id),
            gateway_key: Some(key(100)),
            falsify,
        };
        let seams = Seams {
            disk: Arc::new(FileDisk::new(self.dir.path().join(format!("node-{id}")))),
            network: Arc::new(self.network.clone()),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
        };
        start(config, seams).await.expect("the node starts")
    }
}

fn asset(name: &str) -> AssetId {
    AssetId::try_from(name).expect("a name")
}

fn epoch(n: u64) -> Epoch {
    Epoch::new(n).expect("an epoch")
}

fn upsert(name: &str, from: Option<&str>, to: Option<&str>) -> Action {
    Action::UpsertAsset {
        asset: asset(name),
        kind: None,
        rule: Some(Rule {
            from: from.map(asset),
            to: to.map(asset),
        }),
        metadata: BTreeMap::new(),
    }
}

fn settle(meter: &str, at: u64, consumption: i64) -> Action {
    Action::Settle {
        settlements: vec![Settlement {
            meter: asset(meter),
            epoch: epoch(at),
            consumption: Wh::new(consumption).expect("watt-hours"),
            label: "virtual_1".try_into().expect("a label"),
            co2eq: GramsCo2::ZERO,
            autoseal: None,
        }],
    }
}

fn contract(id: &str, owner: &str, partner: &str, energy: i64, delivery: Delivery) -> Action {
    Action::AddContract {
        terms: Terms {
            id: id.try_into().expect("a name"),
            asset: asset(owner),
            partner: asset(partner),
            direction: Direction::To,
            delivery,
            energy: Wh::new(energy).expect("watt-hours"),
            load_min: Wh::ZERO,
            load_max: None,
            energy_total: None,
            valid_from: None,
            valid_until: None,
            price: MicroCurrency::ZERO,
        },
        status: Status::Active,
        priority: 1,
    }
}

/// A little community, one epoch; members become groups of their own only after they were settled.
fn story(at: u64) -> Vec<Action> {
    vec![
        upsert("seller", Some("grid"), Some("grid")),
        upsert("buyer", Some("grid"), Some("grid")),
        upsert("pv", None, Some("seller")),
        upsert("load", Some("buyer"), None),
        settle("pv", at, 500),
        settle("load", at, 300),
        settle("loose", at, 7),
        settle("seller", at, -20),
        contract(&format!("a{at}"), "seller", "buyer", 200, Delivery::Matched),
        contract(&format!("b{at}"), "buyer", "load", 10, Delivery::Firm),
        Action::SealEpoch {
            epoch: epoch(at),
            under: None,
        },
        settle("pv", at, 40),
        Action::SealEpoch {
            epoch: epoch(at),
            under: None,
        },
    ]
}

/// Fails rather than hangs.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(60), future).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: not within a minute"),
    }
}

async fn act(node: &Node, action: Action) -> Receipt {
    let receipt = within("an action", node.gateway().submit(action.clone(), None)).await;
    let receipt = receipt.unwrap_or_else(|error| panic!("{action:?}: {error}"));
    assert_eq!(receipt.outcome.refusal(), None, "{action:?}");
    receipt
}

/// Waits until all blocks of a node's ledger are certified and there are at least `least`, then lists them.
async fn certified(node: &Node, least: usize) -> Vec<(ledger::Digest, usize)> {
    let mut applied = node.gateway().replica().watch_applied();
    let all = async {
        loop {
            {
                let ledger = node.gateway().ledger().read();
                let blocks: Vec<_> = ledger.blocks(0, usize::MAX).collect();
                if blocks.len() >= least && blocks.iter().all(|block| block.certified) {
                    return blocks
                        .iter()
                        .map(|block| (block.digest, block.signatures.len()))
                        .collect();
                }
            }
            applied.changed().await.expect("the node runs");
        }
    };
    within("certified blocks", all).await
}

async fn on_local_set(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn three_nodes_certify_what_their_actors_recomputed() {
    on_local_set(async {
        let three = Three::new("");
        let nodes = [
            three.start(1, None).await,
            three.start(2, None).await,
            three.start(3, None).await,
        ];
        for (action, node) in story(7).into_iter().zip(nodes.iter().cycle()) {
            // Time begins with the genesis, not in 1970, from where it would never catch up with the calendar.
            let receipt = act(node, action).await;
            assert!(receipt.now >= three.genesis.created, "{:?}", receipt.now);
        }
        let chains = [
            certified(&nodes[0], 2).await,
            certified(&nodes[1], 2).await,
            certified(&nodes[2], 2).await,
        ];
        let digests =
            |chain: &[(ledger::Digest, usize)]| chain.iter().map(|block| block.0).collect::<Vec<_>>();
        assert_eq!(digests(&chains[0]), digests(&chains[1]));
        assert_eq!(digests(&chains[0]), digests(&chains[2]));
        for node in nodes {
            assert!(
                !node.gateway().alarms().raised(),
                "{:?}",
                node.gateway().alarms().list()
            );
            within("a shutdown", node.shutdown()).await.expect("no fault");
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_that_knows_nothing_yet_refuses_nothing_for_that() {
    on_local_set(async {
        let three = Three::new("");
        let (one, two) = (three.start(1, None).await, three.start(2, None).await);
        let now = act(&one, upsert("pv", None, None)).await.now;
        let three_of_three = three.start(3, None).await;
        let fresh = three_of_three.gateway();
        assert_eq!(fresh.ledger().read().genesis(), None, "it has heard of nothing");
        let (cluster, not_after) = (three.genesis.cluster(), now.plus(LIFETIME_MS / 2));
        let envelope = sign_envelope(&key(100), cluster, [7; 16], not_after, upsert("home", None, None));
        let done = within("an answer", fresh.submit_envelope(envelope)).await;
        assert_eq!(done.expect("an answer").outcome.refusal(), None);
        // What nobody signed needs no leader to be refused.
        let mut forged = sign_envelope(&key(100), cluster, [8; 16], not_after, upsert("x", None, None));
        forged.signature.0[3] ^= 1;
        let refused = within("a refusal", fresh.submit_envelope(forged))
            .await
            .expect("an answer");
        assert_eq!(refused.outcome.refusal(), Some(&Refusal::BadSignature {}));
        for node in [one, two, three_of_three] {
            within("a shutdown", node.shutdown()).await.expect("no fault");
        }
    })
    .await;
}

#[tokio::test]
async fn nodes_go_on_after_all_stopped_from_logs_and_from_snapshots() {
    on_local_set(async {
        // A snapshot every few entries, so that the actors begin from one.
        let three = Three::new("[log]\nsnapshot_after_entries = 10\nkeep_entries = 2\n");
        let mut blocks = 0;
        for round in 0..3 {
            let nodes = [
                three.start(1, None).await,
                three.start(2, None).await,
                three.start(3, None).await,
            ];
            for (action, node) in story(round).into_iter().zip(nodes.iter().cycle()) {
                act(node, action).await;
            }
            blocks += 2;
            for node in &nodes {
                certified(node, blocks).await;
                assert!(
                    !node.gateway().alarms().raised(),
                    "{:?}",
                    node.gateway().alarms().list()
                );
            }
            for node in nodes {
                within("a shutdown", node.shutdown()).await.expect("no fault");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn nodes_start_with_more_log_to_apply_than_may_wait_for_the_actors() {
    on_local_set(async {
        let three = Three::new("[limits]\nbody_bytes = 40\n");
        for round in 1..=2 {
            let mut nodes = Vec::new();
            for id in 1..=3 {
                nodes.push(within("a start", three.start(id, None)).await);
            }
            // A start applies 64 entries at a time, and waits before each time.
            for n in 0..80 {
                act(&nodes[0], settle("loose", round, n)).await;
            }
            for node in nodes {
                within("a shutdown", node.shutdown()).await.expect("no fault");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_whose_ledger_books_wrongly_falls_out_and_the_others_go_on() {
    falls_out(Wrong::Books).await;
}

#[tokio::test]
async fn a_node_whose_ledger_seals_wrongly_falls_out_and_the_others_go_on() {
    falls_out(Wrong::Seals).await;
}

async fn falls_out(what: Wrong) {
    on_local_set(async {
        let three = Three::new("");
        let nodes = [
            three.start(1, None).await,
            three.start(2, Some(Falsify { from: 0, what })).await,
            three.start(3, None).await,
        ];
        for action in story(7) {
            let receipt = act(&nodes[0], action).await;
            assert!(!matches!(receipt.outcome, Outcome::Refused { .. }));
        }
        let signed_by = certified(&nodes[0], 2).await;
        certified(&nodes[2], 2).await;
        assert!(
            signed_by.iter().all(|(_, signatures)| *signatures <= 2),
            "the wrong node signed: {signed_by:?}"
        );
        let mut alarmed = nodes[1].gateway().alarms().watch();
        within("the alarm", alarmed.wait_for(|raised| *raised))
            .await
            .expect("the node runs");
        // Before it could sign what is wrong, not when the next block did not fit.
        let alarm = &nodes[1].gateway().alarms().list()[0];
        let block = nodes[0]
            .gateway()
            .ledger()
            .read()
            .blocks(0, 1)
            .next()
            .map(|block| block.header.index);
        assert!(
            Some(alarm.index) <= block,
            "{alarm:?}, and the first block is {block:?}"
        );
        assert!(!nodes[0].gateway().alarms().raised() && !nodes[2].gateway().alarms().raised());
        assert!(
            !nodes[1].gateway().signed(0).await,
            "a node with an alarm vouches for nothing"
        );
    })
    .await;
}
