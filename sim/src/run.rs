//! One run around a scenario: trace, log lines, panics, wall time.

use std::cell::RefCell;
use std::io;
use std::sync::Once;

use checkers::Violation;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

use crate::report::Report;
use crate::trace::{self, Who};
use crate::{timeline, watchdog};

/// What of the code under test is traced: all of ours, and of openraft what it warns of. Its other lines cost
/// more than the run itself and say little that the network and disk events don't show.
const TRACED: &str = "gridseal=debug,raft=debug,ledger=debug,sim=debug,openraft=warn";

thread_local! {
    static PANICS: RefCell<Option<Vec<Violation>>> = const { RefCell::new(None) };
}

/// How to run a scenario.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// The scenario's seed.
    pub seed: u64,
    /// Whether a report is wanted as JSON, should the run have to be given up; see [`watchdog`].
    pub json: bool,
    /// Which log lines go into the trace, as `target=level,…`; by default all of ours.
    pub traced: Option<String>,
    /// Where all events are written as well.
    pub log: Option<std::path::PathBuf>,
}

impl Around {
    /// The usual, around a scenario of this seed.
    pub fn of(seed: u64, json: bool) -> Self {
        Around {
            seed,
            json,
            ..Around::default()
        }
    }
}

/// Runs a scenario, traced. A panic anywhere in it is a violation.
///
/// # Errors
/// The scenario can't be run at all: a bad filter, a log that can't be written, no runtime.
pub fn run(around: &Around, scenario: impl FnOnce() -> io::Result<Report>) -> io::Result<Report> {
    catch_panics();
    let filter: Targets = around
        .traced
        .as_deref()
        .unwrap_or(TRACED)
        .parse()
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, format!("trace filter: {e}")))?;
    let log: Option<Box<dyn io::Write>> = match &around.log {
        Some(path) => Some(Box::new(io::LineWriter::new(std::fs::File::create(path)?))),
        None => None,
    };
    #[expect(clippy::disallowed_methods, reason = "wall time is reported, never acted on")]
    let began = std::time::Instant::now();
    let watchdog = watchdog::begin(around.seed, around.json);
    trace::begin(log);
    timeline::begin();
    PANICS.with(|panics| *panics.borrow_mut() = Some(Vec::new()));
    let subscriber = tracing_subscriber::registry().with(filter).with(trace::Layer);
    let result = tracing::subscriber::with_default(subscriber, scenario);
    drop(watchdog);
    let panics = PANICS
        .with(|panics| panics.borrow_mut().take())
        .unwrap_or_default();
    let summary = trace::end();
    let timeline = timeline::end();
    let mut report = result?;
    report.violations.extend(panics);
    let Some(summary) = summary else {
        return Err(io::Error::other("the scenario ended its own trace"));
    };
    report.faults = timeline.faults();
    report.timeline = timeline;
    report.finish(summary, began.elapsed().as_secs_f64());
    Ok(report)
}

/// Notes panics of this thread while a scenario runs; others go where they went before.
fn catch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let (at_ms, who) = trace::current();
            let what = format!("{who}: {info}");
            let noted = PANICS.with(|panics| match panics.try_borrow_mut() {
                Ok(mut panics) => panics.as_mut().map(|panics| {
                    panics.push(Violation {
                        at_ms,
                        checker: "panic",
                        what: what.clone(),
                    });
                }),
                Err(_) => None,
            });
            trace::record(format_args!("PANIC {what}"));
            // A panic of the simulator itself ends the run without a report: it must be seen.
            if noted.is_none() || who == Who::World {
                before(info);
            }
        }));
    });
}
