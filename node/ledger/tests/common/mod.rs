//! A ledger with keys that fit it: what tests act through. Deterministic: no clock, no randomness.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test binary uses its part, and none is an API"
)]

pub mod script;

use ed25519_dalek::{Signer, SigningKey};
use ledger::block::{Attestation, Header};
use ledger::envelope::signing_bytes;
use ledger::units::Timestamp;
use ledger::{
    Action, Applied, Body, Entry, Envelope, Event, Genesis, Ledger, NodeId, Outcome, PublicKey, Signature,
    Statement,
};

/// The key made of this byte.
pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// Its public half.
pub fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

pub const ADMIN: u8 = 1;
pub const GATEWAY: u8 = 2;

/// The key of a node: 100 and its number.
pub fn node_key(node: NodeId) -> SigningKey {
    key(100 + u8::try_from(node).expect("tests have few nodes"))
}

/// A cluster of nodes 1..=n.
pub fn genesis(n: u64) -> Genesis {
    Genesis {
        salt: [7; 32],
        created: Timestamp::ZERO,
        epoch_ms: 900_000,
        nodes: (1..=n).map(|node| (node, public(&node_key(node)))).collect(),
        admins: vec![public(&key(ADMIN))],
        gateways: vec![public(&key(GATEWAY))],
        development: true,
    }
}

/// A ledger, the next log index, and everything it booked.
pub struct Cluster {
    pub ledger: Ledger,
    pub index: u64,
    pub now: u64,
    pub nonce: u64,
    pub booked: Vec<Statement>,
    /// Everything applied so far, as bytes.
    pub log: Vec<(u64, Vec<u8>)>,
}

impl Cluster {
    pub fn new() -> Cluster {
        Cluster::of(3)
    }

    pub fn of(nodes: u64) -> Cluster {
        let mut cluster = Cluster {
            ledger: Ledger::new(),
            index: 0,
            now: 1_000,
            nonce: 0,
            booked: Vec::new(),
            log: Vec::new(),
        };
        cluster.apply(Body::Genesis {
            genesis: genesis(nodes),
        });
        cluster
    }

    /// Applies a body at the next index, through its bytes.
    pub fn apply(&mut self, body: Body) -> Applied {
        let at = Timestamp::new(self.now).expect("in range");
        let bytes = Entry { at, body }.encode();
        self.apply_bytes(bytes)
    }

    pub fn apply_bytes(&mut self, bytes: Vec<u8>) -> Applied {
        self.index += 1;
        let applied = self.ledger.apply_raw(self.index, &bytes);
        self.log.push((self.index, bytes));
        for event in &applied.events {
            match event {
                Event::Booked { statement } => self.booked.push(statement.clone()),
                Event::RosterBooked {
                    epoch,
                    index,
                    first,
                    count,
                    ..
                } => self
                    .booked
                    .extend(self.ledger.booked(*epoch, *index, *first, *count)),
                Event::Sealed(sealed) => self.booked.extend(sealed.statements().cloned()),
                _ => {}
            }
        }
        applied
    }

    /// An envelope by the gateway with a fresh nonce.
    pub fn envelope(&mut self, action: Action) -> Envelope {
        self.signed(&key(GATEWAY), action)
    }

    /// An envelope by `signer` with a fresh nonce.
    pub fn signed(&mut self, signer: &SigningKey, action: Action) -> Envelope {
        self.nonce += 1;
        let mut nonce = [0; 16];
        nonce[8..].copy_from_slice(&self.nonce.to_be_bytes());
        sign(&self.ledger, signer, nonce, self.now + 60_000, action)
    }

    /// Applies one action of the gateway's.
    pub fn act(&mut self, action: Action) -> Outcome {
        let envelope = self.envelope(action);
        self.submit(envelope)
    }

    /// Applies one envelope.
    pub fn submit(&mut self, envelope: Envelope) -> Outcome {
        let mut applied = self.apply(Body::Envelopes {
            envelopes: vec![envelope],
        });
        applied.answers.pop().expect("one envelope, one answer").outcome
    }
}

/// An envelope signed for this ledger's cluster.
pub fn sign(
    ledger: &Ledger,
    signer: &SigningKey,
    nonce: [u8; 16],
    not_after: u64,
    action: Action,
) -> Envelope {
    let not_after = Timestamp::new(not_after).expect("in range");
    let bytes = signing_bytes(ledger.cluster(), public(signer), nonce, not_after, &action);
    let signature = Signature(signer.sign(&bytes).to_bytes());
    Envelope {
        signer: public(signer),
        nonce,
        not_after,
        action,
        signature,
    }
}

/// What node `node` says of this header with this key.
pub fn attestation(node: NodeId, signer: &SigningKey, header: &Header) -> Attestation {
    let input = header.signing_input(&public(signer));
    Attestation {
        node,
        index: header.index,
        header: header.digest(),
        signature: Signature(signer.sign(input.as_bytes()).to_bytes()),
    }
}
