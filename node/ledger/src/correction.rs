//! Corrections: the next version of a seal, over what came late. Nothing already booked is undone.

use crate::asset::{AssetId, ROOT};
use crate::ledger::{Ledger, Work};
use crate::refusal::Refusal;
use crate::seal::SealRef;
use crate::units::Epoch;

impl Ledger {
    /// Makes version n + 1 of `(asset, epoch)` over its late statements.
    pub(crate) fn correct(
        &mut self,
        work: &mut Work,
        asset: &AssetId,
        epoch: Epoch,
    ) -> Result<SealRef, Refusal> {
        if *asset == *ROOT {
            return Err(Refusal::RootNotSealable {});
        }
        let handle = self.assets.known(asset)?;
        match self.journal_of(handle, epoch) {
            Some((_, journal)) if journal.is_sealed() => {
                if journal.open_entries().is_empty() {
                    return Err(Refusal::NothingLate {
                        asset: asset.clone(),
                        epoch,
                    });
                }
                self.make_seal(work, handle, epoch)
            }
            _ => Err(Refusal::NotSealed {
                asset: asset.clone(),
                epoch,
            }),
        }
    }
}
