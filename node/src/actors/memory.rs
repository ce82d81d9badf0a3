//! What a balancing actor remembers and how it recomputes: the pure core of [`super::balancing`].
//!
//! A memory holds the books of a balancing group's members ([`super::book`]). It is fed in log order with settlements
//! *as they stand in the log* and with the ledger's claims, and answers with its own results and with every
//! contradiction it finds:
//!
//! - a settlement's statement is made anew from the settlement and the meter's rule, a batch's by the router ([`super::routing`]);
//! - a seal is made anew by the ledger crate's pure [`close`] on this memory; only what the owner can't know, how
//!   the partners stood, is taken from the claim;
//! - that is confirmed by the partner's memory, at the same point of the log order.
//!
//! Absent on purpose: any access to the ledger, and any trust in a claim that some memory can check.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger::audit::AuditRule;
use ledger::contract::Contract;
use ledger::event::{JournalImage, Sealed};
use ledger::merit_order::PartnerView;
use ledger::rule::Rule;
use ledger::seal::{Opening, Partners, close};
use ledger::settlement::flow;
use ledger::statement::{Kind, MeterSide};
use ledger::{AssetId, ClusterId, ContractId, Digest, Epoch, PublicKey, Settlement, Statement, Wh};

use super::book::{Book, Leaf, Past, Rows};
use super::names::Names;

/// One thing to remember or to recompute, in log order.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// An asset of this group has a new rule.
    Rule { asset: AssetId, rule: Rule },
    /// An asset of this group owns this contract, as it now is.
    Contract { contract: Contract },
    /// An asset of this group has a new audit rule.
    Audit { asset: AssetId, rule: AuditRule },
    /// An auditor approved the next seal.
    Approved {
        asset: AssetId,
        epoch: Epoch,
        auditor: PublicKey,
    },
    /// A meter of this group was settled, and the ledger claims to have booked this.
    Settled {
        settlement: Settlement,
        claim: Statement,
    },
    /// Meters of this group, or those they deliver to or draw from, were settled in a batch.
    Rows(Rows),
    /// A statement that someone else made goes into this asset's journal.
    Book { asset: AssetId, statement: Statement },
    /// A sealing claims that a contract's partner, of this group, stood so.
    Confirm {
        contract: ContractId,
        partner: AssetId,
        epoch: Epoch,
        view: PartnerView,
    },
    /// An asset of this group was sealed; the seal's place in its block.
    Seal { place: u32, claim: Arc<Sealed> },
    /// An epoch went into the archive.
    Forget { epoch: Epoch },
    /// From a snapshot or the archive: what a contract had booked.
    ContractRestored {
        owner: AssetId,
        contract: ContractId,
        booked: Vec<(Epoch, i128)>,
    },
    /// From a snapshot or the archive: the sealed part of a journal.
    JournalRestored { image: Box<JournalImage> },
}

/// What a step came to, beside what it changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// A seal recomputed: its place in the block and its digest by this memory.
    Seal { place: u32, digest: Digest },
    /// The ledger claims something else.
    Contradiction(String),
}

/// One contract of a member.
#[derive(Clone, Debug)]
struct Owned {
    contract: Contract,
    /// What it booked, by epoch.
    booked: BTreeMap<Epoch, i128>,
}

/// The memory of one balancing group.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    cluster: ClusterId,
    names: Names,
    rules: BTreeMap<AssetId, Rule>,
    audits: BTreeMap<AssetId, AuditRule>,
    contracts: BTreeMap<AssetId, BTreeMap<ContractId, Owned>>,
    books: BTreeMap<Epoch, Book>,
}

/// All that is remembered of one asset, on its way from one group to another. It has no contracts: from its first one on, an asset is
/// the head of its own group, and heads never move.
#[derive(Clone, Debug, Default)]
pub(crate) struct Luggage {
    rule: Option<Rule>,
    audit: Option<AuditRule>,
    books: BTreeMap<Epoch, Leaf>,
}

impl Memory {
    /// Remembers nothing yet.
    pub(crate) fn new(cluster: ClusterId, names: Names) -> Self {
        Memory {
            cluster,
            names,
            rules: BTreeMap::new(),
            audits: BTreeMap::new(),
            contracts: BTreeMap::new(),
            books: BTreeMap::new(),
        }
    }

    /// Takes one step.
    pub(crate) fn step(&mut self, step: Step) -> Option<Finding> {
        match step {
            Step::Rule { asset, rule } => {
                self.rules.insert(asset, rule);
            }
            Step::Contract { contract } => return self.contract(contract),
            Step::Audit { asset, rule } => {
                self.audits.insert(asset, rule);
            }
            Step::Approved {
                asset,
                epoch,
                auditor,
            } => {
                let number = self.names.number(&asset);
                self.book(epoch).approve(number, auditor);
            }
            Step::Rows(rows) => {
                let book = self.books.entry(rows.epoch).or_default();
                book.add_rows(&rows, &self.names);
            }
            Step::Settled { settlement, claim } => return self.settled(&settlement, &claim),
            Step::Book { asset, statement } => self.add(&asset, &statement),
            Step::Confirm {
                contract,
                partner,
                epoch,
                view,
            } => {
                return self.confirm(&contract, &partner, epoch, view);
            }
            Step::Seal { place, claim } => return Some(self.seal(place, &claim)),
            Step::Forget { epoch } => self.forget(epoch),
            Step::ContractRestored {
                owner,
                contract,
                booked,
            } => {
                if let Some(owned) = self
                    .contracts
                    .get_mut(&owner)
                    .and_then(|all| all.get_mut(&contract))
                {
                    owned.booked.extend(booked);
                }
            }
            Step::JournalRestored { image } => self.restore(*image),
        }
        None
    }

    fn forget(&mut self, epoch: Epoch) {
        self.books.remove(&epoch);
        for owned in self.contracts.values_mut().flat_map(BTreeMap::values_mut) {
            owned.booked.remove(&epoch);
        }
    }

    /// Forgets an asset and hands over what it knew of it.
    pub(crate) fn release(&mut self, asset: &AssetId) -> Luggage {
        let (number, names) = (self.names.number(asset), &self.names);
        let leaves = self.books.iter_mut();
        let books = leaves.filter_map(|(epoch, book)| Some((*epoch, book.take(number, *epoch, names)?)));
        Luggage {
            books: books.collect(),
            rule: self.rules.remove(asset),
            audit: self.audits.remove(asset),
        }
    }

    /// Takes over what another memory knew of an asset that this one never heard of.
    pub(crate) fn adopt(&mut self, asset: &AssetId, luggage: Luggage) {
        let Luggage { rule, audit, books } = luggage;
        self.rules.extend(rule.map(|rule| (asset.clone(), rule)));
        self.audits.extend(audit.map(|rule| (asset.clone(), rule)));
        let (number, names) = (self.names.number(asset), self.names.clone());
        for (epoch, leaf) in books {
            self.book(epoch).put(number, leaf, &names);
        }
    }

    fn book(&mut self, epoch: Epoch) -> &mut Book {
        self.books.entry(epoch).or_default()
    }

    fn add(&mut self, asset: &AssetId, statement: &Statement) {
        let names = self.names.clone();
        self.book(statement.epoch)
            .add(names.number(asset), statement, &names);
    }

    fn rule(&self, asset: &AssetId) -> Rule {
        self.rules.get(asset).cloned().unwrap_or_default()
    }

    /// A contract's terms, status and priority come from the log ([`super::agreed`]), which changes one thing at a time; what it
    /// booked, this memory knows better.
    fn contract(&mut self, contract: Contract) -> Option<Finding> {
        let all = self.contracts.entry(contract.terms.asset.clone()).or_default();
        match all.get_mut(&contract.terms.id) {
            Some(owned) if is_changed_once(&owned.contract, &contract) => {
                let balanced = owned.contract.balanced;
                owned.contract = Contract { balanced, ..contract };
            }
            Some(owned) => {
                return Some(Finding::Contradiction(format!(
                    "the ledger changes {:?} to {contract:?}",
                    owned.contract
                )));
            }
            None => {
                all.insert(
                    contract.terms.id.clone(),
                    Owned {
                        contract,
                        booked: BTreeMap::new(),
                    },
                );
            }
        }
        None
    }

    fn settled(&mut self, settlement: &Settlement, claim: &Statement) -> Option<Finding> {
        let meter = &settlement.meter;
        let (side, other) = flow(&self.rule(meter), settlement.consumption);
        let (from, to) = match side {
            MeterSide::From => (meter.clone(), other),
            MeterSide::To => (other, meter.clone()),
        };
        let own = Wh::new(i128::from(settlement.consumption.get()).abs()).map(|energy| Statement {
            id: claim.id,
            from,
            to,
            epoch: settlement.epoch,
            energy,
            co2eq: settlement.co2eq,
            kind: Kind::Metered {
                meter: side,
                label: settlement.label.clone(),
            },
        });
        match own {
            Ok(own) if own == *claim => {
                self.add(meter, &own);
                None
            }
            own => Some(Finding::Contradiction(format!(
                "the settlement of meter {meter} in epoch {} books {own:?}, but the ledger booked {claim:?}",
                settlement.epoch
            ))),
        }
    }

    fn confirm(
        &mut self,
        contract: &ContractId,
        partner: &AssetId,
        epoch: Epoch,
        view: PartnerView,
    ) -> Option<Finding> {
        let number = self.names.number(partner);
        let book = self.books.get(&epoch);
        let own = match book {
            Some(book) if book.past(number).is_some() => PartnerView::Sealed {},
            book => PartnerView::Open {
                position: book.map(|book| book.open(number)).unwrap_or_default().position(),
            },
        };
        (own != view).then(|| {
            Finding::Contradiction(format!(
                "at contract {contract}'s turn in epoch {epoch} its partner {partner} stood at {own:?}, \
                 but the ledger saw {view:?}"
            ))
        })
    }

    fn seal(&mut self, place: u32, claim: &Sealed) -> Finding {
        let (asset, epoch) = (claim.seal.asset.clone(), claim.seal.epoch);
        let contradiction = |what: String| Finding::Contradiction(format!("seal of {asset}/{epoch}: {what}"));
        let rule = self.rule(&asset);
        let audit = self.audits.get(&asset).cloned().unwrap_or_default();
        let mut contracts: Vec<(&Contract, i128)> = self
            .contracts
            .get(&asset)
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(|owned| owned.contract.served_in(epoch))
            .map(|owned| (&owned.contract, owned.booked.get(&epoch).copied().unwrap_or(0)))
            .collect();
        contracts.sort_by(|(a, _), (b, _)| (a.priority, &a.terms.id).cmp(&(b.priority, &b.terms.id)));

        let (cluster, names) = (self.cluster, self.names.clone());
        let number = names.number(&asset);
        let book = self.books.entry(epoch).or_default();
        let approvals = audit.counting(&book.approvals(number));
        if approvals.len() < usize::try_from(audit.approvals).unwrap_or(usize::MAX) {
            return contradiction(format!(
                "{} approvals of {} needed",
                approvals.len(),
                audit.approvals
            ));
        }
        let past = book.past(number);
        let newest = past.map(|past| past.newest);
        let opening = Opening {
            cluster,
            asset: asset.clone(),
            epoch,
            version: newest.map_or(0, |(version, _)| version + 1),
            previous: newest.map_or(Digest::ZERO, |(_, digest)| digest),
            upstream_from: rule.upstream_from(),
            upstream_to: rule.upstream_to(),
            sealed: past.map(|past| past.sealed).unwrap_or_default(),
            open: book.open(number),
            frontier: book.frontier(number, epoch, &names),
            contracts,
            approvals,
            first: claim.first,
        };
        let mut claims = Claims {
            turns: claim.turns.iter(),
            missing: None,
        };
        let closed = match close(opening, &mut claims) {
            Ok(closed) => closed,
            Err(error) => return contradiction(error.to_string()),
        };
        if let Some(contract) = claims.missing {
            return contradiction(format!(
                "contract {contract} is due, but the ledger passed it over"
            ));
        }
        if planted!("seals-believed") {
            let past = Past {
                newest: (claim.seal.version, claim.digest),
                sealed: closed.sealed,
                frontier: closed.frontier,
            };
            book.seal(number, past);
            return Finding::Seal {
                place,
                digest: claim.digest,
            };
        }
        if closed.digest != claim.digest || closed.residual != claim.residual || closed.turns != claim.turns {
            return contradiction(format!(
                "recomputed {:?} with residual {:?} and turns {:?}, but the ledger has {claim:?}",
                closed.seal, closed.residual, closed.turns
            ));
        }
        let past = Past {
            newest: (closed.seal.version, closed.digest),
            sealed: closed.sealed,
            frontier: closed.frontier,
        };
        book.seal(number, past);
        for turn in closed.turns {
            let owned = self
                .contracts
                .get_mut(&asset)
                .and_then(|all| all.get_mut(&turn.contract));
            if let Some(owned) = owned
                && turn.taken != Wh::ZERO
            {
                owned.contract.balanced += turn.taken.wide();
                *owned.booked.entry(epoch).or_default() += turn.taken.wide();
            }
        }
        Finding::Seal {
            place,
            digest: closed.digest,
        }
    }

    fn restore(&mut self, image: JournalImage) {
        let JournalImage {
            asset,
            epoch,
            newest,
            sealed,
            frontier,
        } = image;
        let number = self.names.number(&asset);
        let (seal, digest) = newest;
        let past = Past {
            newest: (seal.version, digest),
            sealed,
            frontier,
        };
        self.book(epoch).restore(number, past);
    }
}

/// Whether a contract is another in its status or its place, and the same in all else that was agreed.
fn is_changed_once(before: &Contract, now: &Contract) -> bool {
    before.terms == now.terms && (before.status == now.status || before.priority == now.priority)
}

/// The partners as the ledger claims to have seen them, turn by turn. Their own actors confirm each claim.
struct Claims<'a> {
    turns: std::slice::Iter<'a, ledger::seal::Turn>,
    missing: Option<ContractId>,
}

impl Partners for Claims<'_> {
    fn booked(&mut self, _statement: &Statement) {}

    fn view(&mut self, contract: &Contract) -> PartnerView {
        match self.turns.next() {
            Some(turn) if turn.contract == contract.terms.id => turn.partner,
            _ => {
                self.missing.get_or_insert_with(|| contract.terms.id.clone());
                PartnerView::Sealed {}
            }
        }
    }
}
