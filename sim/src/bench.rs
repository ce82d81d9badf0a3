//! How fast the simulation is: virtual seconds a real second, and what a virtual second costs.

use std::fmt;
use std::io;

use clap::Args;
use serde::Serialize;

use crate::case::Case;
use crate::run::{self, Around};

/// What is asked of five nodes under client load.
pub const TARGET: f64 = 20.0;

/// Measures the speed of the simulation.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Virtual seconds of load.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub virtual_s: u64,
    /// How many nodes.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub nodes: u64,
    /// How many clients work at once; a run for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4], value_parser = clap::value_parser!(u64).range(1..=64))]
    pub clients: Vec<u64>,
    /// The seed.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Also draws faults.
    #[arg(long)]
    pub faults: bool,
    /// Prints a JSON list, an object a run.
    #[arg(long)]
    pub json: bool,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Speed {
    /// How many clients worked at once.
    pub clients: u64,
    /// Virtual seconds a real second.
    pub speed: f64,
    /// Virtual seconds that passed, final questions included.
    pub virtual_s: f64,
    /// Real seconds.
    pub wall_s: f64,
    /// Seconds a processor worked for it, where the system tells; others may use the machine meanwhile.
    pub cpu_s: Option<f64>,
    /// Virtual seconds a processor second.
    pub cpu_speed: Option<f64>,
    /// Events in the trace, a virtual second.
    pub events_per_s: f64,
    /// Segments over the network, a virtual second.
    pub segments_per_s: f64,
    /// Syncs of all disks, a virtual second.
    pub syncs_per_s: f64,
    /// Operations of clients, a virtual second.
    pub operations_per_s: f64,
    /// Whether every promise held.
    pub ok: bool,
}

/// Runs the load of so many clients, and measures it.
///
/// # Errors
/// As [`run::run`].
pub fn run(args: &BenchArgs, clients: u64) -> io::Result<Speed> {
    let case = Case {
        seed: args.seed,
        nodes: args.nodes,
        clients,
        duration_ms: args.virtual_s * 1_000,
        drawn: args.faults,
        rough: args.faults,
        ..Case::default()
    };
    let before_s = cpu_s();
    let report = run::run(&Around::of(args.seed, args.json), || case.run())?;
    let cpu_s = cpu_s().zip(before_s).map(|(after, before)| after - before);
    #[expect(
        clippy::cast_precision_loss,
        reason = "shown to people; nothing is computed from it"
    )]
    let each = |n: u64| n as f64 / report.virtual_s.max(0.001);
    let counted = |what: &str| each(report.counts.get(what).copied().unwrap_or(0));
    Ok(Speed {
        clients,
        speed: report.virtual_s / report.wall_s.max(0.001),
        virtual_s: report.virtual_s,
        wall_s: report.wall_s,
        cpu_s,
        cpu_speed: cpu_s.map(|cpu_s| report.virtual_s / cpu_s.max(0.001)),
        events_per_s: each(report.events),
        segments_per_s: counted("segments"),
        syncs_per_s: counted("syncs"),
        operations_per_s: counted("operations"),
        ok: report.ok,
    })
}

/// Seconds that this process's main thread has worked, as Linux counts them.
fn cpu_s() -> Option<f64> {
    let schedstat = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    let ns: f64 = schedstat.split_whitespace().next()?.parse().ok()?;
    Some(ns / 1e9)
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} client{}: {:.1} virtual seconds a second ({:.1} in {:.1} s)",
            self.clients,
            if self.clients == 1 { "" } else { "s" },
            self.speed,
            self.virtual_s,
            self.wall_s
        )?;
        if let (Some(cpu_s), Some(cpu_speed)) = (self.cpu_s, self.cpu_speed) {
            writeln!(
                f,
                "{cpu_speed:.1} virtual seconds a processor second ({cpu_s:.1} s of one core)"
            )?;
        }
        writeln!(
            f,
            "a virtual second has {:.0} operations of clients, {:.0} segments, {:.0} syncs, {:.0} events",
            self.operations_per_s, self.segments_per_s, self.syncs_per_s, self.events_per_s
        )?;
        let speed = self.cpu_speed.unwrap_or(self.speed);
        let verdict = if speed >= TARGET { "reached" } else { "missed" };
        let held = if self.ok {
            "every promise held"
        } else {
            "A PROMISE WAS BROKEN"
        };
        writeln!(f, "the target of {TARGET:.0} is {verdict}; {held}")
    }
}
