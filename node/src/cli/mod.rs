//! The `gridseal` command, one file a subcommand.
//!
//! What always holds: data goes to standard output, everything else to standard error; an error is one clear
//! line; the exit code says what kind it was (`--help` lists them). Subcommands other than `node` speak to the cluster
//! over HTTP like any other client and have no way in of their own.

mod bench;
mod call;
mod children;
mod cluster_file;
mod demo;
mod keys;
mod member;
mod node;
mod progress;
mod status;
mod table;
mod up;
mod verify;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// What `--help` ends with.
const AFTER: &str = "\
Exit codes: 0 done · 1 refused, or a verification that failed · 2 wrong usage, or a file that is missing or
wrong · 3 no node answered, or the outcome is unknown · 4 the product itself went wrong

Try: gridseal up                                                  three nodes and the demonstration
     gridseal status                                              who leads, what is certified
     gridseal call balancing.balance assetId=seller1 epoch=1337   any action of the API";

/// Seals of off-grid power purchase agreements, agreed among parties who don't trust one machine.
///
/// Without a subcommand: `up`, which starts a node for each line of the cluster file on this machine, settles
/// and seals a week of a real grid, and stays up until Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "gridseal", version, after_help = AFTER, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    up: up::Up,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    Node(node::Node),
    Call(call::Call),
    Status(status::Status),
    Verify(verify::Verify),
    Keys(keys::Keys),
    Member(member::Member),
    Bench(bench::Bench),
}

/// Where the cluster and its files are.
#[derive(Debug, Clone, Args)]
struct Place {
    /// The cluster file; by default ./cluster.toml, else the built-in one (three nodes, ports 3000-3002 and
    /// 4000-4002).
    #[arg(long, value_name = "FILE")]
    cluster: Option<PathBuf>,
    /// The directory of keys, logs and ledgers.
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
}

/// Why a command did not do what was asked, which is also its exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Failure {
    /// The cluster said no, or what was to be verified is wrong.
    Refused(String),
    /// The command line or a file is wrong.
    Usage(String),
    /// Nobody answered, or what happened is unknown.
    Unavailable(String),
    /// Something that should never happen did.
    Broken(String),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::Unavailable(_) => 3,
            Self::Broken(_) => 4,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(message)
            | Self::Usage(message)
            | Self::Unavailable(message)
            | Self::Broken(message) => f.write_str(message),
        }
    }
}

impl From<crate::client::Error> for Failure {
    fn from(error: crate::client::Error) -> Self {
        match error {
            crate::client::Error::Refused(message) => Self::Refused(message),
            crate::client::Error::Impossible(message) => Self::Usage(message),
            crate::client::Error::NoAnswer(message) => Self::Unavailable(message),
        }
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<crate::identity::IdentityError> for Failure {
    fn from(error: crate::identity::IdentityError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers())
        .enable_all()
        .build()
        .map_err(|error| Failure::Broken(format!("no runtime: {error}")))
        .and_then(|runtime| {
            let outcome = runtime.block_on(run(cli));
            // A blocking read of standard input must not keep a finished process.
            runtime.shutdown_background();
            outcome
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("gridseal: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

/// Threads that the tasks of a process share: one for every two cores. The log's writer and the balancing actors have
/// theirs, and long computations leave (`raft`'s `runtime::aside`). With a second thread on two cores, nearly
/// every wake-up of a task wakes that thread too: a single settlement cost twice the CPU and took 1.7 times as long.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

async fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command.unwrap_or(Command::Up(cli.up)) {
        Command::Up(command) => command.run().await,
        Command::Node(command) => command.run().await,
        Command::Call(command) => command.run().await,
        Command::Status(command) => command.run().await,
        Command::Verify(command) => command.run(),
        Command::Keys(command) => command.run(),
        Command::Member(command) => command.run().await,
        Command::Bench(command) => command.run().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_subcommand_means_up_with_its_options() {
        let cli = Cli::try_parse_from(["gridseal", "--once", "--data", "d"]).expect("it parses");
        assert!(cli.command.is_none() && cli.up.once);
        assert_eq!(cli.up.place.data, PathBuf::from("d"));
        assert!(
            Cli::try_parse_from(["gridseal", "--once", "status"]).is_err(),
            "options of up belong to up"
        );
    }
}
