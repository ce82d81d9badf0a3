//! What a node takes for randomness: a stream that the seed, the node and the number of its start decide.

use parking_lot::Mutex;

use crate::rng::Rng;

/// A node's randomness.
#[derive(Debug)]
pub struct SimEntropy(Mutex<Rng>);

impl SimEntropy {
    /// Draws from this stream.
    pub fn new(rng: Rng) -> Self {
        SimEntropy(Mutex::new(rng))
    }
}

impl gridseal::seams::Entropy for SimEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().fill(bytes);
    }
}
