//! A run told for a person: what happened, in virtual time, node by node, and which promise broke.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use gridseal::falsify::{Falsify, Wrong};

use crate::case::Case;
use crate::faults::Fault;
use crate::report::Report;
use crate::timeline::{Event, Heard, Role, What};
use crate::trace::Who;

/// Requests told one by one before the first broken promise; the others are only counted.
const REQUESTS: usize = 12;
/// Lines of the trace that are shown.
const TRACE: usize = 25;

/// Tells it.
pub fn tell(case: &Case, report: &Report) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(format!("{} (seed {})", case.title, case.seed));
    if !case.about.is_empty() {
        line(case.about.clone());
    }
    line(setting(case));

    line("\nWhat happened".into());
    let broken_ms = report.violations.first().map(|violation| violation.at_ms);
    for (at_ms, who, what) in told(report, broken_ms) {
        line(format!("{} {who:<7} {what}", clock(at_ms)));
    }

    line("\nNode by node".into());
    for node in report.timeline.nodes(case.nodes) {
        line(format!("  n{node}  {}", life(report, node)));
    }
    line(format!("  clients  {}", heard(&report.timeline.events)));

    if report.violations.is_empty() {
        line("\nEvery promise held.".into());
    } else {
        line("\nWhich promise broke".into());
        for violation in &report.violations {
            line(format!(
                "{} {}: {}",
                clock(violation.at_ms),
                violation.checker,
                violation.what
            ));
        }
        line("\nThe last of the trace".into());
        for event in report.recent.iter().rev().take(TRACE).rev() {
            line(format!("  {}", shortened(event, 200)));
        }
    }
    out
}

fn setting(case: &Case) -> String {
    let many = |n: u64, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    let mut text = format!("{}, {}", many(case.nodes, "node"), many(case.clients, "client"));
    let _ = write!(
        text,
        "; all faults are over after {}",
        clock(case.duration_ms).trim()
    );
    if case.rough {
        text.push_str("; links and clocks as the seed draws them");
    }
    if case.lying_disks {
        text.push_str("; every disk lies: it says that it synced, and did not");
    }
    if let Some((node, Falsify { from, what })) = case.corrupt {
        let does = match what {
            Wrong::Books => "books",
            Wrong::Seals => "seals",
        };
        let _ = write!(
            text,
            "; the ledger of n{node} {does} wrongly from entry {from} on"
        );
    }
    if !case.mute.is_empty() {
        let _ = write!(text, "; {} left out", many(case.mute.len() as u64, "operation"));
    }
    text
}

/// What is worth a line, in order: when, who, what.
fn told(report: &Report, broken_ms: Option<u64>) -> Vec<(u64, String, String)> {
    let events = &report.timeline.events;
    let asked_by = |event: &&Event| {
        matches!(event.what, What::Attempt(_)) && broken_ms.is_some_and(|ms| event.at_ms <= ms)
    };
    let first_told = events.iter().filter(asked_by).count().saturating_sub(REQUESTS);
    let quiet_ms = events
        .iter()
        .find(|event| event.what == What::Quiet)
        .map(|event| event.at_ms);
    let mut asked = 0;
    let mut terms: BTreeMap<u64, u64> = BTreeMap::new();
    let mut lines = Vec::new();
    for event in events {
        let mut tell = |what: String| lines.push((event.at_ms, name(event.who), what));
        match &event.what {
            // What makes everything well at the end is told once.
            What::Fault(_) if quiet_ms == Some(event.at_ms) => {}
            What::Fault(fault) => tell(fault.to_string()),
            What::Aimed(node) | What::Removes(node) => tell(format!("that is n{node}")),
            What::Quiet => tell("the faults are over".into()),
            What::Up if event.at_ms > 0 => tell("starts".into()),
            What::Stopped(why) if matches!(event.who, Who::Node(_)) => {
                tell(format!("stops by itself: {}", shortened(why, 160)))
            }
            What::Role {
                role: Role::Leads,
                term,
            } => {
                // Each term has one leader; the same one is told once.
                let Who::Node(node) = event.who else { continue };
                if terms.insert(*term, node) != Some(node) {
                    tell(format!("leads in term {term}"));
                }
            }
            What::Sync { failed: true, .. } => tell("a sync fails".into()),
            What::Alarm(why) => tell(format!("raises an alarm: {}", shortened(why, 160))),
            What::Attempt(attempt) if broken_ms.is_some_and(|ms| event.at_ms <= ms) => {
                asked += 1;
                if asked > first_told {
                    let heard = match &attempt.heard {
                        Heard::Done => "it is done".into(),
                        Heard::Refused(status, code) => format!("no: {status} {code}"),
                        Heard::Unsure(status) => format!("it can't say: {status}"),
                        Heard::Silence => "nothing".into(),
                    };
                    tell(format!(
                        "{} asked n{} {}, and hears: {heard}",
                        attempt.key, attempt.node, attempt.action
                    ));
                }
            }
            _ => {}
        }
    }
    let broken = report.violations.iter().map(|violation| {
        (
            violation.at_ms,
            "!".to_owned(),
            format!(
                "{} is broken: {}",
                violation.checker,
                shortened(&violation.what, 160)
            ),
        )
    });
    lines.extend(broken);
    lines.sort_by_key(|(at_ms, ..)| *at_ms);
    lines
}

/// A node's life in a sentence.
fn life(report: &Report, node: u64) -> String {
    let mut starts: u64 = 0;
    let (mut kills, mut stops, mut led_ms, mut down_ms, mut paused_ms) = (0_u64, 0_u64, 0, 0, 0);
    let (mut failed, mut slow) = (0_u64, 0_u64);
    let mut leads_since = None;
    let mut down_since = None;
    let mut certified = None;
    let end_ms = report.timeline.events.last().map_or(0, |event| event.at_ms);
    for event in report.timeline.of(node) {
        match &event.what {
            What::Up => {
                starts += 1;
                down_ms += down_since.take().map_or(0, |since| event.at_ms - since);
            }
            What::Down | What::Stopped(_) => {
                down_since = Some(event.at_ms);
                led_ms += leads_since.take().map_or(0, |since: u64| event.at_ms - since);
                if event.what == What::Down {
                    kills += 1
                } else {
                    stops += 1
                }
            }
            What::Paused(until) => paused_ms += until - event.at_ms,
            What::Role {
                role: Role::Leads, ..
            } => {
                leads_since.get_or_insert(event.at_ms);
            }
            What::Role { .. } => led_ms += leads_since.take().map_or(0, |since| event.at_ms - since),
            What::Sync { failed: true, .. } => failed += 1,
            What::Sync { .. } => slow += 1,
            What::Certified(index, head) => certified = Some((*index, *head)),
            _ => {}
        }
    }
    down_ms += down_since.map_or(0, |since| end_ms - since);
    led_ms += leads_since.map_or(0, |since| end_ms - since);
    let mut parts = vec![format!("led {}", clock(led_ms).trim())];
    let mut add = |n: u64, text: String| {
        if n > 0 {
            parts.push(text);
        }
    };
    add(kills, format!("killed {kills} ×"));
    add(stops, format!("stopped by itself {stops} ×"));
    add(
        starts.saturating_sub(1),
        format!("restarted {} ×", starts.saturating_sub(1)),
    );
    add(down_ms, format!("down for {}", clock(down_ms).trim()));
    add(paused_ms, format!("paused for {}", clock(paused_ms).trim()));
    add(failed, format!("{failed} failed syncs"));
    add(slow, format!("{slow} slow syncs"));
    if let Some((index, head)) = certified {
        parts.push(match index == head {
            true => format!("certified to its end, block {head}"),
            false => format!("certified to block {index} of {head}"),
        });
    }
    parts.join(", ")
}

fn heard(events: &[Event]) -> String {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for event in events {
        if let What::Attempt(attempt) = &event.what {
            let heard = match attempt.heard {
                Heard::Done => "done",
                Heard::Refused(..) => "refused",
                Heard::Unsure(_) => "unsure",
                Heard::Silence => "never answered",
            };
            *counts.entry(heard).or_default() += 1;
        }
    }
    let total: u64 = counts.values().sum();
    let parts: Vec<String> = counts.iter().map(|(what, n)| format!("{n} {what}")).collect();
    format!("{total} requests: {}", parts.join(", "))
}

fn name(who: Who) -> String {
    match who {
        Who::World => String::new(),
        Who::Node(id) => format!("n{id}"),
        Who::Clients => "client".into(),
    }
}

/// Seconds, with three digits and in a column.
fn clock(ms: u64) -> String {
    format!("{:>5}.{:03} s", ms / 1_000, ms % 1_000)
}

/// The beginning of a text, if it is too long.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    let line = text.lines().next().unwrap_or("");
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// What a fault is, in a word or two, for a picture.
pub(crate) fn label(fault: &Fault) -> String {
    let words = fault.name().replace('-', " ");
    match fault {
        Fault::Partition(side) => format!(
            "{words} {}",
            side.iter().map(|n| format!("n{n}")).collect::<Vec<_>>().join(" ")
        ),
        Fault::OneWay(a, b) | Fault::Link(a, b, _) => format!("{words} n{a}→n{b}"),
        Fault::Cut(a, b) => format!("{words} n{a}–n{b}"),
        _ => words,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::timeline::{Attempt, Timeline};
    use checkers::Violation;

    fn event(at_ms: u64, who: Who, what: What) -> Event {
        Event { at_ms, who, what }
    }

    #[test]
    fn a_story_says_what_happened_to_whom_and_what_broke() {
        let n1 = Who::Node(1);
        let attempt = |key: &str, heard| {
            What::Attempt(Attempt {
                key: key.into(),
                node: 1,
                action: "balancing.seal".into(),
                asked_ms: 4_000,
                heard,
            })
        };
        let events = vec![
            event(0, n1, What::Up),
            event(
                700,
                n1,
                What::Role {
                    role: Role::Leads,
                    term: 1,
                },
            ),
            event(4_100, Who::Clients, attempt("c1-7", Heard::Done)),
            event(
                5_000,
                Who::World,
                What::Fault(Fault::Crash {
                    node: 1,
                    silent: false,
                    loss: None,
                }),
            ),
            event(5_000, n1, What::Down),
            event(7_500, n1, What::Up),
            event(9_000, Who::Clients, attempt("c1-8", Heard::Silence)),
        ];
        let report = Report {
            seed: 9,
            ok: false,
            trace: String::new(),
            events: 0,
            virtual_s: 9.0,
            wall_s: 0.1,
            violations: vec![Violation {
                at_ms: 8_000,
                checker: "durability",
                what: "c1-7 is gone".into(),
            }],
            counts: BTreeMap::new(),
            story: Vec::new(),
            reached: BTreeMap::new(),
            faults: BTreeMap::new(),
            timeline: Timeline { events },
            recent: vec!["   8.000 n1 the last".into()],
        };
        let case = Case {
            title: "a lesson".into(),
            seed: 9,
            nodes: 1,
            clients: 1,
            ..Case::default()
        };
        let expected = "\
a lesson (seed 9)
1 node, 1 client; all faults are over after 30.000 s

What happened
    0.700 s n1      leads in term 1
    4.100 s client  c1-7 asked n1 balancing.seal, and hears: it is done
    5.000 s         n1 is killed; the page cache stays
    7.500 s n1      starts
    8.000 s !       durability is broken: c1-7 is gone

Node by node
  n1  led 4.300 s, killed 1 ×, restarted 1 ×, down for 2.500 s
  clients  2 requests: 1 done, 1 never answered

Which promise broke
    8.000 s durability: c1-7 is gone

The last of the trace
     8.000 n1 the last
";
        assert_eq!(tell(&case, &report), expected);
    }
}
