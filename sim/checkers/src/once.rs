//! Exactly once: what a client was told of an operation is what the committed log did with it, and the log did it once;
//! whoever asks again is told the same again.

use std::collections::BTreeMap;

use crate::history::{History, Operation, Outcome};
use crate::oracle::digest;
use crate::oracle::entry::Nonce;
use crate::oracle::judge::{FirstAnswer, Judgement};

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
    let mut done: BTreeMap<Nonce, Vec<&FirstAnswer>> = BTreeMap::new();
    for first in &judgement.first_answers {
        done.entry(first.nonce).or_default().push(first);
    }
    let mut found = Vec::new();
    for operation in history.operations.iter().filter(|operation| operation.keyed) {
        let first = done.get(&nonce(&operation.key)).map_or(&[][..], Vec::as_slice);
        let wrong = match (&operation.outcome, first) {
            (_, [_, _, ..]) => Some(("exactly once", "was done more than once".to_owned())),
            (Outcome::Done, []) => Some(("durability", "was acknowledged, and is not in the log".to_owned())),
            (Outcome::Done, [FirstAnswer { code: Some(_), .. }]) => Some((
                "exactly once",
                "was acknowledged, and refused in the log".to_owned(),
            )),
            (Outcome::Done, [first]) => otherwise(operation, first).map(|what| ("answers", what)),
            (Outcome::Refused(..), [FirstAnswer { code: None, .. }]) => {
                Some(("exactly once", "was refused, and done in the log".to_owned()))
            }
            (Outcome::Refused(_, told), [FirstAnswer { code: Some(code), .. }]) if told != code => {
                Some(("exactly once", "was refused otherwise in the log".to_owned()))
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

/// In what the answer to something that was done tells otherwise than the log.
fn otherwise(operation: &Operation, first: &FirstAnswer) -> Option<String> {
    let told = operation.told.as_ref()?;
    if told.index.is_some_and(|index| index != first.index) {
        return Some(format!("was said to be done by entry {:?}", told.index));
    }
    if told.words != first.words {
        return Some(format!("was answered {:?}", told.words));
    }
    let settles = operation.settles.len() as u64;
    if told.accepted.is_some_and(|accepted| accepted != settles) {
        return Some(format!(
            "booked {settles} settlements and was told of {:?}",
            told.accepted
        ));
    }
    let differs = told.differs.as_ref()?;
    Some(format!("was shown a contract of which {differs}"))
}
