//! Which assets have a journal in a frozen epoch.

use crate::asset::Handle;
use crate::canonical::{Decoder, Encoder};
use crate::snapshot::{SnapshotError, inconsistent};
use std::sync::Arc;

/// A bit for each asset, in pages that epochs share where they are alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Present {
    pages: Vec<Option<Arc<Page>>>,
}

const WORDS: usize = 64;
type Page = [u64; WORDS];

impl Present {
    fn place(handle: Handle) -> (usize, usize, u64) {
        let handle = handle as usize;
        (handle / (WORDS * 64), handle / 64 % WORDS, 1 << (handle % 64))
    }

    pub(super) fn add(&mut self, handle: Handle) {
        let (page, word, bit) = Present::place(handle);
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        let page = self.pages[page].get_or_insert_with(|| Arc::new([0; WORDS]));
        Arc::make_mut(page)[word] |= bit;
    }

    pub(super) fn contains(&self, handle: Handle) -> bool {
        let (page, word, bit) = Present::place(handle);
        matches!(self.pages.get(page), Some(Some(page)) if page[word] & bit != 0)
    }

    /// Takes over the pages of another that are the same.
    pub(super) fn share(&mut self, other: &Present) {
        for (page, theirs) in self.pages.iter_mut().zip(&other.pages) {
            if page == theirs {
                page.clone_from(theirs);
            }
        }
    }

    pub(super) fn encode(&self, before: Option<&Present>, out: &mut Encoder) {
        out.count(self.pages.len());
        for (place, page) in self.pages.iter().enumerate() {
            match page {
                None => out.byte(0),
                page if before.and_then(|before| before.pages.get(place)) == Some(page) => out.byte(1),
                Some(page) => {
                    out.byte(2);
                    page.iter().for_each(|word| out.raw(&word.to_be_bytes()));
                }
            }
        }
    }

    pub(super) fn decode(before: Option<&Present>, from: &mut Decoder<'_>) -> Result<Present, SnapshotError> {
        let mut pages = Vec::new();
        for place in 0..from.count()? {
            pages.push(match from.byte()? {
                0 => None,
                1 => match before.and_then(|before| before.pages.get(place)) {
                    Some(page) => page.clone(),
                    None => return Err(inconsistent("pages of a frozen epoch")),
                },
                2 => {
                    let mut page = [0; WORDS];
                    for word in &mut page {
                        *word = u64::from_be_bytes(from.array()?);
                    }
                    Some(Arc::new(page))
                }
                _ => return Err(inconsistent("pages of a frozen epoch")),
            });
        }
        Ok(Present { pages })
    }
}
