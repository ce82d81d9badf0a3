//! Requests of one node to another that are not Raft's: the users of replicas speak through the same
//! connections, so that a cluster needs one port for peers.

use bytes::Bytes;
use futures::future::BoxFuture;

/// Answers the [`crate::Replica::call`]s of peers.
pub trait Service: Send + Sync + 'static {
    /// Serves one request of node `from` (which said hello with this cluster's id, no more: authenticate
    /// what matters in the request itself). Runs in a task of its own that is dropped when the connection
    /// breaks; many run at once.
    fn serve(&self, from: u64, request: Bytes) -> BoxFuture<'_, Bytes>;
}

/// Answers everything with nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoService;

impl Service for NoService {
    fn serve(&self, _from: u64, _request: Bytes) -> BoxFuture<'_, Bytes> {
        Box::pin(std::future::ready(Bytes::new()))
    }
}
