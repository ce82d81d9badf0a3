//! An administrator, who changes the membership while clients work: a node joins without a vote, is given one, and has its
//! key replaced; each step in its own time, and not in every run.
//!
//! The node itself goes on signing with its first key: from the replacement on, its signatures must count for nothing.

use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use ledger::canonical::Canonical as _;
use ledger::{Action, Digest, Envelope, NodeId, PublicKey, Signature, Timestamp, jws};
use serde_json::json;

use crate::clock::{EPOCH_MS, Time};
use crate::http::Http;
use crate::rng::{PerMillion, Rng};

/// An envelope's life, in milliseconds.
const LIFE_MS: u64 = 600_000;

/// A node that is to join.
#[derive(Clone, Debug)]
pub struct Joiner {
    /// Which.
    pub node: NodeId,
    /// The cluster that it joins.
    pub cluster: Digest,
    /// Where its peers reach it.
    pub peer: String,
    /// The key that it signs with.
    pub key: PublicKey,
    /// The key that it is given later, and does not have.
    pub next_key: PublicKey,
}

/// The administrator.
pub struct Admin {
    /// Decides how far the change goes.
    pub rng: Rng,
    /// How it asks.
    pub http: Http,
    /// True time.
    pub time: Time,
    /// How many nodes there are to talk to.
    pub nodes: u64,
    /// Signs what it asks.
    pub key: SigningKey,
    /// Who joins.
    pub joiner: Joiner,
}

impl Admin {
    /// Takes the joiner as far as this run's luck goes.
    pub async fn work(mut self) {
        let Joiner {
            node,
            peer,
            key,
            next_key,
            ..
        } = self.joiner.clone();
        self.pause(3_000..=9_000).await;
        self.order(Action::RegisterNode {
            node,
            key,
            peer: Some(peer),
        })
        .await;
        if !self.rng.chance(PerMillion::percent(80)) {
            return;
        }
        self.pause(1_000..=6_000).await;
        self.order(Action::PromoteNode { node }).await;
        if !self.rng.chance(PerMillion::percent(80)) {
            return;
        }
        self.pause(1_000..=6_000).await;
        self.order(Action::RegisterNode {
            node,
            key: next_key,
            peer: None,
        })
        .await;
    }

    async fn pause(&mut self, ms: std::ops::RangeInclusive<u64>) {
        tokio::time::sleep(Duration::from_millis(self.rng.within(ms))).await;
    }

    /// Has an action done, however long it takes.
    async fn order(&mut self, action: Action) {
        let signer = PublicKey(self.key.verifying_key().to_bytes());
        let mut nonce = [0; 16];
        self.rng.fill(&mut nonce);
        let not_after = Timestamp::ZERO.plus(EPOCH_MS + self.time.now_ms() + LIFE_MS);
        let bytes = ledger::envelope::signing_bytes(self.joiner.cluster, signer, nonce, not_after, &action);
        let signature = Signature(self.key.sign(&bytes).to_bytes());
        let envelope = Envelope {
            signer,
            nonce,
            not_after,
            action,
            signature,
        };
        let body = json!({"envelope": jws::base64url(&envelope.to_bytes())});
        loop {
            let node = self.rng.within(1..=self.nodes);
            let answer = self
                .http
                .call(node, "envelope.submit", None, &body, Duration::from_secs(3))
                .await;
            // A refusal is an answer too; the checkers know whether it is the right one.
            if answer.is_ok_and(|answer| matches!(answer.status, 200 | 409)) {
                return;
            }
            self.pause(50..=500).await;
        }
    }
}
