//! A case: one run as a file that a person can write and read, with all that decides it and what it is expected to
//! show.
//!
//! Scenarios that ship, seeds that once failed and what is left of one after shrinking are all such files: TOML, one
//! `[[fault]]` a step, expectations as sentences ([`expect`]). What a file says decides the run to the byte.

pub mod expect;
mod read;
mod write;

use std::collections::BTreeSet;
use std::io;

pub use self::expect::Expect;
pub use self::read::{CaseError, load, parse};
use gridseal::falsify::Falsify;

use crate::faults::{Fault, Plan};
use crate::report::Report;
use crate::scenario;
use crate::workload::Mix;

/// One run, and what is expected of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What it shows, in a few words.
    pub title: String,
    /// What one should know about it.
    pub about: String,
    /// Decides everything that the rest leaves open.
    pub seed: u64,
    /// How many nodes.
    pub nodes: u64,
    /// How many clients work at once.
    pub clients: u64,
    /// Virtual milliseconds until the clients end their work and all faults are over.
    pub duration_ms: u64,
    /// Whether links and clocks are as the seed draws them; else perfect.
    pub rough: bool,
    /// Whether the seed draws faults as well.
    pub drawn: bool,
    /// Every disk says that it synced, and did not.
    pub lying_disks: bool,
    /// A node whose ledger computes wrongly, and from which log index on.
    pub corrupt: Option<(u64, Falsify)>,
    /// How often clients do what.
    pub mix: Mix,
    /// Operations that are left out, by their key.
    pub mute: BTreeSet<String>,
    /// What goes wrong, and when in virtual milliseconds; in order of time.
    pub steps: Vec<(u64, Fault)>,
    /// What it is expected to show, beside that every promise holds.
    pub expect: Vec<Expect>,
}

impl Default for Case {
    fn default() -> Self {
        let options = scenario::Options::new(0);
        Case {
            title: String::new(),
            about: String::new(),
            seed: options.seed,
            nodes: options.nodes,
            clients: options.clients,
            duration_ms: options.faults_ms,
            rough: false,
            drawn: false,
            lying_disks: false,
            corrupt: None,
            mix: Mix::default(),
            mute: BTreeSet::new(),
            steps: Vec::new(),
            expect: Vec::new(),
        }
    }
}

impl Case {
    /// All that this seed draws, written out, so that parts can be taken away.
    pub fn of_seed(options: &scenario::Options) -> Self {
        let drawn = || Plan::draw_with_operations(options.seed, options.nodes, options.faults_ms);
        let plan = options.plan.clone().unwrap_or_else(drawn);
        Case {
            title: format!("seed {}", options.seed),
            seed: options.seed,
            nodes: options.nodes,
            clients: options.clients,
            duration_ms: options.faults_ms,
            rough: options.rough,
            lying_disks: options.lying_disks,
            corrupt: options.corrupt,
            mix: options.mix,
            mute: options.mute.clone(),
            steps: plan.steps,
            ..Case::default()
        }
    }

    /// Nodes that are no founders.
    pub fn joiners(&self) -> BTreeSet<u64> {
        crate::faults::joiners(&self.steps)
    }

    /// How it is run.
    pub fn options(&self) -> scenario::Options {
        let mut plan = Plan {
            steps: self.steps.clone(),
            quiet_from_ms: self.duration_ms,
        };
        if self.drawn {
            let drawn = Plan::draw_with_operations(self.seed, self.nodes, self.duration_ms);
            plan.steps.extend(drawn.steps);
        }
        plan.finish(self.nodes);
        scenario::Options {
            nodes: self.nodes,
            faults_ms: self.duration_ms,
            clients: self.clients,
            plan: Some(plan),
            lying_disks: self.lying_disks,
            rough: self.rough,
            mix: self.mix,
            mute: self.mute.clone(),
            corrupt: self.corrupt,
            ..scenario::Options::new(self.seed)
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// As [`scenario::run`].
    pub fn run(&self) -> io::Result<Report> {
        scenario::run(&self.options())
    }

    /// What became of each expectation: itself, and why it is not met, if it isn't.
    pub fn judge(&self, report: &Report) -> Vec<(String, Result<(), String>)> {
        let breaks: Vec<&str> = self.expect.iter().filter_map(Expect::broken).collect();
        let mut verdicts = Vec::new();
        let unexpected: Vec<String> = report
            .violations
            .iter()
            .filter(|violation| !breaks.contains(&violation.checker))
            .map(|violation| format!("{}: {}", violation.checker, violation.what))
            .collect();
        let promises = if breaks.is_empty() {
            "every promise holds"
        } else {
            "every other promise holds"
        };
        verdicts.push((
            promises.to_owned(),
            unexpected.first().map_or(Ok(()), |why| Err(why.clone())),
        ));
        verdicts.extend(
            self.expect
                .iter()
                .map(|expect| (expect.to_string(), expect.judge(self, report))),
        );
        verdicts
    }
}

#[cfg(test)]
mod tests {
    use gridseal::falsify::Wrong;

    use super::*;

    #[test]
    fn a_seed_written_out_reads_back_as_itself() {
        for seed in 0..50 {
            let mut options = scenario::Options::new(seed);
            options.mute = [format!("c1-{seed}")].into();
            let what = match seed % 2 {
                0 => Wrong::Books,
                _ => Wrong::Seals,
            };
            let wrong = (2, Falsify { from: 77, what });
            options.corrupt = seed.is_multiple_of(3).then_some(wrong);
            let mut case = Case::of_seed(&options);
            case.about = "Two lines,\nand a \"quote\".".into();
            case.expect = vec![Expect::Breaks("durability".into()), Expect::Alarm(2)];
            let text = case.to_toml();
            let read = parse("case.toml", &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(read, case, "{text}");
            let mut drawn = Plan::draw_with_operations(seed, 5, 30_000).steps;
            let planned = read.options().plan.unwrap_or_default().steps;
            // Only what makes everything well at the end twice is said once.
            drawn.dedup();
            let early = |steps: &[(u64, Fault)]| {
                steps
                    .iter()
                    .filter(|(at, _)| *at < 30_000)
                    .cloned()
                    .collect::<Vec<_>>()
            };
            assert_eq!(
                early(&planned),
                early(&Plan::draw_with_operations(seed, 5, 30_000).steps),
                "the same plan is run"
            );
            assert!(drawn.iter().all(|step| planned.contains(step)));
        }
    }
}
