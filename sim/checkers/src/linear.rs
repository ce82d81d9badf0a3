//! Linearizability: the reads and writes of each journal can be put in one order that keeps to real time and in which
//! every read shows exactly what was written before it.
//!
//! The search is Wing and Gong's in Lowe's form, by a maintained library. Journals only grow, so their final content
//! says in which order writes took effect: a write is legal at its own place only, which keeps the search short. A
//! write without an answer stays open for ever; one that is not in the end either never happened.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use todc_utils::linearizability::history::Action::{self, Call, Response};
use todc_utils::{History as Actions, Specification, WGLChecker};

use crate::history::{History, Moment, Outcome};

/// A journal as a list that grows: all its state is how long it is.
struct Growing;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    /// Adds so many, being the ones that stand at this place in the end; none, if they don't.
    Append { at: Option<usize>, count: usize },
    /// Shows the first so many.
    Read { len: usize },
}

impl Specification for Growing {
    type State = usize;
    type Operation = Op;

    fn init() -> usize {
        0
    }

    fn apply(op: &Op, len: &usize) -> (bool, usize) {
        match *op {
            Op::Append { at, count } if at == Some(*len) => (true, len + count),
            Op::Append { .. } => (false, *len),
            Op::Read { len: shown } => (shown == *len, *len),
        }
    }
}

type Journal<'a> = (&'a str, u64);

/// What happened to one journal: from when until when (`None`: open), and what.
type Operations = Vec<(Moment, Option<Moment>, Op)>;

/// Looks for an order of what happened to each journal.
pub fn check(history: &History) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    let mut journals: BTreeMap<Journal<'_>, Operations> = BTreeMap::new();
    let finals = last_contents(history);
    for operation in &history.operations {
        let touched: BTreeSet<Journal<'_>> = operation
            .settles
            .iter()
            .map(|s| (s.meter.as_str(), s.epoch))
            .collect();
        for journal in touched {
            let settles = operation
                .settles
                .iter()
                .filter(|s| (s.meter.as_str(), s.epoch) == journal);
            let labels: Vec<&str> = settles.map(|s| s.label.as_str()).collect();
            let Some(content) = finals.get(&journal) else {
                continue;
            };
            let at = content.windows(labels.len()).position(|window| window == labels);
            let ended = match operation.outcome {
                Outcome::Done => Some(operation.ended),
                Outcome::Unknown if at.is_some() => None,
                Outcome::Unknown | Outcome::Refused(..) => continue,
            };
            let append = Op::Append {
                at,
                count: labels.len(),
            };
            journals
                .entry(journal)
                .or_default()
                .push((operation.asked, ended, append));
        }
    }
    for read in &history.reads {
        let journal = (read.asset.as_str(), read.epoch);
        let Some(content) = finals.get(&journal) else {
            continue;
        };
        if content.starts_with(&read.labels.iter().map(String::as_str).collect::<Vec<_>>()) {
            if read.local {
                // It shows what is committed; from when, it doesn't say.
                continue;
            }
            let op = Op::Read {
                len: read.labels.len(),
            };
            journals
                .entry(journal)
                .or_default()
                .push((read.asked, Some(read.answered), op));
        } else {
            let what = format!(
                "n{} shows {:?} for {journal:?}, and in the end there is {content:?}",
                read.node, read.labels
            );
            found.push((read.answered.ms, what));
        }
    }
    for ((asset, epoch), operations) in journals {
        if !is_linearizable(operations.clone()) {
            let (at_ms, what) = explain((asset, epoch), operations);
            found.push((at_ms, what));
        }
    }
    found
}

/// The labels of each asset's own metered statements, as all nodes show them in the end; those of a meter below it are
/// in its journal, too.
fn last_contents(history: &History) -> BTreeMap<Journal<'_>, Vec<&str>> {
    let Some(shown) = history.shown.values().next() else {
        return BTreeMap::new();
    };
    shown
        .journals
        .iter()
        .map(|((asset, epoch), journal)| {
            let statements = journal["statements"].as_array().map_or(&[][..], Vec::as_slice);
            let own = |s: &&Value| s["kind"] == "metered" && s["meter"] == *asset;
            let metered = statements.iter().filter(own);
            (
                (asset.as_str(), *epoch),
                metered.filter_map(|s| s["label"].as_str()).collect(),
            )
        })
        .collect()
}

fn is_linearizable(operations: Operations) -> bool {
    // (when, calls before responses) so that what touches in one moment counts as concurrent.
    let never = Moment {
        ms: u64::MAX,
        place: u64::MAX,
    };
    let mut actions: Vec<(Moment, u8, usize, Action<Op>)> = Vec::new();
    for (process, (asked, ended, op)) in operations.into_iter().enumerate() {
        actions.push((asked, 0, process, Call(op)));
        actions.push((ended.unwrap_or(never), 1, process, Response(op)));
    }
    actions.sort_by_key(|(at, order, process, _)| (*at, *order, *process));
    WGLChecker::<Growing>::is_linearizable(Actions::from_actions(
        actions
            .into_iter()
            .map(|(_, _, process, action)| (process, action))
            .collect(),
    ))
}

/// The shortest history that is wrong already: cut off behind the answer that can't be.
fn explain(journal: Journal<'_>, operations: Operations) -> (u64, String) {
    let mut ends: Vec<Moment> = operations.iter().filter_map(|(_, ended, _)| *ended).collect();
    ends.sort_unstable();
    let upto = |end: Moment| -> Operations {
        let asked = operations.iter().filter(|(asked, ..)| *asked <= end);
        asked
            .map(|(asked, ended, op)| (*asked, ended.filter(|ended| *ended <= end), *op))
            .filter(|(_, ended, op)| {
                // A read that is not answered yet says nothing.
                ended.is_some() || matches!(op, Op::Append { at: Some(_), .. })
            })
            .collect()
    };
    let end = ends
        .iter()
        .copied()
        .find(|end| !is_linearizable(upto(*end)))
        .unwrap_or_default();
    let culprit: Vec<_> = operations
        .iter()
        .filter(|(_, ended, _)| *ended == Some(end))
        .collect();
    (
        end.ms,
        format!("the history of {journal:?} has no order: what was answered last does not fit: {culprit:?}"),
    )
}
