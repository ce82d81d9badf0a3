//! The cluster file: who the nodes are, how patient they are, what they accept.
//!
//! A [`Cluster`] that exists is a good one: [`Cluster::parse`] is the only way to read one, and it refuses what
//! could not work, naming the file, the line, the field and what was expected. Unknown keys are errors, so a
//! misspelt option is never a silent default. Every option but the nodes has a default; the `cluster.toml` at
//! the repository's root shows them all and is built into the binary ([`Cluster::shipped`]).
//!
//! Absent on purpose: keys (they are files of their own, see [`crate::identity`]), and anything that changes
//! what the ledger computes, except `epoch_ms` and `development`, which the genesis fixes for ever.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use ledger::frozen::{FreezePolicy, Held};
use serde::Deserialize;
use toml::Spanned;

/// The text of the cluster file that ships with the product.
pub const SHIPPED: &str = include_str!("../../cluster.toml");

/// Lengths of an epoch that make sense: a second to a day.
const EPOCH_MS: std::ops::RangeInclusive<u64> = 1_000..=86_400_000;

/// A validated cluster file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Where it was read from, for messages.
    pub source: String,
    /// Length of an epoch, milliseconds; fixed by the genesis.
    pub epoch_ms: u64,
    /// Whether the gateways share one key with every role; fixed by the genesis.
    pub development: bool,
    /// The nodes, by ascending id; ids and addresses are unique, and there is at least one founder.
    pub nodes: Vec<Member>,
    /// How patient the nodes are.
    pub timing: Timing,
    /// The replicated log.
    pub log: Log,
    /// What one request, and all of them, may ask for.
    pub limits: Limits,
    /// Sealing by the scheduler.
    pub seal: Sealing,
    /// What leaves memory.
    pub archive: Archiving,
}

/// One node of the cluster file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id, from 1.
    pub id: u64,
    /// `host:port` where clients reach its HTTP API.
    pub api: String,
    /// `host:port` where the other nodes reach it.
    pub peer: String,
    /// `host:port` where it listens for HTTP; `api` unless said otherwise.
    pub bind_api: String,
    /// `host:port` where it listens for peers; `peer` unless said otherwise.
    pub bind_peer: String,
    /// Whether it is a founder, named in the genesis. Others joined later.
    pub genesis: bool,
}

/// How patient the nodes are, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// Time between two heartbeats of the leader.
    pub heartbeat_ms: u64,
    /// Least time without a heartbeat after which a follower stands for election.
    pub election_min_ms: u64,
    /// The most.
    pub election_max_ms: u64,
    /// How long a request waits for its outcome before the answer is "unknown" (504).
    pub request_ms: u64,
}

/// The replicated log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Entries between two snapshots.
    pub snapshot_after_entries: u64,
    /// Bytes of entries between two snapshots, unless the last snapshot was larger; whichever comes first.
    pub snapshot_after_bytes: u64,
    /// Entries kept behind a snapshot.
    pub keep_entries: u64,
    /// Bytes of entries kept behind a snapshot, at most.
    pub keep_bytes: u64,
    /// Size of a preallocated log file, bytes.
    pub segment_bytes: u64,
}

/// What one request, and all of them together, may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest request body, bytes.
    pub body_bytes: usize,
    /// Most settlements in one request.
    pub batch: usize,
    /// Most requests waiting for their outcome on one node.
    pub pending: usize,
}

/// Sealing by the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sealing {
    /// Whether the leader seals every epoch that is over.
    pub auto: bool,
    /// Whole epochs it waits after an epoch's end.
    pub grace_epochs: u64,
}

/// What leaves memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Archiving {
    /// Sealed epochs that are older than so many go into files.
    pub after_epochs: u64,
    /// And the oldest, while more than so many seals are in memory.
    pub keep_seals: usize,
    /// And the oldest, while more statements of sealed epochs than this are in memory.
    pub keep_statements: usize,
    /// Entries wait to be applied while more seals than this are in memory and some can go,
    pub most_seals: usize,
    /// or more statements of sealed epochs.
    pub most_statements: usize,
}

impl Archiving {
    /// The same in the ledger's words.
    pub fn policy(&self) -> FreezePolicy {
        FreezePolicy {
            after_epochs: self.after_epochs,
            keep_seals: self.keep_seals,
            keep_statements: self.keep_statements,
        }
    }

    /// Whether archiving should no longer give way to what else is done: it is a quarter of the way from what is kept to
    /// the most there may be.
    pub(crate) fn is_late(&self, held: Held) -> bool {
        let late = |keep: usize, most: usize| keep + most.saturating_sub(keep) / 4;
        held.exceeds(
            late(self.keep_seals, self.most_seals),
            late(self.keep_statements, self.most_statements),
        )
    }

    /// Whether nothing should be added before something has gone.
    pub(crate) fn is_full(&self, held: Held) -> bool {
        held.exceeds(self.most_seals, self.most_statements)
    }

    /// Whether nothing should come back into memory for late values before some have been corrected. Room for as much as
    /// is kept by default there is on any machine.
    pub(crate) fn is_full_of_late(&self, held: Held) -> bool {
        let least = Self::default();
        held.exceeds(
            self.most_seals.max(least.keep_seals),
            self.most_statements.max(least.keep_statements),
        )
    }
}

impl Default for Archiving {
    fn default() -> Self {
        Self {
            after_epochs: 96,
            keep_seals: 250_000,
            keep_statements: 1_000_000,
            most_seals: 750_000,
            most_statements: 3_000_000,
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_ms: 50,
            election_min_ms: 250,
            election_max_ms: 350,
            request_ms: 10_000,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            snapshot_after_entries: 10_000,
            snapshot_after_bytes: 32 << 20,
            keep_entries: 2_000,
            keep_bytes: 256 << 20,
            segment_bytes: 32 << 20,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 8 << 20,
            batch: 10_000,
            pending: 4_096,
        }
    }
}

impl Default for Sealing {
    fn default() -> Self {
        Self {
            auto: false,
            grace_epochs: 1,
        }
    }
}

/// What is wrong with a cluster file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file, or "built-in cluster.toml".
    pub file: String,
    /// The line, from 1; 0 where the file could not be read at all.
    pub line: usize,
    /// The field, as `timing.heartbeat_ms` or `node[2].api`; empty where no one field is to blame.
    pub field: String,
    /// What was expected, and what was found.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl Cluster {
    /// Reads and checks a cluster file.
    ///
    /// # Errors
    /// If it can't be read, or as [`Cluster::parse`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let source = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&source, &text),
            Err(error) => Err(ConfigError {
                file: source,
                line: 0,
                field: String::new(),
                message: format!("can't be read: {error}"),
            }),
        }
    }

    /// The cluster that ships with the product: three nodes on this machine.
    #[must_use]
    pub fn shipped() -> Self {
        #[expect(clippy::expect_used, reason = "a test parses the very same constant")]
        Self::parse("built-in cluster.toml", SHIPPED).expect("the built-in cluster file is valid")
    }

    /// Checks the text of a cluster file; `source` names it in messages.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line and field.
    pub fn parse(source: &str, text: &str) -> Result<Self, ConfigError> {
        let at = Located { source, text };
        let file: File = toml::from_str(text).map_err(|error| at.syntax(&error))?;

        let epoch_ms = *file.epoch_ms.get_ref();
        if !EPOCH_MS.contains(&epoch_ms) {
            let message =
                format!("expected 1000 (a second) to 86400000 (a day) milliseconds, found {epoch_ms}");
            return Err(at.field(&file.epoch_ms, "epoch_ms", message));
        }
        let nodes = at.nodes(file.node)?;
        at.timing(&file.timing)?;
        at.log(&file.log)?;
        at.limits(&file.limits)?;

        Ok(Self {
            source: source.to_owned(),
            epoch_ms,
            development: file.development,
            nodes,
            timing: file.timing.into_inner(),
            log: file.log.into_inner(),
            limits: file.limits.into_inner(),
            seal: file.seal,
            archive: file.archive,
        })
    }

    /// The node with that id.
    #[must_use]
    pub fn node(&self, id: u64) -> Option<&Member> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// Ids of the founders, ascending.
    pub fn founders(&self) -> impl Iterator<Item = u64> + '_ {
        self.nodes.iter().filter(|node| node.genesis).map(|node| node.id)
    }
}

/// The file as written, before its fields are checked against each other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "default_epoch_ms")]
    epoch_ms: Spanned<u64>,
    #[serde(default)]
    development: bool,
    #[serde(default)]
    node: Vec<Spanned<Node>>,
    #[serde(default = "unplaced")]
    timing: Spanned<Timing>,
    #[serde(default = "unplaced")]
    log: Spanned<Log>,
    #[serde(default = "unplaced")]
    limits: Spanned<Limits>,
    #[serde(default)]
    seal: Sealing,
    #[serde(default)]
    archive: Archiving,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    id: Spanned<u64>,
    api: Spanned<String>,
    peer: Spanned<String>,
    bind_api: Option<Spanned<String>>,
    bind_peer: Option<Spanned<String>>,
    genesis: Option<bool>,
}

/// SPEC's default: an hour.
fn default_epoch_ms() -> Spanned<u64> {
    Spanned::new(0..0, 3_600_000)
}

fn unplaced<T: Default>() -> Spanned<T> {
    Spanned::new(0..0, T::default())
}

/// Turns byte positions into messages about lines.
struct Located<'a> {
    source: &'a str,
    text: &'a str,
}

impl Located<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = self.text.get(..offset).unwrap_or(self.text);
        before.bytes().filter(|&byte| byte == b'\n').count() + 1
    }

    fn error(&self, offset: usize, field: String, message: String) -> ConfigError {
        ConfigError {
            file: self.source.to_owned(),
            line: self.line(offset),
            field,
            message,
        }
    }

    fn field<T>(&self, value: &Spanned<T>, field: impl Into<String>, message: String) -> ConfigError {
        self.error(value.span().start, field.into(), message)
    }

    /// An error of the TOML reader: its own words, and the key that stands on that line.
    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let offset = error.span().map_or(0, |span| span.start);
        let line = self.text.lines().nth(self.line(offset) - 1).unwrap_or_default();
        let field = match line.split_once('=') {
            Some((key, _)) if !line.trim_start().starts_with('#') => key.trim().to_owned(),
            _ => line.trim().to_owned(),
        };
        let message = error.message().trim().replace('\n', ", ");
        self.error(offset, field, message)
    }

    /// The line on which `key` of the table that starts at `table` is set, or the table's own.
    fn key_in(&self, table: &std::ops::Range<usize>, key: &str) -> usize {
        let body = self.text.get(table.start..).unwrap_or_default();
        body.match_indices(key)
            .map(|(at, _)| table.start + at)
            .find(|&at| {
                let line_start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
                self.text[line_start..at].trim().is_empty()
            })
            .unwrap_or(table.start)
    }

    fn check<T>(&self, table: &Spanned<T>, name: &str, key: &str, rule: Rule) -> Result<(), ConfigError> {
        if rule.holds {
            return Ok(());
        }
        let message = format!("expected {}, found {}", rule.expected, rule.found);
        Err(self.error(self.key_in(&table.span(), key), format!("{name}.{key}"), message))
    }

    fn timing(&self, table: &Spanned<Timing>) -> Result<(), ConfigError> {
        let t = table.get_ref();
        let check = |key, rule| self.check(table, "timing", key, rule);
        check("heartbeat_ms", Rule::between(t.heartbeat_ms, 5, 60_000))?;
        let least = 2 * t.heartbeat_ms;
        check(
            "election_min_ms",
            Rule {
                holds: (least..=600_000).contains(&t.election_min_ms),
                expected: format!("at least two heartbeats ({least} ms) and at most 600000 ms"),
                found: t.election_min_ms,
            },
        )?;
        check(
            "election_max_ms",
            Rule {
                holds: t.election_max_ms > t.election_min_ms && t.election_max_ms <= 600_000,
                expected: format!(
                    "more than election_min_ms ({}), so that two nodes rarely stand at once, and at most 600000 ms",
                    t.election_min_ms
                ),
                found: t.election_max_ms,
            },
        )?;
        check("request_ms", Rule::between(t.request_ms, 100, 600_000))
    }

    fn log(&self, table: &Spanned<Log>) -> Result<(), ConfigError> {
        let log = table.get_ref();
        let check = |key, rule| self.check(table, "log", key, rule);
        check(
            "snapshot_after_entries",
            Rule::between(log.snapshot_after_entries, 1, 1_000_000_000),
        )?;
        check(
            "snapshot_after_bytes",
            Rule::between(log.snapshot_after_bytes, 1 << 20, 1 << 40),
        )?;
        check("keep_entries", Rule::between(log.keep_entries, 0, 1_000_000_000))?;
        check("keep_bytes", Rule::between(log.keep_bytes, 0, 1 << 40))?;
        check(
            "segment_bytes",
            Rule::between(log.segment_bytes, 64 << 10, 1 << 30),
        )
    }

    fn limits(&self, table: &Spanned<Limits>) -> Result<(), ConfigError> {
        let limits = table.get_ref();
        let check = |key, value, most| {
            let value = u64::try_from(value).unwrap_or(u64::MAX);
            self.check(table, "limits", key, Rule::between(value, 1, most))
        };
        check("body_bytes", limits.body_bytes, 64 << 20)?;
        check("batch", limits.batch, 1_000_000)?;
        check("pending", limits.pending, 1_000_000)
    }

    fn nodes(&self, nodes: Vec<Spanned<Node>>) -> Result<Vec<Member>, ConfigError> {
        let mut ids = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        let mut members = Vec::with_capacity(nodes.len());
        for (position, node) in nodes.into_iter().enumerate() {
            let name = |key: &str| format!("node[{}].{key}", position + 1);
            let node = node.into_inner();
            let id = *node.id.get_ref();
            if id == 0 || !ids.insert(id) {
                let message = format!("expected an id from 1 that no other node has, found {id}");
                return Err(self.field(&node.id, name("id"), message));
            }
            let address = |value: &Spanned<String>, key: &str| match check_address(value.get_ref()) {
                Ok(()) => Ok(value.get_ref().clone()),
                Err(message) => Err(self.field(value, name(key), message)),
            };
            let member = Member {
                id,
                api: address(&node.api, "api")?,
                peer: address(&node.peer, "peer")?,
                bind_api: address(node.bind_api.as_ref().unwrap_or(&node.api), "bind_api")?,
                bind_peer: address(node.bind_peer.as_ref().unwrap_or(&node.peer), "bind_peer")?,
                genesis: node.genesis.unwrap_or(true),
            };
            for (key, place) in [("api", &node.api), ("peer", &node.peer)] {
                if !addresses.insert(place.get_ref().clone()) {
                    let message = format!(
                        "expected an address of its own, found {:?} twice",
                        place.get_ref()
                    );
                    return Err(self.field(place, name(key), message));
                }
            }
            members.push(member);
        }
        if !members.iter().any(|member| member.genesis) {
            let message = "expected at least one [[node]] that founds the cluster, found none".to_owned();
            return Err(ConfigError {
                file: self.source.to_owned(),
                line: 0,
                field: "node".to_owned(),
                message,
            });
        }
        members.sort_by_key(|member| member.id);
        Ok(members)
    }
}

/// A bound on one number, with the words for it.
struct Rule {
    holds: bool,
    expected: String,
    found: u64,
}

impl Rule {
    fn between(found: u64, least: u64, most: u64) -> Self {
        Self {
            holds: (least..=most).contains(&found),
            expected: format!("{least} to {most}"),
            found,
        }
    }
}

/// Whether `address` is `host:port`, with a name, an IPv4 address or a bracketed IPv6 address.
fn check_address(address: &str) -> Result<(), String> {
    let bad = || format!("expected host:port, as \"127.0.0.1:3000\", found {address:?}");
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    let name = host
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    let v6 = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
    let named = !host.is_empty() && (name || v6);
    let numbered = port.parse::<u16>().is_ok_and(|port| port > 0);
    if named && numbered { Ok(()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "[[node]]\nid = 1\napi = \"127.0.0.1:3000\"\npeer = \"127.0.0.1:4000\"\n";

    fn refused(text: &str) -> String {
        Cluster::parse("c.toml", text)
            .expect_err("this file is wrong")
            .to_string()
    }

    #[test]
    fn late_values_have_room_up_to_the_most_that_may_be_or_what_a_default_cluster_keeps() {
        let full =
            |archive: Archiving, seals, statements| archive.is_full_of_late(Held { seals, statements });
        let defaults = Archiving::default();
        assert!(!full(defaults, defaults.most_seals, defaults.most_statements));
        assert!(full(defaults, defaults.most_seals + 1, 0));
        assert!(full(defaults, 0, defaults.most_statements + 1));
        let small = Archiving {
            most_seals: 0,
            most_statements: 0,
            ..defaults
        };
        assert!(!full(small, defaults.keep_seals, defaults.keep_statements));
        assert!(full(small, defaults.keep_seals + 1, 0));
        assert!(full(small, 0, defaults.keep_statements + 1));
    }

    #[test]
    fn the_shipped_file_has_three_nodes_quarter_hours_and_every_default() {
        let shipped = Cluster::shipped();
        assert_eq!(
            shipped.nodes.iter().map(|node| node.id).collect::<Vec<_>>(),
            [1, 2, 3]
        );
        assert_eq!(shipped.nodes[2].api, "127.0.0.1:3002");
        assert_eq!(shipped.nodes[2].bind_peer, "127.0.0.1:4002");
        assert_eq!(shipped.epoch_ms, 900_000);
        assert!(shipped.development);
        // What the file shows as defaults are the defaults.
        let bare = Cluster::parse("c.toml", ONE).expect("one node is enough");
        assert_eq!(bare.timing, shipped.timing);
        assert_eq!(bare.log, shipped.log);
        assert_eq!(bare.limits, shipped.limits);
        assert_eq!(bare.seal, shipped.seal);
        assert_eq!(bare.archive, shipped.archive);
        assert_eq!(bare.epoch_ms, 3_600_000);
        assert!(!bare.development, "development is never a default");
    }

    #[test]
    fn every_mistake_is_named_with_line_field_and_expectation() {
        let cases = [
            (
                "",
                "c.toml: node: expected at least one [[node]] that founds the cluster, found none",
            ),
            (
                "epoch_ms = 7",
                "c.toml:1: epoch_ms: expected 1000 (a second) to 86400000 (a day) milliseconds, found 7",
            ),
            (
                "\nepoch_ms = \"x\"",
                "c.toml:2: epoch_ms: invalid type: string \"x\", expected u64",
            ),
            (
                "[[node]]\nid = 0\napi = \"a:1\"\npeer = \"b:2\"",
                "c.toml:2: node[1].id: expected an id from 1 that",
            ),
            (
                "[[node]]\nid = 1\napi = \"a\"\npeer = \"b:2\"",
                "c.toml:3: node[1].api: expected host:port, as \"127.0.0.1:3000\", found \"a\"",
            ),
            (
                "[[node]]\nid = 1\napi = \"a:1\"\npeer = \"a:1\"",
                "c.toml:4: node[1].peer: expected an address of its own, found \"a:1\" twice",
            ),
        ];
        for (text, expected) in cases {
            let found = refused(text);
            assert!(
                found.starts_with(expected),
                "for {text:?}\nexpected {expected}\nfound    {found}"
            );
        }
    }

    #[test]
    fn tables_are_checked_on_the_line_of_their_key() {
        let cases = [
            (
                "[timing]\n# election_max_ms is fine\nheartbeat_ms = 1",
                "c.toml:7: timing.heartbeat_ms: expected 5 to",
            ),
            (
                "[timing]\nelection_min_ms = 75",
                "c.toml:6: timing.election_min_ms: expected at least two heartbeats (100 ms)",
            ),
            (
                "[timing]\nelection_max_ms = 200",
                "c.toml:6: timing.election_max_ms: expected more than election_min_ms (250)",
            ),
            (
                "[limits]\nbatch = 0",
                "c.toml:6: limits.batch: expected 1 to 1000000, found 0",
            ),
            (
                "[log]\nsegment_bytes = 5",
                "c.toml:6: log.segment_bytes: expected 65536 to",
            ),
        ];
        for (text, expected) in cases {
            let found = refused(&format!("{ONE}{text}"));
            assert!(
                found.starts_with(expected),
                "for {text:?}\nexpected {expected}\nfound    {found}"
            );
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_that_lists_the_known_ones() {
        let found = refused(&format!("{ONE}[timing]\nheartbeat = 100"));
        assert!(found.contains("c.toml:6: heartbeat:"), "{found}");
        assert!(found.contains("unknown field `heartbeat`"), "{found}");
        assert!(found.contains("election_min_ms"), "{found}");
    }

    #[test]
    fn addresses_are_names_or_ip_with_a_port() {
        for good in ["127.0.0.1:80", "node-1:4000", "[::1]:3000", "a.b_c:65535"] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            ":1",
            "a:",
            "a:0",
            "a:70000",
            "a b:1",
            "::1:3000",
            "[zz]:1",
            "http://a:1",
        ] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
