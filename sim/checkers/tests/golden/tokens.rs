//! A seal's token, as the product issues it, is accepted; one that says anything else or is signed by anybody else is not.

use checkers::history::{Asked, History};
use checkers::oracle::digest::{TYP_BLOCK, base64url, protected};
use checkers::tokens;
use ed25519_dalek::{Signer as _, SigningKey};
use gridseal::jwt::{Claims, issue};
use ledger::Signature;
use serde_json::{Value, json};

use super::common::public;
use super::log::{Fixture, key};

const CLUSTER: &str = "00";

/// Node 1 had its fixture's key first and has another now.
fn nodes() -> Vec<(u64, [u8; 32])> {
    [(1, 1), (1, 9), (2, 2)]
        .map(|(node, n)| (node, public(&key(n)).0))
        .to_vec()
}

fn seal(block: u64) -> Value {
    json!({
        "assetId": "pv", "epoch": 7, "upstream": "grid", "balancesum": -12, "energy": 5, "co2eq": 70, "auditId": "a",
        "version": 0, "digest": "dd", "block": block, "watermark": 3,
    })
}

fn token(seal: &Value, key: &SigningKey, edit: impl FnOnce(&mut Claims)) -> Value {
    let text = |name: &str| seal[name].as_str().expect("text").to_owned();
    let mut claims = Claims {
        asset_id: text("assetId"),
        epoch: 7,
        upstream: text("upstream"),
        balancesum: seal["balancesum"].clone(),
        energy: seal["energy"].clone(),
        co2eq: seal["co2eq"].clone(),
        audit_id: text("auditId"),
        version: 0,
        digest: text("digest"),
        block: seal["block"].as_u64().expect("an index"),
        cluster: CLUSTER.to_owned(),
        iat: 3,
    };
    edit(&mut claims);
    let sign = |message: &[u8]| Signature(key.sign(message).to_bytes());
    issue(&claims, &public(key), sign).into()
}

/// What node 1 answers, beside the fixture's proof, which shows that it signed that block.
fn complaints(seals: impl Fn(u64) -> Value) -> Vec<String> {
    complaints_beside(|_| {}, seals)
}

/// The same beside another proof.
fn complaints_beside(edit: impl Fn(&mut Value), seals: impl Fn(u64) -> Value) -> Vec<String> {
    let mut history: History = Fixture::new().history();
    for shown in history.shown.values_mut() {
        let block = shown.blocks[0]["index"].as_u64().expect("an index");
        shown.status["cluster"] = json!(CLUSTER);
        shown.proofs.values_mut().for_each(&edit);
        shown.asked = vec![Asked {
            action: "balancing.sealedBalance".to_owned(),
            params: json!({}),
            body: seals(block),
        }];
    }
    let found = tokens::check(&history, &nodes());
    found.into_iter().map(|(_, what)| what).collect()
}

fn with(mut seal: Value, token: Value) -> Value {
    seal["seal"] = token;
    seal
}

#[test]
fn a_token_of_what_is_shown_under_any_key_of_the_node_is_accepted() {
    for signer in [1, 9] {
        let right = |block| {
            let seal = seal(block);
            let token = token(&seal, &key(signer), |_| {});
            json!([with(seal, token)])
        };
        assert_eq!(complaints(right), [""; 0]);
    }
    assert_eq!(complaints(|_| json!([])), [""; 0]);
    assert_eq!(
        complaints(|_| json!({"transactions": [], "seal": "no seal's"})),
        [""; 0]
    );
}

#[test]
fn a_node_may_have_no_token_only_for_a_block_that_it_is_not_seen_to_have_signed() {
    assert_eq!(complaints(|block| with(seal(block + 1), Value::Null)), [""; 0]);
    let [told] = &complaints(|block| json!([with(seal(block), Value::Null)]))[..] else {
        panic!("one complaint");
    };
    assert!(told.contains("though the node signed"), "{told}");
}

#[test]
fn with_a_chain_of_headers_the_last_is_the_one_that_was_signed() {
    let chained = |proof: &mut Value| {
        let index = proof["header"]["index"].as_u64().expect("an index");
        proof["chain"] = json!([{"index": index + 1}, {"index": index + 2}]);
    };
    for (later, told) in [(0, 0), (1, 0), (2, 1)] {
        let complaints = complaints_beside(chained, |block| with(seal(block + later), Value::Null));
        assert_eq!(complaints.len(), told, "{later}: {complaints:?}");
    }
}

#[test]
fn a_token_that_claims_anything_else_is_told() {
    let edits: [fn(&mut Claims); 11] = [
        |claims| claims.asset_id.push('x'),
        |claims| claims.epoch += 1,
        |claims| claims.upstream.push('x'),
        |claims| claims.balancesum = json!(12),
        |claims| claims.energy = json!(6),
        |claims| claims.co2eq = json!(71),
        |claims| claims.audit_id.push('x'),
        |claims| claims.version += 1,
        |claims| claims.digest.push('x'),
        |claims| claims.block += 1,
        |claims| claims.cluster.push('0'),
    ];
    for (n, edit) in edits.into_iter().enumerate() {
        let told = complaints(|block| {
            let seal = seal(block);
            let token = token(&seal, &key(1), edit);
            with(seal, token)
        });
        assert!(told.len() == 1 && told[0].contains("it claims"), "{n}: {told:?}");
    }
}

#[test]
fn a_token_that_no_key_of_the_node_signed_is_told() {
    let of = |edit: fn(String) -> String, signer: u8| {
        complaints(|block| {
            let seal = seal(block);
            let token = token(&seal, &key(signer), |_| {});
            let edited = edit(token.as_str().expect("text").to_owned());
            with(seal, edited.into())
        })
    };
    let as_it_is: fn(String) -> String = |token| token;
    for signer in [2, 5] {
        let told = of(as_it_is, signer);
        assert!(told.len() == 1 && told[0].contains("no key"), "{told:?}");
    }
    let other_header = |token: String| format!("e30{}", &token[token.find('.').expect("a dot")..]);
    let told = of(other_header, 1);
    assert!(told.len() == 1 && told[0].contains("no key"), "{told:?}");
    let other_signature = |token: String| {
        let dot = token.rfind('.').expect("a dot");
        format!("{}.{}", &token[..dot], base64url(&[7; 64]))
    };
    let told = of(other_signature, 1);
    assert!(told.len() == 1 && told[0].contains("no key"), "{told:?}");
    // What the node signed as a block is no seal.
    let other_type = |token: String| {
        let payload = token.split('.').nth(1).expect("claims");
        let header = base64url(protected(&public(&key(1)).0, TYP_BLOCK).as_bytes());
        let message = format!("{header}.{payload}");
        let signature = key(1).sign(message.as_bytes()).to_bytes();
        format!("{message}.{}", base64url(&signature))
    };
    let told = of(other_type, 1);
    assert!(told.len() == 1 && told[0].contains("no key"), "{told:?}");
    let no_jwt = |token: String| token.replace('.', "");
    let told = of(no_jwt, 1);
    assert!(told.len() == 1 && told[0].contains("no compact JWT"), "{told:?}");
}
