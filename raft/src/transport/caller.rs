//! The call lane: many questions at once on one connection, each with a number.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::Context;
use super::frame::Frames;
use super::hello::{self, Lane};
use crate::codec::Reader;
use crate::error::CallError;
use crate::service::Service;

/// Questions queued or open at one peer before callers have to wait.
const WINDOW: usize = 1024;
/// How often a connection looks for questions that nobody will answer any more.
const REVIEW: Duration = Duration::from_millis(250);

/// Asks peers. All clones share their connections.
#[derive(Clone)]
pub(crate) struct Caller {
    context: Arc<Context>,
    lines: Arc<Mutex<Lines>>,
}

/// The connections, by peer and address.
type Lines = BTreeMap<(u64, String), mpsc::Sender<Question>>;

struct Question {
    request: Bytes,
    deadline: Instant,
    answer: oneshot::Sender<io::Result<Bytes>>,
}

impl Caller {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Caller {
            context,
            lines: Arc::default(),
        }
    }

    /// Asks a peer at an address.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn call(
        &self,
        peer: u64,
        addr: &str,
        request: Bytes,
        within: Duration,
    ) -> Result<Bytes, CallError> {
        if request.len() + 64 > self.context.max_frame() {
            return Err(CallError::TooLarge(request.len()));
        }
        let (answer, answered) = oneshot::channel();
        let question = Question {
            request,
            deadline: Instant::now() + within,
            answer,
        };
        let line = self.line(peer, addr);
        let asking = async {
            if line.send(question).await.is_err() {
                return Err(io::Error::from(io::ErrorKind::ConnectionReset));
            }
            answered
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::ConnectionReset.into()))
        };
        match timeout(within, asking).await {
            Err(_) => Err(CallError::Deadline(peer)),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) if self.context.seeds.is_stopped() => Err(CallError::Stopped),
            Ok(Err(error)) => Err(CallError::Unreachable {
                peer,
                message: error.to_string(),
            }),
        }
    }

    /// The connection to a peer, or a new one in place of one that ended.
    fn line(&self, peer: u64, addr: &str) -> mpsc::Sender<Question> {
        let mut lines = self.lines.lock();
        let key = (peer, addr.to_owned());
        if let Some(line) = lines.get(&key)
            && !line.is_closed()
        {
            return line.clone();
        }
        let (tx, rx) = mpsc::channel(WINDOW);
        let context = Arc::clone(&self.context);
        let addr = addr.to_owned();
        self.context
            .seeds
            .spawn(async move { run_line(&context, peer, &addr, rx).await });
        lines.insert(key, tx.clone());
        tx
    }
}

/// Runs one connection, until it breaks: then everyone who waits is told, and the next caller dials.
async fn run_line(context: &Context, peer: u64, addr: &str, mut questions: mpsc::Receiver<Question>) {
    let mut open = BTreeMap::new();
    let ended = match hello::dial(context, peer, addr, Lane::Call).await {
        Ok(frames) => ask_all(frames, &mut questions, &mut open).await,
        Err(error) => Err(error),
    };
    let Err(error) = ended else { return };
    questions.close();
    let queued = std::iter::from_fn(|| questions.try_recv().ok());
    for question in open.into_values().map(|(question, _)| question).chain(queued) {
        // A caller whose deadline has passed is gone.
        let _ = question
            .answer
            .send(Err(io::Error::new(error.kind(), error.to_string())));
    }
}

type Open = BTreeMap<u64, (Question, Instant)>;

async fn ask_all(
    mut frames: Frames,
    questions: &mut mpsc::Receiver<Question>,
    open: &mut Open,
) -> io::Result<()> {
    let mut number = 0u64;
    let mut heard = Instant::now();
    let mut review = pin!(sleep(REVIEW));
    poll_fn(|cx| {
        while open.len() < WINDOW {
            match questions.poll_recv(cx) {
                Poll::Ready(Some(mut question)) => {
                    number += 1;
                    let request = std::mem::take(&mut question.request);
                    frames.queue(numbered(number, request))?;
                    if open.is_empty() {
                        review.as_mut().reset(Instant::now() + REVIEW);
                    }
                    open.insert(number, (question, Instant::now()));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        if let Poll::Ready(Err(error)) = frames.poll_flush(cx) {
            return Poll::Ready(Err(error));
        }
        while let Poll::Ready(frame) = frames.poll_next(cx) {
            let Some(frame) = frame? else {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            };
            heard = Instant::now();
            let mut reader = Reader::new(frame);
            let number = reader.u64("number").map_err(io::Error::other)?;
            if let Some((question, _)) = open.remove(&number) {
                let _ = question.answer.send(Ok(reader.rest()));
            }
        }
        while !open.is_empty() && review.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            // Not a word since a question that is overdue: the peer is gone, or the way to it is.
            if open
                .values()
                .any(|(question, asked)| question.deadline <= now && *asked >= heard)
            {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer is silent")));
            }
            open.retain(|_, (question, _)| question.deadline > now);
            review.as_mut().reset(now + REVIEW);
        }
        Poll::Pending
    })
    .await
}

fn numbered(number: u64, content: Bytes) -> [Bytes; 2] {
    let mut head = BytesMut::with_capacity(8);
    head.put_u64(number);
    [head.freeze(), content]
}

/// Answers the questions of one peer until it closes.
///
/// # Errors
/// What broke the connection.
pub(super) async fn serve(
    context: &Context,
    mut frames: Frames,
    from: u64,
    service: &Arc<dyn Service>,
) -> io::Result<()> {
    let mut working = FuturesUnordered::new();
    let max_answer = context.max_frame();
    let mut step = move |cx: &mut Task<'_>| -> Poll<io::Result<()>> {
        loop {
            while let Poll::Ready(Some((number, answer))) = working.poll_next_unpin(cx) {
                let answer: Bytes = answer;
                if answer.len() + 64 > max_answer {
                    return Poll::Ready(Err(io::Error::other("an answer too large to send")));
                }
                frames.queue(numbered(number, answer))?;
            }
            if let Poll::Ready(Err(error)) = frames.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
            // Whoever asks and doesn't listen is not asked what else he wants.
            if working.len() >= WINDOW || frames.queued() >= WINDOW {
                return Poll::Pending;
            }
            match frames.poll_next(cx)? {
                Poll::Ready(Some(frame)) => {
                    let mut reader = Reader::new(frame);
                    let number = reader.u64("number").map_err(io::Error::other)?;
                    let request = reader.rest();
                    let service = Arc::clone(service);
                    working.push(async move { (number, service.serve(from, request).await) });
                }
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    };
    poll_fn(|cx| step(cx)).await
}
