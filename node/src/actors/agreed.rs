//! What was agreed stands in the log: rules, contracts, rosters and approvals are taken from the ledger's events only as the entry's
//! accepted actions say them. A ledger that takes one down wrongly would otherwise hand the mistake on to the memories that are to
//! find it.
//!
//! Events come in the order of the actions, one each; a merit order makes one for each contract it lists, and a roster that is known
//! already none.

use ledger::{Action, Applied, Body, Entry, Event, Outcome, PublicKey};

/// The first thing in which a ledger's events differ from what an entry's accepted actions agree on.
pub(super) fn contradiction(entry: &Entry, applied: &Applied) -> Option<String> {
    let mut told = applied.events.iter().filter(|event| is_agreed(event)).peekable();
    for (action, signer, place) in accepted(entry, applied) {
        let is_told = told.next_if(|event| says(action, place, signer, event)).is_some();
        if !is_told && !matches!(action, Action::AddRoster { .. }) {
            let told = told.peek();
            return Some(format!("the ledger accepted {action:?}, and says {told:?} of it"));
        }
    }
    let made_up = told.next()?;
    Some(format!(
        "the ledger says {made_up:?}, and the log has nothing of it"
    ))
}

/// The actions of an entry that agree on something and were neither refused nor taken for repeated: who signed them, and as often as
/// something is told of them, counted.
fn accepted<'a>(
    entry: &'a Entry,
    applied: &'a Applied,
) -> impl Iterator<Item = (&'a Action, &'a PublicKey, usize)> {
    let envelopes = match &entry.body {
        Body::Envelopes { envelopes } => envelopes.as_slice(),
        _ => &[],
    };
    let accepted = envelopes
        .iter()
        .zip(&applied.answers)
        .filter(|(_, answer)| !answer.duplicate && !matches!(answer.outcome, Outcome::Refused { .. }));
    accepted.flat_map(|(envelope, _)| {
        let times = match &envelope.action {
            Action::SetMeritOrder { contracts, .. } => contracts.len(),
            Action::AddContract { .. }
            | Action::ChangeContract { .. }
            | Action::SetAuditRule { .. }
            | Action::Approve { .. }
            | Action::AddRoster { .. }
            | Action::UpsertAsset { rule: Some(_), .. } => 1,
            _ => 0,
        };
        (0..times).map(move |place| (&envelope.action, &envelope.signer, place))
    })
}

/// Whether an event tells of something that was agreed, and not of what the ledger computed.
fn is_agreed(event: &Event) -> bool {
    matches!(
        event,
        Event::RuleSet { .. }
            | Event::ContractSet { .. }
            | Event::AuditRuleSet { .. }
            | Event::Approved { .. }
            | Event::RosterAdded { .. }
    )
}

/// Whether the event tells this action, signed by this key, or what stands at this place of a merit order. That a contract which changes in one thing stays as it was in
/// all others is for the memory that has it to say.
fn says(action: &Action, place: usize, signer: &PublicKey, event: &Event) -> bool {
    match (action, event) {
        (
            Action::UpsertAsset { asset, rule, .. },
            Event::RuleSet {
                asset: of,
                rule: told,
            },
        ) => asset == of && rule.as_ref() == Some(told),
        (
            Action::AddContract {
                terms,
                status,
                priority,
            },
            Event::ContractSet { contract },
        ) => *terms == contract.terms && *status == contract.status && *priority == contract.priority,
        (Action::ChangeContract { contract: id, change }, Event::ContractSet { contract }) => {
            *id == contract.terms.id && change.from(contract.status) == Some(contract.status)
        }
        (Action::SetMeritOrder { asset, contracts }, Event::ContractSet { contract }) => {
            *asset == contract.terms.asset
                && contracts.get(place) == Some(&contract.terms.id)
                && i64::try_from(place + 1) == Ok(contract.priority)
        }
        (
            Action::SetAuditRule {
                asset,
                approvals,
                auditors,
            },
            Event::AuditRuleSet { asset: of, rule },
        ) => asset == of && *approvals == rule.approvals && auditors.iter().eq(&rule.auditors),
        (
            Action::Approve { asset, epoch },
            Event::Approved {
                asset: of,
                epoch: in_epoch,
                auditor,
            },
        ) => asset == of && epoch == in_epoch && signer == auditor,
        (Action::AddRoster { meters }, Event::RosterAdded { meters: told, .. }) => meters == told,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use ledger::contract::{Change, Delivery, Direction, Status, Terms};
    use ledger::rule::Rule;
    use ledger::units::MicroCurrency;
    use ledger::{AssetId, Epoch, Ledger, Timestamp, Wh};

    use super::super::testing;
    use super::*;
    use crate::gateway::sign_envelope;

    fn asset(name: &str) -> AssetId {
        name.try_into().expect("a name")
    }

    fn contract(name: &str) -> Action {
        let terms = Terms {
            id: name.try_into().expect("a name"),
            asset: asset("pv"),
            partner: asset("home"),
            direction: Direction::To,
            delivery: Delivery::AsAvailable,
            energy: Wh::new(100).expect("small"),
            load_min: Wh::default(),
            load_max: None,
            energy_total: None,
            valid_from: None,
            valid_until: None,
            price: MicroCurrency::new(5).expect("small"),
        };
        Action::AddContract {
            terms,
            status: Status::Active,
            priority: 3,
        }
    }

    fn epoch() -> Epoch {
        Epoch::new(7).expect("small")
    }

    /// An entry with everything that can be agreed, and some that is refused.
    fn everything(key: &PublicKey) -> Vec<Action> {
        let rule = Rule {
            from: None,
            to: Some(asset("street")),
        };
        let id = |name: &str| name.try_into().expect("a name");
        vec![
            Action::UpsertAsset {
                asset: asset("pv"),
                kind: None,
                rule: Some(rule),
                metadata: BTreeMap::new(),
            },
            contract("a"),
            contract("b"),
            contract("a"),
            Action::ChangeContract {
                contract: id("a"),
                change: Change::Suspend,
            },
            Action::SetMeritOrder {
                asset: asset("pv"),
                contracts: vec![id("b"), id("a")],
            },
            // As the merit order left it, but for its status.
            Action::ChangeContract {
                contract: id("b"),
                change: Change::Suspend,
            },
            Action::SetAuditRule {
                asset: asset("pv"),
                approvals: 1,
                auditors: [*key].into(),
            },
            Action::Approve {
                asset: asset("pv"),
                epoch: epoch(),
            },
            Action::Approve {
                asset: asset("nobody"),
                epoch: epoch(),
            },
            Action::AddRoster {
                meters: Arc::from([asset("pv"), asset("home")]),
            },
        ]
    }

    fn applied() -> (Entry, Applied) {
        let (key, public) = testing::key();
        let mut ledger = Ledger::new();
        let entry = |body| Entry {
            at: Timestamp::ZERO,
            body,
        };
        let genesis = testing::genesis();
        ledger.apply(1, &entry(Body::Genesis { genesis }));
        let cluster = ledger.cluster();
        let life = Timestamp::ZERO.plus(60_000);
        let envelopes = (0..).zip(everything(&public)).map(|(n, action)| {
            let nonce = [n; 16];
            sign_envelope(&key, cluster, nonce, life, action)
        });
        let mut envelopes: Vec<_> = envelopes.collect();
        // A retry agrees on nothing more.
        envelopes.extend_from_within(1..2);
        let entry = entry(Body::Envelopes { envelopes });
        let applied = ledger.apply(2, &entry);
        (entry, applied)
    }

    /// The same told otherwise.
    fn altered(event: &Event) -> Vec<Event> {
        match event {
            Event::RuleSet { asset, .. } => vec![Event::RuleSet {
                asset: asset.clone(),
                rule: Rule::default(),
            }],
            Event::ContractSet { contract } => {
                let mut all = vec![contract.clone()];
                // What changes in one thing only stays as it was in all others: that is the memory's to watch.
                let is_new = contract.status == Status::Active && contract.priority == 3;
                match contract.status {
                    Status::Suspended if contract.priority != 2 => all[0].status = Status::Active,
                    _ => all[0].priority += 7,
                }
                let mut other = contract.clone();
                other.terms.id = "c".try_into().expect("a name");
                all.push(other);
                if is_new {
                    let mut terms = contract.clone();
                    terms.terms.price = MicroCurrency::new(6).expect("small");
                    all.push(terms);
                }
                all.into_iter()
                    .map(|contract| Event::ContractSet { contract })
                    .collect()
            }
            Event::AuditRuleSet { asset, rule } => {
                let mut rules = vec![rule.clone(), rule.clone()];
                rules[0].approvals += 1;
                rules[1].auditors.clear();
                let set = |rule| Event::AuditRuleSet {
                    asset: asset.clone(),
                    rule,
                };
                rules.into_iter().map(set).collect()
            }
            Event::Approved { asset, epoch, .. } => vec![Event::Approved {
                asset: asset.clone(),
                epoch: *epoch,
                auditor: PublicKey([9; 32]),
            }],
            Event::RosterAdded { roster, meters } => vec![Event::RosterAdded {
                roster: *roster,
                meters: Arc::from(&meters[..1]),
            }],
            _ => Vec::new(),
        }
    }

    #[test]
    fn what_the_log_has_is_believed_and_nothing_else() {
        let (entry, applied) = applied();
        let of = |events: &[Event]| {
            let applied = Applied {
                events: events.to_vec(),
                ..applied.clone()
            };
            contradiction(&entry, &applied)
        };
        assert_eq!(of(&applied.events), None);
        let mut tried = 0;
        for (place, event) in applied
            .events
            .iter()
            .enumerate()
            .filter(|(_, event)| is_agreed(event))
        {
            let mut events = applied.events.clone();
            for other in altered(event) {
                events[place] = other.clone();
                assert!(of(&events).is_some(), "{other:?}");
                tried += 1;
            }
            events[place] = event.clone();
            events.insert(place, event.clone());
            assert!(of(&events).is_some(), "{event:?} twice");
            events.drain(place..place + 2);
            let may_lack = matches!(event, Event::RosterAdded { .. });
            assert_eq!(of(&events).is_none(), may_lack, "without {event:?}");
            tried += 2;
        }
        assert_eq!(tried, 39, "{:?}", applied.events);
    }
}
