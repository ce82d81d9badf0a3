//! A client who lies: envelopes that were signed for another cluster, by nobody, or for another time. None may be let in.
//! And one who renews: what was signed anew, for longer or less long, may be let in, but does nothing a second time.
//!
//! The envelope for another cluster carries a good signature of a key that this cluster trusts: what was signed
//! elsewhere must mean nothing here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use checkers::history::History;
use ed25519_dalek::SigningKey;
use gridseal::gateway::sign_envelope;
use ledger::canonical::Canonical as _;
use ledger::{Action, AssetId, Digest, Envelope, Epoch, GramsCo2, Label, Settlement, Timestamp, Wh, jws};
use parking_lot::Mutex;
use serde_json::json;

use crate::clock::{EPOCH_MS, Time};
use crate::http::{Answer, Http};
use crate::rng::{PerMillion, Rng};

/// Some other cluster.
const ELSEWHERE: Digest = Digest([0xee; 32]);
/// An envelope's life, in milliseconds.
const LIFE_MS: u64 = 600_000;
/// The life of an envelope that is renewed, in milliseconds.
const SHORT_LIFE_MS: u64 = 3_000;
/// Further away than any clock is wrong, in milliseconds.
const FAR_MS: u64 = 3 * 24 * 3_600_000;

/// The rogue.
pub struct Rogue {
    /// Decides what it tries.
    pub rng: Rng,
    /// How it asks.
    pub http: Http,
    /// True time.
    pub time: Time,
    /// How many nodes there are to talk to.
    pub nodes: u64,
    /// A meter of the community.
    pub meter: AssetId,
    /// A key that the cluster trusts, used for another cluster or for another time.
    pub gateway: SigningKey,
    /// The cluster itself.
    pub cluster: Digest,
    /// Where its successes are noted.
    pub history: Arc<Mutex<History>>,
}

impl Rogue {
    /// Tries until the time has come.
    pub async fn work(mut self, until_ms: u64) {
        let mut tried = 0;
        while self.time.now_ms() < until_ms {
            tokio::time::sleep(Duration::from_millis(self.rng.within(500..=2_500))).await;
            tried += 1;
            if self.rng.chance(PerMillion::percent(15)) {
                self.renew(tried, until_ms).await;
                continue;
            }
            if self.rng.chance(PerMillion::percent(15)) {
                self.come_last(tried).await;
                continue;
            }
            let Some((what, envelope)) = self.forge(tried) else {
                continue;
            };
            let (node, Some(answer)) = self.submit(&envelope).await else {
                continue;
            };
            let mut history = self.history.lock();
            history.count("forged envelopes answered");
            if answer.status == 200 {
                let what = format!("n{node} lets in an envelope {what}: {}", answer.body);
                history.oddities.push((self.time.now_ms(), what));
            }
        }
    }

    async fn submit(&mut self, envelope: &Envelope) -> (u64, Option<Answer>) {
        let node = self.rng.within(1..=self.nodes);
        let body = json!({"envelope": jws::base64url(&envelope.to_bytes())});
        let answer = self
            .http
            .call(node, "envelope.submit", None, &body, Duration::from_secs(3))
            .await;
        (node, answer.ok())
    }

    /// The ledger's time, as a node shows it.
    async fn ledger_ms(&mut self) -> Option<u64> {
        let node = self.rng.within(1..=self.nodes);
        let patience = Duration::from_secs(3);
        let answer = self
            .http
            .call(node, "cluster.status", None, &json!({}), patience)
            .await;
        answer.ok()?.now
    }

    /// Says one thing three times: signed for a short time and anew for longer, or the other way round, and the longer one again
    /// when the short time is over. What then counts as a retry is for the checkers to say; time may jump.
    async fn renew(&mut self, tried: u64, until_ms: u64) {
        let Some(now) = self.ledger_ms().await else { return };
        let action = self.note("renewed", tried);
        let mut nonce = [0; 16];
        self.rng.fill(&mut nonce);
        let short = now + SHORT_LIFE_MS;
        let sign = |not_after| {
            let not_after = Timestamp::ZERO.plus(not_after);
            sign_envelope(&self.gateway, self.cluster, nonce, not_after, action.clone())
        };
        let (brief, long) = (sign(short), sign(now + LIFE_MS));
        let mut both = [&brief, &long];
        if self.rng.chance(PerMillion::percent(50)) {
            both.reverse();
        }
        for envelope in both {
            self.submit(envelope).await;
        }
        while self.time.now_ms() < until_ms && self.ledger_ms().await.is_none_or(|now| now <= short) {
            tokio::time::sleep(Duration::from_millis(self.rng.within(100..=1_000))).await;
        }
        self.submit(&long).await;
        self.history.lock().count("envelopes signed anew");
    }

    /// Says something that holds until the very moment that it is: nobody may say that it is over before time has moved on.
    async fn come_last(&mut self, tried: u64) {
        let Some(now) = self.ledger_ms().await else { return };
        let action = self.note("came last", tried);
        let mut nonce = [0; 16];
        self.rng.fill(&mut nonce);
        let until = Timestamp::ZERO.plus(now);
        let envelope = sign_envelope(&self.gateway, self.cluster, nonce, until, action);
        let (node, Some(answer)) = self.submit(&envelope).await else {
            return;
        };
        let mut history = self.history.lock();
        history.count("envelopes that came last");
        if answer.body["error"]["code"] == "expired" && answer.now.is_some_and(|told| told <= now) {
            let what = format!(
                "n{node} says at {:?} that what holds until {now} is over",
                answer.now
            );
            history.oddities.push((self.time.now_ms(), what));
        }
    }

    /// A note on a meter that everyone knows.
    fn note(&self, name: &str, tried: u64) -> Action {
        Action::UpsertAsset {
            asset: self.meter.clone(),
            kind: None,
            rule: None,
            metadata: BTreeMap::from([(name.to_owned(), tried.to_string())]),
        }
    }

    /// An envelope that no cluster may let in, and why.
    fn forge(&mut self, tried: u64) -> Option<(&'static str, Envelope)> {
        let now = EPOCH_MS + self.time.now_ms();
        let stranger = SigningKey::from_bytes(&[0x5a; 32]);
        let (what, cluster, key, not_after) = match self.rng.below(6) {
            0 => (
                "by a key that nobody knows",
                self.cluster,
                &stranger,
                now + LIFE_MS,
            ),
            1 => (
                "that may wait for days",
                self.cluster,
                &self.gateway,
                now + FAR_MS,
            ),
            2 => (
                "whose time is long over",
                self.cluster,
                &self.gateway,
                now.saturating_sub(FAR_MS),
            ),
            _ => (
                "that was signed for another cluster",
                ELSEWHERE,
                &self.gateway,
                now + LIFE_MS,
            ),
        };
        let settlement = Settlement {
            meter: "rogue".try_into().ok()?,
            epoch: Epoch::new(1).ok()?,
            consumption: Wh::new(1).ok()?,
            label: Label::try_from(format!("rogue-{tried}").as_str()).ok()?,
            co2eq: GramsCo2::default(),
            autoseal: None,
        };
        let action = Action::Settle {
            settlements: vec![settlement],
        };
        let mut nonce = [0; 16];
        self.rng.fill(&mut nonce);
        let not_after = Timestamp::new(not_after).ok()?;
        Some((what, sign_envelope(key, cluster, nonce, not_after, action)))
    }
}
