//! What files hold of an epoch, row by row.

use crate::journal::SealRecord;
use crate::merkle::Frontier;
use crate::snapshot::Bounds;
use crate::statement::StatementId;
use crate::stored::{Stored, Tag};
use crate::units::MAX_FIGURE;

/// A statement as files hold it: names as the ledger's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The index of the entry that booked it.
    pub index: u64,
    /// Its position within that.
    pub position: u32,
    /// Who delivers.
    pub from: u32,
    /// Who receives.
    pub to: u32,
    /// In watt-hours.
    pub energy: i64,
    /// In grams.
    pub co2eq: i64,
    /// 0 metered, the meter delivers; 1 metered, it draws; 2 residual; 3 contract; 4 counter.
    pub kind: u8,
    /// The number of the label or contract.
    pub subject: u32,
}

impl Row {
    pub(crate) fn of(stored: &Stored) -> Row {
        let (kind, subject) = stored.tag.numbers();
        Row {
            index: stored.id.index,
            position: stored.id.position,
            from: stored.from,
            to: stored.to,
            energy: stored.energy,
            co2eq: stored.co2,
            kind,
            subject,
        }
    }

    /// The statement as it is stored, if it is one of this ledger's.
    pub(crate) fn stored(&self, bounds: Bounds) -> Option<Stored> {
        let subjects = match self.kind {
            0 | 1 => bounds.labels,
            2 => 1,
            _ => bounds.contracts,
        };
        let tag = Tag::of(self.kind, self.subject)?;
        let known = self.subject < subjects
            && self.from < bounds.assets
            && self.to < bounds.assets
            && self.from != self.to
            && (0..=MAX_FIGURE).contains(&self.energy)
            && (-MAX_FIGURE..=MAX_FIGURE).contains(&self.co2eq);
        known.then_some(Stored {
            id: StatementId {
                index: self.index,
                position: self.position,
            },
            energy: self.energy,
            co2: self.co2eq,
            from: self.from,
            to: self.to,
            tag,
        })
    }
}

/// A seal as files hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealRow {
    /// The number of its asset.
    pub asset: u32,
    /// The seal.
    pub record: SealRecord,
    /// The Merkle frontier over its watermark, where it is the newest.
    pub frontier: Option<Frontier>,
}
