//! Many who settle at once, without keys: what the gateway merges under one signature.
//!
//! Without a key nothing can be tried again, so each asks once, and without an answer nobody knows.

use std::sync::Arc;
use std::time::Duration;

use super::LATE_EPOCHS;
use super::client::{Client, draw_attempt, judge, turned_away_by};
use super::work::{amount, settlement};
use crate::rng::PerMillion;
use crate::trace;
use checkers::history::{Operation, Outcome, Reported};

const ACTION: &str = "balancing.addSettlement";

impl Client {
    /// Some of the crowd settle a little each, all at the same node.
    pub(super) async fn settle_in_a_crowd(&mut self) {
        let community = Arc::clone(&self.community);
        let node = self.any_node();
        // The longest hears even a node that finds no leader: that nothing was done, if it says so.
        let patience = Duration::from_millis(*self.rng.pick(&[300, 1_000, 5_000, 12_000]));
        let mut asked = Vec::new();
        // All at once, or one after the other: then some have waited for longer than others with whom they travel.
        let apart_ms = match self.rng.chance(PerMillion::percent(40)) {
            true => *self.rng.pick(&[20, 300]),
            false => 0,
        };
        for _ in 0..self.rng.within(2..=self.crowd.len() as u64) {
            self.made += 1;
            let key = format!("{}-{}", self.name, self.made);
            if self.mute.contains(&key) {
                continue;
            }
            let meter = self.rng.pick(&community.meters);
            let settled = Reported {
                meter: meter.id.clone(),
                epoch: self.epoch().saturating_sub(self.rng.below(LATE_EPOCHS + 1)),
                consumption: amount(&mut self.rng, meter.produces),
                label: format!("{key}-crowd"),
            };
            let body = settlement(&mut self.rng, &settled);
            trace::record(format_args!("{key} asks n{node} {ACTION} {body}, without a key"));
            let after = Duration::from_millis(self.rng.within(0..=apart_ms));
            asked.push((key, settled, body, after));
        }
        let calls = self.crowd.iter_mut().zip(&asked);
        let (history, time) = (&self.history, &self.time);
        let calls = calls.map(async |(http, (_, _, body, after))| {
            tokio::time::sleep(*after).await;
            let asked = history.lock().moment(time.now_ms());
            let answer = http.call(node, ACTION, None, body, patience).await;
            (answer, asked, history.lock().moment(time.now_ms()))
        });
        let answers = futures::future::join_all(calls).await;
        for ((key, settled, body, _), (answer, when, ended)) in asked.into_iter().zip(answers) {
            draw_attempt(&key, node, ACTION, when.ms, &answer);
            self.note_early(&key, node, when.ms..ended.ms, &answer);
            let outcome = match &answer {
                Ok(answer) => {
                    trace::record(format_args!("{key} hears {answer}"));
                    self.note_odd(ACTION, node, answer);
                    self.note_other(node, &settled, answer);
                    turned_away_by(answer).unwrap_or_else(|| judge(answer))
                }
                Err(silence) => {
                    trace::record(format_args!("{key} hears nothing: {silence:?}"));
                    Outcome::Unknown
                }
            };
            let mut history = self.history.lock();
            history.count("settled in a crowd");
            history.operations.push(Operation {
                key,
                keyed: false,
                action: ACTION.to_owned(),
                body,
                settles: vec![settled],
                asked: when,
                ended,
                outcome,
                told: None,
            });
        }
    }
}
