//! HTTP over the network seam, with a bound on connections and on how long one may be silent.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use raft::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Connections at once; the next one waits in the backlog until one ends, without a word. As many as requests may
/// wait by default: a thousand clients of one node leave room for those who ask how it is.
const CONNECTIONS: usize = 4096;

/// How long a connection may take to send a request's head, the wait for its first byte included: a client that
/// says nothing must not keep a place for ever. Longer than clients usually keep an idle connection.
const SILENCE: Duration = Duration::from_secs(90);

/// Serves until told to stop. Requests under way then are still answered.
pub(crate) async fn serve(mut listener: HttpListener, app: Router, mut stopping: watch::Receiver<bool>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(SILENCE);
    loop {
        let connection = tokio::select! {
            biased;
            // The sender lives as long as the node; if it is gone, so is the node.
            _ = stopping.wait_for(|stop| *stop) => return,
            connection = listener.accept() => connection,
        };
        let service = TowerToHyperService::new(app.clone());
        let served = http
            .serve_connection(TokioIo::new(connection), service)
            .with_upgrades();
        let mut stopping = stopping.clone();
        tokio::spawn(async move {
            let mut served = pin!(served);
            let told = async {
                let _ = stopping.wait_for(|stop| *stop).await;
            };
            let ended = tokio::select! {
                ended = served.as_mut() => ended,
                () = told => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a client's connection broke");
            }
        });
    }
}

/// Where clients come in.
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

impl HttpListener {
    async fn accept(&mut self) -> Connection {
        // The semaphore is never closed; were it, no connection would be counted.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            match self.inner.accept().await {
                Ok((stream, _)) => {
                    return Connection {
                        stream,
                        _place: place,
                    };
                }
                Err(error) => {
                    // Out of file descriptors, mostly: others end meanwhile.
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
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

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use raft::BoxFuture;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;

    /// Gives what it is sent as the connections that come in.
    struct Handed(mpsc::Receiver<DuplexStream>);

    impl raft::Listener for Handed {
        fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, String)>> {
            Box::pin(async {
                match self.0.recv().await {
                    Some(stream) => Ok((Box::new(stream) as BoxStream, "test".to_owned())),
                    None => std::future::pending().await,
                }
            })
        }

        fn local_addr(&self) -> String {
            "test".to_owned()
        }
    }

    /// Connects to a server that answers `GET /`; the channel tells it to stop.
    async fn connect() -> (DuplexStream, watch::Sender<bool>) {
        let (give, handed) = mpsc::channel(1);
        let (stop, stopping) = watch::channel(false);
        let app = Router::new().route("/", get(|| async { "hello" }));
        tokio::spawn(serve(HttpListener::new(Box::new(Handed(handed))), app, stopping));
        let (client, server) = tokio::io::duplex(1 << 10);
        give.send(server).await.expect("it listens");
        (client, stop)
    }

    async fn ask(client: &mut DuplexStream) {
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .expect("it hears");
        let mut answer = [0; 512];
        let n = client.read(&mut answer).await.expect("it answers");
        assert!(answer[..n].starts_with(b"HTTP/1.1 200"), "{:?}", &answer[..n]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_sends_nothing_or_half_a_head_is_closed_in_the_end() {
        for begun in [&b""[..], b"GET / HTTP/1.1\r\nho"] {
            let (mut client, _stop) = connect().await;
            // One that talks now and then may go on.
            for _ in 0..3 {
                tokio::time::sleep(SILENCE / 2).await;
                ask(&mut client).await;
            }
            let since = Instant::now();
            client.write_all(begun).await.expect("it hears");
            let mut rest = Vec::new();
            let ended = tokio::time::timeout(2 * SILENCE, client.read_to_end(&mut rest)).await;
            ended.expect("it is closed").expect("in order");
            assert!(since.elapsed() >= SILENCE, "{:?}", since.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_at_once_when_the_node_stops() {
        let (mut client, stop) = connect().await;
        ask(&mut client).await;
        stop.send_replace(true);
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(SILENCE / 9, client.read_to_end(&mut rest)).await;
        ended.expect("it is closed").expect("in order");
    }
}
