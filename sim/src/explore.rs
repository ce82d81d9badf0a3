//! Many seeds, one child process each: which fail and how, and whether together they reached all that they should.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Write as _};
use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::child::{self, Outcome};
use crate::faults::words;

/// So many seeds must reach everything.
const ENOUGH: u64 = 200;

/// Explores seeds.
#[derive(Args, Clone, Debug)]
pub struct ExploreArgs {
    /// Which seeds: `0..200` is 0 to 199.
    #[arg(long, value_parser = read_range)]
    pub seeds: Range<u64>,
    /// Runs at a time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub jobs: u64,
    /// How many nodes.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub nodes: u64,
    /// Virtual seconds until the last fault ends.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub virtual_s: u64,
    /// Real seconds that one run may take.
    #[arg(long, default_value_t = 600)]
    pub limit_s: u64,
    /// Prints one JSON object.
    #[arg(long)]
    pub json: bool,
}

fn read_range(text: &str) -> Result<Range<u64>, String> {
    let expected = || format!("`{text}`: expected two numbers as `0..200`, the second above the first");
    let (from, to) = text.split_once("..").ok_or_else(expected)?;
    let range = from.parse().map_err(|_| expected())?..to.parse().map_err(|_| expected())?;
    if range.is_empty() {
        Err(expected())
    } else {
        Ok(range)
    }
}

/// A seed that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// Which.
    pub seed: u64,
    /// The first promise that broke.
    pub checker: String,
    /// When, in virtual milliseconds.
    pub at_ms: u64,
    /// How.
    pub what: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failed {
            seed,
            checker,
            at_ms,
            what,
        } = self;
        write!(f, "seed {seed} broke a promise at {at_ms} ms, {checker}: {what}")
    }
}

/// What the seeds found together.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Found {
    /// Whether no seed failed, and all was reached that should be.
    pub ok: bool,
    /// Seeds that ran.
    pub seeds: u64,
    /// Seeds a second of real time.
    pub seeds_per_s: f64,
    /// Virtual seconds that passed in all of them.
    pub virtual_s: f64,
    /// Failing seeds, in order.
    pub failed: Vec<Failed>,
    /// How many seeds each kind of fault struck in.
    pub faults: BTreeMap<String, u64>,
    /// How many seeds reached each state.
    pub states: BTreeMap<String, u64>,
    /// Faults and states that no seed reached. Only a failure if there were seeds enough.
    pub unreached: Vec<String>,
}

impl Found {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.seeds += 1;
        self.virtual_s += outcome.virtual_s;
        for kind in outcome.faults.into_keys() {
            *self.faults.entry(kind).or_default() += 1;
        }
        let counted = outcome.counts.into_iter().chain(outcome.reached);
        let reached = counted.filter(|(_, n)| *n > 0).map(|(what, _)| what);
        for state in reached.collect::<BTreeSet<_>>() {
            *self.states.entry(state).or_default() += 1;
        }
        if let Some(first) = outcome.violations.into_iter().next() {
            let child::Violation { at_ms, checker, what } = first;
            self.failed.push(Failed {
                seed,
                checker,
                at_ms,
                what,
            });
        }
    }

    fn finish(&mut self, states: &[&str], wall_s: f64) {
        self.failed.sort_by_key(|failed| failed.seed);
        #[expect(
            clippy::cast_precision_loss,
            reason = "shown to people; nothing is computed from it"
        )]
        let seeds = self.seeds as f64;
        self.seeds_per_s = seeds / wall_s.max(0.001);
        let faults = words::names()
            .map(|(name, _)| name)
            .filter(|name| !self.faults.contains_key(*name));
        let states = states
            .iter()
            .copied()
            .filter(|state| !self.states.contains_key(*state));
        self.unreached = faults.chain(states).map(str::to_owned).collect();
        self.ok = self.failed.is_empty() && (self.seeds < ENOUGH || self.unreached.is_empty());
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &BTreeMap<String, u64>| {
            let list: Vec<String> = counts.iter().map(|(what, n)| format!("{what} {n}")).collect();
            list.join(", ")
        };
        writeln!(
            f,
            "{} seeds, {:.2} a second; seeds in which",
            self.seeds, self.seeds_per_s
        )?;
        writeln!(f, "  these faults struck: {}", list(&self.faults))?;
        writeln!(f, "  these states were reached: {}", list(&self.states))?;
        if !self.unreached.is_empty() {
            let weight = if self.seeds < ENOUGH {
                "not yet reached"
            } else {
                "NEVER REACHED, which fails the exploration"
            };
            writeln!(f, "  {weight}: {}", self.unreached.join(", "))?;
        }
        for failed in &self.failed {
            writeln!(f, "{failed}")?;
        }
        match self.failed.len() {
            0 => writeln!(f, "no seed failed"),
            n => writeln!(
                f,
                "{n} seeds FAILED: `sim shrink --seed {}` makes the first as small as it gets",
                self.failed[0].seed
            ),
        }
    }
}

/// Explores. Progress goes to standard error.
///
/// # Errors
/// No child can be started.
pub fn run(args: &ExploreArgs, states: &[&str]) -> io::Result<Found> {
    #[expect(clippy::disallowed_methods, reason = "wall time is reported, never acted on")]
    let began = std::time::Instant::now();
    let seeds: Vec<u64> = args.seeds.clone().collect();
    let found = Mutex::new(Found::default());
    let error = Mutex::new(None);
    child::each(&seeds, usize::try_from(args.jobs).unwrap_or(1), |&seed| {
        let run = format!(
            "run --seed {seed} --nodes {} --virtual-s {}",
            args.nodes, args.virtual_s
        );
        let run: Vec<_> = run.split(' ').map(Into::into).collect();
        let outcome = child::run(&run, Duration::from_secs(args.limit_s));
        let (Ok(mut found), Ok(mut error)) = (found.lock(), error.lock()) else {
            return true;
        };
        match outcome {
            Ok(outcome) => {
                found.add(seed, outcome);
                // Long before the end someone may want to look into it.
                if let Some(failed) = found.failed.last().filter(|failed| failed.seed == seed) {
                    eprintln!("\r{failed}");
                }
            }
            Err(e) => {
                error.get_or_insert(e);
                return true;
            }
        }
        progress(&found, seeds.len(), began.elapsed().as_secs_f64());
        false
    });
    eprintln!();
    if let Some(e) = error.into_inner().unwrap_or_default() {
        return Err(e);
    }
    let mut found = found
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    found.finish(states, began.elapsed().as_secs_f64());
    Ok(found)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shown to people; nothing is computed from it"
)]
fn progress(found: &Found, of: usize, wall_s: f64) {
    let mut err = io::stderr().lock();
    // Progress that no one can see is no reason to stop.
    let _ = write!(
        err,
        "\r{} of {of} seeds, {:.2} a second, {} failed, {} of {} kinds of fault seen ",
        found.seeds,
        found.seeds as f64 / wall_s.max(0.001),
        found.failed.len(),
        found.faults.len(),
        words::names().count()
    );
    let _ = err.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(read_range("0..200"), Ok(0..200));
        for wrong in ["", "5", "5..5", "9..3", "a..b", "0..=5"] {
            assert!(read_range(wrong).is_err(), "{wrong}");
        }
    }

    fn outcome(faults: impl Iterator<Item = &'static str>, broken: &[&str]) -> Outcome {
        let violation = |checker: &&str| child::Violation {
            at_ms: 5,
            checker: (*checker).into(),
            what: "so".into(),
        };
        Outcome {
            faults: faults.map(|fault| (fault.to_owned(), 2)).collect(),
            counts: [("done".to_owned(), 3), ("stops".to_owned(), 0)].into(),
            violations: broken.iter().map(violation).collect(),
            ..Outcome::default()
        }
    }

    #[test]
    fn what_many_seeds_never_reach_is_a_failure() {
        let all = || words::names().map(|(name, _)| name);
        let explore = |seeds: u64, faults: &dyn Fn() -> Outcome, states: &[&str]| {
            let mut found = Found::default();
            (0..seeds).for_each(|seed| found.add(seed, faults()));
            found.finish(states, 1.0);
            found
        };
        let whole = || outcome(all(), &[]);
        let partly = || outcome(all().skip(1), &[]);
        assert!(explore(ENOUGH, &whole, &["done"]).ok);
        let found = explore(ENOUGH, &partly, &[]);
        assert_eq!((found.ok, found.unreached), (false, vec!["partition".to_owned()]));
        assert!(
            explore(ENOUGH - 1, &partly, &[]).ok,
            "a few seeds need not reach everything"
        );
        let found = explore(ENOUGH, &whole, &["stops"]);
        assert_eq!((found.ok, found.unreached), (false, vec!["stops".to_owned()]));
    }

    #[test]
    fn failing_seeds_are_listed_in_order_with_what_broke_first() {
        let mut found = Found::default();
        found.add(9, outcome([].into_iter(), &["durability", "agreement"]));
        found.add(3, outcome([].into_iter(), &["liveness"]));
        found.add(4, outcome([].into_iter(), &[]));
        found.finish(&[], 1.0);
        let listed: Vec<(u64, &str)> = found
            .failed
            .iter()
            .map(|failed| (failed.seed, failed.checker.as_str()))
            .collect();
        assert_eq!(listed, [(3, "liveness"), (9, "durability")]);
        assert!(!found.ok);
        assert!(
            found
                .to_string()
                .contains("2 seeds FAILED: `sim shrink --seed 3`")
        );
    }
}
