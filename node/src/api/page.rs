//! The page at `/`: where this node stands, its last blocks, and where to go from here. One file of its own, no
//! script from elsewhere; it asks this node's own API.

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use super::Edge;
use super::answer::NOW;

const PAGE: &str = include_str!("page.html");

/// The page.
pub(crate) async fn page(State(edge): State<Edge>) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(
                "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'",
            ),
        ),
        (NOW, HeaderValue::from(edge.now().get())),
    ];
    (headers, PAGE).into_response()
}
