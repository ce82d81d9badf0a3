//! Ports nobody uses: below the range from which the system takes those of outgoing connections, so that none of
//! them can be taken between this choice and the node's start.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port that is free now and that no other test of this process gets; other processes begin elsewhere.
pub fn free() -> u16 {
    const FIRST: u32 = 10_000;
    const MANY: u32 = 20_000;
    let offset = std::process::id().wrapping_mul(211);
    for _ in 0..MANY {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + offset.wrapping_add(turn) % MANY).expect("below 30000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + MANY);
}
