//! I4: contracts move nobody's upstream. For an asset B whose descendants all have both upstreams within B's subtree, once they are
//! sealed with nothing late: what flowed into B from downstream, net, in metered, residual and counter statements, is the metered net of
//! the descendants, plus contract energy they bought from anyone else (B included), less what they sold to such.

use crate::asset::{Asset, AssetId};
use crate::ledger::Ledger;
use crate::statement::{KindName, Statement};
use crate::units::Epoch;
use std::collections::BTreeSet;

/// Says of how many assets the premise held. The caller has checked that no rule changed since the epoch's first
/// statement.
pub(super) fn check(ledger: &Ledger, epoch: Epoch) -> Result<u64, String> {
    let mut checked = 0;
    let statements: Vec<Statement> = ledger.statements(epoch).collect();
    for top in ledger.assets() {
        let below = descendants(ledger, &top.id);
        if below.is_empty()
            || !below
                .iter()
                .all(|asset| holds(ledger, epoch, &top.id, &below, asset))
        {
            continue;
        }
        let (mut arrived, mut due) = (0i128, 0i128);
        for statement in &statements {
            let energy = i128::from(statement.energy.get());
            let leaves = below.contains(&statement.from);
            let enters = below.contains(&statement.to);
            if statement.kind_name() == KindName::Contract {
                due += if enters && !leaves { energy } else { 0 };
                due -= if leaves && !enters { energy } else { 0 };
            } else {
                arrived += if leaves && statement.to == top.id {
                    energy
                } else {
                    0
                };
                arrived -= if enters && statement.from == top.id {
                    energy
                } else {
                    0
                };
            }
            if let Some(meter) = statement.meter().filter(|meter| below.contains(*meter)) {
                due += if statement.from == *meter { energy } else { -energy };
            }
        }
        checked += 1;
        if arrived != due {
            return Err(format!(
                "{arrived} Wh arrived at {} in epoch {epoch}, {due} are due",
                top.id
            ));
        }
    }
    Ok(checked)
}

/// Whether the premise holds of one descendant.
fn holds(ledger: &Ledger, epoch: Epoch, top: &AssetId, below: &BTreeSet<AssetId>, asset: &AssetId) -> bool {
    let within =
        |upstream: &Option<AssetId>| upstream.as_ref().is_some_and(|u| u == top || below.contains(u));
    let rule = ledger.asset(asset).map(|asset: &Asset| &asset.rule);
    let settled = match ledger.journal(asset, epoch) {
        None => true,
        Some(journal) => journal.version.is_some() && journal.watermark == journal.statements.len(),
    };
    settled && rule.is_some_and(|rule| within(&rule.from) && within(&rule.to))
}

fn descendants(ledger: &Ledger, top: &AssetId) -> BTreeSet<AssetId> {
    let mut found = BTreeSet::new();
    let mut stack = ledger.downstream(top);
    while let Some(asset) = stack.pop() {
        stack.extend(
            ledger
                .downstream(&asset)
                .into_iter()
                .filter(|next| !found.contains(next)),
        );
        found.insert(asset);
    }
    found
}
