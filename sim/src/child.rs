//! Runs in child processes: one a run, since only a fresh process is sure to repeat a seed to the byte, and a run that
//! hangs or dies must not take the others with it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Deserialize;

use crate::watchdog;

/// How often a child is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A broken promise, as a child reports it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Violation {
    /// Virtual time when it was noticed, in milliseconds.
    pub at_ms: u64,
    /// Which promise.
    pub checker: String,
    /// How it was broken.
    pub what: String,
}

/// What a child reports of its run.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Outcome {
    /// SHA-256 over all events.
    pub trace: String,
    /// Virtual seconds that passed.
    pub virtual_s: f64,
    /// Seconds that really passed.
    pub wall_s: f64,
    /// Promises that were broken, in the order noticed.
    pub violations: Vec<Violation>,
    /// What there was of what.
    #[serde(default)]
    pub counts: BTreeMap<String, u64>,
    /// How often each kind of fault struck.
    #[serde(default)]
    pub faults: BTreeMap<String, u64>,
    /// How often each state was reached that is worth reaching.
    #[serde(default)]
    pub reached: BTreeMap<String, u64>,
}

/// Runs this program with these arguments and `--json`.
///
/// A child that dies or does not end in time is an outcome as well: it broke the promise that runs end.
///
/// # Errors
/// The child can't be started.
pub fn run(args: &[OsString], limit: Duration) -> io::Result<Outcome> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(args)
        .arg("--json")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // Pipes are emptied while it runs, or it would wait for us for ever.
    let read = |pipe: Option<Box<dyn io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = String::new();
            // What is not text is no report.
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_string(&mut text);
            }
            text
        })
    };
    let stdout = read(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = read(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let mut waited = Duration::ZERO;
    let ended = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if waited >= limit {
            child.kill()?;
            child.wait()?;
            break None;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "a child process in wall time: std can't wait for one with a limit"
        )]
        std::thread::sleep(LOOK);
        waited += LOOK;
    };
    let (stdout, stderr) = (
        stdout.join().unwrap_or_default(),
        stderr.join().unwrap_or_default(),
    );
    if let Some(outcome) = stdout
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str(line).ok())
    {
        return Ok(outcome);
    }
    let what = match ended {
        None => format!("it did not end within {} s", limit.as_secs()),
        Some(status) => format!("it ended with {status} and without a report: {}", stderr.trim()),
    };
    let violation = Violation {
        at_ms: 0,
        checker: watchdog::CHECKER.into(),
        what,
    };
    Ok(Outcome {
        violations: vec![violation],
        ..Outcome::default()
    })
}

/// Does something for each, on so many threads, in order of their start; stops early if `done` says so.
pub fn each<T: Sync>(items: &[T], jobs: usize, work: impl Fn(&T) -> bool + Sync) {
    let next = AtomicUsize::new(0);
    let stop = Mutex::new(false);
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                while !stop.lock().is_ok_and(|stop| *stop) {
                    let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else {
                        return;
                    };
                    if work(item)
                        && let Ok(mut stop) = stop.lock()
                    {
                        *stop = true;
                    }
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_done_once_and_stops_when_told() {
        let items: Vec<u64> = (0..100).collect();
        let seen = Mutex::new(std::collections::BTreeSet::new());
        each(&items, 4, |n| !seen.lock().unwrap().insert(*n));
        assert_eq!(seen.into_inner().unwrap().len(), 100);
        let count = AtomicUsize::new(0);
        each(&items, 1, |n| {
            count.fetch_add(1, Ordering::Relaxed);
            *n == 4
        });
        assert_eq!(count.into_inner(), 5);
        each(&[] as &[u64], 3, |_| false);
    }

    #[test]
    fn reports_are_read_whatever_else_they_say() {
        let json = r#"{"seed":1,"ok":false,"trace":"ab","events":9,"virtual_s":1.5,"wall_s":0.1,
            "violations":[{"at_ms":3,"checker":"durability","what":"lost"}],"counts":{"done":4},"story":[[1,"x"]]}"#;
        let outcome: Outcome = serde_json::from_str(json).unwrap();
        assert_eq!(outcome.violations[0].checker, "durability");
        assert_eq!(outcome.counts["done"], 4);
    }
}
