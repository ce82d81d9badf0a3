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
use ledger::statement::{Kind, MeterSide};
use ledger::{
    Action, Applied, AssetId, Body, ContractId, Entry, Epoch, Event, Outcome, ROOT, RosterBatch, RosterId,
    Settlement, Statement,
};

use super::agreed;
use super::book::{Row, Rows};
use super::memory::Step;
use super::names::{Names, Num, ROOT_NUM};

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
    names: Names,
    /// By number; a name that no group heard of yet has none.
    homes: Vec<Option<Group>>,
    heads: Vec<AssetId>,
    /// Upstreams by number, as each rule names them: from, to.
    links: Vec<[Option<Num>; 2]>,
    /// Rosters as numbers.
    rosters: BTreeMap<RosterId, Arc<[Num]>>,
    /// Owner and partner of each contract.
    parties: BTreeMap<ContractId, (AssetId, AssetId)>,
}

impl Default for Routes {
    fn default() -> Self {
        Routes {
            names: Names::default(),
            homes: vec![Some(0)],
            heads: vec![ROOT.clone()],
            links: Vec::new(),
            rosters: BTreeMap::new(),
            parties: BTreeMap::new(),
        }
    }
}

impl Routes {
    /// The numbering of names that goes with these routes.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Splits what an entry did. `entry` is the log's: settlements come from there, not from the ledger, and what was agreed must
    /// stand there.
    pub(crate) fn entry(&mut self, entry: &Entry, applied: &Applied) -> (Routed, Option<Expected>) {
        let mut routed = Routed {
            contradictions: agreed::contradiction(entry, applied).into_iter().collect(),
            ..Routed::default()
        };
        let mut accepted = Accepted::of(entry, applied);
        let (mut place, mut position) = (0, 0);
        for event in &applied.events {
            match event {
                Event::Booked { statement } => {
                    match accepted.settlements.next() {
                        Some(settlement) => self.settled(settlement, statement, &mut routed),
                        None => routed.contradictions.push(format!(
                            "the ledger booked {statement:?}, but the log has no such settlement"
                        )),
                    }
                    position += 1;
                }
                Event::RosterBooked {
                    first, count, sums, ..
                } => {
                    match accepted.batches.next() {
                        Some(batch) if *first == position && *count as usize == batch.rows.len() => {
                            // Before anything else is signed: what stands in the journals shows only when they are sealed.
                            if *sums != sums_of(batch) {
                                routed.contradictions.push(format!(
                                    "the ledger booked {sums:?} Wh and g in a batch of {count} settlements, the log has {:?}",
                                    sums_of(batch)
                                ));
                            }
                            self.batch(batch, applied.index, position, &mut routed);
                        }
                        other => routed.contradictions.push(format!(
                            "the ledger booked {count} settlements at position {first}, but at {position} the log has {} in a batch",
                            other.map_or(0, |batch| batch.rows.len())
                        )),
                    }
                    position += count;
                }
                event => {
                    if let Event::Sealed(sealed) = event {
                        position += u32::try_from(sealed.statements().count()).unwrap_or(u32::MAX);
                    }
                    self.event(event, &mut place, &mut routed);
                }
            }
        }
        if let Some(settlement) = accepted.settlements.next() {
            routed.contradictions.push(format!(
                "the ledger accepted {settlement:?}, but booked nothing for it"
            ));
        }
        if let Some(batch) = accepted.batches.next() {
            routed.contradictions.push(format!(
                "the ledger accepted {} settlements of roster {}, but booked nothing for them",
                batch.rows.len(),
                batch.roster
            ));
        }
        let expected = applied.block.as_ref().map(|header| Expected {
            header: header.clone(),
            reporters: routed.work.len(),
        });
        (routed, expected)
    }

    /// Lets every group forget an epoch.
    pub(crate) fn forget(&self, epoch: Epoch) -> Routed {
        let mut routed = Routed::default();
        for group in 0..self.heads.len() {
            let step = Item::Step(Step::Forget { epoch });
            routed.work.entry(group).or_default().push(step);
        }
        routed
    }

    /// Splits some of what recreates the memories from a snapshot, or those of one epoch from the archive.
    pub(crate) fn restore(&mut self, events: &[Event]) -> Routed {
        let mut routed = Routed::default();
        for event in events {
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
                let number = self.names.number(asset);
                let home = grown(&mut self.homes, number, None);
                home.get_or_insert(group);
                let links = [&rule.from, &rule.to].map(|link| link.as_ref().map(|id| self.names.number(id)));
                *grown(&mut self.links, number, [None, None]) = links;
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
            // Settlements' statements are paired with what the log has of them, and an export has none.
            Event::Booked { .. } | Event::RosterBooked { .. } => {}
            Event::RosterAdded { roster, meters } => {
                let numbers = meters.iter().map(|meter| self.names.number(meter)).collect();
                self.rosters.insert(*roster, numbers);
            }
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
            Event::OpenRestored { statement, open } => self.restored(statement, *open, routed),
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

    /// Makes the statements of a batch from the log's rows and the meters' rules, and hands each to the groups of its sides.
    fn batch(&mut self, batch: &RosterBatch, index: u64, first: u32, routed: &mut Routed) {
        let Some(meters) = self.rosters.get(&batch.roster).cloned() else {
            let message = format!(
                "the ledger booked a batch of roster {}, which nobody gave",
                batch.roster
            );
            routed.contradictions.push(message);
            return;
        };
        let mut parts: BTreeMap<Group, Vec<Row>> = BTreeMap::new();
        for (row, position) in batch.rows.iter().zip(first..) {
            let Some(meter) = meters.get(row.place as usize).copied() else {
                let message = format!("the ledger booked place {} of roster {}", row.place, batch.roster);
                routed.contradictions.push(message);
                return;
            };
            let (side, other) = self.flow(meter, row.consumption);
            let (from, to) = match side {
                MeterSide::From => (meter, other),
                MeterSide::To => (other, meter),
            };
            let own = Row {
                energy: row.consumption.abs(),
                co2: row.co2eq,
                position,
                from,
                to,
                meter: side,
                home: [false, false],
            };
            let homes = [from, to].map(|asset| self.home_of(asset));
            for (group, row) in at_home(own, homes) {
                parts.entry(group).or_default().push(row);
            }
        }
        for (group, rows) in parts {
            let step = Step::Rows(Rows {
                epoch: batch.epoch,
                label: batch.label.clone(),
                index,
                rows,
            });
            routed.work.entry(group).or_default().push(Item::Step(step));
        }
    }

    /// A statement that is open for these of its sides. Settlements go as rows, as in a batch, for they are many.
    fn restored(&mut self, statement: &Statement, open: [bool; 2], routed: &mut Routed) {
        let ids = [&statement.from, &statement.to];
        let Kind::Metered { meter, label } = &statement.kind else {
            for (asset, _) in ids.into_iter().zip(open).filter(|(_, open)| *open) {
                self.book(asset, statement, routed);
            }
            return;
        };
        let [from, to] = ids.map(|id| self.names.number(id));
        let mut home = |asset, open: bool| open.then(|| self.home_of(asset)).flatten();
        let homes = [home(from, open[0]), home(to, open[1])];
        let own = Row {
            energy: statement.energy.get(),
            co2: statement.co2eq.get(),
            position: statement.id.position,
            from,
            to,
            meter: *meter,
            home: [false, false],
        };
        let (epoch, index) = (statement.epoch, statement.id.index);
        for (group, row) in at_home(own, homes) {
            let items = routed.work.entry(group).or_default();
            match items.last_mut() {
                Some(Item::Step(Step::Rows(rows)))
                    if (rows.epoch, rows.index, &rows.label) == (epoch, index, label) =>
                {
                    rows.rows.push(row);
                }
                _ => items.push(Item::Step(Step::Rows(Rows {
                    epoch,
                    label: label.clone(),
                    index,
                    rows: vec![row],
                }))),
            }
        }
    }

    /// The same as [`ledger::settlement::flow`], by numbers: the meter's side, and who stands on the other.
    fn flow(&self, meter: Num, consumption: i64) -> (MeterSide, Num) {
        let links = self.links.get(meter as usize).copied().unwrap_or_default();
        let (side, other) = match links {
            [_, Some(to)] => (MeterSide::From, to),
            [Some(from), None] => (MeterSide::To, from),
            [None, None] => (MeterSide::To, ROOT_NUM),
        };
        (if consumption < 0 { side.other() } else { side }, other)
    }

    /// The group of an asset; none keeps the root's side.
    fn home_of(&mut self, asset: Num) -> Option<Group> {
        (asset != ROOT_NUM).then(|| *grown(&mut self.homes, asset, None).get_or_insert(0))
    }

    /// In the order in which the sealing did it, so that each partner's memory is at the same point when it
    /// confirms how it stood.
    fn sealed(&mut self, place: u32, sealed: &Arc<Sealed>, routed: &mut Routed) {
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
                claim: Arc::clone(sealed),
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
        let number = self.names.number(asset);
        *grown(&mut self.homes, number, None).get_or_insert(0)
    }

    /// Makes an asset the head of a group of its own, if it isn't yet.
    fn found(&mut self, asset: &AssetId, routed: &mut Routed) {
        let number = self.names.number(asset);
        let before = *grown(&mut self.homes, number, None);
        if before.is_some_and(|group| self.heads.get(group) == Some(asset)) {
            return;
        }
        let group = self.heads.len();
        self.heads.push(asset.clone());
        *grown(&mut self.homes, number, None) = Some(group);
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

/// What the ledger says it accepted, as it stands in the log, in order.
struct Accepted<S, B> {
    settlements: S,
    batches: B,
}

impl<'a> Accepted<(), ()> {
    fn of(
        entry: &'a Entry,
        applied: &'a Applied,
    ) -> Accepted<impl Iterator<Item = &'a Settlement>, impl Iterator<Item = &'a RosterBatch>> {
        let envelopes = match &entry.body {
            Body::Envelopes { envelopes } => envelopes.as_slice(),
            _ => &[],
        };
        let actions = move || {
            envelopes
                .iter()
                .zip(&applied.answers)
                .filter(|(_, answer)| !answer.duplicate && matches!(answer.outcome, Outcome::Settled { .. }))
                .map(|(envelope, _)| &envelope.action)
        };
        Accepted {
            settlements: actions().flat_map(|action| match action {
                Action::Settle { settlements } => settlements.as_slice(),
                _ => &[],
            }),
            batches: actions().filter_map(|action| match action {
                Action::SettleRoster { batch } if !batch.rows.is_empty() => Some(batch),
                _ => None,
            }),
        }
    }
}

/// The value at a number, the list being made long enough for it.
fn grown<T: Copy>(list: &mut Vec<T>, number: Num, fill: T) -> &mut T {
    let place = number as usize;
    if list.len() <= place {
        list.resize(place + 1, fill);
    }
    &mut list[place]
}

/// A row for each group in which one of its sides is at home.
fn at_home(row: Row, [from, to]: [Option<Group>; 2]) -> impl Iterator<Item = (Group, Row)> {
    let first = from.map(|group| (group, [true, to == from]));
    let second = to.filter(|_| to != from).map(|group| (group, [false, true]));
    let homes = first.into_iter().chain(second);
    homes.map(move |(group, home)| (group, Row { home, ..row }))
}

/// Who stands on the other side.
fn other<'a>(statement: &'a Statement, asset: &AssetId) -> &'a AssetId {
    if statement.from == *asset {
        &statement.to
    } else {
        &statement.from
    }
}
/// What the settlements of a batch have together, in watt-hours, whichever way they flow, and in grams.
fn sums_of(batch: &RosterBatch) -> (i128, i128) {
    batch.rows.iter().fold((0, 0), |(energy, co2), row| {
        let (more, co2eq) = (row.consumption.unsigned_abs(), row.co2eq);
        (energy + i128::from(more), co2 + i128::from(co2eq))
    })
}
