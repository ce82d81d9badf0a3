//! One epoch of a balancing group's memory: its members' journals as far as they are not sealed, and what is left of
//! the sealed part.
//!
//! A statement between two members is kept once, a settlement in 32 bytes; it is hashed when a seal covers it, or as it
//! comes where many come. Of a sealed part remain two balances and a Merkle frontier, whose size doesn't grow with the statements.

use std::collections::{BTreeMap, BTreeSet};

use ledger::balance::Balance;
use ledger::chunks::Chunks;
use ledger::lists::{List, Lists};
use ledger::merkle::Frontier;
use ledger::numbers::Numbers;
use ledger::statement::{Kind, Label, MeterSide, Metered};
use ledger::{Digest, Epoch, GramsCo2, PublicKey, Statement, StatementId, Wh};

use super::names::{Names, Num, Table};

/// A settlement's statement, made by the router from the log's settlement and the meter's rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) energy: i64,
    pub(crate) co2: i64,
    pub(crate) position: u32,
    pub(crate) from: Num,
    pub(crate) to: Num,
    /// On which side the meter stands.
    pub(crate) meter: MeterSide,
    /// Which of the sides, from and to, are at home in the group.
    pub(crate) home: [bool; 2],
}

/// Settlements of one batch, for one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) epoch: Epoch,
    pub(crate) label: Label,
    /// The entry's index.
    pub(crate) index: u64,
    /// In booking order.
    pub(crate) rows: Vec<Row>,
}

/// A statement as it is kept.
#[derive(Clone, Copy, Debug)]
struct Kept {
    energy: i64,
    co2: i64,
    position: u32,
    from: Num,
    to: Num,
    what: What,
}

/// What it is, with the number of its label or of the statement itself.
#[derive(Clone, Copy, Debug)]
struct What(u32);

impl What {
    const BITS: u32 = 30;
    const NUMBERS: u32 = 1 << Self::BITS;

    fn new(kind: u32, number: usize) -> What {
        // 2^30 statements of one epoch would take 40 GB.
        let number = u32::try_from(number)
            .ok()
            .filter(|number| *number < Self::NUMBERS);
        What(kind << Self::BITS | number.expect("less than 2^30 statements in an epoch"))
    }

    fn metered(meter: MeterSide, label: usize) -> What {
        What::new(u32::from(meter == MeterSide::From), label)
    }

    fn whole(number: usize) -> What {
        What::new(2, number)
    }

    fn number(self) -> usize {
        (self.0 % Self::NUMBERS) as usize
    }

    /// On which side the meter of a settlement stands.
    fn meter(self) -> Option<MeterSide> {
        match self.0 >> Self::BITS {
            0 => Some(MeterSide::To),
            1 => Some(MeterSide::From),
            _ => None,
        }
    }
}

/// What is remembered of an asset's sealed part.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    /// Version and digest of the newest seal.
    pub(crate) newest: (u32, Digest),
    /// The balance up to its watermark.
    pub(crate) sealed: Balance,
    /// The frontier up to it.
    pub(crate) frontier: Frontier,
}

/// A member's journal, once there is more to it than one open statement.
#[derive(Clone, Debug, Default)]
struct Journal {
    /// Past the watermark.
    open: Numbers<Tally>,
    past: Option<Box<Past>>,
}

/// What is kept up to date of a long open part, so that recomputing its seal costs what came last.
#[derive(Clone, Debug, Default)]
struct Tally {
    balance: Balance,
    /// The Merkle frontier over the sealed part and the first `hashed` open statements.
    ahead: Frontier,
    hashed: usize,
}

/// Open parts of so many statements are hashed as they grow, shorter ones when they are sealed.
const HASHED_FROM: usize = 16;
/// With each statement that comes, so many are hashed, until all are.
const HASHED_AT_ONCE: usize = 3;

impl Journal {
    /// The journal of one open statement, or of none yet.
    fn of(number: Option<u32>) -> Journal {
        let mut journal = Journal::default();
        if let Some(number) = number {
            // One number is no long list.
            journal.open.push(number, |_| {}, |_| Tally::default());
        }
        journal
    }

    /// Hashes of what isn't hashed yet a little, if the open part is long.
    fn hash_ahead(&mut self, digest: impl FnMut(u32) -> Digest) {
        if let Some((numbers, tally)) = self.open.tally_mut()
            && numbers.len() >= HASHED_FROM
        {
            let bite = numbers.len().min(tally.hashed + HASHED_AT_ONCE);
            extend(&mut tally.ahead, &numbers[tally.hashed..bite], digest);
            tally.hashed = bite;
        }
    }
}

/// Takes these statements into a frontier.
fn extend(frontier: &mut Frontier, numbers: &[u32], mut digest: impl FnMut(u32) -> Digest) {
    numbers.iter().for_each(|number| frontier.push(digest(*number)));
}

/// Statements by number.
#[derive(Clone, Debug, Default)]
struct Statements {
    kept: Chunks<Kept>,
    /// From which number on statements are of the entry with this index.
    entries: Vec<(u32, u64)>,
    /// Those of them that are no settlements.
    whole: Vec<Statement>,
    labels: Vec<Label>,
    by_label: BTreeMap<Label, usize>,
}

/// One epoch of a group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    statements: Statements,
    journals: Lists<Journal>,
    /// How many of them have an open part.
    open: usize,
    /// For the next seals.
    approvals: BTreeMap<Num, BTreeSet<PublicKey>>,
}

/// One asset's part of a book, on its way from one group to another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leaf {
    pub(crate) past: Option<Box<Past>>,
    pub(crate) open: Vec<Statement>,
    pub(crate) approvals: BTreeSet<PublicKey>,
}

impl Book {
    /// Takes in settlements of a batch.
    pub(crate) fn add_rows(&mut self, batch: &Rows, names: &Names) {
        let label = self.statements.label(&batch.label);
        let names = names.read();
        for row in &batch.rows {
            let kept = Kept {
                energy: row.energy,
                co2: row.co2,
                position: row.position,
                from: row.from,
                to: row.to,
                what: What::metered(row.meter, label),
            };
            let number = self.statements.push(batch.index, kept);
            let sides = [row.from, row.to].into_iter().zip(row.home);
            let home = sides.filter_map(|(asset, home)| home.then_some(asset));
            self.enter(home, number, batch.epoch, &names);
        }
    }

    /// Takes a statement into one member's journal.
    pub(crate) fn add(&mut self, asset: Num, statement: &Statement, names: &Names) {
        let what = match &statement.kind {
            Kind::Metered { meter, label } => What::metered(*meter, self.statements.label(label)),
            _ => self.statements.whole(statement),
        };
        let kept = Kept {
            energy: statement.energy.get(),
            co2: statement.co2eq.get(),
            position: statement.id.position,
            from: names.number(&statement.from),
            to: names.number(&statement.to),
            what,
        };
        let number = self.statements.push(statement.id.index, kept);
        self.enter([asset], number, statement.epoch, &names.read());
    }

    /// Enters a statement in the journals of these members.
    fn enter(&mut self, members: impl IntoIterator<Item = Num>, number: u32, epoch: Epoch, names: &Table) {
        let statements = &self.statements;
        // Made for the first journal that needs it.
        let mut made = None;
        for asset in members {
            let Some(journal) = self.journals.first(asset, number, Journal::of) else {
                self.open += 1;
                continue;
            };
            self.open += usize::from(journal.open.is_empty());
            let past = journal.past.as_deref();
            journal.open.push(
                number,
                |tally| statements.add_to(&mut tally.balance, number, asset),
                |numbers| Tally {
                    balance: statements.sum(numbers, asset),
                    ahead: past.map(|past| past.frontier.clone()).unwrap_or_default(),
                    hashed: 0,
                },
            );
            journal.hash_ahead(|one| match one == number {
                true => *made.get_or_insert_with(|| statements.digest(one, epoch, names)),
                false => statements.digest(one, epoch, names),
            });
        }
    }

    /// What is remembered of an asset's sealed part; nothing if it has none.
    pub(crate) fn past(&self, asset: Num) -> Option<&Past> {
        match self.journals.get(asset)? {
            List::One(_) => None,
            List::Full(journal) => journal.past.as_deref(),
        }
    }

    /// The numbers of an asset's open part, and its tally if it is long.
    fn open_part(&self, asset: Num) -> (&[u32], Option<&Tally>) {
        match self.journals.get(asset) {
            None => (&[], None),
            Some(List::One(number)) => (std::slice::from_ref(number), None),
            Some(List::Full(journal)) => (journal.open.as_slice(), journal.open.tally()),
        }
    }

    /// The balance of an asset's open part.
    pub(crate) fn open(&self, asset: Num) -> Balance {
        match self.open_part(asset) {
            (_, Some(tally)) => tally.balance,
            (numbers, None) => self.statements.sum(numbers, asset),
        }
    }

    /// The Merkle frontier over all of an asset's statements, the open ones included.
    pub(crate) fn frontier(&self, asset: Num, epoch: Epoch, names: &Names) -> Frontier {
        let (numbers, tally) = self.open_part(asset);
        let (mut frontier, hashed) = match tally {
            Some(tally) => (tally.ahead.clone(), tally.hashed),
            None => {
                let past = self.past(asset);
                (past.map(|past| past.frontier.clone()).unwrap_or_default(), 0)
            }
        };
        let names = names.read();
        extend(&mut frontier, &numbers[hashed..], |number| {
            self.statements.digest(number, epoch, &names)
        });
        frontier
    }

    fn open_statements<'a>(
        &'a self,
        asset: Num,
        epoch: Epoch,
        names: &'a Table,
    ) -> impl Iterator<Item = Statement> + 'a {
        let (numbers, _) = self.open_part(asset);
        numbers
            .iter()
            .map(move |number| self.statements.statement(*number, epoch, names))
    }

    /// All of the asset's open part is sealed now.
    pub(crate) fn seal(&mut self, asset: Num, past: Past) {
        let journal = self.journals.filled(asset, Journal::of);
        self.open -= usize::from(!journal.open.is_empty());
        journal.open = Numbers::default();
        journal.past = Some(Box::new(past));
        self.approvals.remove(&asset);
        self.tidy();
    }

    /// Gives statements back that no journal needs any more.
    fn tidy(&mut self) {
        if self.open == 0 {
            self.statements = Statements::default();
        }
    }

    /// Approvals for an asset's next seal.
    pub(crate) fn approvals(&self, asset: Num) -> BTreeSet<PublicKey> {
        self.approvals.get(&asset).cloned().unwrap_or_default()
    }

    /// Takes down an approval.
    pub(crate) fn approve(&mut self, asset: Num, auditor: PublicKey) {
        self.approvals.entry(asset).or_default().insert(auditor);
    }

    /// Forgets an asset and hands over what there was of it.
    pub(crate) fn take(&mut self, asset: Num, epoch: Epoch, names: &Names) -> Option<Leaf> {
        let open = self.open_statements(asset, epoch, &names.read()).collect();
        let journal = self.journals.remove(asset, Journal::of);
        let approvals = self.approvals.remove(&asset);
        if journal.is_none() && approvals.is_none() {
            return None;
        }
        let journal = journal.unwrap_or_default();
        self.open -= usize::from(!journal.open.is_empty());
        self.tidy();
        Some(Leaf {
            past: journal.past,
            open,
            approvals: approvals.unwrap_or_default(),
        })
    }

    /// Takes over the sealed part of an asset of which nothing is known here.
    pub(crate) fn restore(&mut self, asset: Num, past: Past) {
        self.journals.filled(asset, Journal::of).past = Some(Box::new(past));
    }

    /// Takes over an asset of which nothing is known here.
    pub(crate) fn put(&mut self, asset: Num, leaf: Leaf, names: &Names) {
        let Leaf {
            past,
            open,
            approvals,
        } = leaf;
        if let Some(past) = past {
            self.restore(asset, *past);
        }
        for statement in &open {
            self.add(asset, statement, names);
        }
        if !approvals.is_empty() {
            self.approvals.insert(asset, approvals);
        }
    }
}

impl Statements {
    /// Keeps a statement of the entry with this index; its number.
    fn push(&mut self, index: u64, kept: Kept) -> u32 {
        // `What` has seen to it that there are fewer.
        let number = u32::try_from(self.kept.len()).unwrap_or(u32::MAX);
        self.kept.push(kept);
        if self.entries.last().is_none_or(|(_, last)| *last != index) {
            self.entries.push((number, index));
        }
        number
    }

    fn id(&self, number: u32) -> StatementId {
        let entry = match self.entries.last() {
            // Mostly it is one of the last.
            Some(last) if last.0 <= number => last,
            _ => &self.entries[self.entries.partition_point(|(first, _)| *first <= number) - 1],
        };
        StatementId {
            index: entry.1,
            position: self.kept.at(number as usize).position,
        }
    }

    fn label(&mut self, label: &Label) -> usize {
        if let Some(known) = self.by_label.get(label) {
            return *known;
        }
        let number = self.labels.len();
        self.labels.push(label.clone());
        self.by_label.insert(label.clone(), number);
        number
    }

    fn whole(&mut self, statement: &Statement) -> What {
        self.whole.push(statement.clone());
        What::whole(self.whole.len() - 1)
    }

    /// A statement's digest. A settlement is hashed without being made.
    fn digest(&self, number: u32, epoch: Epoch, names: &Table) -> Digest {
        let kept = self.kept.at(number as usize);
        let Some(meter) = kept.what.meter() else {
            return self.whole[kept.what.number()].digest();
        };
        let metered = Metered {
            id: self.id(number),
            from: names.name(kept.from),
            to: names.name(kept.to),
            epoch,
            energy: kept.energy,
            co2eq: kept.co2,
            meter,
            label: &self.labels[kept.what.number()],
        };
        metered.digest()
    }

    fn statement(&self, number: u32, epoch: Epoch, names: &Table) -> Statement {
        let kept = self.kept.at(number as usize);
        let Some(meter) = kept.what.meter() else {
            return self.whole[kept.what.number()].clone();
        };
        Statement {
            id: self.id(number),
            from: names.name(kept.from).clone(),
            to: names.name(kept.to).clone(),
            epoch,
            // The router takes only rows that are in range.
            energy: Wh::new(kept.energy).unwrap_or_default(),
            co2eq: GramsCo2::new(kept.co2).unwrap_or_default(),
            kind: Kind::Metered {
                meter,
                label: self.labels[kept.what.number()].clone(),
            },
        }
    }

    /// Adds a statement as `asset` sees it.
    fn add_to(&self, balance: &mut Balance, number: u32, asset: Num) {
        let kept = self.kept.at(number as usize);
        let side = if kept.from == asset {
            MeterSide::From
        } else {
            MeterSide::To
        };
        let own = kept.what.meter() == Some(side);
        balance.add_side(side, own, kept.energy.into(), kept.co2.into());
    }

    fn sum(&self, numbers: &[u32], asset: Num) -> Balance {
        let mut balance = Balance::default();
        numbers
            .iter()
            .for_each(|number| self.add_to(&mut balance, *number, asset));
        balance
    }
}

#[cfg(test)]
mod tests {
    use ledger::AssetId;

    use super::*;

    fn number(n: u64) -> i64 {
        i64::try_from(n).expect("small")
    }

    /// The meter's settlement of the entry with this index: the meter draws from the street.
    fn statement(index: u64) -> Statement {
        let name = |name: &str| AssetId::try_from(name).expect("a name");
        Statement {
            id: StatementId { index, position: 0 },
            from: name("street"),
            to: name("meter"),
            epoch: Epoch::new(7).expect("an epoch"),
            energy: Wh::new(number(index) * 3 + 1).expect("in range"),
            co2eq: GramsCo2::new(-number(index)).expect("in range"),
            kind: Kind::Metered {
                meter: MeterSide::To,
                label: Label::try_from("virtual_1").expect("a label"),
            },
        }
    }

    /// Hashing as statements come changes nothing: however long the journal, sealed in between or not, come as rows or
    /// one by one, moved to another group or not, its frontier is that over the digests, its balance the sum.
    #[test]
    fn a_journal_is_hashed_as_it_grows_like_all_at_once() {
        let names = Names::default();
        let [street, meter] = ["street", "meter"].map(|name| names.number(&name.try_into().expect("a name")));
        let mut book = Book::default();
        let (mut whole, mut open) = (Frontier::default(), 0);
        for index in 0..200 {
            let one = statement(index);
            whole.push(one.digest());
            open += i128::from(one.energy.get());
            if index % 3 == 0 {
                book.add(meter, &one, &names);
            } else {
                let row = Row {
                    energy: one.energy.get(),
                    co2: one.co2eq.get(),
                    position: 0,
                    from: street,
                    to: meter,
                    meter: MeterSide::To,
                    home: [false, true],
                };
                let rows = Rows {
                    epoch: one.epoch,
                    label: one.label().try_into().expect("a label"),
                    index,
                    rows: vec![row],
                };
                book.add_rows(&rows, &names);
            }
            assert_eq!(book.frontier(meter, one.epoch, &names), whole, "at {index}");
            assert_eq!(book.open(meter).total_in().energy, open, "at {index}");
            if [0, 14, 90].contains(&index) {
                let past = Past {
                    newest: (0, Digest::ZERO),
                    sealed: book.open(meter),
                    frontier: whole.clone(),
                };
                book.seal(meter, past);
                open = 0;
            }
            if index % 70 == 69 {
                let leaf = book.take(meter, one.epoch, &names).expect("it is there");
                book = Book::default();
                book.put(meter, leaf, &names);
            }
        }
    }
}
