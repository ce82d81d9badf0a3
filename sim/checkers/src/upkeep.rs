//! Upkeep: what a node no longer needs leaves its disk, or the disk fills over a long life.

use super::wal::Platter;

/// Snapshots that may lie on a disk at once: the newest, the one that it replaces, whose removal need not be durable yet, and
/// one that was still being built when a newer one was received.
const SNAPSHOTS: usize = 3;

/// Looks at a node's disk, at any moment.
pub fn look(node: u64, platter: &dyn Platter) -> Option<String> {
    let names = platter.list("snapshot");
    let finished = names.iter().filter(|name| name.ends_with(".snap")).count();
    (finished > SNAPSHOTS).then(|| {
        format!("n{node} keeps {finished} snapshots, {names:?}, though each stands for all before it")
    })
}
