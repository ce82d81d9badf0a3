//! Scripts: actions as lines that a reader can learn the ledger from, and results as lines likewise. Failing random
//! histories are printed as such scripts.

use super::{Cluster, key, public};
use ledger::contract::{Change, Contract, Delivery, Direction, Status, Terms};
use ledger::roster::{Row, roster_id};
use ledger::rule::Rule;
use ledger::seal::Seal;
use ledger::statement::KindName;
use ledger::units::{Epoch, GramsCo2, MicroCurrency, Wh};
use ledger::{
    Action, AssetId, ContractId, Event, Outcome, PublicKey, Refusal, RosterBatch, Settlement, Statement,
};
use std::fmt::Write as _;

/// The key of auditor `a1`, `a2`, …
pub fn auditor(name: &str) -> ed25519_dalek::SigningKey {
    key(50
        + name
            .trim_start_matches('a')
            .parse::<u8>()
            .expect("auditors are called a1, a2, …"))
}

fn auditor_name(of: &PublicKey) -> String {
    let found = (0..=9)
        .map(|i| format!("a{i}"))
        .find(|name| public(&auditor(name)) == *of);
    found.unwrap_or_else(|| "stranger".to_owned())
}

/// The words of a line: those without `=` in order, those with it by name.
pub struct Words<'a> {
    plain: std::collections::VecDeque<&'a str>,
    named: std::collections::BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    pub fn of(line: &'a str) -> Words<'a> {
        let (named, plain): (Vec<_>, Vec<_>) = line.split_whitespace().partition(|word| word.contains('='));
        Words {
            plain: plain.into(),
            named: named
                .into_iter()
                .filter_map(|word| word.split_once('='))
                .collect(),
        }
    }

    pub fn next(&mut self) -> Option<&'a str> {
        self.plain.pop_front()
    }

    pub fn parse<T: std::str::FromStr>(&mut self, what: &str) -> T {
        let word = self.next().unwrap_or_else(|| panic!("{what} is missing"));
        word.parse().unwrap_or_else(|_| panic!("`{word}` is no {what}"))
    }

    pub fn take<T: std::str::FromStr>(&mut self, name: &str) -> Option<T> {
        self.named
            .remove(name)
            .map(|word| word.parse().unwrap_or_else(|_| panic!("`{word}` is no {name}")))
    }

    fn int<T: TryFrom<i64>>(&mut self, name: &str) -> Option<T> {
        self.take::<i64>(name)
            .map(|n| T::try_from(n).unwrap_or_else(|_| panic!("{name} is out of range")))
    }

    pub fn epoch(&mut self) -> Epoch {
        Epoch::new(self.parse("epoch")).expect("an epoch")
    }

    pub fn end(self) {
        assert!(
            self.plain.is_empty() && self.named.is_empty(),
            "{:?} {:?} is too much",
            self.plain,
            self.named
        );
    }
}

/// The action of a line; `None` if its first word is none of an action's.
pub fn parse(line: &str) -> Option<Action> {
    let mut words = Words::of(line);
    let action = match words.next()? {
        "rule" => Action::UpsertAsset {
            asset: words.parse("asset"),
            kind: None,
            rule: Some(Rule {
                from: words.take("from"),
                to: words.take("to"),
            }),
            metadata: Default::default(),
        },
        "contract" => {
            let (id, parties): (ContractId, String) = (words.parse("contract"), words.parse("parties"));
            let (direction, (asset, partner)) = match parties.split_once("->") {
                Some(parties) => (Direction::To, parties),
                None => (Direction::From, parties.split_once("<-").expect("`->` or `<-`")),
            };
            let terms = Terms {
                id,
                asset: asset.parse().expect("an asset"),
                partner: partner.parse().expect("an asset"),
                direction,
                energy: Wh::new(words.parse::<i64>("energy")).expect("in range"),
                delivery: words
                    .next()
                    .map_or(Delivery::AsAvailable, |w| Delivery::parse(w).expect("a delivery")),
                load_min: words.int("min").unwrap_or_default(),
                load_max: words.int("max"),
                energy_total: words.int("total"),
                valid_from: words
                    .int::<i64>("from")
                    .map(|e| Epoch::new(e.unsigned_abs()).expect("an epoch")),
                valid_until: words
                    .int::<i64>("until")
                    .map(|e| Epoch::new(e.unsigned_abs()).expect("an epoch")),
                price: words.int::<MicroCurrency>("price").unwrap_or_default(),
            };
            let status: Option<String> = words.take("status");
            Action::AddContract {
                terms,
                status: status.map_or(Status::Active, |s| Status::parse(&s).expect("a status")),
                priority: words.take("prio").unwrap_or(1),
            }
        }
        word if Change::parse(word).is_some() => Action::ChangeContract {
            contract: words.parse("contract"),
            change: Change::parse(word)?,
        },
        "order" => {
            let asset = words.parse("asset");
            let mut contracts = Vec::new();
            while let Some(word) = words.next() {
                contracts.push(word.parse().expect("a contract"));
            }
            Action::SetMeritOrder { asset, contracts }
        }
        "settle" => {
            let batch = line.trim_start().strip_prefix("settle")?;
            return Some(Action::Settle {
                settlements: batch.split(',').map(settlement).collect(),
            });
        }
        "roster" => Action::AddRoster {
            meters: roster(words.next().expect("meters")).into(),
        },
        // `rows a,b,c EPOCH PLACE CONSUMPTION, PLACE CONSUMPTION …`: of the roster of a, b and c.
        "rows" => {
            let (meters, epoch) = (roster(words.next().expect("meters")), words.epoch());
            let rows = line.trim_start().splitn(4, ' ').nth(3).expect("rows");
            return Some(Action::SettleRoster {
                batch: RosterBatch {
                    roster: roster_id(&meters),
                    epoch,
                    label: "virtual_1".parse().expect("a label"),
                    rows: rows.split(',').map(row).collect(),
                },
            });
        }
        "seal" => Action::Seal {
            asset: words.parse("asset"),
            epoch: words.epoch(),
        },
        "correct" => Action::Correct {
            asset: words.parse("asset"),
            epoch: words.epoch(),
        },
        "epoch" => Action::SealEpoch {
            epoch: words.epoch(),
            under: words.take("under"),
        },
        "audit" => {
            let (asset, approvals) = (words.parse("asset"), words.parse("number of approvals"));
            let mut auditors = std::collections::BTreeSet::new();
            while let Some(word) = words.next() {
                auditors.insert(public(&auditor(word)));
            }
            Action::SetAuditRule {
                asset,
                approvals,
                auditors,
            }
        }
        "approve" => {
            words.take::<String>("by");
            Action::Approve {
                asset: words.parse("asset"),
                epoch: words.epoch(),
            }
        }
        _ => return None,
    };
    words.end();
    Some(action)
}

fn roster(meters: &str) -> Vec<AssetId> {
    let meters = meters.split(',');
    meters.map(|meter| meter.parse().expect("a meter")).collect()
}

fn row(text: &str) -> Row {
    let mut words = Words::of(text);
    let row = Row {
        place: words.parse("place"),
        consumption: words.parse("consumption"),
        co2eq: words.take("co2").unwrap_or_default(),
    };
    words.end();
    row
}

fn settlement(text: &str) -> Settlement {
    let mut words = Words::of(text);
    let settlement = Settlement {
        meter: words.parse("meter"),
        epoch: words.epoch(),
        consumption: Wh::new(words.parse::<i64>("consumption")).expect("in range"),
        label: words
            .take("label")
            .unwrap_or_else(|| "virtual_1".try_into().expect("a label")),
        co2eq: words.int::<GramsCo2>("co2").unwrap_or_default(),
        autoseal: words.take("auto"),
    };
    words.end();
    settlement
}

/// The line of an action; [`parse`] reads it back.
pub fn line(action: &Action) -> String {
    let mut out = String::new();
    let written = match action {
        Action::UpsertAsset { asset, rule, .. } => {
            let rule = rule.clone().unwrap_or_default();
            write!(
                out,
                "rule {asset}{}{}",
                option(" from=", &rule.from),
                option(" to=", &rule.to)
            )
        }
        Action::AddContract {
            terms: t,
            status,
            priority,
        } => {
            let arrow = if t.direction == Direction::To { "->" } else { "<-" };
            write!(
                out,
                "contract {} {}{arrow}{} {} {}",
                t.id, t.asset, t.partner, t.energy, t.delivery
            )
            .and_then(|()| write!(out, " min={}", t.load_min))
            .and_then(|()| {
                write!(
                    out,
                    "{}{}",
                    option(" max=", &t.load_max),
                    option(" total=", &t.energy_total)
                )
            })
            .and_then(|()| {
                write!(
                    out,
                    "{}{}",
                    option(" from=", &t.valid_from),
                    option(" until=", &t.valid_until)
                )
            })
            .and_then(|()| write!(out, " price={} prio={priority} status={status}", t.price))
        }
        Action::ChangeContract { contract, change } => write!(out, "{change} {contract}"),
        Action::SetMeritOrder { asset, contracts } => {
            write!(
                out,
                "order {asset} {}",
                contracts
                    .iter()
                    .map(ContractId::as_str)
                    .collect::<Vec<_>>()
                    .join(" ")
            )
        }
        Action::Settle { settlements } => {
            let all: Vec<String> = settlements
                .iter()
                .map(|s| {
                    let auto = option(" auto=", &s.autoseal);
                    format!(
                        " {} {} {} co2={} label={}{auto}",
                        s.meter, s.epoch, s.consumption, s.co2eq, s.label
                    )
                })
                .collect();
            write!(out, "settle{}", all.join(","))
        }
        Action::AddRoster { meters } => {
            let names: Vec<&str> = meters.iter().map(AssetId::as_str).collect();
            write!(out, "roster {}", names.join(","))
        }
        Action::SettleRoster { batch } => write!(out, "rows {batch:?}"),
        Action::Seal { asset, epoch } => write!(out, "seal {asset} {epoch}"),
        Action::Correct { asset, epoch } => write!(out, "correct {asset} {epoch}"),
        Action::SealEpoch { epoch, under } => write!(out, "epoch {epoch}{}", option(" under=", under)),
        Action::SetAuditRule {
            asset,
            approvals,
            auditors,
        } => {
            let names: Vec<String> = auditors.iter().map(auditor_name).collect();
            write!(out, "audit {asset} {approvals} {}", names.join(" "))
        }
        Action::Approve { asset, epoch } => write!(out, "approve {asset} {epoch}"),
        Action::RegisterNode { node, .. } => write!(out, "register {node}"),
        Action::PromoteNode { node } => write!(out, "promote {node}"),
        Action::RevokeNode { node } => write!(out, "revoke {node}"),
    };
    written.expect("writing to a string");
    out
}

fn option<T: std::fmt::Display>(prefix: &str, value: &Option<T>) -> String {
    value
        .as_ref()
        .map(|value| format!("{prefix}{value}"))
        .unwrap_or_default()
}

/// `pv → s 150` and what else there is to say of a statement.
pub fn show_statement(s: &Statement) -> String {
    let co2 = if s.co2eq.get() == 0 {
        String::new()
    } else {
        format!(", {} g", s.co2eq)
    };
    let why = match s.kind_name() {
        KindName::Metered => String::new(),
        KindName::Residual => " residual".to_owned(),
        kind => format!(" {kind} {}", s.contract().expect("it has one")),
    };
    let value = s
        .value()
        .filter(|value| value.get() != 0)
        .map(|value| format!(", worth {value}"))
        .unwrap_or_default();
    format!("{} → {} {}{co2}{why}{value}", s.from, s.to, s.energy)
}

/// `sealed pv/5 v0 over 1 statement` and what its contracts did.
pub fn show_seal(seal: &Seal) -> String {
    let plural = if seal.watermark == 1 { "" } else { "s" };
    let mut text = format!(
        "sealed {} over {} statement{plural}: residual {}, position {}",
        seal.id(),
        seal.watermark,
        seal.residual,
        seal.position
    );
    for served in &seal.contracts {
        let reason = served
            .reason
            .map(|reason| format!(" ({reason})"))
            .unwrap_or_default();
        let _ = write!(text, "; {} {}{reason}", served.contract, served.energy);
    }
    if !seal.approvals.is_empty() {
        let names: Vec<String> = seal.approvals.iter().map(auditor_name).collect();
        let _ = write!(text, "; approved by {}", names.join(" "));
    }
    text
}

pub fn show_contract(c: &Contract) -> String {
    format!(
        "contract {} is {}, priority {}, balanced {}",
        c.terms.id, c.status, c.priority, c.balanced
    )
}

pub fn show_refusal(refusal: &Refusal) -> String {
    format!("refused {}: {refusal}", refusal.code())
}

/// What an action booked and answered, one thing a line.
pub fn show(cluster: &Cluster, events: &[Event], outcome: &Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    let booked = |s: &Statement| {
        // A statement is late for a side whose watermark it lies past.
        let late: Vec<&AssetId> = [&s.from, &s.to]
            .into_iter()
            .filter(|side| {
                let journal = cluster.ledger.journal(side, s.epoch).unwrap_or_default();
                journal.version.is_some()
                    && journal.statements[journal.watermark..]
                        .iter()
                        .any(|open| open.id == s.id)
            })
            .collect();
        let late: Vec<String> = late
            .into_iter()
            .map(|side| format!(", late for {side}"))
            .collect();
        format!("{}{}", show_statement(s), late.concat())
    };
    for event in events {
        match event {
            Event::Booked { statement } => lines.push(booked(statement)),
            Event::RosterBooked {
                epoch,
                index,
                first,
                count,
                ..
            } => {
                let statements: Vec<Statement> =
                    cluster.ledger.booked(*epoch, *index, *first, *count).collect();
                lines.extend(statements.iter().map(booked));
            }
            Event::Sealed(sealed) => {
                lines.extend(sealed.statements().map(booked));
                lines.push(show_seal(&sealed.seal));
            }
            Event::ContractSet { contract } => lines.push(show_contract(contract)),
            _ => {}
        }
    }
    match outcome {
        Outcome::Refused { refusal } => lines.push(show_refusal(refusal)),
        Outcome::Settled { autoseals, .. } => {
            let refused = autoseals.iter().filter_map(|auto| auto.result.as_ref().err());
            lines.extend(refused.map(|refusal| format!("autoseal {}", show_refusal(refusal))));
        }
        Outcome::EpochSealed { held, .. } => {
            lines.extend(
                held.iter()
                    .map(|held| format!("held {}: {}", held.asset, held.refusal.code())),
            );
        }
        Outcome::Approved { approvals, .. } => lines.push(format!("{approvals} approvals count")),
        _ => {}
    }
    lines
}
