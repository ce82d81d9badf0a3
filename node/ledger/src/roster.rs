//! Rosters: a metering party's list of meters, given once, so that a batch of settlements names each meter by its place in the
//! list instead of spelling it.
//!
//! A roster is named by the digest of its list (`SHA-256("gridseal/roster/v1\0" ‖ list of meters)`): whoever signs a batch vouches
//! for the very meters that it means, whichever node told him about the roster. Rosters never change; another list is
//! another roster. Giving a roster makes no assets: a meter becomes one with its first settlement, as ever.
//!
//! # Layout of a batch
//!
//! `roster` (32 bytes), `epoch` (8), `label` (string), then the rows: their number (4 bytes) and 20 bytes for each:
//! the meter's place in the roster from 0 (4), `consumption` in Wh (8) and `co2eq` in g (8), big-endian, two's complement.
//! A batch means exactly what the same settlements mean one by one ([`crate::settlement`]), all or none.

use crate::asset::{AssetId, Handle, ROOT, ROOT_HANDLE};
use crate::canonical::{Canonical, DecodeError, Decoder, Encoder, canonical_struct};
use crate::digest::{Digest, digest};
use crate::event::Event;
use crate::ledger::{Ledger, Work};
use crate::outcome::Outcome;
use crate::refusal::Refusal;
use crate::settlement::{beyond, sides};
use crate::statement::Label;
use crate::stored::{Stored, Tag};
use crate::units::Epoch;
use crate::words::Words;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// The name of a roster: the digest of its list.
pub type RosterId = Digest;

/// The name that a list of meters has.
pub fn roster_id(meters: &[AssetId]) -> RosterId {
    let mut out = Encoder::new();
    out.count(meters.len());
    meters.iter().for_each(|meter| meter.encode(&mut out));
    digest("roster", out.as_bytes())
}

/// Settlements of one epoch under one label, by the places of their meters in a roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterBatch {
    /// Which roster.
    pub roster: RosterId,
    /// The time unit in which all of them were measured.
    pub epoch: Epoch,
    /// The tariff or channel of all of them.
    pub label: Label,
    /// In booking order.
    pub rows: Rows,
}

canonical_struct!(RosterBatch {
    roster,
    epoch,
    label,
    rows
});

/// One settlement of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The meter's place in the roster, from 0.
    pub place: u32,
    /// In watt-hours; negative swaps the sides. At most 2^40 in magnitude.
    pub consumption: i64,
    /// In grams. At most 2^40 in magnitude.
    pub co2eq: i64,
}

/// Bytes of a row.
const ROW: usize = 20;

/// Rows in their bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Rows {
    bytes: Vec<u8>,
}

impl Rows {
    /// None yet, with room for `rows`.
    pub fn with_capacity(rows: usize) -> Rows {
        Rows {
            bytes: Vec::with_capacity(rows.saturating_mul(ROW)),
        }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Row) {
        self.bytes.extend_from_slice(&row.place.to_be_bytes());
        self.bytes.extend_from_slice(&row.consumption.to_be_bytes());
        self.bytes.extend_from_slice(&row.co2eq.to_be_bytes());
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.bytes.len() / ROW
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row> + '_ {
        let (rows, _) = self.bytes.as_chunks::<ROW>();
        rows.iter().map(|row| {
            let [p0, p1, p2, p3, c0, c1, c2, c3, c4, c5, c6, c7, g @ ..] = *row;
            Row {
                place: u32::from_be_bytes([p0, p1, p2, p3]),
                consumption: i64::from_be_bytes([c0, c1, c2, c3, c4, c5, c6, c7]),
                co2eq: i64::from_be_bytes(g),
            }
        })
    }
}

impl FromIterator<Row> for Rows {
    fn from_iter<I: IntoIterator<Item = Row>>(rows: I) -> Rows {
        let rows = rows.into_iter();
        let mut all = Rows::with_capacity(rows.size_hint().0);
        rows.for_each(|row| all.push(row));
        all
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Canonical for Rows {
    fn encode(&self, out: &mut Encoder) {
        out.count(self.len());
        out.raw(&self.bytes);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let length = from.count()?.checked_mul(ROW).ok_or(DecodeError::Truncated)?;
        Ok(Rows {
            bytes: from.raw(length)?.to_vec(),
        })
    }
}

/// A roster and which assets its meters are.
#[derive(Debug)]
pub(crate) struct Roster {
    pub(crate) meters: Arc<[AssetId]>,
    /// [`UNNAMED`] where a meter is no asset yet, as far as this roster knows.
    handles: Vec<Handle>,
    unnamed: usize,
}

/// The root is in no roster.
const UNNAMED: Handle = ROOT_HANDLE;

impl Roster {
    pub(crate) fn new(meters: Arc<[AssetId]>) -> Roster {
        Roster {
            handles: vec![UNNAMED; meters.len()],
            unnamed: meters.len(),
            meters,
        }
    }
}

/// All rosters.
pub(crate) type Rosters = BTreeMap<RosterId, Roster>;

impl Ledger {
    /// Takes down a list of meters. Giving one again changes nothing.
    pub(crate) fn add_roster(
        &mut self,
        work: &mut Work,
        meters: &Arc<[AssetId]>,
    ) -> Result<Outcome, Refusal> {
        if meters.contains(&ROOT) {
            return Err(Refusal::RootIsNoMeter {});
        }
        let roster = roster_id(meters);
        if let Entry::Vacant(place) = self.rosters.entry(roster) {
            place.insert(Roster::new(Arc::clone(meters)));
            work.event(Event::RosterAdded {
                roster,
                meters: Arc::clone(meters),
            });
        }
        Ok(Outcome::Roster {
            index: work.index,
            roster,
        })
    }

    /// The meters of a roster, in order.
    pub fn roster(&self, id: &RosterId) -> Option<&Arc<[AssetId]>> {
        self.rosters.get(id).map(|roster| &roster.meters)
    }

    /// Books a batch in order, all or none. The same as [`Ledger::settle`] in bulk: this runs for every settlement
    /// of a large operator.
    pub(crate) fn settle_roster(&mut self, work: &mut Work, batch: &RosterBatch) -> Result<Outcome, Refusal> {
        let out_of_range = |figure: &str| Refusal::OutOfRange {
            figure: figure.to_owned(),
        };
        let Some(roster) = self.rosters.get(&batch.roster) else {
            return Err(Refusal::UnknownRoster { roster: batch.roster });
        };
        let meters = roster.handles.len();
        for row in batch.rows.iter() {
            if row.place as usize >= meters {
                return Err(out_of_range("place"));
            } else if beyond(row.consumption) {
                return Err(out_of_range("consumption"));
            } else if beyond(row.co2eq) {
                return Err(out_of_range("co2eq"));
            }
        }
        let first = work.next_position();
        let count = u32::try_from(batch.rows.len()).unwrap_or(u32::MAX);
        if !batch.rows.is_empty() {
            self.name_meters(work, batch);
            let sums = self.book_rows(work, batch);
            work.event(Event::RosterBooked {
                epoch: batch.epoch,
                index: work.index,
                first,
                count,
                sums,
            });
        }
        Ok(Outcome::Settled {
            index: work.index,
            first,
            count,
            autoseals: Vec::new(),
        })
    }

    /// Makes assets of the batch's meters that are none yet.
    fn name_meters(&mut self, work: &mut Work, batch: &RosterBatch) {
        let Some(roster) = self
            .rosters
            .get_mut(&batch.roster)
            .filter(|roster| roster.unnamed > 0)
        else {
            return;
        };
        let meters = Arc::clone(&roster.meters);
        let mut handles = std::mem::take(&mut roster.handles);
        let mut named = 0;
        for row in batch.rows.iter() {
            let place = row.place as usize;
            if handles[place] == UNNAMED {
                handles[place] = self.named(work, &meters[place]);
                named += 1;
            }
        }
        if let Some(roster) = self.rosters.get_mut(&batch.roster) {
            roster.handles = handles;
            roster.unnamed -= named;
        }
    }

    fn book_rows(&mut self, work: &mut Work, batch: &RosterBatch) -> (i128, i128) {
        let mut sums = (0, 0);
        let Some(roster) = self.rosters.get(&batch.roster) else {
            return sums;
        };
        let label = self.labels.number(&batch.label);
        self.frozen.assert_live(batch.epoch);
        let book = Arc::make_mut(self.epochs.entry(batch.epoch).or_default());
        let mut transcript = Vec::with_capacity(batch.rows.len() * 24);
        for row in batch.rows.iter() {
            let meter = roster.handles[row.place as usize];
            let (side, from, to) = sides(self.assets.links(meter), meter, row.consumption);
            let stored = Stored {
                id: work.next_id(),
                from,
                to,
                energy: row.consumption.abs(),
                co2: row.co2eq,
                tag: Tag::Metered { meter: side, label },
            };
            let words = Words {
                assets: self.assets.records(),
                contracts: self.contracts.records(),
                labels: self.labels.all(),
            };
            book.push(batch.epoch, stored, words);
            sums.0 += i128::from(stored.energy);
            sums.1 += i128::from(stored.co2);
            self.assets.booked(from, work.index);
            self.assets.booked(to, work.index);
            transcript.extend_from_slice(&from.to_be_bytes());
            transcript.extend_from_slice(&to.to_be_bytes());
            transcript.extend_from_slice(&stored.energy.to_be_bytes());
            transcript.extend_from_slice(&stored.co2.to_be_bytes());
        }
        work.record(9, |out| {
            batch.epoch.encode(out);
            batch.label.encode(out);
            out.count(batch.rows.len());
            out.raw(&transcript);
        });
        sums
    }
}
