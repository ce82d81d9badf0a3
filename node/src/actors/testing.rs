//! A cluster of one node, whose one key may do everything, for the tests of the actors.

use ed25519_dalek::SigningKey;
use ledger::{Genesis, PublicKey, Timestamp};

/// The key.
pub(super) fn key() -> (SigningKey, PublicKey) {
    let key = SigningKey::from_bytes(&[1; 32]);
    let public = PublicKey(key.verifying_key().to_bytes());
    (key, public)
}

/// What its log begins with.
pub(super) fn genesis() -> Genesis {
    let (_, public) = key();
    Genesis {
        salt: [7; 32],
        created: Timestamp::ZERO,
        epoch_ms: 900_000,
        nodes: vec![(1, public)],
        admins: vec![public],
        gateways: vec![public],
        development: true,
    }
}
