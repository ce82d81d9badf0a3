//! The bugs: what is wrong, to which family it belongs, and who must notice.
//!
//! The names of checkers are those in a report's violations. A bug that breaks two promises names a checker of
//! each; one of them must fire. The first of a family stands for it where time is short.

use std::io;

/// Families, each with its first bug as the one that stands for it.
pub const FAMILIES: [&str; 7] = [
    "vote, log, sync",
    "snapshot",
    "certificate",
    "exactly once",
    "reads",
    "ledger arithmetic",
    "actors",
];

/// A planted bug.
#[derive(Debug)]
pub struct Mutant {
    /// What `planted!` is asked for.
    pub name: &'static str,
    /// Which of [`FAMILIES`].
    pub family: &'static str,
    /// The mistake, for people.
    pub mistake: &'static str,
    /// Checkers of which one must fire.
    pub expected: &'static [&'static str],
    /// Whether it shows only when the membership changes.
    pub joiner: bool,
}

/// Raft's own promises, each a checker.
const RAFT: &[&str] = &[
    "election safety",
    "log matching",
    "leader completeness",
    "state machine safety",
    "monotonic",
    "agreement",
];

/// Reads are current: by the model checker, and by what can be said without it.
const READS: &[&str] = &["linearizability", "linearizable reads"];

/// A certificate holds if and only if it should: by code of our own, and by the product's.
const SOUND: &[&str] = &["certificate soundness", "certificates"];

const fn mutant(
    family: usize,
    name: &'static str,
    expected: &'static [&'static str],
    mistake: &'static str,
) -> Mutant {
    Mutant {
        name,
        family: FAMILIES[family],
        mistake,
        expected,
        joiner: false,
    }
}

/// The same, in runs in which a node joins.
const fn joining(mutant: Mutant) -> Mutant {
    Mutant {
        joiner: true,
        ..mutant
    }
}

/// All of them.
#[rustfmt::skip]
pub const MUTANTS: &[Mutant] = &[
    mutant(0, "acknowledged-before-sync", &["durability"], "entries are reported durable when they are written, not when they are synced"),
    mutant(0, "vote-not-persisted", RAFT, "a vote is kept in memory only"),
    mutant(0, "vote-behind-appends", RAFT, "a vote is written some time after it was given, behind later appends"),
    mutant(0, "sync-error-ignored", &["durability", "fail-stop"], "a failed sync is logged, and the node goes on"),
    mutant(0, "sync-error-retried", &["durability", "fail-stop"], "a failed sync is tried again, and believed"),
    mutant(0, "file-sync-error-ignored", &["fail-stop"], "a failed sync of a file of the archive is logged, and the node goes on"),
    mutant(0, "torn-tail-taken", &["fail-stop", "log matching", "state machine safety"], "an entry whose checksum is wrong is taken all the same"),
    mutant(0, "damage-taken-as-tail", &["fail-stop", "durability"], "damage in the middle of the log counts as its torn end"),
    mutant(0, "truncation-below-commit", RAFT, "a start cuts the log at the commit mark it finds on disk"),
    mutant(0, "truncate-does-nothing", &["log matching", "state machine safety", crate::watchdog::CHECKER], "entries that a new leader replaces stay where they are"),
    mutant(0, "directory-not-synced", &["durability"], "a new segment's name is not made durable"),
    mutant(0, "leader-restored", RAFT, "a restarted leader leads on in its old term"),
    mutant(0, "newest-entry-dropped", &["durability", "fail-stop", "log matching", "state machine safety"], "a start forgets the newest entry of the log"),
    mutant(0, "mark-before-entries", &["state machine safety"], "a commit mark is written before the entries that it is about"),
    mutant(1, "snapshot-without-nonces", &["replay", "exactly once"], "a snapshot lacks the memory of retries"),
    mutant(1, "snapshot-without-late", &["replay"], "a snapshot lacks late statements"),
    mutant(1, "snapshot-without-revoked", &["replay", "honest answers"], "a snapshot lacks the keys that were taken away"),
    mutant(1, "snapshot-index-ahead", &["replay"], "a snapshot names the entry applied when it is written, not when it was captured"),
    mutant(1, "attachment-not-synced", &["replay", "durability"], "a snapshot refers to a file of the archive that is not synced"),
    mutant(1, "archive-unverified", &["archive", "liveness", "fail-stop"], "a file of the archive is taken for what it should be, whatever its SHA-256"),
    mutant(1, "archive-not-mended", &["archive", "upkeep", "liveness"], "nobody is asked for a file of the archive that is damaged"),
    mutant(1, "purge-before-snapshot-durable", &["durability"], "the log is purged behind a snapshot that is not synced"),
    mutant(1, "old-snapshots-kept", &["upkeep"], "a new snapshot does not remove those before it"),
    mutant(1, "clock-in-apply", &["replay"], "apply asks the node's own clock"),
    mutant(2, "signed-not-persisted", &["one header"], "the last header signed is not written down"),
    mutant(2, "signer-counted-twice", SOUND, "the first signature of a block counts twice"),
    mutant(2, "signature-before-commit", &["attestation"], "what a restarted node finds in its log counts as committed, and is signed at once"),
    mutant(2, "sealed-twice", &["agreement", "oracle"], "a sealed epoch can be sealed again"),
    mutant(2, "late-into-sealed-prefix", &["immutability", "oracle"], "a late statement lands before the watermark"),
    joining(mutant(2, "learner-counted", SOUND, "the signature of a node without a vote counts")),
    joining(mutant(2, "todays-voters", SOUND, "a signature counts by who votes today, not at the block's index")),
    joining(mutant(2, "revoked-key-accepted", SOUND, "a key that was taken away still signs")),
    mutant(2, "digest-without-cluster", &["authority"], "what is signed does not name the cluster"),
    mutant(2, "hash-order-in-digest", &["agreement", "alarm"], "the seals of a block are hashed in the order of a hash map"),
    mutant(3, "retry-applied-twice", &["exactly once", "durability"], "a retry is done again"),
    mutant(3, "nonce-forgotten-early", &["exactly once", "durability"], "an envelope's nonce is forgotten after a few seconds"),
    mutant(3, "answers-taken-in-order", &["exactly once", "linearizability", "linearizable reads"], "an outcome is told to whoever has waited longest, whichever envelope it is of"),
    mutant(3, "nonce-for-any-action", &["honest answers", "exactly once", "oracle"], "a nonce that was used is good for another action, which gets the first one's outcome"),
    mutant(3, "told-by-name-alone", &["honest answers", "exactly once"], "whoever waits under a nonce is told what became of any request that bears it"),
    mutant(3, "merged-answers-shifted", &["honest answers"], "of requests that were merged each is answered with the first one's statement"),
    mutant(3, "merged-request-dropped", &["durability"], "of requests that were merged the last is left out, and acknowledged"),
    mutant(3, "renewal-forgotten", &["exactly once", "oracle"], "an envelope that is signed anew for longer is remembered no longer than before"),
    mutant(3, "cut-off-had-no-effect", &["durability", "exactly once"], "a node that stops says of what it had sent the leader that it had no effect"),
    mutant(3, "order-carried-out-twice", &["honest answers"], "an admin's order that is given again is carried out again"),
    mutant(3, "envelope-for-ever", &["honest answers", "oracle"], "an envelope may wait as long as it likes"),
    mutant(3, "over-a-moment-early", &["honest answers", "oracle"], "what holds until a moment is over at that moment"),
    mutant(4, "read-before-applied", READS, "a read asks how far it must see, and does not wait until it does"),
    mutant(4, "read-one-short", READS, "a read waits for the entry before the one that it must see"),
    mutant(4, "late-reader", READS, "a reader joins a question to the leader that is under way"),
    mutant(4, "follower-read-without-barrier", READS, "a follower answers a read at once"),
    mutant(4, "stale-leader-read", READS, "a leader answers reads without asking whether it still leads"),
    mutant(4, "lease-read", &["isolation"], "a leader answers reads as long as its lease lasts, without hearing from anyone"),
    mutant(4, "oldest-seal-shown", &["answers"], "a balance shows the first version of a seal, and not the newest"),
    mutant(4, "token-of-another-figure", &["tokens"], "a seal's token claims another energy than the seal has"),
    mutant(4, "archived-epochs-not-listed", &["answers"], "the newest epochs of an asset are those in memory"),
    mutant(4, "unsealed-reads-are-old", &["honest answers"], "what seals don't vouch for is read as this node knows it"),
    mutant(5, "watt-hour-lost", &["oracle", "conservation"], "a residual is booked in halves, and the odd watt-hour is lost"),
    mutant(5, "fraction-cut", &["durability", "oracle", "answers"], "the fraction of an amount is cut off, not rounded"),
    mutant(5, "own-metered-in-residual", &["oracle", "conservation"], "an asset's own metered statements are passed on too"),
    mutant(5, "counter-outside-watermark", &["oracle", "conservation"], "the watermark leaves out the last counter statement"),
    mutant(5, "float-co2", &["oracle"], "the CO2 of a trade is computed in floating point"),
    mutant(5, "tie-by-arrival", &["oracle"], "contracts of one priority are served in the order in which they came"),
    mutant(5, "upstream-before-downstream", &["oracle"], "an asset can be sealed while one below it is open"),
    mutant(5, "approvals-kept", &["oracle", "alarm"], "an approval is not spent by the seal that it was given for"),
    mutant(5, "autoseal-not-fetched", &["state machine safety", "replay", "agreement", "alarm"], "the epoch that a settlement seals is not fetched from the archive"),
    mutant(5, "batch-in-part", &["oracle"], "what precedes a refused settlement in its batch is booked"),
    mutant(5, "moved-asset-stays", &["oracle"], "an asset that gets another upstream stays below the old one as well"),
    mutant(5, "approvals-of-anyone", &["oracle"], "approvals of auditors count whom the rule does not name any more"),
    mutant(6, "events-out-of-order", &["alarm"], "an actor takes the work of an entry from its end"),
    mutant(6, "archived-while-needed", &["fail-stop"], "an epoch is archived between the moment that an entry needs it and the one that applies it"),
    mutant(6, "seals-by-itself-once", &["liveness"], "the leader seals what is due once, and never again"),
    mutant(6, "sealed-before-it-is-over", &["liveness"], "the leader seals an epoch when it begins"),
    mutant(6, "held-for-good", &["liveness"], "what was held for want of an approval is never tried again"),
    mutant(6, "archivist-left-waiting", &["upkeep"], "an epoch that lies in files stays in memory if an entry was being applied"),
    mutant(6, "time-from-genesis", &["time"], "a new leader counts the ledger's time from the genesis on, and must catch up first"),
    mutant(6, "time-stands-still", &["liveness"], "an idle leader does not move the ledger's time on"),
    mutant(6, "seals-believed", &["attestation"], "a node signs the seals that its ledger made, not those that its actors made"),
    mutant(6, "alarmed-node-shows-seals", &["liveness"], "a node shows seals although it has raised the alarm"),
    mutant(6, "alarmed-node-leads", &["liveness"], "a node leads on although it has raised the alarm"),
    mutant(6, "alarm-not-raised", &["alarm"], "a node that finds its own ledger wrong logs it, and goes on"),
];

/// Those asked for.
///
/// # Errors
/// A name that none has.
pub(super) fn choose(only: &[String], families: bool) -> io::Result<Vec<&'static Mutant>> {
    for name in only {
        if !MUTANTS.iter().any(|mutant| mutant.name == name) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("no bug is called {name}"),
            ));
        }
    }
    let first = |mutant: &&'static Mutant| {
        MUTANTS
            .iter()
            .find(|other| other.family == mutant.family)
            .is_some_and(|other| other.name == mutant.name)
    };
    Ok(MUTANTS
        .iter()
        .filter(|mutant| only.is_empty() || only.iter().any(|name| name == mutant.name))
        .filter(|mutant| !families || first(mutant))
        .collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_families_known_and_all_represented() {
        let names: BTreeSet<&str> = MUTANTS.iter().map(|mutant| mutant.name).collect();
        assert_eq!(names.len(), MUTANTS.len());
        assert!(MUTANTS.iter().all(|mutant| !mutant.expected.is_empty()));
        let chosen = choose(&[], true).expect("no names");
        let families: BTreeSet<&str> = chosen.iter().map(|mutant| mutant.family).collect();
        assert_eq!(families, BTreeSet::from(FAMILIES));
        assert_eq!(chosen.len(), FAMILIES.len());
    }

    #[test]
    fn an_unknown_name_is_refused() {
        assert!(choose(&["no-such-bug".to_owned()], false).is_err());
        let one = choose(&["stale-leader-read".to_owned()], false).expect("it exists");
        assert_eq!(one.len(), 1);
    }
}
