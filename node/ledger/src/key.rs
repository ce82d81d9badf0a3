//! Public keys and signatures (Ed25519), verification only: nothing here can sign.

use crate::canonical::{Canonical, DecodeError, Decoder, Encoder};
use std::fmt;

/// An Ed25519 public key as its 32 bytes. It need not be a valid point; such a key verifies nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// An Ed25519 signature as its 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl PublicKey {
    /// Whether `signature` is this key's over `message`, by the strict rules (no small-order keys, no malleable
    /// signatures), so that all implementations accept the same.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        crate::verified::or_else(self, message, signature, || {
            ed25519_dalek::VerifyingKey::from_bytes(&self.0).is_ok_and(|key| {
                key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0))
                    .is_ok()
            })
        })
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<PublicKey> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(PublicKey(bytes))
    }
}

macro_rules! bytes_type {
    ($t:ident, $n:literal, $what:literal) => {
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl Canonical for $t {
            fn encode(&self, out: &mut Encoder) {
                out.raw(&self.0);
            }

            fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                from.array().map($t)
            }
        }

        impl serde::Serialize for $t {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $t {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                let mut bytes = [0; $n];
                hex::decode_to_slice(&text, &mut bytes)
                    .map_err(|_| serde::de::Error::custom(concat!("expected ", $what, " in hexadecimal")))?;
                Ok($t(bytes))
            }
        }
    };
}
bytes_type!(PublicKey, 32, "a key of 32 bytes");
bytes_type!(Signature, 64, "a signature of 64 bytes");
