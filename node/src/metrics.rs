//! What a node counts, in the Prometheus text format: one registry a node, no globals, so that many nodes can live in
//! one process.
//!
//! Requests are counted as they are answered; everything else is read from the node when somebody asks, so a metric
//! can't drift from what it measures. What always holds: labels come from fixed lists (actions, statuses), so no client can
//! make a series.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::api::backend::Backend;

/// Upper bounds of the latency buckets, in seconds: from a local read to the patience of a request.
const BUCKETS: [f64; 14] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

type Number = Gauge<u64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    action: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Action {
    action: &'static str,
}

#[derive(Clone)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(BUCKETS)
    }
}

/// Where the seals of a chain have been counted to: blocks are only ever appended.
#[derive(Debug, Default)]
struct Counted {
    next: u64,
    blocks: u64,
    seals: u64,
}

/// A node's metrics.
pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    latency: Family<Action, Histogram, Buckets>,
    gauges: Gauges,
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Gauges {
    node: Number,
    leader: Number,
    leads: Number,
    term: Number,
    applied: Number,
    committed: Number,
    voters: Number,
    learners: Number,
    ready: Number,
    alarms: Number,
    pending: Number,
    backlog: Number,
    syncs: Number,
    written: Number,
    blocks: Number,
    seals: Number,
    certified: Number,
    uncertified: Number,
    now: Number,
    archived_epochs: Number,
    archived_bytes: Number,
    archive_loads: Number,
    archive_thaws: Number,
    archive_waits: Number,
    archive_damaged: Number,
    archive_mended: Number,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("gridseal");
        let requests = Family::<Request, Counter>::default();
        let latency = Family::<Action, Histogram, Buckets>::new_with_constructor(Buckets);
        let gauges = Gauges::default();
        registry.register(
            "requests",
            "HTTP requests answered, by action and status",
            requests.clone(),
        );
        registry.register_with_unit(
            "latency",
            "Time to answer a request, by action",
            Unit::Seconds,
            latency.clone(),
        );
        for (name, help, gauge) in [
            ("node", "This node's id", &gauges.node),
            ("leader", "The leader's id, 0 if none is known", &gauges.leader),
            ("is_leader", "1 on the leader", &gauges.leads),
            ("term", "The newest term seen", &gauges.term),
            ("applied_index", "Last log index applied", &gauges.applied),
            (
                "committed_index",
                "Last log index known to be committed",
                &gauges.committed,
            ),
            ("voters", "Nodes that vote", &gauges.voters),
            ("learners", "Nodes that only listen", &gauges.learners),
            ("ready", "1 if the node is ready, as /readyz says", &gauges.ready),
            ("alarms", "What this node found to be wrong", &gauges.alarms),
            (
                "pending_requests",
                "Requests waiting for their outcome",
                &gauges.pending,
            ),
            (
                "actor_backlog",
                "Log entries that the balancing actors have not worked off",
                &gauges.backlog,
            ),
            (
                "disk_syncs",
                "Syncs of files and directories since the start",
                &gauges.syncs,
            ),
            (
                "disk_written_bytes",
                "Bytes written since the start, in blocks of 4 KiB",
                &gauges.written,
            ),
            ("blocks", "Seal blocks in the chain", &gauges.blocks),
            ("seals", "Seals in those blocks", &gauges.seals),
            (
                "certified_index",
                "Log index up to which blocks are certified",
                &gauges.certified,
            ),
            (
                "uncertified_blocks",
                "Blocks without a quorum of signatures",
                &gauges.uncertified,
            ),
            (
                "archived_epochs",
                "Epochs that lie in files instead of memory",
                &gauges.archived_epochs,
            ),
            ("archived_bytes", "Bytes of those files", &gauges.archived_bytes),
            (
                "archive_loads",
                "Epochs read from files since the start",
                &gauges.archive_loads,
            ),
            (
                "archive_thaws",
                "Epochs that came back into memory for late values since the start",
                &gauges.archive_thaws,
            ),
            (
                "archive_waits",
                "Batches of entries that waited until epochs had left memory since the start",
                &gauges.archive_waits,
            ),
            (
                "archive_damaged_files",
                "Files of the archive that are damaged or gone, and that no other node has given yet",
                &gauges.archive_damaged,
            ),
            (
                "archive_mended_files",
                "Files of the archive that were fetched again from another node since the start",
                &gauges.archive_mended,
            ),
            (
                "ledger_now_milliseconds",
                "The ledger's time, since 1970",
                &gauges.now,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        Metrics {
            registry,
            requests,
            latency,
            gauges,
            counted: Mutex::default(),
        }
    }

    /// A request was answered.
    pub fn answered(&self, action: &'static str, status: u16, took: Duration) {
        self.requests.get_or_create(&Request { action, status }).inc();
        self.latency
            .get_or_create(&Action { action })
            .observe(took.as_secs_f64());
    }

    /// The metrics as text, as the node now stands.
    pub fn text(&self, backend: &dyn Backend, ready: bool) -> String {
        self.look(backend, ready);
        let mut text = String::new();
        // Writing to a string doesn't fail; a scrape without lines would be seen.
        let _ = encode(&mut text, &self.registry);
        text
    }

    fn look(&self, backend: &dyn Backend, ready: bool) {
        let status = backend.status();
        let len = |list: &[u64]| list.len() as u64;
        let gauges = &self.gauges;
        gauges.node.set(status.node);
        gauges.leader.set(status.leader.unwrap_or(0));
        gauges.leads.set((status.leader == Some(status.node)).into());
        gauges.term.set(status.term);
        gauges.committed.set(status.committed);
        gauges.voters.set(len(&status.voters));
        gauges.learners.set(len(&status.learners));
        gauges.ready.set(ready.into());
        gauges.alarms.set(status.alarms.len() as u64);
        gauges.pending.set(status.pending as u64);
        gauges.backlog.set(status.backlog);
        gauges.syncs.set(status.disk.syncs);
        gauges.written.set(status.disk.bytes);
        let archive = backend.archive();
        gauges.archived_epochs.set(archive.epochs);
        gauges.archived_bytes.set(archive.bytes);
        gauges.archive_loads.set(archive.loads);
        gauges.archive_thaws.set(archive.thaws);
        gauges.archive_waits.set(archive.waits);
        gauges.archive_damaged.set(archive.damaged);
        gauges.archive_mended.set(archive.mended);
        let ledger = backend.ledger().read();
        gauges.applied.set(ledger.applied().unwrap_or(0));
        gauges.now.set(ledger.now().get());
        gauges.certified.set(ledger.certified().unwrap_or(0));
        let first = ledger
            .certified()
            .map_or(0, |certified| certified.saturating_add(1));
        gauges
            .uncertified
            .set(ledger.blocks(first, usize::MAX).count() as u64);
        let mut counted = self.counted.lock();
        for block in ledger.blocks(counted.next, usize::MAX) {
            counted.next = block.header.index.saturating_add(1);
            counted.blocks += 1;
            counted.seals += u64::from(block.header.count);
        }
        gauges.blocks.set(counted.blocks);
        gauges.seals.set(counted.seals);
    }
}
