//! `sim`: runs clusters in virtual time, from the command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use gridseal::say;
use sim::case::Case;
use sim::faults::Plan;
use sim::report::Report;
use sim::run::{self, Around};
use sim::{bare, bench, chaos, commands, explore, mutants, scenario, shrink};

/// A run takes and gives back millions of small pieces of memory; nothing of a trace depends on where they lie.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps memory that is free for what is needed next: by itself mimalloc gives it back to the system after 10 ms, and a
/// seventh of a run's time went into getting it again. A process runs one seed.
#[expect(
    unsafe_code,
    reason = "there is no other way to set an option, and the environment is read before `main`"
)]
fn keep_memory() {
    /// `mi_option_purge_delay` of mimalloc.h, in versions 2 and 3; the crate doesn't name it.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: stores an integer in a table of options, whose bounds the function checks.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) }
}

/// Runs the very same node code under faults, in virtual time, and checks what it promises.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the product: nodes and clients, faults, and all checkers at the end.
    Run(RunArgs),
    /// Runs replicas alone, without the ledger.
    Raft(RunArgs),
    /// Runs many seeds, one child process each, and says which fail and what they reached together.
    Explore(explore::ExploreArgs),
    /// Makes a failing seed or case as small as it gets, writes it to a file, and tells its story.
    Shrink(shrink::ShrinkArgs),
    /// Runs a case again and tells its story.
    Replay(commands::ReplayArgs),
    /// Runs scenario files and says which expectations are met.
    Scenario(commands::ScenarioArgs),
    /// Measures how fast the simulation is.
    Bench(bench::BenchArgs),
    Chaos(chaos::Options),
    /// Plants known bugs, one after the other, and hunts for each: the proof that the checkers notice.
    Mutants(MutantArgs),
}

#[derive(Args)]
struct MutantArgs {
    /// Only these bugs.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only one bug of each family.
    #[arg(long)]
    families: bool,
    /// Seeds to try for each.
    #[arg(long, default_value_t = 200)]
    max_seeds: u64,
    /// Runs at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// A simulator that was built with `--features planted`; by default one is built.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Prints a JSON list.
    #[arg(long)]
    json: bool,
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
    /// One more node joins while clients work, is given a vote, and has its key replaced.
    #[arg(long)]
    joiner: bool,
    /// Plants a bug of the list, and goes on after the first broken promise. Only in the build that
    /// `sim mutants` makes.
    #[arg(long)]
    plant: Option<String>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    /// Writes every event to this file.
    #[arg(long)]
    log: Option<PathBuf>,
    /// Writes a report with a picture of the run to this file.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Which log lines go into the trace, as `target=level,…`.
    #[arg(long)]
    traced: Option<String>,
}

impl RunArgs {
    fn around(&self) -> Around {
        Around {
            seed: self.seed,
            json: self.json,
            traced: self.traced.clone(),
            log: self.log.clone(),
        }
    }
}

fn main() -> ExitCode {
    keep_memory();
    let result = match Cli::parse().command {
        Command::Run(args) => {
            let mut options = scenario::Options::of_seed(args.seed, args.nodes, args.virtual_s * 1_000);
            options.lying_disks = args.lying_disks;
            if args.calm {
                options.rough = false;
                options.corrupt = None;
                options.plan = Some(Plan {
                    quiet_from_ms: options.faults_ms,
                    ..Plan::default()
                });
            }
            if args.joiner {
                let drawn = Plan::draw_with_operations(args.seed, args.nodes, options.faults_ms);
                let mut plan = options.plan.take().unwrap_or(drawn);
                plan.add_joiner(args.seed, args.nodes);
                options.plan = Some(plan);
            }
            if let Some(name) = &args.plant {
                match mutants::plant(name) {
                    Ok(mutant) => options.awaited = mutant.expected,
                    Err(why) => {
                        eprintln!("sim: {why}");
                        return ExitCode::from(2);
                    }
                }
            }
            run::run(&args.around(), || scenario::run(&options)).and_then(|report| {
                if let Some(path) = &args.html {
                    commands::write_html(path, &Case::of_seed(&options), &report)?;
                }
                Ok(print(&report, args.json))
            })
        }
        Command::Explore(args) => commands::explore(&args),
        Command::Shrink(args) => commands::shrink(&args),
        Command::Replay(args) => commands::replay(&args),
        Command::Scenario(args) => commands::scenario(&args),
        Command::Bench(args) => commands::bench(&args),
        Command::Mutants(args) => {
            let options = mutants::Options {
                only: args.only,
                families: args.families,
                max_seeds: args.max_seeds,
                jobs: args.jobs,
                binary: args.binary,
            };
            mutants::run(&options, |verdict| {
                if !args.json {
                    say!("{verdict}");
                }
            })
            .map(|outcome| {
                match args.json {
                    true => say!("{}", serde_json::json!(outcome.verdicts)),
                    false => say!("{outcome}"),
                }
                outcome.ok()
            })
        }
        Command::Chaos(options) => chaos::main(&options),
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
        say!("{}", serde_json::json!(report));
    } else {
        say!("{}", report.tell());
    }
    report.ok
}
