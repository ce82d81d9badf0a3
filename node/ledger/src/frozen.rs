//! Frozen epochs: books that lie in files instead of memory.
//!
//! Where a book lies is a matter of this node alone. What always holds: answers, seals, digests and proofs are the same
//! whichever epochs are frozen, on the condition that an entry is applied only when none of the epochs that it
//! [needs](Ledger::needs) is. A frozen epoch has nothing open but the root's side, and all its seals are certified.
//!
//! The way out has three steps, so that the ledger is never held for long: [`Ledger::share`] lends the book,
//! [`FrozenEpoch::survey`] goes through it without the ledger, and once it lies in files, [`Ledger::freeze`] lets go of it
//! if it is still the same book. The way back is [`Ledger::thaw`]; for reading only, [`Ledger::show`].
//!
//! In memory remain of a frozen epoch: which assets have a journal in it (a bit each, shared with other epochs where 4096 in
//! a row are alike), and the names of its files. The Merkle leaves of a block go with the last epoch that has seals in it;
//! headers and signatures stay.
//!
//! Absent on purpose: files, and any notion of their format.

use crate::action::Action;
use crate::asset::{Handle, ROOT_HANDLE};
use crate::canonical::{Canonical, Decoder, Encoder, canonical_struct};
use crate::digest::Digest;
use crate::entry::{Body, Entry};
use crate::event::Event;
use crate::journal::{Book, SealRecord, Stored, Tag};
use crate::key::PublicKey;
use crate::ledger::Ledger;
use crate::merkle::Frontier;
use crate::snapshot::{Bounds, SnapshotError, inconsistent, restore_seals};
use crate::statement::{MeterSide, Statement, StatementId};
use crate::units::{Epoch, MAX_FIGURE};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Range};
use std::sync::{Arc, Weak};

/// A file in which a part of a frozen epoch lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub digest: Digest,
}

canonical_struct!(ArchiveFile { name, bytes, digest });

/// Which epochs leave memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreezePolicy {
    /// Those that are older than so many epochs. Age is counted from the newest epoch in which anything is booked, but
    /// never from one after the ledger's now.
    pub after_epochs: u64,
    /// And the oldest, while more than so many seals are in memory.
    pub keep_seals: usize,
}

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
        let (kind, subject) = match stored.tag {
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
        };
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
        let number = self.subject;
        let (tag, subjects) = match self.kind {
            0 | 1 => {
                let meter = if self.kind == 0 {
                    MeterSide::From
                } else {
                    MeterSide::To
                };
                (Tag::Metered { meter, label: number }, bounds.labels)
            }
            2 => (Tag::Residual, 1),
            3 => (Tag::Contract { contract: number }, bounds.contracts),
            4 => (Tag::Counter { contract: number }, bounds.contracts),
            _ => return None,
        };
        let known = number < subjects
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

/// An epoch's book outside of the ledger.
#[derive(Clone, Debug)]
pub struct FrozenEpoch {
    epoch: Epoch,
    pub(crate) book: Arc<Book>,
    /// The blocks in which it has seals: how many, and all leaves of each.
    blocks: BTreeMap<u64, (u32, Vec<Digest>)>,
    /// What contracts booked.
    booked: BTreeMap<u32, i128>,
    present: Present,
}

impl FrozenEpoch {
    fn new(epoch: Epoch, book: Arc<Book>) -> FrozenEpoch {
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
        for stored in &self.book.statements {
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
        self.book.statements.iter().map(Row::of)
    }

    /// Its seals, by the number of the asset and by version.
    pub fn seals(&self) -> impl Iterator<Item = SealRow> + '_ {
        let sealed = self
            .book
            .journals
            .iter()
            .filter_map(|(handle, journal)| Some((handle, journal.prefix.as_ref()?)));
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
            book.push(stored);
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

/// Which assets have a journal: a bit each, in pages that epochs share where they are alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Present {
    pages: Vec<Option<Arc<Page>>>,
}

const WORDS: usize = 64;
type Page = [u64; WORDS];

impl Present {
    fn place(handle: Handle) -> (usize, usize, u64) {
        let handle = handle as usize;
        (handle / (WORDS * 64), handle / 64 % WORDS, 1 << (handle % 64))
    }

    fn add(&mut self, handle: Handle) {
        let (page, word, bit) = Present::place(handle);
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        let page = self.pages[page].get_or_insert_with(|| Arc::new([0; WORDS]));
        Arc::make_mut(page)[word] |= bit;
    }

    fn contains(&self, handle: Handle) -> bool {
        let (page, word, bit) = Present::place(handle);
        matches!(self.pages.get(page), Some(Some(page)) if page[word] & bit != 0)
    }

    /// Takes over the pages of another that are the same.
    fn share(&mut self, other: &Present) {
        for (page, theirs) in self.pages.iter_mut().zip(&other.pages) {
            if page == theirs {
                page.clone_from(theirs);
            }
        }
    }

    fn encode(&self, before: Option<&Present>, out: &mut Encoder) {
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

    fn decode(before: Option<&Present>, from: &mut Decoder<'_>) -> Result<Present, SnapshotError> {
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

/// A frozen epoch as the ledger knows it.
#[derive(Debug)]
struct Away {
    files: Vec<ArchiveFile>,
    present: Present,
    /// In memory to be read.
    shown: Option<Arc<FrozenEpoch>>,
}

/// All frozen epochs.
#[derive(Debug, Default)]
pub(crate) struct Frozen {
    away: BTreeMap<Epoch, Away>,
    /// The shown, by the time of their coming.
    shown: Vec<Epoch>,
    /// Books that were thawed and haven't changed since: they lie in these files already.
    clean: BTreeMap<Epoch, (Weak<Book>, Vec<ArchiveFile>)>,
    /// Epochs that stay, for an entry that needs them is about to be applied.
    pinned: BTreeSet<Epoch>,
    /// How many seals of each block are in frozen epochs; its leaves are away where all are.
    leaves: BTreeMap<u64, u32>,
}

impl Frozen {
    fn shown(&self, epoch: Epoch) -> Option<&Arc<FrozenEpoch>> {
        self.away.get(&epoch)?.shown.as_ref()
    }

    pub(crate) fn contains(&self, epoch: Epoch) -> bool {
        self.away.contains_key(&epoch)
    }

    /// Stops a program that books in an epoch that it has not thawed: a second book of it would be a false one.
    pub(crate) fn assert_live(&self, epoch: Epoch) {
        assert!(
            !self.contains(epoch),
            "epoch {epoch} is frozen and was not thawed"
        );
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.count(self.away.len());
        let mut before = None;
        for (epoch, away) in &self.away {
            epoch.encode(out);
            away.files.encode(out);
            away.present.encode(before.replace(&away.present), out);
        }
        self.leaves.encode(out);
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Frozen, SnapshotError> {
        let mut frozen = Frozen::default();
        for _ in 0..from.count()? {
            let epoch = Epoch::decode(from)?;
            let files = Canonical::decode(from)?;
            let newest = frozen.away.last_key_value();
            if newest.is_some_and(|(newest, _)| *newest >= epoch) {
                return Err(inconsistent("order of frozen epochs"));
            }
            let before = newest.map(|(_, away)| away.present.clone());
            let mut present = Present::decode(before.as_ref(), from)?;
            before.iter().for_each(|before| present.share(before));
            let away = Away {
                files,
                present,
                shown: None,
            };
            frozen.away.insert(epoch, away);
        }
        frozen.leaves = Canonical::decode(from)?;
        Ok(frozen)
    }
}

impl Ledger {
    /// The oldest epoch that should leave memory and can.
    pub fn freezable(&self, policy: &FreezePolicy) -> Option<Epoch> {
        let newest = self.epochs.last_key_value()?.0.get();
        let now = self.now.get().checked_div(self.epoch_ms()?)?;
        let reference = newest.min(now);
        let mut seals: usize = self.epochs.values().map(|book| book.sealed).sum();
        for (epoch, book) in &self.epochs {
            let aged = epoch.get().saturating_add(policy.after_epochs) < reference;
            if !aged && seals <= policy.keep_seals {
                return None;
            }
            if self.can_freeze(*epoch, book) {
                return Some(*epoch);
            }
            // What can't go doesn't drive out younger ones.
            seals -= book.sealed;
        }
        None
    }

    fn can_freeze(&self, epoch: Epoch, book: &Book) -> bool {
        let closed = book.open.handles().all(|handle| handle == ROOT_HANDLE);
        let certified = Some(book.newest_block) <= self.chain.certified;
        book.sealed > 0 && closed && certified && !self.frozen.pinned.contains(&epoch)
    }

    /// Lends the book of an epoch that can be frozen. To be surveyed before anything else.
    pub fn share(&self, epoch: Epoch) -> Option<FrozenEpoch> {
        let book = self.epochs.get(&epoch)?;
        self.can_freeze(epoch, book)
            .then(|| FrozenEpoch::new(epoch, Arc::clone(book)))
    }

    /// Gives a surveyed epoch the leaves of its blocks, which must not be away.
    pub fn add_leaves(&self, frozen: &mut FrozenEpoch) {
        for (index, (_, leaves)) in &mut frozen.blocks {
            if let Some(block) = self.chain.blocks.get(index) {
                leaves.clone_from(&block.seals);
            }
        }
    }

    /// The files in which a book lies already, since it was thawed and hasn't changed.
    pub fn unchanged(&self, epoch: Epoch) -> Option<Vec<ArchiveFile>> {
        let (book, files) = self.frozen.clean.get(&epoch)?;
        let same = std::ptr::eq(book.as_ptr(), Arc::as_ptr(self.epochs.get(&epoch)?));
        same.then(|| files.clone())
    }

    /// Lets go of a book that lies in these files; `false` if it has changed meanwhile or must stay. What it takes is dropped
    /// with `frozen`.
    pub fn freeze(&mut self, frozen: &FrozenEpoch, files: Vec<ArchiveFile>) -> bool {
        let epoch = frozen.epoch;
        let fits = self
            .epochs
            .get(&epoch)
            .is_some_and(|book| Arc::ptr_eq(book, &frozen.book) && self.can_freeze(epoch, book));
        if !fits {
            return false;
        }
        self.epochs.remove(&epoch);
        self.frozen.clean.remove(&epoch);
        for contract in frozen.booked.keys() {
            self.contracts.get_mut(*contract).booked.remove(&epoch);
        }
        for (index, (own, _)) in &frozen.blocks {
            let away = self.frozen.leaves.entry(*index).or_default();
            *away = away.saturating_add(*own);
            if let Some(block) = self.chain.blocks.get_mut(index)
                && block.header.count == *away
            {
                block.seals = Vec::new();
            }
        }
        let mut present = frozen.present.clone();
        let beside = self.frozen.away.range(..epoch).next_back();
        if let Some((_, beside)) = beside {
            present.share(&beside.present);
        }
        let away = Away {
            files,
            present,
            shown: None,
        };
        self.frozen.away.insert(epoch, away);
        true
    }

    /// Puts a book back, as it was. `false` if that epoch isn't frozen.
    pub fn thaw(&mut self, frozen: &FrozenEpoch) -> bool {
        let epoch = frozen.epoch;
        let Some(away) = self.frozen.away.remove(&epoch) else {
            return false;
        };
        self.frozen.shown.retain(|shown| *shown != epoch);
        let clean = (Arc::downgrade(&frozen.book), away.files);
        self.frozen.clean.insert(epoch, clean);
        for (contract, energy) in &frozen.booked {
            self.contracts.get_mut(*contract).booked.insert(epoch, *energy);
        }
        for (index, (own, leaves)) in &frozen.blocks {
            if let Some(block) = self.chain.blocks.get_mut(index)
                && block.seals.is_empty()
            {
                block.seals.clone_from(leaves);
            }
            if let Some(away) = self.frozen.leaves.get_mut(index) {
                *away = away.saturating_sub(*own);
                if *away == 0 {
                    self.frozen.leaves.remove(index);
                }
            }
        }
        self.epochs.insert(epoch, Arc::clone(&frozen.book));
        true
    }

    /// What recreates the balancing actors' memory of an epoch that was thawed: what contracts booked in it, its
    /// journals, and approvals.
    pub fn thawed_events(&self, epoch: Epoch) -> Vec<Event> {
        let Some(book) = self.epochs.get(&epoch) else {
            return Vec::new();
        };
        let contracts = self.contracts.numbered().filter_map(|record| {
            let energy = record.booked.get(&epoch)?;
            Some(Event::ContractRestored {
                contract: record.contract.terms.id.clone(),
                booked: vec![(epoch, *energy)],
            })
        });
        contracts.chain(self.book_events(epoch, book)).collect()
    }

    /// The frozen epochs that an entry touches, so that they must be thawed before it is applied.
    pub fn needs(&self, entry: &Entry) -> BTreeSet<Epoch> {
        let Body::Envelopes { envelopes } = &entry.body else {
            return BTreeSet::new();
        };
        let mut needed = BTreeSet::new();
        let mut touch = |epoch: Epoch| {
            if self.frozen.contains(epoch) {
                needed.insert(epoch);
            }
        };
        for envelope in envelopes {
            match &envelope.action {
                Action::Settle { settlements } => settlements.iter().for_each(|s| touch(s.epoch)),
                Action::SettleRoster { batch } => touch(batch.epoch),
                Action::Seal { epoch, .. }
                | Action::Correct { epoch, .. }
                | Action::SealEpoch { epoch, .. }
                | Action::Approve { epoch, .. } => touch(*epoch),
                Action::UpsertAsset { .. }
                | Action::AddContract { .. }
                | Action::ChangeContract { .. }
                | Action::SetMeritOrder { .. }
                | Action::AddRoster { .. }
                | Action::SetAuditRule { .. }
                | Action::RegisterNode { .. }
                | Action::PromoteNode { .. }
                | Action::RevokeNode { .. } => {}
            }
        }
        needed
    }

    /// Keeps these epochs, and no others, from being frozen.
    pub fn pin(&mut self, epochs: BTreeSet<Epoch>) {
        self.frozen.pinned = epochs;
    }

    /// Where an epoch lies that can't be read at this moment; `None` if it can be.
    pub fn absent(&self, epoch: Epoch) -> Option<&[ArchiveFile]> {
        let away = self.frozen.away.get(&epoch)?;
        away.shown.is_none().then_some(&*away.files)
    }

    /// A frozen epoch that is shown.
    pub fn shown(&self, epoch: Epoch) -> Option<Arc<FrozenEpoch>> {
        self.frozen.shown(epoch).cloned()
    }

    /// Makes a frozen epoch readable, until others are shown that have more than `most` statements together. Returns those
    /// that ceased to be.
    pub fn show(&mut self, frozen: Arc<FrozenEpoch>, most: usize) -> Vec<Arc<FrozenEpoch>> {
        let epoch = frozen.epoch;
        let Some(away) = self.frozen.away.get_mut(&epoch) else {
            return vec![frozen];
        };
        let mut gone: Vec<Arc<FrozenEpoch>> = away.shown.replace(frozen).into_iter().collect();
        self.frozen.shown.retain(|shown| *shown != epoch);
        self.frozen.shown.push(epoch);
        loop {
            let sizes = self
                .frozen
                .shown
                .iter()
                .filter_map(|epoch| self.frozen.shown(*epoch));
            if self.frozen.shown.len() < 2 || sizes.map(|frozen| frozen.len()).sum::<usize>() <= most {
                return gone;
            }
            let oldest = self.frozen.shown.remove(0);
            gone.extend(
                self.frozen
                    .away
                    .get_mut(&oldest)
                    .and_then(|away| away.shown.take()),
            );
        }
    }

    /// All frozen epochs with their files.
    pub fn frozen(&self) -> impl Iterator<Item = (Epoch, &[ArchiveFile])> {
        self.frozen
            .away
            .iter()
            .map(|(epoch, away)| (*epoch, &*away.files))
    }

    /// The files that the state refers to, those of unchanged thawed epochs included.
    pub fn files(&self) -> impl Iterator<Item = &ArchiveFile> {
        let away = self.frozen.away.values().map(|away| &away.files);
        away.chain(self.frozen.clean.values().map(|(_, files)| files))
            .flatten()
    }

    /// The statements of a lent or thawed book in a range of their numbers, with their names.
    pub fn statements_of(&self, frozen: &FrozenEpoch, numbers: Range<usize>) -> Vec<Statement> {
        let all = &frozen.book.statements;
        let end = numbers.end.min(all.len());
        let part = all.get(numbers.start..end).unwrap_or_default();
        part.iter()
            .map(|stored| self.statement_of(frozen.epoch, stored))
            .collect()
    }

    /// The book of an epoch, if it is in memory.
    pub(crate) fn book(&self, epoch: Epoch) -> Option<&Book> {
        match self.epochs.get(&epoch) {
            Some(book) => Some(book),
            None => self.frozen.shown(epoch).map(|frozen| &*frozen.book),
        }
    }

    /// The book of an epoch, to be changed.
    pub(crate) fn book_mut(&mut self, epoch: Epoch) -> &mut Book {
        self.frozen.assert_live(epoch);
        Arc::make_mut(self.epochs.entry(epoch).or_default())
    }

    /// What a contract booked in a frozen epoch that is shown.
    pub(crate) fn shown_booked(&self, contract: u32, epoch: Epoch) -> Option<i128> {
        self.frozen.shown(epoch)?.booked.get(&contract).copied()
    }

    /// The leaves of a block, for a seal of `epoch`.
    pub(crate) fn leaves(&self, index: u64, epoch: Epoch) -> Option<&[Digest]> {
        let block = self.chain.blocks.get(&index)?;
        match block.seals.is_empty() {
            false => Some(&block.seals),
            true => Some(&self.frozen.shown(epoch)?.blocks.get(&index)?.1),
        }
    }

    /// The frozen epochs in which an asset has a journal, ascending.
    pub(crate) fn frozen_epochs_of(
        &self,
        asset: Handle,
        range: (Bound<Epoch>, Bound<Epoch>),
    ) -> impl DoubleEndedIterator<Item = Epoch> {
        let away = self.frozen.away.range(range);
        away.filter(move |(_, away)| away.present.contains(asset))
            .map(|(epoch, _)| *epoch)
    }

    /// Whether the root has a journal in a frozen epoch: all that is open in it.
    pub(crate) fn frozen_root_open(&self, epoch: Epoch) -> bool {
        let away = self.frozen.away.get(&epoch);
        away.is_some_and(|away| away.present.contains(ROOT_HANDLE))
    }
}
