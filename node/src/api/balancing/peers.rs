//! Who traded with whom: how much of what each peer delivered went to which other peer.
//!
//! ```text
//! from[x].energy             what x delivered to the asset
//! from[x].tx[y]              how much of it is y's share: to[y] / Σ to × from[x]
//! to[y].tx[x]                the reverse
//! ```
//!
//! Energy has no colour: shares are proportional. They add up exactly: what integer division leaves over goes to the
//! largest remainders, and among equals to the least id. The closing entry (`.end`) is no peer's doing and is left out.

use std::collections::BTreeMap;

use ledger::statement::Kind;
use ledger::{AssetId, Statement};
use serde_json::{Map, Value, json};

use crate::api::wire::sum;

/// The peers of `asset` in these statements.
pub(crate) fn of(asset: &AssetId, statements: &[Statement]) -> Value {
    let (mut from, mut to) = (
        BTreeMap::<&AssetId, i128>::new(),
        BTreeMap::<&AssetId, i128>::new(),
    );
    for statement in statements
        .iter()
        .filter(|statement| statement.kind != Kind::Residual)
    {
        if statement.to == *asset {
            *from.entry(&statement.from).or_default() += statement.energy.wide();
        }
        if statement.from == *asset {
            *to.entry(&statement.to).or_default() += statement.energy.wide();
        }
    }
    json!({ "from": side(&from, &to), "to": side(&to, &from) })
}

fn side(these: &BTreeMap<&AssetId, i128>, those: &BTreeMap<&AssetId, i128>) -> Value {
    let weights: Vec<i128> = those.values().copied().collect();
    let mut peers = Map::new();
    for (peer, energy) in these {
        let shares = shares(*energy, &weights);
        let tx: Map<String, Value> = those
            .keys()
            .zip(shares)
            .map(|(other, share)| (other.to_string(), sum(share)))
            .collect();
        peers.insert(peer.to_string(), json!({ "energy": sum(*energy), "tx": tx }));
    }
    Value::Object(peers)
}

/// Splits `total` in proportion to the weights, exactly. Nothing to weigh by: nobody gets anything.
pub(crate) fn shares(total: i128, weights: &[i128]) -> Vec<i128> {
    let sum: i128 = weights.iter().sum();
    if sum <= 0 {
        return vec![0; weights.len()];
    }
    // Statements are below 2^53 and there are fewer than 2^32 of them in an epoch: a product of two sums might pass
    // 2^127 only in a ledger that holds more energy than the sun gives; then the shares are 0 rather than wrong.
    let product = |weight: &i128| total.checked_mul(*weight);
    let Some(products) = weights.iter().map(product).collect::<Option<Vec<_>>>() else {
        return vec![0; weights.len()];
    };
    let mut shares: Vec<i128> = products.iter().map(|product| product / sum).collect();
    let left = total - shares.iter().sum::<i128>();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    // A stable sort: equals stay in id order.
    order.sort_by_key(|i| std::cmp::Reverse(products[*i] % sum));
    for i in order.into_iter().take(usize::try_from(left).unwrap_or(0)) {
        shares[i] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_the_largest_remainders_get_what_is_left() {
        for (total, weights, expected) in [
            (500, &[200][..], &[500][..]),
            (10, &[1, 1, 1], &[4, 3, 3]),
            (100, &[1, 2, 3], &[17, 33, 50]),
            (1, &[1, 1], &[1, 0]),
            (7, &[], &[]),
            (7, &[0, 0], &[0, 0]),
            (0, &[3, 4], &[0, 0]),
            (5, &[0, 9], &[0, 5]),
        ] {
            assert_eq!(shares(total, weights), expected, "{total} by {weights:?}");
        }
        for total in 0..200 {
            let weights = [3, 0, 7, 11, total + 1];
            let shares = shares(total, &weights);
            assert_eq!(shares.iter().sum::<i128>(), total);
            let sum: i128 = weights.iter().sum();
            // Each is within one of its exact share.
            assert!(
                shares
                    .iter()
                    .zip(weights)
                    .all(|(share, weight)| (share * sum - total * weight).abs() < sum)
            );
        }
    }
}
