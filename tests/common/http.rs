//! Asking one node, once. Blocking; a node that is silent is an answer too (`None`).

use std::time::Duration;

use serde_json::Value;

/// What a node said.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    pub headers: Vec<(String, String)>,
}

impl Answer {
    pub fn is_ok(&self) -> bool {
        self.status == 200
    }

    /// The refusal's code, or "".
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body of a 200.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.is_ok(), "expected 200, got {} {}", self.status, self.body);
        self.body
    }
}

/// A request to one node.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: &'static str,
    pub url: String,
    pub body: Vec<u8>,
    pub content_type: &'static str,
    pub key: Option<String>,
    pub timeout: Duration,
}

impl Request {
    pub fn post(address: &str, action: &str, body: &Value) -> Self {
        let (service, name) = action.split_once('.').expect("SERVICE.ACTION");
        Self {
            method: "POST",
            url: format!("http://{address}/api/{service}/{name}"),
            body: body.to_string().into_bytes(),
            content_type: "application/json",
            key: None,
            timeout: Duration::from_secs(20),
        }
    }

    pub fn get(address: &str, path: &str) -> Self {
        Self {
            method: "GET",
            url: format!("http://{address}{path}"),
            body: Vec::new(),
            ..Self::post(address, "a.b", &Value::Null)
        }
    }

    pub fn key(self, key: impl Into<String>) -> Self {
        Self {
            key: Some(key.into()),
            ..self
        }
    }

    pub fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Answered from the node's own state.
    pub fn local(self) -> Self {
        Self {
            url: format!("{}?consistency=local", self.url),
            ..self
        }
    }

    /// Sends it on a connection of its own; `None` if no answer came.
    pub fn send(&self) -> Option<Answer> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(self.timeout))
            .max_idle_connections(0)
            .build()
            .into();
        let mut request = ureq::http::Request::builder().method(self.method).uri(&self.url);
        if self.method == "POST" {
            request = request.header("content-type", self.content_type);
        }
        if let Some(key) = &self.key {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(self.body.clone()).expect("a request");
        let mut response = agent.run(request).ok()?;
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                (
                    name.as_str().to_owned(),
                    value.to_str().unwrap_or_default().to_owned(),
                )
            })
            .collect();
        let status = response.status().as_u16();
        let text = response
            .body_mut()
            .with_config()
            .limit(256 << 20)
            .read_to_string()
            .ok()?;
        let body = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        };
        Some(Answer {
            status,
            body,
            headers,
        })
    }
}
