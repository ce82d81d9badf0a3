//! Immutability: the prefix of a journal that a seal covers never changes, and seals only ever cover more.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::history::History;

/// Compares the sealed prefixes that were ever shown.
pub fn check(history: &History) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    let mut longest: BTreeMap<(&str, u64), &[Value]> = BTreeMap::new();
    let mut see = |at_ms: u64, asset, epoch, prefix| {
        let known = longest.entry((asset, epoch)).or_insert(prefix);
        let common = known.len().min(prefix.len());
        if known[..common] != prefix[..common] {
            let what = format!("the sealed journal of {asset} in {epoch} was {known:?} and is {prefix:?}");
            found.push((at_ms, what));
        }
        if prefix.len() > known.len() {
            *known = prefix;
        }
    };
    for read in &history.reads {
        see(
            read.answered.ms,
            read.asset.as_str(),
            read.epoch,
            read.sealed.as_slice(),
        );
    }
    let mut short = Vec::new();
    for ((asset, epoch), journal) in history.shown.values().flat_map(|shown| &shown.journals) {
        let statements = journal["statements"].as_array().map_or(&[][..], Vec::as_slice);
        let watermark = journal["watermark"].as_u64().unwrap_or(0);
        match usize::try_from(watermark)
            .ok()
            .and_then(|watermark| statements.get(..watermark))
        {
            Some(prefix) => see(0, asset.as_str(), *epoch, prefix),
            None => short.push((
                0,
                format!("the journal of {asset} in {epoch} ends before its watermark {watermark}"),
            )),
        }
    }
    for ((asset, epoch), journal) in history.shown.values().flat_map(|shown| &shown.journals) {
        let covered = journal["watermark"].as_u64().unwrap_or(0);
        if let Some(known) = longest
            .get(&(asset.as_str(), *epoch))
            .filter(|known| known.len() as u64 > covered)
        {
            short.push((
                0,
                format!(
                    "the seal of {asset} in {epoch} covered {} statements and covers {covered}",
                    known.len()
                ),
            ));
        }
    }
    found.extend(short);
    found
}
