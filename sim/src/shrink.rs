//! A failing case, made as small as it gets: every step, node, client and operation that the failure does without is
//! taken away.
//!
//! Delta debugging: chunks are left out, large ones first, as long as the same checker still finds something. Whether
//! it does is asked of a child process a candidate, so that each is run as a replay will run it; and the time is
//! bounded, since a smaller case is worth some minutes, the smallest is not worth hours.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::case::{Case, Expect};
use crate::child::{self, Outcome};
use crate::faults::Fault;
use crate::scenario;
use crate::workload::Mix;

/// Makes a failing seed or case as small as it gets.
#[derive(Args, Clone, Debug)]
pub struct ShrinkArgs {
    /// A case that fails.
    #[arg(required_unless_present = "seed")]
    pub file: Option<PathBuf>,
    /// A seed that fails.
    #[arg(long, conflicts_with = "file")]
    pub seed: Option<u64>,
    /// How many nodes, with a seed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub nodes: u64,
    /// Virtual seconds until the last fault ends, with a seed.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub virtual_s: u64,
    /// With a seed: every disk says that it synced, and did not. A bug to see shrinking at work.
    #[arg(long)]
    pub lying_disks: bool,
    /// Where the small case is written; by default `failed-<seed>.toml`.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Real seconds that it may take.
    #[arg(long, default_value_t = 600)]
    pub budget_s: u64,
}

impl ShrinkArgs {
    /// The case to be shrunk.
    ///
    /// # Errors
    /// The file is not understood.
    pub fn case(&self) -> io::Result<Case> {
        match (&self.file, self.seed) {
            (Some(file), _) => crate::case::load(file).map_err(io::Error::other),
            (None, seed) => {
                let seed = seed.unwrap_or(0);
                let mut options = scenario::Options::of_seed(seed, self.nodes, self.virtual_s * 1_000);
                options.lying_disks = self.lying_disks;
                Ok(Case::of_seed(&options))
            }
        }
    }

    /// Shrinks it, writes it, and says where. `None` if it does not fail at all.
    ///
    /// # Errors
    /// No child can be started, or the file can't be written.
    pub fn run(&self) -> io::Result<Option<(Case, PathBuf)>> {
        let case = self.case()?;
        let out = self
            .out
            .clone()
            .unwrap_or_else(|| format!("failed-{}.toml", case.seed).into());
        let draft = out.with_extension("draft");
        #[expect(
            clippy::disallowed_methods,
            reason = "bounds real time; what is run does not depend on it"
        )]
        let began = std::time::Instant::now();
        let budget = Duration::from_secs(self.budget_s);
        eprintln!("running the case as it is");
        let first = attempt(&case, &draft, budget)?;
        let Some(violation) = first.violations.first() else {
            // There may be no draft, if even the first could not be written.
            let _ = std::fs::remove_file(&draft);
            return Ok(None);
        };
        let checker = violation.checker.clone();
        eprintln!("it breaks {checker} at {} ms; now smaller", violation.at_ms);
        // A candidate that takes much longer than the whole did has hung, which is another failure.
        let limit = Duration::from_secs_f64(first.wall_s * 3.0 + 20.0);
        let mut error = None;
        let mut tried = 0;
        let mut fails = |candidate: &Case| {
            if began.elapsed() >= budget || error.is_some() {
                return None;
            }
            tried += 1;
            match attempt(candidate, &draft, limit) {
                Ok(outcome) => outcome
                    .violations
                    .into_iter()
                    .find(|violation| violation.checker == checker)
                    .map(|v| v.at_ms),
                Err(e) => {
                    error = Some(e);
                    None
                }
            }
        };
        let operations = first.counts.get("operations").copied().unwrap_or(0);
        let mut small = smaller(case, violation.at_ms, operations, &mut fails);
        let _ = std::fs::remove_file(&draft);
        if let Some(e) = error {
            return Err(e);
        }
        eprintln!("{tried} candidates in {:.0} s", began.elapsed().as_secs_f64());
        small.expect = vec![Expect::Breaks(checker.clone())];
        if small.about.is_empty() {
            small.about = format!(
                "What is left of {} when all is taken away that breaking {checker} does without.",
                small.title
            );
        }
        std::fs::write(&out, small.to_toml())?;
        Ok(Some((small, out)))
    }
}

fn attempt(case: &Case, draft: &Path, limit: Duration) -> io::Result<Outcome> {
    std::fs::write(draft, case.to_toml())?;
    child::run(&[OsString::from("replay"), draft.into()], limit)
}

/// Takes away what it can. `fails` says when the candidate breaks the same promise, if it does; a `None` for want of
/// time ends everything soon, since nothing fails from then on.
pub fn smaller(
    mut case: Case,
    at_ms: u64,
    operations: u64,
    fails: &mut dyn FnMut(&Case) -> Option<u64>,
) -> Case {
    // What makes everything well at the end is added to every plan.
    case.steps.retain(|(at, _)| *at < case.duration_ms);
    let mut shrink = Shrink { case, at_ms, fails };
    shrink.shorter();
    loop {
        let before = shrink.case.clone();
        shrink.fewer_steps();
        shrink.calmer();
        shrink.fewer_nodes();
        shrink.fewer_clients();
        shrink.shorter();
        shrink.simpler_times();
        if shrink.case == before {
            break;
        }
    }
    shrink.fewer_operations(operations);
    shrink.case
}

struct Shrink<'a> {
    case: Case,
    /// When it broke the promise, as it is now.
    at_ms: u64,
    fails: &'a mut dyn FnMut(&Case) -> Option<u64>,
}

impl Shrink<'_> {
    /// Takes the candidate if it fails as well.
    fn try_it(&mut self, what: &str, candidate: Case) -> bool {
        if candidate == self.case {
            return false;
        }
        let Some(at_ms) = (self.fails)(&candidate) else {
            return false;
        };
        self.at_ms = at_ms;
        self.case = candidate;
        eprintln!(
            "  {what}: {} steps, {} nodes, {} clients, {} ms",
            self.case.steps.len(),
            self.case.nodes,
            self.case.clients,
            self.case.duration_ms
        );
        true
    }

    fn edited(&mut self, what: &str, edit: impl FnOnce(&mut Case)) -> bool {
        let mut candidate = self.case.clone();
        edit(&mut candidate);
        self.try_it(what, candidate)
    }

    /// Ends soon after the failure, or much earlier.
    fn shorter(&mut self) {
        let now = self.case.duration_ms;
        let mut ends = vec![now / 4, now / 2, now * 3 / 4];
        if self.at_ms < now {
            ends.insert(0, self.at_ms + 1);
        }
        for end in ends {
            let end = end.max(1_000);
            if end < self.case.duration_ms
                && self.edited("shorter", |case| {
                    case.duration_ms = end;
                    case.steps.retain(|(at, _)| *at < end);
                })
            {
                return;
            }
        }
    }

    fn fewer_steps(&mut self) {
        let steps = self.case.steps.clone();
        fewer(steps, |left| {
            self.edited("fewer steps", |case| case.steps = left.to_vec())
        });
    }

    /// Without bad links and wrong clocks, drawn faults, and one kind of operation after the other.
    fn calmer(&mut self) {
        self.edited("perfect links", |case| case.rough = false);
        self.edited("no drawn faults", |case| case.drawn = false);
        type Without = (&'static str, fn(&mut Mix));
        let without: [Without; 12] = [
            ("no large batches", |mix| mix.large = 0),
            ("no community week", |mix| mix.week = 0),
            ("no crowds", |mix| mix.crowd = 0),
            ("no chases", |mix| mix.chase = 0),
            ("nobody late", |mix| mix.tardy = 0),
            ("no blunders", |mix| mix.blunder = 0),
            ("no approvals", |mix| mix.approve = 0),
            ("no reads", |mix| mix.read = 0),
            ("no trades", |mix| mix.trade = 0),
            ("no corrections", |mix| mix.correct = 0),
            ("no seals of an epoch", |mix| mix.seal_epoch = 0),
            ("no seals of an asset", |mix| mix.seal = 0),
        ];
        for (what, edit) in without {
            self.edited(what, |case| edit(&mut case.mix));
        }
    }

    fn fewer_nodes(&mut self) {
        for nodes in [1, 3, 4, 5, 6, 7] {
            if nodes < self.case.nodes
                && self.edited("fewer nodes", |case| {
                    case.nodes = nodes;
                    let joiners = case.joiners();
                    case.steps.retain_mut(|(_, fault)| fits(fault, nodes, &joiners));
                    case.corrupt = case.corrupt.filter(|(node, _)| *node <= nodes);
                })
            {
                return;
            }
        }
    }

    fn fewer_clients(&mut self) {
        for clients in [1, 2, 3] {
            if clients < self.case.clients && self.edited("fewer clients", |case| case.clients = clients) {
                return;
            }
        }
    }

    /// Whole seconds rather than odd milliseconds, and short pauses.
    fn simpler_times(&mut self) {
        for i in 0..self.case.steps.len() {
            for unit in [1_000, 100] {
                let round = |case: &mut Case| {
                    case.steps[i].0 = case.steps[i].0 / unit * unit;
                    case.steps.sort_by_key(|(at, _)| *at);
                };
                if self.edited("rounder times", round) {
                    break;
                }
            }
            self.edited("shorter pause", |case| {
                if let Fault::Pause(_, ms) = &mut case.steps[i].1 {
                    *ms = (*ms / 2).max(100);
                }
            });
        }
    }

    /// Mutes operations of clients. Keys that no client comes to are muted at no cost and not kept.
    fn fewer_operations(&mut self, operations: u64) {
        let most = operations.min(2_000);
        let keys: Vec<String> = (1..=self.case.clients)
            .flat_map(|client| (1..=most).map(move |n| format!("c{client}-{n}")))
            .collect();
        let already = self.case.mute.clone();
        fewer(keys.clone(), |left| {
            let left: BTreeSet<&String> = left.iter().collect();
            self.edited("fewer operations", |case| {
                case.mute = keys
                    .iter()
                    .filter(|key| !left.contains(key))
                    .cloned()
                    .chain(already.clone())
                    .collect();
            })
        });
    }
}

/// Whether a fault can strike in a cluster of so many founders and these others; partitions lose the members that are gone.
fn fits(fault: &mut Fault, nodes: u64, joiners: &BTreeSet<u64>) -> bool {
    let there = |node: &u64| *node <= nodes || joiners.contains(node);
    let all = |of: &[u64]| of.iter().all(there);
    match fault {
        Fault::Partition(side) => {
            side.retain(there);
            !side.is_empty() && u64::try_from(side.len()).is_ok_and(|n| n < nodes)
        }
        Fault::OneWay(a, b)
        | Fault::Cut(a, b)
        | Fault::Reset(a, b)
        | Fault::WrongDisk(a, b)
        | Fault::Link(a, b, _) => all(&[*a, *b]),
        Fault::Crash { node, .. }
        | Fault::Start(node)
        | Fault::Pause(node, _)
        | Fault::FailSync(node)
        | Fault::FailFileSync(node)
        | Fault::SlowDisk(node, _)
        | Fault::Clock(node, _)
        | Fault::Bridge(node)
        | Fault::SlowNode(node, _)
        | Fault::FullDisk(node, _)
        | Fault::Rot(node)
        | Fault::Latent(node)
        | Fault::Misdirect(node)
        | Fault::DamageArchive(node)
        | Fault::EmptyDisk(node)
        | Fault::Restart(node)
        | Fault::NewerBuild(node, _)
        | Fault::Join(node)
        | Fault::Promote(node)
        | Fault::Remove(node)
        | Fault::RotateKey(node)
        | Fault::Transfer(node)
        | Fault::Snapshot(node) => all(&[*node]),
        Fault::IsolateLeader
        | Fault::BlinkLeader(_)
        | Fault::StallFollowers(_)
        | Fault::Heal
        | Fault::Ring
        | Fault::RemoveLeader => true,
    }
}

/// Leaves out chunk after chunk, large ones first, as long as `enough` says that the rest is.
fn fewer<T: Clone>(mut items: Vec<T>, mut enough: impl FnMut(&[T]) -> bool) {
    let mut chunk = items.len();
    while chunk > 0 && !items.is_empty() {
        let mut at = 0;
        while at < items.len() {
            let end = (at + chunk).min(items.len());
            let rest: Vec<T> = items[..at].iter().chain(&items[end..]).cloned().collect();
            if enough(&rest) {
                items = rest;
            } else {
                at = end;
            }
        }
        chunk /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_stays_and_all_else_goes() {
        let case = Case::of_seed(&scenario::Options::new(3));
        assert!(case.steps.len() > 8);
        let crash = Fault::Crash {
            node: 2,
            silent: false,
            loss: None,
        };
        let mut steps = case.steps.clone();
        steps.insert(0, (3_123, crash.clone()));
        let mut runs = 0;
        // Fails if node 2 is killed while at least two clients settle and seal, whatever else there is; and needs c2-7.
        let mut fails = |candidate: &Case| {
            runs += 1;
            let needed = !candidate.mute.contains("c2-7")
                && candidate.clients >= 2
                && candidate.nodes >= 3
                && candidate.mix.seal > 0
                && candidate.duration_ms > 3_500;
            candidate
                .steps
                .iter()
                .find(|(_, fault)| *fault == crash)
                .filter(|_| needed)
                .map(|_| 40_000)
        };
        let small = smaller(Case { steps, ..case }, 40_000, 40, &mut fails);
        let kinds: Vec<&Fault> = small.steps.iter().map(|(_, fault)| fault).collect();
        assert_eq!(kinds, [&crash]);
        assert_eq!(small.steps[0].0 % 1_000, 0, "its time is a round one");
        assert_eq!((small.nodes, small.clients, small.rough), (3, 2, false));
        assert!(small.duration_ms < 8_000, "{}", small.duration_ms);
        assert_eq!(
            (small.mix.read, small.mix.trade, small.mix.seal),
            (0, 0, Mix::default().seal)
        );
        assert_eq!(small.mute.len(), 2 * 40 - 1, "all operations but one are muted");
        assert!(runs < 400, "{runs} runs");
    }

    #[test]
    fn nothing_is_taken_when_nothing_smaller_fails() {
        let case = Case::of_seed(&scenario::Options::new(5));
        let mut expected = case.clone();
        expected.steps.retain(|(at, _)| *at < case.duration_ms);
        assert_eq!(smaller(case, 100, 5, &mut |_| None), expected);
    }

    #[test]
    fn faults_fit_into_smaller_clusters() {
        let mut partition = Fault::Partition([1, 5].into());
        let none = BTreeSet::new();
        assert!(fits(&mut partition, 3, &none));
        assert_eq!(partition, Fault::Partition([1].into()));
        assert!(!fits(&mut Fault::Partition([4, 5].into()), 3, &none));
        assert!(!fits(&mut Fault::OneWay(1, 4), 3, &none));
        assert!(fits(&mut Fault::Heal, 1, &none));
        assert!(fits(&mut Fault::Promote(6), 3, &[6].into()));
        assert!(!fits(&mut Fault::Promote(5), 3, &[6].into()));
    }
}
