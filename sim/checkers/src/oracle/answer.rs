//! What an envelope is answered, in words that the oracle, a ledger and a client's answer share.

use std::fmt;

use super::entry::{Action, Key, Settlement, Terms};
use super::model::{self, Contract, Oracle, Rule, Seal};

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Done, and there is nothing more to say.
    Done,
    /// Refused, with the specification's code, and what it names.
    Refused(String),
    /// Booked; what became of each `autoseal`.
    Settled(Vec<Result<Seal, String>>),
    /// Sealed or corrected.
    Sealed(Box<Seal>),
    /// An epoch was sealed: the seals in order, and what is held with its code.
    Epoch(Vec<Seal>, Vec<(String, String)>),
    /// Approved; how many approvals there are now.
    Approved(usize),
}

impl Answer {
    /// The code of a refusal alone, without what it names.
    pub fn code(&self) -> Option<&str> {
        match self {
            Answer::Refused(code) => code.split(' ').next(),
            _ => None,
        }
    }

    /// The same as it is shown, but without what a refusal names: as answers over HTTP tell it ([`crate::told`]).
    pub fn heard(&self) -> String {
        let code = |code: &String| code.split(' ').next().unwrap_or_default().to_owned();
        match self {
            Answer::Settled(autoseals) => {
                let brief = autoseals
                    .iter()
                    .map(|result| result.clone().map_err(|why| code(&why)));
                Answer::Settled(brief.collect()).to_string()
            }
            Answer::Epoch(seals, held) => {
                let seals: Vec<String> = seals.iter().map(name).collect();
                let held = held.iter().map(|(asset, why)| format!("{asset} {}", code(why)));
                format!("sealed: {seals:?}, held: {:?}", held.collect::<Vec<_>>())
            }
            other => other.to_string(),
        }
    }

    /// The seals that it made, in order.
    pub fn seals(&self) -> Vec<&Seal> {
        match self {
            Answer::Sealed(seal) => vec![seal],
            Answer::Epoch(seals, _) => seals.iter().collect(),
            Answer::Settled(autoseals) => autoseals.iter().flatten().collect(),
            Answer::Done | Answer::Refused(_) | Answer::Approved(_) => Vec::new(),
        }
    }
}

fn name(seal: &Seal) -> String {
    format!("{}/{} v{}", seal.asset, seal.epoch, seal.version)
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Done => f.write_str("done"),
            Answer::Refused(code) => write!(f, "refused: {code}"),
            Answer::Settled(autoseals) => {
                let codes = autoseals.iter().map(|result| match result {
                    Ok(seal) => name(seal),
                    Err(code) => code.clone(),
                });
                write!(f, "settled: {:?}", codes.collect::<Vec<_>>())
            }
            Answer::Sealed(seal) => write!(f, "sealed: {}", name(seal)),
            Answer::Epoch(seals, held) => {
                let seals: Vec<String> = seals.iter().map(name).collect();
                write!(f, "sealed: {seals:?}, held: {held:?}")
            }
            Answer::Approved(approvals) => write!(f, "approved: {approvals}"),
        }
    }
}

const LARGEST: u64 = (1 << 53) - 1;
const LARGEST_SETTLEMENT: i128 = 1 << 40;

fn refused(code: &str) -> Answer {
    Answer::Refused(code.to_owned())
}

/// What sections 2 to 5 answer to an action; those about nodes are not theirs.
pub(super) fn answer(oracle: &mut Oracle, action: &Action, signer: &Key) -> Answer {
    let done = |result: Result<(), String>| result.map_or_else(Answer::Refused, |()| Answer::Done);
    let sealed = |result: Result<Seal, String>| {
        result.map_or_else(Answer::Refused, |seal| Answer::Sealed(seal.into()))
    };
    match action {
        Action::UpsertAsset {
            asset,
            rule: Some([from, to]),
            ..
        } => done(oracle.upsert(
            asset,
            Rule {
                from: from.clone(),
                to: to.clone(),
            },
        )),
        Action::UpsertAsset {
            asset, rule: None, ..
        } => {
            oracle.name(asset);
            Answer::Done
        }
        Action::AddContract {
            terms,
            status,
            priority,
        } => add_contract(oracle, terms, status, *priority),
        Action::ChangeContract { contract, change } => change_contract(oracle, contract, change),
        Action::SetMeritOrder { asset, contracts } => set_merit_order(oracle, asset, contracts),
        Action::Settle { settlements } => settle(oracle, settlements),
        Action::AddRoster { roster, meters } => {
            if meters.iter().any(|meter| meter == model::ROOT) {
                return refused("root_is_no_meter");
            }
            oracle.rosters.insert(*roster, meters.clone());
            Answer::Done
        }
        // The same as its settlements one by one.
        Action::SettleRoster {
            roster,
            epoch,
            label,
            rows,
        } => {
            let Some(meters) = oracle.rosters.get(roster) else {
                return refused("unknown_roster");
            };
            let settlements: Option<Vec<Settlement>> = rows
                .iter()
                .map(|(place, consumption, co2eq)| {
                    Some(Settlement {
                        meter: meters.get(usize::try_from(*place).ok()?)?.clone(),
                        epoch: *epoch,
                        consumption: *consumption,
                        label: label.clone(),
                        co2eq: *co2eq,
                        autoseal: None,
                    })
                })
                .collect();
            match settlements {
                Some(settlements) => settle(oracle, &settlements),
                None => refused("out_of_range"),
            }
        }
        Action::Seal { asset, epoch } => sealed(oracle.seal(asset, *epoch)),
        Action::Correct { asset, epoch } => sealed(oracle.correct(asset, *epoch)),
        Action::SealEpoch { epoch, under } => oracle
            .seal_epoch(*epoch, under.as_deref())
            .map_or_else(Answer::Refused, |(seals, held)| Answer::Epoch(seals, held)),
        Action::SetAuditRule {
            asset,
            approvals,
            auditors,
        } => {
            let approvals = usize::try_from(*approvals).unwrap_or(usize::MAX);
            if asset == model::ROOT {
                refused("root_not_sealable")
            } else if !oracle.known(asset) {
                refused("unknown_asset")
            } else if approvals > auditors.len() {
                refused("audit_rule_unsatisfiable")
            } else {
                let auditors = auditors.iter().map(|key| super::digest::hex(key)).collect();
                oracle.audit.insert(asset.clone(), (approvals, auditors));
                Answer::Done
            }
        }
        Action::Approve { asset, epoch } => approve(oracle, asset, *epoch, signer),
        Action::RegisterNode { .. } | Action::RevokeNode { .. } | Action::PromoteNode { .. } => Answer::Done,
    }
}

fn add_contract(oracle: &mut Oracle, terms: &Terms, status: &str, priority: i64) -> Answer {
    // A refusal for what a contract is comes before one for its figures.
    let figures = [
        Some(terms.energy),
        Some(terms.load_min),
        terms.load_max,
        terms.energy_total,
    ];
    let negative = figures.into_iter().flatten().any(|figure| figure < 0);
    let out_of_range = negative || priority.unsigned_abs() > LARGEST;
    let contract = Contract {
        asset: terms.asset.clone(),
        partner: terms.partner.clone(),
        sells: terms.direction == "to",
        delivery: terms.delivery.clone(),
        status: status.to_owned(),
        priority,
        energy: terms.energy.into(),
        load_min: terms.load_min.into(),
        load_max: terms.load_max.map(i128::from),
        energy_total: terms.energy_total.map(i128::from),
        valid_from: terms.valid_from,
        valid_until: terms.valid_until,
        price: terms.price.into(),
    };
    let known = oracle.assets.clone();
    match oracle.add_contract(&terms.id, contract) {
        Err(code) => Answer::Refused(code),
        Ok(()) if out_of_range => {
            oracle.contracts.remove(&terms.id);
            oracle.assets = known;
            refused("out_of_range")
        }
        Ok(()) => Answer::Done,
    }
}

fn change_contract(oracle: &mut Oracle, contract: &str, change: &str) -> Answer {
    let Some(known) = oracle.contracts.get_mut(contract) else {
        return refused("unknown_contract");
    };
    known.status = match (change, known.status.as_str()) {
        ("confirm", "proposed" | "active") | ("activate", "suspended" | "active") => "active",
        ("suspend", "active" | "suspended") => "suspended",
        ("cancel", _) => "cancelled",
        _ => return refused("contract_status"),
    }
    .to_owned();
    Answer::Done
}

fn set_merit_order(oracle: &mut Oracle, asset: &str, contracts: &[String]) -> Answer {
    if !oracle.known(asset) {
        return refused("unknown_asset");
    }
    for (place, id) in contracts.iter().enumerate() {
        match oracle.contracts.get(id) {
            None => return refused("unknown_contract"),
            Some(contract) if contract.asset != asset => return refused("foreign_contract"),
            Some(_) if contracts[..place].contains(id) => return refused("repeated_contract"),
            Some(_) => {}
        }
    }
    for (id, place) in contracts.iter().zip(1..) {
        if let Some(contract) = oracle.contracts.get_mut(id) {
            contract.priority = place;
        }
    }
    Answer::Done
}

fn settle(oracle: &mut Oracle, settlements: &[Settlement]) -> Answer {
    for s in settlements {
        if s.meter == model::ROOT {
            return refused("root_is_no_meter");
        }
        if i128::from(s.consumption).abs() > LARGEST_SETTLEMENT
            || i128::from(s.co2eq).abs() > LARGEST_SETTLEMENT
        {
            return refused("out_of_range");
        }
    }
    for s in settlements {
        oracle.settle(&s.meter, s.epoch, s.consumption.into(), s.co2eq.into(), &s.label);
    }
    let autoseals = settlements.iter().filter_map(|s| Some((s, s.autoseal?)));
    Answer::Settled(
        autoseals
            .map(|(s, back)| match s.epoch.checked_sub(back) {
                Some(epoch) => oracle.seal(&s.meter, epoch),
                None => Err("out_of_range".to_owned()),
            })
            .collect(),
    )
}

fn approve(oracle: &mut Oracle, asset: &str, epoch: u64, signer: &Key) -> Answer {
    if !oracle.known(asset) {
        return refused("unknown_asset");
    }
    let (_, auditors) = oracle.audit.get(asset).cloned().unwrap_or_default();
    let signer = super::digest::hex(signer);
    if !auditors.contains(&signer) {
        return refused("not_auditor");
    }
    oracle.approvals.insert((asset.to_owned(), epoch, signer));
    let given = |auditor: &&String| {
        oracle
            .approvals
            .contains(&(asset.to_owned(), epoch, (*auditor).clone()))
    };
    Answer::Approved(auditors.iter().filter(given).count())
}
