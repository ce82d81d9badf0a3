//! A client who lies: envelopes that were signed for another cluster, by nobody, or for another time. None may be let in.
//!
//! The envelope for another cluster carries a good signature of a key that this cluster trusts: what was signed
//! elsewhere must mean nothing here.

use std::sync::Arc;
use std::time::Duration;

use checkers::history::History;
use ed25519_dalek::{Signer as _, SigningKey};
use ledger::canonical::Canonical as _;
use ledger::{Action, Digest, Envelope, Label, PublicKey, Settlement, Signature, Timestamp, Wh, jws};
use parking_lot::Mutex;
use serde_json::json;

use crate::clock::{EPOCH_MS, Time};
use crate::http::Http;
use crate::rng::Rng;

/// Some other cluster.
const ELSEWHERE: Digest = Digest([0xee; 32]);
/// An envelope's life, in milliseconds.
const LIFE_MS: u64 = 600_000;
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
            let Some((what, envelope)) = self.forge(tried) else {
                continue;
            };
            let node = self.rng.within(1..=self.nodes);
            let body = json!({"envelope": jws::base64url(&envelope.to_bytes())});
            let answer = self
                .http
                .call(node, "envelope.submit", None, &body, Duration::from_secs(3))
                .await;
            let Ok(answer) = answer else { continue };
            let mut history = self.history.lock();
            history.count("forged envelopes answered");
            if answer.status == 200 {
                let what = format!("n{node} lets in an envelope {what}: {}", answer.body);
                history.oddities.push((self.time.now_ms(), what));
            }
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
            epoch: ledger::Epoch::new(1).ok()?,
            consumption: Wh::new(1).ok()?,
            label: Label::try_from(format!("rogue-{tried}").as_str()).ok()?,
            co2eq: ledger::GramsCo2::default(),
            autoseal: None,
        };
        let action = Action::Settle {
            settlements: vec![settlement],
        };
        let signer = PublicKey(key.verifying_key().to_bytes());
        let mut nonce = [0; 16];
        self.rng.fill(&mut nonce);
        let not_after = Timestamp::new(not_after).ok()?;
        let bytes = ledger::envelope::signing_bytes(cluster, signer, nonce, not_after, &action);
        let signature = Signature(key.sign(&bytes).to_bytes());
        Some((
            what,
            Envelope {
                signer,
                nonce,
                not_after,
                action,
                signature,
            },
        ))
    }
}
