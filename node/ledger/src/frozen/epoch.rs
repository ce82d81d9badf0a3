//! An epoch outside of the ledger: lent, on its way into files, or read from there.

use super::present::Present;
use super::row::{Row, SealRow};
use crate::asset::Handle;
use crate::canonical::{Canonical, Decoder, Encoder};
use crate::digest::Digest;
use crate::journal::Book;
use crate::key::PublicKey;
use crate::snapshot::{Bounds, SnapshotError, inconsistent, restore_seals};
use crate::stored::Tag;
use crate::units::Epoch;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// An epoch's book outside of the ledger.
#[derive(Clone, Debug)]
pub struct FrozenEpoch {
    pub(super) epoch: Epoch,
    pub(crate) book: Arc<Book>,
    /// The blocks in which it has seals: how many, and all leaves of each.
    pub(super) blocks: BTreeMap<u64, (u32, Vec<Digest>)>,
    /// What contracts booked.
    pub(super) booked: BTreeMap<u32, i128>,
    pub(super) present: Present,
}

impl FrozenEpoch {
    pub(super) fn new(epoch: Epoch, book: Arc<Book>) -> FrozenEpoch {
        FrozenEpoch {
            epoch,
            book,
            blocks: BTreeMap::new(),
            booked: BTreeMap::new(),
            present: Present::default(),
        }
    }

    /// Which.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How many statements it has.
    pub fn len(&self) -> usize {
        self.book.statements.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.book.statements.is_empty()
    }

    /// Finds out what letting go of it takes. Costs the length of the book.
    #[must_use]
    pub fn survey(mut self) -> FrozenEpoch {
        for stored in self.book.statements.iter() {
            if let Tag::Contract { contract } = stored.tag {
                *self.booked.entry(contract).or_default() += i128::from(stored.energy);
            }
        }
        for (handle, journal) in self.book.journals.iter() {
            self.present.add(handle);
            for record in journal.seals() {
                self.blocks.entry(record.index).or_default().0 += 1;
            }
        }
        self
    }

    /// Its statements, in booking order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = Row> + '_ {
        self.book.statements.iter().map(|stored| Row::of(&stored))
    }

    /// Its seals, by the number of the asset and by version.
    pub fn seals(&self) -> impl Iterator<Item = SealRow> + '_ {
        let sealed = self
            .book
            .journals
            .iter()
            .filter_map(|(handle, journal)| Some((handle, journal.prefix()?)));
        sealed.flat_map(|(asset, prefix)| {
            let newest = prefix.seals.len() - 1;
            prefix
                .seals
                .iter()
                .enumerate()
                .map(move |(version, record)| SealRow {
                    asset,
                    record: record.clone(),
                    frontier: (version == newest).then(|| prefix.frontier.clone()),
                })
        })
    }

    /// What statements and seals don't tell: approvals, and the leaves of blocks that have other epochs' seals as well.
    pub fn rest(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        self.book.approvals.encode(&mut out);
        let mixed = || {
            let blocks = self.blocks.iter();
            blocks.filter(|(_, (own, leaves))| leaves.len() != *own as usize)
        };
        out.count(mixed().count());
        for (index, (_, leaves)) in mixed() {
            index.encode(&mut out);
            leaves.encode(&mut out);
        }
        out.into_bytes()
    }

    /// The same epoch from what files hold of it.
    ///
    /// # Errors
    /// [`SnapshotError`] if it contradicts itself or the ledger's bounds.
    pub fn restore(
        bounds: Bounds,
        epoch: Epoch,
        rows: impl Iterator<Item = Row>,
        seals: impl Iterator<Item = SealRow>,
        rest: &[u8],
    ) -> Result<FrozenEpoch, SnapshotError> {
        let mut book = Book::default();
        for row in rows {
            let stored = row.stored(bounds).ok_or(inconsistent("statements"))?;
            if book.statements.last().is_some_and(|last| last.id >= stored.id) {
                return Err(inconsistent("statements"));
            }
            book.put(stored);
        }
        let mut own: BTreeMap<u64, BTreeMap<u32, Digest>> = BTreeMap::new();
        let mut versions = Vec::new();
        for SealRow {
            asset,
            record,
            frontier,
        } in seals
        {
            let leaves = own.entry(record.index).or_default();
            leaves.insert(record.leaf, record.digest);
            versions.push(record);
            if let Some(frontier) = frontier {
                let seals = std::mem::take(&mut versions);
                restore_seals(&mut book, asset, epoch, frontier, seals)?;
            }
        }
        if !versions.is_empty() {
            return Err(inconsistent("seals without a newest"));
        }
        let mut from = Decoder::new(rest);
        book.approvals = BTreeMap::<Handle, BTreeSet<PublicKey>>::decode(&mut from)?;
        if book.approvals.keys().any(|handle| *handle >= bounds.assets) {
            return Err(inconsistent("approvals"));
        }
        let mut mixed = BTreeMap::new();
        for _ in 0..from.count()? {
            mixed.insert(u64::decode(&mut from)?, Vec::<Digest>::decode(&mut from)?);
        }
        from.finish()?;
        let mut frozen = FrozenEpoch::new(epoch, Arc::new(book)).survey();
        for (index, (_, leaves)) in &mut frozen.blocks {
            let own = own.remove(index).unwrap_or_default();
            *leaves = match mixed.remove(index) {
                Some(all) => all,
                // All of them are this epoch's, so they are there from 0 on.
                None if own.keys().copied().eq((0..).take(own.len())) => own.into_values().collect(),
                None => return Err(inconsistent("leaves of a block")),
            };
        }
        Ok(frozen)
    }
}
