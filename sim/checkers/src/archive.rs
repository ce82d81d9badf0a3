//! Archives: in the end each file to which a ledger refers is what its name and the ledger say, whatever became of it
//! meanwhile. A process may stop for want of one that no one gives it; whether anyone has it is for whoever sees all disks to say.
//!
//! A name ends with the first eight bytes of the SHA-256 of what is in the file, in hexadecimal.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::oracle::digest::{Hash, hex};
use crate::wal::Platter;

/// Hexadecimal digits of a SHA-256 in a file's name.
const DIGITS: usize = 16;

/// The file of its archive for want of which a process stops, if that is why it does.
pub fn wanting(why: &str) -> Option<&str> {
    let (_, rest) = why.split_once("archive/")?;
    let (name, what) = rest.split_once(" is ")?;
    what.contains("no other member gave it").then_some(name)
}

/// Looks at the disk of a node that has had time to mend what was damaged: `needed` are the files to which its ledger refers,
/// with the SHA-256 that it has noted of each.
pub fn at_rest(node: u64, platter: &dyn Platter, needed: &BTreeMap<String, Hash>) -> Vec<String> {
    let durable = platter.list("archive");
    // What is not there at all is for upkeep to say.
    let there = needed.iter().filter(|(name, _)| durable.contains(name));
    let wrong = there.filter_map(|(name, noted)| {
        let digest: Hash = Sha256::digest(platter.read(&format!("archive/{name}"), 0, usize::MAX)).into();
        let own = hex(&digest);
        let is_named = name
            .strip_suffix(".parquet")
            .is_some_and(|name| name.ends_with(&format!("-{}", &own[..DIGITS])));
        match (digest == *noted, is_named) {
            (true, true) => None,
            (false, true) => Some(format!(
                "the ledger of n{node} has noted {} of {name}, whose SHA-256 is {own}",
                hex(noted)
            )),
            (_, false) => Some(format!("{name} of n{node} is damaged: its SHA-256 is {own}")),
        }
    });
    wrong.collect()
}
