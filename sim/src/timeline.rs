//! What is worth drawing and telling of a run: who lived, who led, which disks were in trouble, what clients asked,
//! how far the certificates reached.
//!
//! Kept beside the [`crate::trace`], which has everything but as text: this is the part that a report, a story and the
//! expectations of a scenario are made of. One timeline at a time belongs to a thread; without one, noting does
//! nothing. It never reaches the code under test, and takes time and author from the trace.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::faults::Fault;
use crate::trace::{self, Who};

/// Syncs that take less are no trouble.
const SLOW_SYNC_MS: u64 = 20;

/// Something worth telling.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A fault struck.
    Fault(Fault),
    /// Whom a fault aimed at the leader has met.
    Aimed(u64),
    /// Whom the admin removes, told to remove the leader.
    Removes(u64),
    /// No fault strikes from here on.
    Quiet,
    /// A process begins.
    Up,
    /// A process is killed, or its machine loses its power.
    Down,
    /// A process ends by itself, and why.
    Stopped(String),
    /// A process does nothing until then, in milliseconds.
    Paused(u64),
    /// What a node takes itself for.
    Role {
        /// What it does in the group.
        role: Role,
        /// In which term.
        term: u64,
    },
    /// A sync that took so many milliseconds, or failed.
    Sync {
        /// How long.
        ms: u64,
        /// With an I/O error.
        failed: bool,
    },
    /// A node shows the newest block certified at this log index, its newest block being the second.
    Certified(u64, u64),
    /// A node raises an alarm.
    Alarm(String),
    /// A client asked something of a node.
    Attempt(Attempt),
    /// A client heard of a seal: whose, of when, and which.
    Sealed(String, u64, u64),
}

/// What a node takes itself for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It orders the log.
    Leads,
    /// It knows who does.
    Follows,
    /// It knows of no leader.
    Seeks,
}

/// A request of a client and what became of it. The event's time is the answer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The operation's idempotency key.
    pub key: String,
    /// Which node was asked.
    pub node: u64,
    /// `service.action`.
    pub action: String,
    /// Virtual milliseconds when it was asked.
    pub asked_ms: u64,
    /// What was heard.
    pub heard: Heard,
}

/// What a client heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is done.
    Done,
    /// It is refused: HTTP's number and the code.
    Refused(u16, String),
    /// The node can't say: HTTP's number.
    Unsure(u16),
    /// Nothing at all.
    Silence,
}

/// An event: virtual milliseconds, whose, what.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, in virtual milliseconds.
    pub at_ms: u64,
    /// On whose behalf.
    pub who: Who,
    /// What.
    pub what: What,
}

/// All events of a run, in the order in which they happened.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// In order of time.
    pub events: Vec<Event>,
}

impl Timeline {
    /// How often each kind of fault struck.
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for event in &self.events {
            if let What::Fault(fault) = &event.what {
                *counts.entry(fault.name()).or_default() += 1;
            }
        }
        counts
    }

    /// The founders and those who joined, in order.
    pub fn nodes(&self, founders: u64) -> Vec<u64> {
        let mut nodes: BTreeSet<u64> = (1..=founders).collect();
        nodes.extend(self.events.iter().filter_map(|event| match event.what {
            What::Fault(Fault::Join(node)) => Some(node),
            _ => None,
        }));
        nodes.into_iter().collect()
    }

    /// The events of a node.
    pub fn of(&self, node: u64) -> impl Iterator<Item = &Event> {
        self.events
            .iter()
            .filter(move |event| event.who == Who::Node(node))
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Timeline>> = const { RefCell::new(None) };
}

/// Begins a timeline on this thread, replacing any other.
pub fn begin() {
    CURRENT.with(|current| *current.borrow_mut() = Some(Timeline::default()));
}

/// Ends the timeline of this thread.
pub fn end() -> Timeline {
    CURRENT
        .with(|current| current.borrow_mut().take())
        .unwrap_or_default()
}

/// Adds an event, here and now as the trace has it.
pub fn note(what: What) {
    let (at_ms, who) = trace::current();
    CURRENT.with(|current| {
        if let Some(timeline) = &mut *current.borrow_mut() {
            timeline.events.push(Event { at_ms, who, what });
        }
    });
}

/// How often a node's process has begun.
pub fn starts(node: u64) -> usize {
    let begins = |event: &&Event| event.who == Who::Node(node) && event.what == What::Up;
    CURRENT.with(|current| {
        let current = current.borrow();
        let events = current.iter().flat_map(|timeline| &timeline.events);
        events.filter(begins).count()
    })
}

/// Notes a sync, if it was trouble.
pub fn sync(ms: u64, failed: bool) {
    if failed || ms >= SLOW_SYNC_MS {
        note(What::Sync { ms, failed });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_go_to_the_timeline_of_their_thread_in_order() {
        note(What::Up);
        begin();
        trace::begin(None);
        trace::enter(7, Who::Node(2));
        note(What::Up);
        sync(SLOW_SYNC_MS - 1, false);
        sync(1, true);
        trace::enter(9, Who::World);
        note(What::Fault(Fault::Heal));
        trace::end();
        let timeline = end();
        assert_eq!(timeline.events.len(), 3);
        assert_eq!(timeline.of(2).count(), 2);
        assert_eq!(timeline.faults(), BTreeMap::from([("heal", 1)]));
        assert!(end().events.is_empty());
    }
}
