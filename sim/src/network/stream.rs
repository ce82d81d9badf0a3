//! One end of a connection, as a process holds it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ConnId, Core, End, Parcel, SimNet, WINDOW, What};

/// A segment is at most so long: larger writes are cut, as a kernel would.
const SEGMENT: usize = 64 << 10;

/// One end of an established connection. Dropping it closes it.
pub(super) struct SimStream {
    net: SimNet,
    conn: ConnId,
    side: usize,
}

impl SimStream {
    pub(super) fn new(net: SimNet, conn: ConnId, side: usize) -> Self {
        SimStream { net, conn, side }
    }

    /// Works on this end, if the process that holds it still lives.
    fn poll<T>(
        &self,
        op: impl FnOnce(&mut Core, ConnId, usize) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.net.with(|core| {
            let owner = core.conns.get(&self.conn).map(|conn| &conn.ends[self.side]);
            match owner {
                Some(end) if !end.gone && core.alive(end.addr.ip(), end.boot) => {
                    op(core, self.conn, self.side)
                }
                _ => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        })
    }
}

fn end(core: &mut Core, conn: ConnId, side: usize) -> io::Result<&mut End> {
    let conn = core.conns.get_mut(&conn).ok_or(io::ErrorKind::ConnectionReset)?;
    Ok(&mut conn.ends[side])
}

impl AsyncRead for SimStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(|core, conn, side| {
            let this = end(core, conn, side)?;
            if let Some(kind) = this.broken {
                return Poll::Ready(Err(kind.into()));
            }
            if buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let Some(bytes) = this.inbox.front_mut() else {
                if this.finished {
                    return Poll::Ready(Ok(()));
                }
                this.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let n = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..n]);
            bytes.advance(n);
            if bytes.is_empty() {
                this.inbox.pop_front();
            }
            this.owed += n;
            if this.owed >= WINDOW / 4 {
                let n = std::mem::take(&mut this.owed);
                core.send(Parcel {
                    conn,
                    to: 1 - side,
                    what: What::Credit(n),
                });
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(|core, conn, side| {
            let this = end(core, conn, side)?;
            if let Some(kind) = this.broken {
                return Poll::Ready(Err(kind.into()));
            }
            if this.shut {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let n = data.len().min(SEGMENT).min(this.credit);
            if n == 0 && !data.is_empty() {
                this.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            this.credit -= n;
            if n > 0 {
                core.send(Parcel {
                    conn,
                    to: 1 - side,
                    what: What::Data(Bytes::copy_from_slice(&data[..n])),
                });
            }
            Poll::Ready(Ok(n))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|core, conn, side| {
            let this = end(core, conn, side)?;
            if !this.shut && this.broken.is_none() {
                this.shut = true;
                core.send(Parcel {
                    conn,
                    to: 1 - side,
                    what: What::Fin,
                });
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.net.with(|core| core.close(self.conn, self.side));
    }
}

/// A connection that is being made. Dropping it gives up.
pub(super) struct Dialing(pub(super) Option<SimStream>);

impl Future for Dialing {
    type Output = io::Result<SimStream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(stream) = &self.0 else {
            return Poll::Ready(Err(io::Error::other("a connection was awaited twice")));
        };
        ready!(stream.poll(|core, conn, side| {
            let Some(state) = core.conns.get_mut(&conn) else {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            };
            let established = state.established;
            let this = &mut state.ends[side];
            if let Some(kind) = this.broken {
                return Poll::Ready(Err(kind.into()));
            }
            if established {
                return Poll::Ready(Ok(()));
            }
            this.reader = Some(cx.waker().clone());
            Poll::Pending
        }))?;
        match self.0.take() {
            Some(stream) => Poll::Ready(Ok(stream)),
            None => Poll::Ready(Err(io::Error::other("a connection was awaited twice"))),
        }
    }
}
