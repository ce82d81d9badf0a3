//! Conservation: every statement stands in the journals of both its sides, and what a sealed asset passes on is what
//! came in.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::history::History;

/// Has no journal of interest: it is never sealed, and takes whatever is left.
const ROOT: &str = "eaf_generic_balancegroup";

/// Follows every statement through the journals that a node shows in the end.
pub fn check(history: &History) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    // All nodes show the same (that is agreement's to check), so one is enough.
    let Some((node, shown)) = history.shown.iter().next() else {
        return found;
    };
    // Journals of a hundred thousand statements occur.
    let holds: BTreeMap<&(String, u64), BTreeSet<&str>> = shown
        .journals
        .iter()
        .map(|(place, journal)| {
            let statements = journal["statements"].as_array().into_iter().flatten();
            (
                place,
                statements
                    .filter_map(|statement| statement["id"].as_str())
                    .collect(),
            )
        })
        .collect();
    for ((asset, epoch), journal) in &shown.journals {
        let statements = journal["statements"].as_array().map_or(&[][..], Vec::as_slice);
        for statement in statements {
            let expected = [&statement["from"], &statement["to"]];
            if !expected.iter().any(|side| *side == asset.as_str()) {
                found.push((
                    0,
                    format!("n{node}: the journal of {asset} in {epoch} has {statement}"),
                ));
            }
            let id = statement["id"].as_str();
            let missing = expected.iter().filter_map(|side| side.as_str()).find(|side| {
                let other = holds.get(&((*side).to_owned(), *epoch));
                *side != ROOT && other.is_some_and(|ids| id.is_none_or(|id| !ids.contains(id)))
            });
            if let Some(missing) = missing {
                found.push((
                    0,
                    format!("n{node}: {statement} is missing in the journal of {missing}"),
                ));
            }
        }
        let watermark = journal["watermark"]
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(0);
        for unit in ["energy", "co2eq"] {
            let balance = passed_through(asset, &statements[..watermark.min(statements.len())], unit);
            if balance != 0 {
                found.push((
                    0,
                    format!("n{node}: sealed {asset} in {epoch} keeps {balance} of {unit}"),
                ));
            }
        }
    }
    found
}

/// What came in less what went out, own metered statements aside.
fn passed_through(asset: &str, statements: &[Value], unit: &str) -> i128 {
    let own = |s: &Value| s["kind"] == "metered" && s["meter"] == asset;
    let figure = |s: &Value| i128::from(s[unit].as_i64().unwrap_or(0));
    statements
        .iter()
        .filter(|s| !own(s))
        .map(|s| if s["to"] == asset { figure(s) } else { -figure(s) })
        .sum()
}
