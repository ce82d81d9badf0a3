//! Audit rules: how many of whose approvals the seals of an asset need.
//!
//! An approval is for the *next* seal of `(asset, epoch)` and is spent by it: a correction needs new ones. Only
//! approvals by auditors whom the rule names at the moment of sealing count.

use crate::asset::{AssetId, ROOT};
use crate::canonical::canonical_struct;
use crate::event::Event;
use crate::key::PublicKey;
use crate::ledger::{Ledger, Work};
use crate::outcome::Outcome;
use crate::refusal::Refusal;
use crate::units::Epoch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// So many approvals of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRule {
    /// How many; 0 is none needed.
    pub approvals: u32,
    /// Of these.
    pub auditors: BTreeSet<PublicKey>,
}

canonical_struct!(AuditRule { approvals, auditors });

impl AuditRule {
    /// Those of `given` that count, sorted.
    pub fn counting(&self, given: &BTreeSet<PublicKey>) -> Vec<PublicKey> {
        if planted!("approvals-of-anyone") {
            return given.iter().copied().collect();
        }
        self.auditors.intersection(given).copied().collect()
    }
}

impl Ledger {
    /// Replaces an asset's audit rule. It binds seals to come, whatever was approved or sealed before.
    pub(crate) fn set_audit_rule(
        &mut self,
        work: &mut Work,
        asset: &AssetId,
        rule: AuditRule,
    ) -> Result<Outcome, Refusal> {
        if *asset == *ROOT {
            return Err(Refusal::RootNotSealable {});
        }
        let handle = self.assets.known(asset)?;
        let auditors = u32::try_from(rule.auditors.len()).unwrap_or(u32::MAX);
        if rule.approvals > auditors {
            return Err(Refusal::AuditRuleUnsatisfiable {
                approvals: rule.approvals,
                auditors,
            });
        }
        self.assets.get_mut(handle).asset.audit = rule.clone();
        work.event(Event::AuditRuleSet {
            asset: asset.clone(),
            rule,
        });
        Ok(Outcome::AuditRule { index: work.index })
    }

    /// Takes down that `auditor` approves the next seal of `(asset, epoch)`.
    pub(crate) fn approve(
        &mut self,
        work: &mut Work,
        auditor: PublicKey,
        asset: &AssetId,
        epoch: Epoch,
    ) -> Result<Outcome, Refusal> {
        let handle = self.assets.known(asset)?;
        let rule = &self.assets.get(handle).asset.audit;
        if !rule.auditors.contains(&auditor) {
            return Err(Refusal::NotAuditor { asset: asset.clone() });
        }
        let given = self.book_mut(epoch).approvals.entry(handle).or_default();
        given.insert(auditor);
        let given = given.clone();
        let rule = &self.assets.get(handle).asset.audit;
        let approvals = u32::try_from(rule.counting(&given).len()).unwrap_or(u32::MAX);
        work.event(Event::Approved {
            asset: asset.clone(),
            epoch,
            auditor,
        });
        Ok(Outcome::Approved {
            index: work.index,
            approvals,
        })
    }
}
