//! Who hears of what: splits each applied entry into the steps of the balancing groups it touches.
//!
//! A balancing group is an asset with anything downstream, or with contracts; a meter belongs to the group of its
//! upstream, and one without a rule to the root's. An asset that becomes a group of its own leaves the one it
//! belonged to, with all that was remembered of it ([`Item::Release`]); it never moves again, so that a rule
//! that changes costs nothing here. The root itself is never sealed and no contract's party: nothing is kept
//! of its side.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger::block::Header;
use ledger::event::Sealed;
use ledger::{Applied, AssetId, Body, ContractId, Entry, Event, Outcome, ROOT, Settlement, Statement};

use super::memory::Step;

/// A balancing group, by order of appearance; the root's is 0.
pub(crate) type Group = usize;

/// One thing for a group to do, in log order.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// Take this step.
    Step(Step),
    /// Hand this asset over to the group that is now its own.
    Release { asset: AssetId, to: Group },
}

/// The work that one entry makes.
#[derive(Debug, Default)]
pub(crate) struct Routed {
    /// By group.
    pub(crate) work: BTreeMap<Group, Vec<Item>>,
    /// Groups that begin with this entry, each with its head; those that were members elsewhere await what is
    /// released.
    pub(crate) founded: Vec<Founded>,
    /// What the ledger claims that needs no memory to refute.
    pub(crate) contradictions: Vec<String>,
}

/// A group that begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Founded {
    pub(crate) group: Group,
    pub(crate) head: AssetId,
    /// Whether its head's memory comes from another group.
    pub(crate) awaits: bool,
}

/// A block that waits for the groups' results.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// As the ledger has it.
    pub(crate) header: Header,
    /// How many groups report.
    pub(crate) reporters: usize,
}

/// Where every asset is at home.
#[derive(Debug)]
pub(crate) struct Routes {
    homes: BTreeMap<AssetId, Group>,
    heads: Vec<AssetId>,
    /// Owner and partner of each contract.
    parties: BTreeMap<ContractId, (AssetId, AssetId)>,
}

impl Default for Routes {
    fn default() -> Self {
        Routes {
            homes: BTreeMap::from([(ROOT.clone(), 0)]),
            heads: vec![ROOT.clone()],
            parties: BTreeMap::new(),
        }
    }
}

impl Routes {
    /// Splits what an entry did. `entry` is the log's: settlements come from there, not from the ledger.
    pub(crate) fn entry(&mut self, entry: &Entry, applied: &Applied) -> (Routed, Option<Expected>) {
        let mut routed = Routed::default();
        let mut settlements = accepted(entry, applied);
        let mut place = 0;
        for event in &applied.events {
            if let Event::Booked { statement } = event {
                match settlements.next() {
                    Some(settlement) => self.settled(settlement, statement, &mut routed),
                    None => routed.contradictions.push(format!(
                        "the ledger booked {statement:?}, but the log has no such settlement"
                    )),
                }
            } else {
                self.event(event, &mut place, &mut routed);
            }
        }
        if let Some(settlement) = settlements.next() {
            routed.contradictions.push(format!(
                "the ledger accepted {settlement:?}, but booked nothing for it"
            ));
        }
        let expected = applied.block.as_ref().map(|header| Expected {
            header: header.clone(),
            reporters: routed.work.len(),
        });
        (routed, expected)
    }

    /// Splits what recreates the memories from a snapshot.
    pub(crate) fn restore(&mut self, events: Vec<Event>) -> Routed {
        let mut routed = Routed::default();
        for event in &events {
            self.event(event, &mut 0, &mut routed);
        }
        routed
    }

    fn event(&mut self, event: &Event, place: &mut u32, routed: &mut Routed) {
        match event {
            // It is at home wherever it is first needed.
            Event::AssetAdded { .. } => {}
            Event::RuleSet { asset, rule } => {
                for upstream in [&rule.from, &rule.to].into_iter().flatten() {
                    self.found(upstream, routed);
                }
                let upstream = rule.to.as_ref().or(rule.from.as_ref()).unwrap_or(&ROOT);
                let group = self.home(upstream);
                self.homes.entry(asset.clone()).or_insert(group);
                self.push(
                    asset,
                    Step::Rule {
                        asset: asset.clone(),
                        rule: rule.clone(),
                    },
                    routed,
                );
            }
            Event::ContractSet { contract } => {
                let terms = &contract.terms;
                self.found(&terms.asset, routed);
                self.found(&terms.partner, routed);
                self.parties
                    .insert(terms.id.clone(), (terms.asset.clone(), terms.partner.clone()));
                self.push(
                    &terms.asset,
                    Step::Contract {
                        contract: contract.clone(),
                    },
                    routed,
                );
            }
            Event::AuditRuleSet { asset, rule } => {
                self.push(
                    asset,
                    Step::Audit {
                        asset: asset.clone(),
                        rule: rule.clone(),
                    },
                    routed,
                );
            }
            Event::Approved {
                asset,
                epoch,
                auditor,
            } => {
                let step = Step::Approved {
                    asset: asset.clone(),
                    epoch: *epoch,
                    auditor: *auditor,
                };
                self.push(asset, step, routed);
            }
            // Booked metered statements are paired with their settlements, and an export has none.
            Event::Booked { .. } => {}
            Event::Sealed(sealed) => {
                self.sealed(*place, sealed, routed);
                *place += 1;
            }
            Event::ContractRestored { contract, booked } => {
                if let Some((owner, _)) = self.parties.get(contract).cloned() {
                    let step = Step::ContractRestored {
                        owner: owner.clone(),
                        contract: contract.clone(),
                        booked: booked.clone(),
                    };
                    self.push(&owner, step, routed);
                }
            }
            Event::JournalRestored(image) => {
                self.push(
                    &image.asset.clone(),
                    Step::JournalRestored { image: image.clone() },
                    routed,
                );
            }
        }
    }

    fn settled(&mut self, settlement: &Settlement, claim: &Statement, routed: &mut Routed) {
        let meter = &settlement.meter;
        let step = Step::Settled {
            settlement: settlement.clone(),
            claim: claim.clone(),
        };
        self.push(meter, step, routed);
        self.book(other(claim, meter), claim, routed);
    }

    /// In the order in which the sealing did it, so that each partner's memory is at the same point when it
    /// confirms how it stood.
    fn sealed(&mut self, place: u32, sealed: &Sealed, routed: &mut Routed) {
        let (owner, epoch) = (&sealed.seal.asset, sealed.seal.epoch);
        if let Some(residual) = &sealed.residual {
            self.book(other(residual, owner), residual, routed);
        }
        for turn in &sealed.turns {
            let Some((_, partner)) = self.parties.get(&turn.contract).cloned() else {
                routed.contradictions.push(format!(
                    "the ledger served contract {}, which nobody made",
                    turn.contract
                ));
                continue;
            };
            let step = Step::Confirm {
                contract: turn.contract.clone(),
                partner: partner.clone(),
                epoch,
                view: turn.partner,
            };
            self.push(&partner, step, routed);
            if let Some((trade, counter)) = &turn.booked {
                self.book(other(trade, owner), trade, routed);
                self.book(other(counter, owner), counter, routed);
            }
        }
        self.push(
            owner,
            Step::Seal {
                place,
                claim: Arc::new(sealed.clone()),
            },
            routed,
        );
    }

    fn book(&mut self, asset: &AssetId, statement: &Statement, routed: &mut Routed) {
        self.push(
            asset,
            Step::Book {
                asset: asset.clone(),
                statement: statement.clone(),
            },
            routed,
        );
    }

    fn push(&mut self, asset: &AssetId, step: Step, routed: &mut Routed) {
        if *asset != *ROOT {
            let group = self.home(asset);
            routed.work.entry(group).or_default().push(Item::Step(step));
        }
    }

    fn home(&mut self, asset: &AssetId) -> Group {
        match self.homes.get(asset) {
            Some(group) => *group,
            None => {
                self.homes.insert(asset.clone(), 0);
                0
            }
        }
    }

    /// Makes an asset the head of a group of its own, if it isn't yet.
    fn found(&mut self, asset: &AssetId, routed: &mut Routed) {
        let before = self.homes.get(asset).copied();
        if before.is_some_and(|group| self.heads.get(group) == Some(asset)) {
            return;
        }
        let group = self.heads.len();
        self.heads.push(asset.clone());
        self.homes.insert(asset.clone(), group);
        routed.founded.push(Founded {
            group,
            head: asset.clone(),
            awaits: before.is_some(),
        });
        if let Some(before) = before {
            let release = Item::Release {
                asset: asset.clone(),
                to: group,
            };
            routed.work.entry(before).or_default().push(release);
        }
    }
}

/// The settlements of the log entry that the ledger says it accepted, in order.
fn accepted<'a>(entry: &'a Entry, applied: &'a Applied) -> impl Iterator<Item = &'a Settlement> {
    let envelopes = match &entry.body {
        Body::Envelopes { envelopes } => envelopes.as_slice(),
        _ => &[],
    };
    envelopes
        .iter()
        .zip(&applied.answers)
        .filter(|(_, answer)| !answer.duplicate && matches!(answer.outcome, Outcome::Settled { .. }))
        .flat_map(|(envelope, _)| match &envelope.action {
            ledger::Action::Settle { settlements } => settlements.as_slice(),
            _ => &[],
        })
}

/// Who stands on the other side.
fn other<'a>(statement: &'a Statement, asset: &AssetId) -> &'a AssetId {
    if statement.from == *asset {
        &statement.to
    } else {
        &statement.from
    }
}
