//! The OpenAPI document: made of the table that routes, so it can't say anything else than what is served.
//!
//! It is checked in as `openapi.json`, so that a change of the API shows in a diff; a test says when it is out of
//! date, and `UPDATE=1 cargo test -p gridseal openapi` writes it. The named answers stand in `schemas.json`; the tests hold
//! every answer against them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::Edge;
use super::answer::NOW;
use super::error::CODES;
use super::route::{self, Access, Body, Route};

const SCHEMAS: &str = include_str!("schemas.json");

/// `/api/openapi.json`.
pub(crate) async fn serve(State(edge): State<Edge>) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (NOW, HeaderValue::from(edge.now().get())),
    ];
    (headers, DOCUMENT.as_str()).into_response()
}

/// The document as text. Made once: the table never changes.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", document()));

/// A schema that stands in the table as text. A test reads them all.
fn schema(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// The document.
pub(crate) fn document() -> Value {
    let mut paths = Map::new();
    for route in route::all() {
        let mut methods = Map::new();
        for method in route.methods.list() {
            let method = method.as_str().to_lowercase();
            let operation = operation(route, &method);
            methods.insert(method, operation);
        }
        paths.insert(
            format!("/api/{}/{}", route.service(), route.action()),
            Value::Object(methods),
        );
    }
    let plain = |about: &str, kind: &str| {
        json!({ "get": { "summary": about, "tags": ["operation"], "responses": {
            "200": { "description": "so it is", "content": { kind: {} } } } } })
    };
    paths.insert(
        "/healthz".to_owned(),
        plain("The process lives.", "application/json"),
    );
    let mut ready = plain(
        "The node has a leader, has applied what was committed when it started, and has no alarm.",
        "application/json",
    );
    ready["get"]["responses"]["503"] = json!({ "description": "not so; `missing` says what is" });
    paths.insert("/readyz".to_owned(), ready);
    paths.insert(
        "/metrics".to_owned(),
        plain("Metrics for Prometheus.", "application/openmetrics-text"),
    );
    paths.insert(
        "/api/openapi.json".to_owned(),
        plain("This document.", "application/json"),
    );
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "GridSeal",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Every node serves the same API. Numbers may stand in strings. Energy is in watt-hours, \
                co2eq in grams, money in millionths of the currency. Every answer carries the ledger's time in \
                milliseconds in the header GridSeal-Now. Errors are {error: {code, message, field?, …}, now}; programs \
                go by the code.",
        },
        "paths": paths,
        "components": { "schemas": schema(SCHEMAS), "headers": {
            "GridSeal-Now": {
                "description": "The ledger's time, in milliseconds since 1970.",
                "schema": { "type": "integer" },
            },
        } },
    })
}

fn operation(route: &Route, method: &str) -> Value {
    let in_query = method == "get" || method == "delete";
    let mut parameters = Vec::new();
    if matches!(route.access, Access::Read | Access::ReadSealed) {
        parameters.push(json!({
            "name": "consistency", "in": "query",
            "description": "`local`: what this node has applied, without asking the others",
            "schema": { "type": "string", "enum": ["linearizable", "local"] },
        }));
    }
    if route.access == Access::Write && route.body != Body::Bytes {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header",
            "description": "makes the request exactly-once for 15 minutes, on whichever node a retry arrives",
            "schema": { "type": "string", "minLength": 1, "maxLength": 64 },
        }));
    }
    let mut operation = json!({
        "operationId": if method == "post" { route.name.to_owned() } else { format!("{}.{method}", route.name) },
        "tags": [route.service()],
        "summary": route.about,
        "responses": responses(route),
    });
    if in_query {
        for param in route.params {
            let mut parameter = json!({
                "name": param.name, "in": "query", "description": param.about,
                "required": param.required, "schema": schema(param.schema),
            });
            if parameter["schema"]["type"] == "object" {
                parameter["style"] = "deepObject".into();
                parameter["explode"] = true.into();
            }
            parameters.push(parameter);
        }
    } else if !route.params.is_empty() {
        operation["requestBody"] = body(route);
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    operation
}

fn body(route: &Route) -> Value {
    let properties: Map<String, Value> = route
        .params
        .iter()
        .map(|param| {
            let mut schema = schema(param.schema);
            schema["description"] = param.about.into();
            (param.name.to_owned(), schema)
        })
        .collect();
    let required: Vec<_> = route
        .params
        .iter()
        .filter(|param| param.required)
        .map(|param| param.name)
        .collect();
    let fields = json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": route.body == Body::OpenFields,
    });
    let content = match route.body {
        Body::Fields | Body::OpenFields => json!({ "application/json": { "schema": fields } }),
        Body::Batch => json!({
            "application/json": { "schema": { "type": "array", "minItems": 1, "items": fields } },
            "application/x-ndjson": { "schema": fields },
            super::call::PACKED: { "schema": { "type": "string", "format": "binary" } },
        }),
        Body::Bytes => json!({
            "application/json": { "schema": fields },
            "application/octet-stream": { "schema": { "type": "string", "format": "binary" } },
        }),
    };
    json!({ "required": !required.is_empty() || route.body != Body::Fields, "content": content })
}

/// The answer, and every error that this route may answer, by status.
fn responses(route: &Route) -> Value {
    let now = json!({ "GridSeal-Now": { "$ref": "#/components/headers/GridSeal-Now" } });
    let mut responses = Map::new();
    responses.insert(
        "200".to_owned(),
        json!({
            "description": "done",
            "headers": now,
            "content": { "application/json": { "schema": schema(route.answer) } },
        }),
    );
    let mut errors: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for (status, code, about) in CODES.iter().filter(|(_, code, _)| may(route, code)) {
        errors
            .entry(*status)
            .or_default()
            .push(format!("`{code}`: {about}"));
    }
    for code in route
        .refusals
        .iter()
        .filter(|code| !CODES.iter().any(|(_, known, _)| known == *code))
    {
        let status = if code.starts_with("unknown_") { 404 } else { 409 };
        errors.entry(status).or_default().push(format!("`{code}`"));
    }
    for (status, codes) in errors {
        responses.insert(
            status.to_string(),
            json!({
                "description": codes.join("; "),
                "headers": now,
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
            }),
        );
    }
    Value::Object(responses)
}

/// Whether a route can answer this code at all.
fn may(route: &Route, code: &str) -> bool {
    let (writes, reads) = (
        route.access == Access::Write,
        matches!(route.access, Access::Read | Access::ReadSealed),
    );
    let names = |name: &str| route.declares(name);
    match code {
        _ if route.refusals.contains(&code) => true,
        "bad_signature" | "unknown_signer" => route.body == Body::Bytes,
        "not_admin" | "not_auditor" | "unknown_contract" => false,
        "unsigned_refused" | "nonce_reused" | "expired" | "busy" | "action_too_large" | "outcome_unknown" => {
            writes
        }
        "unknown_asset" => names("assetId") || names("under"),
        "batch_too_large" | "too_many_archived" => route.body == Body::Batch,
        "archive_busy" => route.name.starts_with("balancing.addSettlement"),
        "alarm" => writes || route.access == Access::ReadSealed,
        "no_leader" | "stopping" => writes || reads,
        "archive_damaged" => reads,
        // A path that isn't in the document answers it, or the stream, which is no action.
        "unknown_action" | "malformed_frame" | "upgrade_required" => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_that_is_checked_in_is_the_one_that_the_table_makes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/node/src/api/openapi.json");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, DOCUMENT.as_str()).expect("writable");
        }
        let there = std::fs::read_to_string(path).expect("checked in");
        assert!(
            there == *DOCUMENT,
            "openapi.json is out of date; run: UPDATE=1 cargo test -p gridseal openapi"
        );
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(fields) => fields.iter().for_each(|(name, value)| match value {
                    Value::String(text) if name == "$ref" => found.push(text),
                    _ => references(value, found),
                }),
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 100);
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("a local reference");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}
