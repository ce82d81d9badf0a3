//! `gridseal node`: one node in this process.

use std::sync::Arc;

use clap::Args;
use raft::{FileDisk, TcpNetwork};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::{Failure, Place, cluster_file};
use crate::falsify::{Falsify, Wrong};
use crate::identity::{Identity, node_dir};
use crate::seams::{Seams, SystemClock, SystemEntropy};
use crate::start::{NodeConfig, start};

/// For demonstrations: falsifies this node's ledger from that log index on, so that it must fall out.
const CORRUPT: &str = "GRIDSEAL_TEST_CORRUPT";

/// Run one node until SIGINT or SIGTERM, on which it hands over leadership and writes down.
///
/// It logs to standard error; the environment variable GRIDSEAL_LOG says what, as in info,raft=debug.
#[derive(Debug, Args)]
pub(super) struct Node {
    #[command(flatten)]
    place: Place,
    /// Which node of the cluster file this is.
    #[arg(long, value_name = "ID")]
    id: u64,
    /// Log as JSON, an object a line.
    #[arg(long)]
    log_json: bool,
    /// Also stop when standard input ends: a parent's death then is this node's graceful end.
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

impl Node {
    pub(super) async fn run(self) -> Result<(), Failure> {
        self.log()?;
        // The balancing actors share the node's thread.
        tokio::task::LocalSet::new().run_until(self.serve()).await
    }

    fn log(&self) -> Result<(), Failure> {
        let filter = match std::env::var("GRIDSEAL_LOG") {
            Ok(directives) => EnvFilter::try_new(&directives)
                .map_err(|error| Failure::Usage(format!("GRIDSEAL_LOG={directives:?}: {error}")))?,
            // openraft warns of each heartbeat that a missing peer didn't get: ten lines a second.
            Err(_) => EnvFilter::new("info,openraft=error"),
        };
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(false);
        let installed = if self.log_json {
            lines.json().try_init()
        } else {
            lines.try_init()
        };
        installed.map_err(|error| Failure::Broken(format!("no log: {error}")))
    }

    async fn serve(self) -> Result<(), Failure> {
        let (cluster, _) = cluster_file::find(self.place.cluster.as_deref())?;
        let identity = Identity::load(&self.place.data, self.id, &cluster)?;
        let falsify = match std::env::var(CORRUPT) {
            Ok(index) => Some(Falsify {
                from: index
                    .parse()
                    .map_err(|_| Failure::Usage(format!("{CORRUPT}={index:?}: expected a log index")))?,
                what: Wrong::Books,
            }),
            Err(_) => None,
        };
        let directory = node_dir(&self.place.data, self.id).join("disk");
        raise_descriptors();
        let config = NodeConfig {
            id: self.id,
            cluster,
            genesis: identity.genesis,
            node_key: identity.node_key,
            gateway_key: identity.gateway_key,
            falsify,
        };
        let seams = Seams {
            disk: Arc::new(FileDisk::new(directory)),
            network: Arc::new(TcpNetwork),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
        };

        // Before the start, so that a signal during it is not lost.
        let listen =
            |kind| signal(kind).map_err(|error| Failure::Broken(format!("no signal handler: {error}")));
        let (mut interrupt, mut terminate) =
            (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let node = start(config, seams)
            .await
            .map_err(|error| Failure::Broken(error.to_string()))?;
        let stopped = tokio::select! {
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
            () = stdin_ended(), if self.until_stdin_ends => None,
            why = node.stopped() => Some(why),
        };
        let closed = node.shutdown().await;
        match (stopped, closed) {
            (Some(why), _) => Err(Failure::Broken(why)),
            (None, Err(fault)) => Err(Failure::Broken(fault.to_string())),
            (None, Ok(())) => Ok(()),
        }
    }
}

/// Takes as many file descriptors as the system gives: each client's connection takes one, and without any left not even a
/// segment of the log can be opened.
fn raise_descriptors() {
    const ENOUGH: u64 = 8_192;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "can't raise the number of file descriptors");
    }
    let limit = getrlimit(Resource::Nofile).current;
    if limit.is_some_and(|limit| limit < ENOUGH) {
        tracing::warn!(
            ?limit,
            "few file descriptors: many clients at once may leave none for files"
        );
    }
}

/// Reads standard input to its end, whatever it says.
async fn stdin_ended() {
    let mut input = tokio::io::stdin();
    let mut ignored = [0; 64];
    while input.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
}
