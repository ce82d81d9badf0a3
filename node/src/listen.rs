//! HTTP over the network seam: axum's listener on top of ours, with a bound on connections.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use raft::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections at once; the next one waits in the backlog until one ends, without a word. As many as requests may
/// wait by default: a thousand clients of one node leave room for those who ask how it is.
const CONNECTIONS: usize = 4096;

/// A listener for axum.
pub(crate) struct HttpListener {
    inner: Box<dyn raft::Listener>,
    places: Arc<Semaphore>,
}

impl HttpListener {
    pub(crate) fn new(inner: Box<dyn raft::Listener>) -> Self {
        HttpListener {
            inner,
            places: Arc::new(Semaphore::new(CONNECTIONS)),
        }
    }

    /// The address, with the port that was picked.
    pub(crate) fn addr(&self) -> String {
        self.inner.local_addr()
    }
}

impl axum::serve::Listener for HttpListener {
    type Io = Connection;
    type Addr = String;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed; were it, no connection would be counted.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            match self.inner.accept().await {
                Ok((stream, from)) => {
                    return (
                        Connection {
                            stream,
                            _place: place,
                        },
                        from,
                    );
                }
                Err(error) => {
                    // Out of file descriptors, mostly: others end meanwhile.
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.addr())
    }
}

/// A connection that gives its place back when it ends.
pub(crate) struct Connection {
    stream: BoxStream,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
