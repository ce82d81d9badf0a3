//! I6: there is exactly one seal for each `(asset, epoch, version)`, with one digest, and it stands in the block of its entry.

use super::Witness;
use crate::event::Sealed;
use crate::ledger::{Applied, Ledger};
use crate::merkle;

impl Witness {
    pub(super) fn unique(
        &mut self,
        ledger: &Ledger,
        applied: &Applied,
        sealed: &[&Sealed],
    ) -> Result<(), String> {
        for event in sealed {
            let id = event.seal.id();
            if event.seal.digest() != event.digest {
                return Err(format!("{id} has another digest than its content"));
            }
            let record = ledger.seal_record(&id.asset, id.epoch, Some(id.version));
            if record.map(|record| (record.digest, record.index)) != Some((event.digest, applied.index)) {
                return Err(format!("{id} is not what the ledger keeps"));
            }
            if self.seals.insert(id.clone(), event.digest).is_some() {
                return Err(format!("{id} was made twice"));
            }
        }
        match &applied.block {
            None if sealed.is_empty() => Ok(()),
            None => Err("seals without a block".to_owned()),
            Some(header) => {
                let leaves: Vec<_> = sealed.iter().map(|event| event.digest).collect();
                let counted = usize::try_from(header.count) == Ok(leaves.len());
                if !counted || leaves.is_empty() || merkle::root(&leaves) != header.root {
                    return Err("the block's root is not that of its seals".to_owned());
                }
                if header.previous != std::mem::replace(&mut self.head, header.digest()) {
                    return Err("the block does not follow the one before".to_owned());
                }
                Ok(())
            }
        }
    }
}
