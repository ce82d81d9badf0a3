//! A list that grows by pieces of a fixed size: without room for what may never come, without moving what is there, and a
//! clone shares all pieces that neither of the two changes.

use std::sync::Arc;

/// Elements of a piece.
const PIECE: usize = 1024;

/// A list that only grows. An element of a piece that a clone shares is changed in a copy of that piece.
#[derive(Clone, Debug)]
pub struct Chunks<T> {
    pieces: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Chunks {
            pieces: Vec::new(),
            len: 0,
        }
    }
}

impl<T: Clone> Chunks<T> {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends an element.
    pub fn push(&mut self, element: T) {
        if self.len.is_multiple_of(PIECE) {
            // The first piece grows as it must, for most lists are short.
            let room = if self.len == 0 { 0 } else { PIECE };
            self.pieces.push(Arc::new(Vec::with_capacity(room)));
        }
        if let Some(last) = self.pieces.last_mut() {
            Arc::make_mut(last).push(element);
            self.len += 1;
        }
    }

    /// The element at a place.
    ///
    /// # Panics
    /// If there is none.
    pub fn at(&self, place: usize) -> &T {
        &self.pieces[place / PIECE][place % PIECE]
    }

    /// The element at a place, to be changed.
    ///
    /// # Panics
    /// If there is none.
    pub fn at_mut(&mut self, place: usize) -> &mut T {
        &mut Arc::make_mut(&mut self.pieces[place / PIECE])[place % PIECE]
    }

    /// All elements, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flat_map(|piece| piece.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_elements_and_so_does_a_clone_of_it() {
        let mut chunks = Chunks::default();
        let mut clones = Vec::new();
        for n in 0..3 * PIECE + 1 {
            if n % 700 == 0 {
                clones.push(chunks.clone());
            }
            assert_eq!(chunks.len(), n);
            chunks.push(n);
        }
        assert!(chunks.iter().copied().eq(0..3 * PIECE + 1));
        for (clone, turn) in clones.iter_mut().zip(0..) {
            assert_eq!(clone.len(), turn * 700);
            clone.push(usize::MAX);
            assert!((0..turn * 700).all(|n| *clone.at(n) == n));
            assert_eq!(*clone.at(turn * 700), usize::MAX);
            *clone.at_mut(0) = 7;
            assert_eq!(*clone.at(0), 7);
        }
        assert!((0..chunks.len()).all(|n| *chunks.at(n) == n));
    }
}
