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
//! Frozen epochs ([`crate::frozen`]) are not written but referred to: which files they lie in.
//!
//! Absent on purpose: compression and encryption, which are the storage's business, and any older version.

use crate::asset::{self, Asset, AssetId, Assets, Handle, Links};
use crate::block::{Block, Chain};
use crate::canonical::{Canonical, DecodeError, Decoder, Encoder};
use crate::chunks::Chunks;
use crate::contract::{Contract, Contracts, Record};
use crate::digest::{Digest, digest, finish, hasher};
use crate::envelope::EnvelopeRef;
use crate::frozen::{Frozen, Row};
use crate::genesis::Genesis;
use crate::journal::{Book, SealRecord};
use crate::ledger::Ledger;
use crate::merkle::Frontier;
use crate::nonce::Remembered;
use crate::roster::{Roster, roster_id};
use crate::statement::Label;
use crate::stored::Stored;
use crate::units::Epoch;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The version of the layout.
pub const VERSION: u8 = 2;

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

/// A state on its way into a snapshot.
#[derive(Debug)]
pub struct Captured {
    /// What comes before the assets.
    out: Encoder,
    assets: (Chunks<asset::Record>, Vec<Links>),
    contracts: Chunks<Record>,
    /// The labels.
    labels: Vec<u8>,
    rosters: Vec<Arc<[AssetId]>>,
    books: BTreeMap<Epoch, Arc<Book>>,
    /// What comes behind the books.
    behind: Vec<u8>,
}

impl Captured {
    /// Gives the bytes of the snapshot, piece by piece.
    pub fn encode(self, give: &mut dyn FnMut(Vec<u8>)) {
        let mut out = Pieces::new(give);
        out.append(self.out.into_bytes());
        let (assets, links) = self.assets;
        out.next().count(assets.len());
        for (record, links) in assets.iter().zip(links) {
            let out = out.next();
            record.asset.encode(out);
            links.booked().encode(out);
        }
        out.next().count(self.contracts.len());
        for record in self.contracts.iter() {
            let out = out.next();
            record.contract.encode(out);
            record.booked.encode(out);
        }
        out.append(self.labels);
        out.next().count(self.rosters.len());
        for meters in &self.rosters {
            out.next().count(meters.len());
            meters.iter().for_each(|meter| meter.encode(out.next()));
        }
        out.next().count(self.books.len());
        for (epoch, book) in &self.books {
            epoch.encode(out.next());
            encode_book(book, &mut out);
        }
        out.append(self.behind);
        out.finish();
    }
}

/// Bytes of a piece, about.
const PIECE: usize = 1 << 20;

/// Canonical bytes in pieces, none of which is moved once it is large: whoever encodes a snapshot gives way to all others,
/// and an allocator that moves tens of megabytes holds a lock meanwhile for which those would wait.
struct Pieces<'a> {
    give: &'a mut dyn FnMut(Vec<u8>),
    hash: Sha256,
    open: Encoder,
}

impl<'a> Pieces<'a> {
    fn new(give: &'a mut dyn FnMut(Vec<u8>)) -> Pieces<'a> {
        Pieces {
            give,
            hash: hasher("snapshot"),
            open: Encoder::new(),
        }
    }

    /// Takes what comes next, which should be small.
    fn next(&mut self) -> &mut Encoder {
        if self.open.as_bytes().len() >= PIECE {
            self.cut(Encoder::with_capacity(PIECE + PIECE / 16));
        }
        &mut self.open
    }

    /// Appends bytes as they are.
    fn append(&mut self, bytes: Vec<u8>) {
        self.cut(Encoder::new());
        self.give(bytes);
    }

    fn cut(&mut self, next: Encoder) {
        let full = std::mem::replace(&mut self.open, next).into_bytes();
        if !full.is_empty() {
            self.give(full);
        }
    }

    fn give(&mut self, piece: Vec<u8>) {
        self.hash.update(&piece);
        (self.give)(piece);
    }

    /// The rest, and the checksum of all.
    fn finish(mut self) {
        self.cut(Encoder::new());
        (self.give)(finish(self.hash).0.to_vec());
    }
}

/// How many numbers of each kind a ledger has given; it never takes one back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub(crate) assets: u32,
    pub(crate) labels: u32,
    pub(crate) contracts: u32,
}

impl Ledger {
    /// The numbers given so far.
    pub fn bounds(&self) -> Bounds {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Bounds {
            assets: count(self.assets.records().len()),
            labels: count(self.labels.all().len()),
            contracts: count(self.contracts.records().len()),
        }
    }

    /// The whole state as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.capture().encode(&mut |piece| bytes.extend(piece));
        bytes
    }

    /// The state at this moment, still to be encoded: assets, contracts and books are shared, not copied.
    pub fn capture(&self) -> Captured {
        let mut out = Encoder::new();
        out.byte(VERSION);
        self.genesis.encode(&mut out);
        self.applied.encode(&mut out);
        self.now.encode(&mut out);
        self.state.encode(&mut out);
        let mut labels = Encoder::new();
        labels.count(self.labels.all().len());
        self.labels
            .all()
            .iter()
            .for_each(|label| label.encode(&mut labels));
        let mut behind = Encoder::new();
        if planted!("snapshot-without-nonces") {
            behind.count(0);
        } else {
            self.nonces.entries().encode(&mut behind);
        }
        self.membership.encode(&mut behind);
        self.chain.blocks.encode(&mut behind);
        self.chain.certified.encode(&mut behind);
        self.frozen.encode(&mut behind);
        Captured {
            out,
            assets: self.assets.capture(),
            contracts: self.contracts.records().clone(),
            labels: labels.into_bytes(),
            rosters: self
                .rosters
                .values()
                .map(|roster| Arc::clone(&roster.meters))
                .collect(),
            books: self.epochs.clone(),
            behind: behind.into_bytes(),
        }
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
}

pub(crate) fn inconsistent(what: &'static str) -> SnapshotError {
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
    let bounds = ledger.bounds();
    let mut last = None;
    for _ in 0..from.count()? {
        let epoch = Epoch::decode(from)?;
        if last.replace(epoch).is_some_and(|last| last >= epoch) {
            return Err(inconsistent("order of epochs"));
        }
        let book = decode_book(&ledger, bounds, epoch, from)?;
        ledger.epochs.insert(epoch, Arc::new(book));
    }
    for (id, remembered) in BTreeMap::<EnvelopeRef, Remembered>::decode(from)? {
        ledger.nonces.remember(id, remembered);
    }
    ledger.membership = Canonical::decode(from)?;
    let blocks: BTreeMap<u64, Block> = Canonical::decode(from)?;
    ledger.chain = Chain::restore(blocks, Canonical::decode(from)?).ok_or(inconsistent("blocks"))?;
    ledger.frozen = Frozen::decode(from)?;
    if ledger.epochs.keys().any(|epoch| ledger.frozen.contains(*epoch)) {
        return Err(inconsistent("frozen epochs"));
    }
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
        let partner = ledger
            .assets
            .handle(contract.terms.partner.as_str())
            .filter(|_| contracts.number(contract.terms.id.as_str()).is_none())
            .ok_or(inconsistent("contracts"))?;
        let number = contracts.push(Record {
            contract,
            partner,
            booked,
        });
        ledger.assets.get_mut(owner).contracts.push(number);
    }
    ledger.contracts = contracts;
    Ok(())
}

fn encode_book(book: &Book, out: &mut Pieces<'_>) {
    let late = |stored: &Stored| planted!("snapshot-without-late") && book.is_late(stored);
    let statements = || book.statements.iter().filter(|stored| !late(stored));
    out.next().count(statements().count());
    for stored in statements() {
        encode_stored(&stored, out.next());
    }
    let sealed = || {
        book.journals
            .iter()
            .filter_map(|(handle, journal)| Some((handle, journal.prefix()?)))
    };
    out.next().count(sealed().count());
    for (handle, prefix) in sealed() {
        let out = out.next();
        handle.encode(out);
        prefix.frontier.encode(out);
        prefix.seals.encode(out);
    }
    book.approvals.encode(out.next());
}

fn decode_book(
    ledger: &Ledger,
    bounds: Bounds,
    epoch: Epoch,
    from: &mut Decoder<'_>,
) -> Result<Book, SnapshotError> {
    let mut book = Book::default();
    for _ in 0..from.count()? {
        let stored = decode_stored(bounds, from)?;
        if book.statements.last().is_some_and(|last| last.id >= stored.id) {
            return Err(inconsistent("statements"));
        }
        book.put(stored);
    }
    for _ in 0..from.count()? {
        let handle = Handle::decode(from)?;
        let frontier = Frontier::decode(from)?;
        let seals = Vec::<SealRecord>::decode(from)?;
        let own = |record: &SealRecord| ledger.assets.handle(record.seal.asset.as_str()) == Some(handle);
        if !seals.iter().all(own) {
            return Err(inconsistent("seals"));
        }
        restore_seals(&mut book, handle, epoch, frontier, seals)?;
    }
    book.approvals = BTreeMap::<Handle, BTreeSet<_>>::decode(from)?;
    if book.approvals.keys().any(|handle| *handle >= bounds.assets) {
        return Err(inconsistent("approvals"));
    }
    Ok(book)
}

/// Gives a journal its sealed part.
pub(crate) fn restore_seals(
    book: &mut Book,
    asset: Handle,
    epoch: Epoch,
    frontier: Frontier,
    seals: Vec<SealRecord>,
) -> Result<(), SnapshotError> {
    let journal = book
        .journals
        .get(asset)
        .ok_or(inconsistent("seals without a journal"))?;
    let watermark = usize::try_from(frontier.len()).map_err(|_| inconsistent("watermark"))?;
    let dense = seals
        .iter()
        .zip(0..)
        .all(|(record, version)| record.seal.version == version && record.seal.epoch == epoch);
    let newest = seals
        .last()
        .is_some_and(|newest| newest.seal.watermark == frontier.len());
    if !dense || !newest || watermark > journal.entries().len() || journal.is_sealed() {
        return Err(inconsistent("seals"));
    }
    match book.restore_prefix(asset, watermark, frontier, seals) {
        true => Ok(()),
        false => Err(inconsistent("seals")),
    }
}

fn encode_stored(stored: &Stored, out: &mut Encoder) {
    let row = Row::of(stored);
    out.uint(row.index);
    for number in [row.position, row.from, row.to] {
        out.raw(&number.to_be_bytes());
    }
    out.int(row.energy);
    out.int(row.co2eq);
    out.byte(row.kind);
    out.raw(&row.subject.to_be_bytes());
}

fn decode_stored(bounds: Bounds, from: &mut Decoder<'_>) -> Result<Stored, SnapshotError> {
    let number = |from: &mut Decoder<'_>| from.array().map(u32::from_be_bytes);
    let row = Row {
        index: from.uint()?,
        position: number(from)?,
        from: number(from)?,
        to: number(from)?,
        energy: from.int()?,
        co2eq: from.int()?,
        kind: from.byte()?,
        subject: number(from)?,
    };
    row.stored(bounds).ok_or(inconsistent("statements"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_bytes_in_order_and_none_outgrows_its_room() {
        let (mut encoded, mut whole) = (Vec::new(), Encoder::new());
        let mut give = |piece| encoded.push(piece);
        let mut pieces = Pieces::new(&mut give);
        for n in 0..400_000 {
            pieces.next().uint(n);
            whole.uint(n);
            if n == 150_000 {
                pieces.append(vec![7; 5]);
                whole.raw(&[7; 5]);
            }
        }
        pieces.finish();
        assert!(encoded.len() > 3, "{} pieces", encoded.len());
        let longest = encoded.iter().map(Vec::capacity).max();
        assert!(longest.is_some_and(|longest| longest < 2 * PIECE), "{longest:?}");
        let bytes = encoded.concat();
        let (content, checksum) = bytes.split_last_chunk::<32>().expect("a checksum");
        assert_eq!(content, whole.as_bytes());
        assert_eq!(digest("snapshot", content), Digest(*checksum));
    }
}
