//! Exactly once: what a client was told of an operation is what the committed log did with it, and the log did it once;
//! whoever asks again is told the same again.

use std::collections::BTreeMap;

use crate::history::{History, Outcome};
use crate::oracle::digest;
use crate::oracle::entry::Nonce;
use crate::oracle::judge::Judgement;

/// The nonce that every gateway makes of an idempotency key.
fn nonce(key: &str) -> Nonce {
    let mut nonce = Nonce::default();
    nonce.copy_from_slice(&digest::digest("idempotency-key", key.as_bytes())[..16]);
    nonce
}

/// Compares what clients were told when they asked again.
pub fn repeated(history: &History) -> Vec<(u64, String)> {
    let differing = history
        .repeats
        .iter()
        .filter(|repeat| repeat.first != repeat.again);
    differing
        .map(|repeat| {
            (
                repeat.at_ms,
                format!("asked once more, it was answered otherwise: {repeat:?}"),
            )
        })
        .collect()
}

/// Compares what clients were told with what the log did under the same nonce.
pub fn check<S>(history: &History, judgement: &Judgement<S>) -> Vec<(u64, &'static str, String)> {
    let mut done: BTreeMap<Nonce, Vec<(u64, Option<&str>)>> = BTreeMap::new();
    for (nonce, index, code) in &judgement.first_answers {
        done.entry(*nonce).or_default().push((*index, code.as_deref()));
    }
    let mut found = Vec::new();
    for operation in history.operations.iter().filter(|operation| operation.keyed) {
        let first = done.get(&nonce(&operation.key)).map_or(&[][..], Vec::as_slice);
        let wrong = match (&operation.outcome, first) {
            (_, [_, _, ..]) => Some(("exactly once", "was done more than once")),
            (Outcome::Done, []) => Some(("durability", "was acknowledged, and is not in the log")),
            (Outcome::Done, [(_, Some(_))]) => {
                Some(("exactly once", "was acknowledged, and refused in the log"))
            }
            (Outcome::Refused(..), [(_, None)]) => Some(("exactly once", "was refused, and done in the log")),
            (Outcome::Refused(_, told), [(_, Some(code))]) if told != code => {
                Some(("exactly once", "was refused otherwise in the log"))
            }
            _ => None,
        };
        if let Some((checker, what)) = wrong {
            let what = format!(
                "{} {} {what}: it was told {:?}, the log says {first:?}",
                operation.key, operation.action, operation.outcome
            );
            found.push((operation.ended.ms, checker, what));
        }
    }
    found
}
