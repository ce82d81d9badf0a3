//! Whichever epochs are frozen, and whenever: answers, seals, digests, proofs and snapshots' meaning are those of a
//! ledger that keeps everything in memory.

mod common;

use common::{Cluster, attestation, node_key, script};
use ledger::frozen::{ArchiveFile, FreezePolicy, FrozenEpoch, Row, SealRow};
use ledger::{Body, Digest, Entry, Envelope, Epoch, Event, Ledger};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Freezes whatever can be.
const EAGER: FreezePolicy = FreezePolicy {
    after_epochs: 0,
    keep_seals: 0,
    keep_statements: usize::MAX,
};

/// What an archive's files would hold of an epoch.
struct Stored {
    rows: Vec<Row>,
    seals: Vec<SealRow>,
    rest: Vec<u8>,
}

/// A ledger whose epochs come and go.
#[derive(Default)]
struct Archiving {
    ledger: Ledger,
    archive: BTreeMap<(Epoch, String), Stored>,
    files: usize,
    frozen: usize,
    thawed: usize,
    unchanged: usize,
}

impl Archiving {
    fn load(&self, epoch: Epoch, files: &[ArchiveFile]) -> FrozenEpoch {
        let stored = &self.archive[&(epoch, files[0].name.clone())];
        let (rows, seals) = (stored.rows.iter().copied(), stored.seals.iter().cloned());
        FrozenEpoch::restore(self.ledger.bounds(), epoch, rows, seals, &stored.rest).expect("our own archive")
    }

    fn thaw(&mut self, epoch: Epoch) {
        let shown = self.ledger.shown(epoch);
        let frozen = match (&shown, self.ledger.absent(epoch)) {
            (Some(shown), _) => FrozenEpoch::clone(shown),
            (None, Some(files)) => self.load(epoch, files),
            (None, None) => panic!("{epoch} is not frozen"),
        };
        assert!(self.ledger.thaw(&frozen));
        assert!(!self.ledger.thaw(&frozen));
        self.thawed += 1;
    }

    fn freeze(&mut self) -> bool {
        let Some(epoch) = self.ledger.freezable(&EAGER) else {
            return false;
        };
        let mut lent = self.ledger.share(epoch).expect("it is freezable").survey();
        self.ledger.add_leaves(&mut lent);
        let files = self.ledger.unchanged(epoch).unwrap_or_else(|| {
            self.files += 1;
            let name = format!("file {}", self.files);
            let stored = Stored {
                rows: lent.rows().collect(),
                seals: lent.seals().collect(),
                rest: lent.rest(),
            };
            self.archive.insert((epoch, name.clone()), stored);
            vec![ArchiveFile {
                name,
                bytes: 1,
                digest: Digest::ZERO,
            }]
        });
        self.unchanged += usize::from(self.archive.len() < self.frozen + 1);
        assert!(self.ledger.freeze(&lent, files));
        self.frozen += 1;
        true
    }

    fn apply(&mut self, index: u64, bytes: &[u8]) -> ledger::Applied {
        if let Ok(entry) = Entry::decode(bytes) {
            for epoch in self.ledger.needs(&entry) {
                self.thaw(epoch);
            }
        }
        self.ledger.apply_raw(index, bytes)
    }

    /// A restart from a snapshot.
    fn restart(&mut self) {
        self.ledger = Ledger::restore(&self.ledger.snapshot()).expect("our own snapshot");
    }

    fn show(&mut self, epoch: Epoch) {
        if let Some(files) = self.ledger.absent(epoch) {
            let files = files.to_vec();
            let frozen = self.load(epoch, &files);
            self.ledger.show(Arc::new(frozen), &files, 10);
        }
    }
}

/// A log with late values, corrections, contracts and certificates in a few epochs.
fn history(choices: &[(u8, u8, u8)]) -> Cluster {
    let mut cluster = Cluster::new();
    let mut sent: Vec<Envelope> = Vec::new();
    for (what, a, b) in choices {
        let (x, y, epoch) = (a % 6, b % 6, u64::from(b / 6 % 5));
        let line = match what % 16 {
            0..=3 => format!("settle a{x} {epoch} {a} co2={b}, a{y} {epoch} {b} auto={}", b % 4),
            4 => format!("rule a{} from=a{} to=a{}", x + 1, x / 2, x / 3),
            5 => format!("contract k{} a{x}->a{y} {a} price=7", b % 4),
            6 => format!("contract k{} a{x}<-a{y} {a} matched min={b} total=300", b % 4),
            7 => format!("seal a{x} {epoch}"),
            8..=10 => format!("epoch {epoch}"),
            11 => format!("correct a{x} {epoch}"),
            12 if !sent.is_empty() => {
                let again = sent[usize::from(*a) % sent.len()].clone();
                let mixed = vec![
                    again,
                    cluster.envelope(script::parse(&format!("epoch {epoch}")).expect("an action")),
                ];
                cluster.apply(Body::Envelopes { envelopes: mixed });
                continue;
            }
            _ => {
                cluster.now += u64::from(*a) * 9_000;
                let Some(header) = cluster.ledger.head().map(|block| block.header.clone()) else {
                    continue;
                };
                let attestations = (1..=3)
                    .map(|node| attestation(node, &node_key(node), &header))
                    .collect();
                cluster.apply(Body::Attestations { attestations });
                continue;
            }
        };
        let envelope = cluster.envelope(script::parse(&line).expect("an action"));
        sent.push(envelope.clone());
        // Now and then two actions make one entry, whose block then has seals of two epochs.
        if what % 3 == 0 {
            let second = cluster.envelope(script::parse(&format!("epoch {}", b % 5)).expect("an action"));
            cluster.apply(Body::Envelopes {
                envelopes: vec![envelope, second],
            });
        } else {
            cluster.submit(envelope);
        }
    }
    cluster
}

/// Runs a log through both, and compares everything that can be asked.
fn compare(choices: &[(u8, u8, u8)], coins: &[u8]) -> Archiving {
    let cluster = history(choices);
    let mut plain = Ledger::new();
    let mut archiving = Archiving::default();
    let mut coins = coins.iter().cycle();
    for (index, bytes) in &cluster.log {
        assert_eq!(plain.apply_raw(*index, bytes), archiving.apply(*index, bytes));
        assert_eq!(plain.state(), archiving.ledger.state());
        match coins.next().expect("a coin") % 8 {
            0 => drop(archiving.freeze()),
            1..=4 => while archiving.freeze() {},
            5 => archiving.restart(),
            _ => {}
        }
    }
    while archiving.freeze() {}
    assert!(plain.epochs().eq(archiving.ledger.epochs()));
    let assets: Vec<_> = plain.assets().map(|asset| asset.id.clone()).collect();
    for asset in &assets {
        for limit in [1, 3, 100] {
            let epochs = plain.epochs_of(asset, None, limit);
            assert_eq!(epochs, archiving.ledger.epochs_of(asset, None, limit));
            let before = epochs.first().copied();
            assert_eq!(
                plain.epochs_of(asset, before, limit),
                archiving.ledger.epochs_of(asset, before, limit)
            );
        }
    }
    assert_eq!(
        plain.late(None, None, 1000),
        archiving.ledger.late(None, None, 1000)
    );
    for epoch in plain.epochs().collect::<Vec<_>>() {
        archiving.show(epoch);
        assert_eq!(archiving.ledger.absent(epoch), None);
        assert_eq!(plain.open_assets(epoch), archiving.ledger.open_assets(epoch));
        assert!(plain.statements(epoch).eq(archiving.ledger.statements(epoch)));
        for asset in &assets {
            assert_eq!(
                plain.journal(asset, epoch),
                archiving.ledger.journal(asset, epoch)
            );
            assert_eq!(
                plain.balance(asset, epoch),
                archiving.ledger.balance(asset, epoch)
            );
            assert_eq!(plain.seals(asset, epoch), archiving.ledger.seals(asset, epoch));
            for record in plain.seals(asset, epoch) {
                assert_eq!(plain.eaf_figures(record), archiving.ledger.eaf_figures(record));
                let version = Some(record.seal.version);
                assert_eq!(
                    plain.proof(asset, epoch, version),
                    archiving.ledger.proof(asset, epoch, version)
                );
            }
            for contract in plain.merit_order(asset) {
                let id = &contract.terms.id;
                assert_eq!(
                    plain.contract_booked(id, epoch),
                    archiving.ledger.contract_booked(id, epoch)
                );
            }
        }
    }
    archiving.restart();
    for epoch in plain.epochs().collect::<Vec<_>>() {
        if archiving.ledger.absent(epoch).is_some() {
            archiving.thaw(epoch);
            let (own, thawed) = (plain.export(), archiving.ledger.export_epoch(epoch));
            let own = own.events().filter_map(|event| of_epoch(event, epoch));
            assert!(own.eq(thawed.events()));
        }
    }
    assert_eq!(plain.snapshot(), archiving.ledger.snapshot());
    archiving
}

/// What is left of an event if only one epoch counts.
fn of_epoch(mut event: Event, epoch: Epoch) -> Option<Event> {
    let counts = match &mut event {
        Event::ContractRestored { booked, .. } => {
            booked.retain(|(of, _)| *of == epoch);
            !booked.is_empty()
        }
        Event::JournalRestored(image) => image.epoch == epoch,
        Event::Approved { epoch: of, .. } => *of == epoch,
        Event::OpenRestored { statement, .. } => statement.epoch == epoch,
        _ => false,
    };
    counts.then_some(event)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn freezing_is_no_part_of_the_state(
        choices in proptest::collection::vec(any::<(u8, u8, u8)>(), 1..90),
        coins in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        compare(&choices, &coins);
    }
}

/// The property above is about something: in a fixed history epochs are frozen, thawed by late values, and frozen again.
#[test]
fn epochs_are_frozen_thawed_and_frozen_again() {
    let mut frozen = 0;
    let mut thawed = 0;
    for seed in 0..40u32 {
        let mut random = seed;
        let mut byte = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 24) as u8
        };
        let choices: Vec<_> = (0..80).map(|_| (byte(), byte(), byte())).collect();
        let done = compare(&choices, &[1]);
        frozen += done.frozen;
        thawed += done.thawed;
    }
    assert!(frozen > 100 && thawed > 100, "frozen {frozen}, thawed {thawed}");
}

fn act(cluster: &mut Cluster, line: &str) {
    let outcome = cluster.act(script::parse(line).expect("an action"));
    assert!(outcome.refusal().is_none(), "{line}: {outcome:?}");
}

fn certify(cluster: &mut Cluster) {
    let header = cluster.ledger.head().expect("a block").header.clone();
    let attestations = (1..=3)
        .map(|node| attestation(node, &node_key(node), &header))
        .collect();
    cluster.apply(Body::Attestations { attestations });
}

#[test]
fn only_what_is_aged_sealed_and_certified_is_frozen() {
    let mut cluster = Cluster::new();
    cluster.now = 900_000 * 100;
    let policy = FreezePolicy {
        after_epochs: 2,
        keep_seals: 100,
        keep_statements: 100,
    };
    for epoch in 1..=5 {
        act(&mut cluster, &format!("settle a {epoch} 5"));
    }
    let freezable = |cluster: &Cluster, policy| cluster.ledger.freezable(policy).map(Epoch::get);
    assert_eq!(freezable(&cluster, &policy), None, "nothing is sealed");
    act(&mut cluster, "epoch 1");
    assert_eq!(freezable(&cluster, &policy), None, "it is not certified");
    certify(&mut cluster);
    assert_eq!(freezable(&cluster, &policy), Some(1));
    act(&mut cluster, "settle a 1 7");
    assert_eq!(freezable(&cluster, &policy), None, "it has a late value");
    act(&mut cluster, "correct a 1");
    act(&mut cluster, "epoch 3");
    certify(&mut cluster);
    assert_eq!(freezable(&cluster, &policy), Some(1));
    let mut lent = cluster
        .ledger
        .share(Epoch::new(1).expect("small"))
        .expect("freezable")
        .survey();
    cluster.ledger.add_leaves(&mut lent);
    act(&mut cluster, "settle a 1 7");
    assert!(
        !cluster.ledger.freeze(&lent, Vec::new()),
        "it has changed since it was lent"
    );
    act(&mut cluster, "correct a 1");
    certify(&mut cluster);
    let mut lent = cluster
        .ledger
        .share(Epoch::new(1).expect("small"))
        .expect("freezable")
        .survey();
    cluster.ledger.add_leaves(&mut lent);
    assert!(cluster.ledger.freeze(&lent, Vec::new()));
    assert_eq!(freezable(&cluster, &policy), None, "3 is within two epochs of 5");
    let few = FreezePolicy {
        keep_seals: 0,
        ..policy
    };
    assert_eq!(
        freezable(&cluster, &few),
        Some(3),
        "but too many seals are in memory"
    );
    let few = FreezePolicy {
        keep_statements: 0,
        ..policy
    };
    assert_eq!(freezable(&cluster, &few), Some(3), "or too many statements");
    // An epoch to come makes the others as old as the ledger's time does, not older.
    act(&mut cluster, "settle a 2000 1");
    let old = FreezePolicy {
        after_epochs: 96,
        ..policy
    };
    assert_eq!(freezable(&cluster, &old), Some(3), "3 + 96 < 100");
    let older = FreezePolicy {
        after_epochs: 97,
        ..policy
    };
    assert_eq!(freezable(&cluster, &older), None);
}
