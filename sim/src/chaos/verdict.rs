//! What a run found, told as it happens and at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use checkers::Violation;
use checkers::history::History;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::plan::Class;
use crate::clock::Time;
use gridseal::say;

/// What happens, line by line.
#[derive(Clone, Debug)]
pub(super) struct Log {
    time: Time,
    aloud: bool,
    lines: Arc<Mutex<Vec<(u64, String)>>>,
}

impl Log {
    /// A log that prints each line as well, or not.
    pub(super) fn new(time: Time, aloud: bool) -> Self {
        Log {
            time,
            aloud,
            lines: Arc::default(),
        }
    }

    pub(super) fn say(&self, what: impl Into<String>) {
        let (at_ms, what) = (self.time.now_ms(), what.into());
        if self.aloud {
            say!("{:>8.3} s  {what}", seconds(at_ms));
        }
        self.lines.lock().push((at_ms, what));
    }

    /// Milliseconds since the run began.
    pub(super) fn now_ms(&self) -> u64 {
        self.time.now_ms()
    }

    pub(super) fn lines(&self) -> Vec<(u64, String)> {
        self.lines.lock().clone()
    }
}

/// What a run found.
#[derive(Debug)]
pub(super) struct Verdict {
    seed: u64,
    ended_ms: u64,
    faults: Vec<Class>,
    missing: Vec<(Class, String)>,
    /// Promises that were broken.
    pub(super) violations: Vec<Violation>,
    /// How often there was what.
    pub(super) counts: BTreeMap<&'static str, u64>,
    /// What happened.
    pub(super) story: Vec<(u64, String)>,
    /// Where everything is kept for whoever looks for the cause.
    pub(super) kept: Option<PathBuf>,
}

impl Verdict {
    pub(super) fn new(seed: u64, ended_ms: u64, faults: &[Class], missing: Vec<(Class, String)>) -> Self {
        Verdict {
            seed,
            ended_ms,
            faults: faults.to_vec(),
            missing,
            violations: Vec::new(),
            counts: BTreeMap::new(),
            story: Vec::new(),
            kept: None,
        }
    }

    pub(super) fn count_history(&mut self, history: &History) {
        self.counts.insert("operations", history.operations.len() as u64);
        self.counts.insert("reads", history.reads.len() as u64);
        self.counts.insert("seals seen", history.seals.len() as u64);
        self.counts.extend(&history.counts);
    }

    /// As `sim run --json`, but for `trace`: real processes leave none that could be compared.
    pub(super) fn json(&self) -> Value {
        let faults: Vec<String> = self.faults.iter().map(Class::to_string).collect();
        let missing: BTreeMap<String, &String> = self
            .missing
            .iter()
            .map(|(class, why)| (class.to_string(), why))
            .collect();
        json!({
            "seed": self.seed,
            "ok": self.violations.is_empty(),
            "trace": null,
            "virtual_s": seconds(self.ended_ms),
            "wall_s": seconds(self.ended_ms),
            "violations": self.violations,
            "counts": self.counts,
            "story": self.story,
            "faults": faults,
            "unavailable": missing,
            "kept": self.kept,
        })
    }

    /// For a person; the story was told as it happened.
    pub(super) fn tell(&self) -> String {
        let mut out = String::new();
        let verdict = if self.violations.is_empty() {
            "every promise held"
        } else {
            "A PROMISE WAS BROKEN"
        };
        // Writing to a string can't fail.
        let _ = writeln!(
            out,
            "\nseed {}: {verdict}, in {:.1} s",
            self.seed,
            seconds(self.ended_ms)
        );
        let faults: Vec<String> = self.faults.iter().map(Class::to_string).collect();
        let _ = writeln!(
            out,
            "faults: {}",
            if faults.is_empty() {
                "none".to_owned()
            } else {
                faults.join(", ")
            }
        );
        for (class, why) in &self.missing {
            let _ = writeln!(out, "not possible here: {class}: {why}");
        }
        let counts: Vec<String> = self
            .counts
            .iter()
            .map(|(what, n)| format!("{what} {n}"))
            .collect();
        let _ = writeln!(out, "{}", counts.join(", "));
        for Violation { at_ms, checker, what } in &self.violations {
            let _ = writeln!(out, "{:>8.3} s  {checker}: {what}", seconds(*at_ms));
        }
        if let Some(kept) = &self.kept {
            let _ = writeln!(out, "logs, ledgers and history.txt stay in {}", kept.display());
        }
        out
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shown to people; nothing is computed from it"
)]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}
