//! I5: a contract never books more than `min(energy, load_max)` in an epoch nor more than `energy_total` in its life; no booking is below
//! `load_min`; and within one seal a contract is served only after every better-placed one took, at its turn, all that it could,
//! or had a reason not to.

use super::Witness;
use crate::contract::{Contract, ContractId, Delivery, Direction};
use crate::event::{Event, Sealed};
use crate::merit_order::{PartnerView, Reason};
use crate::units::Epoch;

impl Witness {
    pub(super) fn caps(&mut self, events: &[Event]) -> Result<(), String> {
        for event in events {
            match event {
                Event::ContractSet { contract } => {
                    self.contracts.insert(contract.terms.id.clone(), contract.clone());
                }
                Event::Sealed(sealed) => self.turns(sealed)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Replays a seal's merit order from what the contracts say and what was booked so far.
    fn turns(&mut self, sealed: &Sealed) -> Result<(), String> {
        let (asset, epoch) = (&sealed.seal.asset, sealed.seal.epoch);
        let mut due: Vec<&Contract> = self
            .contracts
            .values()
            .filter(|c| c.terms.asset == *asset && c.served_in(epoch))
            .collect();
        due.sort_by_key(|contract| (contract.priority, contract.terms.id.as_str()));
        let walked: Vec<&ContractId> = sealed.turns.iter().map(|turn| &turn.contract).collect();
        if walked != due.iter().map(|contract| &contract.terms.id).collect::<Vec<_>>() {
            return Err(format!("{} walked {walked:?}", sealed.seal.id()));
        }
        let listed: Vec<_> = sealed
            .seal
            .contracts
            .iter()
            .map(|s| (&s.contract, s.energy, s.reason))
            .collect();
        if listed
            != sealed
                .turns
                .iter()
                .map(|t| (&t.contract, t.taken, t.reason))
                .collect::<Vec<_>>()
        {
            return Err(format!("{} lists {listed:?}", sealed.seal.id()));
        }

        let mut left = i128::from(sealed.seal.position.get());
        let mut booked = Vec::new();
        for (turn, contract) in sealed.turns.iter().zip(due) {
            let taken = i128::from(turn.taken.get());
            let expected = self.expected(contract, epoch, left, turn.partner);
            if (taken, turn.reason) != expected {
                return Err(format!(
                    "{} took {:?} at its turn, {expected:?} was right",
                    turn.contract,
                    (taken, turn.reason)
                ));
            }
            if (taken > 0) != turn.booked.is_some() {
                return Err(format!(
                    "{} took {taken} but booked {:?}",
                    turn.contract, turn.booked
                ));
            }
            left += if contract.terms.direction == Direction::To {
                -taken
            } else {
                taken
            };
            booked.push((turn.contract.clone(), taken));
        }
        for (id, taken) in booked {
            *self.booked.entry(id.clone()).or_default() += taken;
            *self.booked_in.entry((id, epoch)).or_default() += taken;
        }
        Ok(())
    }

    fn expected(
        &self,
        contract: &Contract,
        epoch: Epoch,
        left: i128,
        partner: PartnerView,
    ) -> (i128, Option<Reason>) {
        let terms = &contract.terms;
        let theirs = match partner {
            PartnerView::Sealed {} => return (0, Some(Reason::PartnerSealed)),
            PartnerView::Open { position } => position.energy,
        };
        let in_epoch = self
            .booked_in
            .get(&(terms.id.clone(), epoch))
            .copied()
            .unwrap_or(0);
        let in_life = self.booked.get(&terms.id).copied().unwrap_or(0);
        let mut limits = vec![i128::from(terms.energy.get()) - in_epoch];
        limits.extend(terms.load_max.map(|max| i128::from(max.get()) - in_epoch));
        limits.extend(terms.energy_total.map(|total| i128::from(total.get()) - in_life));
        if limits.iter().any(|limit| *limit <= 0) {
            return (0, Some(Reason::Fulfilled));
        }
        let (offer, need) = match terms.direction {
            Direction::To => (left, -theirs),
            Direction::From => (-left, theirs),
        };
        if terms.delivery != Delivery::Firm {
            limits.push(offer);
        }
        if terms.delivery == Delivery::Matched {
            limits.push(need);
        }
        match limits.into_iter().min().unwrap_or(0) {
            ..=0 => (0, Some(Reason::Exhausted)),
            least if least < i128::from(terms.load_min.get()) => (0, Some(Reason::BelowLoadMin)),
            least => (least, None),
        }
    }
}
