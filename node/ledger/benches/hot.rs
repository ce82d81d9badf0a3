//! The functions that a cluster's rate hangs on: `cargo bench -p ledger`.
//!
//! Benchmarks, never tests: they say how long things take on the machine at hand, and compare with the run before.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ed25519_dalek::{Signer, SigningKey};
use ledger::contract::{Delivery, Direction, Status, Terms};
use ledger::envelope::signing_bytes;
use ledger::roster::{Row, roster_id};
use ledger::rule::Rule;
use ledger::{
    Action, AssetId, Body, ContractId, Entry, Envelope, Epoch, Genesis, GramsCo2, Label, Ledger,
    MicroCurrency, PublicKey, RosterBatch, Settlement, Signature, Timestamp, Wh,
};

/// The time of every entry.
const NOW: u64 = 1_000;
/// The epoch that is settled and sealed.
const EPOCH: u64 = 1_900_000;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[2; 32])
}

fn time(ms: u64) -> Timestamp {
    Timestamp::new(ms).expect("in range")
}

fn asset(name: impl std::fmt::Display) -> AssetId {
    name.to_string().parse().expect("an id")
}

fn epoch() -> Epoch {
    Epoch::new(EPOCH).expect("in range")
}

/// A ledger and what comes next.
struct Cluster {
    ledger: Ledger,
    index: u64,
}

impl Cluster {
    fn new() -> Self {
        let public = PublicKey(key().verifying_key().to_bytes());
        let genesis = Genesis {
            salt: [7; 32],
            created: Timestamp::ZERO,
            epoch_ms: 900_000,
            nodes: vec![(1, public)],
            admins: vec![public],
            gateways: vec![public],
            development: true,
        };
        let mut cluster = Self {
            ledger: Ledger::new(),
            index: 0,
        };
        let entry = Entry {
            at: time(NOW),
            body: Body::Genesis { genesis },
        };
        cluster.index += 1;
        cluster.ledger.apply(cluster.index, &entry);
        cluster
    }

    /// An entry with one signed envelope; the nonce is the index that it will have.
    fn entry(&self, action: Action) -> Entry {
        let public = PublicKey(key().verifying_key().to_bytes());
        let mut nonce = [0; 16];
        nonce[8..].copy_from_slice(&self.index.to_be_bytes());
        let not_after = time(NOW + 60_000);
        let bytes = signing_bytes(self.ledger.cluster(), public, nonce, not_after, &action);
        let envelope = Envelope {
            signer: public,
            nonce,
            not_after,
            action,
            signature: Signature(key().sign(&bytes).to_bytes()),
        };
        Entry {
            at: time(NOW),
            body: Body::Envelopes {
                envelopes: vec![envelope],
            },
        }
    }

    fn act(&mut self, action: Action) {
        let entry = self.entry(action);
        self.index += 1;
        let applied = self.ledger.apply(self.index, &entry);
        let refusal = applied.answers.iter().find_map(|answer| answer.outcome.refusal());
        assert!(refusal.is_none(), "{refusal:?}");
    }

    /// So many meters, every other one a plant, all below streets of a hundred.
    fn street(meters: usize) -> Self {
        let mut cluster = Self::new();
        let assets = meters;
        for meter in 0..assets {
            let street = Some(asset(format_args!("street-{}", meter / 100)));
            let rule = match meter % 2 {
                0 => Rule {
                    from: None,
                    to: street,
                },
                _ => Rule {
                    from: street,
                    to: None,
                },
            };
            cluster.act(Action::UpsertAsset {
                asset: asset(format_args!("meter-{meter}")),
                kind: None,
                rule: Some(rule),
                metadata: std::collections::BTreeMap::new(),
            });
        }
        cluster
    }

    /// So many meters, each with a contract with its neighbour and a settlement in [`EPOCH`].
    fn settled(assets: usize) -> Self {
        let mut cluster = Self::street(assets);
        for meter in 0..assets {
            cluster.act(Action::AddContract {
                terms: Terms {
                    id: ContractId::try_from(format!("contract-{meter}")).expect("an id"),
                    asset: asset(format_args!("meter-{meter}")),
                    partner: asset(format_args!("meter-{}", meter ^ 1)),
                    direction: if meter % 2 == 0 {
                        Direction::To
                    } else {
                        Direction::From
                    },
                    delivery: Delivery::AsAvailable,
                    energy: Wh::new(500).expect("in range"),
                    load_min: Wh::ZERO,
                    load_max: None,
                    energy_total: None,
                    valid_from: None,
                    valid_until: None,
                    price: MicroCurrency::new(95_000).expect("in range"),
                },
                status: Status::Active,
                priority: 1,
            });
        }
        for settlements in settlements(assets).chunks(8_000) {
            cluster.act(Action::Settle {
                settlements: settlements.to_vec(),
            });
        }
        cluster
    }
}

/// A roster of so many meters, and a batch in which each reports once.
fn roster(meters: usize) -> (Action, Action) {
    let ids: Vec<AssetId> = (0..meters)
        .map(|meter| asset(format_args!("meter-{meter}")))
        .collect();
    let batch = RosterBatch {
        roster: roster_id(&ids),
        epoch: epoch(),
        label: Label::try_from("virtual_1").expect("a label"),
        rows: (0..u32::try_from(meters).expect("few"))
            .map(|place| Row {
                place,
                consumption: 100 + i64::from(place % 900),
                co2eq: 40,
            })
            .collect(),
    };
    (
        Action::AddRoster { meters: ids.into() },
        Action::SettleRoster { batch },
    )
}

/// One settlement a meter.
fn settlements(count: usize) -> Vec<Settlement> {
    (0..count)
        .map(|meter| Settlement {
            meter: asset(format_args!("meter-{meter}")),
            epoch: epoch(),
            consumption: Wh::new(100 + i128::try_from(meter % 900).expect("small")).expect("in range"),
            label: Label::try_from("virtual_1").expect("a label"),
            co2eq: GramsCo2::new(40).expect("in range"),
            autoseal: None,
        })
        .collect()
}

/// Applying an entry with one signed batch: verification, booking, digests.
fn apply(c: &mut Criterion) {
    let mut group = c.benchmark_group("apply a batch");
    for size in [1, 64, 1_000, 8_000] {
        group.throughput(Throughput::Elements(size as u64));
        group.bench_with_input(BenchmarkId::from_parameter(size), &size, |bench, &size| {
            bench.iter_batched(
                || {
                    let mut cluster = Cluster::new();
                    // The meters are known already, as they are almost always.
                    cluster.act(Action::Settle {
                        settlements: settlements(size),
                    });
                    let entry = cluster.entry(Action::Settle {
                        settlements: settlements(size),
                    });
                    (cluster, entry)
                },
                |(mut cluster, entry)| {
                    let applied = cluster.ledger.apply(cluster.index + 1, &entry);
                    (cluster, applied)
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// Sealing one balancing point, and whole epochs: linear in their statements, or something is wrong.
fn seal(c: &mut Criterion) {
    c.bench_function("seal a point", |bench| {
        bench.iter_batched(
            || {
                let cluster = Cluster::settled(2);
                let entry = cluster.entry(Action::Seal {
                    asset: asset("meter-0"),
                    epoch: epoch(),
                });
                (cluster, entry)
            },
            |(mut cluster, entry)| {
                let applied = cluster.ledger.apply(cluster.index + 1, &entry);
                (cluster, applied)
            },
            BatchSize::SmallInput,
        );
    });
    let mut group = c.benchmark_group("seal an epoch of assets");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for assets in [1_000, 10_000, 100_000] {
        group.throughput(Throughput::Elements(assets as u64));
        // Setting up is what takes time: once a size, then every run seals a copy.
        let settled = Cluster::settled(assets);
        let snapshot = settled.ledger.snapshot();
        let entry = settled.entry(Action::SealEpoch {
            epoch: epoch(),
            under: None,
        });
        group.bench_with_input(BenchmarkId::from_parameter(assets), &assets, |bench, _| {
            bench.iter_batched(
                || Ledger::restore(&snapshot).expect("its own snapshot"),
                |mut ledger| {
                    let applied = ledger.apply(settled.index + 1, &entry);
                    assert!(applied.block.is_some(), "it makes seals");
                    (ledger, applied)
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// Sealing an epoch in which each meter has reported many times: what came while it was open was hashed as it came.
fn seal_long(c: &mut Criterion) {
    let mut group = c.benchmark_group("seal 1000 meters' epoch");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    let (add, settle) = roster(1_000);
    let mut ready = Cluster::street(1_000);
    ready.act(add);
    let snapshot = ready.ledger.snapshot();
    for reports in [1, 10, 100] {
        group.throughput(Throughput::Elements(reports * 1_000));
        group.bench_with_input(BenchmarkId::new("reports each", reports), &reports, |bench, _| {
            bench.iter_batched(
                || {
                    let mut cluster = Cluster {
                        ledger: Ledger::restore(&snapshot).expect("its own snapshot"),
                        index: ready.index,
                    };
                    (0..reports).for_each(|_| cluster.act(settle.clone()));
                    let entry = cluster.entry(Action::SealEpoch {
                        epoch: epoch(),
                        under: None,
                    });
                    (cluster, entry)
                },
                |(mut cluster, entry)| {
                    let applied = cluster.ledger.apply(cluster.index + 1, &entry);
                    assert!(applied.block.is_some(), "it makes seals");
                    (cluster, applied)
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// An entry's way to bytes and back, and the signature under its envelope.
fn entries(c: &mut Criterion) {
    let cluster = Cluster::new();
    let mut group = c.benchmark_group("entry");
    for size in [1, 1_000, 8_000] {
        let entry = cluster.entry(Action::Settle {
            settlements: settlements(size),
        });
        let bytes = entry.encode();
        group.throughput(Throughput::Elements(size as u64));
        group.bench_with_input(BenchmarkId::new("encode", size), &entry, |bench, entry| {
            bench.iter(|| black_box(entry).encode());
        });
        group.bench_with_input(BenchmarkId::new("decode", size), &bytes, |bench, bytes| {
            bench.iter(|| Entry::decode(black_box(bytes)));
        });
        let Body::Envelopes { envelopes } = &entry.body else {
            continue;
        };
        group.bench_with_input(
            BenchmarkId::new("verify", size),
            &envelopes[0],
            |bench, envelope| {
                bench.iter(|| assert!(black_box(envelope).verify(cluster.ledger.cluster())));
            },
        );
    }
    group.finish();
}

criterion_group!(hot, apply, seal, seal_long, entries);
criterion_main!(hot);
