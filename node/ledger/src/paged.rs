//! Maps from handles: numbers that are given in order, so that they lie densely, to small values.
//!
//! A tree of fixed shape: a look-up is three loads and compares nothing, neighbours lie side by side, and an epoch in
//! which only few assets have anything costs a few kilobytes. In the order of handles, as a `BTreeMap` would be.

/// Values, middle nodes and bits of one level.
const FAN: usize = 64;

/// A map from handles.
#[derive(Clone, Debug)]
pub struct Paged<T> {
    top: Vec<Option<Box<Middle<T>>>>,
    len: usize,
}

type Middle<T> = [Option<Box<Page<T>>>; FAN];

/// The values of 64 handles in a row.
#[derive(Clone, Debug)]
struct Page<T> {
    /// Which of them are there.
    present: u64,
    values: [T; FAN],
}

/// The places of a handle on the three levels.
fn places(handle: u32) -> (usize, usize, usize) {
    let handle = handle as usize;
    (handle / (FAN * FAN), handle / FAN % FAN, handle % FAN)
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Paged {
            top: Vec::new(),
            len: 0,
        }
    }
}

impl<T: Default> Paged<T> {
    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn page(&self, handle: u32) -> Option<&Page<T>> {
        let (top, middle, _) = places(handle);
        self.top.get(top)?.as_ref()?[middle].as_deref()
    }

    fn page_mut(&mut self, handle: u32) -> Option<&mut Page<T>> {
        let (top, middle, _) = places(handle);
        self.top.get_mut(top)?.as_mut()?[middle].as_deref_mut()
    }

    /// Whether there is a value.
    pub fn contains(&self, handle: u32) -> bool {
        self.page(handle)
            .is_some_and(|page| page.present >> places(handle).2 & 1 == 1)
    }

    /// The value.
    pub fn get(&self, handle: u32) -> Option<&T> {
        let (page, place) = (self.page(handle)?, places(handle).2);
        (page.present >> place & 1 == 1).then(|| &page.values[place])
    }

    /// The value, to be changed.
    pub fn get_mut(&mut self, handle: u32) -> Option<&mut T> {
        let (page, place) = (self.page_mut(handle)?, places(handle).2);
        (page.present >> place & 1 == 1).then(|| &mut page.values[place])
    }

    /// The value, made if there is none yet.
    pub fn entry(&mut self, handle: u32) -> &mut T {
        let (top, middle, place) = places(handle);
        if self.top.len() <= top {
            self.top.resize_with(top + 1, || None);
        }
        let middles = self.top[top].get_or_insert_with(|| Box::new(std::array::from_fn(|_| None)));
        let page = middles[middle].get_or_insert_with(|| {
            Box::new(Page {
                present: 0,
                values: std::array::from_fn(|_| T::default()),
            })
        });
        let bit = 1 << place;
        self.len += usize::from(page.present & bit == 0);
        page.present |= bit;
        &mut page.values[place]
    }

    /// Takes the value out.
    pub fn remove(&mut self, handle: u32) -> Option<T> {
        let (page, place) = (self.page_mut(handle)?, places(handle).2);
        if page.present >> place & 1 == 0 {
            return None;
        }
        page.present &= !(1 << place);
        let value = std::mem::take(&mut page.values[place]);
        self.len -= 1;
        Some(value)
    }

    /// All values, by ascending handle.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let middles = (0u32..).zip(&self.top);
        let pages = middles.flat_map(|(top, middle)| {
            let pages = middle.as_deref().map_or(&[] as &[_], |pages| pages.as_slice());
            (top * 64..)
                .zip(pages)
                .filter_map(|(number, page)| Some((number, page.as_deref()?)))
        });
        pages.flat_map(|(number, page)| {
            (number * 64..)
                .zip(&page.values)
                .zip(0..)
                .filter(|(_, place)| page.present >> place & 1 == 1)
                .map(|(value, _)| value)
        })
    }

    /// All handles that have a value, ascending.
    pub fn handles(&self) -> impl Iterator<Item = u32> {
        self.iter().map(|(handle, _)| handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((prop::bool::weighted(0.7), 0u32..20_000, any::<u16>()), 0..300)) {
            let (mut paged, mut map) = (Paged::default(), BTreeMap::new());
            for (put, handle, value) in steps {
                if put {
                    *paged.entry(handle) = value;
                    map.insert(handle, value);
                } else {
                    prop_assert_eq!(paged.remove(handle), map.remove(&handle));
                }
                prop_assert_eq!(paged.get(handle), map.get(&handle));
                prop_assert_eq!(paged.contains(handle), map.contains_key(&handle));
                prop_assert_eq!(paged.len(), map.len());
            }
            prop_assert!(paged.iter().eq(map.iter().map(|(handle, value)| (*handle, value))));
        }
    }

    #[test]
    fn a_value_that_was_taken_out_comes_back_as_new() {
        let mut paged = Paged::default();
        *paged.entry(7) = 1;
        assert_eq!(paged.remove(7), Some(1));
        assert_eq!(*paged.entry(7), 0);
    }
}
