//! A small client of a cluster's HTTP API: keeps connections, goes on to the next node, follows the leader.
//!
//! ```no_run
//! # async fn example() -> Result<(), gridseal::client::Error> {
//! use std::time::Duration;
//! use gridseal::client::{Ask, Client};
//! use serde_json::json;
//!
//! let nodes = ["127.0.0.1:3000", "127.0.0.1:3001", "127.0.0.1:3002"].map(str::to_owned);
//! let client = Client::new(nodes, Duration::from_secs(30));
//! let reading = json!({"meterId": "roof", "epoch": 1337, "consumption": 500, "label": "virtual_1"});
//! let ask = Ask::once("balancing.addSettlement", &reading, "roof-1337");
//! let booked = client.call(0, &ask).await?.ok(&ask.action)?;
//! println!("{}", booked["statement"]);
//! # Ok(())
//! # }
//! ```
//!
//! What always holds: a write made with [`Ask::once`] carries an `Idempotency-Key`, the same on every node it is
//! tried on, so trying again after silence never does a thing twice. A refusal is an answer and is returned at
//! once; only silence, 429, 503 and 504 are tried again.
//!
//! [`Client::call`] is for those who want an answer; [`Client::send`] asks one node once and leaves the body as
//! it came, for those who count microseconds.
//!
//! [`stream::StreamClient`] asks many things at once over one connection, without HTTP's cost a request.
//!
//! Absent on purpose: TLS, redirects, proxies, cookies. The cluster speaks plain HTTP on a trusted interface.

mod answer;
mod ask;
mod endpoint;
mod error;
pub mod stream;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

pub use answer::{Answer, Reply};
pub use ask::Ask;
pub use error::Error;

use endpoint::Endpoint;

/// How long one attempt on one node may take: longer than a node's own deadline, so that its 504 arrives.
const ATTEMPT: Duration = Duration::from_secs(15);
/// The pause after every node was tried without an answer.
const PAUSE: Duration = Duration::from_millis(50);

/// A client of one cluster. Calls may run at once; each takes a connection of its own from those that are idle.
#[derive(Debug)]
pub struct Client {
    nodes: Vec<Endpoint>,
    /// How long to go on trying.
    patience: Duration,
}

impl Client {
    /// A client of the nodes at `host:port`; `patience` bounds all attempts of a call together.
    pub fn new(nodes: impl IntoIterator<Item = String>, patience: Duration) -> Self {
        Self {
            nodes: nodes.into_iter().map(Endpoint::new).collect(),
            patience,
        }
    }

    /// How many nodes it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it knows none, and so can ask nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The address of a node by its position (modulo their number).
    #[must_use]
    pub fn address(&self, node: usize) -> &str {
        self.nodes[node % self.nodes.len()].address()
    }

    /// Asks the node at position `first` (modulo their number), then the others in turn, until one answers.
    ///
    /// # Errors
    /// [`Error::NoAnswer`] when patience ends without one, saying what the last attempt met;
    /// [`Error::Impossible`] if there is no such request.
    pub async fn call(&self, first: usize, ask: &Ask) -> Result<Answer, Error> {
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
                return Err(Error::NoAnswer(format!(
                    "{}: no answer: {last}{outcome}",
                    ask.action
                )));
            }
            if tried.is_multiple_of(self.nodes.len()) {
                sleep(PAUSE).await;
            }
        }
    }

    /// Asks one node once. The inner error is silence, in words: a write may have taken effect.
    ///
    /// # Errors
    /// [`Error::Impossible`] only.
    pub async fn ask(&self, node: usize, ask: &Ask) -> Result<Result<Answer, String>, Error> {
        let reply = self.send(node, ask).await?;
        Ok(reply.map(|reply| Answer::of(reply, self.address(node))))
    }

    /// As [`Client::ask`], with the body as it came.
    ///
    /// # Errors
    /// [`Error::Impossible`] only.
    pub async fn send(&self, node: usize, ask: &Ask) -> Result<Result<Reply, String>, Error> {
        let endpoint = &self.nodes[node % self.nodes.len()];
        let request = ask.request(endpoint.address())?;
        let attempt = timeout(ATTEMPT, endpoint.send(request)).await;
        Ok(match attempt {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(format!("{}: {error}", endpoint.address())),
            Err(_) => Err(format!(
                "{}: no answer within {} s",
                endpoint.address(),
                ATTEMPT.as_secs()
            )),
        })
    }

    /// The position of the node that leads, as the nodes say; `None` while none of them knows. Writes that are
    /// sent there save the way from node to node.
    pub async fn leader(&self) -> Option<usize> {
        let status = Ask::new("cluster.status", &serde_json::json!({}));
        for asked in 0..self.nodes.len() {
            // A node knows itself by its id; which address that is, only it can say.
            if let Ok(Ok(answer)) = self.ask(asked, &status).await
                && answer.is_ok()
                && answer.body["leader"].is_u64()
                && answer.body["leader"] == answer.body["node"]
            {
                return Some(asked);
            }
        }
        None
    }
}
