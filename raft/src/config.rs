//! What a replica is told at its start. Nothing here changes while it runs.

use std::time::Duration;

/// Everything that one replica must be told. [`Config::new`] fills in defaults that suit three nodes on
/// one busy machine as well as five on a local network.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node's id within the group. An id belongs to one disk for good: a node that lost its disk
    /// must come back under a new id, because it may have voted and forgotten it.
    pub node_id: u64,
    /// The group's identity. Peers, segments and snapshots of another group are refused.
    pub cluster_id: [u8; 32],
    /// Where peers connect to, as [`crate::Network::listen`] understands it (`host:port` for TCP; port 0
    /// picks a free one, see [`crate::Replica::listen_addr`]).
    pub listen: String,
    /// Seeds all of this replica's randomness (election timeouts, the name of a new disk). Draw it from the
    /// operating system in production, and differently on each node and at each start: equal seeds would time
    /// out together, and an emptied disk would be given the name of the one it replaces.
    pub seed: u64,
    /// Heartbeats, elections and deadlines.
    pub timing: Timing,
    /// When snapshots are taken and how much log stays behind them.
    pub snapshots: SnapshotPolicy,
    /// Sizes of the log on disk and in memory.
    pub log: LogPolicy,
}

impl Config {
    /// A configuration with the defaults of [`Timing`], [`SnapshotPolicy`] and [`LogPolicy`].
    pub fn new(node_id: u64, cluster_id: [u8; 32], listen: impl Into<String>, seed: u64) -> Self {
        Config {
            node_id,
            cluster_id,
            listen: listen.into(),
            seed,
            timing: Timing::default(),
            snapshots: SnapshotPolicy::default(),
            log: LogPolicy::default(),
        }
    }

    /// What openraft is told, or what makes no sense.
    pub(crate) fn to_openraft(&self) -> Result<openraft::Config, String> {
        let Timing {
            heartbeat,
            election_min,
            election_max,
            ..
        } = self.timing;
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        if heartbeat < Duration::from_millis(5) {
            return Err(format!("a heartbeat of {heartbeat:?} is too short"));
        }
        if self.log.max_payload_bytes > 256 << 20 || self.log.max_batch_bytes > 256 << 20 {
            return Err("payloads and batches are limited to 256 MiB".into());
        }
        if self.log.segment_bytes < 4 << 10 {
            return Err(format!(
                "a log segment of {} bytes is too small",
                self.log.segment_bytes
            ));
        }
        let snapshot_policy = match self.snapshots.every_entries {
            0 => openraft::SnapshotPolicy::Never,
            every => openraft::SnapshotPolicy::LogsSinceLast(every),
        };
        let config = openraft::Config {
            heartbeat_interval: millis(heartbeat),
            election_timeout_min: millis(election_min),
            election_timeout_max: millis(election_max),
            snapshot_policy,
            // The supervisor says what goes.
            max_in_snapshot_log_to_keep: u64::MAX,
            max_payload_entries: 1024,
            // Only whether a learner counts as caught up when someone waits for that; nobody here does.
            replication_lag_threshold: u64::MAX,
            install_snapshot_timeout: millis(self.timing.snapshot_chunk),
            backoff: "50ms 100ms 200ms ...1s".into(),
            // A node that can't win must not depose a leader that serves.
            enable_pre_vote: Some(true),
            // A leader that comes back within its own term may have replicated what it had not synced: one
            // log id would name two commands. It has to be elected again.
            enable_leader_restore: Some(planted!("leader-restored")),
            ..openraft::Config::default()
        };
        config.validate().map_err(|e| e.to_string())
    }
}

/// Heartbeats, elections, deadlines.
///
/// A follower protects the leader it heard from for `election_max`, and stands for election when after that it
/// heard nothing for another `election_min..election_max`. So a leader that falls silent is replaced after about twice
/// `election_max`, and one that stalls for less than `election_max + election_min` stays. A leader whose process ends
/// is not silent: its port refuses, and it is replaced at once.
///
/// Syncs of 50 ms don't count: a request renews the timer when it arrives, not when it is on disk.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Between two heartbeats of a leader. Default 50 ms.
    pub heartbeat: Duration,
    /// Shortest silence before an election, beyond `election_max`. Default 250 ms.
    pub election_min: Duration,
    /// Longest silence before an election, beyond itself. Default 350 ms.
    pub election_max: Duration,
    /// Until a peer must have accepted a connection and said hello. Default 500 ms.
    pub connect: Duration,
    /// Until a peer must have answered the oldest open append; covers its sync. Default 2 s: long enough
    /// for a slow disk, while liveness is watched by the heartbeats, not by this.
    pub append: Duration,
    /// Until one chunk of a snapshot must be accepted, and the last one installed. Default 10 s.
    pub snapshot_chunk: Duration,
    /// After which [`crate::Replica::propose`] answers `Unknown`. Default 5 s.
    pub propose: Duration,
    /// After which [`crate::Replica::read_barrier`] gives up. Default 2 s.
    pub read: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(250),
            election_max: Duration::from_millis(350),
            connect: Duration::from_millis(500),
            append: Duration::from_secs(2),
            snapshot_chunk: Duration::from_secs(10),
            propose: Duration::from_secs(5),
            read: Duration::from_secs(2),
        }
    }
}

/// When to take snapshots and how much log to keep behind them.
///
/// A snapshot is taken as soon as *either* bound is reached since the last one. Log is purged only when the
/// snapshot that covers it is durable; a follower that needs purged log catches up by snapshot.
#[derive(Debug, Clone)]
pub struct SnapshotPolicy {
    /// Entries applied since the last snapshot. Default 20,000. 0 means never by count.
    pub every_entries: u64,
    /// Payload bytes applied since the last snapshot, or half the size of that snapshot if it is more: so that no more
    /// than twice as much is written for snapshots as for the log. Default 256 MiB. 0 means never by size.
    pub every_bytes: u64,
    /// Entries that stay in the log behind a snapshot, so that a follower that was away for a moment needs
    /// no snapshot. Default 2,000.
    pub keep_entries: u64,
    /// Payload bytes that stay at most, however few entries they are. Default 256 MiB.
    pub keep_bytes: usize,
    /// Bytes of one chunk on the wire. Default 256 KiB.
    pub chunk_bytes: usize,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        SnapshotPolicy {
            every_entries: 20_000,
            every_bytes: 256 << 20,
            keep_entries: 2_000,
            keep_bytes: 256 << 20,
            chunk_bytes: 256 << 10,
        }
    }
}

/// Sizes of the log on disk and in memory.
#[derive(Debug, Clone)]
pub struct LogPolicy {
    /// Bytes of one segment file, allocated at once. An entry larger than this gets a segment of its own.
    /// Default 16 MiB.
    pub segment_bytes: u64,
    /// Payload bytes of entries kept in memory for replication and apply; older ones are read back from
    /// their segments. Default 16 MiB.
    pub cache_bytes: usize,
    /// Largest payload that [`crate::Replica::propose`] accepts. Default 8 MiB.
    pub max_payload_bytes: usize,
    /// Payload bytes of one append to a peer, and of one batch handed to the machine. A single larger
    /// entry still travels, alone. Default 2 MiB.
    pub max_batch_bytes: usize,
}

impl Default for LogPolicy {
    fn default() -> Self {
        LogPolicy {
            segment_bytes: 16 << 20,
            cache_bytes: 16 << 20,
            max_payload_bytes: 8 << 20,
            max_batch_bytes: 2 << 20,
        }
    }
}
