//! Planted bugs: small wrong patches in the product's own code, each with a name, of which a simulated run may
//! switch on one. They prove that the simulator's checkers notice.
//!
//! What always holds:
//!
//! - The product has none. Crates reach this one only through their feature `planted`, which nothing but the
//!   simulator's feature of the same name turns on, and the binary `gridseal` refuses to be compiled with it. Without
//!   the feature `planted!("…")` is the constant `false`, and the names are not in the binary.
//! - At most one bug is planted in a process, before anything runs, and it stays. So a run is one process.
//!
//! The list of bugs, and what must notice each, is the simulator's (`sim mutants`).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static PLANTED: OnceLock<String> = OnceLock::new();
static REACHED: AtomicU64 = AtomicU64::new(0);
static TURNS: AtomicU64 = AtomicU64::new(0);

/// Plants a bug in this process. `false` if one was planted before.
pub fn plant(name: &str) -> bool {
    PLANTED.set(name.to_owned()).is_ok()
}

/// Whether this bug is planted here; the wrong code asks. Counts how often the answer was yes.
pub fn is(name: &str) -> bool {
    let planted = PLANTED.get().is_some_and(|planted| planted == name);
    if planted {
        REACHED.fetch_add(1, Ordering::Relaxed);
    }
    planted
}

/// How often the wrong code was reached.
pub fn reached() -> u64 {
    REACHED.load(Ordering::Relaxed)
}

/// A number that is another one each time, in an order that repeats: for bugs that do it a little differently
/// on each node, as a hash map does that draws its keys at random.
pub fn turn() -> u64 {
    TURNS.fetch_add(1, Ordering::Relaxed)
}
