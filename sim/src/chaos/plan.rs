//! What is done to whom and when: drawn from the seed before the run begins.
//!
//! Each fault ends by itself after its time, and all before [`Plan::quiet_from_ms`]. Who leads is not known beforehand,
//! so a plan may say "the leader".

use std::collections::BTreeSet;
use std::fmt;

use crate::rng::{PerMillion, Rng};

/// A kind of faults, as `--faults` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// kill -9 of one, the leader, or all.
    Kill,
    /// SIGSTOP, and SIGCONT some time later.
    Stop,
    /// What a proxy between the nodes can do to connections.
    Proxy,
    /// Nodes in network namespaces: cuts and loss of packets by nftables.
    Netns,
    /// Disks of their own that lose what was not synced.
    Powercut,
    /// Syncs that fail or take long.
    Fsync,
}

impl Class {
    pub(super) const ALL: [Class; 6] = [
        Class::Kill,
        Class::Stop,
        Class::Proxy,
        Class::Netns,
        Class::Powercut,
        Class::Fsync,
    ];

    /// Reads names, and whether they were "all".
    ///
    /// # Errors
    /// An unknown name.
    pub(super) fn parse(names: &[String]) -> Result<(Vec<Class>, bool), String> {
        if names.iter().any(|name| name == "all") {
            return Ok((Self::ALL.to_vec(), true));
        }
        let mut chosen = BTreeSet::new();
        for name in names {
            let found = Self::ALL.into_iter().find(|class| class.to_string() == *name);
            chosen.insert(found.ok_or_else(|| {
                let known: Vec<String> = Self::ALL.iter().map(Class::to_string).collect();
                format!("--faults {name}: expected all, or some of {}", known.join(","))
            })?);
        }
        Ok((chosen.into_iter().collect(), false))
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Kill => "kill",
            Class::Stop => "stop",
            Class::Proxy => "proxy",
            Class::Netns => "netns",
            Class::Powercut => "powercut",
            Class::Fsync => "fsync",
        })
    }
}

/// Whom it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// This node.
    Node(u64),
    /// Whoever leads by then.
    Leader,
    /// Every node.
    All,
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whom::Node(id) => write!(f, "n{id}"),
            Whom::Leader => f.write_str("the leader"),
            Whom::All => f.write_str("every node"),
        }
    }
}

/// What is done to the links of the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Weather {
    /// These links, from the first to the second, carry nothing.
    Cut(BTreeSet<(u64, u64)>),
    /// The leader's links, both ways.
    IsolateLeader,
    /// So many milliseconds more from the first to the second.
    Delay(u64, u64, u64),
    /// So many bytes a second from the first to the second.
    Slow(u64, u64, u64),
    /// Connections of the first to the second are refused.
    Refuse(u64, u64),
    /// What is under way between two breaks, after so many more bytes.
    Reset(u64, u64, u64),
    /// So many of a hundred packets to this node are lost.
    Loss(u64, u64),
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Weather::Cut(links) => {
                f.write_str("cut:")?;
                links
                    .iter()
                    .try_for_each(|(from, to)| write!(f, " n{from}>n{to}"))
            }
            Weather::IsolateLeader => f.write_str("the leader is cut off"),
            Weather::Delay(from, to, ms) => write!(f, "n{from}>n{to} delays by {ms} ms"),
            Weather::Slow(from, to, rate) => write!(f, "n{from}>n{to} carries {rate} bytes/s"),
            Weather::Refuse(from, to) => write!(f, "n{to} refuses connections of n{from}"),
            Weather::Reset(a, b, bytes) => {
                write!(f, "connections between n{a} and n{b} reset within {bytes} bytes")
            }
            Weather::Loss(node, percent) => write!(f, "n{node} loses {percent} % of its packets"),
        }
    }
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// kill -9, and a start so many milliseconds later.
    Kill(Whom, u64),
    /// SIGSTOP for so long.
    Stop(Whom, u64),
    /// The power of the machine fails; it is on again so much later.
    PowerCut(Whom, u64),
    /// A sync fails, and the node must stop; it is started so much later.
    FailSync(Whom, u64),
    /// Each sync takes this much longer, for so long.
    SlowSync(Whom, u64, u64),
    /// Bad weather on the links, for so long.
    Weather(Weather, u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kill(whom, ms) => write!(f, "kill -9 {whom}, down for {ms} ms"),
            Fault::Stop(whom, ms) => write!(f, "SIGSTOP {whom} for {ms} ms"),
            Fault::PowerCut(whom, ms) => write!(f, "power cut of {whom}, off for {ms} ms"),
            Fault::FailSync(whom, ms) => write!(f, "a sync of {whom} fails, down for {ms} ms"),
            Fault::SlowSync(whom, by, ms) => write!(f, "syncs of {whom} take {by} ms longer for {ms} ms"),
            Fault::Weather(weather, ms) => write!(f, "{weather} for {ms} ms"),
        }
    }
}

/// What happens when.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// In order of time, in milliseconds of the run.
    pub(super) steps: Vec<(u64, Fault)>,
    /// Nothing goes wrong from here on.
    pub(super) quiet_from_ms: u64,
}

impl Plan {
    /// Draws faults of these classes for nodes 1 to `nodes`.
    pub(super) fn draw(seed: u64, nodes: u64, from_ms: u64, quiet_from_ms: u64, classes: &[Class]) -> Self {
        let rng = &mut Rng::fork(seed, "chaos");
        let mut steps = Vec::new();
        // The community is founded in peace.
        let mut at = from_ms + rng.within(2_000..=4_000);
        let mut turn = Vec::new();
        while at < quiet_from_ms && !classes.is_empty() {
            // Each class in turn, in an order drawn anew: a short run has them all.
            if turn.is_empty() {
                turn.extend(classes);
                rng.shuffle(&mut turn);
            }
            let class = turn.pop().unwrap_or(Class::Kill);
            let left = quiet_from_ms - at;
            steps.push((at, fault(rng, class, nodes, left)));
            at += rng.within(300..=4_000);
        }
        Plan { steps, quiet_from_ms }
    }
}

fn fault(rng: &mut Rng, class: Class, nodes: u64, left_ms: u64) -> Fault {
    let mut whom = |all: u32| {
        if rng.chance(PerMillion::percent(all)) {
            Whom::All
        } else if rng.chance(PerMillion::percent(35)) {
            Whom::Leader
        } else {
            Whom::Node(rng.within(1..=nodes))
        }
    };
    match class {
        Class::Kill => {
            let whom = whom(12);
            Fault::Kill(whom, time(rng, 0..=8_000, left_ms))
        }
        Class::Stop => {
            let whom = whom(5);
            Fault::Stop(whom, time(rng, 50..=6_000, left_ms))
        }
        Class::Powercut => {
            let whom = whom(25);
            Fault::PowerCut(whom, time(rng, 0..=5_000, left_ms))
        }
        Class::Fsync => {
            let whom = whom(0);
            if rng.chance(PerMillion::percent(50)) {
                Fault::FailSync(whom, time(rng, 0..=4_000, left_ms))
            } else {
                let by = rng.within(20..=400);
                Fault::SlowSync(whom, by, time(rng, 1_000..=6_000, left_ms))
            }
        }
        Class::Proxy => Fault::Weather(through_proxy(rng, nodes), time(rng, 500..=10_000, left_ms)),
        Class::Netns => {
            let weather = if rng.chance(PerMillion::percent(35)) {
                Weather::Loss(rng.within(1..=nodes), rng.within(5..=30))
            } else {
                cut(rng, nodes)
            };
            Fault::Weather(weather, time(rng, 500..=10_000, left_ms))
        }
    }
}

fn time(rng: &mut Rng, range: std::ops::RangeInclusive<u64>, left_ms: u64) -> u64 {
    rng.within(range).min(left_ms)
}

fn through_proxy(rng: &mut Rng, nodes: u64) -> Weather {
    let from = rng.within(1..=nodes);
    let to = other(rng, nodes, from);
    match rng.below(10) {
        0 => Weather::Delay(from, to, rng.within(20..=800)),
        1 => Weather::Slow(from, to, rng.within(2_000..=200_000)),
        2 => Weather::Refuse(from, to),
        3 | 4 => Weather::Reset(from, to, rng.within(0..=300)),
        _ => cut(rng, nodes),
    }
}

fn other(rng: &mut Rng, nodes: u64, than: u64) -> u64 {
    if nodes < 2 {
        return than;
    }
    1 + (than - 1 + rng.within(1..=nodes - 1)) % nodes
}

/// Any of the shapes in which networks fall apart.
fn cut(rng: &mut Rng, nodes: u64) -> Weather {
    let all: Vec<u64> = (1..=nodes).collect();
    let pairs = |apart: &dyn Fn(u64, u64) -> bool| {
        let pairs = all.iter().flat_map(|&a| all.iter().map(move |&b| (a, b)));
        Weather::Cut(pairs.filter(|&(a, b)| a != b && apart(a, b)).collect())
    };
    match rng.below(5) {
        0 => Weather::IsolateLeader,
        1 => {
            let from = rng.within(1..=nodes);
            let to = other(rng, nodes, from);
            pairs(&|a, b| (a, b) == (from, to))
        }
        // Each talks to its neighbours alone.
        2 => pairs(&|a, b| !matches!(a.abs_diff(b), 1) && a.abs_diff(b) != nodes - 1),
        // One node is the only way between two halves.
        3 => {
            let bridge = rng.within(1..=nodes);
            let half = |node: u64| node <= nodes / 2;
            pairs(&|a, b| a != bridge && b != bridge && half(a) != half(b))
        }
        _ => {
            let mut ids = all.clone();
            rng.shuffle(&mut ids);
            let side = usize::try_from(rng.within(1..=(nodes / 2).max(1))).unwrap_or(1);
            let side: BTreeSet<u64> = ids.into_iter().take(side).collect();
            pairs(&|a, b| side.contains(&a) != side.contains(&b))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_plan_and_plans_end_in_time() {
        for seed in 0..200 {
            let draw = || Plan::draw(seed, 5, 1_000, 61_000, &Class::ALL);
            let plan = draw();
            assert_eq!(plan.steps, draw().steps);
            assert!(plan.steps.is_sorted_by_key(|(at, _)| *at));
            for (at, fault) in &plan.steps {
                let (Fault::Kill(_, ms)
                | Fault::Stop(_, ms)
                | Fault::PowerCut(_, ms)
                | Fault::FailSync(_, ms)
                | Fault::SlowSync(_, _, ms)
                | Fault::Weather(_, ms)) = fault;
                assert!(
                    *at >= 3_000 && at + ms <= plan.quiet_from_ms,
                    "seed {seed}: {fault} at {at}"
                );
            }
        }
    }

    #[test]
    fn only_what_was_asked_for_is_drawn_and_all_of_it_within_half_a_minute() {
        for seed in 0..100 {
            let plan = Plan::draw(seed, 3, 0, 30_000, &[Class::Kill, Class::Netns]);
            let kills = plan
                .steps
                .iter()
                .filter(|(_, fault)| matches!(fault, Fault::Kill(..)))
                .count();
            let weather = plan.steps.iter().filter(|(_, fault)| match fault {
                Fault::Weather(weather, _) => {
                    assert!(
                        matches!(
                            weather,
                            Weather::Cut(_) | Weather::IsolateLeader | Weather::Loss(..)
                        ),
                        "seed {seed}: {weather} needs a proxy"
                    );
                    true
                }
                _ => false,
            });
            assert!(kills > 0 && kills.abs_diff(weather.count()) <= 1, "seed {seed}");
            assert_eq!(plan.steps.iter().filter(|(at, _)| *at >= 30_000).count(), 0);
        }
        assert!(Plan::draw(1, 3, 0, 30_000, &[]).steps.is_empty());
    }

    #[test]
    fn every_shape_is_drawn_and_no_node_is_cut_from_itself() {
        let rng = &mut Rng::new(1);
        let mut one_way = 0;
        for _ in 0..500 {
            if let Weather::Cut(links) = cut(rng, 5) {
                assert!(
                    links
                        .iter()
                        .all(|(a, b)| a != b && (1..=5).contains(a) && (1..=5).contains(b))
                );
                one_way += usize::from(links.len() == 1);
            }
        }
        assert!((50..200).contains(&one_way), "{one_way} of 500");
        // One node has nobody to be cut off from.
        for _ in 0..100 {
            assert!(!matches!(cut(rng, 1), Weather::Cut(links) if !links.is_empty()));
        }
    }

    #[test]
    fn names_are_read_and_wrong_ones_named() {
        let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(
            Class::parse(&names(&["stop", "kill"])),
            Ok((vec![Class::Kill, Class::Stop], false))
        );
        assert_eq!(Class::parse(&names(&["all"])), Ok((Class::ALL.to_vec(), true)));
        let error = Class::parse(&names(&["kil"])).expect_err("it is none");
        assert!(error.contains("kil:") && error.contains("powercut"), "{error}");
    }
}
