//! Sealing a whole epoch: everything it has open, downstream before upstream, owners before their partners.
//!
//! Passes are made until one makes no seal. A pass costs what its members, their upstreams, downstreams and contracts
//! count, times the logarithm of the members; assets that have nothing to do with the epoch are never looked at.

use crate::asset::{AssetId, Handle, ROOT_HANDLE};
use crate::ledger::{Ledger, Work};
use crate::outcome::{Held, Outcome};
use crate::paged::Paged;
use crate::refusal::Refusal;
use crate::seal::SealRef;
use crate::units::Epoch;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::ops::Range;

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
                    seals: seals.into(),
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
    fn concerned(&self, epoch: Epoch, scope: Option<&BTreeSet<Handle>>) -> Vec<Handle> {
        let (mut members, mut seen) = (Vec::new(), Paged::<()>::default());
        let mut stack: Vec<Handle> = self
            .epochs
            .get(&epoch)
            .map(|book| book.open.handles().collect())
            .unwrap_or_default();
        while let Some(handle) = stack.pop() {
            if handle == ROOT_HANDLE || scope.is_some_and(|scope| !scope.contains(&handle)) {
                continue;
            }
            if !seen.contains(handle) {
                seen.entry(handle);
                members.push(handle);
                stack.extend(self.assets.links(handle).upstreams());
                stack.extend(self.partners(handle, epoch));
            }
        }
        members
    }

    /// The partners of an asset's contracts that are active and valid in the epoch.
    fn partners(&self, owner: Handle, epoch: Epoch) -> impl Iterator<Item = Handle> {
        let contracts = self.assets.get(owner).contracts.iter();
        contracts
            .map(|number| self.contracts.get(*number))
            .filter(move |record| record.contract.served_in(epoch))
            .map(|record| record.partner)
    }

    /// Steps 2 and 3: every member once, sealed or passed.
    fn pass(&mut self, work: &mut Work, epoch: Epoch, scope: Option<&BTreeSet<Handle>>) -> Pass {
        let mut queue = Queue::new(self, epoch, &self.concerned(epoch, scope));
        let mut pass = Pass::default();
        while let Some(rank) = queue.next() {
            let handle = queue.members[rank as usize].handle;
            if self.has_open(handle, epoch) {
                match self.make_seal(work, handle, epoch) {
                    Ok(seal) => pass.seals.push(seal),
                    Err(refusal) => pass.held.push(Held {
                        asset: self.assets.id(handle).clone(),
                        refusal,
                    }),
                }
            }
            queue.done(rank);
        }
        pass.held.sort_by(|a, b| a.asset.cmp(&b.asset));
        pass
    }

    pub(crate) fn has_open(&self, asset: Handle, epoch: Epoch) -> bool {
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

/// A member's place in the order of ids.
type Rank = u32;

/// A member of a pass.
struct Member {
    handle: Handle,
    /// Direct downstream members that aren't done.
    below: u32,
    /// Members that aren't done and own a contract with this one as partner.
    owners: u32,
    done: bool,
    /// Its upstreams and partners among the members, each once, as places in [`Queue::links`].
    upstreams: Range<usize>,
    partners: Range<usize>,
}

/// The order of a pass: the free ready member with the least id; if none is free, the ready one with the least id.
struct Queue {
    /// By rank.
    members: Vec<Member>,
    links: Vec<Rank>,
    /// Ready, and nobody's partner any more. Each comes here at most once.
    free: BinaryHeap<Reverse<Rank>>,
    /// Ready, and somebody's partner when it became so.
    bound: BinaryHeap<Reverse<Rank>>,
}

impl Queue {
    fn new(ledger: &Ledger, epoch: Epoch, handles: &[Handle]) -> Queue {
        let id = |handle: Handle| ledger.assets.id(handle);
        let mut order: Vec<(u128, Handle)> = handles
            .iter()
            .map(|handle| (beginning(id(*handle).as_str()), *handle))
            .collect();
        order.sort_unstable_by(|(a_begins, a), (b_begins, b)| {
            a_begins.cmp(b_begins).then_with(|| id(*a).cmp(id(*b)))
        });
        let mut ranks: Paged<Rank> = Paged::default();
        for ((_, handle), rank) in order.iter().zip(0..) {
            *ranks.entry(*handle) = rank;
        }

        let mut links: Vec<Rank> = Vec::with_capacity(handles.len() * 2);
        let mut found = Vec::new();
        let mut among = |handles: &mut dyn Iterator<Item = Handle>| {
            found.clear();
            found.extend(handles.filter_map(|handle| ranks.get(handle)));
            found.sort_unstable();
            found.dedup();
            let begin = links.len();
            links.extend_from_slice(&found);
            begin..links.len()
        };
        let mut members: Vec<Member> = Vec::with_capacity(order.len());
        for (_, handle) in order {
            let upstreams = ledger.assets.links(handle).upstreams();
            members.push(Member {
                handle,
                below: 0,
                owners: 0,
                done: false,
                upstreams: among(&mut upstreams.into_iter()),
                partners: among(&mut ledger.partners(handle, epoch)),
            });
        }
        for place in 0..members.len() {
            let (upstreams, partners) = (members[place].upstreams.clone(), members[place].partners.clone());
            for rank in &links[upstreams] {
                members[*rank as usize].below += 1;
            }
            for rank in &links[partners] {
                members[*rank as usize].owners += 1;
            }
        }
        let mut queue = Queue {
            members,
            links,
            free: BinaryHeap::new(),
            bound: BinaryHeap::new(),
        };
        for (_, rank) in (0..queue.members.len()).zip(0..) {
            queue.place(rank);
        }
        queue
    }

    /// Puts a member that has just become ready, or free, where it belongs.
    fn place(&mut self, rank: Rank) {
        let member = &self.members[rank as usize];
        match (member.done, member.below, member.owners) {
            (false, 0, 0) => self.free.push(Reverse(rank)),
            (false, 0, _) => self.bound.push(Reverse(rank)),
            _ => {}
        }
    }

    fn next(&mut self) -> Option<Rank> {
        if let Some(Reverse(rank)) = self.free.pop() {
            return Some(rank);
        }
        // All that were free are done by now, so what isn't done here is bound.
        loop {
            let Reverse(rank) = self.bound.pop()?;
            if !self.members[rank as usize].done {
                return Some(rank);
            }
        }
    }

    /// A member was sealed or passed.
    fn done(&mut self, rank: Rank) {
        let member = &mut self.members[rank as usize];
        member.done = true;
        let (upstreams, partners) = (member.upstreams.clone(), member.partners.clone());
        for link in upstreams {
            self.count_off(link, |upstream| &mut upstream.below);
        }
        for link in partners {
            self.count_off(link, |partner| &mut partner.owners);
        }
    }

    /// One less for whom a linked member waits.
    fn count_off(&mut self, link: usize, waits_for: fn(&mut Member) -> &mut u32) {
        let rank = self.links[link];
        let left = waits_for(&mut self.members[rank as usize]);
        *left -= 1;
        if *left == 0 {
            self.place(rank);
        }
    }
}

/// The first sixteen bytes of a name as a number. Names that differ there are in the order of these numbers, for no name
/// has a NUL.
fn beginning(name: &str) -> u128 {
    let mut bytes = [0; 16];
    let length = name.len().min(bytes.len());
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    u128::from_be_bytes(bytes)
}
