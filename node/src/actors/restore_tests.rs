//! Memories that begin with an export, or get an epoch back by one, go on like those that saw everything: fed with a history
//! into which exports are strewn, the actors verify every block and contradict none.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger::contract::{Change, Delivery, Direction, Status, Terms};
use ledger::roster::{RosterBatch, Row, roster_id};
use ledger::rule::Rule;
use ledger::units::MicroCurrency;
use ledger::{
    Action, AssetId, Body, Entry, Epoch, GramsCo2, Label, Ledger, PublicKey, Settlement, Timestamp, Wh,
};
use parking_lot::RwLock;
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::backlog::Backlog;
use super::recompute;
use super::router::{Fed, Origin};
use super::testing;
use crate::alarm::Alarms;
use crate::gateway::sign_envelope;

fn asset(n: u8) -> AssetId {
    format!("a{n}").as_str().try_into().expect("a name")
}

fn epoch(n: u8) -> Epoch {
    Epoch::new(u64::from(n)).expect("small")
}

fn settlement(meter: u8, of: u8, energy: i64) -> Settlement {
    let label = if energy % 3 == 0 { "day" } else { "night" };
    Settlement {
        meter: asset(meter),
        epoch: epoch(of),
        consumption: Wh::new(energy).expect("small"),
        label: Label::try_from(label).expect("a label"),
        co2eq: GramsCo2::new(energy * 2).expect("small"),
        autoseal: None,
    }
}

fn meters() -> Arc<[AssetId]> {
    (0..6).map(asset).collect()
}

/// Something of everything that a memory has to remember.
fn action(what: u8, a: u8, b: u8, key: PublicKey) -> Action {
    let (x, y, of) = (a % 6, b % 6, b / 6 % 3);
    let contract = format!("k{}", b % 4).as_str().try_into().expect("a name");
    match what {
        0..=2 => Action::Settle {
            settlements: vec![
                settlement(x, of, i64::from(a) - 60),
                settlement(y, of, i64::from(b)),
                settlement(y, of, 5),
            ],
        },
        3..=6 => {
            let row = |n: u8| Row {
                place: u32::from(a.wrapping_mul(n) % 6),
                consumption: i64::from(b) * i64::from(n) - 100,
                co2eq: i64::from(n),
            };
            let batch = RosterBatch {
                roster: roster_id(&meters()),
                epoch: epoch(of),
                label: Label::try_from("day").expect("a label"),
                rows: (0..1 + a % 9).map(row).collect(),
            };
            Action::SettleRoster { batch }
        }
        7 => Action::UpsertAsset {
            asset: asset(x + 1),
            kind: None,
            rule: Some(Rule {
                from: Some(asset(x / 2)),
                to: Some(asset(x / 3)),
            }),
            metadata: BTreeMap::new(),
        },
        8 | 9 => Action::AddContract {
            terms: Terms {
                id: contract,
                asset: asset(x),
                partner: asset(y),
                direction: if what == 8 { Direction::To } else { Direction::From },
                delivery: if a.is_multiple_of(2) {
                    Delivery::Firm
                } else {
                    Delivery::Matched
                },
                energy: Wh::new(i64::from(a)).expect("small"),
                load_min: Wh::default(),
                load_max: None,
                energy_total: None,
                valid_from: None,
                valid_until: None,
                price: MicroCurrency::new(5).expect("small"),
            },
            status: Status::Active,
            priority: i64::from(b % 3),
        },
        10 => Action::ChangeContract {
            contract,
            change: if a.is_multiple_of(2) {
                Change::Suspend
            } else {
                Change::Activate
            },
        },
        11 => Action::SetAuditRule {
            asset: asset(x),
            approvals: u32::from(a % 2),
            auditors: [key].into(),
        },
        12 => Action::Approve {
            asset: asset(x),
            epoch: epoch(of),
        },
        13 => Action::Correct {
            asset: asset(x),
            epoch: epoch(of),
        },
        14 => Action::Seal {
            asset: asset(x),
            epoch: epoch(of),
        },
        _ => Action::SealEpoch {
            epoch: epoch(of),
            under: None,
        },
    }
}

/// Applies a history and feeds it to actors, with what was drawn between its entries; the blocks that it has, and those that
/// they verified. Where they begin anew, blocks before that are left to others.
async fn recomputed(choices: &[(u8, u8, u8)]) -> (Vec<u64>, Vec<u64>, Alarms) {
    let ((key, public), genesis) = (testing::key(), testing::genesis());
    let cluster = genesis.cluster();
    let ledger = Arc::new(RwLock::new(Ledger::new()));
    let alarms = Alarms::default();
    let (feed, fed) = mpsc::unbounded_channel();
    let mut verified = recompute(
        cluster,
        Arc::clone(&ledger),
        alarms.clone(),
        fed,
        Backlog::new(1 << 20),
    );
    let mut blocks = Vec::new();
    let mut apply = |index: u64, body: Body| {
        let entry = Entry {
            at: Timestamp::ZERO,
            body,
        };
        let applied = ledger.write().apply(index, &entry);
        blocks.extend(applied.block.is_some().then_some(index));
        let applied = Fed::Applied {
            entry: Arc::new(entry),
            applied: Arc::new(applied),
            bytes: 0,
        };
        assert!(feed.send(applied).is_ok(), "the actors are there");
    };
    apply(1, Body::Genesis { genesis });
    let roster = Action::AddRoster { meters: meters() };
    let actions = std::iter::once(roster).chain(
        choices
            .iter()
            .map(|(what, a, b)| action(what % 18, *a, *b, public)),
    );
    for ((index, action), drawn) in (2u64..)
        .zip(actions)
        .zip(choices.iter().map(|(what, ..)| what / 18))
    {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&index.to_be_bytes());
        let life = Timestamp::ZERO.plus(60_000);
        let envelopes = vec![sign_envelope(&key, cluster, nonce, life, action)];
        apply(index, Body::Envelopes { envelopes });
        let ledger = ledger.read();
        match drawn {
            0 => {
                let origin = Origin::of(&ledger);
                assert!(feed.send(Fed::Restored(origin)).is_ok(), "the actors are there");
            }
            of @ 1..=3 => {
                let epoch = epoch(of - 1);
                let export = ledger.export_epoch(epoch);
                for fed in [Fed::Frozen { index, epoch }, Fed::Thawed { index, export }] {
                    assert!(feed.send(fed).is_ok(), "the actors are there");
                }
            }
            _ => {}
        }
    }
    drop(feed);
    let mut seen = Vec::new();
    while let Some(header) = verified.recv().await {
        seen.push(header.index);
    }
    (blocks, seen, alarms)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memories_that_were_exported_go_on_as_if_they_had_seen_it_all(
        choices in proptest::collection::vec(any::<(u8, u8, u8)>(), 1..100),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (blocks, verified, alarms) =
            tokio::task::LocalSet::new().block_on(&runtime, recomputed(&choices));
        prop_assert_eq!(alarms.list(), vec![]);
        prop_assert_eq!(verified, blocks);
    }
}
