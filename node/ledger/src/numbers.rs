//! Short lists of numbers that take sixteen bytes, with a tally once they are long.
//!
//! Nearly every journal holds one statement, and there are as many journals as statements; a few hold thousands, and what
//! they sum to must not be summed anew each time someone asks.

/// How many numbers a list holds in place.
const FEW: usize = 3;

/// A list of numbers; a long one keeps a tally of some kind beside it.
#[derive(Clone, Debug)]
pub enum Numbers<T> {
    /// In place, without a tally.
    Few {
        /// How many.
        len: u8,
        /// The first `len` of these.
        numbers: [u32; FEW],
    },
    /// Elsewhere.
    Many(Box<Many<T>>),
}

/// A long list.
#[derive(Clone, Debug)]
pub struct Many<T> {
    numbers: Vec<u32>,
    tally: T,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Numbers::Few {
            len: 0,
            numbers: [0; FEW],
        }
    }
}

impl<T> Numbers<T> {
    /// All of them, in order.
    pub fn as_slice(&self) -> &[u32] {
        match self {
            Numbers::Few { len, numbers } => &numbers[..usize::from(*len)],
            Numbers::Many(many) => &many.numbers,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// Appends a number: to a long list's tally it is added, a list that becomes long with it is tallied.
    pub fn push(&mut self, number: u32, add: impl FnOnce(&mut T), tally: impl FnOnce(&[u32]) -> T) {
        match self {
            Numbers::Few { len, numbers } if usize::from(*len) < FEW => {
                numbers[usize::from(*len)] = number;
                *len += 1;
            }
            Numbers::Few { numbers, .. } => {
                let mut numbers = numbers.to_vec();
                numbers.push(number);
                let tally = tally(&numbers);
                *self = Numbers::Many(Box::new(Many { numbers, tally }));
            }
            Numbers::Many(many) => {
                many.numbers.push(number);
                add(&mut many.tally);
            }
        }
    }

    /// The tally of a long list.
    pub fn tally(&self) -> Option<&T> {
        match self {
            Numbers::Few { .. } => None,
            Numbers::Many(many) => Some(&many.tally),
        }
    }

    /// A long list with its tally, to be changed.
    pub fn tally_mut(&mut self) -> Option<(&[u32], &mut T)> {
        match self {
            Numbers::Few { .. } => None,
            Numbers::Many(many) => Some((&many.numbers, &mut many.tally)),
        }
    }

    /// Replaces the tally of a long list.
    pub fn set_tally(&mut self, tally: impl FnOnce(&[u32]) -> T) {
        if let Numbers::Many(many) = self {
            many.tally = tally(&many.numbers);
        }
    }

    /// Puts a number in the middle of the list.
    #[cfg(feature = "planted")]
    pub fn insert(&mut self, at: usize, number: u32, tally: impl FnOnce(&[u32]) -> T) {
        let mut numbers = self.as_slice().to_vec();
        numbers.insert(at, number);
        let tally = tally(&numbers);
        *self = Numbers::Many(Box::new(Many { numbers, tally }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_grow_in_place_then_elsewhere_and_keep_their_tally() {
        let mut list: Numbers<u64> = Numbers::default();
        let sum = |numbers: &[u32]| numbers.iter().map(|n| u64::from(*n)).sum::<u64>();
        for number in 0..10 {
            assert_eq!(list.as_slice(), Vec::from_iter(0..number));
            list.push(number, |tally| *tally += u64::from(number), sum);
            assert_eq!(list.tally().copied(), (number > 2).then(|| sum(list.as_slice())));
        }
        list.set_tally(|_| 0);
        list.push(7, |tally| *tally += 7, sum);
        assert_eq!(list.tally(), Some(&7));
        assert_eq!(size_of::<Numbers<[i128; 8]>>(), 16);
    }
}
