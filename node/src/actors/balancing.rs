//! The balancing actor: the shell round one group's [`Memory`].
//!
//! It answers nobody and waits for nobody: work arrives in log order, results go to the attestor. An actor whose
//! head was a member elsewhere queues its work until that member's memory has arrived.

use std::collections::VecDeque;

use actix::{Actor, Addr, Context, Handler, Message};
use ledger::{AssetId, ClusterId};

use super::attestor::{Attestor, Report};
use super::memory::{Finding, Luggage, Memory, Step};
use super::names::Names;

/// What an entry has for a group to do.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Work {
    /// The entry's index.
    pub(crate) index: u64,
    /// In log order.
    pub(crate) tasks: Vec<Task>,
    /// Whether the attestor waits for this group's results: the entry made a block.
    pub(crate) report: bool,
}

/// One thing to do.
pub(crate) enum Task {
    /// Remember or recompute.
    Step(Step),
    /// Hand over what is remembered of an asset.
    Release { asset: AssetId, to: Addr<Balancing> },
}

/// What another group remembered of this group's head.
#[derive(Message)]
#[rtype(result = "()")]
struct Adopt {
    asset: AssetId,
    luggage: Luggage,
}

/// The actor of one balancing group.
pub(crate) struct Balancing {
    head: AssetId,
    memory: Memory,
    attestor: Addr<Attestor>,
    /// Work that arrived before the head's memory did; `None` once it is here.
    queued: Option<VecDeque<Work>>,
}

/// Mailboxes are bounded: when one is full the router waits, and attestation with it; apply doesn't.
const MAILBOX: usize = 256;

impl Balancing {
    /// An actor for the group of `head`; `awaits` its memory from elsewhere or begins with none.
    pub(crate) fn new(
        head: AssetId,
        cluster: ClusterId,
        names: Names,
        attestor: Addr<Attestor>,
        awaits: bool,
    ) -> Self {
        Balancing {
            head,
            memory: Memory::new(cluster, names),
            attestor,
            queued: awaits.then(VecDeque::new),
        }
    }

    fn perform(&mut self, work: Work) {
        let mut report = Report {
            index: work.index,
            counts: work.report,
            seals: Vec::new(),
            contradictions: Vec::new(),
        };
        let mut tasks = work.tasks;
        if planted!("events-out-of-order") {
            // Taken from the end, as a stack gives them.
            tasks.reverse();
        }
        for task in tasks {
            match task {
                Task::Step(step) => match self.memory.step(step) {
                    None => {}
                    Some(Finding::Seal { place, digest }) => report.seals.push((place, digest)),
                    Some(Finding::Contradiction(message)) => report.contradictions.push(message),
                },
                Task::Release { asset, to } => {
                    let luggage = self.memory.release(&asset);
                    to.do_send(Adopt { asset, luggage });
                }
            }
        }
        if work.report || !report.contradictions.is_empty() {
            tracing::trace!(group = %self.head, index = work.index, seals = report.seals.len(), "recomputed");
            self.attestor.do_send(report);
        }
    }
}

impl Actor for Balancing {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Work> for Balancing {
    type Result = ();

    fn handle(&mut self, work: Work, _ctx: &mut Self::Context) {
        match &mut self.queued {
            Some(queue) => queue.push_back(work),
            None => self.perform(work),
        }
    }
}

impl Handler<Adopt> for Balancing {
    type Result = ();

    fn handle(&mut self, adopt: Adopt, _ctx: &mut Self::Context) {
        self.memory.adopt(&adopt.asset, adopt.luggage);
        for work in self.queued.take().into_iter().flatten() {
            self.perform(work);
        }
    }
}
