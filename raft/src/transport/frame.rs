//! Frames on a stream, by polling, so that whoever waits for several things at once loses no bytes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc32c::crc32c_append;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadHalf, WriteHalf};

use crate::network::BoxStream;

const HEAD_BYTES: usize = 8;
/// Room made for one read.
const READ_BYTES: usize = 64 << 10;
/// Pieces handed to one vectored write.
const PIECES: usize = 32;

/// A connection that carries frames, or one half of one.
pub(super) struct Frames<S = BoxStream> {
    stream: S,
    inbox: BytesMut,
    outbox: VecDeque<Bytes>,
    max_frame: usize,
}

impl Frames {
    pub(super) fn new(stream: BoxStream, max_frame: usize) -> Self {
        Frames {
            stream,
            inbox: BytesMut::new(),
            outbox: VecDeque::new(),
            max_frame,
        }
    }

    /// From now on frames may be this large.
    pub(super) fn set_max_frame(&mut self, max_frame: usize) {
        self.max_frame = max_frame;
    }

    /// The reading and the writing half, for two tasks.
    pub(super) fn split(self) -> (Frames<ReadHalf<BoxStream>>, Frames<WriteHalf<BoxStream>>) {
        let (reading, writing) = tokio::io::split(self.stream);
        let reading = Frames {
            stream: reading,
            inbox: self.inbox,
            outbox: VecDeque::new(),
            max_frame: self.max_frame,
        };
        let writing = Frames {
            stream: writing,
            inbox: BytesMut::new(),
            outbox: self.outbox,
            max_frame: self.max_frame,
        };
        (reading, writing)
    }

    /// Sends one frame and waits for one.
    pub(super) async fn ask(&mut self, parts: impl IntoIterator<Item = Bytes>) -> io::Result<Bytes> {
        self.queue(parts)?;
        self.flush().await?;
        self.next().await
    }
}

impl<S: AsyncWrite + Unpin> Frames<S> {
    /// Queues a frame made of these parts, which are not copied.
    ///
    /// # Errors
    /// It is larger than frames may be.
    pub(super) fn queue(&mut self, parts: impl IntoIterator<Item = Bytes>) -> io::Result<()> {
        let parts: Vec<Bytes> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let len = parts.iter().map(Bytes::len).sum::<usize>();
        let crc = parts.iter().fold(0, |crc, part| crc32c_append(crc, part));
        let wire_len = u32::try_from(len).ok().filter(|_| len <= self.max_frame);
        let Some(wire_len) = wire_len else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a frame of {len} bytes is larger than {}", self.max_frame),
            ));
        };
        let mut head = BytesMut::with_capacity(HEAD_BYTES);
        head.put_u32(wire_len);
        head.put_u32(crc);
        self.outbox.push_back(head.freeze());
        self.outbox.extend(parts);
        Ok(())
    }

    /// Whether everything queued was handed to the stream.
    pub(super) fn is_flushed(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Pieces that the stream has not taken yet, up to three a frame.
    pub(super) fn queued(&self) -> usize {
        self.outbox.len()
    }

    /// Writes what is queued.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wrote = false;
        while !self.outbox.is_empty() {
            let slices: Vec<IoSlice<'_>> = self
                .outbox
                .iter()
                .take(PIECES)
                .map(|piece| IoSlice::new(piece))
                .collect();
            let mut written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            wrote = true;
            while let Some(piece) = self.outbox.front_mut()
                && written >= piece.len()
            {
                written -= piece.len();
                self.outbox.pop_front();
            }
            if let Some(piece) = self.outbox.front_mut() {
                piece.advance(written);
            }
        }
        if wrote {
            Pin::new(&mut self.stream).poll_flush(cx)
        } else {
            Poll::Ready(Ok(()))
        }
    }

    /// [`Frames::poll_flush`], awaited.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Says that nothing follows.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> Frames<S> {
    /// The body of the next frame; `None` when the peer has closed between two frames.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            let missing = match self.cut()? {
                Ok(body) => return Poll::Ready(Ok(Some(body))),
                Err(missing) => missing,
            };
            self.inbox.reserve(missing.max(READ_BYTES));
            // The future holds nothing: dropped and made anew it goes on where it was.
            let read = ready!(pin!(self.stream.read_buf(&mut self.inbox)).poll(cx))?;
            if read == 0 {
                return Poll::Ready(if self.inbox.is_empty() {
                    Ok(None)
                } else {
                    Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "closed in the middle of a frame",
                    ))
                });
            }
        }
    }

    /// Takes a frame from what has arrived, or says how many bytes are missing at least.
    fn cut(&mut self) -> io::Result<Result<Bytes, usize>> {
        let Some(head) = self.inbox.get(..HEAD_BYTES) else {
            return Ok(Err(HEAD_BYTES - self.inbox.len()));
        };
        let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let crc = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        if len > self.max_frame {
            let limit = self.max_frame;
            return Err(invalid(format!(
                "a frame of {len} bytes announced; {limit} are allowed"
            )));
        }
        if self.inbox.len() < HEAD_BYTES + len {
            return Ok(Err(HEAD_BYTES + len - self.inbox.len()));
        }
        self.inbox.advance(HEAD_BYTES);
        let body = self.inbox.split_to(len).freeze();
        if crc32c_append(0, &body) != crc {
            return Err(invalid("a frame was damaged on its way".into()));
        }
        Ok(Ok(body))
    }

    /// [`Frames::poll_next`], awaited; the peer must not have closed.
    pub(super) async fn next(&mut self) -> io::Result<Bytes> {
        match std::future::poll_fn(|cx| self.poll_next(cx)).await? {
            Some(body) => Ok(body),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed")),
        }
    }
}

pub(super) fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(max: usize) -> (Frames, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        (Frames::new(Box::new(near), max), far)
    }

    #[tokio::test]
    async fn frames_arrive_whole_through_a_pipe_narrower_than_they_are() {
        let (near, far) = tokio::io::duplex(7);
        let (mut near, mut far) = (
            Frames::new(Box::new(near), 4096),
            Frames::new(Box::new(far), 4096),
        );
        for size in [0usize, 1, 8, 1000] {
            let body = Bytes::from(vec![0xAB; size]);
            near.queue([body.slice(..size / 2), body.slice(size / 2..)])
                .expect("small enough");
        }
        let send = async move {
            near.flush().await.expect("the far end reads");
            near
        };
        let receive = async move {
            for size in [0usize, 1, 8, 1000] {
                assert_eq!(far.next().await.expect("a frame was sent").len(), size);
            }
        };
        let _ = tokio::join!(send, receive);
    }

    #[tokio::test]
    async fn a_length_beyond_the_limit_is_refused_without_room_being_made_for_it() {
        use tokio::io::AsyncWriteExt;
        let (mut frames, mut raw) = pair(100);
        raw.write_all(&[0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0])
            .await
            .expect("open");
        let error = frames.next().await.expect_err("4 GiB are too much");
        assert!(error.to_string().contains("4294967295"), "{error}");
        assert!(frames.inbox.capacity() <= 2 * READ_BYTES);
    }

    #[tokio::test]
    async fn a_changed_bit_is_noticed() {
        use tokio::io::AsyncWriteExt;
        let (mut frames, mut raw) = pair(100);
        let mut bytes = vec![0, 0, 0, 1];
        bytes.extend(crc32c_append(0, b"x").to_be_bytes());
        bytes.push(b'x' ^ 4);
        raw.write_all(&bytes).await.expect("open");
        frames.next().await.expect_err("the checksum is another's");
    }
}
