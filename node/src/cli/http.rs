//! A small HTTP/1.1 client for the cluster's own API: keeps connections, goes on to the next node.
//!
//! What always holds: a write carries an `Idempotency-Key`, the same on every node it is tried on, so trying
//! again after silence never does a thing twice. A refusal is an answer and is returned at once; only silence,
//! 429, 503 and 504 are tried again.
//!
//! Absent on purpose: TLS, redirects, proxies, cookies. The cluster speaks plain HTTP on a trusted interface.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::Failure;

/// How long one attempt on one node may take: longer than a node's own deadline, so that its 504 arrives.
const ATTEMPT: Duration = Duration::from_secs(15);
/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(2);
/// The pause after every node was tried without an answer.
const PAUSE: Duration = Duration::from_millis(50);

/// What a node said.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// Its HTTP status.
    pub(super) status: u16,
    /// Its body; `null` if there was none.
    pub(super) body: Value,
    /// `host:port` of the node.
    pub(super) node: String,
    /// The ledger's time, milliseconds: what a client chooses a `not_after` from.
    pub(super) now: Option<u64>,
}

impl Answer {
    /// Whether it is a 2xx.
    pub(super) fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The refusal's code, or "" if there is none.
    pub(super) fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    /// The body of a 2xx; else the refusal in words.
    pub(super) fn ok(self, what: &str) -> Result<Value, Failure> {
        if self.is_ok() {
            return Ok(self.body);
        }
        let message = self.body["error"]["message"]
            .as_str()
            .unwrap_or("no reason given");
        Err(Failure::Refused(format!(
            "{what}: {} {}: {message} ({})",
            self.status,
            self.code(),
            self.node
        )))
    }
}

/// What is asked of a node.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    /// `service.action`, or an absolute path that begins with `/`.
    pub(super) action: String,
    /// The JSON body; `None` asks with GET.
    pub(super) body: Option<Bytes>,
    /// Content type of the body.
    pub(super) content_type: &'static str,
    /// Makes a write exactly-once across retries.
    pub(super) key: Option<String>,
    /// Whether the answering node may answer from what it has.
    pub(super) local: bool,
}

impl Ask {
    /// A read or an idempotent call: trying again does no harm.
    pub(super) fn new(action: &str, body: &Value) -> Self {
        Self {
            action: action.to_owned(),
            body: Some(Bytes::from(body.to_string())),
            content_type: "application/json",
            key: None,
            local: false,
        }
    }

    /// A write, done once however often it is tried.
    pub(super) fn once(action: &str, body: &Value, key: impl Into<String>) -> Self {
        Self {
            key: Some(key.into()),
            ..Self::new(action, body)
        }
    }

    /// Answered from the node's own state, which may lag behind.
    pub(super) fn local(self) -> Self {
        Self { local: true, ..self }
    }

    /// A plain GET of a path such as `/readyz`.
    pub(super) fn get(path: &str) -> Self {
        Self {
            action: path.to_owned(),
            body: None,
            content_type: "",
            key: None,
            local: false,
        }
    }

    fn request(&self, host: &str) -> Result<Request<Full<Bytes>>, Failure> {
        let mut path = match self.action.split_once('.') {
            _ if self.action.starts_with('/') => self.action.clone(),
            Some((service, action)) => format!("/api/{service}/{action}"),
            None => {
                let message = format!(
                    "{:?} is no action: expected SERVICE.ACTION, as balancing.seal",
                    self.action
                );
                return Err(Failure::Usage(message));
            }
        };
        if self.local {
            path.push_str("?consistency=local");
        }
        let method = if self.body.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let mut request = Request::builder().method(method).uri(path).header("host", host);
        if self.body.is_some() {
            request = request.header("content-type", self.content_type);
        }
        if let Some(key) = &self.key {
            request = request.header("idempotency-key", key);
        }
        request
            .body(Full::new(self.body.clone().unwrap_or_default()))
            .map_err(|error| Failure::Usage(format!("{}: not a possible request: {error}", self.action)))
    }
}

/// A client of one cluster.
#[derive(Debug)]
pub(super) struct Client {
    nodes: Vec<Endpoint>,
    /// How long to go on trying.
    patience: Duration,
}

/// One node and its idle connections.
#[derive(Debug)]
struct Endpoint {
    address: String,
    idle: Mutex<VecDeque<SendRequest<Full<Bytes>>>>,
}

impl Client {
    /// A client of the nodes at `host:port`; `patience` bounds all attempts of a call together.
    pub(super) fn new(nodes: impl IntoIterator<Item = String>, patience: Duration) -> Self {
        let endpoint = |address| Endpoint {
            address,
            idle: Mutex::default(),
        };
        Self {
            nodes: nodes.into_iter().map(endpoint).collect(),
            patience,
        }
    }

    /// How many nodes it knows.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The address of a node by its position.
    pub(super) fn address(&self, node: usize) -> &str {
        &self.nodes[node % self.nodes.len()].address
    }

    /// Asks the node at position `first` (modulo their number), then the others in turn, until one answers.
    ///
    /// # Errors
    /// `Unavailable` when patience ends without an answer, saying what the last attempt met.
    pub(super) async fn call(&self, first: usize, ask: &Ask) -> Result<Answer, Failure> {
        let started = Instant::now();
        let mut tried = 0usize;
        loop {
            let last = match self.ask(first + tried, ask).await? {
                Ok(answer) if !matches!(answer.status, 429 | 503 | 504) => return Ok(answer),
                Ok(answer) => format!("{} answered {} {}", answer.node, answer.status, answer.code()),
                Err(silence) => silence,
            };
            tried += 1;
            if started.elapsed() >= self.patience {
                let outcome = if ask.key.is_some() {
                    "; it may have taken effect"
                } else {
                    ""
                };
                return Err(Failure::Unavailable(format!(
                    "{}: no answer: {last}{outcome}",
                    ask.action
                )));
            }
            if tried.is_multiple_of(self.nodes.len()) {
                sleep(PAUSE).await;
            }
        }
    }

    /// Asks one node once. The inner error is silence, in words.
    ///
    /// # Errors
    /// Only if the request itself is impossible.
    pub(super) async fn ask(&self, node: usize, ask: &Ask) -> Result<Result<Answer, String>, Failure> {
        let endpoint = &self.nodes[node % self.nodes.len()];
        let request = ask.request(&endpoint.address)?;
        let attempt = timeout(ATTEMPT, endpoint.send(request)).await;
        Ok(match attempt {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(format!("{}: {error}", endpoint.address)),
            Err(_) => Err(format!(
                "{}: no answer within {} s",
                endpoint.address,
                ATTEMPT.as_secs()
            )),
        })
    }
}

impl Endpoint {
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let mut connection = match self.take_idle() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let response = connection
            .send_request(request)
            .await
            .map_err(|error| chain(&error))?;
        let status = response.status();
        let now = response
            .headers()
            .get("gridseal-now")
            .and_then(|now| now.to_str().ok()?.parse().ok());
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|error| chain(&error))?
            .to_bytes();
        self.idle().push_back(connection);
        Ok(Answer {
            status: status.as_u16(),
            body: parse(status, &body),
            node: self.address.clone(),
            now,
        })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, VecDeque<SendRequest<Full<Bytes>>>> {
        // A panic while the list was held leaves a list of connections, each good or closed.
        self.idle
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle();
        while let Some(connection) = idle.pop_front() {
            if connection.is_ready() && !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let stream = timeout(CONNECT, TcpStream::connect(&self.address))
            .await
            .map_err(|_| format!("no connection within {} s", CONNECT.as_secs()))?
            .map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| chain(&error))?;
        // Ends by itself when the sender is dropped or the node closes.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// The body as JSON; a body that isn't JSON becomes a string, so that nothing a node said is lost.
fn parse(status: StatusCode, body: &Bytes) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(body).into_owned();
        if status.is_success() {
            Value::String(text)
        } else {
            serde_json::json!({"error": {"code": "not_json", "message": text}})
        }
    })
}

/// An error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// A node that answers each connection's one request with the next of `answers`, and reports the requests.
    async fn scripted(answers: Vec<&'static str>) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let (seen, requests) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            for answer in answers {
                let Ok((mut stream, _)) = listener.accept().await else {
                    return;
                };
                let mut buffer = vec![0; 65_536];
                let n = stream.read(&mut buffer).await.unwrap_or(0);
                let _ = seen.send(String::from_utf8_lossy(&buffer[..n]).into_owned());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (address, requests)
    }

    fn reply(status: &str, body: &str) -> &'static str {
        let text = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        Box::leak(text.into_boxed_str())
    }

    #[tokio::test]
    async fn a_write_is_tried_elsewhere_with_the_same_key_and_a_refusal_ends_it() {
        let (first, mut first_saw) = scripted(vec![reply(
            "503 Service Unavailable",
            "{\"error\":{\"code\":\"no_leader\"}}",
        )])
        .await;
        let refusal = "{\"error\":{\"code\":\"already_sealed\",\"message\":\"sealed\"}}";
        let (second, mut second_saw) = scripted(vec![reply("409 Conflict", refusal)]).await;
        let client = Client::new([first, second.clone()], Duration::from_secs(5));
        let ask = Ask::once("balancing.seal", &json!({"assetId": "a", "epoch": 1}), "k1");
        let answer = client.call(0, &ask).await.expect("an answer");
        assert_eq!(
            (answer.status, answer.code(), answer.node.as_str()),
            (409, "already_sealed", second.as_str())
        );
        for saw in [first_saw.recv().await, second_saw.recv().await] {
            let request = saw.expect("one request each");
            assert!(
                request.starts_with("POST /api/balancing/seal HTTP/1.1\r\n"),
                "{request}"
            );
            assert!(request.contains("idempotency-key: k1\r\n"), "{request}");
        }
    }

    #[tokio::test]
    async fn silence_everywhere_is_unavailable_and_says_that_a_write_may_have_taken_effect() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        drop(listener);
        let client = Client::new([address], Duration::from_millis(1));
        let failure = client
            .call(0, &Ask::once("a.b", &json!({}), "k"))
            .await
            .expect_err("nobody is there");
        assert!(
            matches!(&failure, Failure::Unavailable(text) if text.contains("may have taken effect")),
            "{failure}"
        );
    }

    #[test]
    fn an_action_needs_a_service() {
        assert!(matches!(
            Ask::new("seal", &json!({})).request("h"),
            Err(Failure::Usage(_))
        ));
    }
}
