//! What happened, event by event, in virtual time: hashed, so that two runs can be compared to the byte, and
//! the newest part kept, so that a failure can be told.
//!
//! Every log line of every node goes in (through [`Layer`]), and so does all that the simulated network and
//! disks do. One trace at a time belongs to a thread; without one, recording does nothing.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io::Write as _;

use sha2::{Digest, Sha256};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::Context;

/// Lines kept for the story of a failure.
const KEPT: usize = 400;

thread_local! {
    static CURRENT: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

struct Trace {
    hash: Sha256,
    now_ms: u64,
    who: Who,
    line: String,
    recent: VecDeque<String>,
    events: u64,
    log: Option<Box<dyn std::io::Write>>,
}

/// On whose behalf something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The simulated world itself.
    World,
    /// A node, by its number.
    Node(u64),
    /// The clients' machine.
    Clients,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::World => f.write_str("world"),
            Who::Node(id) => write!(f, "n{id}"),
            Who::Clients => f.write_str("client"),
        }
    }
}

/// What a finished trace says.
#[derive(Clone, Debug)]
pub struct Summary {
    /// SHA-256 over all events, in hexadecimal.
    pub digest: String,
    /// How many there were.
    pub events: u64,
    /// The last of them.
    pub recent: Vec<String>,
}

/// Begins a trace on this thread, replacing any other. Every line is copied to `log`, if there is one.
pub fn begin(log: Option<Box<dyn std::io::Write>>) {
    CURRENT.with(|current| {
        *current.borrow_mut() = Some(Trace {
            hash: Sha256::new(),
            now_ms: 0,
            who: Who::World,
            line: String::new(),
            recent: VecDeque::with_capacity(KEPT),
            events: 0,
            log,
        });
    });
}

/// Ends the trace of this thread.
pub fn end() -> Option<Summary> {
    let mut trace = CURRENT.with(|current| current.borrow_mut().take())?;
    if let Some(log) = &mut trace.log {
        let _ = log.flush();
    }
    Some(Summary {
        digest: hex::encode(trace.hash.finalize()),
        events: trace.events,
        recent: trace.recent.into(),
    })
}

/// From here on, what happens happens at this time and on this behalf.
pub fn enter(now_ms: u64, who: Who) {
    CURRENT.with(|current| {
        if let Some(trace) = &mut *current.borrow_mut() {
            trace.now_ms = now_ms;
            trace.who = who;
        }
    });
}

/// Virtual time in milliseconds, and on whose behalf this thread acts.
pub fn current() -> (u64, Who) {
    CURRENT.with(|current| {
        current
            .borrow()
            .as_ref()
            .map_or((0, Who::World), |trace| (trace.now_ms, trace.who))
    })
}

/// Adds an event.
pub fn record(what: fmt::Arguments<'_>) {
    add(true, |line| line.write_fmt(what));
}

fn add(hashed: bool, write: impl FnOnce(&mut String) -> fmt::Result) {
    CURRENT.with(|current| {
        // A value that logs while it is printed would come here again: its inner line is dropped, alike in
        // every run.
        let Ok(mut current) = current.try_borrow_mut() else {
            return;
        };
        let Some(trace) = &mut *current else { return };
        let mut line = std::mem::take(&mut trace.line);
        line.clear();
        // Writing to a string fails only if a value's own formatting does; what it wrote until then counts.
        let _ = write!(
            line,
            "{:>4}.{:03} {} ",
            trace.now_ms / 1000,
            trace.now_ms % 1000,
            trace.who
        );
        let _ = write(&mut line);
        line.push('\n');
        if hashed {
            trace.hash.update(line.as_bytes());
            trace.events += 1;
        }
        if let Some(log) = &mut trace.log {
            let _ = log.write_all(line.as_bytes());
        }
        let mut kept = if trace.recent.len() < KEPT {
            String::with_capacity(line.len())
        } else {
            trace.recent.pop_front().unwrap_or_default()
        };
        kept.clear();
        kept.push_str(line.trim_end());
        trace.recent.push_back(kept);
        trace.line = line;
    });
}

/// Feeds log lines of the code under test into the trace. Spans are not part of it: they say where, not what.
/// openraft's lines are kept for the story but not hashed: they print the real machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layer;

impl<S: Subscriber> tracing_subscriber::Layer<S> for Layer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let meta = event.metadata();
        add(!meta.target().starts_with("openraft"), |line| {
            write!(line, "{} {}:", meta.level(), meta.target())?;
            event.record(&mut Fields(line));
            Ok(())
        });
    }
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(last: &str) -> Summary {
        begin(None);
        enter(1_234, Who::Node(2));
        record(format_args!("one"));
        enter(1_235, Who::World);
        record(format_args!("{last}"));
        end().unwrap()
    }

    #[test]
    fn equal_events_equal_digests() {
        assert_eq!(sample("two").digest, sample("two").digest);
        assert_ne!(sample("two").digest, sample("too").digest);
        assert_eq!(sample("two").recent, ["   1.234 n2 one", "   1.235 world two"]);
    }

    #[test]
    fn recording_without_a_trace_does_nothing() {
        record(format_args!("nobody hears"));
        assert!(end().is_none());
    }
}
