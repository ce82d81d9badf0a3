//! Seeds, one child process each, until a bug is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::list::Mutant;
use crate::watchdog;

/// What a run may take. One of thirty virtual seconds takes a few real ones on an idle machine.
const PATIENCE: Duration = Duration::from_secs(150);

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
    /// Whether a node joined in these runs.
    pub joiner: bool,
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
    let noticed = verdicts.iter().filter(|verdict| verdict.checker.is_some());
    let runs: BTreeSet<(u64, bool)> = noticed.map(|verdict| (verdict.seed, verdict.joiner)).collect();
    let list: Vec<(u64, bool)> = runs.iter().copied().collect();
    let fired = parallel(list.len(), jobs, |place| {
        let (seed, joiner) = list[place];
        let said = child(binary, None, joiner, seed)?.map_err(io::Error::other)?;
        let checkers: BTreeSet<String> = said
            .violations
            .into_iter()
            .map(|violated| violated.checker)
            .collect();
        Ok((seed, checkers))
    })?;
    let mut control = Control {
        seeds: runs.iter().map(|(seed, _)| *seed).collect(),
        fired: BTreeMap::new(),
    };
    for (seed, checkers) in fired.into_iter().filter(|(_, checkers)| !checkers.is_empty()) {
        control.fired.entry(seed).or_default().extend(checkers);
    }
    Ok(control)
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
        joiner: mutant.joiner,
        reached: 0,
        broken: None,
    };
    for seed in 0..max_seeds {
        let said = match child(binary, Some(mutant.name), mutant.joiner, seed)? {
            Ok(said) => said,
            Err(why) => {
                verdict
                    .broken
                    .get_or_insert_with(|| format!("seed {seed}: {why}"));
                continue;
            }
        };
        verdict.seed = seed;
        verdict.virtual_s = said.virtual_s;
        verdict.reached = said.counts.get("planted code reached").copied().unwrap_or(0);
        let hit = said
            .violations
            .iter()
            .find(|violated| mutant.expected.contains(&violated.checker.as_str()));
        for violated in &said.violations {
            verdict.others.insert(violated.checker.clone());
            verdict.checker.get_or_insert_with(|| violated.checker.clone());
        }
        if let Some(hit) = hit {
            verdict.caught = true;
            verdict.expected_checker = mutant
                .expected
                .iter()
                .copied()
                .find(|name| *name == hit.checker)
                .unwrap_or_default();
            verdict.checker = Some(hit.checker.clone());
            verdict.others.remove(&hit.checker);
            // What is checked at the end has no time of its own.
            if hit.at_ms > 0 {
                verdict.virtual_s = Duration::from_millis(hit.at_ms).as_secs_f64();
            }
            break;
        }
    }
    Ok(verdict)
}

/// Runs one seed. The inner error is a child that did not report.
fn child(binary: &Path, plant: Option<&str>, joiner: bool, seed: u64) -> io::Result<Result<Said, String>> {
    let mut command = Command::new(binary);
    command.args(["run", "--json", "--seed", &seed.to_string()]);
    if joiner {
        command.arg("--joiner");
    }
    if let Some(name) = plant {
        command.args(["--plant", name]);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stdout = child.stdout.take();
    let (told, heard) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.map_or(Ok(0), |mut stdout| stdout.read_to_end(&mut bytes));
        // Whoever gave up waiting needs no answer.
        let _ = told.send(read.map(|_| bytes));
    });
    // A child gives up by itself when time stands still; whatever else keeps it breaks the same promise.
    let said = match heard.recv_timeout(PATIENCE) {
        Ok(bytes) => serde_json::from_slice(&bytes?).map_err(|error| error.to_string()),
        Err(_) => {
            child.kill()?;
            Ok(Said {
                virtual_s: 0.0,
                violations: vec![Violated {
                    at_ms: 0,
                    checker: watchdog::CHECKER.to_owned(),
                }],
                counts: BTreeMap::new(),
            })
        }
    };
    let status = child.wait()?;
    // It ends with the child's output.
    let _ = reader.join();
    Ok(said.map_err(|why| format!("{why}; {status}")))
}

/// Does `count` things, `jobs` at a time, and returns what they gave, in order.
fn parallel<T: Send>(
    count: usize,
    jobs: usize,
    work: impl Fn(usize) -> io::Result<T> + Sync,
) -> io::Result<Vec<T>> {
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
        let error = parallel(20, 2, |n| {
            if n == 3 {
                Err(io::Error::other("three"))
            } else {
                Ok(n)
            }
        });
        assert_eq!(error.expect_err("one fails").to_string(), "three");
    }
}
