//! Seeded randomness for every task that calls openraft.
//!
//! openraft draws its randomness, and the seeds of the tasks it spawns, from a task-local; a task without one
//! would panic there. So every task of ours is spawned through [`Seeds`], which hands each a seed of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A source of seeds and the tasks that live on them. All clones share one sequence: the order in which tasks
/// ask decides who gets which, and on one thread that order repeats.
#[derive(Clone)]
pub(crate) struct Seeds {
    next: Arc<AtomicU64>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Seeds {
    pub(crate) fn new(seed: u64) -> Self {
        Seeds {
            next: Arc::new(AtomicU64::new(seed)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// A number that no one else gets: the next of a Weyl sequence, mixed (SplitMix64).
    pub(crate) fn draw(&self) -> u64 {
        let z = self.next.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Runs a future with randomness for openraft to draw from.
    pub(crate) async fn scope<F: Future>(&self, future: F) -> F::Output {
        DeterministicRng::<TokioRuntime>::scope(self.draw(), future).await
    }

    /// Spawns a task that ends, at the latest, with [`Seeds::stop`].
    pub(crate) fn spawn<F>(&self, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        let stoppable = async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = future => {}
            }
        };
        self.tasks
            .spawn(DeterministicRng::<TokioRuntime>::scope(self.draw(), stoppable))
    }

    /// Ends all tasks and waits until they are gone.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits until [`Seeds::stop`] is called.
    pub(crate) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Whether [`Seeds::stop`] was called.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }
}
