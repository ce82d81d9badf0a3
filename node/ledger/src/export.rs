//! Exports: what recreates the balancing actors' memories, as events.
//!
//! What always holds: a fresh set of actors that takes an export's events remembers what it would had it seen all events so far.
//! An export is the state of one moment, shared with the ledger and not copied, so that its events may be made a few at a time
//! while the ledger goes on: all at once, those of ten million open statements would take gigabytes.

use crate::asset::{self, AssetId, Handle, ROOT_HANDLE};
use crate::chunks::Chunks;
use crate::contract;
use crate::event::{Event, JournalImage};
use crate::journal::Book;
use crate::ledger::Ledger;
use crate::roster::RosterId;
use crate::statement::Label;
use crate::units::Epoch;
use crate::words::Words;
use std::sync::Arc;

/// The state of one moment.
#[derive(Debug)]
pub struct Export {
    assets: Chunks<asset::Record>,
    contracts: Chunks<contract::Record>,
    labels: Vec<Label>,
    rosters: Vec<(RosterId, Arc<[AssetId]>)>,
    books: Vec<(Epoch, Arc<Book>)>,
    /// It tells of this epoch, and nothing that belongs to none.
    only: Option<Epoch>,
}

impl Ledger {
    /// What recreates the memory of everything.
    pub fn export(&self) -> Export {
        let rosters = self.rosters.iter();
        let books = self.epochs.iter();
        Export {
            rosters: rosters
                .map(|(id, roster)| (*id, Arc::clone(&roster.meters)))
                .collect(),
            books: books.map(|(epoch, book)| (*epoch, Arc::clone(book))).collect(),
            ..self.export_words(None)
        }
    }

    /// What recreates the memory of one epoch, such as one that was thawed: what contracts booked in it, its journals, and
    /// approvals.
    pub fn export_epoch(&self, epoch: Epoch) -> Export {
        let book = self.epochs.get(&epoch);
        Export {
            books: book.map(|book| (epoch, Arc::clone(book))).into_iter().collect(),
            ..self.export_words(Some(epoch))
        }
    }

    fn export_words(&self, only: Option<Epoch>) -> Export {
        Export {
            assets: self.assets.records().clone(),
            contracts: self.contracts.records().clone(),
            labels: self.labels.all().to_vec(),
            rosters: Vec::new(),
            books: Vec::new(),
            only,
        }
    }
}

impl Export {
    /// The events: assets, rosters, rules and audit rules, then contracts with what they booked, then, epoch by epoch, the
    /// sealed parts of journals and approvals by asset, and what is open in booking order. Sealed statements are not repeated: a
    /// journal's image carries their balance and frontier. The root's journals are left out: it is never sealed and nobody's partner.
    pub fn events(&self) -> impl Iterator<Item = Event> + '_ {
        let named = || self.named();
        let added = named().map(|record| Event::AssetAdded {
            asset: record.asset.id.clone(),
        });
        let rosters = self.rosters.iter().map(|(roster, meters)| Event::RosterAdded {
            roster: *roster,
            meters: Arc::clone(meters),
        });
        let ruled = named().filter(|record| record.asset.rule != Default::default());
        let rules = ruled.map(|record| Event::RuleSet {
            asset: record.asset.id.clone(),
            rule: record.asset.rule.clone(),
        });
        let audited = named().filter(|record| record.asset.audit != Default::default());
        let audits = audited.map(|record| Event::AuditRuleSet {
            asset: record.asset.id.clone(),
            rule: record.asset.audit.clone(),
        });
        let contracts = self.contracts.iter().flat_map(|record| self.contract(record));
        let books = self.books.iter();
        let books = books.flat_map(|(epoch, book)| self.book(*epoch, book));
        added
            .chain(rosters)
            .chain(rules)
            .chain(audits)
            .chain(contracts)
            .chain(books)
    }

    /// The assets but the root.
    fn named(&self) -> impl Iterator<Item = &asset::Record> {
        let count = match self.only {
            None => self.assets.len(),
            Some(_) => 1,
        };
        self.assets.iter().take(count).skip(1)
    }

    fn contract(&self, record: &contract::Record) -> impl Iterator<Item = Event> + use<> {
        let set = self.only.is_none().then(|| Event::ContractSet {
            contract: record.contract.clone(),
        });
        let booked = record.booked.iter();
        let booked: Vec<(Epoch, i128)> = booked
            .filter(|(epoch, _)| self.only.is_none_or(|only| only == **epoch))
            .map(|(epoch, energy)| (*epoch, *energy))
            .collect();
        let restored = (!booked.is_empty()).then(|| Event::ContractRestored {
            contract: record.contract.terms.id.clone(),
            booked,
        });
        set.into_iter().chain(restored)
    }

    fn book<'a>(&'a self, epoch: Epoch, book: &'a Book) -> impl Iterator<Item = Event> + 'a {
        let words = Words {
            assets: &self.assets,
            contracts: &self.contracts,
            labels: &self.labels,
        };
        let own = book.journals.iter().filter(|(asset, _)| *asset != ROOT_HANDLE);
        let images = own.filter_map(move |(asset, journal)| {
            let newest = journal.seals().last()?;
            Some(Event::JournalRestored(Box::new(JournalImage {
                asset: words.asset(asset).clone(),
                epoch,
                newest: (Arc::clone(&newest.seal), newest.digest),
                sealed: journal.sealed(),
                frontier: journal.frontier(),
            })))
        });
        let approvals = book.approvals.iter().flat_map(move |(asset, auditors)| {
            auditors.iter().map(move |auditor| Event::Approved {
                asset: words.asset(*asset).clone(),
                epoch,
                auditor: *auditor,
            })
        });
        // Where nothing is open, no statement needs to be looked at.
        let count = if book.open.is_empty() {
            0
        } else {
            book.statements.len()
        };
        let statements = (0..).zip(book.statements.iter().take(count));
        let open = statements.filter_map(move |(number, stored)| {
            let open = [stored.from, stored.to].map(|asset| is_open(book, asset, number));
            open.contains(&true).then(|| Event::OpenRestored {
                statement: words.statement(epoch, &stored),
                open,
            })
        });
        images.chain(approvals).chain(open)
    }
}

/// Whether a statement of an asset's journal is past its watermark.
fn is_open(book: &Book, asset: Handle, number: u32) -> bool {
    // Numbers are in booking order, as the entries of a journal are.
    let first = || book.journals.get(asset)?.open_entries().first();
    asset != ROOT_HANDLE && book.open.contains(asset) && first().is_some_and(|first| *first <= number)
}
