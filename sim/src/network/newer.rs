//! A build that speaks the next version of the peers' protocol, and no other: what it announces is one version higher than
//! what the product announces, and what it hears is refused as the product refuses what is not its own version.
//!
//! There is only one version of the protocol yet, so the newer build is the product itself with the version changed on
//! its way: in the hello that a dialer sends, and in the hello that an accepter hears. All other streams pass as
//! they are, HTTP among them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::SimStream;

/// Length and checksum of a frame, before its body.
const HEAD: usize = 8;
/// How a hello begins; its version follows, two bytes.
const MAGIC: &[u8] = b"GSPEER";
/// A hello has no more bytes.
const MOST: usize = 512;

/// A stream of such a build.
pub(super) struct Newer {
    stream: SimStream,
    /// What was written until it is known whether it is a hello; then what of it is still to go.
    out: Opening,
    /// The same of what was read.
    heard: Opening,
}

/// The first bytes of a direction.
enum Opening {
    Gathering(Vec<u8>),
    Leaving(Vec<u8>),
    Gone,
}

impl Opening {
    /// Takes the next bytes, and decides once there are enough.
    fn gather(&mut self, bytes: &[u8]) {
        if let Opening::Gathering(first) = self {
            first.extend_from_slice(bytes);
            if let Some(raised) = raised(first) {
                *self = Opening::Leaving(raised);
            }
        }
    }
}

/// What these first bytes become: a hello one version higher, or themselves; `None` if that can't be told yet.
fn raised(first: &[u8]) -> Option<Vec<u8>> {
    let head = first.first_chunk::<4>()?;
    let len = u32::from_be_bytes(*head) as usize;
    if len > MOST || len < MAGIC.len() + 2 {
        return Some(first.to_vec());
    }
    let body = first.get(HEAD..HEAD + len)?;
    if !body.starts_with(MAGIC) {
        return Some(first.to_vec());
    }
    let mut body = body.to_vec();
    let version = u16::from_be_bytes([body[MAGIC.len()], body[MAGIC.len() + 1]]);
    body[MAGIC.len()..MAGIC.len() + 2].copy_from_slice(&(version + 1).to_be_bytes());
    let mut raised = head.to_vec();
    raised.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    raised.extend_from_slice(&body);
    raised.extend_from_slice(&first[HEAD + len..]);
    Some(raised)
}

impl Newer {
    pub(super) fn new(stream: SimStream) -> Self {
        Newer {
            stream,
            out: Opening::Gathering(Vec::new()),
            heard: Opening::Gathering(Vec::new()),
        }
    }

    /// Sends on what was held back and is known by now.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Opening::Leaving(bytes) = &mut self.out {
            if bytes.is_empty() {
                self.out = Opening::Gone;
                break;
            }
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
            bytes.drain(..n);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Newer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let this = &mut *self;
            match &mut this.heard {
                Opening::Gone => return Pin::new(&mut this.stream).poll_read(cx, buf),
                Opening::Leaving(bytes) => {
                    let n = bytes.len().min(buf.remaining());
                    buf.put_slice(&bytes[..n]);
                    bytes.drain(..n);
                    if bytes.is_empty() {
                        this.heard = Opening::Gone;
                    }
                    return Poll::Ready(Ok(()));
                }
                Opening::Gathering(first) => {
                    let mut piece = [0; MOST];
                    let mut some = ReadBuf::new(&mut piece);
                    ready!(Pin::new(&mut this.stream).poll_read(cx, &mut some))?;
                    if some.filled().is_empty() {
                        // The other side has ended: there is no more to wait for.
                        this.heard = Opening::Leaving(std::mem::take(first));
                        if matches!(&this.heard, Opening::Leaving(bytes) if bytes.is_empty()) {
                            this.heard = Opening::Gone;
                            return Poll::Ready(Ok(()));
                        }
                    } else {
                        this.heard.gather(some.filled());
                    }
                }
            }
        }
    }
}

impl AsyncWrite for Newer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_leave(cx))?;
        match &mut self.out {
            Opening::Gone => Pin::new(&mut self.stream).poll_write(cx, data),
            out => {
                out.gather(data);
                // What could not leave at once leaves at the next write or flush.
                let _ = self.poll_leave(cx)?;
                Poll::Ready(Ok(data.len()))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_leave(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_leave(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut frame = u32::try_from(body.len()).unwrap_or(0).to_be_bytes().to_vec();
        frame.extend_from_slice(&crc32c::crc32c(body).to_be_bytes());
        frame.extend_from_slice(body);
        frame
    }

    #[test]
    fn a_hello_is_raised_whole_and_all_else_passes_at_once() {
        let hello = [&frame(b"GSPEER\x00\x01rest")[..], b"more"].concat();
        let expected = [&frame(b"GSPEER\x00\x02rest")[..], b"more"].concat();
        for cut in 0..=hello.len() {
            let mut opening = Opening::Gathering(Vec::new());
            opening.gather(&hello[..cut]);
            if cut < HEAD + 12 {
                assert!(matches!(opening, Opening::Gathering(_)), "cut at {cut}");
            }
            if cut == hello.len() {
                assert!(matches!(opening, Opening::Leaving(bytes) if bytes == expected));
            }
        }
        for other in [&b"GET / HTTP/1.1"[..], &frame(b"some other frame")] {
            assert_eq!(raised(other), Some(other.to_vec()));
        }
        assert_eq!(raised(b"GET"), None);
    }
}
