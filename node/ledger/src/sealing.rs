//! How the ledger seals: it checks, opens [`crate::seal::close`] on its own journals, and books what that returns.
//!
//! A refused sealing changes nothing: [`crate::seal::close`] only drafts.

use crate::asset::{AssetId, Handle, ROOT};
use crate::balance::Flow;
use crate::contract::Contract;
use crate::digest::Digest;
use crate::event::{Event, Sealed};
use crate::journal::{Book, Journal, JournalRef, SealRecord};
use crate::ledger::{Ledger, Work};
use crate::merit_order::PartnerView;
use crate::refusal::Refusal;
use crate::seal::{Closed, Opening, Partners, SealRef, close};
use crate::statement::{Kind, Statement, StatementId};
use crate::units::Epoch;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many open assets a refusal names.
const LISTED: usize = 16;

impl Ledger {
    /// Makes version 0 of `(asset, epoch)`.
    pub(crate) fn seal(
        &mut self,
        work: &mut Work,
        asset: &AssetId,
        epoch: Epoch,
    ) -> Result<SealRef, Refusal> {
        if *asset == *ROOT {
            return Err(Refusal::RootNotSealable {});
        }
        let handle = self.assets.known(asset)?;
        match self.journal_of(handle, epoch) {
            None => Err(Refusal::NothingToSeal {
                asset: asset.clone(),
                epoch,
            }),
            Some((_, journal)) => match journal.seals().last().filter(|_| !planted!("sealed-twice")) {
                Some(newest) => Err(Refusal::AlreadySealed {
                    seal: newest.seal.id(),
                    digest: newest.digest,
                }),
                None => self.make_seal(work, handle, epoch),
            },
        }
    }

    /// Makes the next version over the unsealed part of the journal, which is not empty.
    pub(crate) fn make_seal(
        &mut self,
        work: &mut Work,
        asset: Handle,
        epoch: Epoch,
    ) -> Result<SealRef, Refusal> {
        if !planted!("upstream-before-downstream") {
            self.check_downstream(asset, epoch)?;
        }
        let approvals = self.check_approvals(asset, epoch)?;
        let first = StatementId {
            index: work.index,
            position: work.next_position(),
        };
        let Some(opening) = self.opening(asset, epoch, first, approvals) else {
            return Err(Refusal::NothingToSeal {
                asset: self.assets.id(asset).clone(),
                epoch,
            });
        };
        let mut partners = Others {
            ledger: self,
            epoch,
            moved: (!opening.contracts.is_empty()).then(BTreeMap::new),
        };
        let closed = close(opening, &mut partners).map_err(|_| Refusal::OutOfRange {
            figure: "a figure of the seal".to_owned(),
        })?;
        Ok(self.commit(work, asset, epoch, first, closed))
    }

    /// Refuses while a direct downstream asset has statements past its own watermark.
    fn check_downstream(&self, asset: Handle, epoch: Epoch) -> Result<(), Refusal> {
        let Some(book) = self.epochs.get(&epoch) else {
            return Ok(());
        };
        let downstream = &self.assets.get(asset).downstream;
        // The smaller of two sets is walked, the larger one is asked.
        let open: Vec<Handle> = if downstream.len() <= book.open.len() {
            downstream
                .iter()
                .copied()
                .filter(|handle| book.open.contains(*handle))
                .collect()
        } else {
            book.open
                .handles()
                .filter(|handle| downstream.contains(handle))
                .collect()
        };
        if open.is_empty() {
            return Ok(());
        }
        let mut assets: Vec<AssetId> = open
            .into_iter()
            .map(|handle| self.assets.id(handle).clone())
            .collect();
        assets.sort();
        assets.truncate(LISTED);
        Err(Refusal::DownstreamOpen {
            asset: self.assets.id(asset).clone(),
            epoch,
            assets,
        })
    }

    /// The approvals that count, or the refusal that they are too few.
    fn check_approvals(&self, asset: Handle, epoch: Epoch) -> Result<Vec<crate::PublicKey>, Refusal> {
        let record = &self.assets.get(asset).asset;
        let given = self
            .epochs
            .get(&epoch)
            .and_then(|book| book.approvals.get(&asset));
        let counting = given
            .map(|given| record.audit.counting(given))
            .unwrap_or_default();
        let (have, want) = (
            u32::try_from(counting.len()).unwrap_or(u32::MAX),
            record.audit.approvals,
        );
        if have < want {
            return Err(Refusal::ApprovalMissing {
                asset: record.id.clone(),
                epoch,
                have,
                want,
            });
        }
        Ok(counting)
    }

    /// What sealing starts from; `None` if nothing was ever booked.
    fn opening(
        &self,
        asset: Handle,
        epoch: Epoch,
        first: StatementId,
        approvals: Vec<crate::PublicKey>,
    ) -> Option<Opening<'_>> {
        let (book, journal) = self.journal_of(asset, epoch)?;
        let record = &self.assets.get(asset).asset;
        Some(Opening {
            cluster: self.cluster,
            asset: record.id.clone(),
            epoch,
            version: match u32::try_from(journal.seals().len()).unwrap_or(u32::MAX) {
                1 if planted!("sealed-twice") => 0,
                version => version,
            },
            previous: journal
                .seals()
                .last()
                .map_or(Digest::ZERO, |newest| newest.digest),
            upstream_from: record.rule.upstream_from(),
            upstream_to: record.rule.upstream_to(),
            sealed: journal.sealed(),
            open: book.open_balance(asset, journal),
            frontier: self.whole_frontier(epoch, book, journal),
            contracts: self.served(asset, epoch),
            approvals,
            first,
        })
    }

    /// The statements past the watermark.
    pub(crate) fn open_part<'a>(
        &'a self,
        epoch: Epoch,
        book: &'a Book,
        journal: JournalRef<'a>,
    ) -> impl Iterator<Item = Statement> + 'a {
        book.open_statements(journal)
            .map(move |stored| self.statement_of(epoch, &stored))
    }

    /// Books what a sealing drafted and moves the watermark.
    fn commit(
        &mut self,
        work: &mut Work,
        asset: Handle,
        epoch: Epoch,
        first: StatementId,
        closed: Closed,
    ) -> SealRef {
        let mut booked = 0;
        for statement in closed.statements() {
            debug_assert_eq!(
                statement.id,
                StatementId {
                    index: first.index,
                    position: first.position + booked
                }
            );
            work.next_id();
            booked += 1;
            // Every party and contract of a draft is one of ours.
            let Some(stored) = self.stored(asset, statement) else {
                continue;
            };
            self.append(epoch, stored);
            if let Kind::Contract { contract, .. } = &statement.kind
                && let Some(number) = self.own_contract(asset, contract)
            {
                let record = self.contracts.get_mut(number);
                record.contract.balanced += statement.energy.wide();
                *record.booked.entry(epoch).or_default() += statement.energy.wide();
            }
        }

        let Closed {
            seal,
            digest,
            residual,
            turns,
            sealed,
            frontier,
        } = closed;
        let (id, seal) = (seal.id(), Arc::new(seal));
        let leaf = u32::try_from(work.seals.len()).unwrap_or(u32::MAX);
        work.seals.push(digest);
        let book = self.book_mut(epoch);
        book.sealed += 1;
        book.newest_block = work.index;
        book.open.remove(asset);
        if !planted!("approvals-kept") {
            book.approvals.remove(&asset);
        }
        let journal = book.journals.filled(asset, Journal::of);
        let record = SealRecord {
            seal: Arc::clone(&seal),
            digest,
            index: work.index,
            leaf,
            booked,
        };
        journal.seal(record, sealed, frontier);
        work.event(Event::Sealed(Arc::new(Sealed {
            seal,
            digest,
            first,
            residual,
            turns,
        })));
        id
    }
}

/// The other parties as the ledger knows them, and what this sealing has moved on them so far.
struct Others<'a> {
    ledger: &'a Ledger,
    epoch: Epoch,
    /// Nobody looks where there is no contract.
    moved: Option<BTreeMap<AssetId, Flow>>,
}

impl Others<'_> {
    fn shift(&mut self, asset: &AssetId, energy: i128, co2: i128) {
        if let Some(moved) = &mut self.moved {
            let flow = moved.entry(asset.clone()).or_default();
            flow.energy += energy;
            flow.co2 += co2;
        }
    }
}

impl Partners for Others<'_> {
    fn booked(&mut self, statement: &Statement) {
        let (energy, co2) = (statement.energy.wide(), statement.co2eq.wide());
        self.shift(&statement.from, -energy, -co2);
        self.shift(&statement.to, energy, co2);
    }

    fn view(&mut self, contract: &Contract) -> PartnerView {
        let partner = &contract.terms.partner;
        let handle = self.ledger.assets.handle(partner.as_str());
        let found = handle.and_then(|handle| Some((handle, self.ledger.journal_of(handle, self.epoch)?)));
        let mut position = match found {
            None => Flow::default(),
            Some((_, (_, journal))) if journal.is_sealed() => return PartnerView::Sealed {},
            Some((handle, (book, journal))) => book.open_balance(handle, journal).position(),
        };
        if let Some(moved) = self.moved.as_ref().and_then(|moved| moved.get(partner)) {
            position.energy += moved.energy;
            position.co2 += moved.co2;
        }
        PartnerView::Open { position }
    }
}
