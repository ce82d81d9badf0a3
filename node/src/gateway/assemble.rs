//! Entries put together from parts that are encoded already: a batch is copied once, not encoded again.

use bytes::{BufMut, Bytes, BytesMut};
use ledger::Timestamp;
use ledger::entry::VERSION;

/// What an entry carries, as the ledger's `Body` numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// `ledger::Body::Envelopes`.
    Envelopes = 1,
    /// `ledger::Body::Attestations`.
    Attestations = 2,
}

/// The canonical bytes of the entry that has these parts; the same as if it had been encoded as a whole.
pub(crate) fn entry(at: Timestamp, kind: Parts, parts: &[Bytes]) -> Bytes {
    let length = parts.iter().map(Bytes::len).sum::<usize>();
    let mut bytes = BytesMut::with_capacity(1 + 8 + 1 + 4 + length);
    bytes.put_u8(VERSION);
    bytes.put_u64(at.get());
    bytes.put_u8(kind as u8);
    // A batch is bounded far below this.
    bytes.put_u32(u32::try_from(parts.len()).unwrap_or(u32::MAX));
    for part in parts {
        bytes.put_slice(part);
    }
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::block::Attestation;
    use ledger::canonical::Canonical;
    use ledger::{Action, Body, Digest, Entry, Envelope, Epoch, PublicKey, Signature};

    #[test]
    fn the_bytes_are_the_canonical_ones() {
        let at = Timestamp::new(1_700_000_000_000).expect("a moment");
        let envelope = Envelope {
            signer: PublicKey([1; 32]),
            nonce: [2; 16],
            not_after: at,
            action: Action::SealEpoch {
                epoch: Epoch::new(7).expect("an epoch"),
                under: None,
            },
            signature: Signature([3; 64]),
        };
        let attestation = Attestation {
            node: 1,
            index: 2,
            header: Digest([4; 32]),
            signature: Signature([5; 64]),
        };
        let envelopes = vec![envelope.clone(), envelope];
        let parts: Vec<Bytes> = envelopes
            .iter()
            .map(|part| Bytes::from(part.to_bytes()))
            .collect();
        let whole = Entry {
            at,
            body: Body::Envelopes { envelopes },
        };
        assert_eq!(entry(at, Parts::Envelopes, &parts), whole.encode());
        let parts = [Bytes::from(attestation.to_bytes())];
        let whole = Entry {
            at,
            body: Body::Attestations {
                attestations: vec![attestation],
            },
        };
        assert_eq!(entry(at, Parts::Attestations, &parts), whole.encode());
    }
}
