//! Statements as they are stored, by number: names as numbers, the epoch and a contract's value left to be derived.
//!
//! A statement takes 32 bytes. The index of its entry is kept once for all that the entry booked in a row.

use crate::asset::Handle;
use crate::balance::Balance;
use crate::chunks::Chunks;
use crate::statement::{MeterSide, StatementId};

/// A statement as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) id: StatementId,
    pub(crate) energy: i64,
    pub(crate) co2: i64,
    pub(crate) from: Handle,
    pub(crate) to: Handle,
    pub(crate) tag: Tag,
}

/// Why it was booked, with the number of its label or contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Metered { meter: MeterSide, label: u32 },
    Residual,
    Contract { contract: u32 },
    Counter { contract: u32 },
}

impl Tag {
    /// Its kind, and the number that belongs to it: 0 metered, the meter delivers; 1 metered, it draws; 2 residual; 3 contract;
    /// 4 counter.
    pub(crate) fn numbers(self) -> (u8, u32) {
        match self {
            Tag::Metered {
                meter: MeterSide::From,
                label,
            } => (0, label),
            Tag::Metered {
                meter: MeterSide::To,
                label,
            } => (1, label),
            Tag::Residual => (2, 0),
            Tag::Contract { contract } => (3, contract),
            Tag::Counter { contract } => (4, contract),
        }
    }

    /// The tag of these numbers, if they are any's.
    pub(crate) fn of(kind: u8, subject: u32) -> Option<Tag> {
        Some(match kind {
            0 => Tag::Metered {
                meter: MeterSide::From,
                label: subject,
            },
            1 => Tag::Metered {
                meter: MeterSide::To,
                label: subject,
            },
            2 => Tag::Residual,
            3 => Tag::Contract { contract: subject },
            4 => Tag::Counter { contract: subject },
            _ => return None,
        })
    }
}

/// A statement without its entry's index.
#[derive(Clone, Copy, Debug)]
struct Packed {
    energy: i64,
    co2: i64,
    position: u32,
    from: Handle,
    to: Handle,
    /// The subject's number, and above it the kind's.
    tag: u32,
}

/// Bits of a packed tag that are the subject's.
const SUBJECT: u32 = 29;

/// The statements of an epoch, in booking order, so in the order of their ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statements {
    packed: Chunks<Packed>,
    /// The number of the first statement of each entry, and the entry's index.
    entries: Vec<(u32, u64)>,
}

impl Statements {
    pub(crate) fn len(&self) -> usize {
        self.packed.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// Appends a statement; its number.
    pub(crate) fn push(&mut self, stored: &Stored) -> u32 {
        // 2^31 statements of one epoch would take 64 GB, and a list of numbers has room for no more.
        let number = u32::try_from(self.packed.len()).expect("less than 2^31 statements in an epoch");
        let (kind, subject) = stored.tag.numbers();
        // Names of 2^29 labels or contracts would not fit into memory.
        assert!(subject >> SUBJECT == 0, "less than 2^29 labels and contracts");
        self.packed.push(Packed {
            energy: stored.energy,
            co2: stored.co2,
            position: stored.id.position,
            from: stored.from,
            to: stored.to,
            tag: u32::from(kind) << SUBJECT | subject,
        });
        if self
            .entries
            .last()
            .is_none_or(|(_, index)| *index != stored.id.index)
        {
            self.entries.push((number, stored.id.index));
        }
        number
    }

    /// The statement of this number.
    pub(crate) fn get(&self, number: u32) -> Stored {
        let packed = self.packed.at(number as usize);
        let entry = match self.entries.last() {
            // Mostly it is one of the last.
            Some(last) if last.0 <= number => last,
            _ => &self.entries[self.entries.partition_point(|(first, _)| *first <= number) - 1],
        };
        Stored {
            id: StatementId {
                index: entry.1,
                position: packed.position,
            },
            energy: packed.energy,
            co2: packed.co2,
            from: packed.from,
            to: packed.to,
            tag: Tag::of(kind(packed.tag), packed.tag & !(u32::MAX << SUBJECT)).unwrap_or(Tag::Residual),
        }
    }

    /// The last one.
    pub(crate) fn last(&self) -> Option<Stored> {
        self.iter().next_back()
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = Stored> + DoubleEndedIterator {
        self.from(0)
    }

    /// Those from a number on.
    pub(crate) fn from(&self, number: usize) -> impl ExactSizeIterator<Item = Stored> + DoubleEndedIterator {
        // Pushing has seen to it that every number is one of 32 bits.
        (number..self.packed.len()).map(|number| self.get(u32::try_from(number).unwrap_or(u32::MAX)))
    }

    /// How many come before this id.
    pub(crate) fn before(&self, id: StatementId) -> usize {
        let (mut low, mut high) = (0, self.packed.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.from(middle).next() {
                Some(stored) if stored.id < id => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }

    /// The statement with this id.
    pub(crate) fn find(&self, id: StatementId) -> Option<Stored> {
        self.from(self.before(id)).next().filter(|stored| stored.id == id)
    }

    /// Adds a statement to a balance as `asset` sees it.
    pub(crate) fn add_to(&self, balance: &mut Balance, number: u32, asset: Handle) {
        let packed = self.packed.at(number as usize);
        let (side, own) = match packed.from == asset {
            true => (MeterSide::From, 0),
            false => (MeterSide::To, 1),
        };
        let owned = kind(packed.tag) == own;
        balance.add_side(side, owned, i128::from(packed.energy), i128::from(packed.co2));
    }

    /// The balance of these statements as `asset` sees them.
    pub(crate) fn sum(&self, numbers: &[u32], asset: Handle) -> Balance {
        let mut balance = Balance::default();
        numbers
            .iter()
            .for_each(|number| self.add_to(&mut balance, *number, asset));
        balance
    }
}

/// The kind in a packed tag.
fn kind(tag: u32) -> u8 {
    (tag >> SUBJECT) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_come_back_as_they_were_and_are_found_by_their_ids() {
        let stored = |index, position, kind, subject| Stored {
            id: StatementId { index, position },
            energy: 1 << 52,
            co2: -7,
            from: 3,
            to: u32::MAX - 1,
            tag: Tag::of(kind, subject).expect("a kind"),
        };
        let all = [
            stored(2, 0, 0, 5),
            stored(2, 1, 1, (1 << SUBJECT) - 1),
            stored(2, 7, 2, 0),
            stored(9, 0, 3, 1),
            stored(u64::MAX, 4, 4, 0),
        ];
        let mut statements = Statements::default();
        for (one, number) in all.iter().zip(0..) {
            assert_eq!(statements.push(one), number);
        }
        assert_eq!(statements.iter().collect::<Vec<_>>(), all);
        assert_eq!(statements.last(), all.last().copied());
        for (one, number) in all.iter().zip(0..) {
            assert_eq!(statements.find(one.id), Some(*one));
            assert_eq!(statements.before(one.id), number);
        }
        let none = StatementId {
            index: 2,
            position: 2,
        };
        assert_eq!(statements.find(none), None);
        assert_eq!(statements.before(none), 2);
        assert_eq!(size_of::<Packed>(), 32);
    }
}
