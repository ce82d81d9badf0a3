//! What a scenario is expected to show, as sentences that a file and a person read alike.

use std::collections::BTreeSet;
use std::fmt;

use super::Case;
use crate::faults::Fault;
use crate::faults::duration::{duration, read_duration};
use crate::report::Report;
use crate::timeline::{Attempt, Event, Heard, Role, What};
use crate::trace::Who;

/// After a cut, how long a node may still acknowledge what had been agreed before, in milliseconds.
const GRACE_MS: u64 = 1_000;

/// All sentences, with their gaps.
pub const SENTENCES: [&str; 14] = [
    "every promise holds",
    "breaks CHECKER",
    "no acknowledged write is lost",
    "every node shows the same",
    "every block is certified",
    "leader within TIME of heal",
    "minority refuses writes",
    "node N acknowledges writes between TIME and TIME",
    "node N acknowledges no writes between TIME and TIME",
    "alarm on node N",
    "node N stops",
    "node N catches up within TIME",
    "node N leads at TIME",
    "at least N of COUNT",
];

/// An expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing more than what is always checked.
    Promises,
    /// This checker finds something, and no other does.
    Breaks(String),
    /// Durability holds.
    NothingLost,
    /// Agreement holds.
    Agreement,
    /// Every node shows its newest block certified in the end.
    Certified,
    /// So long after the last heal, most nodes follow one leader.
    Leader(u64),
    /// While a cut lasts, no node on its smaller side acknowledges a write.
    MinorityRefuses,
    /// A node does, or does not, acknowledge writes that were asked of it within these milliseconds.
    Acknowledges {
        /// Which node.
        node: u64,
        /// Whether it does.
        yes: bool,
        /// From when.
        from_ms: u64,
        /// Until when.
        to_ms: u64,
    },
    /// A node raises an alarm.
    Alarm(u64),
    /// A process of a node ends by itself.
    Stops(u64),
    /// So long after its last start, a node shows the newest block it knows certified.
    CatchesUp(u64, u64),
    /// Most nodes follow this one at this time.
    Leads(u64, u64),
    /// A figure of the report is at least so much.
    AtLeast(u64, String),
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expect::Promises => f.write_str("every promise holds"),
            Expect::Breaks(checker) => write!(f, "breaks {checker}"),
            Expect::NothingLost => f.write_str("no acknowledged write is lost"),
            Expect::Agreement => f.write_str("every node shows the same"),
            Expect::Certified => f.write_str("every block is certified"),
            Expect::Leader(ms) => write!(f, "leader within {} of heal", duration(*ms)),
            Expect::MinorityRefuses => f.write_str("minority refuses writes"),
            Expect::Acknowledges {
                node,
                yes,
                from_ms,
                to_ms,
            } => {
                let no = if *yes { "" } else { "no " };
                let (from, to) = (duration(*from_ms), duration(*to_ms));
                write!(f, "node {node} acknowledges {no}writes between {from} and {to}")
            }
            Expect::Alarm(node) => write!(f, "alarm on node {node}"),
            Expect::Stops(node) => write!(f, "node {node} stops"),
            Expect::CatchesUp(node, ms) => write!(f, "node {node} catches up within {}", duration(*ms)),
            Expect::Leads(node, ms) => write!(f, "node {node} leads at {}", duration(*ms)),
            Expect::AtLeast(n, of) => write!(f, "at least {n} of {of}"),
        }
    }
}

impl Expect {
    /// Reads a sentence about a cluster of so many founders, in which these nodes are `known`.
    ///
    /// # Errors
    /// It is none of [`SENTENCES`], or a gap is filled wrongly.
    pub fn read(sentence: &str, nodes: u64, known: &dyn Fn(u64) -> bool) -> Result<Self, String> {
        let node = |text: &str| match text.parse() {
            Ok(node) if known(node) => Ok(node),
            _ => Err(format!(
                "`{sentence}`: expected a node, 1 to {nodes} or one that joins, not `{text}`"
            )),
        };
        let time = |text: &str| read_duration(text).map_err(|e| format!("`{sentence}`: {e}"));
        let words: Vec<&str> = sentence.split_whitespace().collect();
        Ok(match words[..] {
            ["every", "promise", "holds"] => Expect::Promises,
            ["breaks", _, ..] => Expect::Breaks(words[1..].join(" ")),
            ["no", "acknowledged", "write", "is", "lost"] => Expect::NothingLost,
            ["every", "node", "shows", "the", "same"] => Expect::Agreement,
            ["every", "block", "is", "certified"] => Expect::Certified,
            ["leader", "within", within, "of", "heal"] => Expect::Leader(time(within)?),
            ["minority", "refuses", "writes"] => Expect::MinorityRefuses,
            ["node", n, "acknowledges", "writes", "between", from, "and", to] => Expect::Acknowledges {
                node: node(n)?,
                yes: true,
                from_ms: time(from)?,
                to_ms: time(to)?,
            },
            [
                "node",
                n,
                "acknowledges",
                "no",
                "writes",
                "between",
                from,
                "and",
                to,
            ] => Expect::Acknowledges {
                node: node(n)?,
                yes: false,
                from_ms: time(from)?,
                to_ms: time(to)?,
            },
            ["alarm", "on", "node", n] => Expect::Alarm(node(n)?),
            ["node", n, "stops"] => Expect::Stops(node(n)?),
            ["node", n, "catches", "up", "within", within] => Expect::CatchesUp(node(n)?, time(within)?),
            ["node", n, "leads", "at", at] => Expect::Leads(node(n)?, time(at)?),
            ["at", "least", n, "of", _, ..] => {
                let n = n
                    .parse()
                    .map_err(|_| format!("`{sentence}`: expected a number, not `{n}`"))?;
                Expect::AtLeast(n, words[4..].join(" "))
            }
            _ => {
                return Err(format!(
                    "`{sentence}` is not understood; expected one of: {}",
                    SENTENCES.join("; ")
                ));
            }
        })
    }

    /// The checker that is expected to find something.
    pub fn broken(&self) -> Option<&str> {
        match self {
            Expect::Breaks(checker) => Some(checker),
            _ => None,
        }
    }

    /// Whether it is met; if not, why.
    ///
    /// # Errors
    /// Why it is not met.
    pub fn judge(&self, case: &Case, report: &Report) -> Result<(), String> {
        let events = &report.timeline.events;
        let holds = |checker: &str| match report
            .violations
            .iter()
            .find(|violation| violation.checker == checker)
        {
            Some(violation) => Err(violation.what.clone()),
            None => Ok(()),
        };
        let met = |is: bool, why: &str| if is { Ok(()) } else { Err(why.to_owned()) };
        match self {
            Expect::Promises => Ok(()),
            Expect::Breaks(checker) => met(holds(checker).is_err(), "that checker found nothing"),
            Expect::NothingLost => holds("durability"),
            Expect::Agreement => holds("agreement"),
            Expect::Certified => certified(case, events),
            Expect::Leader(ms) => {
                let healed = events
                    .iter()
                    .rev()
                    .find(|event| matches!(event.what, What::Fault(Fault::Heal) | What::Quiet));
                let at_ms = healed.map_or(0, |event| event.at_ms) + ms;
                led_at(case, events, at_ms).map(drop)
            }
            Expect::Leads(node, at_ms) => match led_at(case, events, *at_ms)? {
                leader if leader == *node => Ok(()),
                leader => Err(format!("n{leader} does")),
            },
            Expect::MinorityRefuses => minority(case, events),
            Expect::Acknowledges {
                node,
                yes,
                from_ms,
                to_ms,
            } => {
                let done = acknowledged(events, *node, *from_ms, *to_ms);
                match (done, yes) {
                    (Some(attempt), false) => Err(format!(
                        "{} was, asked at {}",
                        attempt.key,
                        duration(attempt.asked_ms)
                    )),
                    (None, true) => Err("none was acknowledged".into()),
                    _ => Ok(()),
                }
            }
            Expect::Alarm(node) => {
                let raised = report
                    .timeline
                    .of(*node)
                    .any(|event| matches!(event.what, What::Alarm(_)));
                met(raised, "it raised none")
            }
            Expect::Stops(node) => {
                let stopped = report
                    .timeline
                    .of(*node)
                    .any(|event| matches!(event.what, What::Stopped(_)));
                met(stopped, "it never did")
            }
            Expect::CatchesUp(node, ms) => {
                let ups = report.timeline.of(*node).filter(|event| event.what == What::Up);
                let up_ms = ups.map(|event| event.at_ms).last().unwrap_or(0);
                let caught_up = report.timeline.of(*node).any(|event| {
                    matches!(event.what, What::Certified(index, head) if index == head)
                        && (up_ms..=up_ms + ms).contains(&event.at_ms)
                });
                met(caught_up, "it showed no chain certified to its end by then")
            }
            Expect::AtLeast(n, of) => {
                let mut counts = report.counts.iter().chain(&report.reached);
                match counts.find(|(what, _)| **what == of.as_str()) {
                    Some((_, found)) if found >= n => Ok(()),
                    Some((_, found)) => Err(format!("there were {found}")),
                    None => {
                        let counts = report.counts.keys().chain(report.reached.keys());
                        let known: Vec<&str> = counts.copied().collect();
                        Err(format!("there were none; the report counts {}", known.join(", ")))
                    }
                }
            }
        }
    }
}

/// A write is what is no read.
fn is_write(action: &str) -> bool {
    !matches!(
        action,
        "balancing.journal" | "balancing.proof" | "cluster.status" | "cluster.blocks" | "contract.list"
    )
}

/// The first write that was asked of a node within this time and acknowledged.
fn acknowledged(events: &[Event], node: u64, from_ms: u64, to_ms: u64) -> Option<&Attempt> {
    events.iter().find_map(|event| match &event.what {
        What::Attempt(attempt)
            if attempt.node == node
                && attempt.heard == Heard::Done
                && is_write(&attempt.action)
                && attempt.asked_ms >= from_ms
                && event.at_ms <= to_ms =>
        {
            Some(attempt)
        }
        _ => None,
    })
}

/// Whom most nodes follow at this time.
fn led_at(case: &Case, events: &[Event], at_ms: u64) -> Result<u64, String> {
    let mut roles = std::collections::BTreeMap::new();
    for event in events.iter().take_while(|event| event.at_ms <= at_ms) {
        match (&event.what, event.who) {
            (What::Role { role, term }, Who::Node(id)) => {
                roles.insert(id, (*term, *role));
            }
            (What::Down | What::Stopped(_), Who::Node(id)) => {
                roles.remove(&id);
            }
            _ => {}
        }
    }
    let term = roles.values().map(|(term, _)| *term).max().unwrap_or(0);
    let of_term = |role: Role| roles.values().filter(|now| **now == (term, role)).count();
    let (leaders, followers) = (of_term(Role::Leads), of_term(Role::Follows));
    let leader = roles.iter().find(|(_, now)| **now == (term, Role::Leads));
    let leader = leader.map_or(0, |(node, _)| *node);
    match leaders == 1 && (followers + 1) * 2 > members(case, events, at_ms).len() {
        true => Ok(leader),
        false => Err(format!(
            "at {} the nodes' terms and roles were {roles:?}",
            duration(at_ms)
        )),
    }
}

fn certified(case: &Case, events: &[Event]) -> Result<(), String> {
    let excused = case.options().plan.unwrap_or_default().damaged();
    for node in members(case, events, u64::MAX)
        .into_iter()
        .filter(|node| !excused.contains(node) && case.corrupt.is_none_or(|(bad, _)| bad != *node))
    {
        let last = events.iter().rev().find_map(|event| match event.what {
            What::Certified(index, head) if event.who == Who::Node(node) => Some((index, head)),
            _ => None,
        });
        match last {
            Some((index, head)) if index == head => {}
            Some((index, head)) => {
                return Err(format!(
                    "n{node} shows block {index} certified, and {head} is its newest"
                ));
            }
            None => return Err(format!("n{node} shows no certified block")),
        }
    }
    Ok(())
}

/// Who should be a member at this time, as far as admins had said.
fn members(case: &Case, events: &[Event], at_ms: u64) -> BTreeSet<u64> {
    let mut members: BTreeSet<u64> = (1..=case.nodes).collect();
    for event in events.iter().take_while(|event| event.at_ms <= at_ms) {
        match event.what {
            What::Fault(Fault::Join(node)) => {
                members.insert(node);
            }
            What::Fault(Fault::Remove(node)) | What::Removes(node) => {
                members.remove(&node);
            }
            _ => {}
        }
    }
    members
}

fn minority(case: &Case, events: &[Event]) -> Result<(), String> {
    let mut cuts = 0;
    for (i, event) in events.iter().enumerate() {
        let side: Vec<u64> = match &event.what {
            What::Fault(Fault::Partition(side)) => {
                let members = members(case, events, event.at_ms);
                let small = side.intersection(&members).count() * 2 < members.len();
                let members = members.into_iter();
                members.filter(|node| side.contains(node) == small).collect()
            }
            What::Aimed(leader) => vec![*leader],
            _ => continue,
        };
        cuts += 1;
        let healed = events[i..]
            .iter()
            .find(|later| matches!(later.what, What::Fault(Fault::Heal) | What::Quiet));
        let until = healed.map_or(u64::MAX, |healed| healed.at_ms);
        for node in side {
            if let Some(attempt) = acknowledged(events, node, event.at_ms + GRACE_MS, until) {
                let asked = duration(attempt.asked_ms);
                return Err(format!("n{node} acknowledged {}, asked at {asked}", attempt.key));
            }
        }
    }
    if cuts == 0 {
        Err("there was no minority".into())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_read_back() {
        for sentence in [
            "every promise holds",
            "breaks linearizable reads",
            "no acknowledged write is lost",
            "every node shows the same",
            "every block is certified",
            "leader within 3s of heal",
            "minority refuses writes",
            "node 2 acknowledges writes between 5s and 1500ms",
            "node 2 acknowledges no writes between 5s and 9s",
            "alarm on node 3",
            "node 1 stops",
            "node 4 catches up within 10s",
            "node 2 leads at 12s",
            "at least 100 of answered by a retry",
        ] {
            assert_eq!(
                Expect::read(sentence, 5, &|node| node <= 5).unwrap().to_string(),
                sentence
            );
        }
        for wrong in [
            "",
            "luck",
            "alarm on node 6",
            "leader within 3 of heal",
            "at least many of done",
        ] {
            assert!(
                Expect::read(wrong, 5, &|node| node <= 5)
                    .unwrap_err()
                    .contains("expected"),
                "{wrong}"
            );
        }
    }

    fn event(at_ms: u64, who: Who, what: What) -> Event {
        Event { at_ms, who, what }
    }

    fn attempt(at_ms: u64, node: u64, asked_ms: u64, heard: Heard) -> Event {
        let attempt = Attempt {
            key: "c1-1".into(),
            node,
            action: "balancing.seal".into(),
            asked_ms,
            heard,
        };
        event(at_ms, Who::Clients, What::Attempt(attempt))
    }

    #[test]
    fn a_minority_that_acknowledges_is_found_and_only_that() {
        let case = Case::default();
        let cut = event(5_000, Who::World, What::Fault(Fault::Partition([1, 2].into())));
        let heal = event(9_000, Who::World, What::Fault(Fault::Heal));
        let judge = |asked: Event| minority(&case, &[cut.clone(), asked, heal.clone()]);
        assert!(judge(attempt(7_500, 1, 7_000, Heard::Done)).is_err());
        assert!(
            judge(attempt(7_500, 3, 7_000, Heard::Done)).is_ok(),
            "the majority may"
        );
        assert!(
            judge(attempt(7_500, 1, 5_100, Heard::Done)).is_ok(),
            "it was agreed before the cut"
        );
        assert!(
            judge(attempt(9_500, 1, 7_000, Heard::Done)).is_ok(),
            "it was agreed after the heal"
        );
        assert!(judge(attempt(7_500, 1, 7_000, Heard::Silence)).is_ok());
        assert!(minority(&case, &[heal]).is_err(), "no cut shows nothing");
    }

    #[test]
    fn one_leader_with_most_nodes_behind_it() {
        let case = Case {
            nodes: 3,
            ..Case::default()
        };
        let role = |at, node, role, term| event(at, Who::Node(node), What::Role { role, term });
        let good = [
            role(1, 1, Role::Leads, 2),
            role(2, 2, Role::Follows, 2),
            role(3, 3, Role::Seeks, 2),
        ];
        assert!(led_at(&case, &good, 3).is_ok());
        assert!(led_at(&case, &good, 1).is_err(), "no one follows yet");
        let newer = [good[0].clone(), good[1].clone(), role(3, 3, Role::Seeks, 3)];
        assert!(led_at(&case, &newer, 3).is_err(), "a newer term has no leader");
        let dead = [
            good[0].clone(),
            good[1].clone(),
            event(3, Who::Node(1), What::Down),
        ];
        assert!(led_at(&case, &dead, 3).is_err(), "the leader is dead");
    }
}
