//! What the actors have yet to work off: how much it is, and a wait until it is less.
//!
//! They may lag behind the ledger, and what they lag by lies in memory. A node that takes requests says no to them before it
//! is much; one that only follows applies what others took, and waits here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use raft::BoxFuture;
use tokio::sync::Notify;

/// Bytes of entries that may wait for the actors, at most,
const MOST: u64 = 64 << 20;
/// and of so many of the largest requests.
const REQUESTS: u64 = 8;

/// The count.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// Bytes of entries that may wait.
    most: u64,
    messages: AtomicU64,
    bytes: AtomicU64,
    /// Nobody works it off any more.
    over: AtomicBool,
    less: Notify,
}

impl Backlog {
    /// One for requests of at most so many bytes. Somebody must work it off before anything waits for room: a start applies what the log
    /// has, which may be much more than fits, before it does anything else.
    pub(crate) fn new(body_bytes: usize) -> Arc<Self> {
        Arc::new(Backlog {
            most: MOST.min(REQUESTS.saturating_mul(body_bytes as u64)),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            over: AtomicBool::new(false),
            less: Notify::new(),
        })
    }

    /// A message with so many bytes of an entry was sent to the actors.
    pub(crate) fn add(&self, bytes: u64) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Release);
    }

    /// It was worked off.
    pub(crate) fn done(&self, bytes: u64) {
        self.messages.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Release);
        self.less.notify_waiters();
    }

    /// The actors have ended.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.less.notify_waiters();
    }

    /// How many messages wait.
    pub(crate) fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Acquire) > self.most && !self.over.load(Ordering::Acquire)
    }

    /// Waits until there is room for more, if there is not.
    pub(crate) fn room(self: &Arc<Self>) -> Option<BoxFuture<'static, ()>> {
        if !self.is_full() {
            return None;
        }
        let backlog = Arc::clone(self);
        Some(Box::pin(async move {
            loop {
                // From here on no notice is missed.
                let less = backlog.less.notified();
                tokio::pin!(less);
                less.as_mut().enable();
                if !backlog.is_full() {
                    return;
                }
                less.await;
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn as_much_may_wait_as_the_largest_requests_have_but_no_more_than_ever() {
        for (body_bytes, most) in [
            (1 << 10, 8 << 10),
            (8 << 20, MOST),
            (64 << 20, MOST),
            (usize::MAX, MOST),
        ] {
            assert_eq!(Backlog::new(body_bytes).most, most, "{body_bytes}");
        }
    }

    #[tokio::test]
    async fn there_is_room_again_once_enough_was_worked_off_or_nobody_works() {
        let backlog = Backlog::new(10);
        backlog.add(10 * REQUESTS);
        assert!(backlog.room().is_none(), "as much as may be");
        backlog.add(1);
        let mut room = backlog.room().expect("one byte too many");
        assert!((&mut room).now_or_never().is_none());
        assert_eq!(backlog.messages(), 2);
        backlog.done(1);
        room.await;
        backlog.add(1);
        let room = backlog.room().expect("too many again");
        backlog.end();
        room.await;
        assert!(backlog.room().is_none());
        assert_eq!(backlog.messages(), 2);
    }
}
