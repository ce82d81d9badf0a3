//! What admins do while clients work and faults strike: members come and go, leaders hand over, snapshots are taken by
//! hand, keys are replaced, processes restarted, a build is tried that is too new. Each with its own stream of chance.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::{Fault, Plan};
use crate::disk::Loss;
use crate::rng::{PerMillion, Rng};

/// A cluster has at least so many voters,
const FEWEST: usize = 3;
/// and at most so many.
const MOST: usize = 7;

/// Adds what this seed has of them to a plan.
pub(super) fn more(plan: &mut Plan, seed: u64, nodes: u64, end_ms: u64) {
    if nodes < 3 {
        return;
    }
    let start_ms = 3_000.min(end_ms / 4);
    let last = end_ms.saturating_sub(1).max(start_ms);
    // A disk that is lost takes one voter away. Those who join may not have caught up when others are removed.
    let stay = if plan.at_risk().is_empty() {
        FEWEST - 1
    } else {
        FEWEST
    };
    let steps = &mut plan.steps;
    let draw = |class: &str, percent: u32, add: &mut dyn FnMut(&mut Rng)| {
        let rng = &mut Rng::fork(seed, &format!("operations of class {class}"));
        if rng.chance(PerMillion::percent(percent)) {
            add(rng);
        }
    };
    draw("membership", 50, &mut |rng| {
        membership(rng, nodes, stay, start_ms..=last, steps);
    });
    draw("transfers", 50, &mut |rng| {
        for _ in 0..rng.within(1..=4) {
            steps.push((
                rng.within(start_ms..=last),
                Fault::Transfer(rng.within(1..=nodes)),
            ));
        }
    });
    draw("snapshots", 50, &mut |rng| {
        for _ in 0..rng.within(1..=4) {
            steps.push((
                rng.within(start_ms..=last),
                Fault::Snapshot(rng.within(1..=nodes)),
            ));
        }
    });
    draw("rolling restart", 30, &mut |rng| {
        let mut at = rng.within(start_ms..=last);
        for node in 1..=nodes {
            steps.push((at.min(last), Fault::Restart(node)));
            at += rng.within(500..=4_000);
        }
    });
    draw("keys", 50, &mut |rng| {
        let at = rng.within(start_ms..=last);
        let node = rng.within(1..=nodes);
        steps.push((at, Fault::RotateKey(node)));
        // It goes on signing with the old key for a while.
        steps.push(((at + rng.within(0..=5_000)).min(last), Fault::Restart(node)));
    });
    draw("newer builds", 30, &mut |rng| {
        let at = rng.within(start_ms..=last);
        let node = rng.within(1..=nodes);
        steps.push((at, Fault::NewerBuild(node, true)));
        let back = (at + rng.within(500..=10_000)).min(end_ms);
        steps.push((back, Fault::NewerBuild(node, false)));
    });
}

/// Members come and go, one change after the other and sometimes in one another's way, between three voters and seven;
/// so many founders `stay`.
fn membership(
    rng: &mut Rng,
    nodes: u64,
    stay: usize,
    span: RangeInclusive<u64>,
    steps: &mut Vec<(u64, Fault)>,
) {
    let (start_ms, last_ms) = (*span.start(), *span.end());
    let mut voters: BTreeSet<u64> = (1..=nodes).collect();
    let mut founders = voters.len();
    let mut learners = BTreeSet::new();
    let mut next = nodes + 1;
    // Which one goes when the leader does can't be known, so no other is named after that.
    let mut named = true;
    // Some seeds mostly grow, some mostly shrink.
    let grows = PerMillion::percent(*rng.pick(&[25, 50, 75]));
    let mut at = rng.within(start_ms..=last_ms);
    for _ in 0..rng.within(1..=6) {
        if at > last_ms {
            break;
        }
        let fewest = voters.len() <= FEWEST || founders <= stay;
        if fewest && voters.len() >= MOST {
            break;
        }
        if fewest || (voters.len() < MOST && rng.chance(grows)) {
            join(rng, next, at, last_ms, steps);
            // Some learners stay learners.
            if rng.chance(PerMillion::percent(75)) {
                let promoted = (at + rng.within(0..=5_000)).min(last_ms);
                steps.push((promoted, Fault::Promote(next)));
                voters.insert(next);
            } else {
                learners.insert(next);
            }
            next += 1;
        } else if !named || rng.chance(PerMillion::percent(30)) {
            steps.push((at, Fault::RemoveLeader));
            voters.pop_last();
            founders -= 1;
            named = false;
        } else {
            let all: Vec<u64> = voters.union(&learners).copied().collect();
            let node = *rng.pick(&all);
            remove(rng, node, at, last_ms, steps);
            founders -= usize::from(node <= nodes);
            voters.remove(&node);
            learners.remove(&node);
        }
        at += rng.within(300..=6_000);
    }
}

/// A node joins, and is killed now and then while it takes its first snapshot.
fn join(rng: &mut Rng, node: u64, at: u64, last_ms: u64, steps: &mut Vec<(u64, Fault)>) {
    steps.push((at, Fault::Join(node)));
    if rng.chance(PerMillion::percent(30)) {
        let crash = Fault::Crash {
            node,
            silent: false,
            loss: Some(Loss::Some),
        };
        let killed = (at + rng.within(50..=2_000)).min(last_ms);
        steps.push((killed, crash));
        steps.push(((killed + rng.within(1..=2_000)).min(last_ms), Fault::Start(node)));
    }
}

/// A node is removed; sometimes it can't hear of it, and stands for election when it is back among the others.
fn remove(rng: &mut Rng, node: u64, at: u64, last_ms: u64, steps: &mut Vec<(u64, Fault)>) {
    steps.push((at, Fault::Remove(node)));
    if rng.chance(PerMillion::percent(40)) {
        let before = at.saturating_sub(rng.within(1..=200));
        steps.push((before, Fault::Partition([node].into())));
        steps.push(((at + rng.within(1_000..=5_000)).min(last_ms), Fault::Heal));
    }
}

/// See [`Plan::add_joiner`].
pub(super) fn joiner(plan: &mut Plan, seed: u64, nodes: u64) {
    let rng = &mut Rng::fork(seed, "the joiner");
    let node = plan.joiners().last().copied().unwrap_or(nodes) + 1;
    let last = plan.quiet_from_ms.saturating_sub(1);
    let mut at = rng.within(3_000..=9_000);
    for (what, percent) in [
        (Fault::Join(node), 100),
        (Fault::Promote(node), 80),
        (Fault::RotateKey(node), 80),
    ] {
        if at > last || !rng.chance(PerMillion::percent(percent)) {
            return;
        }
        plan.steps.push((at, what));
        at += rng.within(1_000..=6_000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_grow_to_seven_and_shrink_to_three_and_name_who_is_there() {
        let (mut grown, mut shrunk, mut with) = (0, 0, 0);
        for seed in 0..300 {
            let plan = Plan::draw_with_operations(seed, 5, 30_000);
            assert!(plan.steps.is_sorted_by_key(|(at, _)| *at));
            assert!(
                plan.steps.iter().all(|(at, _)| *at <= plan.quiet_from_ms),
                "seed {seed}"
            );
            let joiners = plan.joiners();
            let orders = plan.orders();
            let count = |kind: fn(&Fault) -> bool| orders.iter().filter(|(_, fault)| kind(fault)).count();
            let promoted = count(|fault| matches!(fault, Fault::Promote(_)));
            let removed = count(|fault| matches!(fault, Fault::Remove(_) | Fault::RemoveLeader));
            grown += usize::from(promoted == 2 && removed == 0);
            shrunk += usize::from(promoted == 0 && removed == 2);
            with += usize::from(!orders.is_empty());
            let founders_gone = removed - count(|fault| matches!(fault, Fault::Remove(node) if *node > 5));
            let stay = if plan.at_risk().is_empty() { 2 } else { 3 };
            assert!(5 - founders_gone >= stay, "seed {seed}");
            for (_, fault) in &orders {
                if let Fault::Promote(node) | Fault::Remove(node) = fault {
                    assert!(*node <= 5 || joiners.contains(node), "seed {seed}: {fault}");
                }
            }
        }
        assert!(
            grown > 3 && shrunk > 3,
            "{grown} seeds only grow to seven, {shrunk} only shrink to three"
        );
        assert!((200..300).contains(&with), "{with} of 300 seeds have orders");
    }

    #[test]
    fn a_key_is_in_use_in_the_end() {
        let mut plan = Plan {
            steps: vec![(3_000, Fault::Restart(2)), (5_000, Fault::RotateKey(2))],
            quiet_from_ms: 9_000,
        };
        plan.finish(3);
        assert!(
            plan.steps.contains(&(9_000, Fault::Restart(2))),
            "{:?}",
            plan.steps
        );
        let once = plan.steps.clone();
        plan.finish(3);
        assert_eq!(plan.steps, once, "finished again it is the same");
    }

    #[test]
    fn a_damaged_archive_is_read_in_the_end() {
        let restarts = |after: Option<Fault>| {
            let damaged = (3_000, Fault::DamageArchive(2));
            let mut plan = Plan {
                steps: [damaged]
                    .into_iter()
                    .chain(after.map(|fault| (4_000, fault)))
                    .collect(),
                quiet_from_ms: 9_000,
            };
            plan.finish(3);
            plan.steps.contains(&(9_000, Fault::Restart(2)))
        };
        assert!(restarts(None));
        assert!(!restarts(Some(Fault::Restart(2))), "it was read since");
        assert!(restarts(Some(Fault::Restart(1))), "that is another's");
    }
}
