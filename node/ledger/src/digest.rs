//! Digests: SHA-256 with a domain prefix, so that the bytes of one thing never pass for another's.

use crate::canonical::{Canonical, DecodeError, Decoder, Encoder};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// A SHA-256 value. Written in lower-case hexadecimal everywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

/// The digest of the genesis: the name of a cluster.
pub type ClusterId = Digest;

impl Digest {
    /// What stands where there is no predecessor.
    pub const ZERO: Digest = Digest([0; 32]);

    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Digest> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Digest(bytes))
    }
}

/// SHA-256 over `gridseal/<kind>/v1\0` and `bytes`.
pub fn digest(kind: &str, bytes: &[u8]) -> Digest {
    let mut hash = hasher(kind);
    hash.update(bytes);
    finish(hash)
}

/// Room for prefix and bytes of nearly everything that is hashed by the million.
const ROOM: usize = 512;

/// The digest of what `fill` encodes: prefix and bytes in one buffer, hashed in one go.
pub(crate) fn digest_of(kind: &str, fill: impl FnOnce(&mut Encoder)) -> Digest {
    let mut out = Encoder::with_capacity(ROOM);
    out.raw(b"gridseal/");
    out.raw(kind.as_bytes());
    out.raw(b"/v1\0");
    fill(&mut out);
    Digest(Sha256::digest(out.as_bytes()).into())
}

/// A hash that has taken in the domain prefix of `kind`.
pub(crate) fn hasher(kind: &str) -> Sha256 {
    let mut hash = Sha256::new();
    hash.update(b"gridseal/");
    hash.update(kind.as_bytes());
    hash.update(b"/v1\0");
    hash
}

/// The value of a hash.
pub(crate) fn finish(hash: Sha256) -> Digest {
    Digest(hash.finalize().into())
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Canonical for Digest {
    fn encode(&self, out: &mut Encoder) {
        out.raw(&self.0);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        from.array().map(Digest)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        Digest::parse(&text).ok_or_else(|| serde::de::Error::custom("expected 64 hexadecimal digits"))
    }
}
