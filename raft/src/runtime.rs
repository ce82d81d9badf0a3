//! Seeded randomness for every task that calls openraft.
//!
//! openraft draws its randomness, and the seeds of the tasks it spawns, from a task-local; a task without one
//! would panic there. So every task of ours is spawned through [`Seeds`], which hands each a seed of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Computes for a while without keeping others waiting: where there are threads, the tasks of this one go on on
/// another. (It costs the change of a thread, some 20 µs.) Votes and heartbeats must not wait behind a large batch or
/// the encoding of a snapshot.
///
/// For tasks, and for what [`crate::StateMachine::apply`] does in one; not for a future that is blocked on.
pub fn aside<T>(compute: impl FnOnce() -> T) -> T {
    if has_threads() {
        tokio::task::block_in_place(compute)
    } else {
        compute()
    }
}

/// Whether the present runtime has several threads; a simulated node has none but its own.
fn has_threads() -> bool {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    matches!(flavor, Ok(RuntimeFlavor::MultiThread))
}

/// How a computation that nobody waits for shares the machine with what somebody does wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// It gives way: with both at hand on one core it gets about a tenth. On a busy machine it may fall behind.
    Behind,
    /// It has its share like all others: for what must not fall further behind.
    Beside,
}

/// [`Pace::Behind`] as Linux counts it.
const GIVES_WAY: i32 = 10;

/// Computes what nobody waits for, on a thread of its own. Where there are no threads, it computes at once. It must hold no
/// lock: others would wait for it as long as the machine is busy.
///
/// # Panics
/// If `compute` does.
pub async fn elsewhere<T: Send + 'static>(pace: Pace, compute: impl FnOnce() -> T + Send + 'static) -> T {
    if !has_threads() {
        return compute();
    }
    let (tell, told) = oneshot::channel();
    start(pace, move || drop(tell.send(compute())));
    told.await.expect("what was computed elsewhere panicked")
}

/// Starts a thread.
fn start(pace: Pace, compute: impl FnOnce() + Send + 'static) {
    let run = move || {
        if pace == Pace::Behind {
            // On Linux it is the thread's own. Without it, it computes all the same.
            let _ = rustix::process::setpriority_process(None, GIVES_WAY);
        }
        compute();
    };
    let name = match pace {
        Pace::Behind => "behind",
        Pace::Beside => "beside",
    };
    if let Err(error) = std::thread::Builder::new().name(name.into()).spawn(run) {
        panic!("no thread can be started: {error}");
    }
}

/// Pieces that may be made ahead of whoever takes them.
const AHEAD: usize = 4;

/// What a computation gives, piece by piece, while it goes on elsewhere: all of it need never be in memory at once.
pub(crate) struct Pieces {
    /// Made already.
    made: VecDeque<Bytes>,
    /// To come, until the end is said.
    coming: Option<mpsc::Receiver<Option<Bytes>>>,
}

impl Pieces {
    /// Computes as [`elsewhere`], and waits where pieces are not taken.
    ///
    /// # Panics
    /// If no thread can be started.
    pub(crate) fn of(pace: Pace, compute: impl FnOnce(&mut dyn FnMut(Bytes)) + Send + 'static) -> Pieces {
        let mut made = VecDeque::new();
        if !has_threads() {
            compute(&mut |piece| made.push_back(piece));
            return Pieces { made, coming: None };
        }
        let (give, coming) = mpsc::channel(AHEAD);
        start(pace, move || {
            // If nobody takes them any more, nobody wants them.
            compute(&mut |piece| drop(give.blocking_send(Some(piece))));
            drop(give.blocking_send(None));
        });
        Pieces {
            made,
            coming: Some(coming),
        }
    }

    /// The next piece; `None` behind the last.
    ///
    /// # Panics
    /// If the computation did.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if let Some(coming) = &mut self.coming {
            let next = coming.recv().await.expect("what was computed elsewhere panicked");
            if next.is_none() {
                self.coming = None;
            }
            return next;
        }
        self.made.pop_front()
    }
}

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
