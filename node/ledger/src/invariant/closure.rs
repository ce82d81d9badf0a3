//! I3, closure: after a seal, what passed through in equals what passed through out over the whole watermark, in energy and in
//! CO2.

use crate::ledger::Ledger;
use crate::seal::Seal;
use crate::statement::KindName;

pub(super) fn check(ledger: &Ledger, seal: &Seal) -> Result<(), String> {
    let journal = ledger.journal(&seal.asset, seal.epoch).unwrap_or_default();
    let covered = usize::try_from(seal.watermark).unwrap_or(usize::MAX);
    let prefix = journal
        .statements
        .get(..covered)
        .ok_or("a watermark beyond the journal")?;
    let (mut energy, mut co2) = (0i128, 0i128);
    let (mut figures_in, mut figures_out) = ((0i128, 0i128), (0i128, 0i128));
    for statement in prefix {
        let incoming = statement.to == seal.asset;
        let (wh, grams) = (
            i128::from(statement.energy.get()),
            i128::from(statement.co2eq.get()),
        );
        let figures = if incoming {
            &mut figures_in
        } else {
            &mut figures_out
        };
        (figures.0, figures.1) = (figures.0 + wh, figures.1 + grams);
        if statement.kind_name() == KindName::Metered && statement.meter() == Some(&seal.asset) {
            continue;
        }
        energy += if incoming { wh } else { -wh };
        co2 += if incoming { grams } else { -grams };
    }
    if (energy, co2) != (0, 0) {
        return Err(format!(
            "{} leaves {energy} Wh and {co2} g of its pass-through unclosed",
            seal.id()
        ));
    }
    let said = (
        (i128::from(seal.energy_in.get()), i128::from(seal.co2_in.get())),
        (i128::from(seal.energy_out.get()), i128::from(seal.co2_out.get())),
    );
    if said == (figures_in, figures_out) {
        Ok(())
    } else {
        Err(format!(
            "{} says {said:?}, its statements {:?}",
            seal.id(),
            (figures_in, figures_out)
        ))
    }
}
