//! Digests, Merkle roots and signatures of section 7, by code of our own.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::entry::Key;
use super::model::{Seal, Statement};

/// A SHA-256 value.
pub type Hash = [u8; 32];

/// SHA-256 over the domain of a kind of thing and its bytes.
pub fn digest(kind: &str, bytes: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(format!("gridseal/{kind}/v1\0"));
    hash.update(bytes);
    hash.finalize().into()
}

/// The RFC 6962 root: the empty list is the hash of nothing.
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => Sha256::new()
            .chain_update([0])
            .chain_update(leaf)
            .finalize()
            .into(),
        _ => {
            let left = leaves.len().next_power_of_two() / 2;
            let (a, b) = leaves.split_at(left);
            node(&root(a), &root(b))
        }
    }
}

/// The RFC 6962 root over two subtrees.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

thread_local! {
    /// Signatures found good, by a digest of all that was asked: a certificate is shown with every seal of its blocks.
    static GOOD: RefCell<BTreeSet<Hash>> = const { RefCell::new(BTreeSet::new()) };
}

/// Whether a signature is this key's, by the strict rules that all nodes must share.
pub fn verifies(key: &Key, message: &[u8], signature: &[u8; 64]) -> bool {
    let asked: Hash = Sha256::new()
        .chain_update(key)
        .chain_update(signature)
        .chain_update(message)
        .finalize()
        .into();
    if GOOD.with_borrow(|good| good.contains(&asked)) {
        return true;
    }
    let verified = VerifyingKey::from_bytes(key).is_ok_and(|key| {
        key.verify_strict(message, &Signature::from_bytes(signature))
            .is_ok()
    });
    if verified {
        GOOD.with_borrow_mut(|good| good.insert(asked));
    }
    verified
}

/// base64url without padding.
pub fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    let (mut bits, mut have) = (0_u32, 0);
    for byte in bytes {
        bits = (bits << 8) | u32::from(*byte);
        have += 8;
        while have >= 6 {
            have -= 6;
            out.push(ALPHABET[((bits >> have) & 63) as usize].into());
        }
    }
    if have > 0 {
        out.push(ALPHABET[((bits << (6 - have)) & 63) as usize].into());
    }
    out
}

/// The bytes of base64url without padding; `None` where other text would give the same bytes.
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => Some(u32::from(c - b'A')),
        b'a'..=b'z' => Some(u32::from(c - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(c - b'0') + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::new();
    let (mut bits, mut have) = (0_u32, 0);
    for c in text.bytes() {
        bits = (bits << 6) | value(c)?;
        have += 6;
        if have >= 8 {
            have -= 8;
            bytes.push(((bits >> have) & 0xff) as u8);
        }
    }
    (base64url(&bytes) == text).then_some(bytes)
}

/// The thumbprint of a key (RFC 7638, RFC 8037).
pub fn thumbprint(key: &Key) -> String {
    let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, base64url(key));
    base64url(&Sha256::digest(jwk))
}

/// The protected header under which a node signs something of this `typ`.
pub fn protected(key: &Key, typ: &str) -> String {
    let kid = thumbprint(key);
    format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"{typ}"}}"#)
}

/// The `typ` of signed block headers.
pub const TYP_BLOCK: &str = "gridseal-block+jws";

/// Whether a node signed these bytes of a block header.
pub fn signs_header(key: &Key, header: &str, signature: &[u8; 64]) -> bool {
    let input = format!(
        "{}.{}",
        base64url(protected(key, TYP_BLOCK).as_bytes()),
        base64url(header.as_bytes())
    );
    verifies(key, input.as_bytes(), signature)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to a string can't fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Collects canonical bytes.
#[derive(Default)]
pub(super) struct Bytes(Vec<u8>);

impl Bytes {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn int(&mut self, n: i128) -> &mut Self {
        // Figures are bounded by 2^53 before anything is digested.
        self.0.extend_from_slice(&n.to_be_bytes()[8..]);
        self
    }

    pub(super) fn count(&mut self, n: usize) -> &mut Self {
        self.0.extend_from_slice(&(n as u64).to_be_bytes()[4..]);
        self
    }

    pub(super) fn name(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(&(text.len() as u64).to_be_bytes()[6..]);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    pub(super) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) -> &mut Self {
        self.0.push(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
        self
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// The digest of a statement with the id `index.position`.
pub fn statement(index: u64, position: u64, s: &Statement) -> Hash {
    let mut out = Bytes::default();
    out.int(index.into())
        .int(position.into())
        .name(&s.from)
        .name(&s.to)
        .int(s.epoch.into())
        .int(s.energy)
        .int(s.co2);
    out.name(s.kind).name(&s.label);
    out.option(s.meter.as_deref(), |out, meter| {
        out.name(meter);
    });
    out.option(s.contract.as_deref(), |out, contract| {
        out.name(contract);
    });
    out.option(s.value, |out, value| {
        out.int(value);
    });
    digest("statement", &out.0)
}

/// The digest of a seal's content.
pub fn seal(cluster: &Hash, previous: &Hash, journal: &Hash, s: &Seal, approvals: &[Key]) -> Hash {
    let mut out = Bytes::default();
    out.raw(cluster)
        .name(&s.asset)
        .int(s.epoch.into())
        .int(wide(s.version))
        .int(wide(s.watermark));
    out.raw(previous)
        .raw(journal)
        .name(&s.upstream_from)
        .name(&s.upstream_to);
    for figure in [
        s.residual,
        s.position,
        s.energy_in,
        s.energy_out,
        s.co2_in,
        s.co2_out,
    ] {
        out.int(figure);
    }
    out.count(s.contracts.len());
    for (contract, energy, reason) in &s.contracts {
        out.name(contract).int(*energy).option(*reason, |out, reason| {
            out.name(reason);
        });
    }
    out.count(approvals.len());
    approvals.iter().for_each(|key| {
        out.raw(key);
    });
    digest("seal", &out.0)
}

/// The digest of the voters in force: configurations, each a list of nodes and their keys.
pub fn voters(configs: &[Vec<(u64, Option<Key>)>]) -> Hash {
    let mut out = Bytes::default();
    out.count(configs.len());
    for config in configs {
        out.count(config.len());
        for (node, key) in config {
            out.int((*node).into()).option(*key, |out, key| {
                out.raw(&key);
            });
        }
    }
    digest("voters", &out.0)
}

fn wide(n: usize) -> i128 {
    i128::try_from(n).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(
            hex(&root(&[])),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        // RFC 6962's tree of one empty leaf's hash would hash bytes, ours hashes digests: leaf(0^32).
        assert_eq!(root(&[[0; 32]]), <Hash>::from(Sha256::digest([0; 33])));
        assert_eq!(base64url(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw");
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
        // RFC 8037, appendix A.3: the thumbprint of its key.
        let key: Key = hex::decode("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .unwrap();
        assert_eq!(thumbprint(&key), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_tree_of_three_leans_left() {
        let node = |a: Hash, b: Hash| -> Hash {
            Sha256::new()
                .chain_update([1])
                .chain_update(a)
                .chain_update(b)
                .finalize()
                .into()
        };
        let leaf = |n: u8| root(&[[n; 32]]);
        assert_eq!(
            root(&[[1; 32], [2; 32], [3; 32]]),
            node(node(leaf(1), leaf(2)), leaf(3))
        );
    }
}
