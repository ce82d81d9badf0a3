//! Reads: what the API asks of the ledger. They change nothing, and none of them scans what it isn't asked about.

use crate::asset::{Asset, AssetId, Handle};
use crate::balance::Balance;
use crate::block::Block;
use crate::contract::{Contract, ContractId, Status};
use crate::digest::{ClusterId, Digest};
use crate::genesis::Genesis;
use crate::journal::SealRecord;
use crate::key::PublicKey;
use crate::ledger::Ledger;
use crate::merit_order::rank;
use crate::statement::{Statement, StatementId};
use crate::units::{Epoch, Timestamp};
use crate::voters::{Members, NodeId, Voters};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// A journal as read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalView {
    /// All statements, in booking order.
    pub statements: Vec<Statement>,
    /// How many of them the newest seal covers; 0 if there is none.
    pub watermark: usize,
    /// The newest seal's version, if there is one.
    pub version: Option<u32>,
}

/// The balance of a journal in its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BalanceView {
    /// Up to the watermark.
    pub sealed: Balance,
    /// Past it.
    pub open: Balance,
    /// Both.
    pub all: Balance,
    /// Whether there is a seal.
    pub is_sealed: bool,
}

/// What EAF shows of a sealed balance beside the seal's own content, over that version's whole watermark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EafFigures {
    /// Everything that came in, in watt-hours.
    pub energy_in: i128,
    /// Everything that went out.
    pub energy_out: i128,
    /// The CO2 that came in, in grams.
    pub co2_in: i128,
    /// The CO2 that went out.
    pub co2_out: i128,
    /// `upstreamenergy` after the contracts: Σ(from = upstream_from) − Σ(to = upstream_to).
    pub upstream_energy: i128,
    /// The CO2 of those, likewise.
    pub upstream_co2: i128,
    /// `|out| > |in| ? −|out| : |in|` before step 3, so without what this version's sealing booked.
    pub balance_sum: i128,
}

impl Ledger {
    /// The cluster's id; zeros before the genesis.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The genesis, once it is applied.
    pub fn genesis(&self) -> Option<&Genesis> {
        self.genesis.as_ref()
    }

    /// How long an epoch lasts, in milliseconds; `None` before the genesis.
    pub fn epoch_ms(&self) -> Option<u64> {
        self.genesis.as_ref().map(|genesis| genesis.epoch_ms)
    }

    /// The index of the last entry applied; `None` if there was none.
    pub fn applied(&self) -> Option<u64> {
        self.applied
    }

    /// The ledger's time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The running digest.
    pub fn state(&self) -> Digest {
        self.state
    }

    /// The voters in force.
    pub fn voters(&self) -> &Voters {
        self.membership.voters()
    }

    /// The keys with which nodes sign.
    pub fn node_keys(&self) -> &BTreeMap<NodeId, PublicKey> {
        self.membership.keys()
    }

    /// Keys that were taken away from nodes. They are nobody's any more.
    pub fn revoked_keys(&self) -> &BTreeSet<PublicKey> {
        self.membership.revoked()
    }

    /// Who should be a member and vote: see [`Members`].
    pub fn members(&self) -> &Members {
        self.membership.members()
    }

    /// An asset.
    pub fn asset(&self, id: &AssetId) -> Option<&Asset> {
        self.assets
            .handle(id.as_str())
            .map(|handle| &self.assets.get(handle).asset)
    }

    /// All assets in id order, the root among them.
    pub fn assets(&self) -> impl Iterator<Item = &Asset> {
        self.assets
            .ordered()
            .map(|(_, handle)| &self.assets.get(handle).asset)
    }

    /// The direct downstream of an asset, in id order: whose rules name it.
    pub fn downstream(&self, id: &AssetId) -> Vec<AssetId> {
        let Some(handle) = self.assets.handle(id.as_str()) else {
            return Vec::new();
        };
        let mut found: Vec<AssetId> = self
            .assets
            .get(handle)
            .downstream
            .iter()
            .map(|handle| self.assets.id(*handle).clone())
            .collect();
        found.sort();
        found
    }

    /// The assets on which something was booked last, newest first, at most `limit`.
    pub fn recent_assets(&self, limit: usize) -> Vec<&Asset> {
        let mut assets: Vec<(u64, &Asset)> = self
            .assets
            .records()
            .iter()
            .zip(0..)
            .filter_map(|(record, handle)| Some((self.assets.links(handle).booked()?, &record.asset)))
            .collect();
        assets.sort_by(|(a_booked, a), (b_booked, b)| b_booked.cmp(a_booked).then_with(|| a.id.cmp(&b.id)));
        assets.into_iter().take(limit).map(|(_, asset)| asset).collect()
    }

    /// A contract.
    pub fn contract(&self, id: &ContractId) -> Option<&Contract> {
        self.contracts
            .number(id.as_str())
            .map(|number| &self.contracts.get(number).contract)
    }

    /// What a contract booked in an epoch, in watt-hours.
    pub fn contract_booked(&self, id: &ContractId, epoch: Epoch) -> i128 {
        let number = self.contracts.number(id.as_str());
        number
            .and_then(|n| {
                let booked = self.contracts.get(n).booked.get(&epoch).copied();
                booked.or_else(|| self.shown_booked(n, epoch))
            })
            .unwrap_or_default()
    }

    /// The contracts, in id order, that are the asset's, have the partner and are in the status, where those are given.
    pub fn contracts<'a>(
        &'a self,
        asset: Option<&'a AssetId>,
        partner: Option<&'a AssetId>,
        status: Option<Status>,
    ) -> impl Iterator<Item = &'a Contract> {
        self.contracts
            .ordered()
            .map(|record| &record.contract)
            .filter(move |contract| {
                asset.is_none_or(|asset| contract.terms.asset == *asset)
                    && partner.is_none_or(|partner| contract.terms.partner == *partner)
                    && status.is_none_or(|status| contract.status == status)
            })
    }

    /// An asset's own contracts in the order they are served, whatever their status.
    pub fn merit_order(&self, asset: &AssetId) -> Vec<&Contract> {
        let Some(handle) = self.assets.handle(asset.as_str()) else {
            return Vec::new();
        };
        let numbers = self.assets.get(handle).contracts.iter();
        let mut contracts: Vec<&Contract> = numbers.map(|n| &self.contracts.get(*n).contract).collect();
        contracts.sort_by(|a, b| rank(a).cmp(&rank(b)));
        contracts
    }

    /// A journal; `None` if nothing was ever booked in it.
    pub fn journal(&self, asset: &AssetId, epoch: Epoch) -> Option<JournalView> {
        let handle = self.assets.handle(asset.as_str())?;
        let (book, journal) = self.journal_of(handle, epoch)?;
        let statement = |number: &u32| self.statement_of(epoch, &book.statements.get(*number));
        Some(JournalView {
            statements: journal.entries().iter().map(statement).collect(),
            watermark: journal.watermark(),
            version: journal.seals().last().map(|newest| newest.seal.version),
        })
    }

    /// The statement of this id in this epoch.
    pub fn statement(&self, epoch: Epoch, id: StatementId) -> Option<Statement> {
        let stored = self.book(epoch)?.statements.find(id)?;
        Some(self.statement_of(epoch, &stored))
    }

    /// The statements `index.first` up to `index.(first + count − 1)` of an epoch: what [`crate::Event::RosterBooked`] tells of.
    pub fn booked(
        &self,
        epoch: Epoch,
        index: u64,
        first: u32,
        count: u32,
    ) -> impl Iterator<Item = Statement> {
        let book = self.book(epoch);
        let id = |position| StatementId { index, position };
        let (from, to) = (id(first), id(first.saturating_add(count)));
        book.into_iter()
            .flat_map(move |book| {
                book.statements
                    .from(book.statements.before(from))
                    .take_while(move |stored| stored.id < to)
            })
            .map(move |stored| self.statement_of(epoch, &stored))
    }

    /// All statements of an epoch, in booking order.
    pub fn statements(&self, epoch: Epoch) -> impl Iterator<Item = Statement> {
        let book = self.book(epoch);
        book.into_iter()
            .flat_map(|book| book.statements.iter())
            .map(move |stored| self.statement_of(epoch, &stored))
    }

    /// The epochs in which anything was booked, ascending.
    pub fn epochs(&self) -> impl DoubleEndedIterator<Item = Epoch> {
        let mut all: Vec<Epoch> = self.unfrozen_epochs().collect();
        all.extend(self.frozen().map(|(epoch, _)| epoch));
        all.sort();
        all.into_iter()
    }

    /// Those of them that lie in memory.
    pub fn unfrozen_epochs(&self) -> impl Iterator<Item = Epoch> {
        self.epochs
            .iter()
            .filter(|(_, book)| !book.statements.is_empty())
            .map(|(epoch, _)| *epoch)
    }

    /// The epochs of an asset before `before` (or all), newest first, at most `limit`.
    pub fn epochs_of(&self, asset: &AssetId, before: Option<Epoch>, limit: usize) -> Vec<Epoch> {
        let Some(handle) = self.assets.handle(asset.as_str()) else {
            return Vec::new();
        };
        let range = (Bound::Unbounded, before.map_or(Bound::Unbounded, Bound::Excluded));
        let live = self.epochs.range(range).rev();
        let live = live.filter(|(_, book)| book.journals.contains(handle));
        let mut live = live.map(|(epoch, _)| *epoch).peekable();
        let mut frozen = self.frozen_epochs_of(handle, range).rev().peekable();
        let newest_first = std::iter::from_fn(|| match (live.peek(), frozen.peek()) {
            (Some(live_epoch), Some(frozen_epoch)) if live_epoch < frozen_epoch => frozen.next(),
            (None, _) => frozen.next(),
            _ => live.next(),
        });
        newest_first.take(limit).collect()
    }

    /// All versions of the seal of `(asset, epoch)`, from 0.
    pub fn seals(&self, asset: &AssetId, epoch: Epoch) -> &[SealRecord] {
        let handle = self.assets.handle(asset.as_str());
        handle
            .and_then(|handle| self.journal_of(handle, epoch))
            .map_or(&[], |(_, journal)| journal.seals())
    }

    /// One version, or the newest.
    pub fn seal_record(&self, asset: &AssetId, epoch: Epoch, version: Option<u32>) -> Option<&SealRecord> {
        let seals = self.seals(asset, epoch);
        match version {
            None if planted!("oldest-seal-shown") => seals.first(),
            None => seals.last(),
            Some(version) => seals.get(usize::try_from(version).ok()?),
        }
    }

    /// The balance of `(asset, epoch)`; `None` if nothing was ever booked in it.
    pub fn balance(&self, asset: &AssetId, epoch: Epoch) -> Option<BalanceView> {
        let handle = self.assets.handle(asset.as_str())?;
        let (book, journal) = self.journal_of(handle, epoch)?;
        let (sealed, open) = (journal.sealed(), book.open_balance(handle, journal));
        let mut all = sealed;
        all.merge(&open);
        Some(BalanceView {
            sealed,
            open,
            all,
            is_sealed: journal.is_sealed(),
        })
    }

    /// EAF's figures of a seal. Costs the length of its watermark.
    pub fn eaf_figures(&self, record: &SealRecord) -> EafFigures {
        let mut figures = EafFigures::default();
        let seal = &record.seal;
        let Some(handle) = self.assets.handle(seal.asset.as_str()) else {
            return figures;
        };
        let Some((book, journal)) = self.journal_of(handle, seal.epoch) else {
            return figures;
        };
        let upstream_from = self.assets.handle(seal.upstream_from.as_str());
        let upstream_to = self.assets.handle(seal.upstream_to.as_str());
        let watermark = usize::try_from(seal.watermark)
            .unwrap_or(usize::MAX)
            .min(journal.entries().len());
        let closed = watermark.saturating_sub(record.booked as usize);
        let (mut before_in, mut before_out) = (0, 0);
        for (place, number) in journal.entries()[..watermark].iter().enumerate() {
            let stored = book.statements.get(*number);
            let (energy, co2) = (i128::from(stored.energy), i128::from(stored.co2));
            if stored.to == handle {
                figures.energy_in += energy;
                figures.co2_in += co2;
                if Some(stored.from) == upstream_from {
                    figures.upstream_energy += energy;
                    figures.upstream_co2 += co2;
                }
            } else {
                figures.energy_out += energy;
                figures.co2_out += co2;
                if Some(stored.to) == upstream_to {
                    figures.upstream_energy -= energy;
                    figures.upstream_co2 -= co2;
                }
            }
            if place + 1 == closed {
                (before_in, before_out) = (figures.energy_in, figures.energy_out);
            }
        }
        figures.balance_sum = if before_out > before_in {
            -before_out
        } else {
            before_in
        };
        figures
    }

    /// The assets whose journals of `epoch` have an unsealed part, in id order, the root among them.
    pub fn open_assets(&self, epoch: Epoch) -> Vec<AssetId> {
        if self.frozen_root_open(epoch) {
            return vec![crate::ROOT.clone()];
        }
        let open = self.epochs.get(&epoch).map(|book| &book.open);
        let mut assets: Vec<AssetId> = open
            .into_iter()
            .flat_map(|open| open.handles())
            .map(|handle| self.assets.id(handle).clone())
            .collect();
        assets.sort();
        assets
    }

    /// Whether an asset has statements past its watermark in an epoch that is in memory. (In those that are not, only the
    /// root has.)
    pub fn is_open(&self, asset: &AssetId, epoch: Epoch) -> bool {
        let handle = self.assets.handle(asset.as_str());
        handle.is_some_and(|handle| self.has_open(handle, epoch))
    }

    /// Late statements: those past a seal's watermark, each with the asset for which it is late; of one asset or all, in one
    /// epoch or all. In the order of epochs, ids and booking, at most `limit`.
    pub fn late(
        &self,
        asset: Option<&AssetId>,
        epoch: Option<Epoch>,
        limit: usize,
    ) -> Vec<(AssetId, Statement)> {
        let wanted = match asset {
            None => None,
            Some(id) => match self.assets.handle(id.as_str()) {
                Some(handle) => Some(handle),
                None => return Vec::new(),
            },
        };
        let mut late = Vec::new();
        let range = epoch.map_or((Bound::Unbounded, Bound::Unbounded), |epoch| {
            (Bound::Included(epoch), Bound::Included(epoch))
        });
        for (epoch, book) in self.epochs.range(range) {
            let candidates: Vec<Handle> = match wanted {
                Some(handle) => vec![handle],
                None => {
                    let mut open: Vec<Handle> = book.open.handles().collect();
                    open.sort_by_key(|handle| self.assets.id(*handle));
                    open
                }
            };
            for handle in candidates {
                let Some(journal) = book.journals.get(handle).filter(|j| j.is_sealed()) else {
                    continue;
                };
                for statement in self.open_part(*epoch, book, journal) {
                    if late.len() == limit {
                        return late;
                    }
                    late.push((self.assets.id(handle).clone(), statement));
                }
            }
        }
        late
    }

    /// The block that the entry at `index` made.
    pub fn block(&self, index: u64) -> Option<&Block> {
        self.chain.blocks.get(&index)
    }

    /// The blocks from `index` on, at most `limit`.
    pub fn blocks(&self, from: u64, limit: usize) -> impl Iterator<Item = &Block> {
        self.chain
            .blocks
            .range(from..)
            .map(|(_, block)| block)
            .take(limit)
    }

    /// The newest block.
    pub fn head(&self) -> Option<&Block> {
        self.chain.blocks.last_key_value().map(|(_, block)| block)
    }

    /// The index up to which blocks are certified.
    pub fn certified(&self) -> Option<u64> {
        self.chain.certified
    }
}
