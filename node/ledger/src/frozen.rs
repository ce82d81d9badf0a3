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

mod epoch;
mod present;
mod row;

pub use epoch::FrozenEpoch;
pub use row::{Row, SealRow};

use self::present::Present;
use crate::action::Action;
use crate::asset::{AssetId, Handle, ROOT_HANDLE};
use crate::canonical::{Canonical, Decoder, Encoder, canonical_struct};
use crate::contract::Terms;
use crate::digest::Digest;
use crate::entry::{Body, Entry};
use crate::journal::Book;
use crate::ledger::Ledger;
use crate::snapshot::{SnapshotError, inconsistent};
use crate::statement::Label;
use crate::units::Epoch;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
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
    /// And the oldest, while more than so many seals are in memory,
    pub keep_seals: usize,
    /// or more than so many statements of epochs with seals.
    pub keep_statements: usize,
}

/// What epochs with seals take of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Their seals.
    pub seals: usize,
    /// Their statements.
    pub statements: usize,
}

impl Held {
    fn of(book: &Book) -> Held {
        match book.sealed {
            0 => Held::default(),
            seals => Held {
                seals,
                statements: book.statements.len(),
            },
        }
    }

    /// Whether it is more than so many seals, or more than so many statements.
    pub fn exceeds(self, seals: usize, statements: usize) -> bool {
        self.seals > seals || self.statements > statements
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
        let mut held = self.held();
        for (epoch, book) in &self.epochs {
            let aged = epoch.get().saturating_add(policy.after_epochs) < reference;
            if !aged && !held.exceeds(policy.keep_seals, policy.keep_statements) {
                return None;
            }
            if self.can_freeze(book) {
                return Some(*epoch);
            }
            // What can't go doesn't drive out younger ones.
            let stays = Held::of(book);
            held.seals -= stays.seals;
            held.statements -= stays.statements;
        }
        None
    }

    /// The newest epoch in memory, by whose age others leave it.
    pub fn newest_epoch(&self) -> Option<Epoch> {
        self.epochs.last_key_value().map(|(epoch, _)| *epoch)
    }

    /// What is in memory of epochs with seals, whether they can be frozen or not.
    pub fn held(&self) -> Held {
        let mut held = Held::default();
        for more in self.epochs.values().map(|book| Held::of(book)) {
            held.seals += more.seals;
            held.statements += more.statements;
        }
        held
    }

    fn can_freeze(&self, book: &Book) -> bool {
        let closed = book.open.handles().all(|handle| handle == ROOT_HANDLE);
        let certified = Some(book.newest_block) <= self.chain.certified;
        book.sealed > 0 && closed && certified
    }

    /// Lends the book of an epoch that can be frozen. To be surveyed before anything else.
    pub fn share(&self, epoch: Epoch) -> Option<FrozenEpoch> {
        let book = self.epochs.get(&epoch)?;
        self.can_freeze(book)
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
            .is_some_and(|book| Arc::ptr_eq(book, &frozen.book) && self.can_freeze(book));
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

    /// The frozen epochs that an entry touches, so that they must be thawed before it is applied.
    pub fn needs(&self, entry: &Entry) -> BTreeSet<Epoch> {
        let Body::Envelopes { envelopes } = &entry.body else {
            return BTreeSet::new();
        };
        let mut needed = BTreeSet::new();
        for envelope in envelopes {
            self.add_needs(&envelope.action, &mut needed);
        }
        needed
    }

    /// The frozen epochs that an action touches.
    pub fn needs_of(&self, action: &Action) -> BTreeSet<Epoch> {
        let mut needed = BTreeSet::new();
        self.add_needs(action, &mut needed);
        needed
    }

    fn add_needs(&self, action: &Action, needed: &mut BTreeSet<Epoch>) {
        // While nothing is frozen, nothing can be needed.
        if self.frozen.away.is_empty() {
            return;
        }
        let mut touch = |epoch: Epoch| {
            if self.frozen.contains(epoch) {
                needed.insert(epoch);
            }
        };
        match action {
            Action::Settle { settlements } => {
                for settlement in settlements {
                    touch(settlement.epoch);
                    let back = settlement.autoseal.filter(|_| !planted!("autoseal-not-fetched"));
                    back.and_then(|back| settlement.epoch.earlier(back))
                        .map(&mut touch);
                }
            }
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

    /// How many bytes the files of a frozen epoch have; `None` if it isn't frozen.
    pub fn frozen_bytes(&self, epoch: Epoch) -> Option<u64> {
        let away = self.frozen.away.get(&epoch)?;
        Some(away.files.iter().map(|file| file.bytes).sum())
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

    /// Makes a frozen epoch that was read from these files readable, until others are shown that have more than `most`
    /// statements together. Returns what ceased to be, or was not needed; to drop that takes a while.
    pub fn show(
        &mut self,
        frozen: Arc<FrozenEpoch>,
        files: &[ArchiveFile],
        most: usize,
    ) -> Vec<Arc<FrozenEpoch>> {
        let epoch = frozen.epoch;
        let away = self.frozen.away.get_mut(&epoch);
        let Some(away) = away.filter(|away| away.files == files) else {
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

    /// The asset of this number.
    pub fn asset_numbered(&self, number: u32) -> Option<&AssetId> {
        let known = number < self.bounds().assets;
        known.then(|| self.assets.id(number))
    }

    /// The label of this number.
    pub fn label_numbered(&self, number: u32) -> Option<&Label> {
        self.labels.all().get(number as usize)
    }

    /// The terms of the contract of this number.
    pub fn terms_numbered(&self, number: u32) -> Option<&Terms> {
        let known = number < self.bounds().contracts;
        known.then(|| &self.contracts.get(number).contract.terms)
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
        away.filter(move |(_, away)| away.present.contains(asset) && !planted!("archived-epochs-not-listed"))
            .map(|(epoch, _)| *epoch)
    }

    /// Whether the root has a journal in a frozen epoch: all that is open in it.
    pub(crate) fn frozen_root_open(&self, epoch: Epoch) -> bool {
        let away = self.frozen.away.get(&epoch);
        away.is_some_and(|away| away.present.contains(ROOT_HANDLE))
    }
}
