//! Values that come just after their epoch was sealed, while every node moves it from memory into files.
//!
//! An epoch that changes meanwhile must stay, and what is in files already must come back whole. The moment is short, so it is
//! aimed at: with epochs for which nobody else reports any more.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::client::Client;
use super::community::{Community, Member};
use super::work::{amount, read, settlement};
use super::{FIRST_EPOCH, LATE_EPOCHS};
use crate::rng::PerMillion;
use checkers::history::{Outcome, Reported};

/// How long a block's certificate and then the files may take, in milliseconds.
const UNTIL_FILED_MS: u64 = 60;

/// Who read meanwhile, each at one node.
const READERS: usize = 2;
/// Before they read again.
const PAUSE: Duration = Duration::from_millis(1);

impl Client {
    /// Seals one epoch of the past a few times, and each time settles a little more in it, and in the one before, a moment later;
    /// meanwhile others read both, out of whatever files they are in.
    pub(super) async fn come_late(&mut self) {
        let community = Arc::clone(&self.community);
        let mut readers = std::mem::take(&mut self.crowd);
        let (history, time) = (Arc::clone(&self.history), self.time.clone());
        let now = || time.now_ms();
        let nodes: Vec<u64> = (0..READERS).map(|_| self.any_node()).collect();
        let meter = self.rng.pick(&community.meters);
        let back = self.rng.within(LATE_EPOCHS + 1..=LATE_EPOCHS + 3);
        let epoch = (self.epoch() - back).max(FIRST_EPOCH - LATE_EPOCHS + 1);
        let over = Cell::new(false);
        let (over, history, now) = (&over, &history, &now);
        let reading = readers
            .iter_mut()
            .zip(nodes)
            .zip(0..)
            .map(async |((http, node), n)| {
                while !over.get() {
                    read(history, now, http, node, (&meter.id, epoch - n % 2), false).await;
                    // A node that is not there says so in no time.
                    tokio::time::sleep(PAUSE).await;
                }
            });
        let writing = async {
            self.settle_late(&community, epoch, meter).await;
            over.set(true);
        };
        futures::join!(futures::future::join_all(reading), writing);
        self.crowd = readers;
    }

    async fn settle_late(&mut self, community: &Community, epoch: u64, read: &Member) {
        for n in 0..self.rng.within(2..=5) {
            let seals = json!({"epoch": epoch, "brief": true});
            self.operate("balancing.sealEpoch", seals, Vec::new()).await;
            self.pause(0..=UNTIL_FILED_MS).await;
            let mut settles = Vec::new();
            for epoch in [epoch, epoch - 1] {
                let meter = match self.rng.chance(PerMillion::percent(50)) {
                    true => read,
                    false => self.rng.pick(&community.meters),
                };
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
