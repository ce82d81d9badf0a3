//! The rarer classes of faults, each with its own stream of chance, so that adding one here changes no other.

use std::ops::RangeInclusive;

use super::{Fault, Plan, Way};
use crate::disk::Loss;
use crate::rng::{PerMillion, Rng};

/// Adds what this seed has of them to a plan.
pub(super) fn more(plan: &mut Plan, seed: u64, nodes: u64, start_ms: u64, end_ms: u64) {
    if nodes < 3 {
        return;
    }
    let draw = |class: &str, percent: u32, add: &mut dyn FnMut(&mut Rng)| {
        let rng = &mut Rng::fork(seed, &format!("faults of class {class}"));
        if rng.chance(PerMillion::percent(percent)) {
            add(rng);
        }
    };
    let last = end_ms.saturating_sub(1).max(start_ms);
    let steps = &mut plan.steps;
    draw("partial cuts", 50, &mut |rng| {
        let at = rng.within(start_ms..=last);
        let (a, b) = two(rng, nodes);
        let fault = match rng.below(3) {
            0 => Fault::Ring,
            1 => Fault::Bridge(a),
            _ => Fault::Cut(a, b),
        };
        steps.push((at, fault));
        steps.push(((at + rng.within(500..=20_000)).min(end_ms), Fault::Heal));
    });
    draw("flapping", 20, &mut |rng| {
        let (a, _) = two(rng, nodes);
        let mut at = rng.within(start_ms..=last);
        for _ in 0..rng.within(3..=8) {
            steps.push((at.min(end_ms), Fault::Partition([a].into())));
            steps.push(((at + rng.within(100..=800)).min(end_ms), Fault::Heal));
            at += rng.within(1_000..=2_000);
        }
    });
    draw("bad ways", 50, &mut |rng| {
        for _ in 0..rng.within(1..=3) {
            let (from, to) = two(rng, nodes);
            let way = *rng.pick(&[Way::Slow, Way::Lossy, Way::Breaking]);
            let at = rng.within(start_ms..=last);
            steps.push((at, Fault::Link(from, to, way)));
            steps.push((rng.within(at..=end_ms), Fault::Link(from, to, Way::Good)));
        }
    });
    draw("slow nodes", 30, &mut |rng| {
        let (node, _) = two(rng, nodes);
        let at = rng.within(start_ms..=last);
        steps.push((at, Fault::SlowNode(node, true)));
        steps.push((rng.within(at..=end_ms), Fault::SlowNode(node, false)));
    });
    draw("crash loops", 35, &mut |rng| {
        let (mut node, _) = two(rng, nodes);
        let mut at = rng.within(start_ms..=last);
        // One machine all the time, or one after the other; back before anyone has missed it.
        let around = rng.chance(PerMillion::percent(50));
        for _ in 0..rng.within(3..=6) {
            if around {
                (node, _) = two(rng, nodes);
            }
            let loss = *rng.pick(&[None, Some(Loss::Everything), Some(Loss::Some)]);
            steps.push((
                at.min(end_ms),
                Fault::Crash {
                    node,
                    silent: false,
                    loss,
                },
            ));
            steps.push(((at + rng.within(1..=300)).min(end_ms), Fault::Start(node)));
            at += rng.within(200..=2_000);
        }
    });
    draw("blinking leaders", 35, &mut |rng| {
        let mut at = rng.within(start_ms..=last);
        for _ in 0..rng.within(2..=6) {
            steps.push((at.min(end_ms), Fault::BlinkLeader(rng.within(1..=400))));
            at += rng.within(500..=3_000);
        }
    });
    draw("full disks", 10, &mut |rng| {
        let (node, _) = two(rng, nodes);
        let at = rng.within(start_ms..=last);
        steps.push((at, Fault::FullDisk(node, true)));
        steps.push((
            (at + rng.within(1_000..=10_000)).min(end_ms),
            Fault::FullDisk(node, false),
        ));
    });
    draw("damaged disks", 30, &mut |rng| {
        let (node, other) = two(rng, nodes);
        let at = rng.within(start_ms..=last);
        steps.push((
            at,
            match rng.below(6) {
                0 | 5 => Fault::Rot(node),
                1 => Fault::Latent(node),
                2 => Fault::Misdirect(node),
                3 => Fault::EmptyDisk(node),
                _ => Fault::WrongDisk(node, other),
            },
        ));
        // Damage shows when the disk is read, which is when a process starts.
        let read = (at + rng.within(0..=5_000)).min(end_ms);
        steps.push((
            read,
            Fault::Crash {
                node,
                silent: false,
                loss: None,
            },
        ));
        steps.push(((read + rng.within(1..=3_000)).min(end_ms), Fault::Start(node)));
    });
    draw("stalled followers", 30, &mut |rng| {
        let mut at = rng.within(start_ms..=last);
        for _ in 0..rng.within(1..=4) {
            let stall = rng.pick(&STALLS_MS).clone();
            let ms = rng.within(stall).min(end_ms.saturating_sub(at));
            if ms > 0 {
                steps.push((at, Fault::StallFollowers(ms)));
            }
            at += ms + rng.within(2_000..=6_000);
        }
    });
    // A node whose archive no one can mend any more may halt for good: that is as many as a cluster bears.
    let whole = plan.damaged().is_empty();
    let steps = &mut plan.steps;
    draw("damaged archives", 20, &mut |rng| {
        if !whole {
            return;
        }
        let (node, _) = two(rng, nodes);
        // Nothing is archived before clients have worked for a while.
        let from = start_ms + (last - start_ms) / 4;
        for _ in 0..rng.within(2..=5) {
            let at = rng.within(from..=last);
            steps.push((at, Fault::DamageArchive(node)));
            // What was read before is in memory: most of it is read again only by a process that is started anew.
            if rng.chance(PerMillion::percent(70)) {
                let loss = *rng.pick(&[None, Some(Loss::Some)]);
                let read = (at + rng.within(0..=3_000)).min(end_ms);
                steps.push((
                    read,
                    Fault::Crash {
                        node,
                        silent: false,
                        loss,
                    },
                ));
                steps.push(((read + rng.within(1..=3_000)).min(end_ms), Fault::Start(node)));
            }
        }
    });
}

/// How long all but the leader pause: as long as a request may wait, by either setting of that.
const STALLS_MS: [RangeInclusive<u64>; 3] = [500..=3_000, 900..=1_500, 8_000..=13_000];

/// Two nodes that are not the same.
fn two(rng: &mut Rng, nodes: u64) -> (u64, u64) {
    let a = rng.within(1..=nodes);
    let b = 1 + (a - 1 + rng.within(1..=nodes - 1)) % nodes;
    (a, b)
}
