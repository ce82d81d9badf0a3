//! Signatures that were found good, remembered for a while: an envelope is checked where it comes in and again where it
//! is applied, and a header's signature once more with every proof that rests on it. A hash is a hundredth of a curve operation.
//!
//! What always holds: verification is a function of its arguments, and this changes only how long it takes. What is
//! remembered is a digest of key, signature and message together, so nothing passes that would not pass without.
//!
//! Absent on purpose: what was found bad. Whoever sends rubbish pays for it each time, and pushes nothing out.

use crate::digest::{Digest, finish, hasher};
use crate::key::{PublicKey, Signature};
use std::sync::{Mutex, PoisonError};

/// How many are remembered, in 512 KiB, which all nodes of a simulation share; each new one takes the place of one with the
/// same last bits.
const PLACES: usize = 1 << 14;

static PLACED: Mutex<Vec<Digest>> = Mutex::new(Vec::new());

/// Says what `verify` says, without asking it again about a signature that was found good.
pub(crate) fn or_else(
    key: &PublicKey,
    message: &[u8],
    signature: &Signature,
    verify: impl FnOnce() -> bool,
) -> bool {
    let mut hash = hasher("verified");
    sha2::Digest::update(&mut hash, key.0);
    sha2::Digest::update(&mut hash, signature.0);
    sha2::Digest::update(&mut hash, message);
    let name = finish(hash);
    let place = usize::from(u16::from_be_bytes([name.0[0], name.0[1]])) % PLACES;
    let known = PLACED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(place)
        .is_some_and(|placed| *placed == name);
    if known {
        return true;
    }
    let good = verify();
    if good {
        let mut placed = PLACED.lock().unwrap_or_else(PoisonError::into_inner);
        placed.resize(PLACES, Digest::ZERO);
        placed[place] = name;
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_good_is_not_asked_again_and_what_was_bad_is() {
        let (key, signature) = (PublicKey([1; 32]), Signature([2; 64]));
        assert!(!or_else(&key, b"a message", &signature, || false));
        assert!(or_else(&key, b"a message", &signature, || true));
        assert!(or_else(&key, b"a message", &signature, || unreachable!()));
        // Any other key, signature or message is another question.
        assert!(!or_else(&PublicKey([3; 32]), b"a message", &signature, || false));
        assert!(!or_else(&key, b"a message", &Signature([3; 64]), || false));
        assert!(!or_else(&key, b"another", &signature, || false));
    }
}
