//! What was agreed stands in the log: rules, contracts, rosters and approvals are taken from the ledger's events only as the entry's
//! accepted actions say them. A ledger that takes one down wrongly would otherwise hand the mistake on to the memories that are to
//! find it.

use ledger::{Action, Applied, Body, Entry, Event, Outcome, PublicKey};

/// The accepted actions of an entry, each with who signed it.
pub(super) struct Agreed<'a>(Vec<(&'a Action, PublicKey)>);

impl<'a> Agreed<'a> {
    /// Those of an entry that the ledger neither refused nor took for repeated.
    pub(super) fn of(entry: &'a Entry, applied: &Applied) -> Agreed<'a> {
        let envelopes = match &entry.body {
            Body::Envelopes { envelopes } => envelopes.as_slice(),
            _ => &[],
        };
        let accepted = envelopes
            .iter()
            .zip(&applied.answers)
            .filter(|(_, answer)| !answer.duplicate && !matches!(answer.outcome, Outcome::Refused { .. }));
        Agreed(
            accepted
                .map(|(envelope, _)| (&envelope.action, envelope.signer))
                .collect(),
        )
    }

    /// What these events tell that was not agreed, and what was agreed that they don't tell. Both are in the same order.
    pub(super) fn contradictions(&self, events: &[Event]) -> Vec<String> {
        let mut found = Vec::new();
        let mut actions = self.0.iter().peekable();
        let nothing_came =
            |action: &Action| format!("the ledger accepted {action:?}, and nothing came of it");
        for event in events.iter().filter(|event| is_agreed(event)) {
            loop {
                let Some((action, signer)) = actions.peek().copied() else {
                    found.push(format!(
                        "the ledger says {event:?}, and the log has nothing of it"
                    ));
                    break;
                };
                if says(action, signer, event) {
                    // A merit order is told contract by contract.
                    if !matches!(action, Action::SetMeritOrder { .. }) {
                        actions.next();
                    }
                    break;
                }
                if has_event(action) {
                    found.push(nothing_came(action));
                }
                actions.next();
            }
        }
        let rest = actions.filter(|(action, _)| has_event(action));
        found.extend(rest.map(|(action, _)| nothing_came(action)));
        found
    }
}

/// Whether something is told of an action whenever it is accepted.
fn has_event(action: &Action) -> bool {
    matches!(
        action,
        Action::AddContract { .. }
            | Action::ChangeContract { .. }
            | Action::SetAuditRule { .. }
            | Action::Approve { .. }
            | Action::UpsertAsset { rule: Some(_), .. }
    )
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

/// Whether this action, signed by this key, is what the event tells. That a contract which changes in one thing stays as it was in
/// all others is for the memory that has it to say.
fn says(action: &Action, signer: &PublicKey, event: &Event) -> bool {
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
            let place = contracts.iter().position(|id| *id == contract.terms.id);
            let priority = place.and_then(|place| i64::try_from(place + 1).ok());
            *asset == contract.terms.asset && priority == Some(contract.priority)
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

    use ed25519_dalek::SigningKey;
    use ledger::contract::{Change, Delivery, Direction, Status, Terms};
    use ledger::rule::Rule;
    use ledger::units::MicroCurrency;
    use ledger::{AssetId, Epoch, Genesis, Ledger, Timestamp, Wh};

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
        let key = SigningKey::from_bytes(&[1; 32]);
        let public = PublicKey(key.verifying_key().to_bytes());
        let genesis = Genesis {
            salt: [7; 32],
            created: Timestamp::ZERO,
            epoch_ms: 900_000,
            nodes: vec![(1, public)],
            admins: vec![public],
            gateways: vec![public],
            development: true,
        };
        let mut ledger = Ledger::new();
        let entry = |body| Entry {
            at: Timestamp::ZERO,
            body,
        };
        ledger.apply(1, &entry(Body::Genesis { genesis }));
        let cluster = ledger.cluster();
        let life = Timestamp::ZERO.plus(60_000);
        let envelopes = (0..).zip(everything(&public)).map(|(n, action)| {
            let nonce = [n; 16];
            sign_envelope(&key, cluster, nonce, life, action)
        });
        let entry = entry(Body::Envelopes {
            envelopes: envelopes.collect(),
        });
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
                    Status::Suspended if contract.priority == 3 => all[0].status = Status::Active,
                    _ => all[0].priority += 7,
                }
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
        let agreed = Agreed::of(&entry, &applied);
        let contradictions = |events: &[Event]| agreed.contradictions(events).len();
        assert_eq!(agreed.contradictions(&applied.events), [""; 0]);
        let (mut tried, mut told) = (0, 0);
        for (place, event) in applied.events.iter().enumerate() {
            for other in altered(event) {
                let mut events = applied.events.clone();
                events[place] = other.clone();
                assert_ne!(contradictions(&events), 0, "{other:?}");
                tried += 1;
            }
            if is_agreed(event) {
                let mut events = applied.events.clone();
                events.insert(place, event.clone());
                let twice_is_once = matches!(event, Event::ContractSet { contract } if contract.priority < 3);
                assert_eq!(contradictions(&events) == 0, twice_is_once, "{event:?} twice");
                told += 1;
            }
        }
        assert_eq!((tried, told), (12, 9), "{:?}", applied.events);
        assert_eq!(
            contradictions(&[]),
            6,
            "a rule, two contracts, a change, an audit rule, an approval"
        );
    }
}
