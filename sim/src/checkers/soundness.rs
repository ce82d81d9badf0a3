//! Certificate soundness: a proof holds if and only if enough distinct voters of the membership at its index, none revoked,
//! signed one and the same header of the chain that replay gives; judged by code of our own.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::history::History;
use crate::oracle::book::{Book, quorum};
use crate::oracle::digest::{base64url, hex, protected, verifies};

pub(super) fn check(history: &History, book: &Book) -> Vec<String> {
    let mut found = Vec::new();
    for (node, shown) in &history.shown {
        for ((asset, epoch, version), proof) in &shown.proofs {
            let versions = book.versions(asset, *epoch);
            let Some(seal) = usize::try_from(*version)
                .ok()
                .and_then(|version| versions.get(version))
            else {
                found.push(format!(
                    "n{node} proves {asset}/{epoch} v{version}, which the oracle never sealed"
                ));
                continue;
            };
            if let Err(why) = sound(proof, seal, book) {
                found.push(format!("n{node}'s proof of {asset}/{epoch} v{version}: {why}"));
            }
        }
    }
    found
}

/// Whether a proof is of this seal and final.
fn sound(proof: &Value, seal: &[u8; 32], book: &Book) -> Result<(), String> {
    let index = |header: &Value| header["index"].as_u64().ok_or("a header without an index");
    let block = |header: &Value| book.blocks.get(&index(header).ok()?);
    let own = block(&proof["header"]).ok_or("its header is of no block")?;
    if !own.seals.contains(seal) {
        return Err("its block doesn't hold the seal".to_owned());
    }
    // The first header, those between, and the one that was signed: each is the chain's, and none is left out.
    let headers: Vec<&Value> = [&proof["header"]]
        .into_iter()
        .chain(proof["chain"].as_array().into_iter().flatten())
        .collect();
    let indices = headers
        .iter()
        .map(|header| index(header))
        .collect::<Result<Vec<_>, _>>()?;
    let expected: Vec<u64> = book
        .blocks
        .range(indices[0]..)
        .map(|(index, _)| *index)
        .take(indices.len())
        .collect();
    if indices != expected {
        return Err(format!(
            "its headers are of {indices:?}, the chain has {expected:?}"
        ));
    }
    let last = headers
        .last()
        .and_then(|header| block(header))
        .ok_or("its last header is of no block")?;
    for header in &headers {
        let bytes = serde_json::from_str::<Value>(&block(header).ok_or("a header of no block")?.header)
            .unwrap_or_default();
        if bytes != **header {
            return Err(format!("the header {header} differs from the chain's {bytes}"));
        }
    }
    let payload = base64url(last.header.as_bytes());
    if proof["certificate"]["payload"] != payload {
        return Err("it certifies other bytes than the last header".to_owned());
    }
    let mut signers = BTreeSet::new();
    for signature in proof["certificate"]["signatures"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let voter = last.voters.iter().flatten().find(|(_, key)| {
            key.is_some_and(|key| signature["protected"] == base64url(protected(&key).as_bytes()))
        });
        let Some((node, Some(key))) = voter else {
            return Err("a signature of no voter at its index".to_owned());
        };
        let bytes = signature["signature"]
            .as_str()
            .and_then(from_base64url)
            .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
        let input = format!("{}.{payload}", base64url(protected(key).as_bytes()));
        if !bytes.is_some_and(|bytes| verifies(key, input.as_bytes(), &bytes)) {
            return Err(format!("the signature of n{node} is none"));
        }
        if !signers.insert(*node) {
            return Err(format!("n{node} signs twice"));
        }
        if !last.signers.contains(node) {
            return Err(format!(
                "the signature of n{node} does not count by the log: {}",
                hex(&last.digest)
            ));
        }
    }
    for config in &last.voters {
        let signed = config.iter().filter(|(node, _)| signers.contains(node)).count();
        if signed < quorum(config.len()) {
            return Err(format!(
                "{signed} of {} voters signed, {} must",
                config.len(),
                quorum(config.len())
            ));
        }
    }
    Ok(())
}

fn from_base64url(text: &str) -> Option<Vec<u8>> {
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
    // A second text for the same bytes is none.
    (base64url(&bytes) == text).then_some(bytes)
}
