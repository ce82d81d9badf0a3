//! Settlements that are read as soon as they are acknowledged, by a node that is read from all the time.
//!
//! A node answers many reads after one question to its leader, and a leader many questions after one round of
//! heartbeats. A read must not be served by a question that was asked before the read: what was acknowledged in between
//! would be missing. That shows only where readers are many and close behind a writer.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::client::Client;
use super::work::{amount, read};
use checkers::history::{Outcome, Reported};

/// Readers of a journal that is chased, at its node, and one more elsewhere.
const READERS: usize = 3;
/// Before they read again.
const PAUSE: Duration = Duration::from_millis(1);

impl Client {
    /// Some settlements of one meter, one after the other, each read back at once, while others read the same journal
    /// at the same node all the time.
    pub(super) async fn chase(&mut self) {
        let community = Arc::clone(&self.community);
        let meter = self.rng.pick(&community.meters);
        let epoch = self.epoch();
        let (node, other) = (self.any_node(), self.any_node());
        let place = (meter.id.as_str(), epoch);
        let (history, time) = (Arc::clone(&self.history), self.time.clone());
        let now = || time.now_ms();
        let mut readers = std::mem::take(&mut self.crowd);
        let (reading, last) = readers.split_at_mut(READERS);
        let over = Cell::new(false);
        let nodes = [node, node, other];
        let reading = reading.iter_mut().zip(nodes).map(async |(http, node)| {
            while !over.get() {
                read(&history, now, http, node, place, false).await;
                // A node that is not there says so in no time.
                tokio::time::sleep(PAUSE).await;
            }
        });
        let writing = async {
            for n in 0..self.rng.within(2..=6) {
                let settled = Reported {
                    meter: meter.id.clone(),
                    epoch,
                    consumption: amount(&mut self.rng, meter.produces),
                    label: format!("{}-{}-{n}-chased", self.name, self.made),
                };
                let body = json!({
                    "meterId": settled.meter, "epoch": epoch, "consumption": settled.consumption, "label": settled.label,
                });
                let settles = vec![settled];
                if self.operate("balancing.addSettlement", body, settles).await == Outcome::Done {
                    read(&history, now, &mut last[0], node, place, false).await;
                }
            }
            self.history.lock().count("settlements chased");
            over.set(true);
        };
        futures::join!(futures::future::join_all(reading), writing);
        self.crowd = readers;
    }
}
