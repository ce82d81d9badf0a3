//! Names as numbers: the actors' own numbering, in the order in which the router first met each name.
//!
//! It only grows, and means the same to every actor of a node; it has nothing to do with the ledger's handles.

use std::sync::Arc;

use ledger::{AssetId, ROOT};
use parking_lot::{RwLock, RwLockReadGuard};

/// The number of a name.
pub(crate) type Num = u32;
/// The root's.
pub(crate) const ROOT_NUM: Num = 0;

/// The numbering; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Names(Arc<RwLock<Table>>);

/// Names by number, and numbers by name.
#[derive(Debug, Default)]
pub(crate) struct Table {
    names: Vec<AssetId>,
    #[expect(
        clippy::disallowed_types,
        reason = "it is only asked for single names, so its order can't leak"
    )]
    numbers: std::collections::HashMap<AssetId, Num>,
}

impl Table {
    /// The name of a number that this table gave.
    pub(crate) fn name(&self, number: Num) -> &AssetId {
        &self.names[number as usize]
    }
}

impl Default for Names {
    fn default() -> Self {
        let names = Names(Arc::default());
        let root = names.number(&ROOT);
        debug_assert_eq!(root, ROOT_NUM, "the root is the first");
        names
    }
}

impl Names {
    /// The number of a name, given to it if it has none yet.
    pub(crate) fn number(&self, name: &AssetId) -> Num {
        if let Some(number) = self.0.read().numbers.get(name) {
            return *number;
        }
        let mut table = self.0.write();
        // Names of 2^32 assets would not fit into memory.
        let next = Num::try_from(table.names.len()).expect("less than 2^32 names");
        let number = *table.numbers.entry(name.clone()).or_insert(next);
        if number == next {
            table.names.push(name.clone());
        }
        number
    }

    /// Where to look names up.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read()
    }
}
