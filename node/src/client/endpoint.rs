//! One node and its idle connections.

use std::collections::VecDeque;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Reply;

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(5);

type Connection = SendRequest<Full<Bytes>>;

/// One node and its idle connections.
#[derive(Debug)]
pub(super) struct Endpoint {
    address: String,
    idle: Mutex<VecDeque<Connection>>,
}

impl Endpoint {
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            idle: Mutex::default(),
        }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request and waits for all of its reply. An error is silence, in words.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Reply, String> {
        let mut connection = match self.take_idle() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let response = connection
            .send_request(request)
            .await
            .map_err(|error| chain(&error))?;
        let status = response.status().as_u16();
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
        self.idle.lock().push_back(connection);
        Ok(Reply { status, body, now })
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        while let Some(connection) = idle.pop_front() {
            if connection.is_ready() && !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    async fn connect(&self) -> Result<Connection, String> {
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
