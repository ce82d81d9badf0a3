//! Where there are threads: what takes long is computed where nobody waits behind it.
//!
//! A simulated node has one thread, on which everything is computed at once.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot};

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
/// # Errors
/// No thread can be started, or `compute` panicked: whoever asked goes on without it, and must not go on as if with it.
pub async fn elsewhere<T: Send + 'static>(
    pace: Pace,
    compute: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    if !has_threads() {
        return Ok(compute());
    }
    let (tell, told) = oneshot::channel();
    start(pace, move || drop(tell.send(compute())))?;
    told.await.map_err(|_| panicked())
}

fn panicked() -> io::Error {
    io::Error::other("what was computed elsewhere panicked")
}

/// Starts a thread.
fn start(pace: Pace, compute: impl FnOnce() + Send + 'static) -> io::Result<()> {
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
    let started = std::thread::Builder::new().name(name.into()).spawn(run);
    let started = started.map(drop);
    started.map_err(|error| io::Error::new(error.kind(), format!("no thread can be started: {error}")))
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
    /// # Errors
    /// No thread can be started.
    pub(crate) fn of(
        pace: Pace,
        compute: impl FnOnce(&mut dyn FnMut(Bytes)) + Send + 'static,
    ) -> io::Result<Pieces> {
        let mut made = VecDeque::new();
        if !has_threads() {
            compute(&mut |piece| made.push_back(piece));
            return Ok(Pieces { made, coming: None });
        }
        let (give, coming) = mpsc::channel(AHEAD);
        start(pace, move || {
            // If nobody takes them any more, nobody wants them.
            compute(&mut |piece| drop(give.blocking_send(Some(piece))));
            drop(give.blocking_send(None));
        })?;
        Ok(Pieces {
            made,
            coming: Some(coming),
        })
    }

    /// The next piece; `None` behind the last.
    ///
    /// # Errors
    /// The computation panicked.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if let Some(coming) = &mut self.coming {
            let next = coming.recv().await.ok_or_else(panicked)?;
            if next.is_none() {
                self.coming = None;
            }
            return Ok(next);
        }
        Ok(self.made.pop_front())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Gives numbers, and counts what it gave.
    fn counting(upto: u8, given: &Arc<AtomicUsize>) -> impl FnOnce(&mut dyn FnMut(Bytes)) + Send + 'static {
        let given = Arc::clone(given);
        move |give| {
            for n in 0..upto {
                given.fetch_add(1, Ordering::SeqCst);
                give(Bytes::copy_from_slice(&[n]));
            }
        }
    }

    async fn all(mut pieces: Pieces) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next().await.expect("it goes well") {
            bytes.extend(piece);
        }
        assert_eq!(pieces.next().await.ok(), Some(None), "the end stays the end");
        bytes
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn pieces_come_in_order_and_few_are_made_ahead() {
        let given = Arc::new(AtomicUsize::new(0));
        let mut pieces = Pieces::of(Pace::Behind, counting(100, &given)).expect("a thread");
        let mut taken = Vec::new();
        while let Some(piece) = pieces.next().await.expect("it goes well") {
            taken.extend(piece);
            // One more may be waiting for its turn.
            let given = given.load(Ordering::SeqCst);
            assert!(
                given <= taken.len() + AHEAD + 1,
                "{given} made, {} taken",
                taken.len()
            );
        }
        assert_eq!(taken, (0..100).collect::<Vec<u8>>());
    }

    #[tokio::test]
    async fn without_threads_all_is_made_at_once() {
        let given = Arc::new(AtomicUsize::new(0));
        let pieces = Pieces::of(Pace::Beside, counting(9, &given)).expect("no thread is needed");
        assert_eq!(given.load(Ordering::SeqCst), 9);
        assert_eq!(all(pieces).await, (0..9).collect::<Vec<u8>>());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_computation_that_panics_is_not_taken_for_one_that_ended() {
        let mut pieces = Pieces::of(Pace::Beside, |give| {
            give(Bytes::from_static(b"half"));
            panic!("on purpose");
        })
        .expect("a thread");
        assert_eq!(
            pieces.next().await.expect("it went well so far"),
            Some(Bytes::from_static(b"half"))
        );
        let error = pieces.next().await.expect_err("it panicked");
        assert_eq!(error.to_string(), "what was computed elsewhere panicked");
        let computed: io::Result<()> = elsewhere(Pace::Beside, || panic!("on purpose")).await;
        assert!(computed.is_err());
    }
}
