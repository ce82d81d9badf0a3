//! Values that come just after their epoch was sealed, while every node moves it from memory into files.
//!
//! An epoch that changes meanwhile must stay, and what is in files already must come back whole. The moment is short, so it is
//! aimed at: with epochs for which nobody else reports any more.

use std::sync::Arc;

use serde_json::json;

use super::client::Client;
use super::work::{amount, settlement};
use super::{FIRST_EPOCH, LATE_EPOCHS};
use checkers::history::{Outcome, Reported};

/// How long a block's certificate and then the files may take, in milliseconds.
const UNTIL_FILED_MS: u64 = 60;

impl Client {
    /// Seals one epoch of the past a few times, and each time settles a little more in it, and in the one before, a moment later.
    pub(super) async fn come_late(&mut self) {
        let community = Arc::clone(&self.community);
        let back = self.rng.within(LATE_EPOCHS + 1..=LATE_EPOCHS + 3);
        let epoch = (self.epoch() - back).max(FIRST_EPOCH - LATE_EPOCHS + 1);
        for n in 0..self.rng.within(2..=5) {
            let seals = json!({"epoch": epoch, "brief": true});
            self.operate("balancing.sealEpoch", seals, Vec::new()).await;
            self.pause(0..=UNTIL_FILED_MS).await;
            let mut settles = Vec::new();
            for epoch in [epoch, epoch - 1] {
                let meter = self.rng.pick(&community.meters);
                settles.push(Reported {
                    meter: meter.id.clone(),
                    epoch,
                    consumption: amount(&mut self.rng, meter.produces),
                    label: format!("{}-{}-{n}-{epoch}-late", self.name, self.made),
                });
            }
            let body = settles.iter().map(|s| settlement(&mut self.rng, s)).collect();
            if self.operate("balancing.addSettlements", body, settles).await == Outcome::Done {
                self.history.lock().count("settlements that came late");
            }
        }
    }
}
