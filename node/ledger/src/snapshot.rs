//! Snapshots: the whole state at one log index, as bytes.
//!
//! What always holds: a ledger restored from a snapshot answers, seals and digests exactly as the one that made it, retries included;
//! so replaying a log from a snapshot's index gives what replaying all of it gives.
//!
//! # Layout
//!
//! A version byte, [`crate::canonical`] fields, and SHA-256 (domain `snapshot`) of all that. Statements are written as they are stored: index
//! (8 bytes), position, from, to (4 each, assets by number), energy, co2 (8 each), a byte for the kind (0 metered, meter delivers; 1 metered,
//! meter draws; 2 residual; 3 contract; 4 counter) and 4 bytes for the label's or contract's number. Everything that
//! follows from other fields (journals' entries and balances, indexes) is derived again and not written, except Merkle
//! frontiers, which would cost hashing every sealed statement.
//!
//! Absent on purpose: compression and encryption, which are the storage's business, and any older version.

use crate::asset::{Asset, Assets, Handle, ROOT_HANDLE};
use crate::block::{Block, Chain};
use crate::canonical::{Canonical, DecodeError, Decoder, Encoder};
use crate::contract::{Contract, Contracts, Record};
use crate::digest::{Digest, digest};
use crate::envelope::EnvelopeRef;
use crate::event::{Event, JournalImage};
use crate::genesis::Genesis;
use crate::journal::{Book, Journal, SealRecord, Stored, Tag};
use crate::ledger::Ledger;
use crate::merkle::Frontier;
use crate::nonce::Remembered;
use crate::roster::{Roster, roster_id};
use crate::statement::{Label, MeterSide, StatementId};
use crate::units::{Epoch, MAX_FIGURE};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The version of the layout.
pub const VERSION: u8 = 1;

/// Why bytes are no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Of another version.
    #[error("the snapshot has version {found}; this program reads version {VERSION}")]
    Version {
        /// Which.
        found: u8,
    },
    /// Damaged.
    #[error("the snapshot is damaged: its checksum does not fit")]
    Checksum,
    /// The checksum fits, but the fields don't decode.
    #[error("the snapshot can't be decoded: {0}")]
    Decode(#[from] DecodeError),
    /// The fields contradict each other.
    #[error("the snapshot contradicts itself: {what}")]
    Inconsistent {
        /// Where.
        what: &'static str,
    },
}

impl Ledger {
    /// The whole state as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.byte(VERSION);
        self.genesis.encode(&mut out);
        self.applied.encode(&mut out);
        self.now.encode(&mut out);
        self.state.encode(&mut out);
        out.count(self.assets.numbered().count());
        for (record, handle) in self.assets.numbered().zip(0..) {
            record.asset.encode(&mut out);
            self.assets.links(handle).booked().encode(&mut out);
        }
        out.count(self.contracts.numbered().count());
        for record in self.contracts.numbered() {
            record.contract.encode(&mut out);
            record.booked.encode(&mut out);
        }
        out.count(self.labels.all().len());
        self.labels.all().iter().for_each(|label| label.encode(&mut out));
        out.count(self.rosters.len());
        self.rosters
            .values()
            .for_each(|roster| roster.meters.encode(&mut out));
        out.count(self.epochs.len());
        for (epoch, book) in &self.epochs {
            epoch.encode(&mut out);
            encode_book(book, &mut out);
        }
        if planted!("snapshot-without-nonces") {
            out.count(0);
        } else {
            self.nonces.entries().encode(&mut out);
        }
        self.membership.encode(&mut out);
        self.chain.blocks.encode(&mut out);
        self.chain.certified.encode(&mut out);
        let checksum = digest("snapshot", out.as_bytes());
        out.raw(&checksum.0);
        out.into_bytes()
    }

    /// The ledger that a snapshot was made of.
    ///
    /// # Errors
    /// [`SnapshotError`] for anything but the bytes of [`Ledger::snapshot`] of this version; never panics.
    pub fn restore(bytes: &[u8]) -> Result<Ledger, SnapshotError> {
        match bytes.first() {
            Some(&VERSION) => {}
            Some(&found) => return Err(SnapshotError::Version { found }),
            None => return Err(SnapshotError::Checksum),
        }
        let (content, checksum) = bytes.split_last_chunk::<32>().ok_or(SnapshotError::Checksum)?;
        if digest("snapshot", content) != Digest(*checksum) {
            return Err(SnapshotError::Checksum);
        }
        let mut from = Decoder::new(content);
        from.byte()?;
        let ledger = decode(&mut from)?;
        from.finish()?;
        Ok(ledger)
    }

    /// Events that recreate, in a fresh set of balancing actors, the memory that they would have had they seen all
    /// events so far: assets, rosters, rules and audit rules, then contracts with what they booked, then every journal, by epoch and
    /// asset, and approvals where there is no journal yet. Sealed statements are not repeated: a journal's image carries their balance and frontier. The root's journals are left out: it is never sealed and nobody's partner.
    pub fn export_events(&self) -> impl Iterator<Item = Event> + '_ {
        let named = || self.assets.numbered().skip(1);
        let added = named().map(|record| Event::AssetAdded {
            asset: record.asset.id.clone(),
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
        let contracts = self.contracts.numbered().flat_map(|record| {
            let booked = record
                .booked
                .iter()
                .map(|(epoch, energy)| (*epoch, *energy))
                .collect();
            let contract = record.contract.terms.id.clone();
            [
                Event::ContractSet {
                    contract: record.contract.clone(),
                },
                Event::ContractRestored { contract, booked },
            ]
        });
        let journals = self.epochs.iter().flat_map(move |(epoch, book)| {
            let journals = book.journals.iter().filter(|(asset, _)| *asset != ROOT_HANDLE);
            journals.map(move |(asset, journal)| self.image(*epoch, book, asset, journal))
        });
        let early = self.epochs.iter().flat_map(move |(epoch, book)| {
            let waiting = book
                .approvals
                .iter()
                .filter(|(asset, _)| !book.journals.contains(**asset));
            waiting.flat_map(move |(asset, auditors)| {
                auditors.iter().map(move |auditor| Event::Approved {
                    asset: self.assets.id(*asset).clone(),
                    epoch: *epoch,
                    auditor: *auditor,
                })
            })
        });
        let rosters = self.rosters.iter().map(|(id, roster)| Event::RosterAdded {
            roster: *id,
            meters: Arc::clone(&roster.meters),
        });
        added
            .chain(rosters)
            .chain(rules)
            .chain(audits)
            .chain(contracts)
            .chain(journals)
            .chain(early)
    }

    fn image(&self, epoch: Epoch, book: &Book, asset: Handle, journal: &Journal) -> Event {
        let approvals = book.approvals.get(&asset);
        Event::JournalRestored(Box::new(JournalImage {
            asset: self.assets.id(asset).clone(),
            epoch,
            newest: journal
                .seals()
                .last()
                .map(|newest| (Arc::clone(&newest.seal), newest.digest)),
            sealed: journal.sealed(),
            frontier: journal.frontier(),
            open: self.open_part(epoch, book, journal).collect(),
            approvals: approvals.into_iter().flatten().copied().collect(),
        }))
    }
}

fn inconsistent(what: &'static str) -> SnapshotError {
    SnapshotError::Inconsistent { what }
}

fn decode(from: &mut Decoder<'_>) -> Result<Ledger, SnapshotError> {
    let mut ledger = Ledger::new();
    ledger.genesis = Option::<Genesis>::decode(from)?;
    ledger.cluster = ledger.genesis.as_ref().map_or(Digest::ZERO, Genesis::cluster);
    ledger.applied = Canonical::decode(from)?;
    ledger.now = Canonical::decode(from)?;
    ledger.state = Canonical::decode(from)?;
    decode_assets(&mut ledger.assets, from)?;
    decode_contracts(&mut ledger, from)?;
    for label in Vec::<Label>::decode(from)? {
        ledger.labels.number(&label);
    }
    for _ in 0..from.count()? {
        let meters = Arc::<[crate::AssetId]>::decode(from)?;
        ledger.rosters.insert(roster_id(&meters), Roster::new(meters));
    }
    let mut last = None;
    for _ in 0..from.count()? {
        let epoch = Epoch::decode(from)?;
        if last.replace(epoch).is_some_and(|last| last >= epoch) {
            return Err(inconsistent("order of epochs"));
        }
        let book = decode_book(&ledger, epoch, from)?;
        ledger.epochs.insert(epoch, book);
    }
    for (id, remembered) in BTreeMap::<EnvelopeRef, Remembered>::decode(from)? {
        ledger.nonces.remember(id, remembered);
    }
    ledger.membership = Canonical::decode(from)?;
    let blocks: BTreeMap<u64, Block> = Canonical::decode(from)?;
    ledger.chain = Chain::restore(blocks, Canonical::decode(from)?).ok_or(inconsistent("blocks"))?;
    Ok(ledger)
}

fn decode_assets(assets: &mut Assets, from: &mut Decoder<'_>) -> Result<(), SnapshotError> {
    let mut list = Vec::new();
    for place in 0..from.count()? {
        let asset = Asset::decode(from)?;
        let booked = Option::<u64>::decode(from)?;
        if (asset.id == *crate::ROOT) != (place == 0) || !assets.restore(asset.clone()) {
            return Err(inconsistent("assets"));
        }
        if let (Some(index), Some(handle)) = (booked, assets.handle(asset.id.as_str())) {
            assets.booked(handle, index);
        }
        list.push(asset);
    }
    for asset in list {
        let number = |id: &crate::AssetId| assets.handle(id.as_str()).ok_or(inconsistent("rules"));
        let handle = number(&asset.id)?;
        let from = asset.rule.from.as_ref().map(number).transpose()?;
        let to = asset.rule.to.as_ref().map(number).transpose()?;
        assets.link(handle, from, to);
    }
    Ok(())
}

fn decode_contracts(ledger: &mut Ledger, from: &mut Decoder<'_>) -> Result<(), SnapshotError> {
    let mut contracts = Contracts::default();
    for _ in 0..from.count()? {
        let contract = Contract::decode(from)?;
        let booked = BTreeMap::decode(from)?;
        let owner = ledger
            .assets
            .handle(contract.terms.asset.as_str())
            .ok_or(inconsistent("contracts"))?;
        let partner = ledger.assets.handle(contract.terms.partner.as_str());
        if partner.is_none() || contracts.number(contract.terms.id.as_str()).is_some() {
            return Err(inconsistent("contracts"));
        }
        let number = contracts.push(Record { contract, booked });
        ledger.assets.get_mut(owner).contracts.push(number);
    }
    ledger.contracts = contracts;
    Ok(())
}

fn encode_book(book: &Book, out: &mut Encoder) {
    let late = |stored: &Stored| planted!("snapshot-without-late") && book.is_late(stored);
    out.count(book.statements.iter().filter(|stored| !late(stored)).count());
    for stored in book.statements.iter().filter(|stored| !late(stored)) {
        encode_stored(stored, out);
    }
    let sealed = || {
        book.journals
            .iter()
            .filter_map(|(handle, journal)| Some((handle, journal.prefix.as_ref()?)))
    };
    out.count(sealed().count());
    for (handle, prefix) in sealed() {
        handle.encode(out);
        prefix.frontier.encode(out);
        prefix.seals.encode(out);
    }
    book.approvals.encode(out);
}

fn decode_book(ledger: &Ledger, epoch: Epoch, from: &mut Decoder<'_>) -> Result<Book, SnapshotError> {
    let mut book = Book::default();
    let assets = ledger.assets.numbered().count();
    for _ in 0..from.count()? {
        let stored = decode_stored(ledger, from)?;
        let known =
            (stored.from as usize) < assets && (stored.to as usize) < assets && stored.from != stored.to;
        if !known || book.statements.last().is_some_and(|last| last.id >= stored.id) {
            return Err(inconsistent("statements"));
        }
        book.push(stored);
    }
    for _ in 0..from.count()? {
        let handle = Handle::decode(from)?;
        let frontier = Frontier::decode(from)?;
        let seals = Vec::<SealRecord>::decode(from)?;
        let journal = book
            .journals
            .get_mut(handle)
            .ok_or(inconsistent("seals without a journal"))?;
        let watermark = usize::try_from(frontier.len()).map_err(|_| inconsistent("watermark"))?;
        let dense = seals.iter().zip(0..).all(|(record, version)| {
            let seal = &record.seal;
            seal.version == version
                && seal.epoch == epoch
                && ledger.assets.handle(seal.asset.as_str()) == Some(handle)
        });
        let newest = seals
            .last()
            .is_some_and(|newest| newest.seal.watermark == frontier.len());
        if !dense || !newest || watermark > journal.entries().len() || journal.is_sealed() {
            return Err(inconsistent("seals"));
        }
        if !book.restore_prefix(handle, watermark, frontier, seals) {
            return Err(inconsistent("seals"));
        }
    }
    book.approvals = BTreeMap::<Handle, BTreeSet<_>>::decode(from)?;
    if book.approvals.keys().any(|handle| *handle as usize >= assets) {
        return Err(inconsistent("approvals"));
    }
    Ok(book)
}

fn encode_stored(stored: &Stored, out: &mut Encoder) {
    out.uint(stored.id.index);
    for number in [stored.id.position, stored.from, stored.to] {
        out.raw(&number.to_be_bytes());
    }
    out.int(stored.energy);
    out.int(stored.co2);
    let (kind, number) = match stored.tag {
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
    out.byte(kind);
    out.raw(&number.to_be_bytes());
}

fn decode_stored(ledger: &Ledger, from: &mut Decoder<'_>) -> Result<Stored, SnapshotError> {
    let number = |from: &mut Decoder<'_>| from.array().map(u32::from_be_bytes);
    let id = StatementId {
        index: from.uint()?,
        position: number(from)?,
    };
    let (source, target) = (number(from)?, number(from)?);
    let (energy, co2) = (from.int()?, from.int()?);
    let (kind, subject) = (from.byte()?, number(from)?);
    let tag = match kind {
        0 => Tag::Metered {
            meter: MeterSide::From,
            label: subject,
        },
        1 => Tag::Metered {
            meter: MeterSide::To,
            label: subject,
        },
        2 => Tag::Residual,
        3 => Tag::Contract { contract: subject },
        4 => Tag::Counter { contract: subject },
        _ => return Err(inconsistent("kind of a statement")),
    };
    let subjects = match tag {
        Tag::Metered { .. } => ledger.labels.all().len(),
        Tag::Residual => 1,
        Tag::Contract { .. } | Tag::Counter { .. } => ledger.contracts.numbered().count(),
    };
    let figures = (0..=MAX_FIGURE).contains(&energy) && (-MAX_FIGURE..=MAX_FIGURE).contains(&co2);
    if subject as usize >= subjects || !figures {
        return Err(inconsistent("statements"));
    }
    Ok(Stored {
        id,
        energy,
        co2,
        from: source,
        to: target,
        tag,
    })
}
