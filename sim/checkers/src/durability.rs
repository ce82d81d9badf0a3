//! Durability and exactly once: what was acknowledged stands in the journal once; what was refused does not; what has
//! no known outcome at most once, and all of its batch or nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::history::{History, Outcome};

/// Looks for what clients reported in the journals that nodes show in the end.
pub fn check(history: &History) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    for (node, shown) in &history.shown {
        // How often each label stands in the journal of its own meter.
        let mut booked: BTreeMap<(&str, &str), Vec<&Value>> = BTreeMap::new();
        for ((asset, _), journal) in &shown.journals {
            for statement in journal["statements"].as_array().into_iter().flatten() {
                let own = statement["kind"] == "metered" && statement["meter"] == **asset;
                if let Some(label) = statement["label"].as_str().filter(|_| own) {
                    booked.entry((asset, label)).or_default().push(statement);
                }
            }
        }
        for operation in &history.operations {
            let times: Vec<usize> = operation
                .settles
                .iter()
                .map(|s| {
                    booked
                        .get(&(s.meter.as_str(), s.label.as_str()))
                        .map_or(0, Vec::len)
                })
                .collect();
            let right = match &operation.outcome {
                Outcome::Done => times.iter().all(|n| *n == 1),
                Outcome::Refused(..) => times.iter().all(|n| *n == 0),
                Outcome::Unknown => times.iter().all(|n| *n == 0) || times.iter().all(|n| *n == 1),
            };
            if !right {
                let labels = operation.settles.iter().map(|s| s.label.as_str());
                let what = format!(
                    "on n{node}, of {} settlements, {}; the outcome is {:?}",
                    times.len(),
                    in_short(labels.zip(&times)),
                    operation.outcome
                );
                found.push((operation.ended.ms, what));
            }
            for settled in &operation.settles {
                for statement in booked
                    .get(&(settled.meter.as_str(), settled.label.as_str()))
                    .into_iter()
                    .flatten()
                {
                    if statement["energy"].as_u64() != Some(settled.consumption.unsigned_abs())
                        || statement["epoch"].as_u64() != Some(settled.epoch)
                    {
                        found.push((
                            operation.ended.ms,
                            format!("on n{node} {settled:?} is booked as {statement}"),
                        ));
                    }
                }
            }
        }
        let known = history
            .operations
            .iter()
            .flat_map(|operation| &operation.settles)
            .map(|s| (s.meter.as_str(), s.label.as_str()));
        let known: BTreeSet<(&str, &str)> = known.collect();
        for (meter, label) in booked.keys().filter(|reported| !known.contains(*reported)) {
            found.push((
                0,
                format!("n{node} has booked {label} for {meter}, which nobody reported"),
            ));
        }
    }
    found
}

/// How often labels are booked, with two examples of each number: a large batch would fill pages.
fn in_short<'a>(booked: impl Iterator<Item = (&'a str, &'a usize)>) -> String {
    let mut by_times: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for (label, times) in booked {
        by_times.entry(*times).or_default().push(label);
    }
    let told = by_times.iter().map(|(times, labels)| {
        let (first, rest) = labels.split_at(labels.len().min(2));
        let more = match rest.len() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        format!("{first:?}{more} are booked {times} times")
    });
    told.collect::<Vec<_>>().join(", ")
}
