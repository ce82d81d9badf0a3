//! One request on its way to its handler: the route, its parameters, and the node behind it.
//!
//! Body and query are merged, the body winning, as EAF does. What always holds: a body is read only up to the
//! configured size and for at most [`BODY_PATIENCE`], and what it is taken for is what its `Content-Type` says,
//! never what it looks like.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body as HttpBody, HttpBody as _, to_bytes};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use ledger::digest::digest;
use ledger::{Action, AssetId, Epoch, Ledger, Nonce, Outcome, Refusal};
use parking_lot::RwLockReadGuard;

use super::Limits;
use super::backend::{Backend, Receipt};
use super::error::Fault;
use super::json::{Json, Malformed};
use super::params::Params;
use super::query;
use super::route::{Access, Body, Route};

/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// The header that makes an unsigned request exactly-once.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The media type of a packed batch: the canonical bytes of a [`ledger::RosterBatch`].
pub(crate) const PACKED: &str = "application/vnd.gridseal.batch";

/// A request that was understood.
pub(crate) struct Call {
    /// The node.
    pub(crate) backend: Arc<dyn Backend>,
    /// The parameters; empty for a batch.
    pub(crate) params: Params,
    /// A batch's items.
    pub(crate) batch: Vec<Params>,
    /// A body of bytes or a packed batch, where the route takes one.
    pub(crate) bytes: Option<Bytes>,
    /// Most settlements of a packed batch.
    pub(crate) batch_limit: usize,
    /// From the Idempotency-Key, if one was given.
    pub(crate) nonce: Option<Nonce>,
}

impl Call {
    /// Reads a request for `route`.
    pub(crate) async fn read(
        request: Request,
        route: &'static Route,
        backend: Arc<dyn Backend>,
        limits: Limits,
    ) -> Result<(Call, Consistency), Fault> {
        let (parts, body) = request.into_parts();
        let mut fields = query::parse(parts.uri.query().unwrap_or_default())?;
        let consistency = Consistency::take(&mut fields)?;
        let nonce = idempotency(&parts.headers)?;
        let body = collect(body, limits.body_bytes).await?;
        let mut batch = Vec::new();
        let mut bytes = None;
        match (media(&parts.headers), route.body) {
            _ if body.is_empty() => {}
            (Media::Json, Body::Batch) => batch = items(&body)?,
            (Media::Lines, Body::Batch) => batch = lines(&body)?,
            (Media::Bytes, Body::Bytes) | (Media::Packed, Body::Batch) => bytes = Some(body),
            (Media::Json, _) => fields.extend(object(&body)?),
            (Media::Form, Body::Fields | Body::OpenFields) => {
                let text = std::str::from_utf8(&body).map_err(|_| form_is_not_text())?;
                fields.extend(query::parse(text)?);
            }
            (media, _) => return Err(media.refused_by(route.body, &parts.headers)),
        }
        if batch.len() > limits.batch {
            return Err(Fault::BatchTooLarge {
                count: batch.len(),
                limit: limits.batch,
            });
        }
        let batch = batch
            .into_iter()
            .enumerate()
            .map(|(i, fields)| Params::new(route, format!("[{i}]."), fields))
            .collect::<Result<_, _>>()?;
        if route.body == Body::Batch
            && let Some(name) = fields.keys().next()
        {
            return Err(Fault::Unknown {
                field: name.clone(),
                known: vec!["consistency"],
            });
        }
        let params = Params::new(route, String::new(), fields)?;
        Ok((
            Call {
                backend,
                params,
                batch,
                bytes,
                batch_limit: limits.batch,
                nonce,
            },
            consistency,
        ))
    }

    /// Makes sure that what is read is what the client asked for.
    pub(crate) async fn settle(&self, access: Access, consistency: Consistency) -> Result<(), Fault> {
        let reads = match access {
            Access::Read => !planted!("unsealed-reads-are-old"),
            Access::ReadSealed => true,
            Access::Write | Access::Local => false,
        };
        if reads && consistency == Consistency::Linearizable {
            self.backend.barrier().await?;
        }
        if access == Access::ReadSealed
            && !planted!("alarmed-node-shows-seals")
            && let Some(reason) = self.backend.status().alarms.into_iter().next()
        {
            return Err(Fault::Alarm { reason });
        }
        Ok(())
    }

    /// Orders an action; a refusal is a fault.
    pub(crate) async fn submit(&self, action: Action) -> Result<Receipt, Fault> {
        accepted(self.backend.submit(action, self.nonce).await?)
    }

    /// The ledger, for a short look at one epoch, which may have to be fetched from the archive.
    pub(crate) async fn ledger_at(&self, epoch: Epoch) -> Result<RwLockReadGuard<'_, Ledger>, Fault> {
        loop {
            {
                let ledger = self.ledger();
                if ledger.absent(epoch).is_none() {
                    return Ok(ledger);
                }
            }
            // Others may have driven it out again by the next look; each turn is somebody's progress.
            self.backend.readable(epoch).await?;
        }
    }

    /// The ledger, for a short look. Of epochs in the archive it shows nothing: see [`Call::ledger_at`].
    pub(crate) fn ledger(&self) -> RwLockReadGuard<'_, Ledger> {
        self.backend.ledger().read()
    }
}

/// The receipt, unless the ledger said no.
pub(crate) fn accepted(receipt: Receipt) -> Result<Receipt, Fault> {
    match receipt.outcome {
        Outcome::Refused { refusal } => Err(Fault::Refused {
            refusal,
            now: Some(receipt.now),
        }),
        _ => Ok(receipt),
    }
}

/// Refuses to read about an asset that isn't there.
pub(crate) fn known(ledger: &Ledger, asset: &AssetId) -> Result<(), Fault> {
    match ledger.asset(asset) {
        Some(_) => Ok(()),
        None => Err(Refusal::UnknownAsset { asset: asset.clone() }.into()),
    }
}

/// How current a read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consistency {
    /// It shows all that was acknowledged before it was asked.
    Linearizable,
    /// It shows what this node has applied.
    Local,
}

impl Consistency {
    fn take(fields: &mut BTreeMap<String, Json>) -> Result<Self, Fault> {
        match fields.remove("consistency") {
            None => Ok(Consistency::Linearizable),
            Some(Json::Text(text)) if text == "linearizable" => Ok(Consistency::Linearizable),
            Some(Json::Text(text)) if text == "local" => Ok(Consistency::Local),
            Some(other) => Err(Fault::Invalid {
                field: "consistency".to_owned(),
                got: other.shown(),
                expected: "one of `linearizable`, `local`".to_owned(),
            }),
        }
    }
}

/// The nonce of an Idempotency-Key: the first half of its digest, so that every node makes the same of it.
fn idempotency(headers: &HeaderMap) -> Result<Option<Nonce>, Fault> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let key = std::str::from_utf8(value.as_bytes())
        .ok()
        .filter(|key| (1..=64).contains(&key.chars().count()));
    let Some(key) = key else {
        return Err(Fault::Invalid {
            field: "Idempotency-Key".to_owned(),
            got: Json::Text(String::from_utf8_lossy(value.as_bytes()).into_owned()).shown(),
            expected: "a string of 1 to 64 characters".to_owned(),
        });
    };
    Ok(Some(half(&digest("idempotency-key", key.as_bytes()))))
}

/// The first 128 bits.
pub(crate) fn half(digest: &ledger::Digest) -> Nonce {
    let mut nonce = Nonce::default();
    nonce.copy_from_slice(&digest.0[..16]);
    nonce
}

async fn collect(body: HttpBody, limit: usize) -> Result<Bytes, Fault> {
    // What says that it is too large isn't read at all.
    if body.size_hint().lower() > limit as u64 {
        return Err(Fault::BodyTooLarge { limit });
    }
    match tokio::time::timeout(BODY_PATIENCE, to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(if too_long(&error) {
            Fault::BodyTooLarge { limit }
        } else {
            Fault::BodyLost
        }),
        Err(_) => Err(Fault::BodyLost),
    }
}

fn too_long(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What a body says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    Json,
    Lines,
    Form,
    Bytes,
    Packed,
    Other,
}

fn media(headers: &HeaderMap) -> Media {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Media::Json;
    };
    let text = value.to_str().unwrap_or_default();
    let essence = text
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match essence.as_str() {
        "application/json" | "text/json" | "text/plain" => Media::Json,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Media::Lines,
        "application/x-www-form-urlencoded" => Media::Form,
        "application/octet-stream" => Media::Bytes,
        PACKED => Media::Packed,
        other if other.ends_with("+json") => Media::Json,
        _ => Media::Other,
    }
}

impl Media {
    fn refused_by(self, body: Body, headers: &HeaderMap) -> Fault {
        let got = headers
            .get(CONTENT_TYPE)
            .map_or("of no type", |value| value.to_str().unwrap_or("unreadable"));
        Fault::MediaType {
            got: got.chars().take(80).collect(),
            expected: match body {
                Body::Fields | Body::OpenFields => "application/json",
                Body::Batch => "application/json, application/x-ndjson or application/vnd.gridseal.batch",
                Body::Bytes => "application/octet-stream or application/json",
            },
        }
    }
}

fn form_is_not_text() -> Fault {
    Fault::Query(query::Malformed {
        name: "the form".to_owned(),
        message: "it is not UTF-8",
    })
}

fn object(body: &[u8]) -> Result<BTreeMap<String, Json>, Fault> {
    match Json::parse(body)? {
        Json::Object(fields) => Ok(fields),
        other => Err(not("body", &other, "a JSON object")),
    }
}

fn not(field: impl Into<String>, got: &Json, expected: &str) -> Fault {
    let got = format!("{} ({})", got.kind(), got.shown());
    Fault::Invalid {
        field: field.into(),
        got,
        expected: expected.to_owned(),
    }
}

fn items(body: &[u8]) -> Result<Vec<BTreeMap<String, Json>>, Fault> {
    let Json::List(items) = Json::parse(body)? else {
        return Err(not(
            "body",
            &Json::parse(body)?,
            "a JSON array of objects, or NDJSON (application/x-ndjson)",
        ));
    };
    items
        .into_iter()
        .enumerate()
        .map(|(i, item)| match item {
            Json::Object(fields) => Ok(fields),
            other => Err(not(format!("[{i}]"), &other, "a JSON object")),
        })
        .collect()
}

fn lines(body: &[u8]) -> Result<Vec<BTreeMap<String, Json>>, Fault> {
    let mut items = Vec::new();
    for (number, line) in body.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let json = Json::parse(line).map_err(|error| Malformed {
            message: format!("line {}: {}", number + 1, error.message),
        })?;
        match json {
            Json::Object(fields) => items.push(fields),
            other => return Err(not(format!("[{}]", items.len()), &other, "a JSON object a line")),
        }
    }
    Ok(items)
}
