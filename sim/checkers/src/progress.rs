//! Progress: a majority that is left in peace for five seconds acknowledges writes, whatever happens to the rest.

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
