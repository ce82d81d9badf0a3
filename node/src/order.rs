//! Orders of admins to one node: what belongs in no log, because it changes nothing that anyone must agree on.
//!
//! An order is a compact JWS (RFC 7515, EdDSA by RFC 8037) with the `typ` of its own, so that no signature made for
//! something else passes for one:
//!
//! ```text
//! header   {"alg":"EdDSA","kid":<RFC 7638 thumbprint>,"typ":"gridseal-order+jws"}
//! payload  {"cluster": …, "node": 2, "order": {"do": "transfer", "to": 3}, "not_after": …, "nonce": …}
//! ```
//!
//! What always holds: it counts for one node of one cluster, until its time has passed, once in the life of that node's
//! process. Who may give it: the genesis' admins, and in a development cluster whoever may everything.

use ledger::jws::{base64url, base64url_decode, protected};
use ledger::{ClusterId, Digest, Genesis, NodeId, PublicKey, Refusal, Signature, Timestamp};
use serde::{Deserialize, Serialize};

/// The `typ` of an order.
pub const TYP_ORDER: &str = "gridseal-order+jws";
/// Longest order that is looked at, in bytes.
const MAX_ORDER: usize = 2 << 10;
/// How far ahead an order's end may lie, in milliseconds.
pub const LIFETIME_MS: u64 = 60_000;

/// What a node is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Task {
    /// Hand leadership over, if it leads.
    Transfer {
        /// To this voter.
        to: NodeId,
    },
    /// Take a snapshot, and drop the log that it covers.
    Snapshot {},
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// For which cluster.
    pub cluster: ClusterId,
    /// For which node.
    pub node: NodeId,
    /// What.
    pub order: Task,
    /// Until when, by the ledger's time.
    pub not_after: Timestamp,
    /// Tells it from others: any text of the admin's.
    pub nonce: String,
}

impl Order {
    /// Tells it from all others.
    pub fn digest(&self) -> Digest {
        // Plain data always has a JSON form.
        ledger::digest::digest("order", &serde_json::to_vec(self).unwrap_or_default())
    }
}

/// What became of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// This node leads now.
    Leads(NodeId),
    /// The snapshot covers the log up to this index; `None` where there was no log yet.
    Snapshot(Option<u64>),
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// It was given before.
    #[error("this order was given before")]
    Repeated,
    /// Leadership is not this node's to hand over.
    #[error("this node does not lead{}", leader.map(|leader| format!("; node {leader} does")).unwrap_or_default())]
    NotLeader {
        /// Who leads, if that is known.
        leader: Option<NodeId>,
    },
    /// It can't be done as told.
    #[error("{0}")]
    Impossible(String),
    /// It may or may not be done: the status tells.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// The node shuts down.
    #[error("the node is shutting down")]
    Stopping,
}

/// Signs an order.
pub fn issue(order: &Order, key: &PublicKey, sign: impl FnOnce(&[u8]) -> Signature) -> String {
    // Plain data always has a JSON form.
    let payload = serde_json::to_vec(order).unwrap_or_default();
    let header = base64url(protected(key, TYP_ORDER).as_bytes());
    let message = format!("{header}.{}", base64url(&payload));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", base64url(&signature.0))
}

/// Reads an order to a node, `now` being the ledger's time.
///
/// # Errors
/// Nobody who may give orders signed it, or its time has passed or lies too far ahead. `None` inside says that it is no order to this
/// node at all.
pub fn read(token: &str, node: NodeId, genesis: &Genesis, now: Timestamp) -> Result<Option<Order>, Refusal> {
    let Some((signed, signature)) = token.rsplit_once('.').filter(|_| token.len() <= MAX_ORDER) else {
        return Ok(None);
    };
    let Some((header, payload)) = signed.split_once('.') else {
        return Ok(None);
    };
    let by = |key: &&PublicKey| base64url(protected(key, TYP_ORDER).as_bytes()) == header;
    let key = match (genesis.admins.iter().find(by), genesis.gateways.iter().find(by)) {
        (Some(admin), _) => admin,
        (None, Some(gateway)) if genesis.development => gateway,
        (None, Some(_)) => return Err(Refusal::NotAdmin {}),
        (None, None) => return Err(Refusal::UnknownSigner {}),
    };
    let fits = base64url_decode(signature)
        .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok())
        .is_some_and(|bytes| key.verify(signed.as_bytes(), &Signature(bytes)));
    if !fits {
        return Err(Refusal::BadSignature {});
    }
    let order = base64url_decode(payload).and_then(|bytes| serde_json::from_slice::<Order>(&bytes).ok());
    let Some(order) = order.filter(|order| order.cluster == genesis.cluster() && order.node == node) else {
        return Ok(None);
    };
    let not_after = order.not_after;
    if not_after < now {
        return Err(Refusal::Expired { not_after, now });
    }
    if not_after > now.plus(LIFETIME_MS) {
        return Err(Refusal::NotAfterTooFar { not_after, now });
    }
    Ok(Some(order))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer as _, SigningKey};

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn public(key: &SigningKey) -> PublicKey {
        PublicKey(key.verifying_key().to_bytes())
    }

    fn genesis(development: bool) -> Genesis {
        Genesis {
            salt: [1; 32],
            created: Timestamp::ZERO,
            epoch_ms: 900_000,
            nodes: vec![(2, public(&key(2)))],
            admins: vec![public(&key(8))],
            gateways: vec![public(&key(9))],
            development,
        }
    }

    fn order(genesis: &Genesis) -> Order {
        Order {
            cluster: genesis.cluster(),
            node: 2,
            order: Task::Transfer { to: 3 },
            not_after: Timestamp::ZERO.plus(LIFETIME_MS),
            nonce: "n".into(),
        }
    }

    fn token(order: &Order, by: &SigningKey) -> String {
        issue(order, &public(by), |message| {
            Signature(by.sign(message).to_bytes())
        })
    }

    #[test]
    fn an_admins_order_to_this_node_in_time_counts_and_no_other() {
        let genesis = genesis(false);
        let good = order(&genesis);
        let now = Timestamp::ZERO;
        let read = |token: &str| read(token, 2, &genesis, now);
        assert_eq!(read(&token(&good, &key(8))), Ok(Some(good.clone())));
        assert_eq!(read(&token(&good, &key(9))), Err(Refusal::NotAdmin {}));
        assert_eq!(read(&token(&good, &key(7))), Err(Refusal::UnknownSigner {}));

        let other = |change: fn(&mut Order)| {
            let mut order = good.clone();
            change(&mut order);
            read(&token(&order, &key(8)))
        };
        assert_eq!(other(|order| order.node = 3), Ok(None));
        assert_eq!(other(|order| order.cluster = ledger::Digest([0; 32])), Ok(None));
        let not_after = now.plus(LIFETIME_MS + 1);
        assert_eq!(
            other(|order| order.not_after = Timestamp::ZERO.plus(LIFETIME_MS + 1)),
            Err(Refusal::NotAfterTooFar { not_after, now })
        );
        let late = now.plus(LIFETIME_MS + 1);
        let not_after = good.not_after;
        assert_eq!(
            super::read(&token(&good, &key(8)), 2, &genesis, late),
            Err(Refusal::Expired { not_after, now: late })
        );
    }

    #[test]
    fn an_altered_order_and_a_signature_for_something_else_are_none() {
        let genesis = genesis(true);
        let good = token(&order(&genesis), &key(9));
        let read = |token: &str| read(token, 2, &genesis, Timestamp::ZERO);
        assert!(
            matches!(read(&good), Ok(Some(_))),
            "a development gateway may everything"
        );
        let (signed, signature) = good.rsplit_once('.').expect("three parts");
        let (header, _) = signed.split_once('.').expect("three parts");
        let mut changed = order(&genesis);
        changed.order = Task::Snapshot {};
        let payload = base64url(&serde_json::to_vec(&changed).expect("JSON"));
        assert_eq!(
            read(&format!("{header}.{payload}.{signature}")),
            Err(Refusal::BadSignature {})
        );
        let token = good.replacen(
            header,
            &base64url(protected(&public(&key(9)), "JWT").as_bytes()),
            1,
        );
        assert_eq!(read(&token), Err(Refusal::UnknownSigner {}));
        for nonsense in ["", ".", "..", "a.b.c"] {
            assert!(!matches!(read(nonsense), Ok(Some(_))), "{nonsense}");
        }
    }
}
