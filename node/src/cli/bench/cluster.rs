//! A fresh cluster of three nodes in a directory of its own, to be loaded, killed and thrown away.
//!
//! The nodes are processes as `gridseal up` starts them, with the shipped cluster file's options; only ports and
//! directory differ. What always holds: none of them outlives this process, and the directory goes with the value.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use raft::DiskWork;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::Failure;
use super::super::children::{Recipe, Running, keep_old, spawn};
use super::super::up::{ready, recipe};
use super::process;
use crate::client::{Ask, Client};
use crate::config::Cluster as File;
use crate::identity::{self, os_entropy};
use crate::seams::{Clock as _, SystemClock};

/// Nodes of the cluster.
pub(super) const NODES: usize = 3;
/// How long nodes may take to agree, after a restart too.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A running cluster.
pub(super) struct Cluster {
    place: Place,
    /// A client of all nodes.
    pub(super) client: Arc<Client>,
    recipes: Vec<Recipe>,
    running: Vec<Option<Running>>,
}

/// A directory that goes with the value.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("gridseal: {}: {error}", self.0.display());
        }
    }
}

impl Cluster {
    /// Starts one below `dir` and waits until every node is ready.
    pub(super) async fn start(dir: &Path) -> Result<Self, Failure> {
        let place = Place(dir.join(format!("cluster-{}", super::super::call::random_key()?)));
        let broken = |error: std::io::Error| Failure::Broken(format!("{}: {error}", place.0.display()));
        std::fs::create_dir_all(&place.0).map_err(broken)?;
        let file = place.0.join("cluster.toml");
        std::fs::write(&file, cluster_file()?).map_err(broken)?;
        let cluster = File::read(&file)?;
        let data = place.0.join("data");
        identity::init(&data, &cluster, SystemClock.now(), &mut os_entropy)?;
        let apis: Vec<String> = cluster.nodes.iter().map(|node| node.api.clone()).collect();
        let recipes: Vec<Recipe> = cluster
            .nodes
            .iter()
            .map(|node| recipe(node.id, Some(&file), &data))
            .collect();
        for recipe in &recipes {
            keep_old(&recipe.log).map_err(broken)?;
        }
        let mut cluster = Self {
            place,
            client: Arc::new(Client::new(apis, PATIENCE)),
            running: recipes.iter().map(|_| None).collect(),
            recipes,
        };
        for node in 0..cluster.recipes.len() {
            cluster.spawn(node)?;
        }
        ready(&cluster.client).await?;
        Ok(cluster)
    }

    /// Starts a node's process again.
    pub(super) fn spawn(&mut self, node: usize) -> Result<(), Failure> {
        let recipe = &self.recipes[node];
        let running = spawn(recipe)
            .map_err(|error| Failure::Broken(format!("node {} can't be started: {error}", recipe.id)))?;
        self.running[node] = Some(running);
        Ok(())
    }

    /// Kills these nodes with -9, all before waiting for any.
    pub(super) async fn kill(&mut self, nodes: impl IntoIterator<Item = usize>) -> Result<(), Failure> {
        let mut dying = Vec::new();
        for node in nodes {
            if let Some(mut running) = self.running[node].take() {
                running
                    .child
                    .start_kill()
                    .map_err(|error| Failure::Broken(format!("a node can't be killed: {error}")))?;
                dying.push(running);
            }
        }
        // Killed is killed; what their exit codes are is of no interest.
        join_all(dying.iter_mut().map(|running| running.child.wait())).await;
        Ok(())
    }

    /// Kills all with -9, starts them again, and waits until they are ready.
    ///
    /// # Errors
    /// If they don't come back.
    pub(super) async fn crash(&mut self) -> Result<Duration, Failure> {
        let nodes = 0..self.recipes.len();
        self.kill(nodes.clone()).await?;
        let begun = Instant::now();
        for node in nodes {
            self.spawn(node)?;
        }
        ready(&self.client).await?;
        Ok(begun.elapsed())
    }

    /// Waits until every node says that it is ready.
    pub(super) async fn ready(&self) -> Result<(), Failure> {
        ready(&self.client).await
    }

    /// The process of a node.
    pub(super) fn pid(&self, node: usize) -> Result<u32, Failure> {
        self.running[node]
            .as_ref()
            .and_then(|running| running.child.id())
            .ok_or_else(|| Failure::Broken(format!("node {} has ended; see its log", node + 1)))
    }

    /// Seconds that each node's process has been on a CPU.
    pub(super) fn cpu_s(&self) -> Result<Vec<f64>, Failure> {
        (0..self.running.len())
            .map(|node| process::cpu_s(self.pid(node)?).map_err(unreadable))
            .collect()
    }

    /// The most memory that the largest node ever had.
    pub(super) fn peak_rss(&self) -> Result<u64, Failure> {
        (0..self.running.len())
            .map(|node| process::peak_rss(self.pid(node)?).map_err(unreadable))
            .try_fold(0, |most, one| Ok(most.max(one?)))
    }

    /// The memory that the largest node has now.
    pub(super) fn rss(&self) -> Result<u64, Failure> {
        (0..self.running.len())
            .map(|node| process::rss(self.pid(node)?).map_err(unreadable))
            .try_fold(0, |most, one| Ok(most.max(one?)))
    }

    /// Bytes that the largest node's directory takes on the disk.
    pub(super) fn stored(&self) -> Result<u64, Failure> {
        let data = self.place.0.join("data");
        let nodes = self
            .recipes
            .iter()
            .map(|recipe| identity::node_dir(&data, recipe.id));
        nodes
            .map(|node| size(&node).map_err(|error| Failure::Broken(format!("{}: {error}", node.display()))))
            .try_fold(0, |most, one| Ok(most.max(one?)))
    }

    /// What all nodes have asked of the disk since they were started.
    pub(super) async fn disk_work(&self) -> Result<DiskWork, Failure> {
        let mut all = DiskWork::default();
        for node in 0..self.client.len() {
            let metrics = self.client.send(node, &Ask::get("/metrics")).await?;
            let metrics = metrics.map_err(Failure::Unavailable)?.body;
            let text = String::from_utf8_lossy(&metrics);
            let metric = |name: &str| {
                process::number_after(&text, name)
                    .ok_or_else(|| Failure::Broken(format!("/metrics has no {name}")))
            };
            all.syncs += metric("gridseal_disk_syncs ")?;
            all.bytes += metric("gridseal_disk_written_bytes ")?;
        }
        Ok(all)
    }

    /// Where a node stands, by itself.
    pub(super) async fn status(&self, node: usize) -> Result<Value, Failure> {
        let ask = Ask::new("cluster.status", &json!({})).local();
        let answer = self.client.ask(node, &ask).await?.map_err(Failure::Unavailable)?;
        Ok(answer.ok("cluster.status")?)
    }

    /// The position of the leader, once there is one.
    pub(super) async fn leader(&self) -> Result<usize, Failure> {
        let begun = Instant::now();
        loop {
            match self.client.leader().await {
                Some(leader) => return Ok(leader),
                None if begun.elapsed() > PATIENCE => {
                    return Err(Failure::Unavailable("no node leads".to_owned()));
                }
                None => sleep(PAUSE).await,
            }
        }
    }

    /// Waits until all nodes have applied the same entries, and returns the digest that they agree on.
    ///
    /// # Errors
    /// `Broken` if their digests differ, or if a node raised an alarm.
    pub(super) async fn agreed(&self) -> Result<String, Failure> {
        let begun = Instant::now();
        loop {
            let mut all = Vec::new();
            for node in 0..self.client.len() {
                all.push(self.status(node).await?);
            }
            if let Some(alarmed) = all.iter().find(|status| {
                status["alarms"]
                    .as_array()
                    .is_none_or(|alarms| !alarms.is_empty())
            }) {
                return Err(Failure::Broken(format!("an alarm: {alarmed}")));
            }
            let first = &all[0];
            if all.iter().all(|status| status["applied"] == first["applied"]) {
                if all.iter().any(|status| status["state"] != first["state"]) {
                    return Err(Failure::Broken(format!("the nodes' states differ: {all:?}")));
                }
                return Ok(first["state"].as_str().unwrap_or_default().to_owned());
            }
            if begun.elapsed() > PATIENCE {
                return Err(Failure::Broken(format!(
                    "the nodes haven't applied the same entries after {} s: {all:?}",
                    PATIENCE.as_secs()
                )));
            }
            sleep(PAUSE).await;
        }
    }

    /// Ends it at once: it is of no use any more.
    pub(super) async fn discard(mut self) -> Result<(), Failure> {
        self.kill(0..self.running.len()).await?;
        drop(self.place);
        Ok(())
    }
}

fn unreadable(error: std::io::Error) -> Failure {
    Failure::Broken(format!("a node's process can't be looked at: {error}"))
}

/// Bytes that a directory and all below it take on the disk.
fn size(path: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut all = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => all += size(&entry.path())?,
            // Blocks are of 512 bytes, whatever the file system's are.
            Ok(metadata) => all += metadata.blocks() * 512,
            // The node has removed it meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// A cluster file of three nodes on ports that are free now.
fn cluster_file() -> Result<String, Failure> {
    // Below the range of which the system takes outgoing connections' ports: a node that is killed finds its own
    // free again. All are held until all are chosen, so that no two are the same.
    let begin = 10_000 + (std::process::id().wrapping_mul(211) % 20_000) as u16;
    let held: Vec<(u16, TcpListener)> = (begin..30_000)
        .chain(10_000..begin)
        .filter_map(|port| Some((port, TcpListener::bind(("127.0.0.1", port)).ok()?)))
        .take(2 * NODES)
        .collect();
    if held.len() < 2 * NODES {
        return Err(Failure::Broken(
            "no free ports between 10000 and 30000".to_owned(),
        ));
    }
    let mut text = "epoch_ms = 900000\ndevelopment = true\n".to_owned();
    for (id, pair) in (1..).zip(held.chunks(2)) {
        let (api, peer) = (pair[0].0, pair[1].0);
        // Writing to a string doesn't fail.
        let _ = write!(
            text,
            "[[node]]\nid = {id}\napi = \"127.0.0.1:{api}\"\npeer = \"127.0.0.1:{peer}\"\n"
        );
    }
    Ok(text)
}
