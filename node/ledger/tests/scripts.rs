//! Golden scripts: the ledger as a reader learns it. Each file in `scripts/` is a list of blocks: comments and commands, `---`, what they
//! answer, an empty line. All blocks of a file act on one ledger. `UPDATE=1 cargo test -p ledger --test scripts` writes
//! the answers anew; read the diff.
//!
//! Commands are those of `common/script.rs`, and here: `by NAME COMMAND` (another signer), `again` (the last envelope
//! once more), `forge` (the same, its signature damaged), `ahead MS COMMAND` (good for so long), `replay COMMAND` (another action under the last nonce), `clock MS`, `sign NODE…` (nodes attest the newest block),
//! `voters N…[/ N…]`, `proof ASSET EPOCH`, `late`, `journal ASSET EPOCH`, `orders ASSET`, `restart` (from a snapshot).

mod common;

use common::script::{self, Words};
use common::{Cluster, attestation, genesis, key, node_key, public};
use ledger::certificate::verify;
use ledger::invariant::Witness;
use ledger::{Applied, Body, Envelope, Ledger};
use std::fmt::Write as _;

#[test]
fn scripts_answer_as_written() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the scripts are here")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    assert!(files.len() >= 12, "scripts are missing");
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for file in files {
        let written = std::fs::read_to_string(&file).expect("readable");
        let played = play(&written);
        if update {
            std::fs::write(&file, &played).expect("writable");
        } else if played != written {
            wrong.push(format!(
                "{}:\n{}",
                file.display(),
                first_difference(&written, &played)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn first_difference(written: &str, played: &str) -> String {
    let (mut a, mut b, mut line) = (written.lines(), played.lines(), 0);
    loop {
        line += 1;
        match (a.next(), b.next()) {
            (x, y) if x == y && x.is_some() => {}
            (x, y) => return format!("  line {line}\n  written: {x:?}\n  played:  {y:?}"),
        }
    }
}

/// The file with the answers of this ledger in place of those written.
fn play(text: &str) -> String {
    let mut stage = Stage::new();
    let mut out = String::new();
    let mut answers = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        match line.trim() {
            "" => {
                assert!(answers.is_empty(), "a block has no `---`");
                out.push('\n');
            }
            "---" => {
                while lines.peek().is_some_and(|line| !line.trim().is_empty()) {
                    lines.next();
                }
                out.push_str("---\n");
                if answers.is_empty() {
                    answers.push("ok".to_owned());
                }
                answers
                    .drain(..)
                    .for_each(|answer| writeln!(out, "{answer}").expect("writing to a string"));
            }
            comment if comment.starts_with('#') => writeln!(out, "{comment}").expect("writing to a string"),
            command => {
                writeln!(out, "{command}").expect("writing to a string");
                answers.extend(stage.command(command));
            }
        }
    }
    out
}

struct Stage {
    cluster: Cluster,
    witness: Witness,
    last: Option<Envelope>,
}

impl Stage {
    fn new() -> Stage {
        Stage {
            cluster: Cluster::new(),
            witness: Witness::new(),
            last: None,
        }
    }

    fn command(&mut self, command: &str) -> Vec<String> {
        if let Some(action) = script::parse(command) {
            let by: Option<String> = Words::of(command).take("by");
            let envelope = match by {
                Some(name) => self.cluster.signed(&script::auditor(&name), action),
                None => self.cluster.envelope(action),
            };
            return self.submit(envelope);
        }
        let mut words = Words::of(command);
        match words.next().expect("a command") {
            "by" => {
                let signer = key(words.parse("number of a key"));
                let rest: Vec<&str> = command.split_whitespace().skip(2).collect();
                let action = script::parse(&rest.join(" ")).expect("an action");
                let envelope = self.cluster.signed(&signer, action);
                self.submit(envelope)
            }
            "again" => {
                let envelope = self.last.clone().expect("an envelope to send again");
                self.submit(envelope)
            }
            "forge" => {
                let mut envelope = self.last.clone().expect("an envelope to forge");
                envelope.signature.0[5] ^= 1;
                self.submit(envelope)
            }
            "replay" => {
                let last = self.last.as_ref().expect("an envelope whose nonce to use");
                let (_, rest) = command.split_once(' ').expect("an action");
                let action = script::parse(rest).expect("an action");
                let (nonce, not_after) = (last.nonce, last.not_after.get());
                let envelope = common::sign(
                    &self.cluster.ledger,
                    &key(common::GATEWAY),
                    nonce,
                    not_after,
                    action,
                );
                self.submit(envelope)
            }
            "ahead" => {
                let ahead: u64 = words.parse("milliseconds");
                let (_, rest) = command.split_once(' ').expect("an action");
                let (_, rest) = rest.split_once(' ').expect("an action");
                let action = script::parse(rest).expect("an action");
                let not_after = self.cluster.now + ahead;
                let envelope = common::sign(
                    &self.cluster.ledger,
                    &key(common::GATEWAY),
                    [9; 16],
                    not_after,
                    action,
                );
                self.submit(envelope)
            }
            "clock" => {
                self.cluster.now = words.parse("time");
                self.cluster.apply(Body::Tick {});
                vec![format!("it is {}", self.cluster.ledger.now())]
            }
            "sign" => {
                let header = self.cluster.ledger.head().expect("a block").header.clone();
                let mut attestations = Vec::new();
                while let Some(node) = words.next() {
                    let node = node.parse().expect("a node");
                    attestations.push(attestation(node, &node_key(node), &header));
                }
                self.attest(attestations)
            }
            "differ" => {
                let mut header = self.cluster.ledger.head().expect("a block").header.clone();
                header.root = ledger::Digest([0xbd; 32]);
                let node = words.parse("node");
                self.attest(vec![attestation(node, &node_key(node), &header)])
            }
            "voters" => {
                let configs = command.trim_start_matches("voters").split('/');
                let configs =
                    configs.map(|c| c.split_whitespace().map(|n| n.parse().expect("a node")).collect());
                self.cluster.index += 1;
                self.cluster
                    .ledger
                    .apply_membership(self.cluster.index, configs.collect());
                vec![]
            }
            "register" => {
                let node = words.parse("node");
                let action = ledger::Action::RegisterNode {
                    node,
                    key: public(&node_key(node)),
                    peer: None,
                };
                let envelope = self.cluster.envelope(action);
                self.submit(envelope)
            }
            "proof" => {
                let (asset, epoch) = (words.parse("asset"), words.epoch());
                let proof = self.cluster.ledger.proof(&asset, epoch, None).expect("a seal");
                // A stranger who has the list of those who voted then.
                let voted = |(node, key): &(u64, _)| {
                    let mut voters = proof.voters.0[0].iter();
                    voters.any(|voter| voter.node == *node && voter.key == Some(*key))
                };
                let trusted: Vec<_> = genesis(7).nodes.into_iter().filter(voted).collect();
                vec![match verify(&proof, &trusted) {
                    Ok(verdict) => {
                        let quorums: Vec<String> = verdict
                            .quorums
                            .iter()
                            .map(|(n, q)| format!("{q} of {n} needed"))
                            .collect();
                        format!(
                            "proven: signed by {:?}, {}, {} blocks later",
                            verdict.signers,
                            quorums.join(" and "),
                            verdict.distance
                        )
                    }
                    Err(broken) => format!("not proven: {broken}"),
                }]
            }
            "late" => {
                let late = self.cluster.ledger.late(None, None, 100);
                late.iter()
                    .map(|(asset, s)| format!("{asset}: {}", script::show_statement(s)))
                    .collect()
            }
            "journal" => {
                let (asset, epoch) = (words.parse("asset"), words.epoch());
                let journal = self.cluster.ledger.journal(&asset, epoch).unwrap_or_default();
                let mut lines: Vec<String> = journal.statements.iter().map(script::show_statement).collect();
                lines.insert(journal.watermark, format!("-- watermark {}", journal.watermark));
                lines
            }
            "orders" => {
                let asset = words.parse("asset");
                self.cluster
                    .ledger
                    .merit_order(&asset)
                    .into_iter()
                    .map(script::show_contract)
                    .collect()
            }
            "restart" => {
                let bytes = self.cluster.ledger.snapshot();
                self.cluster.ledger = Ledger::restore(&bytes).expect("our own snapshot");
                vec![]
            }
            other => panic!("no such command: {other}"),
        }
    }

    fn submit(&mut self, envelope: Envelope) -> Vec<String> {
        self.last = Some(envelope.clone());
        let applied = self.cluster.apply(Body::Envelopes {
            envelopes: vec![envelope],
        });
        self.check(&applied);
        let answer = &applied.answers[0];
        let mut lines = script::show(&self.cluster, &applied.events, &answer.outcome);
        if answer.duplicate {
            lines.push(format!(
                "as answered before, at entry {:?}",
                answer.outcome.index().unwrap_or(0)
            ));
        }
        lines
    }

    fn attest(&mut self, attestations: Vec<ledger::block::Attestation>) -> Vec<String> {
        let applied = self.cluster.apply(Body::Attestations { attestations });
        self.check(&applied);
        let mut lines: Vec<String> = applied
            .attestations
            .iter()
            .map(|a| match &a.result {
                Ok(()) => format!("node {} signed block {}", a.node, a.index),
                // Digests would make scripts unreadable.
                Err(refusal) => format!("node {} refused: {}", a.node, refusal.code()),
            })
            .collect();
        lines.extend(
            applied
                .certified
                .iter()
                .map(|index| format!("block {index} is certified")),
        );
        lines
    }

    fn check(&mut self, applied: &Applied) {
        self.witness
            .observe(&self.cluster.ledger, applied)
            .unwrap_or_else(|violation| panic!("{violation}"));
    }
}
