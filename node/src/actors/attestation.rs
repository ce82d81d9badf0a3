//! What a node may sign: the pure core of [`super::attestor`].
//!
//! A block is verified once every group that its entry touched has reported, none contradicts, and the Merkle
//! root over the digests *the groups computed*, the count, the cluster and the chain of headers *as verified
//! here* give the ledger's header. Blocks are verified in log order. After the first contradiction nothing is
//! verified any more.
//!
//! Taken from the ledger unverified: `state` and `voters`, which no balancing memory knows. A ledger whose
//! `state` alone is wrong signs headers that the others' quorum contradicts, which raises its alarm too.

use std::collections::BTreeMap;

use ledger::block::Header;
use ledger::{ClusterId, Digest, merkle};

use super::routing::Expected;

/// What one group made of one entry.
#[derive(Clone, Debug)]
pub(crate) struct Findings {
    pub(crate) index: u64,
    /// Whether this report is one of those that the block waits for.
    pub(crate) counts: bool,
    /// Places in the block and digests.
    pub(crate) seals: Vec<(u32, Digest)>,
    pub(crate) contradictions: Vec<String>,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This header is the node's own result: it may be signed.
    Verified(Header),
    /// It isn't: raise the alarm.
    Contradicted { index: u64, message: String },
}

/// The core.
#[derive(Debug)]
pub(crate) struct Attestation {
    cluster: ClusterId,
    /// The digest of the last verified header.
    head: Digest,
    pending: BTreeMap<u64, Pending>,
    contradicted: bool,
}

#[derive(Debug, Default)]
struct Pending {
    expected: Option<Expected>,
    reported: usize,
    seals: BTreeMap<u32, Digest>,
}

impl Attestation {
    /// Begins a chain.
    pub(crate) fn new(cluster: ClusterId) -> Self {
        Attestation {
            cluster,
            head: Digest::ZERO,
            pending: BTreeMap::new(),
            contradicted: false,
        }
    }

    /// The memories begin anew behind the block whose header has this digest (zeros: before all blocks).
    /// What was pending is not verified here any more.
    pub(crate) fn restart(&mut self, head: Digest) {
        self.head = head;
        self.pending.clear();
    }

    /// The ledger made a block. Comes in log order.
    pub(crate) fn expect(&mut self, expected: Expected) -> Vec<Verdict> {
        let index = expected.header.index;
        self.pending.entry(index).or_default().expected = Some(expected);
        self.drain()
    }

    /// A group reports. Comes in any order.
    pub(crate) fn report(&mut self, findings: Findings) -> Vec<Verdict> {
        if let Some(message) = findings.contradictions.into_iter().next() {
            return self.contradict(findings.index, message).into_iter().collect();
        }
        if findings.counts {
            let pending = self.pending.entry(findings.index).or_default();
            pending.reported += 1;
            pending.seals.extend(findings.seals);
        }
        self.drain()
    }

    /// The ledger is contradicted otherwise.
    pub(crate) fn contradict(&mut self, index: u64, message: String) -> Option<Verdict> {
        // The first contradiction is the cause; the rest follow from it.
        let first = !std::mem::replace(&mut self.contradicted, true);
        first.then_some(Verdict::Contradicted { index, message })
    }

    fn drain(&mut self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        while !self.contradicted
            && let Some(entry) = self.pending.first_entry()
            && let Some(expected) = &entry.get().expected
            && entry.get().reported >= expected.reporters
        {
            let index = *entry.key();
            let Pending { expected, seals, .. } = entry.remove();
            let Some(Expected { header, .. }) = expected else {
                continue;
            };
            match self.verify(&header, &seals) {
                Ok(()) => {
                    self.head = header.digest();
                    verdicts.push(Verdict::Verified(header));
                }
                Err(message) => verdicts.extend(self.contradict(index, message)),
            }
        }
        verdicts
    }

    fn verify(&self, header: &Header, seals: &BTreeMap<u32, Digest>) -> Result<(), String> {
        let dense = seals
            .keys()
            .zip(0u32..)
            .all(|(place, expected)| *place == expected);
        let digests: Vec<Digest> = seals.values().copied().collect();
        let own = Header {
            cluster: self.cluster,
            index: header.index,
            count: u32::try_from(digests.len()).unwrap_or(u32::MAX),
            root: merkle::root(&digests),
            previous: self.head,
            state: header.state,
            voters: header.voters,
        };
        if dense && own == *header {
            Ok(())
        } else {
            Err(format!(
                "recomputed the block {own:?}, but the ledger has {header:?}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(n: u8) -> Digest {
        Digest([n; 32])
    }

    fn header(index: u64, previous: Digest, seals: &[Digest]) -> Header {
        Header {
            cluster: Digest([7; 32]),
            index,
            count: u32::try_from(seals.len()).expect("few"),
            root: merkle::root(seals),
            previous,
            state: seal(99),
            voters: seal(98),
        }
    }

    fn findings(index: u64, seals: &[(u32, Digest)]) -> Findings {
        Findings {
            index,
            counts: true,
            seals: seals.to_vec(),
            contradictions: Vec::new(),
        }
    }

    #[test]
    fn blocks_are_verified_in_order_whatever_order_the_reports_come_in() {
        let mut core = Attestation::new(Digest([7; 32]));
        let first = header(5, Digest::ZERO, &[seal(1), seal(2)]);
        let second = header(9, first.digest(), &[seal(3)]);
        assert_eq!(core.report(findings(9, &[(0, seal(3))])), []);
        assert_eq!(
            core.expect(Expected {
                header: first.clone(),
                reporters: 2
            }),
            []
        );
        assert_eq!(
            core.expect(Expected {
                header: second.clone(),
                reporters: 1
            }),
            []
        );
        assert_eq!(core.report(findings(5, &[(1, seal(2))])), []);
        let verdicts = core.report(findings(5, &[(0, seal(1))]));
        assert_eq!(verdicts, [Verdict::Verified(first), Verdict::Verified(second)]);
    }

    #[test]
    fn nothing_is_verified_after_a_contradiction() {
        let wrong = header(5, Digest::ZERO, &[seal(1)]);
        let next = header(9, wrong.digest(), &[seal(3)]);
        for other in [
            findings(5, &[(0, seal(2))]),
            findings(5, &[]),
            findings(5, &[(1, seal(1))]),
            Findings {
                contradictions: vec!["x".to_owned()],
                ..findings(5, &[(0, seal(1))])
            },
        ] {
            let mut core = Attestation::new(Digest([7; 32]));
            core.expect(Expected {
                header: wrong.clone(),
                reporters: 1,
            });
            let verdicts = core.report(other);
            assert!(
                matches!(verdicts[..], [Verdict::Contradicted { index: 5, .. }]),
                "{verdicts:?}"
            );
            core.expect(Expected {
                header: next.clone(),
                reporters: 1,
            });
            assert_eq!(core.report(findings(9, &[(0, seal(3))])), []);
        }
    }

    #[test]
    fn a_header_of_another_cluster_or_chain_is_not_verified() {
        let good = header(5, Digest::ZERO, &[seal(1)]);
        for bad in [
            Header {
                cluster: seal(1),
                ..good.clone()
            },
            Header {
                previous: seal(1),
                ..good.clone()
            },
            Header {
                count: 2,
                ..good.clone()
            },
            Header {
                root: seal(1),
                ..good
            },
        ] {
            let mut core = Attestation::new(Digest([7; 32]));
            core.expect(Expected {
                header: bad,
                reporters: 1,
            });
            let verdicts = core.report(findings(5, &[(0, seal(1))]));
            assert!(
                matches!(verdicts[..], [Verdict::Contradicted { .. }]),
                "{verdicts:?}"
            );
        }
    }
}
