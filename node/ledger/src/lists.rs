//! Lists of numbers by handle. Most hold one number and are many: those take four bytes; what belongs to a longer one, or to
//! one about which there is more to say, lies elsewhere.

use crate::paged::Paged;

/// A list that is one number takes the number; another takes its place among the [`Lists::full`] ones, with this bit.
const FULL: u32 = 1 << 31;

/// Lists, or whatever `T` is, by handle.
#[derive(Clone, Debug)]
pub struct Lists<T> {
    slots: Paged<u32>,
    full: Vec<T>,
}

/// A list.
#[derive(Debug)]
pub enum List<'a, T> {
    /// One number.
    One(&'a u32),
    /// More than that.
    Full(&'a T),
}

impl<T> Clone for List<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for List<'_, T> {}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Lists {
            slots: Paged::default(),
            full: Vec::new(),
        }
    }
}

impl<T> Lists<T> {
    /// Whether there is a list.
    pub fn contains(&self, handle: u32) -> bool {
        self.slots.contains(handle)
    }

    /// The list.
    pub fn get(&self, handle: u32) -> Option<List<'_, T>> {
        Some(self.list(self.slots.get(handle)?))
    }

    fn list<'a>(&'a self, slot: &'a u32) -> List<'a, T> {
        match slot & FULL {
            0 => List::One(slot),
            _ => List::Full(&self.full[(slot & !FULL) as usize]),
        }
    }

    /// All lists, by ascending handle.
    pub fn iter(&self) -> impl Iterator<Item = (u32, List<'_, T>)> {
        self.slots.iter().map(|(handle, slot)| (handle, self.list(slot)))
    }

    /// The list, if it is a full one.
    pub fn full_mut(&mut self, handle: u32) -> Option<&mut T> {
        let slot = *self.slots.get(handle)?;
        (slot & FULL != 0).then(|| &mut self.full[(slot & !FULL) as usize])
    }

    /// The list as a full one, made with `make` of its one number or of none if it isn't yet.
    ///
    /// # Panics
    /// With 2^31 full lists, which no memory would hold.
    pub fn filled(&mut self, handle: u32, make: impl FnOnce(Option<u32>) -> T) -> &mut T {
        let known = self.slots.get(handle).copied();
        let place = match known {
            Some(slot) if slot & FULL != 0 => slot & !FULL,
            one => {
                let place = u32::try_from(self.full.len()).unwrap_or(FULL);
                assert!(place < FULL, "less than 2^31 full lists");
                self.full.push(make(one));
                *self.slots.entry(handle) = FULL | place;
                place
            }
        };
        &mut self.full[place as usize]
    }

    /// Takes the first number of a list that isn't there yet. Otherwise the list as a full one, to which it can be added.
    ///
    /// # Panics
    /// With a number of 2^31 or more.
    pub fn first(&mut self, handle: u32, number: u32, make: impl FnOnce(Option<u32>) -> T) -> Option<&mut T> {
        assert!(number < FULL, "less than 2^31 statements in an epoch");
        if self.slots.contains(handle) {
            return Some(self.filled(handle, make));
        }
        *self.slots.entry(handle) = number;
        None
    }
}

impl<T: Default> Lists<T> {
    /// Takes a list out, as a full one.
    pub fn remove(&mut self, handle: u32, make: impl FnOnce(Option<u32>) -> T) -> Option<T> {
        let slot = self.slots.remove(handle)?;
        Some(match slot & FULL {
            0 => make(Some(slot)),
            // It leaves a hole: lists are seldom taken out.
            _ => std::mem::take(&mut self.full[(slot & !FULL) as usize]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn make(one: Option<u32>) -> Vec<u32> {
        one.into_iter().collect()
    }

    fn numbers(list: List<'_, Vec<u32>>) -> Vec<u32> {
        match list {
            List::One(one) => vec![*one],
            List::Full(full) => full.clone(),
        }
    }

    proptest! {
        #[test]
        fn they_are_a_map_of_lists(steps in prop::collection::vec((0u32..200, 0u32..1000, 0u8..10), 0..300)) {
            let (mut lists, mut map) = (Lists::default(), BTreeMap::<u32, Vec<u32>>::new());
            for (handle, number, what) in steps {
                match what {
                    0 => prop_assert_eq!(lists.remove(handle, make), map.remove(&handle)),
                    1 => {
                        prop_assert_eq!(&*lists.filled(handle, make), &*map.entry(handle).or_default());
                    }
                    _ => {
                        if let Some(list) = lists.first(handle, number, make) {
                            list.push(number);
                        }
                        map.entry(handle).or_default().push(number);
                    }
                }
                prop_assert_eq!(lists.get(handle).map(numbers), map.get(&handle).cloned());
                prop_assert_eq!(lists.contains(handle), map.contains_key(&handle));
                if let Some(full) = lists.full_mut(handle) {
                    prop_assert_eq!(&*full, &map[&handle]);
                }
            }
            let all: Vec<_> = lists.iter().map(|(handle, list)| (handle, numbers(list))).collect();
            prop_assert_eq!(all, Vec::from_iter(map));
        }
    }
}
