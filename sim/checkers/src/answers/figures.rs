//! The figures of a balance, as EAF shows them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Verdict, all_same};
use crate::oracle::model::{Seal, Statement};

/// A figure in JSON; sums may be wider than 64 bits.
pub(super) fn figure(figure: i128) -> Value {
    i64::try_from(figure).map_or_else(|_| Value::from(figure as f64), Value::from)
}

/// How many of a seal's statements were there before it closed the balance: what it booked itself stands last.
pub(super) fn closed_from(seal: &Seal, statements: &[&Statement]) -> usize {
    let served = seal.contracts.iter().filter(|(_, energy, _)| *energy > 0).count();
    let contracts_from = statements.len().saturating_sub(2 * served);
    let last = contracts_from
        .checked_sub(1)
        .and_then(|place| statements.get(place));
    let own = last.is_some_and(|s| {
        let sides = if seal.residual < 0 {
            (&seal.upstream_from, &seal.asset)
        } else {
            (&seal.asset, &seal.upstream_to)
        };
        s.kind == "residual" && (&s.from, &s.to) == sides
    });
    contracts_from - usize::from(own)
}

/// Energy and CO2 in and out of an asset, and what came from its upstream less what went to it.
pub(super) struct Flows {
    pub(super) inward: (i128, i128),
    pub(super) outward: (i128, i128),
    pub(super) upstream: (i128, i128),
}

impl Flows {
    pub(super) fn of(asset: &str, statements: &[&Statement], upstream_from: &str, upstream_to: &str) -> Self {
        let sum = |of: &dyn Fn(&Statement) -> bool| {
            let these = statements.iter().filter(|s| of(s));
            these.fold((0, 0), |(energy, co2), s| (energy + s.energy, co2 + s.co2))
        };
        let drawn = sum(&|s| s.to == asset && s.from == upstream_from);
        let delivered = sum(&|s| s.from == asset && s.to == upstream_to);
        Flows {
            inward: sum(&|s| s.to == asset),
            outward: sum(&|s| s.from == asset),
            upstream: (drawn.0 - delivered.0, drawn.1 - delivered.1),
        }
    }

    pub(super) fn shown(&self, shown: &Value) -> Verdict {
        all_same(
            shown,
            [
                ("in", figure(self.inward.0)),
                ("out", figure(self.outward.0)),
                ("in_co2eq", figure(self.inward.1)),
                ("out_co2eq", figure(self.outward.1)),
                ("upstreamenergy", figure(self.upstream.0)),
                ("upstreamco2eq", figure(self.upstream.1)),
            ],
        )
    }
}

/// As EAF computes it.
pub(super) fn balance_sum(flows: &Flows) -> i128 {
    if flows.outward.0 > flows.inward.0 {
        -flows.outward.0
    } else {
        flows.inward.0
    }
}

/// Who delivered how much to whom: each peer's share in proportion, the remainder to the largest fractions, and among
/// equals to the least id. The closing entry is no peer's.
pub(super) fn peers(asset: &str, statements: &[&Statement]) -> Value {
    let (mut from, mut to) = (BTreeMap::<&str, i128>::new(), BTreeMap::<&str, i128>::new());
    for s in statements.iter().filter(|s| s.kind != "residual") {
        if s.to == asset {
            *from.entry(&s.from).or_default() += s.energy;
        }
        if s.from == asset {
            *to.entry(&s.to).or_default() += s.energy;
        }
    }
    let side = |these: &BTreeMap<&str, i128>, those: &BTreeMap<&str, i128>| -> Value {
        let peer = |(peer, energy): (&&str, &i128)| {
            let shares = shares(*energy, those);
            (
                (*peer).to_owned(),
                json!({"energy": figure(*energy), "tx": shares}),
            )
        };
        these.iter().map(peer).collect::<serde_json::Map<_, _>>().into()
    };
    json!({"from": side(&from, &to), "to": side(&to, &from)})
}

fn shares(total: i128, weights: &BTreeMap<&str, i128>) -> Value {
    let sum: i128 = weights.values().sum();
    let of = |weight: i128| if sum > 0 { total * weight } else { 0 };
    let floor = |weight: i128| if sum > 0 { of(weight) / sum } else { 0 };
    let mut by_fraction: Vec<(&str, i128)> = weights.iter().map(|(id, weight)| (*id, *weight)).collect();
    let given: i128 = by_fraction.iter().map(|(_, weight)| floor(*weight)).sum();
    by_fraction.sort_by_key(|(_, weight)| std::cmp::Reverse(of(*weight) - floor(*weight) * sum));
    let left = if sum > 0 { total - given } else { 0 };
    let shares = (0..).zip(by_fraction).map(|(place, (id, weight))| {
        let share = floor(weight) + i128::from(place < left);
        (id.to_owned(), figure(share))
    });
    shares.collect::<serde_json::Map<_, _>>().into()
}
