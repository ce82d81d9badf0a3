//! The token in EAF's `seal` field: a compact JWT (RFC 7519) that one node signs with its own key (EdDSA, RFC 8037).
//!
//! ```text
//! header   {"alg":"EdDSA","kid":<RFC 7638 thumbprint>,"typ":"gridseal-seal+jwt"}
//! claims   EAF's: assetId, epoch, upstream, balancesum, energy, co2eq, auditId, iat, iss, sub, aud
//!          ours:  version, digest, block, cluster
//! ```
//!
//! It says that the node recomputed the seal and signed its block; it is one party's word. The certificate is the quorum's. What
//! always holds: the same claims give the same token on the same node (`iat` is the ledger's time when it was asked for). The key stays with whoever has it: this module only
//! asks for signatures. Absent on purpose: other algorithms, and tokens without `typ` (RFC 8725 §3.11), so that no
//! signature made for something else passes for a seal.

use ledger::jws::{base64url, base64url_decode, protected, thumbprint};
use ledger::{PublicKey, Signature};
use serde::Serialize;
use serde_json::Value;

/// The `typ` of a seal's token.
pub const TYP_SEAL: &str = "gridseal-seal+jwt";
/// Longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 8 << 10;

/// What a token says about a seal.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// Of which asset.
    pub asset_id: String,
    /// In which epoch.
    pub epoch: u64,
    /// The upstream with which it was balanced.
    pub upstream: String,
    /// EAF's sum, in Wh.
    pub balancesum: Value,
    /// What came from the upstream less what went to it, in Wh.
    pub energy: Value,
    /// The CO2 of that, in grams.
    pub co2eq: Value,
    /// Under which name it was audited.
    pub audit_id: String,
    /// Which version of the seal.
    pub version: u32,
    /// The seal's digest, in hexadecimal.
    pub digest: String,
    /// The log index of its block.
    pub block: u64,
    /// Whose seal; also the audience.
    pub cluster: String,
    /// When the token was issued, by the ledger's time, in seconds since 1970.
    pub iat: u64,
}

/// Who issues and for whom.
pub fn issuer(key: &PublicKey) -> String {
    format!("gridseal:{}", thumbprint(key))
}

/// Makes the token.
pub fn issue(claims: &Claims, key: &PublicKey, sign: impl FnOnce(&[u8]) -> Signature) -> String {
    let mut payload = serde_json::to_value(claims).unwrap_or_default();
    payload["iss"] = issuer(key).into();
    payload["sub"] = "EAF".into();
    payload["aud"] = claims.cluster.as_str().into();
    let header = base64url(protected(key, TYP_SEAL).as_bytes());
    let message = format!("{header}.{}", base64url(payload.to_string().as_bytes()));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", base64url(&signature.0))
}

/// A token taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// What it says.
    pub payload: Value,
    /// Its key's thumbprint, if the header is one of ours.
    pub kid: Option<String>,
    signed: String,
    signature: Option<Signature>,
}

/// Takes a token apart; `None` if it is no compact JWT with a JSON object in it.
pub fn decode(token: &str) -> Option<Token> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let json = |part: &str| {
        serde_json::from_slice::<Value>(&base64url_decode(part)?)
            .ok()
            .filter(Value::is_object)
    };
    let (header, payload) = (json(header)?, json(payload)?);
    let ours = header["alg"] == "EdDSA" && header["typ"] == TYP_SEAL;
    let kid = header["kid"].as_str().filter(|_| ours).map(str::to_owned);
    let signature = base64url_decode(signature)
        .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok())
        .map(Signature);
    Some(Token {
        payload,
        kid,
        signed: signed.to_owned(),
        signature,
    })
}

impl Token {
    /// Whether `key` signed it, as a seal's token and with the header that such tokens have, to the byte.
    pub fn verify(&self, key: &PublicKey) -> bool {
        let header = base64url(protected(key, TYP_SEAL).as_bytes());
        self.signed
            .split_once('.')
            .is_some_and(|(given, _)| given == header)
            && self
                .signature
                .is_some_and(|signature| key.verify(self.signed.as_bytes(), &signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    fn key() -> (SigningKey, PublicKey) {
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = PublicKey(key.verifying_key().to_bytes());
        (key, public)
    }

    fn claims() -> Claims {
        Claims {
            asset_id: "seller1".to_owned(),
            epoch: 1337,
            upstream: "bigbalancer".to_owned(),
            balancesum: 500.into(),
            energy: (-300).into(),
            co2eq: 0.into(),
            audit_id: "a".to_owned(),
            version: 0,
            digest: "00".to_owned(),
            block: 9,
            cluster: "c".to_owned(),
            iat: 1_700_000_000,
        }
    }

    #[test]
    fn a_token_says_what_it_was_made_of_and_only_its_key_verifies_it() {
        let (secret, public) = key();
        let token = issue(&claims(), &public, |message| {
            Signature(secret.sign(message).to_bytes())
        });
        let decoded = decode(&token).expect("our own token");
        assert_eq!(decoded.payload["assetId"], "seller1");
        assert_eq!(decoded.payload["energy"], -300);
        assert_eq!(decoded.payload["sub"], "EAF");
        assert_eq!(decoded.kid.as_deref(), Some(thumbprint(&public).as_str()));
        assert!(decoded.verify(&public));
        let other = PublicKey(SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes());
        assert!(!decoded.verify(&other));
        // Deterministic: the same claims, the same token.
        assert_eq!(
            token,
            issue(&claims(), &public, |message| Signature(
                secret.sign(message).to_bytes()
            ))
        );
    }

    #[test]
    fn every_changed_part_breaks_it() {
        let (secret, public) = key();
        let token = issue(&claims(), &public, |message| {
            Signature(secret.sign(message).to_bytes())
        });
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert!(
                !decode(&changed).is_some_and(|token| token.verify(&public)),
                "changed at {at}"
            );
        }
    }

    #[test]
    fn another_algorithm_or_purpose_is_not_verified() {
        let (secret, public) = key();
        for header in [
            r#"{"alg":"none"}"#.to_owned(),
            protected(&public, ledger::jws::TYP_BLOCK),
            r#"{"alg":"EdDSA","typ":"JWT"}"#.to_owned(),
        ] {
            let message = format!("{}.{}", base64url(header.as_bytes()), base64url(b"{}"));
            let token = format!(
                "{message}.{}",
                base64url(&secret.sign(message.as_bytes()).to_bytes())
            );
            assert!(!decode(&token).expect("a JWT").verify(&public), "{header}");
        }
        for text in [
            "",
            "a",
            "a.b",
            "a.b.c",
            "....",
            "e30.e30",
            &"x".repeat(MAX_TOKEN + 1),
        ] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
