//! One client: an operation and all that is heard of it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::community::Community;
use super::mix::Mix;
use super::roster;
use super::{EPOCH_EVERY_MS, FIRST_EPOCH};
use crate::clock::Time;
use crate::http::{Answer, Http, Silence};
use crate::rng::{PerMillion, Rng};
use crate::timeline::{self, Attempt, Heard, What};
use crate::trace;
use checkers::history::{History, Moment, Operation, Outcome, Repeat, Reported, SealSeen};
use checkers::told;

/// Attempts at an operation.
const ATTEMPTS: usize = 6;

pub(super) struct Client {
    pub(super) name: String,
    pub(super) rng: Rng,
    pub(super) http: Http,
    /// Connections of their own, for what is sent twice at once.
    pub(super) second: Http,
    /// Connections of those who settle at once.
    pub(super) crowd: Vec<Http>,
    pub(super) time: Time,
    pub(super) roster: roster::Shared,
    pub(super) mix: Mix,
    pub(super) mute: BTreeSet<String>,
    pub(super) excused: BTreeSet<u64>,
    pub(super) distrusted: BTreeSet<u64>,
    pub(super) community: Arc<Community>,
    pub(super) history: Arc<Mutex<History>>,
    /// Whoever holds the gateways' key is an auditor too: this is it.
    pub(super) auditor: String,
    /// How long a node tries what it is asked, in milliseconds.
    pub(super) request_ms: u64,
    pub(super) made: u64,
    /// The last note, and how many assets it has had.
    pub(super) noted: (u64, u64),
}

impl Client {
    pub(super) fn epoch(&self) -> u64 {
        FIRST_EPOCH + self.time.now_ms() / EPOCH_EVERY_MS
    }

    /// The nodes of which everything may be asked when the faults are over.
    pub(super) fn healthy(&self) -> Vec<u64> {
        let roster = self.roster.lock();
        let there = roster.members.iter().filter(|node| roster.away != Some(**node));
        there
            .filter(|node| !self.excused.contains(node) && !roster.halted.contains(node))
            .copied()
            .collect()
    }

    /// A member; now and then one that was, and does not belong to the cluster any more.
    pub(super) fn any_node(&mut self) -> u64 {
        let stray = self.rng.chance(PerMillion::percent(3));
        let roster = self.roster.lock();
        let nodes = if stray && !roster.left.is_subset(&self.distrusted) {
            &roster.left
        } else {
            &roster.members
        };
        let trusted: Vec<u64> = nodes.difference(&self.distrusted).copied().collect();
        *self.rng.pick(&trusted)
    }

    /// This moment, behind all before it.
    pub(super) fn moment(&self) -> Moment {
        self.history.lock().moment(self.time.now_ms())
    }

    pub(super) async fn pause(&mut self, ms: std::ops::RangeInclusive<u64>) {
        tokio::time::sleep(Duration::from_millis(self.rng.within(ms))).await;
    }

    /// An operation, tried until it is answered or patience ends.
    pub(super) async fn operate(&mut self, action: &str, body: Value, settles: Vec<Reported>) -> Outcome {
        self.made += 1;
        let key = format!("{}-{}", self.name, self.made);
        let asked = self.moment();
        if self.mute.contains(&key) {
            return Outcome::Unknown;
        }
        let (mut outcome, mut told) = (Outcome::Unknown, None);
        let mut ended = asked;
        // Whether an attempt may have had an effect; one that had none says so.
        let (mut uncertain, mut turned_away) = (false, Outcome::Unknown);
        let mut node = self.any_node();
        for attempt in 0..ATTEMPTS {
            // Some outlast a node that gives up after a second.
            let patience = Duration::from_millis(*self.rng.pick(&[50, 300, 1_500, 5_000]));
            trace::record(format_args!("{key} asks n{node} {action} {body}"));
            let sent_ms = self.time.now_ms();
            // Impatient users press the button twice.
            let twin = self.rng.chance(PerMillion::percent(4)).then(|| self.any_node());
            let call = self.http.call(node, action, Some(&key), &body, patience);
            let (answer, twin) = match twin {
                None => (call.await, None),
                Some(other) => {
                    let again = self.second.call(other, action, Some(&key), &body, patience);
                    let (answer, again) = futures::join!(call, again);
                    (answer, Some((other, again)))
                }
            };
            ended = self.moment();
            draw_attempt(&key, node, action, sent_ms, &answer);
            self.note_early(&key, node, sent_ms..ended.ms, &answer);
            let had_no_effect = |answer: &Result<Answer, Silence>| {
                answer
                    .as_ref()
                    .is_ok_and(|answer| turned_away_by(answer).is_some())
            };
            let in_vain =
                had_no_effect(&answer) && twin.as_ref().is_none_or(|(_, again)| had_no_effect(again));
            for heard in [Some(&answer), twin.as_ref().map(|(_, again)| again)]
                .into_iter()
                .flatten()
            {
                match heard.as_ref().ok().and_then(turned_away_by) {
                    Some(why) => turned_away = why,
                    None => uncertain = true,
                }
            }
            if let (Ok(answer), Some((other, Ok(again)))) = (&answer, &twin) {
                self.history.lock().count("sent twice at once");
                self.same(action, &key, answer, *other, again);
            }
            match answer {
                Ok(answer) => {
                    trace::record(format_args!("{key} hears {answer}"));
                    self.note_odd(action, node, &answer);
                    outcome = judge(&answer);
                    if outcome != Outcome::Unknown {
                        told = (outcome == Outcome::Done).then(|| told::told(action, &body, &answer.body));
                        self.note_seals(node, &answer.body);
                        if attempt > 0 {
                            self.history.lock().count("answered by a retry");
                        }
                        if let [settled] = &settles[..] {
                            self.note_other(node, settled, &answer);
                        }
                        if self.rng.chance(PerMillion::percent(10)) {
                            self.repeat(action, &key, &body, &answer).await;
                        }
                        if outcome == Outcome::Done && self.rng.chance(PerMillion::percent(5)) {
                            self.use_again(&key).await;
                        }
                        break;
                    }
                }
                Err(silence) => {
                    trace::record(format_args!("{key} hears nothing: {silence:?}"));
                    if silence == Silence::Deadline {
                        self.history.lock().count("requests without an answer");
                    }
                }
            }
            // Whoever believes that nothing has happened need not ask again.
            if in_vain && self.rng.chance(PerMillion::percent(50)) {
                break;
            }
            self.pause(10..=400).await;
            node = self.any_node();
        }
        if outcome == Outcome::Unknown && !uncertain {
            self.history.lock().count("turned away, for good");
            outcome = turned_away;
        }
        let mut history = self.history.lock();
        history.count(match &outcome {
            Outcome::Done => "done",
            Outcome::Refused(..) => "refused",
            Outcome::Unknown => "unknown",
        });
        history.operations.push(Operation {
            key,
            keyed: true,
            action: action.to_owned(),
            body,
            settles,
            asked,
            ended,
            outcome: outcome.clone(),
            told,
        });
        outcome
    }

    /// Sends an answered operation again, elsewhere: nothing may happen, and the answer must be the same.
    async fn repeat(&mut self, action: &str, key: &str, body: &Value, first: &Answer) {
        let node = self.any_node();
        let Ok(again) = self
            .http
            .call(node, action, Some(key), body, Duration::from_secs(2))
            .await
        else {
            return;
        };
        if judge(&again) != Outcome::Unknown {
            self.history.lock().count("repeated");
        }
        self.same(action, key, first, node, &again);
    }

    /// Uses the key of an operation that was done for something else, which must be refused.
    async fn use_again(&mut self, key: &str) {
        let (node, action) = (self.any_node(), "balancing.addSettlement");
        let meter = &self.community.meters[0].id;
        let body = json!({"meterId": meter, "epoch": self.epoch(), "consumption": 1, "label": format!("{key}-again")});
        let answer = self
            .http
            .call(node, action, Some(key), &body, Duration::from_secs(2))
            .await;
        let Ok(answer) = answer else { return };
        self.note_odd(action, node, &answer);
        let told = judge(&answer);
        trace::record(format_args!("{key}, used for something else, hears {answer}"));
        match told {
            Outcome::Unknown => {}
            Outcome::Refused(_, code) if code == "nonce_reused" => {
                self.history
                    .lock()
                    .count("a key used for something else, refused");
            }
            Outcome::Done | Outcome::Refused(..) => {
                let what = format!("n{node} lets the key {key} be used for something else: {told:?}");
                self.history.lock().oddities.push((self.time.now_ms(), what));
            }
        }
    }

    /// Notes a node that gives up before a client's time is over: until then a leader may be found.
    pub(super) fn note_early(
        &self,
        key: &str,
        node: u64,
        waited: Range<u64>,
        answer: &Result<Answer, Silence>,
    ) {
        let waited_ms = waited.end - waited.start;
        let gives_up = answer
            .as_ref()
            .is_ok_and(|answer| answer.body["error"]["code"] == "no_leader");
        if gives_up && waited_ms < self.request_ms {
            let what = format!(
                "n{node} gives up {key} after {waited_ms} ms for want of a leader, and has {} ms",
                self.request_ms
            );
            self.history.lock().oddities.push((waited.end, what));
        }
    }

    /// Notes an answer to a single settlement that shows another's statement.
    pub(super) fn note_other(&self, node: u64, settled: &Reported, answer: &Answer) {
        let statement = &answer.body["statement"];
        if answer.status == 200 && !statement.is_null() && statement["label"] != *settled.label {
            let what = format!("n{node} answers {settled:?} with {statement}");
            self.history.lock().oddities.push((self.time.now_ms(), what));
        }
    }

    /// Notes two answers to one operation: they must be the same, as far as they say what became of it.
    fn same(&self, action: &str, key: &str, first: &Answer, node: u64, again: &Answer) {
        self.note_odd(action, node, again);
        if judge(first) == Outcome::Unknown || judge(again) == Outcome::Unknown {
            return;
        }
        self.history.lock().repeats.push(Repeat {
            key: key.to_owned(),
            at_ms: self.time.now_ms(),
            node,
            first: (first.status, stable(&first.body)),
            again: (again.status, stable(&again.body)),
        });
    }

    /// Notes answers that no node should give.
    pub(super) fn note_odd(&self, action: &str, node: u64, answer: &Answer) {
        note_odd(&self.history, self.time.now_ms(), action, node, answer);
    }

    /// Notes every seal that an answer speaks of.
    pub(super) fn note_seals(&self, node: u64, body: &Value) {
        let one = |seal: &Value| {
            Some(SealSeen {
                at_ms: self.time.now_ms(),
                node,
                asset: seal["assetId"].as_str()?.to_owned(),
                epoch: seal["epoch"].as_u64()?,
                version: seal["version"].as_u64()?,
                digest: seal["digest"].as_str()?.to_owned(),
            })
        };
        let all = body["seals"].as_array().into_iter().flatten();
        let auto = body["autoseals"].as_array().into_iter().flatten();
        let auto = auto.chain([&body["autoseal"]]);
        let seals = one(body).into_iter().chain(all.filter_map(one));
        let seals: Vec<SealSeen> = seals.chain(auto.filter_map(one)).collect();
        for seal in &seals {
            timeline::note(What::Sealed(seal.asset.clone(), seal.epoch, seal.version));
        }
        self.history.lock().seals.extend(seals);
    }
}

/// Notes answers that no node should give.
pub(super) fn note_odd(history: &Mutex<History>, now_ms: u64, action: &str, node: u64, answer: &Answer) {
    let allowed = match answer.status {
        200 => true,
        503 | 504 => !answer.body["error"]["code"].is_null(),
        400..500 => !answer.body["error"]["code"].is_null() && !answer.body["error"]["message"].is_null(),
        _ => false,
    };
    if !allowed {
        let what = format!("n{node} answers {action} with {} {}", answer.status, answer.body);
        history.lock().oddities.push((now_ms, what));
    }
}

/// Notes a request for the timeline.
pub(super) fn draw_attempt(
    key: &str,
    node: u64,
    action: &str,
    asked_ms: u64,
    answer: &Result<Answer, Silence>,
) {
    let heard = match answer {
        Err(_) => Heard::Silence,
        Ok(answer) => match judge(answer) {
            Outcome::Done => Heard::Done,
            Outcome::Refused(status, code) => Heard::Refused(status, code),
            Outcome::Unknown => Heard::Unsure(answer.status),
        },
    };
    timeline::note(What::Attempt(Attempt {
        key: key.to_owned(),
        node,
        action: action.to_owned(),
        asked_ms,
        heard,
    }));
}

/// What an answer says that means: this attempt had no effect, and never will have.
pub(super) fn turned_away_by(answer: &Answer) -> Option<Outcome> {
    let code = answer.body["error"]["code"].as_str()?;
    matches!(
        (answer.status, code),
        (429, "busy" | "archive_busy") | (503, "no_leader" | "stopping")
    )
    .then(|| Outcome::Refused(answer.status, code.to_owned()))
}

/// What an answer says of the outcome. Silence and its likes say nothing.
pub(super) fn judge(answer: &Answer) -> Outcome {
    match answer.status {
        200 => Outcome::Done,
        // Too much under way: this attempt did nothing, but an earlier one may have.
        429 => Outcome::Unknown,
        400..500 => {
            let code = answer.body["error"]["code"].as_str().unwrap_or("none");
            Outcome::Refused(answer.status, code.to_owned())
        }
        _ => Outcome::Unknown,
    }
}

/// An answer without what may differ between two nodes that say the same: who signed the convenience token, and
/// what time it is.
fn stable(body: &Value) -> Value {
    match body {
        Value::Object(fields) => {
            let kept = fields
                .iter()
                .filter(|(name, _)| !matches!(name.as_str(), "seal" | "now"));
            kept.map(|(name, value)| (name.clone(), stable(value))).collect()
        }
        Value::Array(items) => items.iter().map(stable).collect(),
        other => other.clone(),
    }
}
