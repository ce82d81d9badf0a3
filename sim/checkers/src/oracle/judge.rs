//! A ledger and the oracle side by side over one committed log: every answer, every statement, every seal and every
//! block must be the same, and what a retry gets must be what it got.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::answer::Answer;
use super::book::{self, Book};
use super::digest::hex;
use super::entry::Nonce;
use crate::subject::{Applied, Subject};

/// What a committed log entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a leader began.
    Blank,
    /// An entry of the ledger.
    App(Bytes),
    /// Who votes from here on: one configuration, or two while they change.
    Membership(Vec<BTreeSet<u64>>),
}

/// Which promise a difference breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// What was booked, sealed or answered.
    Result,
    /// Who may do what, and until when.
    Authority,
    /// What happens once.
    Once,
    /// Which signatures count, and what they make final.
    Certificate,
}

/// Where the ledger and the oracle part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// At which entry.
    pub index: u64,
    /// What about.
    pub kind: Kind,
    /// In words.
    pub what: String,
}

/// What became of what was asked under a nonce.
#[derive(Clone, Debug)]
pub struct FirstAnswer {
    /// The nonce.
    pub nonce: Nonce,
    /// By which entry.
    pub index: u64,
    /// The code, if it was refused.
    pub code: Option<String>,
    /// All that a client may be told of it; see [`super::answer::Answer::heard`].
    pub words: String,
}

/// Both after the whole log.
pub struct Judgement<S> {
    /// The ledger that is judged, fresh, with the whole log applied.
    pub ledger: S,
    /// The oracle's.
    pub book: Book,
    /// The ledger's running digest after each entry.
    pub states: BTreeMap<u64, String>,
    /// Where they part, in log order.
    pub differences: Vec<Difference>,
    /// What was done, or refused for what it asked, under each nonce; retries aside.
    pub first_answers: Vec<FirstAnswer>,
    /// How often what occurred: states that a run should reach now and then.
    pub seen: BTreeMap<&'static str, u64>,
}

impl<S: Subject> Judgement<S> {
    /// A ledger and an oracle before all entries.
    pub fn new() -> Self {
        Judgement {
            ledger: S::new(),
            book: Book::default(),
            states: BTreeMap::new(),
            differences: Vec::new(),
            first_answers: Vec::new(),
            seen: BTreeMap::new(),
        }
    }

    /// Both take the whole log, which begins with its first entry and has no gap.
    pub fn of<'a>(log: impl IntoIterator<Item = (&'a u64, &'a Payload)>) -> Self {
        let mut judgement = Judgement::new();
        for (index, payload) in log {
            judgement.apply(*index, payload);
        }
        judgement
    }

    /// Both take the next entry.
    pub fn apply(&mut self, index: u64, payload: &Payload) {
        match payload {
            Payload::Blank => self.ledger.apply_blank(index),
            Payload::Membership(configs) => {
                self.ledger.apply_membership(index, configs);
                self.book.membership(configs.clone());
                match &configs[..] {
                    [_, _, ..] => self.count("a joint configuration"),
                    [voters] if voters.len() == 3 => self.count("three voters"),
                    [voters] if voters.len() >= 7 => self.count("seven voters"),
                    _ => {}
                }
            }
            Payload::App(bytes) => {
                let ours = self.ledger.apply(index, bytes);
                let sealed = self.book.oracle.seals.len();
                let theirs = self.book.apply(index, bytes, self.ledger.state());
                self.compare(index, &ours, &theirs);
                self.note(index, &theirs, sealed);
            }
        }
        self.states.insert(index, hex(&self.ledger.state()));
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn differ(&mut self, index: u64, kind: Kind, what: String) {
        if self.differences.len() < 100 {
            self.differences.push(Difference { index, kind, what });
        }
    }

    fn compare(&mut self, index: u64, ours: &Applied, theirs: &book::Applied) {
        if ours.answers.len() != theirs.answers.len() {
            let what = format!(
                "{} answers, the oracle gives {}",
                ours.answers.len(),
                theirs.answers.len()
            );
            self.differ(index, Kind::Result, what);
        }
        for (a, b) in ours.answers.iter().zip(&theirs.answers) {
            let (told, expected) = (&a.answer, b.answer.to_string());
            let who = format!("{}/{}", hex(&b.signer[..4]), hex(&b.nonce[..4]));
            if a.duplicate != b.duplicate {
                let what = format!(
                    "{who} is a retry: {}; the oracle says {}",
                    a.duplicate, b.duplicate
                );
                self.differ(index, Kind::Once, what);
            } else if *told != expected {
                let kind = kind_of(told).max(kind_of(&expected)).max(if a.duplicate {
                    Kind::Once
                } else {
                    Kind::Result
                });
                self.differ(
                    index,
                    kind,
                    format!("{who} is answered \"{told}\"; the oracle says \"{expected}\""),
                );
            }
        }
        self.compare_bookings(index, ours, theirs);
        self.compare_blocks(index, ours, theirs);
    }

    fn compare_bookings(&mut self, index: u64, ours: &Applied, theirs: &book::Applied) {
        if ours.booked != theirs.booked {
            let at = ours
                .booked
                .iter()
                .zip(&theirs.booked)
                .position(|(a, b)| a != b)
                .unwrap_or(ours.booked.len().min(theirs.booked.len()));
            let what = format!(
                "booked {:?}; the oracle books {:?}",
                ours.booked.get(at),
                theirs.booked.get(at)
            );
            self.differ(index, Kind::Result, what);
        } else if ours.seals != theirs.seals {
            let at = ours.seals.iter().zip(&theirs.seals).position(|(a, b)| a != b);
            let what = format!(
                "{} seals, the oracle makes {}; they part at {at:?}",
                ours.seals.len(),
                theirs.seals.len()
            );
            self.differ(index, Kind::Result, what);
        }
    }

    fn compare_blocks(&mut self, index: u64, ours: &Applied, theirs: &book::Applied) {
        let (made, expected) = (
            &ours.block,
            self.book.blocks.get(&index).map(|block| block.header.clone()),
        );
        if *made != expected {
            self.differ(
                index,
                Kind::Certificate,
                format!("the block is {made:?}; the oracle's is {expected:?}"),
            );
        }
        let codes: Vec<Option<&str>> = ours.attested.iter().map(Option::as_deref).collect();
        if codes != theirs.attested {
            let what = format!(
                "signatures are answered {codes:?}; the oracle says {:?}",
                theirs.attested
            );
            self.differ(index, Kind::Certificate, what);
        }
        if ours.certified != theirs.certified {
            let what = format!(
                "certifies the blocks {:?}; the oracle {:?}",
                ours.certified, theirs.certified
            );
            self.differ(index, Kind::Certificate, what);
        }
    }

    /// Counts what a run should reach now and then at an entry; there were so many seals before.
    fn note(&mut self, index: u64, applied: &book::Applied, sealed: usize) {
        for answered in &applied.answers {
            if answered.duplicate {
                self.count("a retry that was a duplicate");
                continue;
            }
            let code = answered.answer.code().map(str::to_owned);
            // What was not even let in may come again, and be let in then.
            if code.as_deref().is_none_or(|code| {
                kind_of(&format!("refused: {code}")) == Kind::Result || code == "not_admin"
            }) {
                self.first_answers.push(FirstAnswer {
                    nonce: answered.nonce,
                    index: answered.index,
                    code,
                    words: answered.answer.heard(),
                });
            }
            for seal in answered.answer.seals() {
                self.count(if seal.version == 0 {
                    "a seal"
                } else {
                    "a corrected seal"
                });
                for (_, _, reason) in &seal.contracts {
                    self.count(match reason {
                        None => "a contract served",
                        Some("partner_sealed") => "a contract skipped: its partner was sealed",
                        Some("fulfilled") => "a contract skipped: fulfilled",
                        Some("below_load_min") => "a contract skipped: below its least load",
                        Some(_) => "a contract skipped: nothing to trade",
                    });
                }
            }
            if let Answer::Epoch(_, held) = &answered.answer
                && !held.is_empty()
            {
                self.count("an asset held back");
            }
            match &answered.answer {
                Answer::Approved(_) => self.count("an approval"),
                Answer::Settled(autoseals) if autoseals.iter().any(Result::is_ok) => {
                    self.count("a seal made by a settlement");
                }
                _ => {}
            }
            match answered.answer.code() {
                Some("expired") => self.count("an expired envelope"),
                Some("nonce_reused") => self.count("a nonce used twice"),
                Some("bad_signature" | "unknown_signer") => self.count("a forged envelope"),
                Some("already_sealed") => self.count("a seal made twice, refused"),
                Some("approval_missing") => self.count("a seal refused: approval missing"),
                Some("downstream_open") => self.count("a seal refused: downstream open"),
                _ => {}
            }
        }
        for (_, s) in &applied.booked {
            let before = &self.book.oracle.seals[..sealed];
            let late = |meter: &String| {
                before
                    .iter()
                    .any(|seal| seal.asset == *meter && seal.epoch == s.epoch)
            };
            if s.kind == "metered" && s.meter.as_ref().is_some_and(late) {
                self.count("a late value");
            }
        }
        for refused in applied.attested.iter().flatten() {
            self.count(match *refused {
                "already_attested" => "a signature offered twice",
                _ => "a signature refused",
            });
        }
        let joint = |block: &book::Block| block.voters.len() > 1;
        let made = self.book.blocks.get(&index).is_some_and(joint);
        let certified = applied
            .certified
            .iter()
            .filter_map(|index| self.book.blocks.get(index))
            .any(joint);
        for (reached, what) in [
            (
                self.book.configs().len() > 1 && !applied.answers.is_empty(),
                "a batch ordered in a joint configuration",
            ),
            (made, "a block made in a joint configuration"),
            (certified, "a block of a joint configuration certified"),
            (
                applied.overtaken > 0,
                "a key replaced with a signature under way, which is refused",
            ),
        ] {
            if reached {
                self.count(what);
            }
        }
        if applied.certified.len() > 1 {
            self.count("a block certified by a later one");
        }
    }
}

impl<S: Subject> Default for Judgement<S> {
    fn default() -> Self {
        Judgement::new()
    }
}

/// What about an answer of this code is.
fn kind_of(told: &str) -> Kind {
    match told
        .strip_prefix("refused: ")
        .and_then(|rest| rest.split(' ').next())
    {
        Some("unknown_signer" | "bad_signature" | "expired" | "not_after_too_far" | "not_admin") => {
            Kind::Authority
        }
        Some("nonce_reused") => Kind::Once,
        _ => Kind::Result,
    }
}
