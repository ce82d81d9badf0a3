//! JSON Web Signatures as certificates use them: EdDSA, one protected header, nothing optional.
//!
//! RFC 7515 (signing input), RFC 8037 (EdDSA, OKP keys), RFC 7638 (thumbprints). Verifying only.

use crate::key::PublicKey;
use sha2::{Digest as _, Sha256};

/// The `typ` of a signature under a block header.
pub const TYP_BLOCK: &str = "gridseal-block+jws";

/// base64url without padding (RFC 4648 §5).
pub fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            let six = (bits >> (18 - 6 * i)) & 63;
            text.push(char::from(ALPHABET[six as usize]));
        }
    }
    text
}

/// The bytes of base64url without padding; `None` for anything else, leftover bits included.
pub fn base64url_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.as_bytes().chunks(4) {
        let mut bits = 0u32;
        for c in chunk {
            let six = match c {
                b'A'..=b'Z' => c - b'A',
                b'a'..=b'z' => c - b'a' + 26,
                b'0'..=b'9' => c - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(six);
        }
        bits <<= 6 * (4 - chunk.len());
        let [_, first, second, third] = bits.to_be_bytes();
        match (chunk.len(), second, third) {
            (4, ..) => bytes.extend([first, second, third]),
            (3, _, 0) => bytes.extend([first, second]),
            (2, 0, 0) => bytes.push(first),
            _ => return None,
        }
    }
    Some(bytes)
}

/// The RFC 7638 thumbprint of an Ed25519 key (RFC 8037 §2): its `kid`.
pub fn thumbprint(key: &PublicKey) -> String {
    let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, base64url(&key.0));
    base64url(&Sha256::digest(jwk.as_bytes()))
}

/// The protected header of a signature by `key`, exactly.
pub fn protected(key: &PublicKey, typ: &str) -> String {
    format!(r#"{{"alg":"EdDSA","kid":"{}","typ":"{typ}"}}"#, thumbprint(key))
}

/// What is signed for a block: `base64url(protected) . base64url(payload)`.
pub fn signing_input(key: &PublicKey, payload: &[u8]) -> String {
    format!(
        "{}.{}",
        base64url(protected(key, TYP_BLOCK).as_bytes()),
        base64url(payload)
    )
}
