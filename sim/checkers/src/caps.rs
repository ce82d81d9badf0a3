//! Contract caps: a contract never books more than it may in an epoch, nor in its life, and what it says it booked is
//! what the journals hold.

use std::collections::BTreeMap;

use crate::history::History;

/// Adds up what contracts booked in the journals that a node shows in the end.
pub fn check(history: &History) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    let Some((node, shown)) = history.shown.iter().next() else {
        return found;
    };
    let mut booked: BTreeMap<(&str, u64), i128> = BTreeMap::new();
    for ((asset, epoch), journal) in &shown.journals {
        for s in journal["statements"].as_array().into_iter().flatten() {
            // Each stands in two journals: count it where it leaves from.
            if s["kind"] == "contract" && s["from"] == **asset {
                let contract = s["contractId"].as_str().unwrap_or_default();
                *booked.entry((contract, *epoch)).or_default() +=
                    i128::from(s["energy"].as_i64().unwrap_or(0));
            }
        }
    }
    for contract in &shown.contracts {
        let Some(id) = contract["contractId"].as_str() else {
            continue;
        };
        let limit = |name: &str| contract[name].as_i64().map_or(i128::MAX, i128::from);
        let cap = limit("energy").min(limit("load_max"));
        let mut life = 0;
        for ((_, epoch), energy) in booked.iter().filter(|((of, _), _)| *of == id) {
            life += energy;
            if *energy > cap {
                found.push((
                    0,
                    format!("n{node}: {id} booked {energy} in {epoch}, its cap is {cap}"),
                ));
            }
        }
        if life > limit("energy_total") {
            found.push((
                0,
                format!(
                    "n{node}: {id} booked {life} of {} in its life",
                    contract["energy_total"]
                ),
            ));
        }
        if contract["balanced"].as_i64().map(i128::from) != Some(life) {
            found.push((
                0,
                format!(
                    "n{node}: {id} says that it booked {}, the journals hold {life}",
                    contract["balanced"]
                ),
            ));
        }
    }
    found
}
