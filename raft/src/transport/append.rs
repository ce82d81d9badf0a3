//! The append lane: requests go out while answers come in, both in order.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use futures::{Stream, StreamExt};
use openraft::errors::{NetworkError, RPCError, Timeout, Unreachable};
use openraft::network::RPCTypes;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::io::ReadHalf;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep};

use super::client::PeerClient;
use super::frame::Frames;
use super::hello::{self, Lane};
use super::wire;
use crate::codec;
use crate::network::BoxStream;
use crate::types::TypeConfig;

/// Requests under way to one peer. Two full batches keep the pipe filled; small ones need some more.
const WINDOW: usize = 32;
/// Payload bytes under way to one peer, unless a single request is larger.
const WINDOW_BYTES: usize = 8 << 20;

pub(super) type Answer = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// One stream of appends to a peer. Dropped with a question open, it takes its connection with it.
pub(super) struct Session<'s, S> {
    client: &'s mut PeerClient,
    requests: S,
    requests_ended: bool,
    frames: Option<Frames>,
    /// Payload bytes of the requests under way.
    open: VecDeque<usize>,
    open_bytes: usize,
    /// Until the oldest of them must be answered.
    deadline: Pin<Box<Sleep>>,
    ended: bool,
}

/// What a session came to.
enum Event {
    Answer(StreamAppendResult<TypeConfig>),
    /// All requests were answered and no more will come.
    Done,
}

enum Failure {
    TimedOut,
    Broken(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Broken(error)
    }
}

impl<'s, S> Session<'s, S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    pub(super) fn new(client: &'s mut PeerClient, requests: S) -> Self {
        let frames = client.appends.get_mut().take();
        let deadline = Box::pin(sleep(client.context.config.timing.append));
        Session {
            client,
            requests,
            requests_ended: false,
            frames,
            open: VecDeque::new(),
            open_bytes: 0,
            deadline,
            ended: false,
        }
    }

    /// The next answer, and the session for the one after it.
    pub(super) async fn next(mut self) -> Option<(Answer, Self)> {
        if self.ended {
            return None;
        }
        if self.frames.is_none() {
            // openraft waits inside this stream before it tries an unreachable peer again.
            let first = self.requests.next().await?;
            let (context, addr) = (Arc::clone(&self.client.context), self.client.addr.clone());
            match hello::dial(&context, self.client.target, &addr.0, Lane::Append).await {
                Ok(frames) => self.frames = Some(frames),
                Err(error) => {
                    self.ended = true;
                    return Some((Err(RPCError::Unreachable(Unreachable::new(&error))), self));
                }
            }
            if let Err(error) = self.send(&first) {
                self.ended = true;
                return Some((Err(RPCError::Network(NetworkError::new(&error))), self));
            }
        }
        match poll_fn(|cx| self.poll(cx)).await {
            Ok(Event::Done) => {
                // Nothing is open: the next session may go on with this connection.
                *self.client.appends.get_mut() = self.frames.take();
                None
            }
            Ok(Event::Answer(answer)) => {
                // After a refusal the follower closes its end.
                self.ended = answer.is_err();
                Some((Ok(answer), self))
            }
            Err(Failure::TimedOut) => {
                self.ended = true;
                let timeout = Timeout {
                    action: RPCTypes::AppendEntries,
                    id: self.client.context.identity.node,
                    target: self.client.target,
                    timeout: self.client.context.config.timing.append,
                };
                Some((Err(RPCError::Timeout(timeout)), self))
            }
            Err(Failure::Broken(error)) => {
                self.ended = true;
                Some((Err(RPCError::Network(NetworkError::new(&error))), self))
            }
        }
    }

    fn send(&mut self, request: &AppendEntriesRequest<TypeConfig>) -> io::Result<()> {
        let Some(frames) = &mut self.frames else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        frames.queue(wire::encode_append(request))?;
        let bytes = request.entries.iter().map(codec::entry_bytes).sum();
        if self.open.is_empty() {
            self.restart_deadline();
        }
        self.open.push_back(bytes);
        self.open_bytes += bytes;
        Ok(())
    }

    fn restart_deadline(&mut self) {
        self.deadline
            .as_mut()
            .reset(Instant::now() + self.client.context.config.timing.append);
    }

    fn has_room(&self) -> bool {
        self.open.len() < WINDOW && self.open_bytes < WINDOW_BYTES
    }

    fn poll(&mut self, cx: &mut Task<'_>) -> Poll<Result<Event, Failure>> {
        while !self.requests_ended && self.has_room() {
            match self.requests.poll_next_unpin(cx) {
                Poll::Ready(Some(request)) => self.send(&request)?,
                Poll::Ready(None) => self.requests_ended = true,
                Poll::Pending => break,
            }
        }
        let Some(frames) = &mut self.frames else {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::NotConnected).into()));
        };
        if let Poll::Ready(Err(error)) = frames.poll_flush(cx) {
            return Poll::Ready(Err(error.into()));
        }
        if self.requests_ended && self.open.is_empty() && frames.is_flushed() {
            return Poll::Ready(Ok(Event::Done));
        }
        if let Poll::Ready(frame) = frames.poll_next(cx) {
            let frame = frame?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            let Some(bytes) = self.open.pop_front() else {
                return Poll::Ready(Err(io::Error::other("an answer to no question").into()));
            };
            self.open_bytes -= bytes;
            self.restart_deadline();
            let answer = wire::decode_append_answer(frame).map_err(io::Error::other)?;
            return Poll::Ready(Ok(Event::Answer(answer)));
        }
        if !self.open.is_empty() && self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(Failure::TimedOut));
        }
        Poll::Pending
    }
}

/// Serves appends until the leader closes, or openraft ends the stream because it refused one.
///
/// openraft reads the requests off the connection in a task of its own, which bounds those that are open; this one
/// only writes answers. A task between the two would be one more to wake for each record.
///
/// # Errors
/// What broke the connection.
pub(super) async fn serve<A, F>(frames: Frames, append: F) -> io::Result<()>
where
    F: FnOnce(Requests) -> A,
    A: Stream<Item = io::Result<StreamAppendResult<TypeConfig>>> + Send,
{
    let (reading, mut writing) = frames.split();
    let (ended, mut end) = oneshot::channel();
    let (_serving, served) = oneshot::channel();
    let requests = Requests {
        frames: reading,
        ended: Some(ended),
        served,
    };
    let mut answers = std::pin::pin!(append(requests));
    let mut last = false;
    poll_fn(move |cx| {
        while !last && let Poll::Ready(answer) = answers.as_mut().poll_next(cx) {
            match answer {
                Some(answer) => {
                    let answer = answer?;
                    last = answer.is_err();
                    writing.queue([wire::encode_append_answer(&answer)])?;
                }
                None => last = true,
            }
        }
        let flushed = writing.poll_flush(cx)?;
        if last {
            // The leader closes in its turn, which ends the reading half.
            std::task::ready!(flushed);
            return writing.poll_shutdown(cx);
        }
        // The leader is gone: nobody waits for the answers that are still due.
        Pin::new(&mut end).poll(cx).map(|end| end.unwrap_or(Ok(())))
    })
    .await
}

/// The requests of one connection, as openraft wants them.
pub(super) struct Requests {
    frames: Frames<ReadHalf<BoxStream>>,
    /// Hears why there are no more.
    ended: Option<oneshot::Sender<io::Result<()>>>,
    /// Ends with the task that writes answers.
    served: oneshot::Receiver<()>,
}

impl Stream for Requests {
    type Item = AppendEntriesRequest<TypeConfig>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        let Requests {
            frames,
            ended,
            served,
        } = &mut *self;
        if Pin::new(served).poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        let end = match std::task::ready!(frames.poll_next(cx)) {
            Ok(Some(frame)) => match wire::decode_append(frame) {
                Ok(request) => return Poll::Ready(Some(request)),
                Err(malformed) => Err(io::Error::other(malformed)),
            },
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Some(ended) = ended.take() {
            // The other task may have gone first.
            let _ = ended.send(end);
        }
        Poll::Ready(None)
    }
}
