//! Who is there to talk to, as far as those who work with the cluster know.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// Shared by the clients, the admin and whoever watches.
pub type Shared = Arc<Mutex<Roster>>;

/// The nodes, by what became of admins' orders.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    /// Members, with a vote or without.
    pub members: BTreeSet<u64>,
    /// Those that were removed. Their processes may still run.
    pub left: BTreeSet<u64>,
    /// Orders that are not answered yet.
    pub open: usize,
    /// A member that is off when the faults are over, for as long as the others are asked to do without it.
    pub away: Option<u64>,
    /// Members that can't come back: what they need of their archive no one has any more.
    pub halted: BTreeSet<u64>,
}

impl Roster {
    /// So many founders, and so many orders to come.
    pub fn new(founders: u64, open: usize) -> Shared {
        Arc::new(Mutex::new(Roster {
            members: (1..=founders).collect(),
            left: BTreeSet::new(),
            open,
            away: None,
            halted: BTreeSet::new(),
        }))
    }
}
