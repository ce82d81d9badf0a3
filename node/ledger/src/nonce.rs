//! Exactly once: what was answered to whom, for as long as a retry may come.
//!
//! A retry with the same `(signer, nonce)` and the same action gets the first outcome and does nothing; with another action it is refused.
//! An entry is forgotten once its `not_after` has passed, from when on the envelope is refused as expired. A retry
//! signed anew with a later `not_after` extends the memory to that, so it can't outlive it.

use crate::canonical::canonical_struct;
use crate::digest::Digest;
use crate::envelope::{Envelope, EnvelopeRef, LIFETIME_MS};
use crate::ledger::Ledger;
use crate::outcome::Outcome;
use crate::refusal::Refusal;
use crate::units::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What is remembered of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) not_after: Timestamp,
    pub(crate) action: Digest,
    pub(crate) outcome: Outcome,
}

canonical_struct!(Remembered {
    not_after,
    action,
    outcome
});

/// The table, and its order of forgetting.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct NonceTable {
    entries: BTreeMap<EnvelopeRef, Remembered>,
    by_time: BTreeSet<(Timestamp, EnvelopeRef)>,
}

impl NonceTable {
    pub(crate) fn remember(&mut self, id: EnvelopeRef, remembered: Remembered) {
        self.by_time.insert((remembered.not_after, id));
        self.entries.insert(id, remembered);
    }

    pub(crate) fn forget_before(&mut self, now: Timestamp) {
        let now = match planted!("nonce-forgotten-early") {
            // An envelope that has 13 minutes is forgotten after a few seconds.
            true => now.plus(LIFETIME_MS - 123_000),
            false => now,
        };
        while let Some((not_after, id)) = self.by_time.first().copied().filter(|(t, _)| *t < now) {
            self.by_time.remove(&(not_after, id));
            self.entries.remove(&id);
        }
    }

    /// The first outcome of this envelope's `(signer, nonce)`.
    fn recall(&mut self, envelope: &Envelope, action: Digest) -> Result<Option<Outcome>, Refusal> {
        let id = envelope.id();
        let Some(known) = self
            .entries
            .get_mut(&id)
            .filter(|_| !planted!("retry-applied-twice"))
        else {
            return Ok(None);
        };
        if known.action != action && !planted!("nonce-for-any-action") {
            return Err(Refusal::NonceReused {});
        }
        if envelope.not_after > known.not_after && !planted!("renewal-forgotten") {
            self.by_time.remove(&(known.not_after, id));
            self.by_time.insert((envelope.not_after, id));
            known.not_after = envelope.not_after;
        }
        Ok(Some(known.outcome.clone()))
    }

    pub(crate) fn entries(&self) -> &BTreeMap<EnvelopeRef, Remembered> {
        &self.entries
    }
}

impl Ledger {
    /// What was asked under an envelope's name, by its digest, and what it was answered; while that is remembered.
    pub fn remembered(&self, id: &EnvelopeRef) -> Option<(Digest, &Outcome)> {
        let known = self.nonces.entries().get(id)?;
        Some((known.action, &known.outcome))
    }

    /// Whether an envelope would be let in at the ledger's present time, were it not a retry: what a node checks before it
    /// proposes one.
    ///
    /// # Errors
    /// The refusal that applying it would answer.
    pub fn check_envelope(&self, envelope: &Envelope) -> Result<(), Refusal> {
        if self.genesis.is_none() {
            return Err(Refusal::NoGenesis {});
        }
        if !self.knows(&envelope.signer, &envelope.action) {
            return Err(Refusal::UnknownSigner {});
        }
        if !envelope.verify(self.cluster) {
            return Err(Refusal::BadSignature {});
        }
        let (not_after, now) = (envelope.not_after, self.now);
        if not_after < now || (not_after == now && planted!("over-a-moment-early")) {
            return Err(Refusal::Expired { not_after, now });
        }
        if not_after > now.plus(LIFETIME_MS) && !planted!("envelope-for-ever") {
            return Err(Refusal::NotAfterTooFar { not_after, now });
        }
        Ok(())
    }

    /// Lets an envelope in: `None` to execute it, the first outcome if it is a retry.
    pub(crate) fn admit(&mut self, envelope: &Envelope, action: Digest) -> Result<Option<Outcome>, Refusal> {
        self.check_envelope(envelope)?;
        self.nonces.recall(envelope, action)
    }
}
