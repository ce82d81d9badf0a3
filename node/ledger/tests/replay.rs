//! Replay: a ledger restored from a snapshot and given the rest of the log is the ledger that saw all of it, retries
//! included; exported events recreate what the live ones made; and no bytes whatever make `apply` panic.

mod common;

use common::{Cluster, GATEWAY, attestation, key, node_key, script, sign};
use ledger::balance::Balance;
use ledger::canonical::Canonical;
use ledger::contract::Contract;
use ledger::invariant::Witness;
use ledger::merkle::Frontier;
use ledger::rule::Rule;
use ledger::snapshot::SnapshotError;
use ledger::{Action, Applied, AssetId, Body, ContractId, Entry, Envelope, Epoch, Event, Ledger, Refusal};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A history with something of everything: lines of scripts, batches of envelopes, retries, attestations, ticks.
fn history(choices: &[(u8, u8, u8)]) -> Cluster {
    let mut cluster = Cluster::new();
    let mut sent: Vec<Envelope> = Vec::new();
    for (what, a, b) in choices {
        let (x, y, epoch) = (a % 6, b % 6, u64::from(b / 6 % 3));
        let line = match what % 16 {
            0..=4 => format!(
                "settle a{x} {epoch} {} co2={b}, a{y} {epoch} {b} auto=0",
                i64::from(*a) - 60
            ),
            5 => format!("rule a{} from=a{} to=a{}", x + 1, x / 2, x / 3),
            6 => format!("contract k{} a{x}->a{y} {a} firm price=7", b % 4),
            7 => format!("contract k{} a{x}<-a{y} {a} matched min={b} total=300", b % 4),
            8 => format!("seal a{x} {epoch}"),
            9 | 10 => format!("epoch {epoch}"),
            11 => format!("correct a{x} {epoch}"),
            12 => format!("{} k{}", ["suspend", "activate"][usize::from(a % 2)], b % 4),
            13 => {
                cluster.now += u64::from(*a) * 300;
                cluster.apply(Body::Tick {});
                continue;
            }
            14 if !sent.is_empty() => {
                let again = sent[usize::from(*a) % sent.len()].clone();
                let twice = vec![again.clone(), again];
                cluster.apply(Body::Envelopes { envelopes: twice });
                continue;
            }
            _ => {
                let Some(header) = cluster.ledger.head().map(|block| block.header.clone()) else {
                    continue;
                };
                let node = u64::from(a % 4) + 1;
                let attestations = vec![attestation(node, &node_key(node), &header)];
                cluster.apply(Body::Attestations { attestations });
                continue;
            }
        };
        let envelope = cluster.envelope(script::parse(&line).expect("an action"));
        sent.push(envelope.clone());
        cluster.submit(envelope);
    }
    cluster
}

fn choices() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
    proptest::collection::vec(any::<(u8, u8, u8)>(), 1..80)
}

fn replayed(from: Ledger, log: &[(u64, Vec<u8>)]) -> (Ledger, Vec<Applied>) {
    let mut ledger = from;
    let applied = log
        .iter()
        .map(|(index, bytes)| ledger.apply_raw(*index, bytes))
        .collect();
    (ledger, applied)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_and_the_rest_of_the_log_is_the_whole_log(choices in choices(), cut in any::<prop::sample::Index>()) {
        let cluster = history(&choices);
        let (head, tail) = cluster.log.split_at(cut.index(cluster.log.len()));
        let (before, _) = replayed(Ledger::new(), head);
        let (live, answers) = replayed(Ledger::restore(&before.snapshot()).expect("our own snapshot"), tail);
        let (_, expected) = replayed(before, tail);
        prop_assert_eq!(answers, expected);
        prop_assert_eq!(live.snapshot(), cluster.ledger.snapshot());
        prop_assert_eq!(live.state(), cluster.ledger.state());
    }

    #[test]
    fn exported_events_recreate_what_the_live_ones_made(choices in choices()) {
        let cluster = history(&choices);
        let mut live = Memory::default();
        let (_, applied) = replayed(Ledger::new(), &cluster.log);
        applied.into_iter().flat_map(|applied| applied.events).for_each(|event| live.take(event));
        let mut restored = Memory::default();
        cluster.ledger.export().events().for_each(|event| restored.take(event));
        prop_assert_eq!(live, restored);
    }

    #[test]
    fn damaged_bytes_are_refused_and_change_nothing_else(
        choices in choices(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..6),
        victim in any::<prop::sample::Index>(),
    ) {
        let mut cluster = history(&choices);
        let (_, bytes) = cluster.log[victim.index(cluster.log.len())].clone();
        let bytes = damaged(bytes, &damage);
        let decoded = Entry::decode(&bytes);
        if let Ok(entry) = &decoded {
            prop_assert_eq!(entry.encode(), bytes.clone(), "what decodes has one encoding");
        }
        let assets = cluster.ledger.assets().count();
        let applied = cluster.apply_bytes(bytes);
        if decoded.is_err() {
            let refused = matches!(
                applied.outcome.as_ref().and_then(|o| o.refusal()),
                Some(Refusal::Undecodable { .. })
            );
            prop_assert!(refused && applied.events.is_empty());
            prop_assert_eq!(cluster.ledger.assets().count(), assets);
        }
        // It is alive.
        cluster.now = cluster.ledger.now().get();
        let outcome = cluster.act(script::parse("settle alive 1 5").expect("an action"));
        prop_assert!(outcome.refusal().is_none());

        let snapshot = damaged(cluster.ledger.snapshot(), &damage);
        let restored = Ledger::restore(&snapshot);
        prop_assert!(restored.is_err() || snapshot == cluster.ledger.snapshot());
    }

    #[test]
    fn no_bytes_make_it_panic(entries in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..8)) {
        let mut cluster = Cluster::new();
        for mut bytes in entries {
            let _ = Ledger::restore(&bytes);
            let _ = Entry::decode(&bytes);
            cluster.apply_bytes(bytes.clone());
            // With a good beginning they get further.
            let mut entry = Entry { at: Default::default(), body: Body::Tick {} }.encode();
            entry.pop();
            entry.append(&mut bytes);
            cluster.apply_bytes(entry);
        }
    }

    /// Actions whose bytes were changed and that still decode, signed again: every field gets strange values, none gets past its bounds.
    #[test]
    fn strange_actions_are_answered(
        choices in choices(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..3),
    ) {
        let mut cluster = history(&choices);
        let mut witness = Witness::new();
        let (mut ledger, log) = (Ledger::new(), cluster.log.clone());
        for (index, bytes) in &log {
            let applied = ledger.apply_raw(*index, bytes);
            prop_assert_eq!(witness.observe(&ledger, &applied), Ok(()));
        }
        cluster.now = cluster.ledger.now().get();
        for (_, bytes) in log {
            let Ok(Entry { body: Body::Envelopes { envelopes }, .. }) = Entry::decode(&bytes) else { continue };
            let Ok(action) = Action::from_bytes(&damaged(envelopes[0].action.to_bytes(), &damage)) else { continue };
            let envelope = cluster.envelope(action);
            let applied = cluster.apply(Body::Envelopes { envelopes: vec![envelope] });
            prop_assert_eq!(applied.answers.len(), 1);
            prop_assert_eq!(witness.observe(&cluster.ledger, &applied), Ok(()));
        }
    }

    /// A snapshot whose checksum fits but whose fields were changed is an error or a consistent ledger, never a panic.
    #[test]
    fn forged_snapshots_do_not_panic(
        choices in choices(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..4),
    ) {
        let cluster = history(&choices);
        let mut content = cluster.ledger.snapshot();
        content.truncate(content.len() - 32);
        let mut content = damaged(content, &damage);
        let checksum = ledger::digest::digest("snapshot", &content);
        content.extend_from_slice(&checksum.0);
        if let Ok(mut ledger) = Ledger::restore(&content) {
            ledger.export().events().for_each(drop);
            let epochs: Vec<Epoch> = ledger.epochs().collect();
            for epoch in epochs {
                let action = Action::SealEpoch { epoch, under: None };
                let not_after = ledger.now().plus(1000).get();
                let envelope = sign(&ledger, &key(GATEWAY), [3; 16], not_after, action);
                let index = ledger.applied().unwrap_or(0).saturating_add(1);
                ledger.apply(index, &Entry { at: ledger.now(), body: Body::Envelopes { envelopes: vec![envelope] } });
            }
            let _ = ledger.snapshot();
        }
    }
}

fn damaged(mut bytes: Vec<u8>, damage: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    for (place, byte, how) in damage {
        let at = place.index(bytes.len().max(1)).min(bytes.len());
        match how {
            0 if at < bytes.len() => bytes[at] = *byte,
            1 => bytes.insert(at, *byte),
            2 => bytes.truncate(at),
            _ if at < bytes.len() => bytes[at] ^= 1 << (byte % 8),
            _ => {}
        }
    }
    bytes
}

/// What a set of balancing actors would remember.
#[derive(Debug, Default, PartialEq)]
struct Memory {
    rules: BTreeMap<AssetId, Rule>,
    contracts: BTreeMap<ContractId, Contract>,
    booked: BTreeMap<(ContractId, Epoch), i128>,
    journals: BTreeMap<(AssetId, Epoch), Journal>,
}

#[derive(Debug, Default, PartialEq)]
struct Journal {
    version: Option<u32>,
    sealed: Balance,
    frontier: Frontier,
    open: Vec<ledger::Statement>,
}

impl Memory {
    fn book(&mut self, statement: &ledger::Statement) {
        for side in [&statement.from, &statement.to]
            .into_iter()
            .filter(|side| **side != *ledger::ROOT)
        {
            self.enter(side, statement);
        }
    }

    fn enter(&mut self, side: &AssetId, statement: &ledger::Statement) {
        let journal = self.journals.entry((side.clone(), statement.epoch)).or_default();
        journal.open.push(statement.clone());
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::AssetAdded { asset } => {
                self.rules.insert(asset, Rule::default());
            }
            Event::RuleSet { asset, rule } => {
                self.rules.insert(asset, rule);
            }
            Event::ContractSet { contract } => {
                self.contracts.insert(contract.terms.id.clone(), contract);
            }
            Event::ContractRestored { contract, booked } => {
                self.booked.extend(
                    booked
                        .into_iter()
                        .map(|(epoch, energy)| ((contract.clone(), epoch), energy)),
                );
            }
            Event::Booked { statement } => self.book(&statement),
            Event::Sealed(sealed) => {
                sealed.statements().for_each(|statement| self.book(statement));
                for turn in sealed.turns.iter().filter(|turn| turn.booked.is_some()) {
                    let contract = self.contracts.get_mut(&turn.contract).expect("it was announced");
                    contract.balanced += turn.taken.wide();
                    *self
                        .booked
                        .entry((turn.contract.clone(), sealed.seal.epoch))
                        .or_default() += turn.taken.wide();
                }
                let asset = sealed.seal.asset.clone();
                let journal = self
                    .journals
                    .entry((asset.clone(), sealed.seal.epoch))
                    .or_default();
                for statement in journal.open.drain(..) {
                    journal.sealed.add(&asset, &statement);
                    journal.frontier.push(statement.digest());
                }
                journal.version = Some(sealed.seal.version);
            }
            Event::JournalRestored(image) => {
                let journal = Journal {
                    version: Some(image.newest.0.version),
                    sealed: image.sealed,
                    frontier: image.frontier,
                    open: Vec::new(),
                };
                let before = self.journals.insert((image.asset, image.epoch), journal);
                assert_eq!(before, None, "sealed parts come first");
            }
            Event::OpenRestored { statement, open } => {
                let sides = [&statement.from, &statement.to].into_iter().zip(open);
                for (side, _) in sides.filter(|(_, open)| *open) {
                    self.enter(side, &statement);
                }
            }
            // These histories have no rosters.
            Event::RosterAdded { .. } | Event::RosterBooked { .. } => {}
            Event::AuditRuleSet { .. } | Event::Approved { .. } => {}
        }
    }
}

#[test]
fn a_snapshot_says_what_is_wrong_with_it() {
    let good = Cluster::new().ledger.snapshot();
    assert!(Ledger::restore(&good).is_ok());
    let mut version = good.clone();
    version[0] = 9;
    assert_eq!(
        Ledger::restore(&version).err(),
        Some(SnapshotError::Version { found: 9 })
    );
    let mut rotten = good.clone();
    rotten[40] ^= 1;
    assert_eq!(Ledger::restore(&rotten).err(), Some(SnapshotError::Checksum));
    assert_eq!(Ledger::restore(&[]).err(), Some(SnapshotError::Checksum));
}

#[test]
fn an_index_is_applied_once() {
    let mut cluster = Cluster::new();
    let envelope = cluster.envelope(script::parse("settle pv 1 5").expect("an action"));
    let entry = Entry {
        at: Default::default(),
        body: Body::Envelopes {
            envelopes: vec![envelope],
        },
    };
    assert_eq!(cluster.ledger.apply(2, &entry).events.len(), 2);
    let state = cluster.ledger.state();
    let again = cluster.ledger.apply(2, &entry);
    assert!(again.answers.is_empty() && again.events.is_empty());
    assert_eq!(cluster.ledger.state(), state);
}

#[test]
fn attestations_ticks_and_memberships_leave_the_running_digest_alone() {
    let mut cluster = Cluster::new();
    cluster.act(script::parse("settle pv 1 5").expect("an action"));
    cluster.act(script::parse("seal pv 1").expect("an action"));
    let state = cluster.ledger.state();
    let header = cluster.ledger.head().expect("a block").header.clone();
    assert_eq!(header.state, state, "the header's state includes its own entry");
    cluster.apply(Body::Attestations {
        attestations: vec![attestation(1, &node_key(1), &header)],
    });
    cluster.apply(Body::Tick {});
    cluster
        .ledger
        .apply_membership(cluster.index + 1, vec![[1, 2].into()]);
    assert_eq!(cluster.ledger.state(), state);
    cluster.index += 1;
    cluster.act(script::parse("settle pv 1 5").expect("an action"));
    assert_ne!(cluster.ledger.state(), state);
}

#[test]
fn a_log_begins_with_one_genesis() {
    let mut empty = Ledger::new();
    let mut cluster = Cluster::new();
    let envelope = cluster.envelope(script::parse("settle pv 1 5").expect("an action"));
    let before = empty.apply(
        1,
        &Entry {
            at: Default::default(),
            body: Body::Envelopes {
                envelopes: vec![envelope],
            },
        },
    );
    assert_eq!(before.answers[0].outcome.refusal(), Some(&Refusal::NoGenesis {}));
    let second = cluster.apply(Body::Genesis {
        genesis: common::genesis(5),
    });
    assert_eq!(
        second.outcome.as_ref().and_then(|o| o.refusal()),
        Some(&Refusal::GenesisExists {})
    );
    let mut twice = common::genesis(3);
    twice.nodes.push(twice.nodes[0]);
    let refused = empty.apply(
        2,
        &Entry {
            at: Default::default(),
            body: Body::Genesis { genesis: twice },
        },
    );
    assert_eq!(
        refused
            .outcome
            .as_ref()
            .and_then(|o| o.refusal())
            .map(Refusal::code),
        Some("genesis_invalid")
    );
    assert_eq!(
        ledger::Genesis::from_bytes(&common::genesis(3).to_bytes()),
        Ok(common::genesis(3))
    );
}
