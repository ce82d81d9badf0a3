//! The node's end of the binary stream; what travels on it is described in [`crate::stream`].
//!
//! One task serves one connection: it reads what has arrived, asks the node for each frame, and writes all answers
//! that are ready in one piece. A client that asks faster than the node answers, or reads slower, finds its bytes
//! left in the socket: questions, their bytes and unread answers are bounded.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::{Buf, BytesMut};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use hyper_util::rt::TokioIo;
use ledger::canonical::Canonical;
use ledger::{Action, Envelope, Outcome};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::Instant;

use super::Edge;
use super::answer::{self, NOW};
use super::backend::Receipt;
use super::call::accepted;
use super::error::Fault;
use crate::stream::{self, Frame, PROTOCOL, Question, Reply};

/// Questions of one connection that may be open at once.
const WINDOW: usize = 4_096;
/// Answers that may wait for a client to read them, in bytes.
const UNREAD: usize = 1 << 20;
/// Room made for one read.
const READ: usize = 64 << 10;

/// Answers `GET /api/stream`.
pub(super) async fn open(State(edge): State<Edge>, mut request: Request) -> Response {
    if !wants_stream(request.headers()) {
        return refuse(&edge);
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let now = HeaderValue::from(edge.now().get());
    tokio::spawn(async move {
        let served = match upgrade.await {
            Ok(upgraded) => serve(edge, TokioIo::new(upgraded)).await,
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a stream ended");
        }
    });
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    headers.insert(NOW, now);
    response
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let wanted = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    wanted.is_some_and(|wanted| wanted.trim().eq_ignore_ascii_case(PROTOCOL))
}

fn refuse(edge: &Edge) -> Response {
    let (fault, now) = (Fault::NoUpgrade, edge.now());
    let mut response = answer::json(fault.status().0, &fault.body(now), now);
    response.headers_mut().extend(fault.headers());
    response
}

/// What became of one question: its number, its bytes, and the answer.
type Answered = (u64, usize, Reply);

/// One connection.
struct Connection<S> {
    edge: Edge,
    io: S,
    inbox: BytesMut,
    outbox: BytesMut,
    open: FuturesUnordered<BoxFuture<'static, Answered>>,
    /// Bytes of the open questions.
    open_bytes: usize,
    /// No question follows: the client has closed its side, or sent what is no frame.
    last: bool,
}

/// Serves a stream until the client closes it.
///
/// # Errors
/// What broke the connection.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(edge: Edge, io: S) -> io::Result<()> {
    let mut connection = Connection {
        edge,
        io,
        inbox: BytesMut::new(),
        outbox: BytesMut::new(),
        open: FuturesUnordered::new(),
        open_bytes: 0,
        last: false,
    };
    std::future::poll_fn(|cx| connection.poll(cx)).await
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // First what arrived, then what is answered, then one write: each step feeds the next.
            let starved = self.poll_questions(cx)?;
            let more_answers = self.poll_answers(cx);
            let flushed = self.poll_flush(cx)?;
            if self.last && self.open.is_empty() && flushed.is_ready() {
                return pin!(&mut self.io).poll_shutdown(cx);
            }
            // Round again as long as this made room for what was left lying; else something that was just polled
            // will wake this task.
            let room = self.outbox.len() < UNREAD;
            if !(more_answers && room || !starved && self.has_room()) {
                return Poll::Pending;
            }
        }
    }

    fn has_room(&self) -> bool {
        self.open.len() < WINDOW
            && self.outbox.len() < UNREAD
            && self.open_bytes < 2 * self.edge.limits.body_bytes
    }

    /// Takes questions while there is room; whether it ran out of them.
    fn poll_questions(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        while !self.last && self.has_room() {
            match stream::take(&mut self.inbox, self.edge.limits.body_bytes) {
                Ok(Some(frame)) => self.ask(frame),
                Ok(None) => {
                    self.inbox.reserve(READ);
                    match pin!(self.io.read_buf(&mut self.inbox)).poll(cx)? {
                        Poll::Ready(0) => self.last = true,
                        Poll::Ready(_) => {}
                        Poll::Pending => return Ok(true),
                    }
                }
                Err(no_frame) => {
                    let fault = Fault::Frame {
                        message: no_frame.to_string(),
                    };
                    failed(&self.edge, &fault).put(0, &mut self.outbox);
                    self.last = true;
                }
            }
        }
        Ok(self.last)
    }

    /// Takes answers while there is room for them; whether some may be left.
    fn poll_answers(&mut self, cx: &mut Context<'_>) -> bool {
        while self.outbox.len() < UNREAD {
            let Poll::Ready(Some((number, bytes, reply))) = self.open.poll_next_unpin(cx) else {
                return false;
            };
            self.open_bytes -= bytes;
            reply.put(number, &mut self.outbox);
        }
        true
    }

    fn ask(&mut self, frame: Frame) {
        let (number, bytes) = (frame.number, frame.content.len());
        let Some(question) = Question::read(frame) else {
            let fault = Fault::Frame {
                message: "neither settlements nor an envelope".to_owned(),
            };
            failed(&self.edge, &fault).put(number, &mut self.outbox);
            self.last = true;
            return;
        };
        self.open_bytes += bytes;
        let edge = self.edge.clone();
        self.open.push(Box::pin(async move {
            let begun = Instant::now();
            let (name, result) = match question {
                Question::Settle { nonce, action } => ("stream.settle", settle(&edge, nonce, &action).await),
                Question::Envelope(bytes) => ("stream.envelope", envelope(&edge, &bytes).await),
            };
            let (status, reply) = match result {
                Ok(receipt) => (StatusCode::OK, done(&receipt)),
                Err(fault) => (fault.status().0, failed(&edge, &fault)),
            };
            edge.metrics.answered(name, status.as_u16(), begun.elapsed());
            (number, bytes, reply)
        }));
    }

    /// Writes what is answered.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.outbox.has_remaining() {
            match Pin::new(&mut self.io).poll_write(cx, &self.outbox)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => self.outbox.advance(written),
                Poll::Pending => return Poll::Pending,
            }
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

async fn settle(edge: &Edge, nonce: Option<ledger::Nonce>, bytes: &[u8]) -> Result<Receipt, Fault> {
    let action = Action::from_bytes(bytes)
        .map_err(|error| malformed("settlements", bytes, &format!("a canonical Settle ({error})")))?;
    match &action {
        Action::Settle { settlements } => bounded(edge, settlements.len())?,
        Action::SettleRoster { batch } => bounded(edge, batch.rows.len())?,
        _ => return Err(malformed("settlements", bytes, "a Settle; others are signed")),
    }
    accepted(edge.backend.submit(action, nonce).await?)
}

async fn envelope(edge: &Edge, bytes: &[u8]) -> Result<Receipt, Fault> {
    let envelope = Envelope::from_bytes(bytes)
        .map_err(|error| malformed("envelope", bytes, &format!("a canonical envelope ({error})")))?;
    accepted(edge.backend.submit_envelope(envelope).await?)
}

fn bounded(edge: &Edge, count: usize) -> Result<(), Fault> {
    let limit = edge.limits.batch;
    if count == 0 {
        return Err(Fault::Missing {
            field: "settlements".to_owned(),
            expected: "at least one settlement".to_owned(),
        });
    }
    if count > limit {
        return Err(Fault::BatchTooLarge { count, limit });
    }
    Ok(())
}

fn malformed(field: &str, bytes: &[u8], expected: &str) -> Fault {
    Fault::Invalid {
        field: field.to_owned(),
        got: format!("{} bytes", bytes.len()),
        expected: expected.to_owned(),
    }
}

fn done(receipt: &Receipt) -> Reply {
    let (first, count) = match &receipt.outcome {
        Outcome::Settled { first, count, .. } => (*first, *count),
        _ => (0, 0),
    };
    Reply::Done {
        index: receipt.outcome.index().unwrap_or(receipt.index),
        first,
        count,
        now: receipt.now,
    }
}

fn failed(edge: &Edge, fault: &Fault) -> Reply {
    let (status, code) = fault.status();
    Reply::Failed {
        status: status.as_u16(),
        now: fault.now().unwrap_or_else(|| edge.now()),
        code: code.to_owned(),
        message: fault.message(),
    }
}
