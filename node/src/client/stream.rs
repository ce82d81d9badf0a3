//! A client of the binary stream (see [`crate::stream`] for what travels on it).
//!
//! Many may ask at once over one connection; what they ask meanwhile leaves in one piece, and so do the answers
//! that come back. A connection that breaks is not mended: whoever waits on it learns that his outcome is
//! unknown, and asks again on another, with the same nonce.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ledger::canonical::Canonical;
use ledger::{Action, Envelope, Nonce, Settlement};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::stream::{self, PATH, PROTOCOL, Question, Reply};

/// Questions that wait to be written before whoever asks has to wait.
const QUEUE: usize = 4_096;
/// Longest answer that is taken.
const ANSWER: usize = 256 << 10;
/// Longest head of the HTTP answer at the beginning.
const HEAD: usize = 16 << 10;

/// One connection. Clones are the same one; it ends with the last of them.
#[derive(Clone, Debug)]
pub struct StreamClient {
    questions: mpsc::Sender<(Question, Answer)>,
}

type Answer = oneshot::Sender<Reply>;

/// Who waits for which number. `None` once the connection has ended.
type Open = Arc<Mutex<Option<BTreeMap<u64, Answer>>>>;

impl StreamClient {
    /// Connects to a node's API at `host:port`.
    ///
    /// # Errors
    /// What the network says, or what the node answered instead of a stream.
    pub async fn connect(addr: &str) -> io::Result<StreamClient> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        StreamClient::over(stream, addr).await
    }

    /// Begins a stream over a connection to a node's API; `host` is what it is called.
    ///
    /// # Errors
    /// See [`StreamClient::connect`].
    pub async fn over<S>(mut io: S, host: &str) -> io::Result<StreamClient>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let head = format!(
            "GET {PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n\r\n"
        );
        io.write_all(head.as_bytes()).await?;
        let inbox = switched(&mut io).await?;
        let (reading, writing) = tokio::io::split(io);
        let (questions, queue) = mpsc::channel(QUEUE);
        let open: Open = Arc::new(Mutex::new(Some(BTreeMap::new())));
        tokio::spawn(write(writing, queue, Arc::clone(&open)));
        tokio::spawn(async move {
            let ended = read(reading, inbox, &open).await;
            if let Err(error) = ended {
                tracing::debug!(%error, "a stream ended");
            }
            // All that wait learn that nobody will answer.
            open.lock().take();
        });
        Ok(StreamClient { questions })
    }

    /// Books settlements, all or none; with a nonce once, however often it is asked.
    ///
    /// # Errors
    /// The connection ended: the outcome is unknown.
    pub async fn settle(&self, settlements: Vec<Settlement>, nonce: Option<Nonce>) -> io::Result<Reply> {
        self.ask(Question::settle(&Action::Settle { settlements }, nonce))
            .await
    }

    /// Orders what is signed already.
    ///
    /// # Errors
    /// The connection ended: the outcome is unknown.
    pub async fn submit(&self, envelope: &Envelope) -> io::Result<Reply> {
        self.ask(Question::Envelope(Bytes::from(envelope.to_bytes())))
            .await
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The connection ended: the outcome is unknown.
    pub async fn ask(&self, question: Question) -> io::Result<Reply> {
        let lost = || io::Error::new(io::ErrorKind::ConnectionAborted, "the stream has ended");
        let (answer, reply) = oneshot::channel();
        self.questions
            .send((question, answer))
            .await
            .map_err(|_| lost())?;
        reply.await.map_err(|_| lost())
    }
}

/// Reads the head of the node's answer, and returns what came behind it.
async fn switched(io: &mut (impl AsyncRead + Unpin)) -> io::Result<BytesMut> {
    let mut inbox = BytesMut::new();
    let end = loop {
        if let Some(end) = inbox.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if inbox.len() > HEAD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an endless head"));
        }
        if io.read_buf(&mut inbox).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = inbox.split_to(end);
    if head.starts_with(b"HTTP/1.1 101 ") {
        return Ok(inbox);
    }
    let text = String::from_utf8_lossy(&head);
    let status = text.lines().next().unwrap_or_default();
    Err(io::Error::other(format!("no stream but {status}")))
}

/// Writes questions, as many at once as there are.
async fn write<S: AsyncWrite>(
    mut writing: WriteHalf<S>,
    mut queue: mpsc::Receiver<(Question, Answer)>,
    open: Open,
) {
    let (mut asked, mut out, mut number) = (Vec::new(), BytesMut::new(), 0u64);
    while queue.recv_many(&mut asked, QUEUE).await > 0 {
        // Whoever asked first has woken this task, which would run before the others on its thread have asked.
        tokio::task::yield_now().await;
        asked.extend(std::iter::from_fn(|| queue.try_recv().ok()).take(QUEUE));
        {
            let mut open = open.lock();
            let Some(open) = open.as_mut() else { return };
            for (question, answer) in asked.drain(..) {
                number += 1;
                question.put(number, &mut out);
                open.insert(number, answer);
            }
        }
        if writing.write_all(&out).await.is_err() {
            return;
        }
        out.clear();
    }
    // Nobody can ask any more. The node answers what is open and closes.
    let _ = writing.shutdown().await;
}

/// Reads answers until the node closes.
async fn read<S: AsyncRead>(mut reading: ReadHalf<S>, mut inbox: BytesMut, open: &Open) -> io::Result<()> {
    loop {
        while let Some(frame) = stream::take(&mut inbox, ANSWER).map_err(io::Error::other)? {
            let number = frame.number;
            let reply = Reply::read(frame)?;
            let answer = open.lock().as_mut().and_then(|open| open.remove(&number));
            match answer {
                // Whoever asked may have given up.
                Some(answer) => drop(answer.send(reply)),
                None => return Err(io::Error::other(format!("an answer to no question: {reply:?}"))),
            }
        }
        inbox.reserve(64 << 10);
        if reading.read_buf(&mut inbox).await? == 0 {
            return Ok(());
        }
    }
}
