//! `gridseal up`: the whole cluster on this machine, with the demonstration.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::net::{TcpListener, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::children::{Children, Recipe};
use super::{Failure, Place, cluster_file, demo};
use crate::client::{Ask, Client};
use crate::config::Cluster;
use crate::identity::{self, os_entropy};
use crate::say;
use crate::seams::{Clock as _, SystemClock};

/// How long the nodes may take to be ready.
const READY: Duration = Duration::from_secs(60);
/// How long ports may still be taken by nodes that are ending.
const PORTS: Duration = Duration::from_secs(3);
/// Between two questions whether they are.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a call of the demonstration goes on trying: longer than any election.
const PATIENCE: Duration = Duration::from_secs(60);

/// Start a node for each line of the cluster file on this machine, run the demonstration, and stay up.
///
/// The demonstration is the reference lesson and a week of a real street: 170 meters, 672 quarter-hours, PPAs
/// between neighbours, all of it settled, sealed and certified by the nodes. Stop with Ctrl-C: every node hands over
/// and writes down. Started again, it finds its data and goes on; nothing is booked twice. Each node logs to
/// DATA/node-<id>/log, begun anew at each start (the last run's is kept as log.old).
#[derive(Debug, Args)]
pub(super) struct Up {
    #[command(flatten)]
    pub(super) place: Place,
    /// Start the nodes and nothing else.
    #[arg(long)]
    no_demo: bool,
    /// Leave when the demonstration is done.
    #[arg(long)]
    pub(super) once: bool,
    /// Only the first quarter-hours of the week.
    #[arg(long, value_name = "N", hide = true)]
    demo_epochs: Option<usize>,
}

impl Up {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let (cluster, file) = cluster_file::find(self.place.cluster.as_deref())?;
        if !cluster.development && !self.no_demo {
            let message = "the demonstration makes unsigned calls, which only a development cluster takes: use --no-demo";
            return Err(Failure::Usage(format!("{}: {message}", cluster.source)));
        }
        let data = &self.place.data;
        let _lock = lock(data)?;
        say!("Cluster file: {}. Data: {}.", cluster.source, data.display());
        let genesis = identity::init(data, &cluster, SystemClock.now(), &mut os_entropy)?;
        say!("Cluster {}.", genesis.cluster());
        wait_for_ports(&cluster, PORTS).await?;

        let mut stop = Stop::new()?;
        let recipes = cluster
            .nodes
            .iter()
            .map(|node| recipe(node.id, file.as_deref(), data))
            .collect();
        let mut children = Children::start(recipes)?;
        let outcome = tokio::select! {
            outcome = self.work(&cluster) => outcome,
            failure = children.failed() => Err(failure),
            () = stop.asked() => Ok(()),
        };
        say!("Stopping the nodes.");
        children.stop().await;
        outcome
    }

    /// Everything between the start of the nodes and their end.
    async fn work(&self, cluster: &Cluster) -> Result<(), Failure> {
        let apis: Vec<String> = cluster.nodes.iter().map(|node| node.api.clone()).collect();
        let client = Client::new(apis.clone(), PATIENCE);
        ready(&client).await?;
        say!("{} nodes are ready: http://{}", apis.len(), apis.join(" http://"));
        if !self.no_demo {
            demo::run(&client, &self.place.data, self.demo_epochs).await?;
        }
        if self.once {
            return Ok(());
        }
        let first = apis.first().map_or("", String::as_str);
        // The other commands need to be told of a cluster file that they wouldn't find by themselves.
        let of = self
            .place
            .cluster
            .as_ref()
            .map_or(String::new(), |file| format!(" --cluster {}", file.display()));
        say!(
            "\nThe API is on every node: POST http://{first}/api/<service>/<action>, described in /api/openapi.json.\n\
             Try, in another terminal:\n  \
             gridseal status{of}\n  \
             gridseal call balancing.journal assetId=seller1 epoch=1337{of}\n  \
             gridseal verify {} --genesis {}\n\
             Ctrl-C stops the nodes.",
            self.place.data.join("proof.json").display(),
            identity::genesis_path(&self.place.data).display(),
        );
        std::future::pending().await
    }
}

/// SIGINT and SIGTERM.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::Broken(format!("no signal handler: {error}")));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Keeps a second `up` from the same data directory while the file is held.
fn lock(data: &Path) -> Result<File, Failure> {
    let path = data.join("up.lock");
    let open = || {
        std::fs::create_dir_all(data)?;
        File::create(&path)
    };
    let file = open().map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::Usage(format!(
            "{}: another gridseal is up in this directory",
            data.display()
        ))),
        Err(TryLockError::Error(error)) => Err(Failure::Usage(format!("{}: {error}", path.display()))),
    }
}

/// Waits until the ports are free: the nodes of an `up` that was killed take a moment to end. Says which one
/// isn't, before a node would stumble over it.
async fn wait_for_ports(cluster: &Cluster, patience: Duration) -> Result<(), Failure> {
    let started = Instant::now();
    while let Err(failure) = free_ports(cluster) {
        if started.elapsed() > patience {
            return Err(failure);
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

fn free_ports(cluster: &Cluster) -> Result<(), Failure> {
    for node in &cluster.nodes {
        for (what, field, address) in [
            ("API", "api", &node.bind_api),
            ("peer port", "peer", &node.bind_peer),
        ] {
            let taken = |error: std::io::Error| {
                Failure::Usage(format!(
                    "{address}, the {what} of node {}: {error}; is another cluster up? Else change node {}'s {field} in \
                     a cluster file of your own (--cluster FILE)",
                    node.id, node.id
                ))
            };
            let addresses: Vec<_> = address.to_socket_addrs().map_err(taken)?.collect();
            TcpListener::bind(&addresses[..]).map_err(taken)?;
        }
    }
    Ok(())
}

/// How to start a node of a cluster file.
pub(super) fn recipe(id: u64, cluster: Option<&Path>, data: &Path) -> Recipe {
    let mut arguments: Vec<OsString> = vec!["node".into(), "--id".into(), id.to_string().into()];
    if let Some(cluster) = cluster {
        arguments.extend(["--cluster".into(), cluster.into()]);
    }
    arguments.extend(["--data".into(), data.into(), "--until-stdin-ends".into()]);
    Recipe {
        id,
        arguments,
        log: identity::node_dir(data, id).join("log"),
    }
}

/// Waits until every node says that it is ready.
pub(super) async fn ready(client: &Client) -> Result<(), Failure> {
    let started = Instant::now();
    for node in 0..client.len() {
        loop {
            let said = match client.ask(node, &Ask::get("/readyz")).await? {
                Ok(answer) if answer.is_ok() => break,
                Ok(answer) => format!("{} answers {} {}", answer.node, answer.status, answer.body),
                Err(silence) => silence,
            };
            if started.elapsed() > READY {
                let message = format!(
                    "not ready after {} s: {said}; see the nodes' logs",
                    READY.as_secs()
                );
                return Err(Failure::Unavailable(message));
            }
            sleep(PAUSE).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_node() {
        let held = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = held.local_addr().expect("bound");
        let text = format!(
            "[[node]]\nid = 7\napi = \"127.0.0.1:1\"\nbind_api = \"127.0.0.1:0\"\npeer = \"{address}\"\n"
        );
        // Port 0 is refused in a file, so the free one is put in afterwards.
        let mut cluster = Cluster::parse("c", &text.replace("127.0.0.1:0", "127.0.0.1:2")).expect("valid");
        cluster.nodes[0].bind_api = "127.0.0.1:0".to_owned();
        let failure = free_ports(&cluster).expect_err("it is taken").to_string();
        assert!(
            failure.contains("peer port of node 7") && failure.contains(&address.to_string()),
            "{failure}"
        );
    }

    #[test]
    fn one_directory_has_one_cluster_up() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let held = lock(dir.path()).expect("the first takes it");
        assert!(matches!(lock(dir.path()), Err(Failure::Usage(_))));
        drop(held);
        lock(dir.path()).expect("free again");
    }

    #[tokio::test]
    async fn ports_that_are_being_freed_are_waited_for() {
        let held = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = held.local_addr().expect("bound");
        let text = format!("[[node]]\nid = 1\napi = \"{address}\"\npeer = \"127.0.0.1:2\"\n");
        let mut cluster = Cluster::parse("c", &text).expect("valid");
        cluster.nodes[0].bind_peer = "127.0.0.1:0".to_owned();
        assert!(wait_for_ports(&cluster, Duration::ZERO).await.is_err());
        let waiting = tokio::spawn(async move { wait_for_ports(&cluster, Duration::from_secs(60)).await });
        tokio::task::yield_now().await;
        drop(held);
        waiting.await.expect("no panic").expect("free again");
    }
}
