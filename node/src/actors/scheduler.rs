//! The scheduler: on the leader, proposes to seal what is due. Off unless `seal.auto` is set.
//!
//! An epoch is due once the ledger's time is past its end and the grace. What was held then is tried again at once when
//! something else is open as well, and else ever more seldom (an approval may have come meanwhile), so that a stuck
//! epoch doesn't fill the log. Two leaders that overlap may both propose: the second finds nothing open.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use actix::{Actor, ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};
use ledger::{Action, AssetId, Epoch, Outcome, ROOT, Timestamp};

use crate::gateway::{Backend as _, Gateway};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(2);
/// Epochs proposed at one look; the rest waits for the next.
const MOST: usize = 64;
/// Looks after which an epoch that was left as it is is tried again: half a minute, then twice as long each time.
const FIRST_PAUSE: u32 = 15;
/// The longest such pause: a quarter of an hour.
const LONGEST_PAUSE: u32 = 450;

/// The actor.
pub(crate) struct Scheduler {
    gateway: Gateway,
    grace_epochs: u64,
    /// Epochs that were proposed, and still have something open.
    tried: BTreeMap<Epoch, Tried>,
    /// Whether proposals of the last look are still under way.
    busy: bool,
}

/// What the last proposal of an epoch left open.
#[derive(Debug, Default, PartialEq)]
struct Tried {
    held: BTreeSet<AssetId>,
    /// Looks until it is tried again though nothing has changed.
    pause: u32,
    /// The pause after that.
    next_pause: u32,
}

impl Tried {
    /// After a proposal that left this open.
    fn again(&mut self, held: BTreeSet<AssetId>) {
        self.pause = match self.held == held {
            true => self.next_pause.clamp(FIRST_PAUSE, LONGEST_PAUSE),
            false => FIRST_PAUSE,
        };
        if planted!("held-for-good") && !held.is_empty() {
            self.pause = u32::MAX;
        }
        self.next_pause = self.pause.saturating_mul(2);
        self.held = held;
    }

    /// One look later: whether an epoch with this open should be proposed.
    fn is_due(&mut self, open: &[AssetId]) -> bool {
        self.pause = self.pause.saturating_sub(1);
        // The root is never sealed, so it stays open.
        let sealable = open.iter().filter(|asset| **asset != *ROOT);
        let (mut sealable, mut known) = (sealable.peekable(), self.held.iter());
        if sealable.peek().is_none() {
            return false;
        }
        self.pause == 0 || !sealable.by_ref().eq(known.by_ref())
    }
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
            .filter(|(epoch, open)| self.tried.entry(**epoch).or_default().is_due(open))
            .map(|(epoch, _)| *epoch)
            .take(MOST)
            .collect();
        if fresh.is_empty() {
            return;
        }
        self.busy = true;
        let gateway = self.gateway.clone();
        let proposed = async move {
            let mut left = Vec::new();
            for epoch in fresh {
                let nonce = gateway.nonce();
                match gateway.act(Action::SealEpoch { epoch, under: None }, nonce).await {
                    Ok(receipt) => left.push((epoch, held(&receipt.outcome))),
                    // Nothing is known of it, so the next look proposes it again.
                    Err(error) => tracing::warn!(%epoch, %error, "an epoch that is due was not sealed yet"),
                }
            }
            left
        };
        ctx.spawn(proposed.into_actor(self).map(|left, scheduler, _| {
            scheduler.busy = planted!("seals-by-itself-once");
            for (epoch, held) in left {
                scheduler.tried.entry(epoch).or_default().again(held);
            }
        }));
    }
}

/// What a proposal left open.
fn held(outcome: &Outcome) -> BTreeSet<AssetId> {
    match outcome {
        Outcome::EpochSealed { held, .. } => held.iter().map(|held| held.asset.clone()).collect(),
        _ => BTreeSet::new(),
    }
}

/// Whether an epoch is over, and the grace after it too.
fn due(epoch: Epoch, epoch_ms: u64, grace_epochs: u64, now: Timestamp) -> bool {
    let end = u64::from(!planted!("sealed-before-it-is-over"));
    let over = epoch.get().saturating_add(end).saturating_add(grace_epochs);
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
    fn what_is_held_is_tried_ever_more_seldom_and_what_is_new_at_once() {
        let names = |names: &[&str]| -> Vec<AssetId> {
            let name = |name: &&str| AssetId::try_from(*name).expect("a name");
            names.iter().map(name).collect()
        };
        let root = || vec![ROOT.clone()];
        let open = |of: &[&str]| [root(), names(of)].concat();
        let mut tried = Tried::default();
        assert!(tried.is_due(&open(&["street"])), "it was never proposed");
        assert!(!Tried::default().is_due(&root()), "nobody seals the root");
        // Sealed, and nothing but the root is left; then a late value comes, for the very asset that was open before.
        tried.again(BTreeSet::new());
        assert!(!tried.is_due(&root()));
        assert!(tried.is_due(&open(&["street"])));
        // It is held: the pauses grow.
        let held = || names(&["street"]).into_iter().collect();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            tried.again(held());
            pauses.push(
                (1u32..)
                    .find(|_| tried.is_due(&open(&["street"])))
                    .expect("in the end"),
            );
        }
        assert_eq!(pauses, [15, 30, 60, 120, 240, 450, 450]);
        tried.again(held());
        assert!(tried.is_due(&open(&["pv", "street"])), "something else is open");
        tried.again(names(&["pv"]).into_iter().collect());
        assert_eq!(tried.pause, FIRST_PAUSE, "another thing is held");
    }

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
