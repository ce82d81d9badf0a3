//! I2: a sealed prefix never changes; versions are dense, and each names its predecessor's digest.

use super::Witness;
use crate::event::Sealed;
use crate::ledger::Ledger;
use crate::merkle;
use crate::units::Epoch;
use std::collections::BTreeSet;

impl Witness {
    pub(super) fn prefixes(
        &mut self,
        ledger: &Ledger,
        touched: &BTreeSet<Epoch>,
        sealed: &[&Sealed],
    ) -> Result<(), String> {
        for ((asset, epoch), prefix) in self
            .prefixes
            .iter()
            .filter(|((_, epoch), _)| touched.contains(epoch))
        {
            let journal = ledger.journal(asset, *epoch).unwrap_or_default();
            if !journal.statements.starts_with(prefix) || journal.watermark < prefix.len() {
                return Err(format!("the sealed prefix of {asset}/{epoch} changed"));
            }
        }
        for event in sealed {
            let (asset, epoch) = (&event.seal.asset, event.seal.epoch);
            let journal = ledger.journal(asset, epoch).unwrap_or_default();
            let mut previous = crate::Digest::ZERO;
            for (record, version) in ledger.seals(asset, epoch).iter().zip(0u32..) {
                if record.seal.version != version || record.seal.previous != previous {
                    return Err(format!("{} is out of line", record.seal.id()));
                }
                previous = record.digest;
            }
            if ledger.seals(asset, epoch).last().map(|newest| newest.digest) == Some(event.digest) {
                let covered = usize::try_from(event.seal.watermark).unwrap_or(usize::MAX);
                let prefix = journal
                    .statements
                    .get(..covered)
                    .ok_or("a watermark beyond the journal")?;
                if journal.watermark != covered {
                    return Err(format!(
                        "{} covers {covered}, the journal says {}",
                        event.seal.id(),
                        journal.watermark
                    ));
                }
                let leaves: Vec<_> = prefix.iter().map(|statement| statement.digest()).collect();
                if merkle::root(&leaves) != event.seal.root {
                    return Err(format!(
                        "{} has another root than its statements",
                        event.seal.id()
                    ));
                }
                self.prefixes.insert((asset.clone(), epoch), prefix.to_vec());
            }
        }
        Ok(())
    }
}
