//! An answer: JSON, and the ledger's time of which it is true.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use ledger::Timestamp;
use serde_json::Value;

use super::backend::Receipt;

/// The header that carries the ledger's time in milliseconds, in every answer.
pub(crate) const NOW: HeaderName = HeaderName::from_static("gridseal-now");

/// What an action answers when it isn't refused.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The body.
    pub(crate) body: Value,
    /// The ledger's time, where the action knows it better than the edge.
    pub(crate) now: Option<Timestamp>,
}

impl Answer {
    /// The answer to an action that was ordered through the log.
    pub(crate) fn to(receipt: &Receipt, body: Value) -> Answer {
        Answer {
            body,
            now: Some(receipt.now),
        }
    }
}

impl From<Value> for Answer {
    fn from(body: Value) -> Self {
        Answer { body, now: None }
    }
}

/// A JSON response.
pub(crate) fn json(status: StatusCode, body: &Value, now: Timestamp) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(NOW, HeaderValue::from(now.get()));
    response
}
