//! openraft's view of its peers.

use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::append::Session;
use super::frame::Frames;
use super::hello::{self, Lane};
use super::{Context, snapshot, wire};
use crate::applier::SnapshotData;
use crate::codec;
use crate::types::{PeerAddr, Snapshot, TypeConfig, Vote};

/// Questions of the control lane.
pub(super) const VOTE: u8 = 1;
pub(super) const PRE_VOTE: u8 = 2;
pub(super) const TRANSFER: u8 = 3;

type RpcError = RPCError<TypeConfig>;

/// Makes clients.
pub(crate) struct Peers(pub(crate) Arc<Context>);

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = PeerClient;

    async fn new_client(&mut self, target: u64, addr: &PeerAddr) -> PeerClient {
        PeerClient {
            context: Arc::clone(&self.0),
            target,
            addr: addr.clone(),
            appends: Mutex::new(None),
        }
    }
}

/// Speaks to one peer, for one of openraft's tasks. Appends keep their connection; votes, transfers and
/// snapshots are rare, and dial anew.
pub(crate) struct PeerClient {
    pub(super) context: Arc<Context>,
    pub(super) target: u64,
    pub(super) addr: PeerAddr,
    /// A connection of the append lane with no question open. (The lock is never waited for: it lets
    /// openraft share what only one task uses.)
    pub(super) appends: Mutex<Option<Frames>>,
}

impl PeerClient {
    /// Dials, asks one question of the control lane, and closes.
    async fn control<Q: Serialize, A: DeserializeOwned>(
        &self,
        kind: u8,
        question: &Q,
        option: &RPCOption,
    ) -> Result<A, RpcError> {
        // openraft itself gives up at the hard limit.
        let deadline = option.hard_ttl();
        let mut body = BytesMut::new();
        body.put_u8(kind);
        body.put_slice(&codec::encode_postcard(question));
        let dialing = hello::dial_with(
            &self.context,
            self.target,
            &self.addr.0,
            Lane::Control,
            body.freeze(),
        );
        let mut frames = hello::within(deadline, "dialing", dialing)
            .await
            .map_err(|e| RPCError::Unreachable(Unreachable::new(&e)))?;
        let answer = hello::within(deadline, "the answer", frames.next())
            .await
            .map_err(|e| {
                if e.kind() == io::ErrorKind::TimedOut {
                    RPCError::Timeout(Timeout {
                        action: RPCTypes::Vote,
                        id: self.context.identity.node,
                        target: self.target,
                        timeout: deadline,
                    })
                } else {
                    RPCError::Network(NetworkError::new(&e))
                }
            })?;
        let content =
            wire::open(answer).map_err(|why| RPCError::Unreachable(Unreachable::from_string(why)))?;
        postcard::from_bytes(&content).map_err(|e| RPCError::Network(NetworkError::new(&e)))
    }
}

impl RaftNetworkV2<TypeConfig> for PeerClient {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        use futures::StreamExt;
        let requests = Box::pin(stream::once(std::future::ready(request)));
        let mut answers = RaftNetworkV2::stream_append(self, requests, option).await?;
        match answers.next().await {
            Some(answer) => answer.map(AppendEntriesResponse::from),
            None => Err(RPCError::Network(NetworkError::from_string("no answer"))),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        requests: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let answers: BoxStream<'s, _> = Box::pin(stream::unfold(Session::new(self, requests), |session| {
            session.next()
        }));
        Box::pin(std::future::ready(Ok(answers)))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.control(VOTE, &request, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.control(PRE_VOTE, &request, &option).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        self.control(TRANSFER, &request, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let SnapshotData::Stored(file) = snapshot.snapshot else {
            return Err(StreamingError::Network(NetworkError::from_string(
                "the snapshot is not stored yet",
            )));
        };
        let mut withheld = self.context.withheld.subscribe();
        tokio::select! {
            biased;
            _ = withheld.wait_for(|withheld| *withheld) => {
                let why = "this node gives no snapshot away";
                Err(StreamingError::Unreachable(Unreachable::from_string(why)))
            }
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = snapshot::send(&self.context, self.target, &self.addr.0, vote, snapshot.meta, file) => {
                sent.map(SnapshotResponse::new)
                    .map_err(|e| StreamingError::Unreachable(Unreachable::new(&e)))
            }
        }
    }
}

/// Splits a question of the control lane.
pub(super) fn split_control(frame: &Bytes) -> Option<(u8, Bytes)> {
    frame.first().map(|kind| (*kind, frame.slice(1..)))
}
