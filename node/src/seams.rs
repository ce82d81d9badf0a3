//! The five places where a node touches the world: network, disk, wall clock, randomness, and (through
//! tokio) timers.
//!
//! Everything above them is the same code, to the byte, in production and in simulation. What is absent
//! on purpose: any other way to ask for the time or for a random number; `clippy.toml` forbids them.

use std::sync::Arc;

use ledger::Timestamp;
use raft::{Disk, Network};

/// The wall clock. Read only by the leader, to stamp entries; nothing below the edge asks it.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch, as this machine believes. May jump either way.
    fn now(&self) -> Timestamp;
}

/// Randomness for nonces and ids. Never used for keys, which are made once by `gridseal keys`.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `bytes` with bits that nobody can guess (in simulation: that the seed decides).
    fn fill(&self, bytes: &mut [u8]);

    /// 128 random bits.
    fn nonce(&self) -> [u8; 16] {
        let mut nonce = [0; 16];
        self.fill(&mut nonce);
        nonce
    }

    /// 64 random bits.
    fn seed(&self) -> u64 {
        let mut seed = [0; 8];
        self.fill(&mut seed);
        u64::from_be_bytes(seed)
    }
}

/// What a node is started with besides its configuration.
#[derive(Clone)]
pub struct Seams {
    /// The node's own directory.
    pub disk: Arc<dyn Disk>,
    /// Peers and HTTP clients arrive here.
    pub network: Arc<dyn Network>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Nonces, ids and the seed of Raft's timeouts.
    pub entropy: Arc<dyn Entropy>,
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the edge that the lint protects"
        )]
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // A clock set before 1970 reads 0: the ledger's time never runs backwards, so it merely stands.
        let ms = since_epoch.map_or(0, |elapsed| {
            u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
        });
        Timestamp::ZERO.plus(ms)
    }
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(
        clippy::expect_used,
        reason = "without randomness no nonce is safe, so the process must not go on"
    )]
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system gives no randomness");
    }
}
