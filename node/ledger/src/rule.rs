//! The balancing rule: where an asset draws a deficit from and delivers a surplus to.
//!
//! The relation `a → rule.from`, `a → rule.to` is a directed acyclic graph that ends at the root. What holds
//! always: no chain of rules leads back to where it started.

use crate::asset::{AssetId, Handle, ROOT};
use crate::canonical::canonical_struct;
use crate::event::Event;
use crate::ledger::{Ledger, Work};
use crate::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// An asset's two upstreams; a missing one is the root.
///
/// Naming the root is not the same as naming nothing when a settlement is booked ([`crate::settlement`]): a meter
/// with `to: root` produces, a meter without a rule consumes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Whom a deficit is drawn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<AssetId>,
    /// Whom a surplus is delivered to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<AssetId>,
}

canonical_struct!(Rule { from, to });

impl Rule {
    /// Whom a deficit is drawn from, the root if nobody is named.
    pub fn upstream_from(&self) -> AssetId {
        self.from.clone().unwrap_or_else(|| ROOT.clone())
    }

    /// Whom a surplus is delivered to, the root if nobody is named.
    pub fn upstream_to(&self) -> AssetId {
        self.to.clone().unwrap_or_else(|| ROOT.clone())
    }
}

impl Ledger {
    /// Whether `asset` may have this rule.
    pub(crate) fn check_rule(&self, asset: &AssetId, rule: &Rule) -> Result<(), Refusal> {
        if *asset == *ROOT {
            return Err(Refusal::RootHasNoRule {});
        }
        let upstreams = [&rule.from, &rule.to];
        for through in upstreams.into_iter().flatten() {
            if through == asset {
                return Err(Refusal::RuleCycle {
                    asset: asset.clone(),
                    through: through.clone(),
                });
            }
        }
        // An unknown asset is nobody's upstream, and an unknown upstream has none of its own.
        let Some(target) = self.assets.handle(asset.as_str()) else {
            return Ok(());
        };
        let mut seen = BTreeSet::new();
        for through in upstreams.into_iter().flatten() {
            let mut stack: Vec<Handle> = self.assets.handle(through.as_str()).into_iter().collect();
            while let Some(handle) = stack.pop() {
                if handle == target {
                    return Err(Refusal::RuleCycle {
                        asset: asset.clone(),
                        through: through.clone(),
                    });
                }
                if seen.insert(handle) {
                    let links = self.assets.links(handle);
                    stack.extend([links.from(), links.to()].into_iter().flatten());
                }
            }
        }
        Ok(())
    }

    /// Gives an asset a rule that was checked; its upstreams become assets.
    pub(crate) fn set_rule(&mut self, work: &mut Work, handle: Handle, rule: &Rule) {
        let from = rule.from.as_ref().map(|id| self.named(work, id));
        let to = rule.to.as_ref().map(|id| self.named(work, id));
        self.assets.link(handle, from, to);
        let asset = &mut self.assets.get_mut(handle).asset;
        asset.rule = rule.clone();
        work.event(Event::RuleSet {
            asset: asset.id.clone(),
            rule: rule.clone(),
        });
    }
}
