//! What a file holds: a length and the pages that were ever written. Pages are shared until one side changes
//! them, so that a file and its durable twin cost one copy, and an allocated segment of zeros costs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a page.
pub(super) const PAGE: u64 = 4096;
const PAGE_LEN: usize = 4096;
type Page = [u8; PAGE_LEN];

/// Contents of a file. What was never written reads as zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Pages {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Writes, growing the file if needed.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        self.len = self.len.max(offset + data.len() as u64);
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let start = within_page(at);
            let n = rest.len().min(PAGE_LEN - start);
            let (now, later) = rest.split_at(n);
            let page = self
                .pages
                .entry(at / PAGE)
                .or_insert_with(|| Arc::new([0; PAGE_LEN]));
            Arc::make_mut(page)[start..start + n].copy_from_slice(now);
            at += n as u64;
            rest = later;
        }
    }

    /// Up to `len` bytes; fewer only at the end.
    pub(super) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let len = usize::try_from(self.len.saturating_sub(offset))
            .unwrap_or(usize::MAX)
            .min(len);
        let mut out = vec![0; len];
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let start = within_page(at);
            let n = (len - done).min(PAGE_LEN - start);
            if let Some(page) = self.pages.get(&(at / PAGE)) {
                out[done..done + n].copy_from_slice(&page[start..start + n]);
            }
            done += n;
        }
        out
    }

    /// Cuts or grows the file; what is cut reads as zero should it grow again.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE));
            let start = within_page(len);
            if start != 0
                && let Some(page) = self.pages.get_mut(&(len / PAGE))
            {
                Arc::make_mut(page)[start..].fill(0);
            }
        }
        self.len = len;
    }

    /// Flips one bit, if there is such a byte.
    pub(super) fn flip(&mut self, offset: u64, bit: u8) {
        if offset < self.len {
            let byte = self.read(offset, 1)[0] ^ (1 << (bit % 8));
            self.write(offset, &[byte]);
        }
    }
}

fn within_page(offset: u64) -> usize {
    usize::try_from(offset % PAGE).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_across_pages_read_back() {
        let mut pages = Pages::default();
        let data: Vec<u8> = (0..10_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        pages.write(4_000, &data);
        assert_eq!(pages.len(), 14_000);
        assert_eq!(pages.read(4_000, 10_000), data);
        assert_eq!(pages.read(0, 4_000), vec![0; 4_000]);
        assert_eq!(pages.read(13_999, 10), data[9_999..]);
        assert_eq!(pages.read(20_000, 10), Vec::<u8>::new());
    }

    #[test]
    fn what_was_cut_is_zero_when_the_file_grows_again() {
        let mut pages = Pages::default();
        pages.write(0, &[1; 9_000]);
        pages.set_len(4_100);
        pages.set_len(9_000);
        let mut expected = vec![1; 4_100];
        expected.resize(9_000, 0);
        assert_eq!(pages.read(0, 9_000), expected);
    }

    #[test]
    fn a_copy_does_not_change_with_its_original() {
        let mut pages = Pages::default();
        pages.write(0, b"before");
        let copy = pages.clone();
        pages.write(0, b"after!");
        assert_eq!(copy.read(0, 6), b"before");
    }
}
