//! What a run found: for a machine to read, and told for a person.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use checkers::Violation;
use serde::Serialize;

use crate::timeline::Timeline;
use crate::trace;
use crate::world::World;

/// What a run found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The run's seed.
    pub seed: u64,
    /// Whether every promise held.
    pub ok: bool,
    /// SHA-256 over all events.
    pub trace: String,
    /// Events in the trace.
    pub events: u64,
    /// Virtual seconds that passed.
    pub virtual_s: f64,
    /// Seconds that really passed. The one figure that differs between two runs of a seed.
    pub wall_s: f64,
    /// Promises that were broken, in the order noticed.
    pub violations: Vec<Violation>,
    /// What there was of what: work done, states reached.
    pub counts: BTreeMap<&'static str, u64>,
    /// The faults that struck: virtual milliseconds, and what.
    pub story: Vec<(u64, String)>,
    /// How often each state of [`checkers::coverage::STATES`] was reached.
    pub reached: BTreeMap<&'static str, u64>,
    /// How often each kind of fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// What is worth drawing and telling.
    #[serde(skip)]
    pub timeline: Timeline,
    /// The last events before the end.
    #[serde(skip)]
    pub recent: Vec<String>,
}

impl Report {
    /// A report of a world as it stands, to which checkers add what they found.
    pub fn new(seed: u64, world: &World) -> Self {
        let (segments, bytes) = world.net().work();
        let mut report = Report {
            seed,
            ok: true,
            trace: String::new(),
            events: 0,
            virtual_s: seconds(world.now_ms()),
            wall_s: 0.0,
            violations: Vec::new(),
            counts: BTreeMap::new(),
            story: world.story().to_vec(),
            reached: BTreeMap::new(),
            faults: BTreeMap::new(),
            timeline: Timeline::default(),
            recent: Vec::new(),
        };
        report.count("segments", segments);
        report.count("network_bytes", bytes);
        report.count(
            "syncs",
            world.nodes().iter().map(|host| host.disk().work().0).sum(),
        );
        report.count("stops", world.stops().len() as u64);
        report.count("a process ended when asked", world.ended());
        report
    }

    /// Adds to a figure.
    pub fn count(&mut self, what: &'static str, n: u64) {
        *self.counts.entry(what).or_default() += n;
    }

    /// Completes it with what the trace says, and how long it took.
    pub fn finish(&mut self, summary: trace::Summary, wall_s: f64) {
        self.trace = summary.digest;
        self.events = summary.events;
        self.recent = summary.recent;
        self.wall_s = wall_s;
        self.ok = self.violations.is_empty();
    }

    /// What happened, for a person: the faults, the last events, the promise that broke.
    pub fn tell(&self) -> String {
        let mut out = String::new();
        let mut line = |args: std::fmt::Arguments<'_>| {
            // Writing to a string can't fail.
            let _ = writeln!(out, "{args}");
        };
        let speed = self.virtual_s / self.wall_s.max(0.001);
        let verdict = if self.ok {
            "every promise held"
        } else {
            "A PROMISE WAS BROKEN"
        };
        line(format_args!("seed {}: {verdict}", self.seed));
        line(format_args!(
            "{:.1} virtual seconds in {:.1} s ({speed:.0} ×), {} events, trace {}",
            self.virtual_s, self.wall_s, self.events, self.trace
        ));
        let counts: Vec<String> = self
            .counts
            .iter()
            .map(|(what, n)| format!("{what} {n}"))
            .collect();
        line(format_args!("{}", counts.join(", ")));
        if self.ok {
            return out;
        }
        line(format_args!("\nWhat struck:"));
        for (at, what) in &self.story {
            line(format_args!("{:>8.3} s  {what}", seconds(*at)));
        }
        line(format_args!("\nThe last events:"));
        for event in self.recent.iter().rev().take(60).rev() {
            line(format_args!("{event}"));
        }
        line(format_args!("\nWhich promise broke:"));
        for Violation { at_ms, checker, what } in &self.violations {
            line(format_args!("{:>8.3} s  {checker}: {what}", seconds(*at_ms)));
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
