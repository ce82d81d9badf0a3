//! Proofs of section 7 as a stranger verifies them: from JSON and a list of keys alone, by code of our own.

use std::collections::BTreeSet;

use serde_json::Value;

use super::book::quorum;
use super::digest::{self, Bytes, Hash, TYP_BLOCK, base64url, from_base64url, protected, verifies};
use super::entry::Key;

/// What a proof proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The seal's digest.
    pub digest: Hash,
    /// The header that was signed, as it was signed.
    pub header: String,
    /// Who signed it.
    pub signers: BTreeSet<u64>,
}

type Voters = Vec<Vec<(u64, Option<Key>)>>;

/// Verifies a proof against the verifier's own list of nodes and keys.
///
/// # Errors
/// Why it proves nothing.
pub fn verify(proof: &Value, trusted: &[(u64, Key)]) -> Result<Proven, String> {
    let digest = seal_digest(&proof["seal"]).ok_or("its seal is none")?;
    let header = &proof["header"];
    let root = path_root(&digest, &proof["path"], header["count"].as_u64()).ok_or("its path is none")?;
    if header["root"] != digest::hex(&root) {
        return Err("its path leads elsewhere".to_owned());
    }
    if proof["seal"]["cluster"] != header["cluster"] {
        return Err("its seal is of another cluster".to_owned());
    }
    let mut signed = header;
    for next in proof["chain"].as_array().into_iter().flatten() {
        let follows = next["previous"] == digest::hex(&header_digest(signed)?)
            && next["cluster"] == signed["cluster"]
            && next["index"].as_u64() > signed["index"].as_u64();
        if !follows {
            return Err(format!("the header {next} does not follow {signed}"));
        }
        signed = next;
    }
    let text = header_text(signed)?;
    let certificate = &proof["certificate"];
    let payload = base64url(text.as_bytes());
    if certificate["payload"] != payload {
        return Err("it certifies other bytes than the last header".to_owned());
    }
    let voters = voters(&proof["voters"]).ok_or("its voters are none")?;
    if signed["voters"] != digest::hex(&digest::voters(&voters)) {
        return Err("its voters are not those of the last header".to_owned());
    }
    // The list must be the voters', or a single one of them could make up a header in which it votes alone.
    let listed: BTreeSet<(u64, Key)> = trusted.iter().copied().collect();
    let is_listed = |config: &Vec<(u64, Option<Key>)>| {
        let keyed: Vec<(u64, Key)> = config
            .iter()
            .filter_map(|(node, key)| Some((*node, (*key)?)))
            .collect();
        keyed == Vec::from_iter(listed.iter().copied())
    };
    if !voters.iter().any(is_listed) {
        return Err("the list is not that of its voters".to_owned());
    }
    let mut signers = BTreeSet::new();
    for signature in certificate["signatures"].as_array().into_iter().flatten() {
        let node = signer(signature, &payload, &voters)?;
        if !signers.insert(node) {
            return Err(format!("n{node} signs twice"));
        }
    }
    if voters.is_empty() {
        return Err("nobody votes".to_owned());
    }
    for config in &voters {
        let signed = config.iter().filter(|(node, _)| signers.contains(node)).count();
        if config.is_empty() || signed < quorum(config.len()) {
            let (voters, needed) = (config.len(), quorum(config.len()));
            return Err(format!("{signed} of {voters} voters signed, {needed} must"));
        }
    }
    Ok(Proven {
        digest,
        header: text,
        signers,
    })
}

/// Whose signature this is, if it is one.
fn signer(signature: &Value, payload: &str, voters: &Voters) -> Result<u64, String> {
    let head = |key: &Key| base64url(protected(key, TYP_BLOCK).as_bytes());
    let claimed = voters.iter().flatten().find_map(|(node, key)| {
        let key = (*key)?;
        (signature["protected"] == head(&key)).then_some((*node, key))
    });
    let (node, key) = claimed.ok_or("a signature of no voter at its index")?;
    let bytes: Option<[u8; 64]> = signature["signature"]
        .as_str()
        .and_then(from_base64url)
        .and_then(|bytes| bytes.try_into().ok());
    let input = format!("{}.{payload}", head(&key));
    if bytes.is_some_and(|bytes| verifies(&key, input.as_bytes(), &bytes)) {
        Ok(node)
    } else {
        Err(format!("the signature of n{node} is none"))
    }
}

/// A header as it is signed: RFC 8785, its members in the order of their names.
fn header_text(header: &Value) -> Result<String, String> {
    let text = |name: &str| header[name].as_str().ok_or(format!("a header without {name}"));
    let number = |name: &str| header[name].as_u64().ok_or(format!("a header without {name}"));
    Ok(format!(
        r#"{{"cluster":"{}","count":{},"index":{},"previous":"{}","root":"{}","state":"{}","voters":"{}"}}"#,
        text("cluster")?,
        number("count")?,
        number("index")?,
        text("previous")?,
        text("root")?,
        text("state")?,
        text("voters")?
    ))
}

fn header_digest(header: &Value) -> Result<Hash, String> {
    Ok(digest::digest("header", header_text(header)?.as_bytes()))
}

/// Bytes in hexadecimal.
fn hash<const N: usize>(value: &Value) -> Option<[u8; N]> {
    hex::decode(value.as_str()?).ok()?.try_into().ok()
}

/// The root that a leaf's path leads to, in a tree of so many leaves.
fn path_root(leaf: &Hash, path: &Value, count: Option<u64>) -> Option<Hash> {
    let hashes: Option<Vec<Hash>> = path["hashes"].as_array()?.iter().map(hash).collect();
    let (index, count) = (path["leaf_index"].as_u64()?, count?);
    (index < count).then(|| climb(leaf, index, count, &hashes?))?
}

/// The path's last hash is that of the other half of the tree, the ones before it lead to the root of our half.
fn climb(leaf: &Hash, index: u64, count: u64, hashes: &[Hash]) -> Option<Hash> {
    if count == 1 {
        return hashes.is_empty().then(|| digest::root(&[*leaf]));
    }
    let (other, inner) = hashes.split_last()?;
    let left = count.next_power_of_two() / 2;
    Some(if index < left {
        digest::node(&climb(leaf, index, left, inner)?, other)
    } else {
        digest::node(other, &climb(leaf, index - left, count - left, inner)?)
    })
}

/// The digest of a seal's content, from its JSON.
pub(crate) fn seal_digest(seal: &Value) -> Option<Hash> {
    let number = |name: &str| seal[name].as_i64().map(i128::from);
    let mut out = Bytes::default();
    out.raw(&hash::<32>(&seal["cluster"])?)
        .name(seal["asset"].as_str()?);
    for name in ["epoch", "version", "watermark"] {
        out.int(number(name)?);
    }
    out.raw(&hash::<32>(&seal["previous"])?)
        .raw(&hash::<32>(&seal["root"])?);
    out.name(seal["upstream_from"].as_str()?)
        .name(seal["upstream_to"].as_str()?);
    for name in [
        "residual",
        "position",
        "energy_in",
        "energy_out",
        "co2_in",
        "co2_out",
    ] {
        out.int(number(name)?);
    }
    let contracts = seal["contracts"].as_array()?;
    out.count(contracts.len());
    for walked in contracts {
        out.name(walked["contract"].as_str()?)
            .int(walked["energy"].as_i64()?.into())
            .option(walked["reason"].as_str(), |out, reason| {
                out.name(reason);
            });
    }
    let approvals = seal["approvals"].as_array()?;
    out.count(approvals.len());
    for key in approvals {
        out.raw(&hash::<32>(key)?);
    }
    Some(digest::digest("seal", out.as_slice()))
}

fn voters(configs: &Value) -> Option<Voters> {
    let voter = |voter: &Value| {
        let key = match &voter["key"] {
            Value::Null => None,
            key => Some(hash(key)?),
        };
        Some((voter["node"].as_u64()?, key))
    };
    let config = |config: &Value| config.as_array()?.iter().map(voter).collect();
    configs.as_array()?.iter().map(config).collect()
}
