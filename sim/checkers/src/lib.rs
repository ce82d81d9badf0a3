//! The promises, one file each: what was seen of a cluster in, what was broken out.
//!
//! A checker knows the [`history`] of what clients asked and were answered, what became durable on disks ([`wal`]), the
//! log that these make, and certificates; nothing of how any of it was made. So it works alike on a simulated cluster
//! and on real processes. [`watch`] puts those together that look at disks and logs; [`check`] those that need the
//! clients' history alone.
//!
//! The [`oracle`] computes the specification a second time, from the bytes of the log, by code of its own. The ledger
//! that is judged is a [`subject`]: whoever has one says what it did.
//!
//! Absent on purpose: the product, Raft's library, clocks, processes, and the simulator.

pub mod agreement;
pub mod answers;
pub mod archive;
pub mod attestation;
pub mod caps;
pub mod certificates;
pub mod conservation;
pub mod coverage;
pub mod durability;
pub mod failstop;
pub mod forgotten;
pub mod history;
pub mod immutability;
pub mod isolation;
pub mod linear;
pub mod once;
pub mod oracle;
pub mod progress;
pub mod raft;
pub mod reads;
pub mod recovery;
pub mod replay;
pub mod soundness;
pub mod states;
pub mod subject;
pub mod tokens;
pub mod told;
pub mod upkeep;
pub mod upstream;
pub mod wal;
pub mod watch;

use serde::Serialize;

use crate::history::History;
use crate::oracle::entry::Key;
use crate::subject::Subject;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// When it was noticed, in milliseconds of the run.
    pub at_ms: u64,
    /// Which promise.
    pub checker: &'static str,
    /// How it was broken.
    pub what: String,
}

/// What clients saw of a run that has ended; proofs are verified with the nodes' keys.
pub fn check<S: Subject>(history: &History, node_keys: &[(u64, Key)]) -> Vec<Violation> {
    let mut found = Vec::new();
    for (at_ms, what) in &history.oddities {
        found.push(Violation {
            at_ms: *at_ms,
            checker: "honest answers",
            what: what.clone(),
        });
    }
    let checks: [(&'static str, Vec<(u64, String)>); 10] = [
        ("agreement", agreement::check(history)),
        ("exactly once", once::repeated(history)),
        ("certificates", certificates::check::<S>(history, node_keys)),
        ("tokens", tokens::check(history, node_keys)),
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
