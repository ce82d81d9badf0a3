//! Serves what other nodes ask of the leader.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use ledger::Envelope;
use ledger::block::Attestation;
use ledger::canonical::Canonical;
use raft::{BoxFuture, ReadError, Replica, Service};
use tokio::sync::{mpsc, oneshot};

use super::batcher::{NotProposed, Offer};
use super::protocol::{self, Request, Response};

/// The service behind the peers' port.
pub(crate) struct Peers {
    offers: mpsc::Sender<Offer>,
    /// Known only after the replica, which serves this, has started.
    replica: Arc<OnceLock<Replica>>,
}

impl Peers {
    /// A service that offers to the batcher and, once `replica` is set, gives read points.
    pub(crate) fn new(offers: mpsc::Sender<Offer>, replica: Arc<OnceLock<Replica>>) -> Self {
        Peers { offers, replica }
    }

    async fn propose(&self, from: u64, envelopes: Vec<Bytes>, attestations: Vec<Bytes>) -> Response {
        // A node offers its own signatures only. One for another header can't be verified by whoever has not got that
        // header, so nobody may speak for others: a quorum of such makes every node raise its alarm.
        let own = |bytes: &Bytes| Attestation::from_bytes(bytes).is_ok_and(|signed| signed.node == from);
        // One part that is none would spoil the whole entry, other clients' parts included.
        if envelopes.iter().any(|bytes| Envelope::from_bytes(bytes).is_err()) || !attestations.iter().all(own)
        {
            return Response::Malformed;
        }
        let (answer, outcome) = oneshot::channel();
        let offer = Offer {
            envelopes,
            attestations,
            forwarded: true,
            answer,
        };
        // A full queue is said at once: the asking node has a queue of its own.
        if self.offers.try_send(offer).is_err() {
            return Response::Busy;
        }
        match outcome.await {
            Ok(Ok(())) => Response::Proposed,
            Ok(Err(NotProposed::NoLeader)) => Response::NotLeader,
            Ok(Err(NotProposed::Busy)) => Response::Busy,
            Ok(Err(NotProposed::TooLarge)) => Response::TooLarge,
            Ok(Err(NotProposed::Unknown | NotProposed::Stopping)) | Err(_) => Response::Unknown,
        }
    }

    async fn read_point(&self) -> Response {
        let Some(replica) = self.replica.get() else {
            return Response::NotLeader;
        };
        match replica.read_barrier().await {
            Ok(index) => Response::ReadPoint(index),
            Err(ReadError::NotLeader { .. } | ReadError::Stopped | ReadError::NoQuorum) => {
                Response::NotLeader
            }
        }
    }
}

impl Service for Peers {
    fn serve(&self, from: u64, request: Bytes) -> BoxFuture<'_, Bytes> {
        Box::pin(async move {
            let response = match protocol::decode(&request) {
                Some(Request::Propose {
                    envelopes,
                    attestations,
                }) => self.propose(from, envelopes, attestations).await,
                Some(Request::ReadPoint) => self.read_point().await,
                None => {
                    tracing::warn!(
                        from,
                        bytes = request.len(),
                        "a peer sent something that is no request"
                    );
                    Response::Malformed
                }
            };
            protocol::encode(&response)
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use ledger::{Digest, Signature};

    use super::*;

    fn signed(node: u64) -> Bytes {
        let attestation = Attestation {
            node,
            index: 5,
            header: Digest([9; 32]),
            signature: Signature([0; 64]),
        };
        attestation.to_bytes().into()
    }

    #[tokio::test]
    async fn nobody_offers_signatures_in_the_name_of_another() {
        let (offers, mut offered) = mpsc::channel(1);
        let peers = Peers::new(offers, Arc::default());
        for attestations in [
            vec![signed(1)],
            vec![signed(2), signed(1)],
            vec![Bytes::from_static(b"none")],
        ] {
            // At once: what is passed on is answered only once somebody takes it.
            let answer = peers.propose(2, Vec::new(), attestations).now_or_never();
            assert!(matches!(answer, Some(Response::Malformed)), "{answer:?}");
        }
        assert!(offered.try_recv().is_err(), "nothing was passed on");
        let accepting = async {
            let offer = offered.recv().await.expect("its own is passed on");
            let _ = offer.answer.send(Ok(()));
            offer.attestations
        };
        let (answer, passed_on) = tokio::join!(peers.propose(2, Vec::new(), vec![signed(2)]), accepting);
        assert!(matches!(answer, Response::Proposed), "{answer:?}");
        assert_eq!(passed_on, [signed(2)]);
    }
}
