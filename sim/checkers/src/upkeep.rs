//! Upkeep: what a node no longer needs leaves its disk, or the disk fills over a long life.

use super::wal::Platter;

/// Snapshots that may lie on a disk at once: the newest, the one that it replaces, and what crashes between a rename and
/// the removal of the one before have left since.
const SNAPSHOTS: usize = 4;

/// Looks at a node's disk, at any moment.
pub fn look(node: u64, platter: &dyn Platter) -> Option<String> {
    let names = platter.list("snapshot");
    let finished = names.iter().filter(|name| name.ends_with(".snap")).count();
    (finished > SNAPSHOTS).then(|| {
        format!("n{node} keeps {finished} snapshots, {names:?}, though each stands for all before it")
    })
}
