//! A short log of a cluster of three, made by the ledger's own types: what the oracle must accept, and what it must not.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use ledger::block::Attestation;
use ledger::envelope::signing_bytes;
use ledger::units::{Epoch, GramsCo2, Timestamp, Wh};
use ledger::{Action, AssetId, Body, Entry, Envelope, Genesis, Ledger, PublicKey, Settlement, Signature};
use serde_json::{Value, json};

use checkers::history::{History, Moment, Operation, Outcome as Told, SealSeen, Shown};
use checkers::oracle::digest::{self, hex};
use checkers::oracle::judge::{Judgement, Kind, Payload};
use checkers::replay::{self, Files, Snapshots};
use checkers::subject::{Applied, Subject};
use checkers::{once, soundness, told};

use crate::odd::{Filed, HandsOnMore};
use crate::product::Product;

/// The product's ledger beside the oracle.
pub(super) type Judged = Judgement<Product>;

pub(super) fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

const GATEWAY: u8 = 50;

fn asset(name: &str) -> AssetId {
    name.try_into().unwrap()
}

/// A log, and the ledger that it makes.
pub(super) struct Fixture {
    pub(super) log: BTreeMap<u64, Payload>,
    pub(super) ledger: Ledger,
    now: u64,
}

impl Fixture {
    /// Begins, settles, seals, retries, is refused, and is signed by n1 and n2.
    pub(super) fn new() -> Fixture {
        let mut fixture = Fixture {
            log: BTreeMap::new(),
            ledger: Ledger::new(),
            now: 1_000,
        };
        fixture.put(Payload::Membership(vec![BTreeSet::from([1, 2, 3])]));
        fixture.put(Payload::Blank);
        let nodes = (1..=3)
            .map(|node: u8| (node.into(), public(&key(node))))
            .collect();
        fixture.body(Body::Genesis {
            genesis: Genesis {
                salt: [7; 32],
                created: Timestamp::ZERO,
                epoch_ms: 900_000,
                nodes,
                admins: vec![public(&key(49))],
                gateways: vec![public(&key(GATEWAY))],
                development: true,
            },
        });
        let settle = fixture.envelope("settle", 61_000, fixture.settle(500));
        let seal = fixture.envelope(
            "seal",
            61_000,
            Action::Seal {
                asset: asset("pv"),
                epoch: Epoch::new(7).unwrap(),
            },
        );
        let again = fixture.envelope(
            "again",
            61_000,
            Action::Seal {
                asset: asset("pv"),
                epoch: Epoch::new(7).unwrap(),
            },
        );
        fixture.envelopes(vec![settle.clone(), seal]);
        fixture.envelopes(vec![settle, again]);
        fixture.sign(&[1, 2]);
        fixture
    }

    fn settle(&self, consumption: i64) -> Action {
        Action::Settle {
            settlements: vec![Settlement {
                meter: asset("pv"),
                epoch: Epoch::new(7).unwrap(),
                consumption: Wh::new(consumption).unwrap(),
                label: "virtual_1".try_into().unwrap(),
                co2eq: GramsCo2::new(3).unwrap(),
                autoseal: None,
            }],
        }
    }

    fn put(&mut self, payload: Payload) {
        let index = self.log.len() as u64;
        match &payload {
            Payload::Blank => self.ledger.apply_blank(index),
            Payload::Membership(configs) => self.ledger.apply_membership(index, configs.clone()),
            Payload::App(bytes) => drop(self.ledger.apply_raw(index, bytes)),
        }
        self.log.insert(index, payload);
    }

    fn body(&mut self, body: Body) {
        let at = Timestamp::new(self.now).unwrap();
        self.put(Payload::App(Entry { at, body }.encode().into()));
    }

    fn envelopes(&mut self, envelopes: Vec<Envelope>) {
        self.body(Body::Envelopes { envelopes });
    }

    /// As a gateway makes it of an idempotency key.
    fn envelope(&self, name: &str, not_after: u64, action: Action) -> Envelope {
        let signer = key(GATEWAY);
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&digest::digest("idempotency-key", name.as_bytes())[..16]);
        let not_after = Timestamp::new(not_after).unwrap();
        let bytes = signing_bytes(self.ledger.cluster(), public(&signer), nonce, not_after, &action);
        let signature = Signature(signer.sign(&bytes).to_bytes());
        Envelope {
            signer: public(&signer),
            nonce,
            not_after,
            action,
            signature,
        }
    }

    fn attestation(&self, node: u64, signer: &SigningKey) -> Attestation {
        let header = &self.ledger.head().unwrap().header;
        let signature = signer.sign(header.signing_input(&public(signer)).as_bytes());
        Attestation {
            node,
            index: header.index,
            header: header.digest(),
            signature: Signature(signature.to_bytes()),
        }
    }

    fn sign(&mut self, nodes: &[u8]) {
        let attestations = nodes
            .iter()
            .map(|node| self.attestation((*node).into(), &key(*node)))
            .collect();
        self.body(Body::Attestations { attestations });
    }

    /// The newest block: where it stands and what its header's digest is.
    pub(super) fn block(&self) -> (u64, [u8; 32]) {
        let block = self.ledger.head().unwrap();
        (block.header.index, block.digest.0)
    }

    fn proof(&self) -> Value {
        serde_json::to_value(
            self.ledger
                .proof(&asset("pv"), Epoch::new(7).unwrap(), None)
                .unwrap(),
        )
        .unwrap()
    }

    /// What clients heard and nodes show.
    pub(super) fn history(&self) -> History {
        let operation = |key: &str, outcome: Told| Operation {
            key: key.into(),
            keyed: true,
            action: "x".into(),
            body: Value::Null,
            settles: Vec::new(),
            asked: Moment::at(1),
            ended: Moment::at(2),
            outcome,
            told: None,
        };
        let block = self.ledger.head().unwrap();
        let seal = hex(&block.seals[0].0);
        let shown = Shown {
            status: json!({"applied": self.ledger.applied(), "state": self.ledger.state()}),
            blocks: vec![json!({"index": block.header.index, "digest": block.digest, "certified": true})],
            proofs: [(("pv".to_owned(), 7, 0), self.proof())].into(),
            ..Shown::default()
        };
        History {
            operations: vec![
                operation("settle", Told::Done),
                operation("seal", Told::Unknown),
                operation("again", Told::Refused(409, "already_sealed".into())),
                operation("never", Told::Unknown),
                operation("edge", Told::Refused(422, "invalid".into())),
                // Of what was asked without a key the log has another nonce.
                Operation {
                    keyed: false,
                    ..operation("keyless", Told::Done)
                },
            ],
            seals: vec![SealSeen {
                at_ms: 1,
                node: 1,
                asset: "pv".into(),
                epoch: 7,
                version: 0,
                digest: seal,
            }],
            shown: [(1, shown)].into(),
            ..History::default()
        }
    }
}

fn kinds(log: &BTreeMap<u64, Payload>) -> Vec<Kind> {
    Judged::of(log)
        .differences
        .into_iter()
        .map(|difference| difference.kind)
        .collect()
}

#[test]
fn ledger_and_oracle_agree_on_a_good_log() {
    let fixture = Fixture::new();
    let judgement = Judged::of(&fixture.log);
    assert_eq!(judgement.differences, []);
    assert_eq!(judgement.seen.get("a retry that was a duplicate"), Some(&1));
    assert_eq!(judgement.seen.get("a seal"), Some(&1));
    assert_eq!(judgement.seen.get("a seal made twice, refused"), Some(&1));
    let block = judgement.book.blocks.values().next().unwrap();
    assert!(block.certified && block.signers == BTreeSet::from([1, 2]));
}

#[test]
fn ledger_and_oracle_refuse_alike_what_is_forged_late_or_odd() {
    let mut fixture = Fixture::new();
    let mut forged = fixture.envelope("forged", 61_000, fixture.settle(1));
    forged.signature.0[0] ^= 1;
    let mut stranger = fixture.envelope("stranger", 61_000, fixture.settle(1));
    stranger.signer = public(&key(99));
    let early = fixture.envelope("early", 1_000 + 15 * 60_000 + 1, fixture.settle(1));
    let latest = fixture.envelope("latest", 1_000 + 15 * 60_000, fixture.settle(1));
    let expired = fixture.envelope("expired", 999, fixture.settle(1));
    let reused = fixture.envelope("settle", 61_000, fixture.settle(2));
    let late = fixture.envelope("late", 61_000, fixture.settle(9));
    let epoch = Epoch::new(7).unwrap();
    let correct = fixture.envelope(
        "correct",
        61_000,
        Action::Correct {
            asset: asset("pv"),
            epoch,
        },
    );
    let all = fixture.envelope("all", 61_000, Action::SealEpoch { epoch, under: None });
    fixture.envelopes(vec![
        forged, stranger, early, latest, expired, reused, late, correct, all,
    ]);
    // A stranger's signature, a second one, and one of a learner: none counts.
    let doubtful = vec![
        fixture.attestation(1, &key(9)),
        fixture.attestation(1, &key(1)),
        fixture.attestation(1, &key(1)),
        fixture.attestation(4, &key(4)),
    ];
    fixture.body(Body::Attestations {
        attestations: doubtful,
    });
    // Time forgets.
    fixture.now = 10_000_000;
    let again = fixture.envelope("settle", 10_000_001, fixture.settle(500));
    fixture.envelopes(vec![again]);
    let node = Action::RegisterNode {
        node: 4,
        key: public(&key(4)),
        peer: None,
    };
    let register = fixture.envelope("register", 10_000_001, node);
    let revoke = fixture.envelope("revoke", 10_000_001, Action::RevokeNode { node: 1 });
    let epoch = Epoch::new(8).unwrap();
    let zero = Action::Settle {
        settlements: vec![Settlement {
            epoch,
            ..first(&fixture.settle(0))
        }],
    };
    let settle = fixture.envelope("8", 10_000_001, zero);
    let seal = fixture.envelope(
        "seal 8",
        10_000_001,
        Action::Seal {
            asset: asset("pv"),
            epoch,
        },
    );
    fixture.envelopes(vec![register, revoke, settle, seal]);
    fixture.sign(&[1, 2, 3]);
    fixture.put(Payload::App(Bytes::from_static(b"no entry")));
    let judgement = Judged::of(&fixture.log);
    assert_eq!(judgement.differences, []);
    for (what, times) in [
        ("a forged envelope", 2),
        ("an expired envelope", 1),
        ("a nonce used twice", 1),
        ("a corrected seal", 1),
    ] {
        assert_eq!(judgement.seen.get(what), Some(&times), "{what}");
    }
}

fn first(action: &Action) -> Settlement {
    let Action::Settle { settlements } = action else {
        unreachable!("it settles")
    };
    settlements[0].clone()
}

/// The ledger's side of an entry, falsified: the oracle must notice, and say what about.
#[test]
fn the_judge_notices_whatever_a_ledger_might_do_otherwise() {
    let falsify = |at: u64, how: fn(&mut Applied)| -> Vec<Kind> {
        let mut judgement = Judgement::<HandsOnMore>::new();
        (judgement.ledger.at, judgement.ledger.how) = (at, how);
        for (index, payload) in &Fixture::new().log {
            judgement.apply(*index, payload);
        }
        judgement
            .differences
            .into_iter()
            .map(|difference| {
                assert_eq!(difference.index, at);
                difference.kind
            })
            .collect()
    };
    let answered = |at: u64, answer: &'static str| match answer {
        "done" => falsify(at, |a| a.answers[0].answer = "done".into()),
        "bad_signature" => falsify(at, |a| a.answers[0].answer = "refused: bad_signature".into()),
        "nonce_reused" => falsify(at, |a| a.answers[0].answer = "refused: nonce_reused".into()),
        _ => falsify(at, |a| a.answers[0].answer = "refused: root_is_no_meter".into()),
    };
    assert_eq!(falsify(3, |_| {}), []);
    assert_eq!(falsify(3, |a| drop(a.answers.pop())), [Kind::Result]);
    assert_eq!(falsify(3, |a| a.seals.clear()), [Kind::Result]);
    assert_eq!(falsify(3, |a| a.seals[0][0] ^= 1), [Kind::Result]);
    assert_eq!(falsify(3, |a| drop(a.booked.pop())), [Kind::Result]);
    assert_eq!(falsify(3, |a| a.booked[0].1.energy += 1), [Kind::Result]);
    assert_eq!(falsify(3, |a| a.booked[0].0 += 1), [Kind::Result]);
    assert_eq!(falsify(3, |a| a.answers[0].duplicate = true), [Kind::Once]);
    assert_eq!(falsify(4, |a| a.answers[0].duplicate = false), [Kind::Once]);
    assert_eq!(answered(3, "bad_signature"), [Kind::Authority]);
    assert_eq!(answered(3, "nonce_reused"), [Kind::Once]);
    assert_eq!(answered(3, "root_is_no_meter"), [Kind::Result]);
    assert_eq!(answered(4, "root_is_no_meter"), [Kind::Once]);
    assert_eq!(answered(3, "done"), [Kind::Result]);
    assert_eq!(falsify(3, |a| a.block = None), [Kind::Certificate]);
    assert_eq!(falsify(5, |a| a.certified.clear()), [Kind::Certificate]);
    assert_eq!(
        falsify(5, |a| a.attested[0] = Some("bad_signature".into())),
        [Kind::Certificate]
    );
}

#[test]
fn a_snapshot_must_be_what_replay_gives() {
    let fixture = Fixture::new();
    let last = fixture.ledger.applied().unwrap();
    let snapshots =
        |index: u64, bytes: Vec<u8>| -> Snapshots { [(index, vec![(1, Bytes::from(bytes))])].into() };
    let at = |upto: u64| {
        let mut judgement = Judged::new();
        fixture
            .log
            .range(..=upto)
            .for_each(|(index, payload)| judgement.apply(*index, payload));
        judgement.ledger.snapshot()
    };
    let complaints = |snapshots: &Snapshots| {
        replay::check::<Product>(&fixture.log, snapshots, &Files::new())
            .1
            .len()
    };
    assert_eq!(complaints(&snapshots(4, at(4))), 0);
    assert_eq!(complaints(&snapshots(last, fixture.ledger.snapshot())), 0);
    assert!(complaints(&snapshots(4, at(3))) > 0, "of an earlier state");
    assert!(complaints(&snapshots(3, at(4))) > 0, "of a later state");
    let mut damaged = at(4);
    damaged.pop();
    assert!(complaints(&snapshots(4, damaged)) > 0);
    // One that shows the same, and would hand on something else.
    let (_, found) = replay::check::<HandsOnMore>(&fixture.log, &snapshots(4, at(4)), &Files::new());
    assert!(
        found.iter().all(|what| what.contains("it would make a snapshot")),
        "{found:?}"
    );
    assert_eq!(found.len(), 2, "as it is restored, and with the rest of the log");
    // What two nodes have alike is restored once; what only one of them has is looked at as well.
    let both = |of_two: Vec<u8>| -> Snapshots {
        [(4, vec![(1, Bytes::from(at(4))), (2, Bytes::from(of_two))])].into()
    };
    let (_, found) = replay::check::<HandsOnMore>(&fixture.log, &both(at(4)), &Files::new());
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1].contains("[1, 2]"), "{found:?}");
    assert_eq!(complaints(&both(at(4))), 0);
    assert!(complaints(&both(at(3))) > 0);
}

#[test]
fn a_snapshot_is_equal_only_with_the_files_it_refers_to() {
    let fixture = Fixture::new();
    let last = fixture.ledger.applied().unwrap();
    let bytes = Bytes::from(fixture.ledger.snapshot());
    let snapshots: Snapshots = [(last, vec![(1, bytes.clone()), (2, bytes)])].into();
    let complaints = |of_two: Option<&'static str>| {
        let mut files = Files::from([((1, "a file".to_owned()), Bytes::from("whole"))]);
        files.extend(of_two.map(|content| ((2, "a file".to_owned()), Bytes::from(content))));
        replay::check::<Filed>(&fixture.log, &snapshots, &files).1.len()
    };
    assert_eq!(complaints(Some("whole")), 0);
    assert_eq!(complaints(Some("damaged")), 1);
    assert_eq!(complaints(None), 1);
}

/// Of many snapshots six are restored, and each node's newest, and whatever differs from replay's.
#[test]
fn of_many_snapshots_some_are_looked_at_closely() {
    let mut log = Fixture::new().log;
    let first = log.len() as u64;
    log.extend((first..first + 12).map(|index| (index, Payload::Blank)));
    let mut judgement = Judged::new();
    let mut snapshots = Snapshots::new();
    for (index, payload) in &log {
        judgement.apply(*index, payload);
        if *index >= first {
            let bytes = Bytes::from(judgement.ledger.snapshot());
            snapshots.insert(*index, vec![(1, bytes)]);
        }
    }
    let found = replay::check::<HandsOnMore>(&log, &snapshots, &Files::new()).1;
    assert_eq!(found.len(), 6 + 1 + 1, "the newest twice: {found:?}");
    let older = snapshots[&first].clone();
    snapshots.insert(first + 5, older);
    let found = replay::check::<Product>(&log, &snapshots, &Files::new()).1;
    assert_eq!(found.len(), 1, "one that is not among the six: {found:?}");
}

#[test]
fn nodes_show_what_replay_gives() {
    let fixture = Fixture::new();
    let judgement = Judged::of(&fixture.log);
    let complaints = |change: &dyn Fn(&mut History)| {
        let mut history = fixture.history();
        change(&mut history);
        replay::shown(&history, &judgement).len()
    };
    let shown =
        |history: &mut History, change: &dyn Fn(&mut Shown)| history.shown.values_mut().for_each(change);
    assert_eq!(complaints(&|_| {}), 0);
    assert_eq!(complaints(&|h| shown(h, &|s| s.status["state"] = json!("00"))), 1);
    assert_eq!(
        complaints(&|h| shown(h, &|s| s.status["applied"] = json!(1_000))),
        0,
        "of later nothing is known"
    );
    assert_eq!(
        complaints(&|h| shown(h, &|s| s.blocks[0]["digest"] = json!("00"))),
        1
    );
    assert_eq!(
        complaints(&|h| shown(h, &|s| s.blocks[0]["index"] = json!(99))),
        1
    );
    assert_eq!(complaints(&|h| h.seals[0].digest = "00".into()), 1);
    assert_eq!(complaints(&|h| h.seals[0].version = 1), 1);
    let mut uncertified = Fixture::new();
    let signatures = uncertified.log.len() as u64 - 1;
    uncertified.log.remove(&signatures);
    let judgement = Judged::of(&uncertified.log);
    let mut history = fixture.history();
    history.shown.values_mut().for_each(|s| s.status = Value::Null);
    assert_eq!(
        replay::shown(&history, &judgement).len(),
        1,
        "shown as certified, and isn't"
    );
}

#[test]
fn clients_were_told_what_the_log_did() {
    let fixture = Fixture::new();
    let judgement = Judged::of(&fixture.log);
    let complaints = |operation: usize, outcome: Told| -> Vec<&'static str> {
        let mut history = fixture.history();
        history.operations[operation].outcome = outcome;
        once::check(&history, &judgement)
            .into_iter()
            .map(|(_, checker, _)| checker)
            .collect()
    };
    let done = || Told::Done;
    let refused = |code: &str| Told::Refused(409, code.into());
    assert_eq!(complaints(0, done()), [""; 0]);
    assert_eq!(
        complaints(0, refused("out_of_range")),
        ["exactly once"],
        "refused, and done"
    );
    assert_eq!(complaints(2, done()), ["exactly once"], "done, and refused");
    assert_eq!(
        complaints(2, refused("out_of_range")),
        ["exactly once"],
        "refused otherwise"
    );
    assert_eq!(complaints(3, done()), ["durability"], "acknowledged, and nowhere");
    let mut twice = Judged::of(&fixture.log);
    let again = twice.first_answers[0].clone();
    twice.first_answers.push(again);
    let found: Vec<_> = once::check(&fixture.history(), &twice)
        .into_iter()
        .map(|(_, checker, _)| checker)
        .collect();
    assert_eq!(found, ["exactly once"]);
}

#[test]
fn clients_were_told_by_which_entry_and_what_became_of_it() {
    let fixture = Fixture::new();
    let judgement = Judged::of(&fixture.log);
    // The fixture's first operation settles one value, with an entry of its own.
    let first = &judgement.first_answers[0];
    let right = told::Told {
        index: Some(first.index),
        words: first.words.clone(),
        accepted: Some(0),
        differs: None,
    };
    assert_eq!(right.words, "settled: []");
    let complaints = |told: told::Told| -> Vec<(&'static str, String)> {
        let mut history = fixture.history();
        history.operations[0].told = Some(told);
        let found = once::check(&history, &judgement);
        found
            .into_iter()
            .map(|(_, checker, what)| (checker, what))
            .collect()
    };
    assert_eq!(complaints(right.clone()), []);
    let silent = told::Told {
        words: first.words.clone(),
        ..told::Told::default()
    };
    assert_eq!(complaints(silent), []);
    let wrong = |change: fn(&mut told::Told), what: &str| {
        let mut told = right.clone();
        change(&mut told);
        let found = complaints(told);
        assert!(
            found.len() == 1 && found[0].0 == "answers" && found[0].1.contains(what),
            "{found:?}"
        );
    };
    wrong(
        |told| told.index = told.index.map(|index| index + 1),
        "done by entry",
    );
    wrong(|told| told.words.push('x'), "was answered");
    wrong(|told| told.accepted = Some(1), "booked 0 settlements");
    wrong(
        |told| told.differs = Some("all differs".to_owned()),
        "all differs",
    );
}

#[test]
fn a_proof_is_sound_or_it_is_none() {
    let fixture = Fixture::new();
    let judgement = Judged::of(&fixture.log);
    let complaints = |change: &dyn Fn(&mut Value)| {
        let mut history = fixture.history();
        for shown in history.shown.values_mut() {
            shown.proofs.values_mut().for_each(change);
        }
        soundness::check(&history, &judgement.book)
    };
    assert_eq!(complaints(&|_| {}), [""; 0]);
    for (what, change) in [
        (
            "no header",
            &(|p: &mut Value| p["header"] = Value::Null) as &dyn Fn(&mut Value),
        ),
        ("another block", &|p| p["header"]["index"] = json!(1)),
        ("another root", &|p| p["header"]["root"] = json!("00")),
        ("another payload", &|p| p["certificate"]["payload"] = json!("e30")),
        ("too few", &|p| {
            drop(p["certificate"]["signatures"].as_array_mut().unwrap().pop())
        }),
        ("none", &|p| p["certificate"]["signatures"] = json!([])),
        ("one twice", &|p| {
            let one = p["certificate"]["signatures"][0].clone();
            p["certificate"]["signatures"][1] = one;
        }),
        ("another's", &|p| {
            p["certificate"]["signatures"][0]["protected"] = json!("e30")
        }),
        ("a wrong one", &|p| {
            let other = p["certificate"]["signatures"][1]["signature"].clone();
            p["certificate"]["signatures"][0]["signature"] = other;
        }),
        ("no base64url", &|p| {
            p["certificate"]["signatures"][0]["signature"] = json!("=")
        }),
        ("a header in between that isn't", &|p| {
            p["chain"] = json!([p["header"].clone()])
        }),
    ] {
        assert_eq!(complaints(change).len(), 1, "{what}");
    }
    let mut unknown = fixture.history();
    let proof = fixture.proof();
    unknown
        .shown
        .values_mut()
        .for_each(|s| drop(s.proofs.insert(("pv".into(), 7, 1), proof.clone())));
    assert_eq!(
        soundness::check(&unknown, &judgement.book).len(),
        1,
        "of a version that was never sealed"
    );
    let mut before = Fixture::new();
    let signatures = before.log.len() as u64 - 1;
    before.log.remove(&signatures);
    assert_eq!(
        soundness::check(&fixture.history(), &Judged::of(&before.log).book).len(),
        1,
        "the log knows no signature"
    );
}

#[test]
fn a_log_that_was_tampered_with_is_refused_alike() {
    let fixture = Fixture::new();
    for at in [3, 4, 5] {
        let mut log = fixture.log.clone();
        let Some(Payload::App(bytes)) = log.get(&at) else {
            unreachable!("an entry of the ledger")
        };
        let mut bytes = bytes.to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        log.insert(at, Payload::App(bytes.into()));
        assert_eq!(kinds(&log), [], "entry {at}");
    }
}
