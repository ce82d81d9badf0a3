//! An envelope: an action with who asks, once, until when, signed.

use crate::action::Action;
use crate::canonical::{Canonical, Encoder, canonical_struct};
use crate::digest::{ClusterId, Digest, digest};
use crate::key::{PublicKey, Signature};
use crate::units::Timestamp;

/// `not_after` may lie at most this far ahead of the ledger's time, in milliseconds.
pub const LIFETIME_MS: u64 = 15 * 60 * 1000;

/// 128 random bits of the client's.
pub type Nonce = [u8; 16];

/// What makes an envelope the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvelopeRef {
    /// Who signed.
    pub signer: PublicKey,
    /// Which of theirs.
    pub nonce: Nonce,
}

canonical_struct!(EnvelopeRef { signer, nonce });

impl std::fmt::Debug for EnvelopeRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.signer, hex::encode(self.nonce))
    }
}

/// A signed action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who asks.
    pub signer: PublicKey,
    /// Makes it happen once.
    pub nonce: Nonce,
    /// From then on it is refused.
    pub not_after: Timestamp,
    /// What is asked.
    pub action: Action,
    /// Over [`Envelope::signing_bytes`].
    pub signature: Signature,
}

canonical_struct!(Envelope {
    signer,
    nonce,
    not_after,
    action,
    signature
});

impl Envelope {
    /// The name under which a retry is known.
    pub fn id(&self) -> EnvelopeRef {
        EnvelopeRef {
            signer: self.signer,
            nonce: self.nonce,
        }
    }

    /// What the signature covers: `gridseal/envelope/v1\0`, then cluster, signer, nonce, not_after, action.
    pub fn signing_bytes(&self, cluster: ClusterId) -> Vec<u8> {
        signing_bytes(cluster, self.signer, self.nonce, self.not_after, &self.action)
    }

    /// Whether the signature is the signer's, for this cluster.
    pub fn verify(&self, cluster: ClusterId) -> bool {
        self.signer.verify(&self.signing_bytes(cluster), &self.signature)
    }

    /// What tells two actions under one nonce apart: the digest of the action alone, so that a retry may carry a
    /// later `not_after`.
    pub fn action_digest(&self) -> Digest {
        digest("action", &self.action.to_bytes())
    }
}

/// What a client signs; see [`Envelope::signing_bytes`].
pub fn signing_bytes(
    cluster: ClusterId,
    signer: PublicKey,
    nonce: Nonce,
    not_after: Timestamp,
    action: &Action,
) -> Vec<u8> {
    let mut out = Encoder::new();
    out.raw(b"gridseal/envelope/v1\0");
    if !planted!("digest-without-cluster") {
        cluster.encode(&mut out);
    }
    signer.encode(&mut out);
    nonce.encode(&mut out);
    not_after.encode(&mut out);
    action.encode(&mut out);
    out.into_bytes()
}
