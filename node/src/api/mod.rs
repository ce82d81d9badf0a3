//! The HTTP edge of a node: `POST` and `GET /api/<service>/<action>`, and what operators ask.
//!
//! ```text
//! request ─ route ─ Call (body + query → Params) ─ handler ─┬─ submit ─ Backend ─ … ─ receipt ─ outcome ─ Answer
//!                                                           └─ barrier ─ read the ledger ─────────────── Answer
//!                      every error on the way is a Fault ─ status, code, message, once ───────────────── JSON
//! ```
//!
//! | file | what |
//! |---|---|
//! | [`backend`] | what the edge asks of a node |
//! | `route` | the table of actions: routing, parameters, OpenAPI |
//! | `call`, `json`, `query`, `params` | from bytes to values that can't be wrong |
//! | `asset`, `contract`, `meritorder`, `balancing`, … | one file a service |
//! | `outcome`, `wire` | from the ledger's words to JSON |
//! | `error` | from what went wrong to a status |
//! | `openapi` | the document, made of the table and checked in |
//! | `stream` | settlements in binary frames, past HTTP and JSON |
//! | `health`, `page` | for operators |
//!
//! What always holds: every answer carries the ledger's time (`GridSeal-Now`, and `now` in errors); a write is
//! answered after it was applied here, or with an error that says whether it may still have an effect; a
//! read shows all that was acknowledged before it, unless the client says `consistency=local`; there is no 500.
//!
//! Absent on purpose: sockets, clocks and randomness (this runs in a simulator as it is); knowledge of Raft; EAF's
//! `metering.updateReading` and `.lastReading`, whose memory of readings would have to be the ledger's to be safe; EAF's
//! `contract.process`, which counted energy on a contract by hand: here only sealing does.

pub mod backend;

mod access;
mod answer;
mod asset;
mod audit;
mod balancing;
mod call;
mod cluster;
mod contract;
mod demometer;
mod envelope;
mod error;
mod filter;
mod health;
mod json;
mod meritorder;
mod openapi;
mod outcome;
mod page;
mod params;
mod query;
mod route;
mod settlement;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::Response;
use axum::routing::get;
use ledger::Timestamp;
use tokio::time::Instant;

use crate::config::Cluster;
use crate::metrics::Metrics;
use backend::Backend;
use call::Call;
use error::Fault;
use route::Route;

/// What one request may ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Largest body, in bytes.
    pub(crate) body_bytes: usize,
    /// Most settlements.
    pub(crate) batch: usize,
}

/// What all requests share.
#[derive(Clone)]
pub(crate) struct Edge {
    backend: Arc<dyn Backend>,
    limits: Limits,
    metrics: Arc<Metrics>,
}

impl Edge {
    fn now(&self) -> Timestamp {
        self.backend.ledger().read().now()
    }
}

/// All that a node serves over HTTP.
pub fn router<B: Backend>(backend: Arc<B>, cluster: &Cluster) -> Router {
    let limits = Limits {
        body_bytes: cluster.limits.body_bytes,
        batch: cluster.limits.batch,
    };
    let edge = Edge {
        backend,
        limits,
        metrics: Arc::new(Metrics::new()),
    };
    Router::new()
        .route("/", get(page::page))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route("/api/openapi.json", get(openapi::serve))
        .route(crate::stream::PATH, get(stream::open))
        .method_not_allowed_fallback(dispatch)
        .fallback(dispatch)
        .with_state(edge)
}

/// Everything under `/api/`, and what isn't there.
async fn dispatch(State(edge): State<Edge>, request: Request) -> Response {
    let begun = Instant::now();
    let path = request.uri().path().to_owned();
    let found = find(&path, request.method());
    let action = found.as_ref().map_or("unknown", |route| route.name);
    let result = match found {
        Ok(route) => perform(&edge, route, request).await,
        Err(fault) => Err(fault),
    };
    let response = match result {
        Ok(answer) => answer::json(
            axum::http::StatusCode::OK,
            &answer.body,
            answer.now.unwrap_or_else(|| edge.now()),
        ),
        Err(fault) => {
            let now = fault.now().unwrap_or_else(|| edge.now());
            let mut response = answer::json(fault.status().0, &fault.body(now), now);
            response.headers_mut().extend(fault.headers());
            response
        }
    };
    edge.metrics
        .answered(action, response.status().as_u16(), begun.elapsed());
    response
}

fn find(path: &str, method: &Method) -> Result<&'static Route, Fault> {
    let mut parts = path
        .strip_prefix("/api/")
        .unwrap_or_default()
        .trim_end_matches('/')
        .split('/');
    let (service, action) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let route = route::find(service, action)
        .filter(|_| parts.next().is_none())
        .ok_or_else(|| Fault::NoSuchAction {
            name: path.chars().take(120).collect(),
            hint: route::similar(service, action).map(|route| route.name),
        })?;
    if !route.methods.allow(method) {
        return Err(Fault::Method {
            route,
            method: method.to_string(),
        });
    }
    Ok(route)
}

async fn perform(edge: &Edge, route: &'static Route, request: Request) -> Result<answer::Answer, Fault> {
    let (call, consistency) = Call::read(request, route, Arc::clone(&edge.backend), edge.limits).await?;
    call.settle(route.access, consistency).await?;
    (route.handler)(call).await
}
