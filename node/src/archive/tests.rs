//! What goes into the files comes out again, and whatever was damaged is found.

use std::collections::BTreeMap;
use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey};
use futures::FutureExt as _;
use ledger::block::Attestation;
use ledger::contract::{Delivery, Direction, Status, Terms};
use ledger::frozen::{FreezePolicy, FrozenEpoch, Held};
use ledger::rule::Rule;
use ledger::statement::{Kind, MeterSide};
use ledger::{
    Action, AssetId, Body, Entry, Epoch, Genesis, GramsCo2, Ledger, MicroCurrency, PublicKey, Settlement,
    Signature, Timestamp, Wh,
};
use parking_lot::RwLock;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use raft::{Attachments, FileDisk, Pace};
use tokio::sync::{mpsc, watch};

use super::Archive;
use super::files::{self, Names};
use crate::config::Archiving;
use crate::gateway::sign_envelope;

const EAGER: FreezePolicy = FreezePolicy {
    after_epochs: 0,
    keep_seals: 0,
    keep_statements: usize::MAX,
};

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

fn asset(name: &str) -> AssetId {
    AssetId::try_from(name).expect("a name")
}

fn epoch(n: u64) -> Epoch {
    Epoch::new(n).expect("an epoch")
}

/// A ledger of one node that signs all its blocks.
struct Solo {
    ledger: Ledger,
    index: u64,
}

impl Solo {
    fn new() -> Solo {
        let mut solo = Solo {
            ledger: Ledger::new(),
            index: 0,
        };
        let genesis = Genesis {
            salt: [1; 32],
            created: Timestamp::ZERO,
            epoch_ms: 900_000,
            nodes: vec![(1, public(&key(1)))],
            admins: vec![public(&key(2))],
            gateways: vec![public(&key(3))],
            development: true,
        };
        solo.apply(Body::Genesis { genesis });
        solo
    }

    fn apply(&mut self, body: Body) -> ledger::Applied {
        self.index += 1;
        let at = Timestamp::new(900_000 * 1000).expect("a moment");
        self.ledger.apply(self.index, &Entry { at, body })
    }

    fn act(&mut self, actions: Vec<Action>) {
        let cluster = self.ledger.cluster();
        let not_after = Timestamp::new(900_000 * 1000 + 1).expect("a moment");
        let envelopes = actions.into_iter().enumerate().map(|(n, action)| {
            let nonce = [self.index.to_be_bytes(), (n as u64).to_be_bytes()].concat();
            sign_envelope(
                &key(3),
                cluster,
                nonce.try_into().expect("16 bytes"),
                not_after,
                action,
            )
        });
        let body = Body::Envelopes {
            envelopes: envelopes.collect(),
        };
        let applied = self.apply(body);
        for answer in &applied.answers {
            assert_eq!(answer.outcome.refusal(), None);
        }
        if let Some(header) = applied.block {
            let signature = key(1).sign(header.signing_input(&public(&key(1))).as_bytes());
            let attestation = Attestation {
                node: 1,
                index: header.index,
                header: header.digest(),
                signature: Signature(signature.to_bytes()),
            };
            let certified = self.apply(Body::Attestations {
                attestations: vec![attestation],
            });
            assert_eq!(certified.certified, [header.index]);
        }
    }
}

/// What the numbers in an epoch mean.
fn named(frozen: &FrozenEpoch, ledger: &RwLock<Ledger>) -> Names {
    let mut names = Names::meet(frozen);
    names.learn(ledger);
    names
}

fn settle(meter: &str, at: u64, consumption: i64) -> Action {
    Action::Settle {
        settlements: vec![Settlement {
            meter: asset(meter),
            epoch: epoch(at),
            consumption: Wh::new(i128::from(consumption)).expect("watt-hours"),
            label: "virtual_1".try_into().expect("a label"),
            co2eq: GramsCo2::new(-3).expect("grams"),
            autoseal: None,
        }],
    }
}

fn seal(at: u64) -> Action {
    Action::SealEpoch {
        epoch: epoch(at),
        under: None,
    }
}

/// An epoch with every kind of statement, a corrected seal, and blocks that other epochs have a part in.
fn story() -> Solo {
    let mut solo = Solo::new();
    let rule = |name: &str, to: &str| Action::UpsertAsset {
        asset: asset(name),
        kind: None,
        rule: Some(Rule {
            from: None,
            to: Some(asset(to)),
        }),
        metadata: BTreeMap::new(),
    };
    let contract = Action::AddContract {
        terms: Terms {
            id: "ppa \u{e4}".try_into().expect("a name"),
            asset: asset("seller"),
            partner: asset("buyer"),
            direction: Direction::To,
            delivery: Delivery::AsAvailable,
            energy: Wh::new(200).expect("watt-hours"),
            load_min: Wh::ZERO,
            load_max: None,
            energy_total: None,
            valid_from: None,
            valid_until: None,
            price: MicroCurrency::new(95_000).expect("a price"),
        },
        status: Status::Active,
        priority: 1,
    };
    solo.act(vec![rule("pv", "seller"), rule("seller", "grid"), contract]);
    solo.act(vec![
        settle("pv", 7, 500),
        settle("pv", 8, 1),
        settle("load", 7, -90),
    ]);
    solo.act(vec![seal(8), seal(7)]);
    solo.act(vec![settle("pv", 7, 40)]);
    solo.act(vec![seal(7)]);
    solo
}

fn lent(ledger: &Ledger, at: u64) -> ledger::frozen::FrozenEpoch {
    let mut lent = ledger.share(epoch(at)).expect("it can be frozen").survey();
    ledger.add_leaves(&mut lent);
    lent
}

#[test]
fn what_goes_into_files_comes_out_again() {
    let Solo { mut ledger, .. } = story();
    let whole = ledger.snapshot();
    assert_eq!(ledger.freezable(&EAGER), Some(epoch(7)));
    let out = lent(&ledger, 7);
    let (cluster, bounds) = (ledger.cluster(), ledger.bounds());
    let shared = RwLock::new(ledger);
    let encoded = files::encode(&out, cluster, &named(&out, &shared)).expect("it can be encoded");
    let again = files::encode(&out, cluster, &named(&out, &shared)).expect("it can be encoded");
    assert_eq!(encoded, again, "the same bytes each time");
    ledger = shared.into_inner();

    let contents: Vec<_> = encoded.iter().map(|(_, content)| content.clone()).collect();
    let back = files::decode(epoch(7), bounds, &contents).expect("our own files");
    assert!(
        out.rows().eq(back.rows()) && out.rows().len() >= 7,
        "{:?}",
        out.rows().collect::<Vec<_>>()
    );
    assert!(out.seals().eq(back.seals()) && out.seals().count() >= 4);
    assert_eq!(out.rest(), back.rest());

    let named = encoded
        .iter()
        .map(|(attachment, _)| super::file(attachment))
        .collect();
    assert!(ledger.freeze(&out, named));
    assert_ne!(ledger.snapshot(), whole);
    assert!(ledger.thaw(&back));
    assert_eq!(ledger.snapshot(), whole);
}

/// The rows of a file as any reader of Parquet has them: by name of column, without those that are for the ledger alone.
fn columns(content: &bytes::Bytes) -> Vec<BTreeMap<String, Field>> {
    const OURS: [&str; 5] = ["content", "frontier", "booked", "leaf", "block"];
    let reader = SerializedFileReader::new(content.clone()).expect("a Parquet file");
    let rows = reader.get_row_iter(None).expect("rows");
    let shown = |name: &str| !name.ends_with("_number") && !OURS.contains(&name);
    rows.map(|row| {
        let row = row.expect("a row").into_columns();
        row.into_iter().filter(|(name, _)| shown(name)).collect()
    })
    .collect()
}

fn text(text: impl ToString) -> Field {
    Field::Str(text.to_string())
}

fn long(figure: impl TryInto<i64>) -> Field {
    Field::Long(figure.try_into().ok().expect("in range"))
}

#[test]
fn the_files_say_in_words_what_the_ledger_says() {
    let Solo { ledger, .. } = story();
    let all = |id: &str| {
        let journal = ledger.journal(&asset(id), epoch(7)).expect("a journal");
        journal.statements
    };
    let statements: BTreeMap<_, _> = ["pv", "seller", "buyer", "load", "grid"]
        .into_iter()
        .flat_map(all)
        .map(|statement| (statement.id, statement))
        .collect();
    let figure = |figure: i64| Field::Long(figure);
    let statements: Vec<_> = statements
        .values()
        .map(|one| {
            let (mut label, mut meter, mut contract, mut value) =
                (Field::Null, Field::Null, Field::Null, Field::Null);
            let kind = match &one.kind {
                Kind::Metered {
                    meter: side,
                    label: of,
                } => {
                    label = text(of);
                    meter = text(match side {
                        MeterSide::From => &one.from,
                        MeterSide::To => &one.to,
                    });
                    "metered"
                }
                Kind::Residual => "residual",
                Kind::Contract {
                    contract: id,
                    value: of,
                } => {
                    (contract, value) = (text(id), figure(of.get()));
                    "contract"
                }
                Kind::Counter { contract: id } => {
                    contract = text(id);
                    "counter"
                }
            };
            let row = [
                ("index", long(one.id.index)),
                ("position", Field::UInt(one.id.position)),
                ("from", text(&one.from)),
                ("to", text(&one.to)),
                ("epoch", long(one.epoch.get())),
                ("energy_wh", figure(one.energy.get())),
                ("co2eq_g", figure(one.co2eq.get())),
                ("kind", text(kind)),
                ("label", label),
                ("meter", meter),
                ("contract_id", contract),
                ("value_micro", value),
            ];
            row.map(|(name, field)| (name.to_owned(), field)).into()
        })
        .collect();
    let seals: Vec<_> = ["pv", "seller", "grid", "buyer", "load"]
        .into_iter()
        .flat_map(|id| ledger.seals(&asset(id), epoch(7)))
        .map(|record| {
            let seal = &record.seal;
            let bytes = |digest: &ledger::Digest| Field::Bytes(digest.0.to_vec().into());
            let row = [
                ("asset", text(&seal.asset)),
                ("epoch", long(seal.epoch.get())),
                ("version", Field::UInt(seal.version)),
                ("watermark", long(seal.watermark)),
                ("residual_wh", figure(seal.residual.get())),
                ("position_wh", figure(seal.position.get())),
                ("energy_in_wh", figure(seal.energy_in.get())),
                ("energy_out_wh", figure(seal.energy_out.get())),
                ("co2_in_g", figure(seal.co2_in.get())),
                ("co2_out_g", figure(seal.co2_out.get())),
                ("upstream_from", text(&seal.upstream_from)),
                ("upstream_to", text(&seal.upstream_to)),
                ("digest", bytes(&record.digest)),
                ("previous", bytes(&seal.previous)),
                ("root", bytes(&seal.root)),
            ];
            row.map(|(name, field)| (name.to_owned(), field)).into()
        })
        .collect();
    let out = lent(&ledger, 7);
    let cluster = ledger.cluster();
    let shared = RwLock::new(ledger);
    let encoded = files::encode(&out, cluster, &named(&out, &shared)).expect("it can be encoded");
    assert_eq!(columns(&encoded[0].1), statements);
    assert_eq!(columns(&encoded[1].1), seals);
}

#[test]
fn files_of_another_kind_or_epoch_are_refused() {
    let Solo { ledger, .. } = story();
    let (out, cluster, bounds) = (lent(&ledger, 7), ledger.cluster(), ledger.bounds());
    let encoded =
        files::encode(&out, cluster, &named(&out, &RwLock::new(ledger))).expect("it can be encoded");
    let contents: Vec<_> = encoded.into_iter().map(|(_, content)| content).collect();
    let refused = |at, contents: &[bytes::Bytes]| files::decode(epoch(at), bounds, contents).map(drop);
    assert!(refused(7, &contents).is_ok());
    assert!(refused(8, &contents).is_err());
    assert!(refused(7, &[contents[1].clone(), contents[0].clone()]).is_err());
    assert!(refused(7, &contents[..1]).is_err());
    for content in [&contents[0], &contents[1]] {
        for len in (0..content.len()).step_by(7) {
            let cut = content.slice(..len);
            assert!(files::decode(epoch(7), bounds, &[cut.clone(), contents[1].clone()]).is_err());
            assert!(files::decode(epoch(7), bounds, &[contents[0].clone(), cut]).is_err());
        }
    }
    drop(Arc::new(out));
}

/// Two sealed epochs that can go, with four statements and six seals or more; most of them are too many.
const FULL: Archiving = Archiving {
    after_epochs: 96,
    keep_seals: 0,
    keep_statements: 0,
    most_seals: 2,
    most_statements: usize::MAX,
};

const SOON: std::time::Duration = std::time::Duration::from_secs(60);

/// An archive of these epochs below a directory.
fn archive_of(
    ledger: Ledger,
    directory: &std::path::Path,
) -> (Archive, mpsc::UnboundedReceiver<crate::actors::Fed>) {
    let cluster = ledger.cluster();
    let (fed, feed) = mpsc::unbounded_channel();
    let archive = Archive::new(
        Arc::new(RwLock::new(ledger)),
        Attachments::new(Arc::new(FileDisk::new(directory))),
        FULL,
        cluster,
        fed.downgrade(),
        crate::actors::Backlog::new(8 << 20),
    );
    (archive, feed)
}

/// Waits for room, of which there must be none once the archivist has begun; it must come in the end.
async fn wait_for_room(archive: &Archive) {
    tokio::task::yield_now().await;
    let room = archive.room().expect("there is no room");
    tokio::time::timeout(SOON, room)
        .await
        .expect("there is room in the end");
}

/// Entries were applied by which nothing was certified: whether the archivist has something to look at.
fn applied(archive: &Archive, ledger: &mut Ledger) -> bool {
    archive.applied(ledger, false);
    archive.due.notified().now_or_never().is_some()
}

#[tokio::test]
async fn an_epoch_is_archived_when_a_newer_one_begins_though_nothing_is_sealed() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut solo = story();
    let (archive, _feed) = archive_of(Ledger::new(), directory.path());
    let is_due = |solo: &mut Solo| applied(&archive, &mut solo.ledger);
    assert!(is_due(&mut solo), "the first look");
    assert!(!is_due(&mut solo));
    solo.act(vec![settle("pv", 7, 1), settle("pv", 8, 1)]);
    assert!(!is_due(&mut solo), "late values");
    solo.act(vec![settle("pv", 9, 1)]);
    assert!(is_due(&mut solo));
    assert!(!is_due(&mut solo));
}

#[tokio::test]
async fn an_epoch_that_came_back_for_nothing_leaves_again() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("archive")).expect("a directory");
    let (_ready_at, ready) = watch::channel(Some(0));
    let (archive, _feed) = archive_of(story().ledger, directory.path());
    let is_due = || applied(&archive, &mut archive.ledger.write());
    assert!(is_due(), "the first look");
    archive.archive_all(&ready).await.expect("a disk");
    assert_eq!(archive.status().epochs, 2);
    assert!(!is_due());
    archive.thaw([epoch(7)].into()).await.expect("a disk");
    assert_eq!(archive.status().epochs, 1);
    assert!(is_due());
    archive.archive_all(&ready).await.expect("a disk");
    assert_eq!(archive.status().epochs, 2);
    assert!(!is_due());
}

#[tokio::test]
async fn entries_wait_until_enough_has_left_memory() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("archive")).expect("a directory");
    let (_ready_at, ready) = watch::channel(Some(0));
    let (archive, _feed) = archive_of(story().ledger, directory.path());
    assert!(FULL.is_full(archive.ledger.read().held()));
    archive.applied(&mut archive.ledger.write(), true);
    assert!(archive.room().is_none(), "nobody is there to make room");
    let waiting = async {
        wait_for_room(&archive).await;
        let ledger = archive.ledger.read();
        assert!(!FULL.is_full(ledger.held()), "{:?}", ledger.held());
        assert!(ledger.frozen().next().is_some());
    };
    tokio::select! {
        biased;
        error = archive.run(ready) => panic!("the archivist ends: {error}"),
        () = waiting => {}
    }
    assert!(archive.room().is_none());
}

#[tokio::test]
async fn nobody_waits_for_an_archivist_that_has_ended() {
    let directory = tempfile::tempdir().expect("a directory");
    // There is no place for its files.
    let (_ready_at, ready) = watch::channel(Some(0));
    let (archive, _feed) = archive_of(story().ledger, directory.path());
    archive.applied(&mut archive.ledger.write(), true);
    tokio::join!(archive.run(ready), wait_for_room(&archive));
    assert!(FULL.is_full(archive.ledger.read().held()));
    archive.applied(&mut archive.ledger.write(), true);
    assert!(archive.room().is_none());
}

#[test]
fn archiving_gives_way_until_it_is_late_and_while_a_node_starts_until_memory_is_full() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut archive, _feed) = archive_of(story().ledger, directory.path());
    let Held { seals, .. } = archive.ledger.read().held();
    let (ready, starting) = (watch::channel(Some(0)).1, watch::channel(None).1);
    let mut pace = |most_seals, ready| {
        archive.limits.most_seals = most_seals;
        archive.next(ready).map(|(_, pace)| pace)
    };
    // Late from a quarter of the most on, of which as many are held.
    assert_eq!(pace(4 * seals, &ready), Some(Pace::Behind));
    assert_eq!(pace(4 * seals - 4, &ready), Some(Pace::Beside));
    assert_eq!(pace(4 * seals - 4, &starting), Some(Pace::Behind));
    assert_eq!(pace(seals - 1, &starting), Some(Pace::Beside));
}
