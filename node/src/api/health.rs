//! Whether to send this node work: `/healthz`, `/readyz`, `/metrics`.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Edge;
use super::answer::{self, NOW};
use super::backend::Backend;

/// What keeps a node from being ready; nothing, if it is.
pub(crate) fn missing(backend: &dyn Backend) -> Vec<String> {
    let status = backend.status();
    let mut missing = Vec::new();
    if status.leader.is_none() {
        missing.push("no leader is known".to_owned());
    }
    let applied = backend.ledger().read().applied().unwrap_or(0);
    match status.ready_at {
        None => missing.push("it isn't known yet what was committed when the node started".to_owned()),
        Some(index) if applied < index => {
            missing.push(format!(
                "the log is applied up to {applied} of the {index} that were committed at the start"
            ));
        }
        Some(_) => {}
    }
    missing.extend(status.alarms.iter().map(|alarm| format!("alarm: {alarm}")));
    missing
}

/// The process lives.
pub(crate) async fn healthz(State(edge): State<Edge>) -> Response {
    answer::json(StatusCode::OK, &json!({ "alive": true }), edge.now())
}

/// The node can take work: it has a leader, has applied what was committed when it started, and has no alarm.
pub(crate) async fn readyz(State(edge): State<Edge>) -> Response {
    let missing = missing(&*edge.backend);
    let status = if missing.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    answer::json(
        status,
        &json!({ "ready": missing.is_empty(), "missing": missing }),
        edge.now(),
    )
}

/// Prometheus's text.
pub(crate) async fn metrics(State(edge): State<Edge>) -> Response {
    let ready = missing(&*edge.backend).is_empty();
    let text = edge.metrics.text(&*edge.backend, ready);
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    (
        [(CONTENT_TYPE, kind), (NOW, HeaderValue::from(edge.now().get()))],
        text,
    )
        .into_response()
}
