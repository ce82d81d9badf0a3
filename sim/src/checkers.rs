//! The promises, one file each. A checker knows histories and what nodes show, nothing of how they were made: it
//! works alike on a simulated cluster and on a real one.

mod agreement;
pub mod attestation;
mod caps;
mod certificates;
mod conservation;
pub mod coverage;
mod durability;
pub mod failstop;
mod immutability;
mod linear;
mod once;
pub mod progress;
pub mod raft;
mod reads;
pub mod recovery;
mod replay;
mod soundness;
pub mod wal;
pub mod watch;

use ledger::{NodeId, PublicKey};

use crate::history::History;
use crate::report::Violation;

/// All checkers, over a run that has ended.
pub fn check(history: &History, node_keys: &[(NodeId, PublicKey)]) -> Vec<Violation> {
    let mut found = Vec::new();
    for (at_ms, what) in &history.oddities {
        found.push(Violation {
            at_ms: *at_ms,
            checker: "honest answers",
            what: what.clone(),
        });
    }
    let checks: [(&'static str, Vec<(u64, String)>); 8] = [
        ("agreement", agreement::check(history)),
        ("certificates", certificates::check(history, node_keys)),
        ("durability", durability::check(history)),
        ("immutability", immutability::check(history)),
        ("linearizable reads", reads::check(history)),
        ("linearizability", linear::check(history)),
        ("conservation", conservation::check(history)),
        ("contract caps", caps::check(history)),
    ];
    for (checker, what) in checks {
        // A broken promise is often broken a thousand times; the first few say it all.
        found.extend(
            what.into_iter()
                .take(5)
                .map(|(at_ms, what)| Violation { at_ms, checker, what }),
        );
    }
    found
}

#[cfg(test)]
mod goldens;
#[cfg(test)]
mod tests;
