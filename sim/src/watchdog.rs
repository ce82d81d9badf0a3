//! Virtual time that stands still: code under test that loops without ever awaiting anything keeps the one thread of the
//! simulation for itself, and nothing in it could say so. A second thread looks at the wall clock instead.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use serde_json::json;

use crate::trace::Who;

/// The promise that such code breaks: runs end.
pub const CHECKER: &str = "the run";

/// How long one turn of one machine may take. On a busy machine it takes milliseconds.
const STANDS_STILL: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Turns of machines so far in this process, virtual time of the last, and whose it was.
static TURNS: AtomicU64 = AtomicU64::new(0);
static NOW_MS: AtomicU64 = AtomicU64::new(0);
static WHOSE: AtomicU64 = AtomicU64::new(NOBODY);
/// Outside turns things may take as long as they like: the final checks do.
const NOBODY: u64 = u64::MAX;

/// A machine's turn begins.
pub fn turn(now_ms: u64, who: Who) {
    TURNS.fetch_add(1, Ordering::Relaxed);
    NOW_MS.store(now_ms, Ordering::Relaxed);
    let whose = match who {
        Who::Node(node) => node,
        Who::Clients => 0,
        Who::World => NOBODY,
    };
    WHOSE.store(whose, Ordering::Relaxed);
}

/// No machine has its turn.
pub fn rest() {
    WHOSE.store(NOBODY, Ordering::Relaxed);
}

/// Looks on until it is dropped.
pub struct Watchdog {
    _alive: mpsc::Sender<()>,
}

/// Begins to look on. A turn that does not end makes this process print its report, in JSON or in words, and exit with 1.
pub fn begin(seed: u64, json: bool) -> Watchdog {
    let (alive, over) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut turns, mut still) = (0, Duration::ZERO);
        while over.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            let now = TURNS.load(Ordering::Relaxed);
            let whose = WHOSE.load(Ordering::Relaxed);
            still = if now == turns && whose != NOBODY {
                still + LOOK
            } else {
                Duration::ZERO
            };
            turns = now;
            if still >= STANDS_STILL {
                let text = report(seed, NOW_MS.load(Ordering::Relaxed), whose, json);
                // Whoever doesn't read it learns from the status.
                let _ = writeln!(io::stdout(), "{text}");
                std::process::exit(1);
            }
        }
    });
    Watchdog { _alive: alive }
}

fn report(seed: u64, at_ms: u64, whose: u64, json: bool) -> String {
    let who = if whose == 0 {
        Who::Clients
    } else {
        Who::Node(whose)
    };
    let what = format!(
        "{who} has kept the thread for {} s without awaiting anything, and time stands still",
        STANDS_STILL.as_secs()
    );
    let virtual_s = Duration::from_millis(at_ms).as_secs_f64();
    if json {
        let violation = json!({"at_ms": at_ms, "checker": CHECKER, "what": what});
        json!({
            "seed": seed, "ok": false, "trace": "", "virtual_s": virtual_s, "wall_s": STANDS_STILL.as_secs_f64(),
            "violations": [violation], "counts": {},
        })
        .to_string()
    } else {
        format!("seed {seed} BROKE A PROMISE\n  {virtual_s:.3} {CHECKER}: {what}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_is_a_report_like_any_other() {
        let said: crate::child::Outcome = serde_json::from_str(&report(7, 1_500, 3, true)).unwrap();
        assert_eq!(
            (said.violations[0].checker.as_str(), said.virtual_s),
            (CHECKER, 1.5)
        );
        assert!(said.violations[0].what.starts_with("n3 has kept the thread"));
        assert!(report(7, 1_500, 0, false).contains("client has kept the thread"));
    }
}
