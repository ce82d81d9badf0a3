//! Faults by name, as scenario files have them: what each is called, which fields it takes, and back to text.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Deserialize;

use super::duration::{duration, read_duration};
use super::{Fault, Way};
use crate::disk::Loss;

/// A step of a scenario file, as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// When, as `5s` or `300ms`.
    pub at: String,
    /// Which fault.
    #[serde(rename = "do")]
    pub name: String,
    /// Whose.
    pub node: Option<u64>,
    /// Whose, if it is done to several at once; one side of a partition.
    pub nodes: Option<Vec<u64>>,
    /// The other node.
    pub other: Option<u64>,
    /// Where a way begins.
    pub from: Option<u64>,
    /// Where a way ends.
    pub to: Option<u64>,
    /// How long until it is undone.
    #[serde(rename = "for")]
    pub lasts: Option<String>,
    /// By how much, for a clock: `1h` or `-300ms`.
    pub by: Option<String>,
    /// What becomes of unsynced writes: `everything`, `some` or `nothing` is lost.
    pub loses: Option<String>,
}

/// All names, with the fields each takes.
pub const NAMES: [(&str, &str); 43] = [
    ("partition", "nodes"),
    ("one-way", "from, to"),
    ("isolate-leader", ""),
    ("blink-leader", "for"),
    ("stall-followers", "for"),
    ("cut", "node, other"),
    ("ring", ""),
    ("bridge", "node"),
    ("heal", ""),
    ("reset", "node, other"),
    ("good-link", "from, to"),
    ("slow-link", "from, to"),
    ("lossy-link", "from, to"),
    ("breaking-link", "from, to"),
    ("kill", "node or nodes"),
    ("crash", "node or nodes, loses"),
    ("power-cut", "node or nodes, loses"),
    ("start", "node or nodes"),
    ("pause", "node or nodes, for"),
    ("slow-node", "node or nodes"),
    ("quick-node", "node or nodes"),
    ("fail-sync", "node or nodes"),
    ("fail-file-sync", "node or nodes"),
    ("slow-disk", "node or nodes"),
    ("quick-disk", "node or nodes"),
    ("full-disk", "node or nodes"),
    ("free-disk", "node or nodes"),
    ("rot", "node or nodes"),
    ("latent", "node or nodes"),
    ("misdirect", "node or nodes"),
    ("damage-archive", "node or nodes"),
    ("empty-disk", "node or nodes"),
    ("wrong-disk", "node, other"),
    ("restart", "node or nodes"),
    ("newer-build", "node or nodes"),
    ("current-build", "node or nodes"),
    ("join", "node or nodes"),
    ("promote", "node or nodes"),
    ("remove", "node or nodes"),
    ("remove-leader", ""),
    ("rotate-key", "node or nodes"),
    ("transfer", "node"),
    ("snapshot", "node or nodes"),
];
/// One more, kept apart because its field is no node's.
const CLOCK: (&str, &str) = ("clock-jump", "node or nodes, by");

/// All names a scenario file can use.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    NAMES.into_iter().chain([CLOCK])
}

impl Fault {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Fault::Partition(_) => "partition",
            Fault::OneWay(..) => "one-way",
            Fault::IsolateLeader => "isolate-leader",
            Fault::BlinkLeader(_) => "blink-leader",
            Fault::StallFollowers(_) => "stall-followers",
            Fault::Cut(..) => "cut",
            Fault::Ring => "ring",
            Fault::Bridge(_) => "bridge",
            Fault::Heal => "heal",
            Fault::Reset(..) => "reset",
            Fault::Link(.., Way::Good) => "good-link",
            Fault::Link(.., Way::Slow) => "slow-link",
            Fault::Link(.., Way::Lossy) => "lossy-link",
            Fault::Link(.., Way::Breaking) => "breaking-link",
            Fault::Crash { loss: None, .. } => "kill",
            Fault::Crash { silent: false, .. } => "crash",
            Fault::Crash { .. } => "power-cut",
            Fault::Start(_) => "start",
            Fault::Pause(..) => "pause",
            Fault::SlowNode(_, true) => "slow-node",
            Fault::SlowNode(_, false) => "quick-node",
            Fault::FailSync(_) => "fail-sync",
            Fault::FailFileSync(_) => "fail-file-sync",
            Fault::SlowDisk(_, true) => "slow-disk",
            Fault::SlowDisk(_, false) => "quick-disk",
            Fault::FullDisk(_, true) => "full-disk",
            Fault::FullDisk(_, false) => "free-disk",
            Fault::Rot(_) => "rot",
            Fault::Latent(_) => "latent",
            Fault::Misdirect(_) => "misdirect",
            Fault::DamageArchive(_) => "damage-archive",
            Fault::EmptyDisk(_) => "empty-disk",
            Fault::WrongDisk(..) => "wrong-disk",
            Fault::Restart(_) => "restart",
            Fault::NewerBuild(_, true) => "newer-build",
            Fault::NewerBuild(_, false) => "current-build",
            Fault::Join(_) => "join",
            Fault::Promote(_) => "promote",
            Fault::Remove(_) => "remove",
            Fault::RemoveLeader => "remove-leader",
            Fault::RotateKey(_) => "rotate-key",
            Fault::Transfer(_) => "transfer",
            Fault::Snapshot(_) => "snapshot",
            Fault::Clock(..) => "clock-jump",
        }
    }

    /// The step of a scenario file that reads as this fault, without its table's head.
    pub fn to_step(&self, at_ms: u64) -> String {
        let mut out = format!("at = \"{}\"\ndo = \"{}\"\n", duration(at_ms), self.name());
        // Writing to a string can't fail.
        let _ = match self {
            Fault::Partition(side) => writeln!(out, "nodes = {:?}", side.iter().collect::<Vec<_>>()),
            Fault::OneWay(from, to) | Fault::Link(from, to, _) => writeln!(out, "from = {from}\nto = {to}"),
            Fault::Cut(a, b) | Fault::Reset(a, b) | Fault::WrongDisk(a, b) => {
                writeln!(out, "node = {a}\nother = {b}")
            }
            Fault::Crash {
                node,
                loss: Some(loss),
                ..
            } => {
                writeln!(
                    out,
                    "node = {node}\nloses = \"{}\"",
                    format!("{loss:?}").to_lowercase()
                )
            }
            Fault::BlinkLeader(ms) | Fault::StallFollowers(ms) => {
                writeln!(out, "for = \"{}\"", duration(*ms))
            }
            Fault::Pause(node, ms) => writeln!(out, "node = {node}\nfor = \"{}\"", duration(*ms)),
            Fault::Clock(node, ms) => {
                let sign = if *ms < 0 { "-" } else { "" };
                writeln!(
                    out,
                    "node = {node}\nby = \"{sign}{}\"",
                    duration(ms.unsigned_abs())
                )
            }
            Fault::Bridge(node)
            | Fault::Start(node)
            | Fault::Crash { node, .. }
            | Fault::SlowNode(node, _)
            | Fault::FailSync(node)
            | Fault::FailFileSync(node)
            | Fault::SlowDisk(node, _)
            | Fault::FullDisk(node, _)
            | Fault::Rot(node)
            | Fault::Latent(node)
            | Fault::Misdirect(node)
            | Fault::DamageArchive(node)
            | Fault::EmptyDisk(node)
            | Fault::Restart(node)
            | Fault::NewerBuild(node, _)
            | Fault::Join(node)
            | Fault::Promote(node)
            | Fault::Remove(node)
            | Fault::RotateKey(node)
            | Fault::Transfer(node)
            | Fault::Snapshot(node) => writeln!(out, "node = {node}"),
            Fault::IsolateLeader | Fault::Ring | Fault::Heal | Fault::RemoveLeader => Ok(()),
        };
        out
    }

    /// What undoes it, if anything does.
    pub fn undone_by(&self) -> Option<Fault> {
        match self {
            Fault::Partition(_)
            | Fault::OneWay(..)
            | Fault::IsolateLeader
            | Fault::Cut(..)
            | Fault::Ring
            | Fault::Bridge(_) => Some(Fault::Heal),
            Fault::Link(from, to, _) => Some(Fault::Link(*from, *to, Way::Good)),
            Fault::Crash { node, .. } | Fault::EmptyDisk(node) | Fault::WrongDisk(node, _) => {
                Some(Fault::Start(*node))
            }
            Fault::SlowNode(node, true) => Some(Fault::SlowNode(*node, false)),
            Fault::SlowDisk(node, true) => Some(Fault::SlowDisk(*node, false)),
            Fault::FullDisk(node, true) => Some(Fault::FullDisk(*node, false)),
            Fault::Clock(node, ms) => Some(Fault::Clock(*node, -ms)),
            Fault::NewerBuild(node, true) => Some(Fault::NewerBuild(*node, false)),
            _ => None,
        }
    }
}

impl Step {
    /// The nodes that it has join: no founders.
    pub fn joiners(&self) -> impl Iterator<Item = u64> {
        let named = self.node.iter().chain(self.nodes.iter().flatten());
        named.copied().filter(|_| self.name == "join")
    }

    /// The faults it stands for, in a cluster of so many founders and these others: one for each node named, and what
    /// undoes it.
    ///
    /// # Errors
    /// What is wrong with it, and what was expected.
    pub fn read(&self, nodes: u64, joiners: &BTreeSet<u64>) -> Result<Vec<(u64, Fault)>, String> {
        let at = read_duration(&self.at).map_err(|e| format!("`at`: {e}"))?;
        if let Some(founder) = self
            .joiners()
            .find(|node| (0..=nodes).contains(node) || *node > MOST)
        {
            return Err(format!(
                "`node` is {founder}; expected a node that is not there yet, {} to {MOST}",
                nodes + 1
            ));
        }
        let fields = Fields {
            step: self,
            nodes,
            joiners,
        };
        let mut steps = Vec::new();
        for fault in fields.faults()? {
            let undone = fault.undone_by();
            steps.push((at, fault.clone()));
            match (&self.lasts, undone) {
                (None, _) => {}
                (Some(_), None)
                    if matches!(
                        fault,
                        Fault::Pause(..) | Fault::BlinkLeader(_) | Fault::StallFollowers(_)
                    ) => {}
                (Some(_), None) => {
                    return Err(format!(
                        "`{}` is not undone by anything: it takes no `for`",
                        self.name
                    ));
                }
                (Some(lasts), Some(undone)) => {
                    let lasts = read_duration(lasts).map_err(|e| format!("`for`: {e}"))?;
                    steps.push((at + lasts, undone));
                }
            }
        }
        // Several nodes under one cut heal once.
        steps.dedup();
        Ok(steps)
    }
}

/// The highest number that a node can have.
pub const MOST: u64 = 20;

struct Fields<'a> {
    step: &'a Step,
    nodes: u64,
    joiners: &'a BTreeSet<u64>,
}

impl Fields<'_> {
    fn known(&self, field: &str, node: u64) -> Result<u64, String> {
        match (1..=self.nodes).contains(&node) || self.joiners.contains(&node) {
            true => Ok(node),
            false => Err(format!(
                "`{field}` is {node}; expected a node, 1 to {}, or one that joins",
                self.nodes
            )),
        }
    }

    fn one(&self, field: &str, value: Option<u64>) -> Result<u64, String> {
        let value = value.ok_or_else(|| format!("`{}` needs `{field}`, a node's number", self.step.name))?;
        self.known(field, value)
    }

    fn two(
        &self,
        (a, a_value): (&str, Option<u64>),
        (b, b_value): (&str, Option<u64>),
    ) -> Result<(u64, u64), String> {
        let (first, second) = (self.one(a, a_value)?, self.one(b, b_value)?);
        match first == second {
            true => Err(format!("`{a}` and `{b}` are both {first}; expected two nodes")),
            false => Ok((first, second)),
        }
    }

    fn pair(&self) -> Result<(u64, u64), String> {
        self.two(("node", self.step.node), ("other", self.step.other))
    }

    fn way(&self) -> Result<(u64, u64), String> {
        self.two(("from", self.step.from), ("to", self.step.to))
    }

    /// `node` or `nodes`.
    fn each(&self) -> Result<Vec<u64>, String> {
        match (&self.step.node, &self.step.nodes) {
            (Some(node), None) => Ok(vec![self.known("node", *node)?]),
            (None, Some(nodes)) if !nodes.is_empty() => {
                nodes.iter().map(|node| self.known("nodes", *node)).collect()
            }
            _ => Err(format!(
                "`{}` needs either `node`, a number, or `nodes`, a list of them",
                self.step.name
            )),
        }
    }

    /// `for`, where it can't be left out.
    fn lasts(&self) -> Result<u64, String> {
        let lasts = self.step.lasts.as_deref();
        let lasts = lasts.ok_or_else(|| format!("`{}` needs `for`, how long", self.step.name))?;
        read_duration(lasts).map_err(|e| format!("`for`: {e}"))
    }

    fn loses(&self) -> Result<Loss, String> {
        match self.step.loses.as_deref() {
            None | Some("everything") => Ok(Loss::Everything),
            Some("some") => Ok(Loss::Some),
            Some("nothing") => Ok(Loss::Nothing),
            Some(other) => Err(format!(
                "`loses` is `{other}`; expected `everything`, `some` or `nothing`"
            )),
        }
    }

    /// Refuses fields that this fault does not take.
    fn only_taken(&self, takes: &str) -> Result<(), String> {
        let step = self.step;
        let given = [
            ("node", step.node.is_some()),
            ("nodes", step.nodes.is_some()),
            ("other", step.other.is_some()),
            ("from", step.from.is_some()),
            ("to", step.to.is_some()),
            ("by", step.by.is_some()),
            ("loses", step.loses.is_some()),
        ];
        for (field, _) in given.into_iter().filter(|(_, given)| *given) {
            if !takes.split([',', ' ']).any(|word| word == field) {
                let takes = if takes.is_empty() { "no fields" } else { takes };
                return Err(format!("`{}` has no `{field}`; it takes {takes}", step.name));
            }
        }
        Ok(())
    }

    fn faults(&self) -> Result<Vec<Fault>, String> {
        let step = self.step;
        let Some((name, takes)) = names().find(|(name, _)| *name == step.name) else {
            let all: Vec<&str> = names().map(|(name, _)| name).collect();
            return Err(format!(
                "`do` is `{}`; expected one of {}",
                step.name,
                all.join(", ")
            ));
        };
        self.only_taken(takes)?;
        let link = |way| self.way().map(|(from, to)| vec![Fault::Link(from, to, way)]);
        let each = |fault: fn(u64) -> Fault| Ok(self.each()?.into_iter().map(fault).collect());
        match name {
            "partition" => {
                let side: BTreeSet<u64> = self.each()?.into_iter().collect();
                match u64::try_from(side.len()) {
                    Ok(n) if n < self.nodes => Ok(vec![Fault::Partition(side)]),
                    _ => Err("`nodes` has all nodes; expected one side of the partition".into()),
                }
            }
            "one-way" => self.way().map(|(from, to)| vec![Fault::OneWay(from, to)]),
            "isolate-leader" => Ok(vec![Fault::IsolateLeader]),
            "blink-leader" => Ok(vec![Fault::BlinkLeader(self.lasts()?)]),
            "stall-followers" => Ok(vec![Fault::StallFollowers(self.lasts()?)]),
            "cut" => self.pair().map(|(a, b)| vec![Fault::Cut(a, b)]),
            "ring" => Ok(vec![Fault::Ring]),
            "bridge" => Ok(vec![Fault::Bridge(self.one("node", step.node)?)]),
            "heal" => Ok(vec![Fault::Heal]),
            "reset" => self.pair().map(|(a, b)| vec![Fault::Reset(a, b)]),
            "good-link" => link(Way::Good),
            "slow-link" => link(Way::Slow),
            "lossy-link" => link(Way::Lossy),
            "breaking-link" => link(Way::Breaking),
            "kill" => each(|node| Fault::Crash {
                node,
                silent: false,
                loss: None,
            }),
            "crash" | "power-cut" => {
                let (silent, loss) = (name == "power-cut", Some(self.loses()?));
                Ok(self
                    .each()?
                    .into_iter()
                    .map(|node| Fault::Crash { node, silent, loss })
                    .collect())
            }
            "start" => each(Fault::Start),
            "pause" => {
                let ms = self.lasts()?;
                Ok(self
                    .each()?
                    .into_iter()
                    .map(|node| Fault::Pause(node, ms))
                    .collect())
            }
            "slow-node" => each(|node| Fault::SlowNode(node, true)),
            "quick-node" => each(|node| Fault::SlowNode(node, false)),
            "fail-sync" => each(Fault::FailSync),
            "fail-file-sync" => each(Fault::FailFileSync),
            "slow-disk" => each(|node| Fault::SlowDisk(node, true)),
            "quick-disk" => each(|node| Fault::SlowDisk(node, false)),
            "full-disk" => each(|node| Fault::FullDisk(node, true)),
            "free-disk" => each(|node| Fault::FullDisk(node, false)),
            "rot" => each(Fault::Rot),
            "latent" => each(Fault::Latent),
            "misdirect" => each(Fault::Misdirect),
            "damage-archive" => each(Fault::DamageArchive),
            "empty-disk" => each(Fault::EmptyDisk),
            "wrong-disk" => self.pair().map(|(a, b)| vec![Fault::WrongDisk(a, b)]),
            "restart" => each(Fault::Restart),
            "newer-build" => each(|node| Fault::NewerBuild(node, true)),
            "current-build" => each(|node| Fault::NewerBuild(node, false)),
            "join" => each(Fault::Join),
            "promote" => each(Fault::Promote),
            "remove" => each(Fault::Remove),
            "remove-leader" => Ok(vec![Fault::RemoveLeader]),
            "rotate-key" => each(Fault::RotateKey),
            "transfer" => Ok(vec![Fault::Transfer(self.one("node", step.node)?)]),
            "snapshot" => each(Fault::Snapshot),
            _ => {
                let by = step
                    .by
                    .as_deref()
                    .ok_or("`clock-jump` needs `by`, as `1h` or `-300ms`")?;
                let (sign, by) = by.strip_prefix('-').map_or((1, by), |by| (-1, by));
                let ms = read_duration(by).map_err(|e| format!("`by`: {e}"))?;
                let ms = sign * i64::try_from(ms).map_err(|_| "`by` is too long")?;
                Ok(self
                    .each()?
                    .into_iter()
                    .map(|node| Fault::Clock(node, ms))
                    .collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Plan;

    fn step(text: &str) -> Result<Vec<(u64, Fault)>, String> {
        let step = toml::from_str::<Step>(text).map_err(|e| e.to_string())?;
        step.read(5, &(6..=20).collect())
    }

    #[test]
    fn every_fault_of_every_plan_reads_back() {
        let mut kinds = BTreeSet::new();
        for seed in 0..300 {
            for (at, fault) in Plan::draw_with_operations(seed, 5, 30_000).steps {
                kinds.insert(fault.name());
                let text = fault.to_step(at);
                assert_eq!(step(&text), Ok(vec![(at, fault)]), "{text}");
            }
        }
        // What a seed can draw and what a file can say is the same.
        assert_eq!(kinds, names().map(|(name, _)| name).collect());
    }

    #[test]
    fn steps_undo_themselves_and_strike_several() {
        let cut = step("at = \"2s\"\ndo = \"power-cut\"\nnodes = [1, 3]\nfor = \"500ms\"").unwrap();
        let crash = |node| Fault::Crash {
            node,
            silent: true,
            loss: Some(Loss::Everything),
        };
        assert_eq!(
            cut,
            [
                (2_000, crash(1)),
                (2_500, Fault::Start(1)),
                (2_000, crash(3)),
                (2_500, Fault::Start(3))
            ]
        );
    }

    #[test]
    fn mistakes_are_named_with_what_was_expected() {
        for (text, says) in [
            (
                "at = \"2s\"\ndo = \"partitoin\"",
                "expected one of partition, one-way",
            ),
            ("at = \"2\"\ndo = \"ring\"", "`at`: `2` is no time"),
            ("at = \"1.0005s\"\ndo = \"ring\"", "is no time"),
            (
                "at = \"2s\"\ndo = \"kill\"\nnode = 26",
                "`node` is 26; expected a node, 1 to 5",
            ),
            (
                "at = \"2s\"\ndo = \"join\"\nnode = 2",
                "`node` is 2; expected a node that is not there yet, 6 to 20",
            ),
            ("at = \"2s\"\ndo = \"kill\"", "`kill` needs either `node`"),
            (
                "at = \"2s\"\ndo = \"kill\"\nnode = 1\nfrom = 2",
                "`kill` has no `from`; it takes node or nodes",
            ),
            (
                "at = \"2s\"\ndo = \"one-way\"\nfrom = 2\nto = 2",
                "`from` and `to` are both 2",
            ),
            (
                "at = \"2s\"\ndo = \"partition\"\nnodes = [1, 2, 3, 4, 5]",
                "has all nodes",
            ),
            (
                "at = \"2s\"\ndo = \"crash\"\nnode = 1\nloses = \"all\"",
                "expected `everything`, `some` or `nothing`",
            ),
            (
                "at = \"2s\"\ndo = \"rot\"\nnode = 1\nfor = \"1s\"",
                "takes no `for`",
            ),
            (
                "at = \"2s\"\ndo = \"damage-archive\"",
                "`damage-archive` needs either `node`",
            ),
            ("at = \"2s\"\ndo = \"pause\"\nnode = 1", "`pause` needs `for`"),
            ("at = \"2s\"\ndo = \"blink-leader\"", "`blink-leader` needs `for`"),
            (
                "at = \"2s\"\ndo = \"stall-followers\"",
                "`stall-followers` needs `for`",
            ),
            (
                "at = \"2s\"\ndo = \"clock-jump\"\nnode = 1",
                "`clock-jump` needs `by`",
            ),
            ("at = \"2s\"\ndo = \"ring\"\nsize = 1", "unknown field `size`"),
        ] {
            let error = step(text).unwrap_err();
            assert!(error.contains(says), "{text}\n{error}");
        }
    }
}
