//! Certificate soundness: a proof holds if and only if enough distinct voters of the membership at its index, none revoked,
//! signed one and the same header of the chain that replay gives; judged by code of our own.

use serde_json::Value;

use crate::history::History;
use crate::oracle::book::Book;
use crate::oracle::digest::{Hash, hex};
use crate::oracle::proof;

/// Judges the proofs that nodes show in the end by the log.
pub fn check(history: &History, book: &Book) -> Vec<String> {
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
fn sound(proof: &Value, seal: &Hash, book: &Book) -> Result<(), String> {
    let block = |header: &Value| {
        let block = book.blocks.get(&header["index"].as_u64()?)?;
        (serde_json::from_str::<Value>(&block.header).ok()? == *header).then_some(block)
    };
    let chain = proof["chain"].as_array().map_or(&[][..], Vec::as_slice);
    let mut last = None;
    for header in std::iter::once(&proof["header"]).chain(chain) {
        last = Some(block(header).ok_or_else(|| format!("the header {header} is not the chain's"))?);
    }
    let last = last.ok_or("no header")?;
    // Whoever votes at the index, with the key of then: so a verifier who knows the log would have it.
    let keys: Vec<_> = last
        .voters
        .first()
        .into_iter()
        .flatten()
        .filter_map(|(node, key)| Some((*node, (*key)?)))
        .collect();
    let proven = proof::verify(proof, &keys)?;
    if proven.digest != *seal {
        return Err(format!("it proves {}, not {}", hex(&proven.digest), hex(seal)));
    }
    if let Some(node) = proven.signers.difference(&last.signers).next() {
        return Err(format!("the signature of n{node} does not count by the log"));
    }
    Ok(())
}
