//! `access.settings` and `access.publicKey`: what an EAF client needs to know of this node.

use ledger::jws::{base64url, thumbprint};
use serde_json::json;

use super::answer::Answer;
use super::call::Call;
use super::error::Fault;
use super::route::{Access, Body, Methods, Route};
use crate::jwt;

pub(crate) const ROUTES: &[Route] = &[
    Route {
        name: "access.settings",
        methods: Methods::GetPost,
        access: Access::Local,
        body: Body::Fields,
        about: "Settings under EAF's names, as strings.",
        params: &[],
        answer: r##"{"$ref":"#/components/schemas/Settings"}"##,
        refusals: &[],
        handler: |call| Box::pin(settings(call)),
    },
    Route {
        name: "access.publicKey",
        methods: Methods::GetPost,
        access: Access::Local,
        body: Body::Fields,
        about: "The key with which this node signs tokens, and what verifiers should require of them.",
        params: &[],
        answer: r##"{"$ref":"#/components/schemas/PublicKey"}"##,
        refusals: &[],
        handler: |call| Box::pin(public_key(call)),
    },
];

async fn settings(call: Call) -> Result<Answer, Fault> {
    let ledger = call.ledger();
    let epoch_ms = ledger.epoch_ms().unwrap_or_default();
    Ok(json!({
        "EPOCH_DURATION": epoch_ms.to_string(),
        "ROOT": *ledger::ROOT,
        "CLUSTER": ledger.cluster(),
        "JWT_ALGORITHM": "EdDSA",
        "JWT_TYPE": jwt::TYP_SEAL,
    })
    .into())
}

async fn public_key(call: Call) -> Result<Answer, Fault> {
    let key = call.backend.node_key();
    // RFC 8410: SEQUENCE { SEQUENCE { OID 1.3.101.112 }, BIT STRING of the 32 bytes }.
    let mut der = vec![
        0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
    ];
    der.extend(key.0);
    let pem = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    Ok(json!({
        "publicKey": format!("-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----\n"),
        "jwk": { "kty": "OKP", "crv": "Ed25519", "x": base64url(&key.0), "kid": thumbprint(&key), "alg": "EdDSA" },
        "jwtOptions": {
            "algorithms": ["EdDSA"],
            "typ": jwt::TYP_SEAL,
            "issuer": jwt::issuer(&key),
            "subject": "EAF",
            "audience": call.ledger().cluster(),
        },
    })
    .into())
}
