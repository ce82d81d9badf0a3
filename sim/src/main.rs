//! `sim`: runs clusters in virtual time, from the command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use sim::bare;
use sim::report::Report;
use sim::run::{self, Around};

/// Runs the very same node code under faults, in virtual time, and checks what it promises.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs replicas alone, without the ledger.
    Raft(RunArgs),
}

#[derive(Args)]
struct RunArgs {
    /// Decides everything that happens.
    #[arg(long)]
    seed: u64,
    /// How many nodes.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: u64,
    /// Virtual seconds until the last fault ends.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    virtual_s: u64,
    /// Nothing goes wrong.
    #[arg(long)]
    calm: bool,
    /// Plants a bug: every disk says that it synced, and did not.
    #[arg(long)]
    lying_disks: bool,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    /// Writes every event to this file.
    #[arg(long)]
    log: Option<PathBuf>,
    /// Which log lines go into the trace, as `target=level,…`.
    #[arg(long)]
    traced: Option<String>,
}

impl RunArgs {
    fn around(&self) -> Around {
        Around {
            traced: self.traced.clone(),
            log: self.log.clone(),
        }
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Raft(args) => {
            let options = bare::Options {
                seed: args.seed,
                nodes: args.nodes,
                faults_ms: args.virtual_s * 1_000,
                lying_disks: args.lying_disks,
                calm: args.calm,
            };
            run::run(&args.around(), || bare::run(&options)).map(|report| print(&report, args.json))
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("sim: {e}");
            ExitCode::from(2)
        }
    }
}

/// Prints a report; says whether every promise held.
fn print(report: &Report, json: bool) -> bool {
    if json {
        println!("{}", serde_json::json!(report));
    } else {
        print!("{}", report.tell());
    }
    report.ok
}
