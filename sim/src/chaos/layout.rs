//! Where everything of a run lies: the data directory, the cluster file, the addresses.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use checkers::history::History;
use ed25519_dalek::SigningKey;
use gridseal::config::{Archiving, Cluster, Limits, Log, Sealing, Timing};
use gridseal::identity::{Identity, node_dir};

use super::command;
use super::netns::Namespaces;
use super::proxy::Proxy;
use super::undo::Undo;
use crate::rng::Rng;

/// Ports of nodes that share this machine's address: below those from which the system takes its own.
const PORTS: std::ops::Range<u16> = 10_000..30_000;
/// Ports of nodes with an address of their own.
const OWN_PORTS: (u16, u16) = (3_000, 4_000);

/// The directories and the binary.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Keys, ledgers, logs.
    pub(super) data: PathBuf,
    /// The product.
    pub(super) gridseal: PathBuf,
}

/// Where a node is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) id: u64,
    /// `host:port` for clients.
    pub(super) api: String,
    /// `host:port` at which its peers reach it, perhaps through a proxy.
    pub(super) peer: String,
    /// `host:port` at which it listens for them.
    pub(super) bind_peer: String,
}

impl Layout {
    /// Finds the binary and makes the directory.
    ///
    /// # Errors
    /// There is no such binary, or the directory is not empty or can't be made.
    pub(super) fn make(data: Option<&Path>, gridseal: Option<&Path>, undo: &mut Undo) -> io::Result<Self> {
        let gridseal = match gridseal {
            Some(path) => path.to_owned(),
            None => std::env::current_exe()?.with_file_name("gridseal"),
        };
        if !gridseal.is_file() {
            let what = format!(
                "no gridseal at {}: build it (`cargo build`), or say --gridseal PATH",
                gridseal.display()
            );
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        let data = match data {
            Some(data) => {
                fs::create_dir_all(data)?;
                if fs::read_dir(data)?.next().is_some() {
                    return Err(io::Error::other(format!("{} is not empty", data.display())));
                }
                data.to_owned()
            }
            None => {
                let data = std::env::temp_dir().join(format!("gridseal-chaos-{}", std::process::id()));
                fs::create_dir_all(&data)?;
                undo.remove(data.clone());
                data
            }
        };
        Ok(Layout {
            data: data.canonicalize()?,
            gridseal: gridseal.canonicalize()?,
        })
    }

    /// The data directory stays after all.
    pub(super) fn keep(&self, undo: &mut Undo) -> PathBuf {
        undo.keep();
        self.data.clone()
    }

    /// The cluster file that every node is started with.
    pub(super) fn cluster_file(&self) -> PathBuf {
        self.data.join("cluster.toml")
    }

    /// What a node logs.
    pub(super) fn log(&self, id: u64) -> PathBuf {
        self.data.join(format!("node-{id}.log"))
    }

    /// What a node syncs to.
    pub(super) fn disk(&self, id: u64) -> PathBuf {
        node_dir(&self.data, id).join("disk")
    }

    /// Chooses addresses, and starts proxies.
    ///
    /// # Errors
    /// There are no free ports.
    pub(super) async fn places(
        &self,
        ids: &[u64],
        seed: u64,
        proxy: Option<&Proxy>,
        namespaces: Option<&Namespaces>,
    ) -> io::Result<Vec<Place>> {
        let rng = &mut Rng::fork(seed, "places");
        let mut free = Ports::default();
        let mut places = Vec::new();
        for &id in ids {
            let (host, outside, api, bind) = match namespaces {
                Some(namespaces) => (namespaces.ip(id), namespaces.outside(), OWN_PORTS.0, OWN_PORTS.1),
                None => {
                    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
                    (here, here, free.next()?, free.next()?)
                }
            };
            let bind_peer = format!("{host}:{bind}");
            let peer = match proxy {
                // With both, half of the nodes are reached through the proxy and half directly.
                Some(proxy) if namespaces.is_none() || rng.below(2) == 0 => {
                    proxy.serve(id, outside, bind_peer.clone()).await?
                }
                _ => bind_peer.clone(),
            };
            places.push(Place {
                id,
                api: format!("{host}:{api}"),
                peer,
                bind_peer,
            });
        }
        Ok(places)
    }

    /// Writes the cluster file: as the given one says, or as the seed draws, but with these addresses.
    ///
    /// # Errors
    /// It can't be written, or would not be accepted.
    pub(super) fn write_cluster(
        &self,
        given: Option<&Cluster>,
        places: &[Place],
        seed: u64,
    ) -> io::Result<()> {
        let text = cluster_text(given, places, seed);
        Cluster::parse("the cluster file of this run", &text).map_err(io::Error::other)?;
        fs::write(self.cluster_file(), text)
    }

    /// Makes the cluster's identity with the product's own command.
    ///
    /// # Errors
    /// It fails.
    pub(super) async fn init_keys(&self) -> io::Result<()> {
        let words = [
            self.gridseal.as_os_str(),
            "keys".as_ref(),
            "init".as_ref(),
            "--cluster".as_ref(),
            self.cluster_file().as_os_str(),
            "--data".as_ref(),
            self.data.as_os_str(),
        ]
        .map(std::ffi::OsStr::to_owned);
        command::run(&words).await.map(drop)
    }

    /// The gateways' key, of which one of the clients abuses a copy.
    ///
    /// # Errors
    /// There is none, or it can't be read.
    pub(super) fn gateway_key(&self) -> io::Result<SigningKey> {
        let cluster = Cluster::read(&self.cluster_file()).map_err(io::Error::other)?;
        let first = cluster.nodes.first().map_or(1, |node| node.id);
        let identity = Identity::load(&self.data, first, &cluster).map_err(io::Error::other)?;
        identity
            .gateway_key
            .ok_or_else(|| io::Error::other("the gateways have no key"))
    }

    /// Writes down what the clients saw, for whoever looks for the cause.
    ///
    /// # Errors
    /// It can't be written.
    pub(super) fn write_history(&self, history: &History) -> io::Result<()> {
        let mut text = String::new();
        // Writing to a string can't fail.
        for operation in &history.operations {
            let _ = writeln!(text, "{operation:?}");
        }
        for read in &history.reads {
            let _ = writeln!(text, "{read:?}");
        }
        for (node, shown) in &history.shown {
            let _ = writeln!(text, "n{node} shows {shown:#?}");
        }
        fs::write(self.data.join("history.txt"), text)
    }
}

fn cluster_text(given: Option<&Cluster>, places: &[Place], seed: u64) -> String {
    let rng = &mut Rng::fork(seed, "config");
    let drawn = Log {
        snapshot_after_entries: *rng.pick(&[100, 500, 10_000]),
        keep_entries: *rng.pick(&[20, 200]),
        segment_bytes: 1 << 20,
        ..Log::default()
    };
    let (epoch_ms, timing, log, limits, seal, archive) = match given {
        Some(given) => (
            given.epoch_ms,
            given.timing,
            given.log,
            given.limits,
            given.seal,
            given.archive,
        ),
        None => (
            900_000,
            Timing::default(),
            drawn,
            Limits::default(),
            Sealing::default(),
            Archiving {
                after_epochs: *rng.pick(&[1, 4]),
                ..Archiving::default()
            },
        ),
    };
    let mut text = String::new();
    // The clients don't sign: gateways do it for them. Writing to a string can't fail.
    let _ = writeln!(text, "epoch_ms = {epoch_ms}\ndevelopment = true");
    for Place {
        id,
        api,
        peer,
        bind_peer,
    } in places
    {
        let _ = writeln!(
            text,
            "\n[[node]]\nid = {id}\napi = \"{api}\"\npeer = \"{peer}\"\nbind_peer = \"{bind_peer}\""
        );
    }
    let _ = writeln!(
        text,
        "\n[timing]\nheartbeat_ms = {}\nelection_min_ms = {}\nelection_max_ms = {}\nrequest_ms = {}",
        timing.heartbeat_ms, timing.election_min_ms, timing.election_max_ms, timing.request_ms
    );
    let _ = writeln!(
        text,
        "\n[log]\nsnapshot_after_entries = {}\nkeep_entries = {}\nsegment_bytes = {}",
        log.snapshot_after_entries, log.keep_entries, log.segment_bytes
    );
    let _ = writeln!(
        text,
        "\n[archive]\nafter_epochs = {}\nkeep_seals = {}\nkeep_statements = {}\nmost_seals = {}\nmost_statements = {}",
        archive.after_epochs,
        archive.keep_seals,
        archive.keep_statements,
        archive.most_seals,
        archive.most_statements
    );
    let _ = writeln!(
        text,
        "\n[limits]\nbody_bytes = {}\nbatch = {}\npending = {}",
        limits.body_bytes, limits.batch, limits.pending
    );
    let _ = writeln!(
        text,
        "\n[seal]\nauto = {}\ngrace_epochs = {}",
        seal.auto, seal.grace_epochs
    );
    text
}

/// Ports that nobody uses.
#[derive(Debug, Default)]
struct Ports {
    taken: u16,
}

impl Ports {
    fn next(&mut self) -> io::Result<u16> {
        // Runs at the same time begin elsewhere.
        let many = u32::from(PORTS.end - PORTS.start);
        let first = std::process::id().wrapping_mul(197) % many;
        while u32::from(self.taken) < many {
            let turn = u32::from(self.taken);
            self.taken += 1;
            let port = PORTS.start + u16::try_from((first + turn) % many).unwrap_or(0);
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(port);
            }
        }
        Err(io::Error::other(format!(
            "no free port between {} and {}",
            PORTS.start, PORTS.end
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_is_made_is_accepted_and_keeps_what_was_given() {
        let place = |id: u64| Place {
            id,
            api: format!("127.0.0.1:{}", 3_000 + id),
            peer: format!("127.0.0.1:{}", 4_000 + id),
            bind_peer: format!("127.0.0.1:{}", 5_000 + id),
        };
        let places = [place(1), place(2), place(3)];
        let read = |given| Cluster::parse("made", &cluster_text(given, &places, 7)).expect("it is accepted");
        let drawn = read(None);
        assert_eq!(drawn.nodes.len(), 3);
        assert_eq!(
            (drawn.nodes[1].peer.as_str(), drawn.nodes[1].bind_peer.as_str()),
            ("127.0.0.1:4002", "127.0.0.1:5002")
        );
        let shipped = Cluster::shipped();
        let kept = read(Some(&shipped));
        assert_eq!(
            (kept.timing, kept.log, kept.limits, kept.seal),
            (shipped.timing, shipped.log, shipped.limits, shipped.seal)
        );
        assert!(kept.development, "the clients don't sign");
    }

    #[test]
    fn ports_differ() {
        let mut ports = Ports::default();
        let (a, b) = (ports.next().expect("a port"), ports.next().expect("another"));
        assert!(a != b && PORTS.contains(&a) && PORTS.contains(&b));
    }
}
