//! Progress: a majority that is left in peace for five seconds acknowledges writes, whatever happens to the rest.

use std::collections::VecDeque;

use crate::history::{History, Outcome};

/// How long a majority must be stable before anything is asked of it.
pub const SETTLED_MS: u64 = 5_000;
/// How long clients must have tried after that.
pub const TRIED_MS: u64 = 5_000;

/// The ledger's time runs at most twice as fast as true time, whatever a leader's clock says, so that one wrong clock can't carry the
/// cluster away. Both in milliseconds since the cluster began.
pub fn too_fast(node: u64, ledger_ms: u64, true_ms: u64) -> Option<String> {
    (ledger_ms > 2 * true_ms).then(|| {
        format!(
            "by n{node}'s ledger {ledger_ms} ms have passed since the cluster began, and it were {true_ms}"
        )
    })
}

/// How long somebody must have led in peace before the ledger's time is held against that node's clock.
const LED_MS: u64 = 8_000;
/// How old the readings of that clock are that must show in the ledger: what was asked since may be under way.
const LAG_MS: u64 = 5_000;
/// How long ago the ledger must have changed at most: its time moves only with what is written.
const FRESH_MS: u64 = 500;

/// The other way round, the ledger's time follows the clock of whoever leads in peace, at least at twice the speed of true time where it was
/// behind when that leadership began.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// The leader and its term.
    leads: Option<(u64, u64)>,
    since_ms: u64,
    base_ms: u64,
    /// When it was looked at, and what the ledger's time could have been then by that clock.
    could_be: VecDeque<(u64, u64)>,
    /// The ledger's state, and when it became that.
    state: ([u8; 32], u64),
}

/// What a node that leads shows.
#[derive(Clone, Copy, Debug)]
pub struct Leading {
    /// Which node.
    pub node: u64,
    /// In which term.
    pub term: u64,
    /// Its clock; like the ledger's time in milliseconds since the cluster began.
    pub clock_ms: u64,
    /// The time of its ledger.
    pub ledger_ms: u64,
    /// The running digest of its ledger.
    pub state: [u8; 32],
}

impl Pace {
    /// Whoever leads and belongs to a majority that runs and can talk to each other, in order of time; `None` while there is no such node.
    pub fn look(&mut self, at_ms: u64, leading: Option<Leading>) -> Option<String> {
        let Some(now) = leading else {
            self.leads = None;
            return None;
        };
        if self.leads != Some((now.node, now.term)) {
            *self = Pace {
                leads: Some((now.node, now.term)),
                since_ms: at_ms,
                base_ms: now.ledger_ms,
                ..Pace::default()
            };
        }
        if self.state.0 != now.state {
            self.state = (now.state, at_ms);
        }
        let fastest = self.base_ms + 2 * (at_ms - self.since_ms);
        self.could_be.push_back((at_ms, now.clock_ms.min(fastest)));
        while self
            .could_be
            .front()
            .is_some_and(|(then, _)| then + LAG_MS < at_ms)
        {
            self.could_be.pop_front();
        }
        // A clock that was set back meanwhile asks for less.
        let least = self.could_be.iter().map(|(_, ms)| *ms).min()?;
        let in_peace = at_ms >= self.since_ms + LED_MS && at_ms <= self.state.1 + FRESH_MS;
        (in_peace && now.ledger_ms < least).then(|| {
            self.leads = None;
            format!(
                "n{} leads since {} ms and its clock said {least} ms {LAG_MS} ms ago, and its ledger says {} ms after something was written",
                now.node, self.since_ms, now.ledger_ms
            )
        })
    }
}

/// Notes how long a majority has been connected, awake and unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stability {
    current: Option<(u64, Vec<u64>)>,
    periods: Vec<(u64, u64)>,
}

impl Stability {
    /// The nodes of a majority that can all talk to each other and run, if there is one, at some moment. Call it at
    /// least whenever that changes, in order of time.
    pub fn look(&mut self, at_ms: u64, majority: Option<&[u64]>) {
        let unchanged = self.current.as_ref().map(|(_, nodes)| nodes.as_slice()) == majority;
        if !unchanged {
            self.end(at_ms);
            self.current = majority.map(|nodes| (at_ms, nodes.to_vec()));
        }
    }

    /// Time stops.
    pub fn end(&mut self, at_ms: u64) {
        if let Some((since, _)) = self.current.take() {
            self.periods.push((since, at_ms));
        }
    }

    /// The nodes of the present majority.
    pub fn majority(&self) -> &[u64] {
        self.current.as_ref().map_or(&[], |(_, nodes)| nodes)
    }

    /// From when until when a majority was stable.
    pub fn periods(&self) -> &[(u64, u64)] {
        &self.periods
    }
}

/// In every stable period that is long enough and in which clients asked for writes, one was acknowledged.
pub fn check(history: &History, stability: &Stability) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    for (since, until) in stability.periods() {
        let settled = since + SETTLED_MS;
        if *until < settled + TRIED_MS {
            continue;
        }
        let within = |at: u64| (settled..=*until).contains(&at);
        let writes = || {
            history
                .operations
                .iter()
                .filter(|operation| !operation.settles.is_empty())
        };
        let tried = writes().any(|operation| within(operation.asked.ms) && operation.ended.ms <= *until);
        let answered = writes()
            .any(|operation| within(operation.ended.ms) && matches!(operation.outcome, Outcome::Done));
        if tried && !answered {
            found.push((
                *until,
                format!("a majority was stable from {since} to {until} ms, and acknowledged no write"),
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_follows_whoever_leads_in_peace() {
        // A leader from 10 s on; what its clock and its ledger say at each of these moments, and whether something was written just before.
        let run = |clock: fn(u64) -> u64, ledger: fn(u64) -> u64, writes: bool| {
            let mut pace = Pace::default();
            let looks = (10_000u64..40_000).step_by(100).map(|at_ms| {
                let leading = Leading {
                    node: 2,
                    term: 3,
                    clock_ms: clock(at_ms),
                    ledger_ms: ledger(at_ms),
                    state: [if writes { (at_ms / 400 % 2) as u8 + 1 } else { 1 }; 32],
                };
                pace.look(at_ms, Some(leading))
            });
            looks.flatten().next()
        };
        let behind = |at_ms: u64| at_ms - 1_000;
        assert_eq!(run(|at| at, behind, true), None);
        assert_eq!(run(|at| at, |_| 10_000, false), None, "nothing is written");
        let told = run(|at| at, |_| 10_000, true).expect("it stands still");
        assert!(
            told.contains("n2 leads since 10000 ms and its clock said 13"),
            "{told}"
        );
        assert_eq!(run(|_| 9_000, |_| 10_000, true), None, "so does its clock");
        // Set back, it asks for nothing; set forward, for twice the speed.
        assert_eq!(
            run(|at| if at < 20_000 { at } else { 5 }, |at| at.min(19_000), true),
            None
        );
        assert_eq!(run(|at| at * 9, |at| 2 * at - 14_000, true), None);
        assert!(run(|at| at * 9, |at| at + 1_000, true).is_some());
    }
}
