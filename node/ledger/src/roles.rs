//! Roles: who may do what. **This is the one place where roles go.**
//!
//! For now the admins and gateways of the genesis may do everything, except that a gateway changes keys and audit rules
//! only in a development cluster; an auditor may approve. Operators and metering parties come later.

use crate::action::Action;
use crate::key::PublicKey;
use crate::ledger::Ledger;
use crate::refusal::Refusal;

impl Ledger {
    /// Whether the cluster knows this signer at all, for this action.
    pub(crate) fn knows(&self, signer: &PublicKey, action: &Action) -> bool {
        let genesis = self.genesis.as_ref();
        let listed = genesis.is_some_and(|g| g.admins.contains(signer) || g.gateways.contains(signer));
        listed || matches!(action, Action::Approve { asset, .. } if self.audits(signer, asset))
    }

    /// Whether the signer may do this.
    pub(crate) fn authorize(&self, signer: &PublicKey, action: &Action) -> Result<(), Refusal> {
        let Some(genesis) = &self.genesis else {
            return Err(Refusal::NoGenesis {});
        };
        let needs_admin = matches!(
            action,
            Action::SetAuditRule { .. }
                | Action::RegisterNode { .. }
                | Action::PromoteNode { .. }
                | Action::RevokeNode { .. }
        );
        if needs_admin && !genesis.development && !genesis.admins.contains(signer) {
            return Err(Refusal::NotAdmin {});
        }
        Ok(())
    }

    fn audits(&self, signer: &PublicKey, asset: &crate::AssetId) -> bool {
        let handle = self.assets.handle(asset.as_str());
        handle.is_some_and(|handle| self.assets.get(handle).asset.audit.auditors.contains(signer))
    }
}
