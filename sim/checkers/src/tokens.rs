//! Tokens: what a node signs in EAF's `seal` field is what it shows beside it, under one of its own keys; and whoever signed a
//! block has a token for its seals.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::history::History;
use crate::oracle::digest::{TYP_BLOCK, base64url, from_base64url, protected, thumbprint, verifies};
use crate::oracle::entry::Key;

/// Claims that stand in the answer as well, under the same name.
const SHOWN: [&str; 9] = [
    "assetId",
    "epoch",
    "upstream",
    "balancesum",
    "energy",
    "co2eq",
    "auditId",
    "version",
    "digest",
];

/// Judges the seals that nodes show in the end. What else they say of them is for [`crate::answers`] to judge.
pub fn check(history: &History, node_keys: &[(u64, Key)]) -> Vec<(u64, String)> {
    let signed = signed(history, node_keys);
    let mut found = Vec::new();
    for (node, shown) in &history.shown {
        let keys: Vec<&Key> = node_keys
            .iter()
            .filter(|(of, _)| of == node)
            .map(|(_, key)| key)
            .collect();
        let cluster = &shown.status["cluster"];
        for seal in shown.asked.iter().flat_map(|asked| seals(&asked.body)) {
            let wrong = match &seal["seal"] {
                Value::Null => {
                    let own = |block| signed.get(node).is_some_and(|blocks| blocks.contains(&block));
                    seal["block"]
                        .as_u64()
                        .is_some_and(own)
                        .then(|| "it has none, though the node signed the block".to_owned())
                }
                token => judge(token.as_str().unwrap_or_default(), seal, cluster, &keys).err(),
            };
            if let Some(wrong) = wrong {
                let what = format!(
                    "n{node}'s token for {}/{} v{}: {wrong}",
                    seal["assetId"], seal["epoch"], seal["version"]
                );
                found.push((0, what));
            }
        }
    }
    found
}

/// The blocks under which proofs show a node's signature, by node.
fn signed(history: &History, node_keys: &[(u64, Key)]) -> BTreeMap<u64, BTreeSet<u64>> {
    let heads: BTreeMap<String, u64> = node_keys
        .iter()
        .map(|(node, key)| (base64url(protected(key, TYP_BLOCK).as_bytes()), *node))
        .collect();
    let mut signed: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for proof in history.shown.values().flat_map(|shown| shown.proofs.values()) {
        // With a chain, the signatures are under its last header.
        let last = proof["chain"].as_array().and_then(|chain| chain.last());
        let block = last.unwrap_or(&proof["header"])["index"].as_u64();
        let signatures = proof["certificate"]["signatures"].as_array();
        for signature in signatures.into_iter().flatten() {
            let signer = signature["protected"].as_str().and_then(|head| heads.get(head));
            if let (Some(node), Some(block)) = (signer, block) {
                signed.entry(*node).or_default().insert(block);
            }
        }
    }
    signed
}

/// The sealed balances in an answer.
fn seals(body: &Value) -> Vec<&Value> {
    let one = std::slice::from_ref(body);
    let all = body.as_array().map_or(one, Vec::as_slice);
    all.iter().filter(|seal| seal["digest"].is_string()).collect()
}

fn judge(token: &str, seal: &Value, cluster: &Value, keys: &[&Key]) -> Result<(), String> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        return Err(format!("{token} is no compact JWT"));
    };
    let signature: Option<[u8; 64]> = from_base64url(signature).and_then(|bytes| bytes.try_into().ok());
    let message = format!("{header}.{payload}");
    let signs = |key: &&&Key| {
        header == base64url(protected(key, "gridseal-seal+jwt").as_bytes())
            && signature.is_some_and(|signature| verifies(key, message.as_bytes(), &signature))
    };
    let Some(key) = keys.iter().find(signs) else {
        return Err("no key of the node signed it".to_owned());
    };
    let claims: Option<Value> = from_base64url(payload).and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(mut claims) = claims else {
        return Err("it claims nothing".to_owned());
    };
    let mut expected = json!({
        "block": seal["block"], "cluster": cluster, "aud": cluster, "sub": "EAF",
        "iss": format!("gridseal:{}", thumbprint(key)),
    });
    for name in SHOWN {
        expected[name] = seal[name].clone();
    }
    // When it was issued nobody else says.
    let issued = claims.as_object_mut().and_then(|claims| claims.remove("iat"));
    if !issued.is_some_and(|issued| issued.is_u64()) || claims != expected {
        return Err(format!("it claims {claims}, and not {expected}"));
    }
    Ok(())
}
