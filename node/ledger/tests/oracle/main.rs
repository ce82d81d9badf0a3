//! Random histories against an independent oracle: after every action the ledger must have answered, booked and sealed what
//! the oracle did, and I1–I6 must hold. A failing seed prints its history as a script.

#![allow(unreachable_pub, missing_docs, reason = "a test is no API")]

#[path = "../common/mod.rs"]
mod common;
mod history;

use checkers::oracle::model::{self, Contract, Oracle, Rule, Seal, Statement};
use common::{Cluster, public, script};
use history::{Dice, Style};
use ledger::contract::{Direction, Status};
use ledger::invariant::Witness;
use ledger::roster::{Row, roster_id};
use ledger::{Action, Applied, AssetId, Body, Event, Ledger, Outcome, Refusal, RosterBatch};
use std::collections::BTreeMap;

const ACTIONS: usize = 120;

/// What occurred in some histories, and how often: so that it shows when they no longer reach something.
#[derive(Default)]
struct Seen(BTreeMap<String, u64>);

impl Seen {
    fn count(&mut self, what: &str, times: u64) {
        *self
            .0
            .entry(what.split(' ').next().unwrap_or_default().to_owned())
            .or_default() += times;
    }

    fn answer(&mut self, answer: &Answer) {
        self.count("actions", 1);
        match answer {
            Answer::Done | Answer::Approvals(_) => {}
            Answer::Refused(code) => self.count(code, 1),
            Answer::Settled(autoseals) => autoseals.iter().for_each(|seal| match seal {
                Ok(seal) => self.seal(seal),
                Err(code) => self.count(code, 1),
            }),
            Answer::Sealed(seal) => self.seal(seal),
            Answer::Epoch(seals, held) => {
                seals.iter().for_each(|seal| self.seal(seal));
                held.iter()
                    .for_each(|(_, code)| self.count(&format!("held_{code}"), 1));
            }
        }
    }

    fn seal(&mut self, seal: &Seal) {
        self.count(if seal.version == 0 { "seal" } else { "correction" }, 1);
        seal.contracts
            .iter()
            .for_each(|(_, _, reason)| self.count(reason.unwrap_or("served"), 1));
        self.count("approved", seal.approvals.len() as u64);
    }
}

/// One history.
fn run(seed: u64, seen: &mut Seen) {
    let mut dice = Dice(seed);
    let auditors: Vec<_> = ["a1", "a2", "a3"].map(script::auditor).into();
    let style = Style::draw(&mut dice, auditors.iter().map(public).collect());
    let mut cluster = Cluster::new();
    let (mut oracle, mut witness) = (Oracle::default(), Witness::new());
    let mut lines: Vec<String> = Vec::new();
    for _ in 0..ACTIONS {
        let (action, auditor) = style.action(&mut dice);
        lines.push(script::line(&action));
        let envelope = match auditor {
            // The same in bulk must do the same.
            None if let Some(batch) = in_bulk(&mut cluster, &action).filter(|_| dice.chance(50)) => {
                seen.count("in_bulk", 1);
                cluster.envelope(Action::SettleRoster { batch })
            }
            None => cluster.envelope(action.clone()),
            Some(auditor) => cluster.signed(&auditors[auditor], action.clone()),
        };
        let applied = cluster.apply(Body::Envelopes {
            envelopes: vec![envelope],
        });
        let before = oracle.statements.len();
        let expected = consult(
            &mut oracle,
            &action,
            auditor.map(|a| auditors[a].clone()).as_ref().map(public),
        );
        let found = found(&cluster.ledger, &applied);
        let story = || format!("seed {seed}:\n{}\n", lines.join("\n"));
        assert_eq!(found, expected, "{}answers differ", story());
        seen.answer(&found);
        let booked = booked(&cluster.ledger, &applied);
        assert_eq!(
            booked,
            oracle.statements[before..],
            "{}statements differ",
            story()
        );
        if let Err(violation) = witness.observe(&cluster.ledger, &applied) {
            panic!("{}{violation}", story());
        }
        if dice.chance(1) {
            let bytes = cluster.ledger.snapshot();
            let restored = Ledger::restore(&bytes).unwrap_or_else(|error| panic!("{}{error}", story()));
            assert_eq!(restored.snapshot(), bytes, "{}snapshots differ", story());
            cluster.ledger = restored;
        }
    }
    seen.count("upstream_checked", witness.upstreams_checked());
    same_in_the_end(&cluster, &oracle, &lines);
}

fn same_in_the_end(cluster: &Cluster, oracle: &Oracle, lines: &[String]) {
    let ledger = &cluster.ledger;
    let story = lines.join("\n");
    let assets: Vec<_> = ledger
        .assets()
        .map(|a| a.id.to_string())
        .filter(|id| id != model::ROOT)
        .collect();
    assert_eq!(
        assets,
        oracle.assets.iter().cloned().collect::<Vec<_>>(),
        "{story}\nassets differ"
    );
    for (id, contract) in &oracle.contracts {
        let ours = ledger
            .contract(&id.as_str().try_into().expect("an id"))
            .expect("the contract is there");
        assert_eq!(
            ours.balanced,
            oracle.balanced(id),
            "{story}\n{id} balanced differs"
        );
        assert_eq!(ours.priority, contract.priority, "{story}\n{id} priority differs");
    }
    for asset in ledger.assets() {
        for epoch in ledger.epochs() {
            let journal = ledger.journal(&asset.id, epoch).unwrap_or_default();
            let ours: Vec<Statement> = journal.statements.iter().map(plain).collect();
            let theirs = oracle.journal(asset.id.as_str(), epoch.get());
            assert_eq!(ours, theirs, "{story}\njournal of {}/{epoch} differs", asset.id);
            let open = oracle.unsealed(asset.id.as_str(), epoch.get()).len();
            assert_eq!(
                journal.statements.len() - journal.watermark,
                open,
                "{story}\nwatermark differs"
            );
            let balance = ledger.balance(&asset.id, epoch).unwrap_or_default();
            let sum = |incoming: bool| -> i128 {
                theirs
                    .iter()
                    .filter(|s| (s.to == asset.id.as_str()) == incoming)
                    .map(|s| s.energy)
                    .sum()
            };
            assert_eq!(
                (balance.all.total_in().energy, balance.all.total_out().energy),
                (sum(true), sum(false))
            );
        }
    }
}

/// What both sides answer, in words both know.
#[derive(Debug, PartialEq)]
enum Answer {
    Done,
    Refused(String),
    Settled(Vec<Result<Seal, String>>),
    Sealed(Seal),
    Epoch(Vec<Seal>, Vec<(String, String)>),
    Approvals(usize),
}

fn code(refusal: &Refusal) -> String {
    match refusal {
        Refusal::DownstreamOpen { assets, .. } => {
            let ids: Vec<&str> = assets.iter().map(|asset| asset.as_str()).collect();
            format!("downstream_open {}", ids.join(" "))
        }
        other => other.code().to_owned(),
    }
}

fn found(ledger: &Ledger, applied: &Applied) -> Answer {
    let sealed = |id: &ledger::seal::SealRef| {
        let record = ledger
            .seal_record(&id.asset, id.epoch, Some(id.version))
            .expect("a seal that was made");
        plain_seal(&record.seal)
    };
    match &applied.answers[0].outcome {
        Outcome::Refused { refusal } => Answer::Refused(code(refusal)),
        Outcome::Settled { autoseals, .. } => Answer::Settled(
            autoseals
                .iter()
                .map(|a| a.result.as_ref().map(&sealed).map_err(code))
                .collect(),
        ),
        Outcome::Sealed { seal, .. } => Answer::Sealed(sealed(seal)),
        Outcome::EpochSealed { seals, held, .. } => Answer::Epoch(
            seals.iter().map(sealed).collect(),
            held.iter()
                .map(|h| (h.asset.to_string(), code(&h.refusal)))
                .collect(),
        ),
        Outcome::Approved { approvals, .. } => Answer::Approvals(*approvals as usize),
        _ => Answer::Done,
    }
}

fn consult(oracle: &mut Oracle, action: &Action, auditor: Option<ledger::PublicKey>) -> Answer {
    let done = |result: Result<(), String>| result.map_or_else(Answer::Refused, |()| Answer::Done);
    match action {
        Action::UpsertAsset { asset, rule, .. } => {
            let rule = rule.clone().unwrap_or_default();
            let text = |id: Option<ledger::AssetId>| id.map(String::from);
            done(oracle.upsert(
                asset.as_str(),
                Rule {
                    from: text(rule.from),
                    to: text(rule.to),
                },
            ))
        }
        Action::AddContract {
            terms: t,
            status,
            priority,
        } => {
            let contract = Contract {
                asset: t.asset.to_string(),
                partner: t.partner.to_string(),
                sells: t.direction == Direction::To,
                delivery: t.delivery.to_string(),
                status: status.to_string(),
                priority: *priority,
                energy: t.energy.wide(),
                load_min: t.load_min.wide(),
                load_max: t.load_max.map(|n| n.wide()),
                energy_total: t.energy_total.map(|n| n.wide()),
                valid_from: t.valid_from.map(|e| e.get()),
                valid_until: t.valid_until.map(|e| e.get()),
                price: t.price.wide(),
            };
            done(oracle.add_contract(t.id.as_str(), contract))
        }
        Action::ChangeContract { contract, change } => {
            let Some(known) = oracle.contracts.get_mut(contract.as_str()) else {
                return Answer::Refused("unknown_contract".to_owned());
            };
            // §8: a contract is proposed until confirmed; either party may suspend or cancel; cancelled is the end.
            let next = match (change.as_str(), known.status.as_str()) {
                ("confirm", "proposed" | "active") | ("activate", "suspended" | "active") => "active",
                ("suspend", "active" | "suspended") => "suspended",
                ("cancel", _) => "cancelled",
                _ => return Answer::Refused("contract_status".to_owned()),
            };
            known.status = Status::parse(next).expect("a status").to_string();
            Answer::Done
        }
        Action::SetMeritOrder { asset, contracts } => {
            if !oracle.known(asset.as_str()) {
                return Answer::Refused("unknown_asset".to_owned());
            }
            for (place, id) in contracts.iter().enumerate() {
                match oracle.contracts.get(id.as_str()) {
                    None => return Answer::Refused("unknown_contract".to_owned()),
                    Some(c) if c.asset != asset.as_str() => {
                        return Answer::Refused("foreign_contract".to_owned());
                    }
                    Some(_) if contracts[..place].contains(id) => {
                        return Answer::Refused("repeated_contract".to_owned());
                    }
                    Some(_) => {}
                }
            }
            for (id, priority) in contracts.iter().zip(1..) {
                oracle.contracts.get_mut(id.as_str()).expect("checked").priority = priority;
            }
            Answer::Done
        }
        Action::Settle { settlements } => {
            let bound = 1i128 << 40;
            for s in settlements {
                if s.meter.as_str() == model::ROOT {
                    return Answer::Refused("root_is_no_meter".to_owned());
                }
                if s.consumption.wide().abs() > bound || s.co2eq.wide().abs() > bound {
                    return Answer::Refused("out_of_range".to_owned());
                }
            }
            for s in settlements {
                let (meter, label) = (s.meter.as_str(), s.label.as_str());
                oracle.settle(meter, s.epoch.get(), s.consumption.wide(), s.co2eq.wide(), label);
            }
            let mut seals = Vec::new();
            for s in settlements {
                let Some(back) = s.autoseal else { continue };
                seals.push(match s.epoch.get().checked_sub(back) {
                    Some(epoch) => oracle.seal(s.meter.as_str(), epoch),
                    None => Err("out_of_range".to_owned()),
                });
            }
            Answer::Settled(seals)
        }
        Action::Seal { asset, epoch } => oracle
            .seal(asset.as_str(), epoch.get())
            .map_or_else(Answer::Refused, Answer::Sealed),
        Action::Correct { asset, epoch } => oracle
            .correct(asset.as_str(), epoch.get())
            .map_or_else(Answer::Refused, Answer::Sealed),
        Action::SealEpoch { epoch, under } => oracle
            .seal_epoch(epoch.get(), under.as_ref().map(|under| under.as_str()))
            .map_or_else(Answer::Refused, |(seals, held)| Answer::Epoch(seals, held)),
        Action::SetAuditRule {
            asset,
            approvals,
            auditors,
        } => {
            if asset.as_str() == model::ROOT {
                return Answer::Refused("root_not_sealable".to_owned());
            }
            if !oracle.known(asset.as_str()) {
                return Answer::Refused("unknown_asset".to_owned());
            }
            if *approvals as usize > auditors.len() {
                return Answer::Refused("audit_rule_unsatisfiable".to_owned());
            }
            let auditors = auditors.iter().map(|key| key.to_string()).collect();
            oracle
                .audit
                .insert(asset.to_string(), (*approvals as usize, auditors));
            Answer::Done
        }
        Action::Approve { asset, epoch } => {
            let auditor = auditor.expect("an auditor approves").to_string();
            let rule = oracle.audit.get(asset.as_str()).cloned().unwrap_or_default();
            if !rule.1.contains(&auditor) {
                return Answer::Refused("unknown_signer".to_owned());
            }
            oracle.approvals.insert((asset.to_string(), epoch.get(), auditor));
            let given = |auditor: &&String| {
                oracle
                    .approvals
                    .contains(&(asset.to_string(), epoch.get(), (*auditor).clone()))
            };
            Answer::Approvals(rule.1.iter().filter(given).count())
        }
        Action::RegisterNode { .. }
        | Action::PromoteNode { .. }
        | Action::RevokeNode { .. }
        | Action::AddRoster { .. }
        | Action::SettleRoster { .. } => {
            unreachable!("not part of these histories")
        }
    }
}

fn booked(ledger: &Ledger, applied: &Applied) -> Vec<Statement> {
    let of = |event: &Event| match event {
        Event::Booked { statement } => vec![plain(statement)],
        Event::RosterBooked {
            epoch,
            index,
            first,
            count,
            ..
        } => ledger
            .booked(*epoch, *index, *first, *count)
            .map(|statement| plain(&statement))
            .collect(),
        Event::Sealed(sealed) => sealed.statements().map(plain).collect(),
        _ => Vec::new(),
    };
    applied.events.iter().flat_map(of).collect()
}

/// Settlements as a batch of a roster, if they can be one: of one epoch and label, without autoseals. The roster is given first.
fn in_bulk(cluster: &mut Cluster, action: &Action) -> Option<RosterBatch> {
    let Action::Settle { settlements } = action else {
        return None;
    };
    let first = settlements.first()?;
    let alike = settlements.iter().all(|s| {
        s.epoch == first.epoch
            && s.label == first.label
            && s.autoseal.is_none()
            && s.meter.as_str() != model::ROOT
    });
    if !alike {
        return None;
    }
    // From behind, with a meter that reports nothing, so that places are no accident.
    let mut meters: Vec<AssetId> = settlements.iter().rev().map(|s| s.meter.clone()).collect();
    meters.insert(0, AssetId::try_from("silent").expect("a name"));
    let rows = (1..u32::try_from(meters.len()).expect("few"))
        .rev()
        .zip(settlements);
    let rows = rows.map(|(place, settlement)| Row {
        place,
        consumption: settlement.consumption.get(),
        co2eq: settlement.co2eq.get(),
    });
    let batch = RosterBatch {
        roster: roster_id(&meters),
        epoch: first.epoch,
        label: first.label.clone(),
        rows: rows.collect(),
    };
    let outcome = cluster.act(Action::AddRoster {
        meters: meters.into(),
    });
    assert!(matches!(outcome, Outcome::Roster { roster, .. } if roster == batch.roster));
    Some(batch)
}

fn plain(s: &ledger::Statement) -> Statement {
    Statement {
        from: s.from.to_string(),
        to: s.to.to_string(),
        epoch: s.epoch.get(),
        energy: s.energy.wide(),
        co2: s.co2eq.wide(),
        kind: s.kind_name().as_str(),
        label: s.label().to_owned(),
        meter: s.meter().map(|meter| meter.to_string()),
        contract: s.contract().map(|contract| contract.to_string()),
        value: s.value().map(|value| value.wide()),
    }
}

fn plain_seal(s: &ledger::seal::Seal) -> Seal {
    Seal {
        asset: s.asset.to_string(),
        epoch: s.epoch.get(),
        version: s.version as usize,
        watermark: usize::try_from(s.watermark).expect("small"),
        residual: s.residual.wide(),
        position: s.position.wide(),
        energy_in: s.energy_in.wide(),
        energy_out: s.energy_out.wide(),
        co2_in: s.co2_in.wide(),
        co2_out: s.co2_out.wide(),
        upstream_from: s.upstream_from.to_string(),
        upstream_to: s.upstream_to.to_string(),
        contracts: s
            .contracts
            .iter()
            .map(|c| {
                (
                    c.contract.to_string(),
                    c.energy.wide(),
                    c.reason.map(|reason| reason.as_str()),
                )
            })
            .collect(),
        approvals: s.approvals.iter().map(|key| key.to_string()).collect(),
    }
}

/// How many histories each of the two tests runs; `LEDGER_HISTORIES` says otherwise.
fn histories() -> u64 {
    std::env::var("LEDGER_HISTORIES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1200)
}

/// The seeds are fixed, so that a failure is everyone's.
fn run_all(seeds: impl Iterator<Item = u64>) {
    let mut seen = Seen::default();
    seeds.for_each(|seed| run(seed, &mut seen));
    for what in [
        "actions",
        "seal",
        "correction",
        "served",
        "partner_sealed",
        "fulfilled",
        "exhausted",
        "below_load_min",
        "approved",
        "rule_cycle",
        "root_has_no_rule",
        "root_is_no_meter",
        "root_is_no_party",
        "root_not_sealable",
        "contract_exists",
        "same_party",
        "contract_status",
        "foreign_contract",
        "repeated_contract",
        "unknown_asset",
        "unknown_contract",
        "out_of_range",
        "nothing_to_seal",
        "already_sealed",
        "downstream_open",
        "approval_missing",
        "not_sealed",
        "nothing_late",
        "audit_rule_unsatisfiable",
        "unknown_signer",
        "held_approval_missing",
        "held_downstream_open",
        "held_out_of_range",
        "in_bulk",
        "upstream_checked",
    ] {
        let times = seen.0.get(what).copied().unwrap_or(0);
        // A short run need not reach everything.
        assert!(
            times > 0 || histories() < 500,
            "no history reaches {what}: {:?}",
            seen.0
        );
    }
}

/// Two tests, so that they run side by side.
#[test]
fn even_seeds_agree_with_the_oracle() {
    run_all((0..histories()).map(|n| 2 * n));
}

#[test]
fn odd_seeds_agree_with_the_oracle() {
    run_all((0..histories()).map(|n| 2 * n + 1));
}
