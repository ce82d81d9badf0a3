//! A log entry: what Raft orders. Its bytes are stored, replicated and hashed as they are.

use crate::block::Attestation;
use crate::canonical::{Canonical, DecodeError, Decoder, Encoder, canonical_enum};
use crate::envelope::Envelope;
use crate::genesis::Genesis;
use crate::units::Timestamp;

/// The first byte of every entry: the version of the layout.
pub const VERSION: u8 = 1;

/// One entry: the leader's time stamp and what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The leader's time. The ledger's own never runs backwards, whatever stands here.
    pub at: Timestamp,
    /// What happened.
    pub body: Body,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The cluster begins; only as the first entry.
    Genesis {
        /// With this.
        genesis: Genesis,
    },
    /// Clients ask, in this order.
    Envelopes {
        /// Each on its own: one refused leaves the others alone.
        envelopes: Vec<Envelope>,
    },
    /// Nodes sign blocks.
    Attestations {
        /// Each on its own.
        attestations: Vec<Attestation>,
    },
    /// Time passes.
    Tick {},
}

canonical_enum!(Body {
    0 => Genesis { genesis },
    1 => Envelopes { envelopes },
    2 => Attestations { attestations },
    3 => Tick {},
});

impl Canonical for Entry {
    fn encode(&self, out: &mut Encoder) {
        out.byte(VERSION);
        self.at.encode(out);
        self.body.encode(out);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        if from.byte()? != VERSION {
            return Err(DecodeError::Invalid {
                what: "version of an entry",
            });
        }
        Ok(Entry {
            at: Canonical::decode(from)?,
            body: Canonical::decode(from)?,
        })
    }
}

impl Entry {
    /// The entry's bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.to_bytes()
    }

    /// The entry of these bytes.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but the canonical form.
    pub fn decode(bytes: &[u8]) -> Result<Entry, DecodeError> {
        Entry::from_bytes(bytes)
    }
}
