//! The files of a frozen epoch: two Parquet tables, for people and programs to read, and for the ledger to get its
//! numbers back from.
//!
//! # Format, version 1
//!
//! `EEEEEEEEEEEEE-statements-HHHHHHHHHHHHHHHH.parquet`, `…-seals-…`: the epoch, and the first eight bytes of the file's
//! SHA-256, so that a name has one content. All nodes that archive an epoch in the same state write the same bytes.
//!
//! Statements, in booking order: `index`, `position` (together the id), `from`, `to`, `epoch`, `energy_wh`, `co2eq_g`, `kind`
//! (metered, residual, contract, counter), and where they apply `label`, `meter`, `contract_id`, `value_micro`. Seals,
//! by asset (in the order in which they were first named) and version: every figure of the seal, `digest`, `previous` and `root` (32 bytes), the `block`'s index and the
//! seal's `leaf` in it, and `content`: the canonical bytes that the digest is of. Columns named `…_number`, `booked` and `frontier`
//! are for the ledger. Notes: `gridseal.format`, `.table`, `.cluster`, `.epoch`, `.rest` (see [`FrozenEpoch::rest`], base64).

use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use ledger::canonical::Canonical as _;
use ledger::contract::Terms;
use ledger::frozen::{FrozenEpoch, Row, SealRow};
use ledger::journal::SealRecord;
use ledger::merit_order;
use ledger::merkle::Frontier;
use ledger::seal::Seal;
use ledger::snapshot::Bounds;
use ledger::{ClusterId, Digest, Epoch, Ledger};
use parking_lot::RwLock;
use raft::Attachment;
use sha2::{Digest as _, Sha256};

use super::table::{GROUP, Table, Text, Writer};

const FORMAT: &str = "1";

const STATEMENTS: &str = "message statement {
    required int64 index;
    required int32 position (INTEGER(32, false));
    required binary from (STRING);
    required binary to (STRING);
    required int64 epoch;
    required int64 energy_wh;
    required int64 co2eq_g;
    required binary kind (STRING);
    optional binary label (STRING);
    optional binary meter (STRING);
    optional binary contract_id (STRING);
    optional int64 value_micro;
    required int32 from_number (INTEGER(32, false));
    required int32 to_number (INTEGER(32, false));
    required int32 kind_number (INTEGER(32, false));
    required int32 subject_number (INTEGER(32, false));
}";

const SEALS: &str = "message seal {
    required binary asset (STRING);
    required int64 epoch;
    required int32 version (INTEGER(32, false));
    required int64 watermark;
    required int64 residual_wh;
    required int64 position_wh;
    required int64 energy_in_wh;
    required int64 energy_out_wh;
    required int64 co2_in_g;
    required int64 co2_out_g;
    required binary upstream_from (STRING);
    required binary upstream_to (STRING);
    required binary digest;
    required binary previous;
    required binary root;
    required int64 block;
    required int32 leaf (INTEGER(32, false));
    required binary content;
    required int32 booked (INTEGER(32, false));
    required int32 asset_number (INTEGER(32, false));
    optional binary frontier;
}";

/// Names are fetched from the ledger so many at a time, so that it is never held for long.
const NAMED: usize = 1024;

/// What a statement and a seal take in their files, at most, nearly always.
const STATEMENT_BYTES: usize = 32;
const SEAL_BYTES: usize = 512;

/// The words of the kinds, by their numbers.
const KINDS: [&str; 5] = ["metered", "metered", "residual", "contract", "counter"];

/// Both files of an epoch.
///
/// # Errors
/// The encoder's.
pub(super) fn encode(
    frozen: &FrozenEpoch,
    cluster: ClusterId,
    names: &Names,
) -> io::Result<Vec<(Attachment, Bytes)>> {
    let statements = statements(frozen, cluster, names)?;
    let seals = seals(frozen, cluster)?;
    Ok(vec![
        named(frozen.epoch(), "statements", statements),
        named(frozen.epoch(), "seals", seals),
    ])
}

fn named(epoch: Epoch, table: &str, content: Vec<u8>) -> (Attachment, Bytes) {
    let digest: [u8; 32] = Sha256::digest(&content).into();
    let attachment = Attachment {
        name: format!("{epoch:0>13}-{table}-{}.parquet", hex::encode(&digest[..8])),
        bytes: content.len() as u64,
        digest,
    };
    (attachment, content.into())
}

fn notes(table: &str, cluster: ClusterId, epoch: Epoch) -> Vec<(&'static str, String)> {
    vec![
        ("format", FORMAT.to_owned()),
        ("table", table.to_owned()),
        ("cluster", cluster.to_string()),
        ("epoch", epoch.to_string()),
    ]
}

/// What numbers mean: those that stand in an epoch's statements.
#[derive(Default)]
pub(super) struct Names {
    assets: Met<Text>,
    labels: Met<Text>,
    contracts: Met<Option<(Text, Terms)>>,
}

impl Names {
    /// Meets the numbers. Takes as long as there are statements, and asks nobody.
    pub(super) fn meet(frozen: &FrozenEpoch) -> Names {
        let mut names = Names::default();
        for row in frozen.rows() {
            names.assets.meet(row.from);
            names.assets.meet(row.to);
            match row.kind {
                0 | 1 => names.labels.meet(row.subject),
                3 | 4 => names.contracts.meet(row.subject),
                _ => {}
            }
        }
        names
    }

    /// Learns what they mean. Asks the ledger for a moment at a time.
    pub(super) fn learn(&mut self, ledger: &RwLock<Ledger>) {
        self.assets.learn(ledger, |ledger, number| {
            let id = ledger.asset_numbered(number);
            Text::from(id.map_or("", |id| id.as_str()))
        });
        self.labels.learn(ledger, |ledger, number| {
            let label = ledger.label_numbered(number);
            Text::from(label.map_or("", |label| label.as_str()))
        });
        self.contracts.learn(ledger, |ledger, number| {
            let terms = ledger.terms_numbered(number)?;
            Some((Text::from(terms.id.as_str()), terms.clone()))
        });
    }

    fn asset(&self, number: u32) -> Text {
        self.assets.get(number).cloned().unwrap_or_default()
    }

    fn contract(&self, row: &Row) -> Option<&(Text, Terms)> {
        matches!(row.kind, 3 | 4)
            .then(|| self.contracts.get(row.subject))
            .flatten()?
            .as_ref()
    }
}

/// Numbers in the order in which they were met, and what each means. They lie densely: the ledger gave them in order.
struct Met<T> {
    /// One more than the place of a number; zero for one that was not met.
    places: Vec<u32>,
    numbers: Vec<u32>,
    meanings: Vec<T>,
}

impl<T> Default for Met<T> {
    fn default() -> Self {
        Met {
            places: Vec::new(),
            numbers: Vec::new(),
            meanings: Vec::new(),
        }
    }
}

impl<T> Met<T> {
    fn meet(&mut self, number: u32) {
        let at = number as usize;
        if self.places.len() <= at {
            self.places.resize(at + 1, 0);
        }
        if self.places[at] == 0 {
            self.numbers.push(number);
            // There are less than 2^32 numbers.
            self.places[at] = u32::try_from(self.numbers.len()).unwrap_or(0);
        }
    }

    fn learn(&mut self, ledger: &RwLock<Ledger>, meaning: impl Fn(&Ledger, u32) -> T) {
        for numbers in self.numbers.chunks(NAMED) {
            let ledger = ledger.read();
            let meanings = numbers.iter().map(|number| meaning(&ledger, *number));
            self.meanings.extend(meanings);
        }
    }

    fn get(&self, number: u32) -> Option<&T> {
        let place = self.places.get(number as usize)?.checked_sub(1)?;
        self.meanings.get(place as usize)
    }
}

fn statements(frozen: &FrozenEpoch, cluster: ClusterId, names: &Names) -> io::Result<Vec<u8>> {
    let epoch = epoch_number(frozen.epoch());
    let kinds = KINDS.map(Text::from);
    let mut writer = Writer::new(
        STATEMENTS,
        notes("statements", cluster, frozen.epoch()),
        &["position"],
        frozen.len() * STATEMENT_BYTES,
    )?;
    let all: Vec<Row> = frozen.rows().collect();
    for rows in all.chunks(GROUP) {
        let metered = |row: &Row| row.kind < 2;
        writer.group(|group| {
            group.longs(rows.iter().map(|row| row.index.cast_signed()))?;
            group.numbers(rows.iter().map(|row| row.position))?;
            group.texts(rows.iter().map(|row| names.asset(row.from)))?;
            group.texts(rows.iter().map(|row| names.asset(row.to)))?;
            group.longs(rows.iter().map(|_| epoch))?;
            group.longs(rows.iter().map(|row| row.energy))?;
            group.longs(rows.iter().map(|row| row.co2eq))?;
            group.texts(rows.iter().map(|row| kinds[usize::from(row.kind)].clone()))?;
            group.some_texts(rows.iter().map(|row| {
                let label = metered(row).then(|| names.labels.get(row.subject));
                label.flatten().cloned()
            }))?;
            group.some_texts(rows.iter().map(|row| match row.kind {
                0 => Some(names.asset(row.from)),
                1 => Some(names.asset(row.to)),
                _ => None,
            }))?;
            group.some_texts(
                rows.iter()
                    .map(|row| names.contract(row).map(|(id, _)| id.clone())),
            )?;
            group.some_longs(rows.iter().map(|row| {
                let (_, terms) = names.contract(row).filter(|_| row.kind == 3)?;
                i64::try_from(merit_order::value(terms, i128::from(row.energy))).ok()
            }))?;
            group.numbers(rows.iter().map(|row| row.from))?;
            group.numbers(rows.iter().map(|row| row.to))?;
            group.numbers(rows.iter().map(|row| u32::from(row.kind)))?;
            group.numbers(rows.iter().map(|row| row.subject))
        })?;
    }
    writer.finish()
}

fn seals(frozen: &FrozenEpoch, cluster: ClusterId) -> io::Result<Vec<u8>> {
    let mut notes = notes("seals", cluster, frozen.epoch());
    notes.push(("rest", BASE64_STANDARD.encode(frozen.rest())));
    let different = [
        "asset",
        "digest",
        "root",
        "leaf",
        "content",
        "asset_number",
        "frontier",
    ];
    let all: Vec<SealRow> = frozen.seals().collect();
    let mut writer = Writer::new(SEALS, notes, &different, all.len() * SEAL_BYTES)?;
    let bytes = |digest: &Digest| Text::from(&digest.0[..]);
    for rows in all.chunks(GROUP) {
        let seals = || rows.iter().map(|row| &*row.record.seal);
        let records = || rows.iter().map(|row| &row.record);
        writer.group(|group| {
            group.texts(seals().map(|seal| Text::from(seal.asset.as_str())))?;
            group.longs(seals().map(|seal| epoch_number(seal.epoch)))?;
            group.numbers(seals().map(|seal| seal.version))?;
            group.longs(seals().map(|seal| seal.watermark.cast_signed()))?;
            group.longs(seals().map(|seal| seal.residual.get()))?;
            group.longs(seals().map(|seal| seal.position.get()))?;
            group.longs(seals().map(|seal| seal.energy_in.get()))?;
            group.longs(seals().map(|seal| seal.energy_out.get()))?;
            group.longs(seals().map(|seal| seal.co2_in.get()))?;
            group.longs(seals().map(|seal| seal.co2_out.get()))?;
            group.texts(seals().map(|seal| Text::from(seal.upstream_from.as_str())))?;
            group.texts(seals().map(|seal| Text::from(seal.upstream_to.as_str())))?;
            group.texts(records().map(|record| bytes(&record.digest)))?;
            group.texts(seals().map(|seal| bytes(&seal.previous)))?;
            group.texts(seals().map(|seal| bytes(&seal.root)))?;
            group.longs(records().map(|record| record.index.cast_signed()))?;
            group.numbers(records().map(|record| record.leaf))?;
            group.texts(seals().map(|seal| Text::from(seal.to_bytes())))?;
            group.numbers(records().map(|record| record.booked))?;
            group.numbers(rows.iter().map(|row| row.asset))?;
            group.some_texts(rows.iter().map(|row| {
                row.frontier
                    .as_ref()
                    .map(|frontier| Text::from(frontier.to_bytes()))
            }))
        })?;
    }
    writer.finish()
}

fn epoch_number(epoch: Epoch) -> i64 {
    // Epochs are below 2^40.
    epoch.get().cast_signed()
}

/// The epoch that these files hold, in the order in which [`encode`] returned them.
///
/// # Errors
/// They are not such files, or contradict one another.
pub(crate) fn decode(epoch: Epoch, bounds: Bounds, files: &[Bytes]) -> io::Result<FrozenEpoch> {
    let [statements, seals] = files else {
        return Err(io::Error::other("an epoch has two files"));
    };
    let statements = open(statements, "statements", epoch)?;
    let seals = open(seals, "seals", epoch)?;
    let rest = seals.note("rest").map(|rest| BASE64_STANDARD.decode(rest));
    let rest = rest.unwrap_or_else(|| Ok(Vec::new())).map_err(io::Error::other)?;
    let rows = rows(&statements)?;
    FrozenEpoch::restore(bounds, epoch, rows, seal_rows(&seals)?.into_iter(), &rest).map_err(io::Error::other)
}

fn open(content: &Bytes, table: &str, epoch: Epoch) -> io::Result<Table> {
    let opened = Table::open(content.clone())?;
    let expected = [
        ("format", FORMAT),
        ("table", table),
        ("epoch", &epoch.to_string()),
    ];
    for (key, expected) in expected {
        let found = opened.note(key).unwrap_or_default();
        if found != expected {
            return Err(io::Error::other(format!(
                "its {key} is {found:?}, not {expected:?}"
            )));
        }
    }
    Ok(opened)
}

fn rows(table: &Table) -> io::Result<impl Iterator<Item = Row>> {
    let index = table.longs("index")?;
    let position = table.numbers("position")?;
    let (from, to) = (table.numbers("from_number")?, table.numbers("to_number")?);
    let (energy, co2eq) = (table.longs("energy_wh")?, table.longs("co2eq_g")?);
    let (kind, subject) = (table.numbers("kind_number")?, table.numbers("subject_number")?);
    Ok((0..index.len()).map(move |at| Row {
        index: index[at].cast_unsigned(),
        position: position[at],
        from: from[at],
        to: to[at],
        energy: energy[at],
        co2eq: co2eq[at],
        kind: u8::try_from(kind[at]).unwrap_or(u8::MAX),
        subject: subject[at],
    }))
}

fn seal_rows(table: &Table) -> io::Result<Vec<SealRow>> {
    let (digest, content) = (table.texts("digest")?, table.texts("content")?);
    let (block, leaf) = (table.longs("block")?, table.numbers("leaf")?);
    let (booked, asset) = (table.numbers("booked")?, table.numbers("asset_number")?);
    let frontier = table.some_texts("frontier")?;
    let mut rows = Vec::with_capacity(digest.len());
    for at in 0..digest.len() {
        let digest: [u8; 32] = digest[at].data().try_into().map_err(io::Error::other)?;
        let seal = Seal::from_bytes(content[at].data()).map_err(io::Error::other)?;
        let frontier = frontier[at]
            .as_ref()
            .map(|bytes| Frontier::from_bytes(bytes.data()));
        rows.push(SealRow {
            asset: asset[at],
            record: SealRecord {
                seal: std::sync::Arc::new(seal),
                digest: Digest(digest),
                index: block[at].cast_unsigned(),
                leaf: leaf[at],
                booked: booked[at],
            },
            frontier: frontier.transpose().map_err(io::Error::other)?,
        });
    }
    Ok(rows)
}
