//! Sealing a whole epoch: everything it has open, downstream before upstream, owners before their partners.
//!
//! Passes are made until one makes no seal. A pass costs what its members, their upstreams, downstreams and contracts
//! count, times the logarithm of the members; assets that have nothing to do with the epoch are never looked at.

use crate::asset::{AssetId, Handle, ROOT_HANDLE};
use crate::ledger::{Ledger, Work};
use crate::outcome::{Held, Outcome};
use crate::refusal::Refusal;
use crate::seal::SealRef;
use crate::units::Epoch;
use std::collections::{BTreeMap, BTreeSet};

impl Ledger {
    /// Seals all that `epoch` has open, or of that what is `under` an asset.
    pub(crate) fn seal_epoch(
        &mut self,
        work: &mut Work,
        epoch: Epoch,
        under: Option<&AssetId>,
    ) -> Result<Outcome, Refusal> {
        let scope = match under {
            None => None,
            Some(asset) => match self.assets.known(asset)? {
                // Everything is downstream of the root.
                ROOT_HANDLE => None,
                handle => Some(self.subtree(handle)),
            },
        };
        let mut seals = Vec::new();
        loop {
            let pass = self.pass(work, epoch, scope.as_ref());
            if pass.seals.is_empty() {
                return Ok(Outcome::EpochSealed {
                    index: work.index,
                    seals,
                    held: pass.held,
                });
            }
            seals.extend(pass.seals);
        }
    }

    /// An asset and everything downstream of it.
    fn subtree(&self, top: Handle) -> BTreeSet<Handle> {
        let mut found = BTreeSet::new();
        let mut stack = vec![top];
        while let Some(handle) = stack.pop() {
            if found.insert(handle) {
                stack.extend(&self.assets.get(handle).downstream);
            }
        }
        found
    }

    /// Step 1: what is open, and whatever sealing it can reach.
    fn concerned(&self, epoch: Epoch, scope: Option<&BTreeSet<Handle>>) -> BTreeSet<Handle> {
        let mut members = BTreeSet::new();
        let mut stack: Vec<Handle> = self
            .epochs
            .get(&epoch)
            .map(|book| book.open.handles().collect())
            .unwrap_or_default();
        while let Some(handle) = stack.pop() {
            if handle == ROOT_HANDLE || scope.is_some_and(|scope| !scope.contains(&handle)) {
                continue;
            }
            if members.insert(handle) {
                stack.extend(self.assets.links(handle).upstreams());
                stack.extend(self.partners(handle, epoch));
            }
        }
        members
    }

    /// The partners of an asset's contracts that are active and valid in the epoch, each once.
    fn partners(&self, owner: Handle, epoch: Epoch) -> BTreeSet<Handle> {
        let contracts = self.assets.get(owner).contracts.iter();
        contracts
            .map(|number| &self.contracts.get(*number).contract)
            .filter(|contract| contract.served_in(epoch))
            .filter_map(|contract| self.assets.handle(contract.terms.partner.as_str()))
            .collect()
    }

    /// Steps 2 and 3: every member once, sealed or passed.
    fn pass(&mut self, work: &mut Work, epoch: Epoch, scope: Option<&BTreeSet<Handle>>) -> Pass {
        let mut queue = Queue::new(self, epoch, self.concerned(epoch, scope));
        let mut pass = Pass::default();
        while let Some(handle) = queue.next() {
            if self.is_open(handle, epoch) {
                match self.make_seal(work, handle, epoch) {
                    Ok(seal) => pass.seals.push(seal),
                    Err(refusal) => pass.held.push(Held {
                        asset: self.assets.id(handle).clone(),
                        refusal,
                    }),
                }
            }
            queue.done(handle);
        }
        pass.held.sort_by(|a, b| a.asset.cmp(&b.asset));
        pass
    }

    fn is_open(&self, asset: Handle, epoch: Epoch) -> bool {
        self.epochs
            .get(&epoch)
            .is_some_and(|book| book.open.contains(asset))
    }
}

/// What a pass did. If it made no seal, what it held is what stays open.
#[derive(Default)]
struct Pass {
    seals: Vec<SealRef>,
    held: Vec<Held>,
}

/// A member of a pass that is not done yet.
struct Member {
    id: AssetId,
    /// Direct downstream members that aren't done.
    below: usize,
    /// Members that aren't done and own a contract with this one as partner.
    owners: usize,
    upstreams: BTreeSet<Handle>,
    partners: BTreeSet<Handle>,
}

/// The order of a pass: the free ready member with the least id; if none is free, the ready one with the least id.
struct Queue {
    members: BTreeMap<Handle, Member>,
    free: BTreeSet<(AssetId, Handle)>,
    bound: BTreeSet<(AssetId, Handle)>,
}

impl Queue {
    fn new(ledger: &Ledger, epoch: Epoch, handles: BTreeSet<Handle>) -> Queue {
        let mut members: BTreeMap<Handle, Member> = handles
            .iter()
            .map(|&handle| {
                let among = |found: BTreeSet<Handle>| found.intersection(&handles).copied().collect();
                let member = Member {
                    id: ledger.assets.id(handle).clone(),
                    below: 0,
                    owners: 0,
                    upstreams: among(BTreeSet::from(ledger.assets.links(handle).upstreams())),
                    partners: among(ledger.partners(handle, epoch)),
                };
                (handle, member)
            })
            .collect();
        for handle in &handles {
            let Some(member) = members.get(handle) else {
                continue;
            };
            let (upstreams, partners) = (member.upstreams.clone(), member.partners.clone());
            for upstream in &upstreams {
                members.entry(*upstream).and_modify(|m| m.below += 1);
            }
            for partner in &partners {
                members.entry(*partner).and_modify(|m| m.owners += 1);
            }
        }
        let mut queue = Queue {
            members,
            free: BTreeSet::new(),
            bound: BTreeSet::new(),
        };
        for handle in handles {
            queue.place(handle);
        }
        queue
    }

    /// Puts a member where it belongs, if it is ready.
    fn place(&mut self, handle: Handle) {
        let Some(member) = self.members.get(&handle).filter(|member| member.below == 0) else {
            return;
        };
        let key = (member.id.clone(), handle);
        if member.owners == 0 {
            self.bound.remove(&key);
            self.free.insert(key);
        } else {
            self.bound.insert(key);
        }
    }

    fn next(&mut self) -> Option<Handle> {
        self.free
            .pop_first()
            .or_else(|| self.bound.pop_first())
            .map(|(_, handle)| handle)
    }

    /// A member was sealed or passed.
    fn done(&mut self, handle: Handle) {
        let Some(member) = self.members.remove(&handle) else {
            return;
        };
        for upstream in &member.upstreams {
            self.members.entry(*upstream).and_modify(|m| m.below -= 1);
            self.place(*upstream);
        }
        for partner in &member.partners {
            // A partner may be done already; then nothing waits.
            self.members.entry(*partner).and_modify(|m| m.owners -= 1);
            self.place(*partner);
        }
    }
}
