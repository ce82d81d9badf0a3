//! The router: hands every applied entry to the actors of the groups it touches, in log order, and makes those
//! actors on demand.
//!
//! It is also their supervisor. An actor that is gone took its memory with it, and no other can stand in, so
//! all begin anew from the ledger's journals, as after a restart from a snapshot. That is the one moment at
//! which the memories trust the ledger; blocks in between are left to the signatures of others, which later
//! blocks of this node confirm through the chain.

use std::sync::Arc;

use actix::{Actor as _, Addr};
use ledger::export::Export;
use ledger::{Applied, ClusterId, Digest, Entry, Epoch, Event, Ledger};
use parking_lot::RwLock;
use tokio::sync::mpsc;

use super::attestor::{Attestor, Contradiction, Restart};
use super::backlog::Backlog;
use super::balancing::{Balancing, Task, Work};
use super::routing::{Expected, Item, Routed, Routes};

/// What the state machine tells, in log order.
pub(crate) enum Fed {
    /// An entry as it stands in the log, and what the ledger made of it.
    Applied {
        entry: Arc<Entry>,
        applied: Arc<Applied>,
        /// How many bytes the entry has in the log.
        bytes: u64,
    },
    /// The ledger was replaced by a snapshot's.
    Restored(Origin),
    /// An epoch left memory for the archive, after the entry at `index`.
    Frozen { index: u64, epoch: Epoch },
    /// An epoch came back from the archive, after the entry at `index`: what recreates the memories of it.
    Thawed { index: u64, export: Export },
}

/// Where memories begin.
pub(crate) struct Origin {
    /// The index up to which `export` tells.
    pub(crate) index: u64,
    /// The digest of the newest block's header; zeros if there is none.
    pub(crate) head: Digest,
    /// What recreates the memories.
    pub(crate) export: Export,
}

impl Fed {
    /// What it counts for in the [`Backlog`].
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Fed::Applied { bytes, .. } => *bytes,
            Fed::Restored(_) | Fed::Frozen { .. } | Fed::Thawed { .. } => 0,
        }
    }
}

impl Origin {
    /// As a ledger stands.
    pub(crate) fn of(ledger: &Ledger) -> Self {
        Origin {
            index: ledger.applied().unwrap_or(0),
            head: ledger.head().map_or(Digest::ZERO, |block| block.digest),
            export: ledger.export(),
        }
    }
}

/// So many of an export's events are made and handed out before the next: some megabytes.
const RESTORED_AT_ONCE: usize = 8192;

/// The task.
pub(crate) struct Router {
    cluster: ClusterId,
    ledger: Arc<RwLock<Ledger>>,
    attestor: Addr<Attestor>,
    backlog: Arc<Backlog>,
    routes: Routes,
    groups: Vec<Addr<Balancing>>,
    /// Entries up to here are in the memories already.
    known: Option<u64>,
}

impl Drop for Router {
    fn drop(&mut self) {
        self.backlog.end();
    }
}

/// An actor is gone.
struct Gone;

impl Router {
    /// A router with the root's actor, and no memories.
    pub(crate) fn new(
        cluster: ClusterId,
        ledger: Arc<RwLock<Ledger>>,
        attestor: Addr<Attestor>,
        backlog: Arc<Backlog>,
    ) -> Self {
        let mut router = Router {
            cluster,
            ledger,
            attestor,
            backlog,
            routes: Routes::default(),
            groups: Vec::new(),
            known: None,
        };
        router.clear();
        router
    }

    /// Runs until the state machine is gone. Must run on a `LocalSet`: it starts actors.
    pub(crate) async fn run(mut self, mut feed: mpsc::UnboundedReceiver<Fed>) {
        while let Some(fed) = feed.recv().await {
            let bytes = fed.bytes();
            let done = match fed {
                Fed::Applied { entry, applied, .. } => self.entry(&entry, &applied).await,
                Fed::Restored(origin) => self.begin(origin).await,
                Fed::Frozen { index, epoch } => self.frozen(index, epoch).await,
                Fed::Thawed { index, export } => self.thawed(index, &export).await,
            };
            self.backlog.done(bytes);
            if let Err(Gone) = done {
                tracing::error!("a balancing actor is gone; all begin anew from the ledger's journals");
                let origin = Origin::of(&self.ledger.read());
                // A second failure in a row would show at the next entry again.
                let _ = self.begin(origin).await;
            }
        }
    }

    fn clear(&mut self) {
        self.routes = Routes::default();
        let root = Balancing::new(
            ledger::ROOT.clone(),
            self.cluster,
            self.routes.names().clone(),
            self.attestor.clone(),
            false,
        );
        self.groups = vec![root.start()];
    }

    async fn begin(&mut self, origin: Origin) -> Result<(), Gone> {
        self.clear();
        self.known = Some(origin.index);
        self.attestor.do_send(Restart { head: origin.head });
        self.restore(origin.index, &origin.export).await
    }

    /// Gives the memories what an export tells, a little at a time.
    async fn restore(&mut self, index: u64, export: &Export) -> Result<(), Gone> {
        let mut events = export.events();
        loop {
            let some: Vec<Event> = events.by_ref().take(RESTORED_AT_ONCE).collect();
            if some.is_empty() {
                return Ok(());
            }
            let routed = self.routes.restore(&some);
            self.dispatch(index, routed, None).await?;
        }
    }

    /// Lets the memories forget an epoch. Memories that began with a later entry know already whether it is there.
    async fn frozen(&mut self, index: u64, epoch: Epoch) -> Result<(), Gone> {
        if self.known.is_some_and(|known| index < known) {
            return Ok(());
        }
        let routed = self.routes.forget(epoch);
        self.dispatch(index, routed, None).await
    }

    /// Gives the memories an epoch back.
    async fn thawed(&mut self, index: u64, export: &Export) -> Result<(), Gone> {
        if self.known.is_some_and(|known| index < known) {
            return Ok(());
        }
        self.restore(index, export).await
    }

    async fn entry(&mut self, entry: &Entry, applied: &Applied) -> Result<(), Gone> {
        if self.known.is_some_and(|known| applied.index <= known) {
            return Ok(());
        }
        let (routed, expected) = self.routes.entry(entry, applied);
        self.dispatch(applied.index, routed, expected).await
    }

    async fn dispatch(&mut self, index: u64, routed: Routed, expected: Option<Expected>) -> Result<(), Gone> {
        for message in routed.contradictions {
            self.attestor.do_send(Contradiction { index, message });
        }
        for founded in routed.founded {
            let actor = Balancing::new(
                founded.head,
                self.cluster,
                self.routes.names().clone(),
                self.attestor.clone(),
                founded.awaits,
            );
            debug_assert_eq!(founded.group, self.groups.len(), "groups are founded in order");
            self.groups.push(actor.start());
        }
        let report = expected.is_some();
        if let Some(expected) = expected {
            self.attestor.do_send(expected);
        }
        let work = routed.work.into_iter().map(|(group, items)| {
            let tasks = items.into_iter().map(|item| self.task(item)).collect();
            self.group(group).send(Work { index, tasks, report })
        });
        // One entry at a time, all its groups at once: a slow actor slows attestation, never apply.
        let done = futures::future::join_all(work).await;
        if done.iter().all(Result::is_ok) {
            Ok(())
        } else {
            Err(Gone)
        }
    }

    fn group(&self, group: usize) -> &Addr<Balancing> {
        // Routes name only groups that they founded.
        self.groups.get(group).unwrap_or(&self.groups[0])
    }

    fn task(&self, item: Item) -> Task {
        match item {
            Item::Step(step) => Task::Step(step),
            Item::Release { asset, to } => Task::Release {
                asset,
                to: self.group(to).clone(),
            },
        }
    }
}
