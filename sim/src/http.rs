//! A client's HTTP: one connection a node, kept while it works, and honest about silence.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use raft::Network;
use serde_json::Value;

use crate::host::ip;

/// The port nodes serve HTTP on.
pub const API_PORT: u16 = 3000;

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// HTTP's number.
    pub status: u16,
    /// The body; null if it was empty.
    pub body: Value,
    /// The ledger's time when it was given.
    pub now: Option<u64>,
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

    /// Calls `service.action` of a node.
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
        // Taken out: a connection whose call is given up half-way is never used again.
        let open = self.open.remove(&node);
        let asked = async {
            let mut sender = match open {
                Some(sender) if !sender.is_closed() => sender,
                _ => self.connect(node).await?,
            };
            let mut request = Request::post(format!("/api/{}", action.replace('.', "/")))
                .header("host", "node")
                .header("content-type", "application/json");
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
            let request = request
                .body(Full::new(Bytes::from(body.to_string())))
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
