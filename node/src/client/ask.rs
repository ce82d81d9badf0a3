//! What is asked of a node.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request};
use serde_json::Value;

use super::Error;

/// One request, to whichever node.
#[derive(Debug, Clone)]
pub struct Ask {
    /// `service.action`, or an absolute path that begins with `/`.
    pub action: String,
    /// The body; `None` asks with GET.
    pub body: Option<Bytes>,
    /// Content type of the body.
    pub content_type: &'static str,
    /// Makes a write exactly-once across retries.
    pub key: Option<String>,
    /// Whether the answering node may answer from what it has.
    pub local: bool,
}

impl Ask {
    /// A read, or a call that does no harm when it is tried again, with a JSON body.
    #[must_use]
    pub fn new(action: &str, body: &Value) -> Self {
        Self::bytes(action, "application/json", Bytes::from(body.to_string()))
    }

    /// As [`Ask::new`], with a body of any kind.
    #[must_use]
    pub fn bytes(action: &str, content_type: &'static str, body: Bytes) -> Self {
        Self {
            action: action.to_owned(),
            body: Some(body),
            content_type,
            key: None,
            local: false,
        }
    }

    /// A write, done once however often it is tried.
    #[must_use]
    pub fn once(action: &str, body: &Value, key: impl Into<String>) -> Self {
        Self {
            key: Some(key.into()),
            ..Self::new(action, body)
        }
    }

    /// Answered from the node's own state, which may lag behind.
    #[must_use]
    pub fn local(self) -> Self {
        Self { local: true, ..self }
    }

    /// A plain GET of a path such as `/readyz`.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self {
            action: path.to_owned(),
            body: None,
            content_type: "",
            key: None,
            local: false,
        }
    }

    pub(super) fn request(&self, host: &str) -> Result<Request<Full<Bytes>>, Error> {
        let mut path = match self.action.split_once('.') {
            _ if self.action.starts_with('/') => self.action.clone(),
            Some((service, action)) => format!("/api/{service}/{action}"),
            None => {
                let message = format!(
                    "{:?} is no action: expected SERVICE.ACTION, as balancing.seal",
                    self.action
                );
                return Err(Error::Impossible(message));
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
            .map_err(|error| Error::Impossible(format!("{}: not a possible request: {error}", self.action)))
    }
}
