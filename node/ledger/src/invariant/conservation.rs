//! I1, conservation: every statement stands in exactly two journals, and what flows out of every asset of an epoch
//! flows into another.

use crate::asset::AssetId;
use crate::ledger::Ledger;
use crate::statement::StatementId;
use crate::units::Epoch;
use std::collections::BTreeMap;

pub(super) fn check(ledger: &Ledger, epoch: Epoch) -> Result<(), String> {
    let mut standing: BTreeMap<StatementId, Vec<&AssetId>> = BTreeMap::new();
    let mut net: i128 = 0;
    for asset in ledger.assets() {
        let Some(journal) = ledger.journal(&asset.id, epoch) else {
            continue;
        };
        let mut last = None;
        for statement in journal.statements {
            if last.replace(statement.id) >= Some(statement.id) {
                return Err(format!(
                    "the journal of {}/{epoch} is not in booking order",
                    asset.id
                ));
            }
            if (statement.from == asset.id) == (statement.to == asset.id) {
                return Err(format!(
                    "{} stands in the journal of {}, which is not one of its sides",
                    statement.id, asset.id
                ));
            }
            let energy = i128::from(statement.energy.get());
            if energy < 0 {
                return Err(format!("{} has the energy {energy}", statement.id));
            }
            net += if statement.to == asset.id { energy } else { -energy };
            standing.entry(statement.id).or_default().push(&asset.id);
        }
    }
    if net != 0 {
        return Err(format!("in epoch {epoch}, {net} Wh came from nowhere"));
    }
    let mut booked = 0;
    for statement in ledger.statements(epoch) {
        booked += 1;
        let journals = standing.get(&statement.id).map_or(0, Vec::len);
        if journals != 2 {
            return Err(format!("{} stands in {journals} journals", statement.id));
        }
    }
    if booked == standing.len() {
        Ok(())
    } else {
        Err(format!("epoch {epoch} has statements that were never booked"))
    }
}
