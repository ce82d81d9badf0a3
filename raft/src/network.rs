//! The network seam: dial an address, listen on one, get streams of bytes.

use std::io;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A connection: ordered bytes both ways, until it breaks.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// A connection whose kind doesn't matter.
pub type BoxStream = Box<dyn Stream>;

/// Dials and listens. The caller puts deadlines on both; an implementation may wait as long as it likes.
pub trait Network: Send + Sync + 'static {
    /// Connects to a listener. Writes should not be held back to fill packets.
    ///
    /// # Errors
    /// Whatever keeps the connection from being made.
    fn dial<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxStream>>;

    /// Starts to listen.
    ///
    /// # Errors
    /// The address is taken or makes no sense.
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
}

/// Accepts connections until it is dropped.
pub trait Listener: Send + 'static {
    /// The next connection, and where it comes from (for log lines only). Must be safe to cancel.
    ///
    /// # Errors
    /// A failure to accept one connection; the listener goes on.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, String)>>;

    /// The address it listens on, with the port that was picked.
    fn local_addr(&self) -> String;
}

/// TCP, with `TCP_NODELAY`.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpNetwork;

impl Network for TcpNetwork {
    fn dial<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxStream)
        })
    }

    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move { Ok(Box::new(TcpListener::bind(addr).await?) as Box<dyn Listener>) })
    }
}

impl Listener for TcpListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, String)>> {
        Box::pin(async move {
            let (stream, from) = TcpListener::accept(self).await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as BoxStream, from.to_string()))
        })
    }

    fn local_addr(&self) -> String {
        TcpListener::local_addr(self)
            .map(|addr| addr.to_string())
            .unwrap_or_default()
    }
}
