//! Journals: the statements of `(asset, epoch)` in booking order.
//!
//! A statement is stored once, in the book of its epoch ([`crate::stored`]); the journals of its two sides hold its number there. What always holds:
//! statements are only appended, each stands in exactly the two journals of its sides, and a journal's sealed
//! prefix (its watermark) only grows.

use crate::asset::{AssetId, Handle, ROOT_HANDLE};
use crate::balance::Balance;
use crate::contract::ContractId;
use crate::digest::Digest;
use crate::key::PublicKey;
use crate::ledger::Ledger;
use crate::lists::{List, Lists};
use crate::merkle::Frontier;
use crate::numbers::Numbers;
use crate::paged::Paged;
use crate::seal::Seal;
use crate::statement::{Kind, Statement};
use crate::stored::{Statements, Stored, Tag};
use crate::units::Epoch;
use crate::words::Words;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A seal with where it is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealRecord {
    /// The content.
    pub seal: Arc<Seal>,
    /// Its digest.
    pub digest: Digest,
    /// The index of the entry that made it, and of the block it stands in.
    pub index: u64,
    /// Its place in that block, from 0.
    pub leaf: u32,
    /// How many statements the sealing itself booked, the last of its watermark.
    pub booked: u32,
}

crate::canonical::canonical_struct!(SealRecord {
    seal,
    digest,
    index,
    leaf,
    booked
});

/// The journal of one asset in one epoch, once it has more than one statement or is sealed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    /// The numbers of its statements in the epoch's book.
    entries: Numbers<Tally>,
    /// What the newest seal covers, once there is one.
    prefix: Option<Box<Prefix>>,
}

/// A journal as it is looked at: most are one statement's number.
pub(crate) type JournalRef<'a> = List<'a, Journal>;

/// What is kept up to date of a long journal, so that sealing it costs what came last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// The balance of the open part.
    open: Balance,
    /// The Merkle frontier over as many statements as were hashed already.
    ahead: Frontier,
}

/// Journals of so many statements are hashed as they grow, shorter ones when they are sealed: a frontier takes as much
/// memory as a few statements.
const HASHED_FROM: usize = 16;
/// With each statement that comes, so many are hashed, until all are.
const HASHED_AT_ONCE: usize = 3;

/// The sealed part of a journal.
#[derive(Clone, Debug)]
pub(crate) struct Prefix {
    /// How many statements it covers; at least 1.
    pub(crate) watermark: usize,
    /// Their balance.
    pub(crate) balance: Balance,
    /// The Merkle frontier over them.
    pub(crate) frontier: Frontier,
    /// All versions, from 0; at least one.
    pub(crate) seals: Vec<SealRecord>,
}

impl<'a> JournalRef<'a> {
    fn full(self) -> Option<&'a Journal> {
        match self {
            List::One(_) => None,
            List::Full(journal) => Some(journal),
        }
    }

    /// The numbers of all its statements, in booking order.
    pub(crate) fn entries(self) -> &'a [u32] {
        match self {
            List::One(number) => std::slice::from_ref(number),
            List::Full(journal) => journal.entries.as_slice(),
        }
    }

    fn tally(self) -> Option<&'a Tally> {
        self.full()?.entries.tally()
    }

    /// The sealed part, if there is one.
    pub(crate) fn prefix(self) -> Option<&'a Prefix> {
        self.full()?.prefix.as_deref()
    }

    /// How many statements are sealed.
    pub(crate) fn watermark(self) -> usize {
        self.prefix().map_or(0, |prefix| prefix.watermark)
    }

    /// All versions, from 0.
    pub(crate) fn seals(self) -> &'a [SealRecord] {
        self.prefix().map_or(&[], |prefix| &prefix.seals)
    }

    pub(crate) fn is_sealed(self) -> bool {
        self.prefix().is_some()
    }

    /// The balance of the sealed part.
    pub(crate) fn sealed(self) -> Balance {
        self.prefix().map(|prefix| prefix.balance).unwrap_or_default()
    }

    /// The Merkle frontier over the sealed part.
    pub(crate) fn frontier(self) -> Frontier {
        self.prefix()
            .map(|prefix| prefix.frontier.clone())
            .unwrap_or_default()
    }

    /// The Merkle frontier over the whole journal.
    pub(crate) fn whole_frontier(self, digest: impl FnMut(u32) -> Digest) -> Frontier {
        let ahead = self.tally().map(|tally| &tally.ahead);
        let mut frontier = match ahead.filter(|ahead| ahead.len() > self.watermark() as u64) {
            Some(ahead) => ahead.clone(),
            None => self.frontier(),
        };
        extend(&mut frontier, self.entries(), digest);
        frontier
    }

    /// The numbers of the statements past the watermark.
    pub(crate) fn open_entries(self) -> &'a [u32] {
        self.entries().get(self.watermark()..).unwrap_or_default()
    }
}

impl Journal {
    /// The journal of one statement, or of none yet.
    pub(crate) fn of(number: Option<u32>) -> Journal {
        let mut journal = Journal::default();
        if let Some(number) = number {
            // One number is no long list.
            journal.entries.push(number, |_| {}, |_| Tally::default());
        }
        journal
    }

    /// Appends a statement of `asset`'s.
    fn push(&mut self, number: u32, asset: Handle, statements: &Statements) {
        let prefix = self.prefix.as_deref();
        let watermark = prefix.map_or(0, |prefix| prefix.watermark);
        self.entries.push(
            number,
            |tally| statements.add_to(&mut tally.open, number, asset),
            |numbers| Tally {
                open: statements.sum(numbers.get(watermark..).unwrap_or_default(), asset),
                ahead: prefix.map(|prefix| prefix.frontier.clone()).unwrap_or_default(),
            },
        );
    }

    /// Hashes of what isn't hashed yet a little, if the journal is long: never much at once, though a journal was short so
    /// far or came from a snapshot.
    fn hash_ahead(&mut self, digest: impl FnMut(u32) -> Digest) {
        if let Some((numbers, tally)) = self.entries.tally_mut()
            && numbers.len() >= HASHED_FROM
        {
            let done = usize::try_from(tally.ahead.len()).unwrap_or(usize::MAX);
            let bite = numbers.len().min(done.saturating_add(HASHED_AT_ONCE));
            extend(&mut tally.ahead, &numbers[..bite], digest);
        }
    }

    /// Seals all of it.
    pub(crate) fn seal(&mut self, record: SealRecord, balance: Balance, frontier: Frontier) {
        let mut seals = self.prefix.take().map(|prefix| prefix.seals).unwrap_or_default();
        let record_booked = record.booked;
        // Most have one version for ever.
        seals.reserve_exact(1);
        seals.push(record);
        self.prefix = Some(Box::new(Prefix {
            watermark: match self.entries.as_slice().len() {
                all if planted!("counter-outside-watermark") && record_booked > 1 => all - 1,
                all => all,
            },
            balance,
            frontier,
            seals,
        }));
        let prefix = &self.prefix;
        self.entries.set_tally(|_| Tally {
            open: Balance::default(),
            ahead: prefix
                .as_ref()
                .map(|prefix| prefix.frontier.clone())
                .unwrap_or_default(),
        });
    }
}

/// Takes into a frontier over the first of these statements the rest of them.
fn extend(frontier: &mut Frontier, numbers: &[u32], mut digest: impl FnMut(u32) -> Digest) {
    let done = usize::try_from(frontier.len()).unwrap_or(usize::MAX);
    for number in numbers.get(done..).unwrap_or_default() {
        frontier.push(digest(*number));
    }
}

/// Everything booked in one epoch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    pub(crate) statements: Statements,
    pub(crate) journals: Lists<Journal>,
    /// Whose journals have an unsealed part.
    pub(crate) open: Paged<()>,
    /// Approvals for the next seals.
    pub(crate) approvals: BTreeMap<Handle, BTreeSet<PublicKey>>,
    /// How many seals it has, all versions.
    pub(crate) sealed: usize,
    /// The index of the newest block with one of them.
    pub(crate) newest_block: u64,
}

impl Book {
    /// Appends a statement to the book and to both journals.
    pub(crate) fn push(&mut self, epoch: Epoch, stored: Stored, words: Words<'_>) {
        self.put(stored);
        // Made for the first side that needs it.
        let mut made = None;
        let statements = &self.statements;
        let mut digest = |number: u32| {
            let one = statements.get(number);
            match one.id == stored.id {
                true => *made.get_or_insert_with(|| words.digest(epoch, &one)),
                false => words.digest(epoch, &one),
            }
        };
        // The root's journals are long, and never sealed.
        for side in [stored.from, stored.to]
            .into_iter()
            .filter(|side| *side != ROOT_HANDLE)
        {
            if let Some(journal) = self.journals.full_mut(side) {
                journal.hash_ahead(&mut digest);
            }
        }
    }

    /// The same, without hashing anything: what comes from a snapshot or a file is mostly sealed.
    pub(crate) fn put(&mut self, stored: Stored) {
        let number = self.statements.push(&stored);
        for asset in [stored.from, stored.to] {
            self.enter(number, asset);
        }
    }

    /// Adds a statement to one side's journal.
    fn enter(&mut self, number: u32, asset: Handle) {
        let known = self.journals.get(asset);
        if known.is_none_or(|journal| journal.open_entries().is_empty()) {
            self.open.entry(asset);
        }
        let Some(journal) = self.journals.first(asset, number, Journal::of) else {
            return;
        };
        #[cfg(feature = "planted")]
        if matches!(self.statements.get(number).tag, Tag::Metered { .. })
            && planted!("late-into-sealed-prefix")
            && let Some(prefix) = &journal.prefix
        {
            let (at, ahead) = (prefix.watermark - 1, prefix.frontier.clone());
            let statements = &self.statements;
            journal.entries.insert(at, number, |numbers| Tally {
                open: statements.sum(&numbers[at + 1..], asset),
                ahead,
            });
            return;
        }
        journal.push(number, asset, &self.statements);
    }

    /// The balance past the watermark of a journal of this book.
    pub(crate) fn open_balance(&self, asset: Handle, journal: JournalRef<'_>) -> Balance {
        match journal.tally() {
            Some(tally) => tally.open,
            None => self.statements.sum(journal.open_entries(), asset),
        }
    }

    /// Gives a journal of a snapshot its sealed part; `false` if it has no such one.
    pub(crate) fn restore_prefix(
        &mut self,
        asset: Handle,
        watermark: usize,
        frontier: Frontier,
        seals: Vec<SealRecord>,
    ) -> bool {
        let Some(sealed) = self
            .journals
            .get(asset)
            .and_then(|journal| journal.entries().get(..watermark))
        else {
            return false;
        };
        let balance = self.statements.sum(sealed, asset);
        self.sealed += seals.len();
        let newest = seals.last().map_or(0, |record| record.index);
        self.newest_block = self.newest_block.max(newest);
        let statements = &self.statements;
        let journal = self.journals.filled(asset, Journal::of);
        journal.entries.set_tally(|numbers| Tally {
            open: statements.sum(&numbers[watermark..], asset),
            ahead: frontier.clone(),
        });
        journal.prefix = Some(Box::new(Prefix {
            watermark,
            balance,
            frontier,
            seals,
        }));
        if journal.entries.as_slice().len() == watermark {
            self.open.remove(asset);
        }
        true
    }

    /// Whether a statement is late for a side that is sealed, and sealed for none.
    pub(crate) fn is_late(&self, stored: &Stored) -> bool {
        let sides = [stored.from, stored.to].map(|side| {
            let journal = self.journals.get(side)?;
            let sealed = journal.entries().get(..journal.watermark())?;
            let covered = sealed
                .iter()
                .any(|number| self.statements.get(*number).id == stored.id);
            Some((journal.is_sealed(), covered))
        });
        let sides = || sides.iter().flatten();
        sides().any(|(sealed, _)| *sealed) && !sides().any(|(_, covered)| *covered)
    }

    /// The same part's statements, in booking order.
    pub(crate) fn open_statements<'a>(&'a self, journal: JournalRef<'a>) -> impl Iterator<Item = Stored> {
        let open = journal.open_entries().iter();
        open.map(|number| self.statements.get(*number))
    }
}

impl Ledger {
    /// What the numbers in stored statements mean.
    pub(crate) fn words(&self) -> Words<'_> {
        Words {
            assets: self.assets.records(),
            contracts: self.contracts.records(),
            labels: self.labels.all(),
        }
    }

    /// The Merkle frontier over a whole journal.
    pub(crate) fn whole_frontier(&self, epoch: Epoch, book: &Book, journal: JournalRef<'_>) -> Frontier {
        let words = self.words();
        journal.whole_frontier(|number| words.digest(epoch, &book.statements.get(number)))
    }

    /// Books a statement: into its epoch's book and both journals. It is late for a side that is sealed.
    pub(crate) fn append(&mut self, epoch: Epoch, stored: Stored) {
        self.frozen.assert_live(epoch);
        let words = Words {
            assets: self.assets.records(),
            contracts: self.contracts.records(),
            labels: self.labels.all(),
        };
        Arc::make_mut(self.epochs.entry(epoch).or_default()).push(epoch, stored, words);
        self.assets.booked(stored.from, stored.id.index);
        self.assets.booked(stored.to, stored.id.index);
    }

    /// A stored statement with its names.
    pub(crate) fn statement_of(&self, epoch: Epoch, stored: &Stored) -> Statement {
        self.words().statement(epoch, stored)
    }

    /// A statement of [`crate::seal::close`], which has `asset` on one side, as it is stored; all its names are known.
    pub(crate) fn stored(&self, asset: Handle, statement: &Statement) -> Option<Stored> {
        let contract = |id: &ContractId| self.own_contract(asset, id);
        // Mostly it is the asset or one of its upstreams, whose names are compared sooner than looked up.
        let [from, to] = self.assets.links(asset).upstreams();
        let number = |id: &AssetId| {
            let near = [asset, from, to];
            let found = near.into_iter().find(|handle| self.assets.id(*handle) == id);
            found.or_else(|| self.assets.handle(id.as_str()))
        };
        Some(Stored {
            id: statement.id,
            energy: statement.energy.get(),
            co2: statement.co2eq.get(),
            from: number(&statement.from)?,
            to: number(&statement.to)?,
            tag: match &statement.kind {
                Kind::Metered { meter, label } => Tag::Metered {
                    meter: *meter,
                    label: self.labels.known(label)?,
                },
                Kind::Residual => Tag::Residual,
                Kind::Contract { contract: id, .. } => Tag::Contract {
                    contract: contract(id)?,
                },
                Kind::Counter { contract: id } => Tag::Counter {
                    contract: contract(id)?,
                },
            },
        })
    }

    /// The number of a contract of `owner`'s.
    pub(crate) fn own_contract(&self, owner: Handle, id: &ContractId) -> Option<u32> {
        // Most have few, whose names are compared sooner than looked up.
        let few = self.assets.get(owner).contracts.iter().copied().take(8);
        let found = few
            .into_iter()
            .find(|number| self.contracts.get(*number).contract.terms.id == *id);
        found.or_else(|| self.contracts.number(id.as_str()))
    }

    /// The journal of `(asset, epoch)`, if anything was ever booked in it.
    pub(crate) fn journal_of(&self, asset: Handle, epoch: Epoch) -> Option<(&Book, JournalRef<'_>)> {
        let book = self.book(epoch)?;
        Some((book, book.journals.get(asset)?))
    }
}
