//! Upstream (I4): contracts move nobody's upstream. What a sealed group passes up is what its meters measured, and what it
//! traded with those outside it.
//!
//! Asked of an asset whose descendants all have both upstreams within the group, once they are sealed with nothing
//! late, and of epochs in which no rule changed.

use std::collections::BTreeSet;

use crate::oracle::book::Book;
use crate::oracle::model::{Oracle, ROOT, Statement};

/// Follows the energy of every group and epoch through the statements of the whole log.
pub fn check(book: &Book) -> Vec<String> {
    let oracle = &book.oracle;
    let epochs: BTreeSet<u64> = oracle.statements.iter().map(|s| s.epoch).collect();
    let mut found = Vec::new();
    for group in oracle.rules.values().flat_map(|rule| [&rule.from, &rule.to]) {
        let Some(head) = group.as_deref().filter(|head| *head != ROOT) else {
            continue;
        };
        let Some(members) = descendants(oracle, head) else {
            continue;
        };
        for epoch in &epochs {
            let statements: Vec<&Statement> = oracle.of_epoch(*epoch).collect();
            let done = members
                .iter()
                .all(|member| oracle.unsealed(member, *epoch).is_empty());
            if !done || book.rules_changed_since(*epoch) {
                continue;
            }
            let (passed, expected) = flows(head, &members, &statements);
            if passed != expected {
                found.push(format!(
                    "in {epoch} {passed} Wh went from {members:?} to {head}; by meters and contracts it is {expected}"
                ));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Everyone below an asset; none if one of them has an upstream elsewhere.
fn descendants(oracle: &Oracle, head: &str) -> Option<BTreeSet<String>> {
    let mut members = BTreeSet::new();
    let mut next = oracle.downstream(head);
    while let Some(asset) = next.pop() {
        if members.insert(asset.clone()) {
            next.extend(oracle.downstream(&asset));
        }
    }
    let inside = |upstream: &Option<String>| {
        upstream
            .as_deref()
            .is_some_and(|upstream| upstream == head || members.contains(upstream))
    };
    let closed = members.iter().all(|member| {
        oracle
            .rules
            .get(member)
            .is_some_and(|rule| inside(&rule.from) && inside(&rule.to))
    });
    closed.then_some(members)
}

/// What flowed into the head from below, and what should have.
fn flows(head: &str, members: &BTreeSet<String>, statements: &[&Statement]) -> (i128, i128) {
    let (mut passed, mut expected) = (0, 0);
    for s in statements {
        let (from, to) = (members.contains(&s.from), members.contains(&s.to));
        if s.kind != "contract" {
            if from && s.to == head {
                passed += s.energy;
            }
            if to && s.from == head {
                passed -= s.energy;
            }
        }
        match (s.kind, &s.meter) {
            ("metered", Some(meter)) if members.contains(meter) => {
                expected += if s.from == *meter { s.energy } else { -s.energy };
            }
            ("contract", _) if to && !from => expected += s.energy,
            ("contract", _) if from && !to => expected -= s.energy,
            _ => {}
        }
    }
    (passed, expected)
}
