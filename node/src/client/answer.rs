//! What a node said.

use hyper::body::Bytes;
use serde_json::Value;

use super::Error;

/// What a node said, with the body as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its HTTP status.
    pub status: u16,
    /// Its body; empty if there was none.
    pub body: Bytes,
    /// The ledger's time, milliseconds: what a client chooses a `not_after` from.
    pub now: Option<u64>,
}

impl Reply {
    /// Whether it is a 2xx.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// What a node said, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its HTTP status.
    pub status: u16,
    /// Its body; `null` if there was none.
    pub body: Value,
    /// `host:port` of the node.
    pub node: String,
    /// The ledger's time, milliseconds: what a client chooses a `not_after` from.
    pub now: Option<u64>,
}

impl Answer {
    /// A reply of the node at an address.
    pub(super) fn of(reply: Reply, node: &str) -> Self {
        Self {
            status: reply.status,
            body: parse(reply.is_ok(), &reply.body),
            node: node.to_owned(),
            now: reply.now,
        }
    }

    /// Whether it is a 2xx.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The refusal's code, or "" if there is none.
    #[must_use]
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    /// The body of a 2xx; else the refusal in words.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn ok(self, what: &str) -> Result<Value, Error> {
        if self.is_ok() {
            return Ok(self.body);
        }
        let message = self.body["error"]["message"]
            .as_str()
            .unwrap_or("no reason given");
        Err(Error::Refused(format!(
            "{what}: {} {}: {message} ({})",
            self.status,
            self.code(),
            self.node
        )))
    }
}

/// The body as JSON; a body that isn't JSON becomes a string, so that nothing a node said is lost.
fn parse(ok: bool, body: &Bytes) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(body).into_owned();
        if ok {
            Value::String(text)
        } else {
            serde_json::json!({"error": {"code": "not_json", "message": text}})
        }
    })
}
