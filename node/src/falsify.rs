//! For demonstrations and tests: a ledger that computes wrongly, so that its own node can be seen to notice.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use ledger::roster::Row;
use ledger::units::MicroCurrency;
use ledger::{Action, Applied, Body, ClusterId, Entry, Event, Ledger, Wh, merkle};

use crate::gateway::sign_envelope;

/// From when on a ledger computes wrongly, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Falsify {
    /// The first log index.
    pub from: u64,
    /// What is wrong.
    pub what: Wrong,
}

/// What a ledger computes wrongly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// It books one watt-hour more in every settlement, and takes down every new contract as a little dearer.
    #[default]
    Books,
    /// It books rightly, and the first seal of every block shows one watt-hour more that came in, in the seal's digest and in the
    /// block's header, too.
    Seals,
}

/// The entry with one watt-hour more in every settlement that will be booked, and every contract that will be made a little
/// dearer: what a ledger that computes wrongly might take down. Only envelopes that the gateway's key signed can be
/// falsified. Those that are refused or repeated stay as they are: told otherwise, the ledger would book the same and only its
/// running digest would differ, which no actor knows.
pub(crate) fn entry(ledger: &Ledger, entry: &Entry, key: &SigningKey, cluster: ClusterId) -> Entry {
    let at = entry.at;
    let mut entry = entry.clone();
    if let Body::Envelopes { envelopes } = &mut entry.body {
        let books = |envelope: &ledger::Envelope| {
            envelope.not_after >= at
                && ledger.check_envelope(envelope).is_ok()
                && ledger.remembered(&envelope.id()).is_none()
                && match &envelope.action {
                    Action::Settle { settlements } => settlements.iter().all(|s| s.meter != *ledger::ROOT),
                    Action::SettleRoster { batch } => ledger.roster(&batch.roster).is_some_and(|meters| {
                        batch.rows.iter().all(|row| (row.place as usize) < meters.len())
                    }),
                    Action::AddContract { terms, priority, .. } => {
                        ledger.check_contract(terms, *priority).is_ok()
                    }
                    _ => false,
                }
        };
        for envelope in envelopes.iter_mut().filter(|envelope| books(envelope)) {
            match &mut envelope.action {
                Action::Settle { settlements } => {
                    for settlement in settlements {
                        let more = settlement.consumption.get() + 1;
                        settlement.consumption = Wh::new(more).unwrap_or(settlement.consumption);
                    }
                }
                Action::SettleRoster { batch } => {
                    let rows = batch.rows.iter().map(|row| Row {
                        consumption: row.consumption.saturating_add(1),
                        ..row
                    });
                    batch.rows = rows.collect();
                }
                Action::AddContract { terms, .. } => {
                    let dearer = MicroCurrency::new(terms.price.get() + 1);
                    terms.price = dearer.unwrap_or(terms.price);
                }
                _ => continue,
            }
            let action = envelope.action.clone();
            *envelope = sign_envelope(key, cluster, envelope.nonce, envelope.not_after, action);
        }
    }
    entry
}

/// What an entry did, with one watt-hour more in the first seal that it made.
pub(crate) fn seals(applied: &mut Applied) {
    let mut digests = Vec::new();
    for event in &mut applied.events {
        let Event::Sealed(sealed) = event else { continue };
        if digests.is_empty() {
            let sealed = Arc::make_mut(sealed);
            let mut seal = (*sealed.seal).clone();
            seal.energy_in = Wh::new(seal.energy_in.wide() + 1).unwrap_or(seal.energy_in);
            sealed.digest = seal.digest();
            sealed.seal = Arc::new(seal);
        }
        digests.push(sealed.digest);
    }
    if let Some(header) = &mut applied.block {
        header.root = merkle::root(&digests);
    }
}
