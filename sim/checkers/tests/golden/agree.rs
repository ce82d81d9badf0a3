//! Whatever a log holds, the oracle says of it what the product does, to the byte of every digest; and of every proof our
//! verifier says what the product's does. Logs are drawn: actions so dense that rules, contracts, late values,
//! corrections and audits meet, retries, forgeries, time that passes, signatures good and bad, members that come and go.

use std::collections::{BTreeMap, BTreeSet};

use checkers::oracle::judge::Payload;
use checkers::oracle::proof;
use checkers::subject::Subject as _;
use checkers::upstream;
use ledger::roster::{Row, roster_id};
use ledger::units::Epoch;
use ledger::{Action, Body, Envelope, Genesis, Ledger, PublicKey, RosterBatch};
use serde_json::{Value, json};

use super::common::{Cluster, GATEWAY, attestation, genesis, key, node_key, public, script, sign};
use super::history::{Dice, Style};
use super::log::Judged;
use super::product::Product;

/// A log that is drawn, and the product's ledger that it makes.
struct Drawn {
    dice: Dice,
    style: Style,
    cluster: Cluster,
    log: BTreeMap<u64, Payload>,
    sent: Vec<Envelope>,
}

impl Drawn {
    fn new(seed: u64) -> Drawn {
        let mut dice = Dice(seed);
        let auditors = auditors().iter().map(public).collect();
        let style = Style::draw(&mut dice, auditors);
        let mut drawn = Drawn {
            style,
            cluster: Cluster {
                ledger: Ledger::new(),
                index: 0,
                now: 1_000,
                nonce: 0,
                booked: Vec::new(),
                log: Vec::new(),
            },
            log: BTreeMap::new(),
            sent: Vec::new(),
            dice,
        };
        let genesis = Genesis {
            development: drawn.dice.chance(70),
            ..genesis(3)
        };
        drawn.apply(Body::Genesis { genesis });
        for _ in 0..40 {
            drawn.step();
        }
        drawn
    }

    fn apply(&mut self, body: Body) {
        self.cluster.apply(body);
        let (index, bytes) = self.cluster.log.last().expect("it was applied");
        self.log.insert(*index, Payload::App(bytes.clone().into()));
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..62 => self.act(),
            62..70 => self.resend(),
            70..76 => {
                self.cluster.now += self.dice.below(300_000);
                // Time never runs backwards, whatever a leader says.
                let earlier = self.dice.chance(20);
                self.cluster.now -= u64::from(earlier) * 900;
                self.apply(Body::Tick {});
            }
            76..88 => self.attest(),
            88..93 => self.membership(),
            _ => self.member(),
        }
    }

    fn act(&mut self) {
        let mut envelopes = Vec::new();
        for _ in 0..=self.dice.below(3) {
            let (action, auditor) = self.style.action(&mut self.dice);
            let action = self.with_metadata(action);
            let envelope = match auditor {
                None => self.cluster.envelope(action),
                Some(auditor) => self.cluster.signed(&auditors()[auditor], action),
            };
            envelopes.push(envelope);
        }
        if self.dice.chance(15) {
            envelopes.extend(self.in_bulk());
        }
        self.sent.extend(envelopes.iter().cloned());
        self.apply(Body::Envelopes { envelopes });
    }

    /// A roster and settlements of it, or of one that nobody has given, or of a place that it doesn't have.
    fn in_bulk(&mut self) -> Vec<Envelope> {
        let names = ["a0", "a1", "a2", "a3", ledger::ROOT.as_str()];
        let known = if self.dice.chance(90) { 4 } else { 5 };
        let meters: Vec<ledger::AssetId> = (0..1 + self.dice.below(4))
            .map(|_| {
                let name = names[usize::try_from(self.dice.below(known)).expect("small")];
                name.try_into().expect("a name")
            })
            .collect();
        let places = meters.len() as u64 + u64::from(self.dice.chance(10));
        let rows = (0..self.dice.below(4)).map(|_| Row {
            place: u32::try_from(self.dice.below(places)).expect("small"),
            consumption: self.dice.pick(&[-40, 0, 7, 500, (1 << 40) + 1]),
            co2eq: self.dice.pick(&[0, 3]),
        });
        let rows = rows.collect();
        let batch = RosterBatch {
            roster: roster_id(&meters),
            epoch: Epoch::new(7 + self.dice.below(3)).expect("small"),
            label: "bulk".try_into().expect("a label"),
            rows,
        };
        let roster = Action::AddRoster {
            meters: meters.into(),
        };
        let given = self.dice.chance(90).then_some(roster);
        let actions: Vec<Action> = given
            .into_iter()
            .chain([Action::SettleRoster { batch }])
            .collect();
        actions
            .into_iter()
            .map(|action| self.cluster.envelope(action))
            .collect()
    }

    fn with_metadata(&mut self, action: Action) -> Action {
        match action {
            Action::UpsertAsset { asset, rule, .. } => {
                let field = |dice: &mut Dice| {
                    let name = dice.pick(&["colour", "owner"]).to_owned();
                    (name, "x".repeat(dice.pick(&[1, 9, 2_000, 4_085])))
                };
                Action::UpsertAsset {
                    asset,
                    kind: self.dice.chance(20).then(|| "pv".to_owned()),
                    rule: rule.filter(|_| self.dice.chance(80)),
                    metadata: (0..self.dice.below(3)).map(|_| field(&mut self.dice)).collect(),
                }
            }
            other => other,
        }
    }

    /// Something that was sent before comes again: as it was, forged, under another's name, or with another content.
    fn resend(&mut self) {
        if self.sent.is_empty() {
            return;
        }
        let place = self.dice.below(self.sent.len() as u64);
        let mut envelope = self.sent[usize::try_from(place).expect("small")].clone();
        match self.dice.below(8) {
            0 => envelope.signature.0[7] ^= 1,
            1 => envelope.signer = public(&key(99)),
            2 => {
                let (action, _) = self.style.action(&mut self.dice);
                let (nonce, until) = (envelope.nonce, envelope.not_after.get());
                envelope = sign(&self.cluster.ledger, &key(GATEWAY), nonce, until, action);
            }
            3 => {
                let ahead = self.dice.pick(&[0, 1, 900_000, 900_001]);
                let until = self.cluster.now + ahead;
                let (nonce, action) = (envelope.nonce, envelope.action.clone());
                envelope = sign(&self.cluster.ledger, &key(GATEWAY), nonce, until, action);
            }
            _ => {}
        }
        self.apply(Body::Envelopes {
            envelopes: vec![envelope],
        });
    }

    fn attest(&mut self) {
        let Some(head) = self.cluster.ledger.head() else {
            return;
        };
        let mut header = head.header.clone();
        if self.dice.chance(10) {
            header.root = ledger::Digest([0xbd; 32]);
        }
        let mut attestations = Vec::new();
        for node in 1..=5 {
            if self.dice.chance(60) {
                let signer = if self.dice.chance(95) { node } else { 6 };
                attestations.push(attestation(node, &node_key(signer), &header));
            }
        }
        self.apply(Body::Attestations { attestations });
    }

    fn membership(&mut self) {
        let configs = 1 + usize::from(self.dice.chance(30));
        let config = |dice: &mut Dice| -> BTreeSet<u64> { (1..=5).filter(|_| dice.chance(70)).collect() };
        let configs: Vec<_> = (0..configs).map(|_| config(&mut self.dice)).collect();
        self.cluster.index += 1;
        self.cluster
            .ledger
            .apply_membership(self.cluster.index, configs.clone());
        self.log.insert(self.cluster.index, Payload::Membership(configs));
    }

    fn member(&mut self) {
        let node = 1 + self.dice.below(6);
        let action = match self.dice.below(4) {
            0 | 1 => Action::RegisterNode {
                node,
                key: public(&node_key(if self.dice.chance(80) { node } else { node + 10 })),
                peer: None,
            },
            2 => Action::PromoteNode { node },
            _ => Action::RevokeNode { node },
        };
        let signer = key(if self.dice.chance(50) {
            super::common::ADMIN
        } else {
            GATEWAY
        });
        let envelope = self.cluster.signed(&signer, action);
        self.apply(Body::Envelopes {
            envelopes: vec![envelope],
        });
    }
}

fn auditors() -> Vec<ed25519_dalek::SigningKey> {
    ["a1", "a2", "a3"].map(script::auditor).into()
}

/// Every key that any node may ever have had.
fn keys() -> Vec<(u64, [u8; 32])> {
    let both = |node: u64| [(node, node), (node, node + 10)];
    (1..=6)
        .flat_map(both)
        .map(|(node, of)| (node, public(&node_key(of)).0))
        .collect()
}

/// Any one value in it is another.
fn damaged(value: &Value, dice: &mut Dice) -> Value {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let at = usize::try_from(dice.below(fields.len() as u64)).expect("small");
            let mut fields = fields.clone();
            if let Some((_, value)) = fields.iter_mut().nth(at) {
                *value = damaged(value, dice);
            }
            Value::Object(fields)
        }
        Value::Array(items) if !items.is_empty() => {
            let at = usize::try_from(dice.below(items.len() as u64)).expect("small");
            let mut items = items.clone();
            match dice.below(4) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => items[at] = damaged(&items[at], dice),
            }
            Value::Array(items)
        }
        Value::Number(n) => json!(n.as_i64().map_or(0, |n| n + 1)),
        Value::String(text) => match text.chars().last() {
            Some(last) => json!(format!(
                "{}{}",
                &text[..text.len() - last.len_utf8()],
                if last == 'a' { 'b' } else { 'a' }
            )),
            None => json!("a"),
        },
        _ => json!(null),
    }
}

fn histories() -> u64 {
    std::env::var("CHECKERS_HISTORIES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(60)
}

#[test]
fn whatever_the_log_the_oracle_says_what_the_product_does() {
    let mut seen: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in 0..histories() {
        let drawn = Drawn::new(seed);
        let judgement = Judged::of(&drawn.log);
        assert_eq!(judgement.differences, [], "seed {seed}");
        assert_eq!(upstream::check(&judgement.book), [""; 0], "seed {seed}");
        for (what, times) in judgement.seen {
            *seen.entry(what).or_default() += times;
        }
    }
    // So that it shows when the logs no longer reach something.
    for what in [
        "a joint configuration",
        "a retry that was a duplicate",
        "a seal",
        "a corrected seal",
        "a contract served",
        "a contract skipped: its partner was sealed",
        "a contract skipped: fulfilled",
        "a contract skipped: below its least load",
        "a contract skipped: nothing to trade",
        "an asset held back",
        "an expired envelope",
        "a nonce used twice",
        "a forged envelope",
        "a seal made twice, refused",
        "a seal refused: downstream open",
        "a late value",
        "a signature offered twice",
        "a signature refused",
        "a block certified by a later one",
    ] {
        assert!(seen.contains_key(what), "no log reaches {what}: {seen:?}");
    }
}

#[test]
fn of_every_proof_both_verifiers_say_the_same() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..histories() {
        let mut drawn = Drawn::new(seed);
        let ledger = &drawn.cluster.ledger;
        for asset in ledger.assets() {
            for epoch in ledger.epochs() {
                let Some(proof) = ledger.proof(&asset.id, epoch, None) else {
                    continue;
                };
                let voters = proof.voters.0.first().into_iter().flatten();
                let list = voters.filter_map(|voter| Some((voter.node, voter.key?.0)));
                let list: Vec<(u64, [u8; 32])> = list.collect();
                let proof = serde_json::to_value(proof).expect("a proof is JSON");
                // Whoever lists more than voted is convinced of nothing.
                assert!(proof::verify(&proof, &keys()).is_err() && Product::verify(&proof, &keys()).is_err());
                for proof in [
                    proof.clone(),
                    damaged(&proof, &mut drawn.dice),
                    damaged(&proof, &mut drawn.dice),
                ] {
                    let own = proof::verify(&proof, &list).map(|proven| proven.digest);
                    let theirs = Product::verify(&proof, &list);
                    assert_eq!(
                        own.as_ref().ok(),
                        theirs.as_ref().ok(),
                        "seed {seed}: {own:?}, {theirs:?}: {proof}"
                    );
                    *(if own.is_ok() { &mut good } else { &mut bad }) += 1;
                }
            }
        }
    }
    assert!(good > 20 && bad > 20, "{good} good, {bad} bad");
}

/// A key of nobody's is no one's.
#[test]
fn a_stranger_proves_nothing() {
    let nobody: &[(u64, [u8; 32])] = &[(1, PublicKey([7; 32]).0)];
    for seed in 0..histories() {
        let drawn = Drawn::new(seed);
        let ledger = &drawn.cluster.ledger;
        for asset in ledger.assets() {
            for epoch in ledger.epochs() {
                if let Some(proof) = ledger.proof(&asset.id, epoch, None) {
                    let proof = serde_json::to_value(proof).expect("a proof is JSON");
                    assert!(proof::verify(&proof, nobody).is_err());
                    return;
                }
            }
        }
    }
    panic!("no log has a seal");
}
