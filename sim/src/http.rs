//! A client's HTTP: one connection a node, kept while it works, and honest about silence.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use ledger::canonical::Canonical as _;
use ledger::roster::{Row, Rows};
use ledger::{Epoch, RosterBatch};
use raft::Network;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::host::ip;

/// The port nodes serve HTTP on.
pub const API_PORT: u16 = 3000;

/// Bytes of an answer that are shown.
const SHOWN: usize = 200;

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// HTTP's number.
    pub status: u16,
    /// The body; null if it was empty.
    pub body: Value,
    /// The same as it came.
    pub bytes: Bytes,
    /// The ledger's time when it was given.
    pub now: Option<u64>,
}

impl fmt::Display for Answer {
    /// In short: how it begins, and what tells it from all others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begins = &self.bytes[..self.bytes.len().min(SHOWN)];
        let digest = Sha256::digest(&self.bytes);
        let (digest, _) = digest.split_at(8);
        write!(
            f,
            "{} {} ({} bytes, {})",
            self.status,
            String::from_utf8_lossy(begins),
            self.bytes.len(),
            hex::encode(digest)
        )
    }
}

/// No answer: whatever was asked may have been done, or may yet be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// The connection could not be made: certainly nothing was asked.
    NotSent(String),
    /// The deadline passed.
    Deadline,
    /// The connection broke.
    Broken(String),
}

/// A client.
pub struct Http {
    network: Arc<dyn Network>,
    open: BTreeMap<u64, SendRequest<Full<Bytes>>>,
}

impl Http {
    /// A client without connections.
    pub fn new(network: Arc<dyn Network>) -> Self {
        Http {
            network,
            open: BTreeMap::new(),
        }
    }

    /// Calls `service.action` of a node. A body with `rows` goes out as a packed batch, any other as JSON.
    ///
    /// # Errors
    /// See [`Silence`].
    pub async fn call(
        &mut self,
        node: u64,
        action: &str,
        key: Option<&str>,
        body: &Value,
        deadline: Duration,
    ) -> Result<Answer, Silence> {
        let (kind, content) = encode(body);
        // Taken out: a connection whose call is given up half-way is never used again.
        let open = self.open.remove(&node);
        let asked = async {
            let mut sender = match open {
                Some(sender) if !sender.is_closed() => sender,
                _ => self.connect(node).await?,
            };
            let mut request = Request::post(format!("/api/{}", action.replace('.', "/")))
                .header("host", "node")
                .header("content-type", kind);
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
            let request = request
                .body(Full::new(content))
                .map_err(|e| Silence::NotSent(e.to_string()))?;
            let broken = |e: hyper::Error| Silence::Broken(e.to_string());
            sender.ready().await.map_err(broken)?;
            let response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status();
            let now = response.headers().get("gridseal-now");
            let now = now.and_then(|now| now.to_str().ok()?.parse().ok());
            let bytes = response.into_body().collect().await.map_err(broken)?.to_bytes();
            Ok((sender, status, bytes, now))
        };
        match tokio::time::timeout(deadline, asked).await {
            Err(_) => Err(Silence::Deadline),
            Ok(Err(silence)) => Err(silence),
            Ok(Ok((sender, status, bytes, now))) => {
                self.open.insert(node, sender);
                Ok(Answer {
                    status: StatusCode::as_u16(&status),
                    body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
                    bytes,
                    now,
                })
            }
        }
    }

    async fn connect(&self, node: u64) -> Result<SendRequest<Full<Bytes>>, Silence> {
        let addr = SocketAddr::new(ip(node), API_PORT).to_string();
        let stream = self
            .network
            .dial(&addr)
            .await
            .map_err(|e| Silence::NotSent(e.to_string()))?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|e| Silence::NotSent(e.to_string()))?;
        // Its error is also the sender's, who tells it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}

/// A body as it travels: its type, and its bytes.
fn encode(body: &Value) -> (&'static str, Bytes) {
    match packed(body) {
        Some(batch) => ("application/vnd.gridseal.batch", Bytes::from(batch.to_bytes())),
        None => ("application/json", Bytes::from(body.to_string())),
    }
}

/// `{roster, epoch, label, rows: [[place, Wh, g CO2], …]}`.
fn packed(body: &Value) -> Option<RosterBatch> {
    let mut rows = Rows::default();
    for row in body["rows"].as_array()? {
        rows.push(Row {
            place: u32::try_from(row[0].as_u64()?).ok()?,
            consumption: row[1].as_i64()?,
            co2eq: row[2].as_i64()?,
        });
    }
    Some(RosterBatch {
        roster: serde_json::from_value(body["roster"].clone()).ok()?,
        epoch: Epoch::new(body["epoch"].as_u64()?).ok()?,
        label: body["label"].as_str()?.try_into().ok()?,
        rows,
    })
}
