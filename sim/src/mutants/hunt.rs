//! Seeds, one child process each, until a bug is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::list::Mutant;

/// What became of one bug.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Which.
    pub name: &'static str,
    /// Whether a checker named for it noticed.
    pub caught: bool,
    /// The seed of that run; of the last one if it was not caught.
    pub seed: u64,
    /// Virtual seconds until it was noticed, or until the last run ended.
    pub virtual_s: f64,
    /// Who noticed: the checker named for it, or, if only others did, the first of those.
    pub checker: Option<String>,
    /// Who was to notice: the one who did, or the first of those who should have.
    pub expected_checker: &'static str,
    /// All checkers named for it.
    pub expected: &'static [&'static str],
    /// Who else noticed something, on this seed or on earlier ones.
    pub others: BTreeSet<String>,
    /// How often the wrong code ran on this seed.
    pub reached: u64,
    /// Runs that ended without a report: the first reason.
    pub broken: Option<String>,
}

/// Runs without a bug, on the seeds on which bugs were noticed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Control {
    /// Seeds run.
    pub seeds: BTreeSet<u64>,
    /// What fired all the same: seed, and which checkers. Must be empty.
    pub fired: BTreeMap<u64, BTreeSet<String>>,
}

/// What a child says, as far as it matters here.
#[derive(Deserialize)]
struct Said {
    virtual_s: f64,
    violations: Vec<Violated>,
    counts: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Violated {
    at_ms: u64,
    checker: String,
}

/// Hunts for all of them, several at a time.
///
/// # Errors
/// The simulator can't be started.
pub(super) fn all(
    binary: &Path,
    mutants: &[&'static Mutant],
    max_seeds: u64,
    jobs: usize,
    tell: &(impl Fn(&Verdict) + Sync),
) -> io::Result<Vec<Verdict>> {
    parallel(mutants.len(), jobs, |place| {
        let verdict = one(binary, mutants[place], max_seeds)?;
        tell(&verdict);
        Ok(verdict)
    })
}

/// The same seeds without a bug.
///
/// # Errors
/// The simulator can't be started, or says nothing.
pub(super) fn control(binary: &Path, verdicts: &[Verdict], jobs: usize) -> io::Result<Control> {
    let seeds: BTreeSet<u64> =
        verdicts.iter().filter(|verdict| verdict.checker.is_some()).map(|verdict| verdict.seed).collect();
    let list: Vec<u64> = seeds.iter().copied().collect();
    let fired = parallel(list.len(), jobs, |place| {
        let said = child(binary, None, list[place])?.map_err(io::Error::other)?;
        let checkers: BTreeSet<String> = said.violations.into_iter().map(|violated| violated.checker).collect();
        Ok((list[place], checkers))
    })?;
    Ok(Control {
        seeds,
        fired: fired.into_iter().filter(|(_, checkers)| !checkers.is_empty()).collect(),
    })
}

fn one(binary: &Path, mutant: &'static Mutant, max_seeds: u64) -> io::Result<Verdict> {
    let mut verdict = Verdict {
        name: mutant.name,
        caught: false,
        seed: 0,
        virtual_s: 0.0,
        checker: None,
        expected_checker: mutant.expected.first().copied().unwrap_or_default(),
        expected: mutant.expected,
        others: BTreeSet::new(),
        reached: 0,
        broken: None,
    };
    for seed in 0..max_seeds {
        let said = match child(binary, Some(mutant.name), seed)? {
            Ok(said) => said,
            Err(why) => {
                verdict.broken.get_or_insert_with(|| format!("seed {seed}: {why}"));
                continue;
            }
        };
        verdict.seed = seed;
        verdict.virtual_s = said.virtual_s;
        verdict.reached = said.counts.get("planted code reached").copied().unwrap_or(0);
        let hit = said.violations.iter().find(|violated| mutant.expected.contains(&violated.checker.as_str()));
        for violated in &said.violations {
            verdict.others.insert(violated.checker.clone());
            verdict.checker.get_or_insert_with(|| violated.checker.clone());
        }
        if let Some(hit) = hit {
            verdict.caught = true;
            verdict.expected_checker =
                mutant.expected.iter().copied().find(|name| *name == hit.checker).unwrap_or_default();
            verdict.checker = Some(hit.checker.clone());
            verdict.others.remove(&hit.checker);
            // What is checked at the end has no time of its own.
            if hit.at_ms > 0 {
                verdict.virtual_s = std::time::Duration::from_millis(hit.at_ms).as_secs_f64();
            }
            break;
        }
    }
    Ok(verdict)
}

/// Runs one seed. The inner error is a child that did not report.
fn child(binary: &Path, plant: Option<&str>, seed: u64) -> io::Result<Result<Said, String>> {
    let mut command = Command::new(binary);
    command.args(["run", "--json", "--seed", &seed.to_string()]);
    if let Some(name) = plant {
        command.args(["--plant", name]);
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
    let said = serde_json::from_slice(&output.stdout).map_err(|error| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().last().unwrap_or_default().to_owned();
        format!("{error}; {}; {last}", output.status)
    });
    Ok(said)
}

/// Does `count` things, `jobs` at a time, and returns what they gave, in order.
fn parallel<T: Send>(count: usize, jobs: usize, work: impl Fn(usize) -> io::Result<T> + Sync) -> io::Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<BTreeMap<usize, T>> = Mutex::default();
    let failed: Mutex<Option<io::Error>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while failed.lock().is_none() {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    if place >= count {
                        break;
                    }
                    match work(place) {
                        Ok(result) => drop(done.lock().insert(place, result)),
                        Err(error) => drop(failed.lock().get_or_insert(error)),
                    }
                }
            });
        }
    });
    match failed.into_inner() {
        Some(error) => Err(error),
        None => Ok(done.into_inner().into_values().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_their_order_and_the_first_error_ends_it() {
        let squares = parallel(20, 4, |n| Ok(n * n)).expect("no error");
        assert_eq!(squares, (0..20).map(|n| n * n).collect::<Vec<_>>());
        let error = parallel(20, 2, |n| if n == 3 { Err(io::Error::other("three")) } else { Ok(n) });
        assert_eq!(error.expect_err("one fails").to_string(), "three");
    }
}
