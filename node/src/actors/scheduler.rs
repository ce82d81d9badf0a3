//! The scheduler: on the leader, proposes to seal what is due. Off unless `seal.auto` is set.
//!
//! An epoch is due once the ledger's time is past its end and the grace. What could not be sealed (held assets)
//! is tried again only when the set of open assets has changed, so that a stuck epoch doesn't fill the log. Two
//! leaders that overlap may both propose: the second finds nothing open.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::{Actor, ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};
use ledger::{Action, AssetId, Epoch, Timestamp};

use crate::gateway::{Backend as _, Gateway};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(2);
/// Epochs proposed at one look; the rest waits for the next.
const MOST: usize = 64;

/// The actor.
pub(crate) struct Scheduler {
    gateway: Gateway,
    grace_epochs: u64,
    /// What was open when an epoch was last proposed.
    tried: BTreeMap<Epoch, Vec<AssetId>>,
    /// Whether proposals of the last look are still under way.
    busy: bool,
}

impl Scheduler {
    pub(crate) fn new(gateway: Gateway, grace_epochs: u64) -> Self {
        Scheduler {
            gateway,
            grace_epochs,
            tried: BTreeMap::new(),
            busy: false,
        }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let status = self.gateway.status();
        if self.busy || status.leader != Some(status.node) || !status.alarms.is_empty() {
            return;
        }
        let open: BTreeMap<Epoch, Vec<AssetId>> = {
            let ledger = self.gateway.ledger().read();
            let Some(epoch_ms) = ledger.epoch_ms() else { return };
            let due = ledger
                .unfrozen_epochs()
                .take_while(|epoch| due(*epoch, epoch_ms, self.grace_epochs, ledger.now()));
            due.map(|epoch| (epoch, ledger.open_assets(epoch)))
                .filter(|(_, open)| !open.is_empty())
                .collect()
        };
        self.tried.retain(|epoch, _| open.contains_key(epoch));
        let fresh: Vec<Epoch> = open
            .iter()
            .filter(|(epoch, assets)| self.tried.get(epoch) != Some(assets))
            .map(|(epoch, _)| *epoch)
            .take(MOST)
            .collect();
        for epoch in &fresh {
            self.tried
                .insert(*epoch, open.get(epoch).cloned().unwrap_or_default());
        }
        if fresh.is_empty() {
            return;
        }
        self.busy = true;
        let gateway = self.gateway.clone();
        let proposed = async move {
            let mut failed = Vec::new();
            for epoch in fresh {
                let nonce = gateway.nonce();
                if let Err(error) = gateway.act(Action::SealEpoch { epoch, under: None }, nonce).await {
                    tracing::warn!(%epoch, %error, "an epoch that is due was not sealed yet");
                    failed.push(epoch);
                }
            }
            failed
        };
        ctx.spawn(proposed.into_actor(self).map(|failed, scheduler, _| {
            scheduler.busy = false;
            for epoch in failed {
                scheduler.tried.remove(&epoch);
            }
        }));
    }
}

/// Whether an epoch is over, and the grace after it too.
fn due(epoch: Epoch, epoch_ms: u64, grace_epochs: u64, now: Timestamp) -> bool {
    let over = epoch.get().saturating_add(1).saturating_add(grace_epochs);
    over.saturating_mul(epoch_ms) <= now.get()
}

impl Actor for Scheduler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(EVERY, Self::look);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_due_after_its_end_and_the_grace() {
        let at = |ms| Timestamp::new(ms).expect("a moment");
        let epoch = Epoch::new(9).expect("an epoch");
        assert!(!due(epoch, 1000, 0, at(9_999)));
        assert!(due(epoch, 1000, 0, at(10_000)));
        assert!(!due(epoch, 1000, 2, at(11_999)));
        assert!(due(epoch, 1000, 2, at(12_000)));
        assert!(!due(
            Epoch::new(ledger::units::EPOCHS - 1).expect("the last"),
            u64::MAX,
            1,
            at(5)
        ));
    }
}
