//! Errors: from what went wrong to a status, once.
//!
//! A [`Fault`] says what; [`Fault::status`] is the only place that knows HTTP's numbers. The body is
//! `{"error": {"code", "message", "field"?, …}, "err"?, "now"}`: `code` is for programs and never changes, `message`
//! is for people, `field` names the parameter, and what a refusal is about stands beside them (`assets`, `seal`, …).
//! `err` is EAF's own string where EAF had one.
//!
//! Absent on purpose: a 500. What the edge can't answer is either refused before it has an effect or unknown.

use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{ALLOW, CONNECTION, RETRY_AFTER, UPGRADE};
use axum::http::{HeaderName, HeaderValue};
use ledger::{Refusal, Timestamp};
use serde_json::{Map, Value, json};

use super::backend::Unanswered;
use super::route::Route;
use super::{json, query};
use crate::order::NotDone;
use crate::stream::PROTOCOL;

/// What a client may expect to have changed by then, where nothing better is known, in seconds.
const RETRY_AFTER_SECONDS: u64 = 1;

/// Why a request has no answer but this.
#[derive(Debug)]
pub(crate) enum Fault {
    /// There is no such action.
    NoSuchAction {
        /// What was asked for.
        name: String,
        /// What was probably meant.
        hint: Option<&'static str>,
    },
    /// Not with this method.
    Method {
        /// The action.
        route: &'static Route,
        /// What was used.
        method: String,
    },
    /// The body is of a kind that isn't taken.
    MediaType {
        /// What was said to come.
        got: String,
        /// What may come.
        expected: &'static str,
    },
    /// The body is no JSON.
    Json(json::Malformed),
    /// The query or form can't be read.
    Query(query::Malformed),
    /// The body is larger than allowed.
    BodyTooLarge {
        /// Bytes.
        limit: usize,
    },
    /// The body didn't arrive, or not in time.
    BodyLost,
    /// What was asked for the stream doesn't ask for it in the way it must.
    NoUpgrade,
    /// What came on a stream is no frame.
    Frame {
        /// Why not.
        message: String,
    },
    /// More settlements than allowed.
    BatchTooLarge {
        /// How many came.
        count: usize,
        /// How many may.
        limit: usize,
    },
    /// A parameter that is required is missing.
    Missing {
        /// Which.
        field: String,
        /// What it should be.
        expected: String,
    },
    /// A parameter is not what it should be.
    Invalid {
        /// Which.
        field: String,
        /// What came.
        got: String,
        /// What it should be.
        expected: String,
    },
    /// A number is beyond its bounds.
    OutOfRange {
        /// Which.
        field: String,
        /// What came.
        got: String,
        /// What it should be.
        expected: String,
    },
    /// A parameter that the action doesn't have.
    Unknown {
        /// Which.
        field: String,
        /// Those it has.
        known: Vec<&'static str>,
    },
    /// A thing that isn't there.
    NotFound {
        /// Its code, `unknown_…`.
        code: &'static str,
        /// In words.
        message: String,
        /// The parameter that names it.
        field: &'static str,
    },
    /// A sealed read on a node with an alarm.
    Alarm {
        /// What was found.
        reason: String,
    },
    /// The ledger said no.
    Refused {
        /// Why.
        refusal: Refusal,
        /// The ledger's time when it did.
        now: Option<Timestamp>,
    },
    /// The cluster didn't say anything.
    Unanswered(Unanswered),
    /// An admin's order was not carried out.
    NotDone(NotDone),
}

impl From<Unanswered> for Fault {
    fn from(why: Unanswered) -> Self {
        Fault::Unanswered(why)
    }
}

impl From<NotDone> for Fault {
    fn from(why: NotDone) -> Self {
        Fault::NotDone(why)
    }
}

impl From<json::Malformed> for Fault {
    fn from(malformed: json::Malformed) -> Self {
        Fault::Json(malformed)
    }
}

impl From<query::Malformed> for Fault {
    fn from(malformed: query::Malformed) -> Self {
        Fault::Query(malformed)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Fault::Refused { refusal, now: None }
    }
}

/// Codes that any action may answer, with their status and meaning, for the document.
pub(crate) const CODES: &[(u16, &str, &str)] = &[
    (
        400,
        "malformed_json",
        "the body is no JSON, is nested too deep or names a field twice; the message has line and column",
    ),
    (400, "malformed_query", "the query or form can't be read"),
    (
        400,
        "malformed_frame",
        "what came on a stream is no frame; the stream ends",
    ),
    (
        403,
        "unsigned_refused",
        "the cluster takes signed envelopes only: use envelope.submit",
    ),
    (
        403,
        "bad_signature",
        "the signature under an envelope does not fit",
    ),
    (403, "unknown_signer", "nobody knows the signer of an envelope"),
    (403, "not_admin", "only an admin may do this"),
    (403, "not_auditor", "the signer is no auditor of the asset"),
    (
        404,
        "unknown_action",
        "there is no such action; `hint` may name the one that was meant",
    ),
    (404, "unknown_asset", "there is no such asset"),
    (404, "unknown_contract", "there is no such contract"),
    (
        405,
        "method_not_allowed",
        "not with this method; see the Allow header",
    ),
    (408, "body_lost", "the body didn't arrive within 30 seconds"),
    (409, "out_of_range", "a figure is beyond what the ledger takes"),
    (
        409,
        "nonce_reused",
        "the Idempotency-Key or nonce was used for another action within 15 minutes",
    ),
    (
        409,
        "expired",
        "the envelope, or the wait for the log, took longer than its not_after allows",
    ),
    (
        413,
        "body_too_large",
        "the body is larger than the node takes; `limit` is in bytes",
    ),
    (
        413,
        "batch_too_large",
        "the batch has more settlements than the node takes",
    ),
    (
        413,
        "action_too_large",
        "the action is larger than a log entry may be",
    ),
    (
        413,
        "too_many_archived",
        "the settlements are of more archived epochs, `needed`, than may come back into memory at once, `limit`; send them in \
         parts",
    ),
    (
        415,
        "unsupported_media_type",
        "the body is of a kind that the action doesn't take",
    ),
    (
        422,
        "missing_parameter",
        "`field` is required; `expected` says what it should be",
    ),
    (
        422,
        "invalid_parameter",
        "`field` is not what was `expected`; `got` shows it",
    ),
    (422, "out_of_range", "the number in `field` is beyond its bounds"),
    (
        422,
        "unknown_parameter",
        "the action has no parameter `field`; `known` lists those it has",
    ),
    (
        426,
        "upgrade_required",
        "a stream is asked for with Connection: Upgrade and Upgrade: gridseal-stream/1",
    ),
    (
        429,
        "busy",
        "too much is under way; the request had no effect; see Retry-After",
    ),
    (
        429,
        "archive_busy",
        "the settlement is of an archived epoch, and memory is full with what can't leave it; the request had no effect; once what \
         is late is corrected there is room; see Retry-After",
    ),
    (
        503,
        "no_leader",
        "no leader is known; the request had no effect; see Retry-After",
    ),
    (
        503,
        "alarm",
        "this node's own calculation differs from its ledger's; ask another node",
    ),
    (
        503,
        "archive_damaged",
        "a file of this node's archive is damaged or gone, and no other node gave it yet; ask another node, or again: see Retry-After",
    ),
    (503, "stopping", "the node shuts down; the request had no effect"),
    (
        504,
        "outcome_unknown",
        "it may still take effect: retry with the same Idempotency-Key to learn",
    ),
];

impl Fault {
    /// Status and code.
    pub(crate) fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Fault::Json(_) => (StatusCode::BAD_REQUEST, "malformed_json"),
            Fault::Query(_) => (StatusCode::BAD_REQUEST, "malformed_query"),
            Fault::NoSuchAction { .. } => (StatusCode::NOT_FOUND, "unknown_action"),
            Fault::NotFound { code, .. } => (StatusCode::NOT_FOUND, code),
            Fault::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Fault::BodyLost => (StatusCode::REQUEST_TIMEOUT, "body_lost"),
            Fault::NoUpgrade => (StatusCode::UPGRADE_REQUIRED, "upgrade_required"),
            Fault::Frame { .. } => (StatusCode::BAD_REQUEST, "malformed_frame"),
            Fault::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Fault::BatchTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "batch_too_large"),
            Fault::MediaType { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            Fault::Missing { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "missing_parameter"),
            Fault::Invalid { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameter"),
            Fault::OutOfRange { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "out_of_range"),
            Fault::Unknown { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "unknown_parameter"),
            Fault::Alarm { .. } => (StatusCode::SERVICE_UNAVAILABLE, "alarm"),
            Fault::Refused { refusal, .. } => (refused(refusal), refusal.code()),
            Fault::NotDone(why) => match why {
                NotDone::Repeated => (StatusCode::CONFLICT, "order_repeated"),
                NotDone::NotLeader { .. } => (StatusCode::CONFLICT, "not_leader"),
                NotDone::Impossible(_) => (StatusCode::CONFLICT, "impossible"),
                NotDone::Unknown(_) => (StatusCode::GATEWAY_TIMEOUT, "outcome_unknown"),
                NotDone::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            },
            Fault::Unanswered(why) => match why {
                Unanswered::UnsignedRefused => (StatusCode::FORBIDDEN, "unsigned_refused"),
                Unanswered::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "action_too_large"),
                Unanswered::Busy { .. } => (StatusCode::TOO_MANY_REQUESTS, "busy"),
                Unanswered::TooManyArchived { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_many_archived"),
                Unanswered::ArchiveBusy { .. } => (StatusCode::TOO_MANY_REQUESTS, "archive_busy"),
                Unanswered::NoLeader => (StatusCode::SERVICE_UNAVAILABLE, "no_leader"),
                Unanswered::Alarmed { .. } => (StatusCode::SERVICE_UNAVAILABLE, "alarm"),
                Unanswered::Damaged { .. } => (StatusCode::SERVICE_UNAVAILABLE, "archive_damaged"),
                Unanswered::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
                Unanswered::Unknown => (StatusCode::GATEWAY_TIMEOUT, "outcome_unknown"),
            },
        }
    }

    /// In words.
    pub(crate) fn message(&self) -> String {
        match self {
            Fault::NoSuchAction {
                name,
                hint: Some(hint),
            } => format!("there is no action {name}; did you mean {hint}?"),
            Fault::NoSuchAction { name, hint: None } => {
                format!("there is no action {name}; /api/openapi.json lists all")
            }
            Fault::Method { route, method } => {
                let allowed: Vec<_> = route
                    .methods
                    .list()
                    .iter()
                    .map(|method| method.as_str())
                    .collect();
                format!(
                    "{} is not asked with {method} but with {}",
                    route.name,
                    allowed.join(" or ")
                )
            }
            Fault::MediaType { got, expected } => format!("the body is {got}, expected {expected}"),
            Fault::Json(malformed) => format!("the body is no JSON: {}", malformed.message),
            Fault::Query(malformed) => format!("{}: {}", malformed.name, malformed.message),
            Fault::BodyTooLarge { limit } => format!("the body is larger than {limit} bytes"),
            Fault::BodyLost => "the body didn't arrive".to_owned(),
            Fault::NoUpgrade => format!("ask with Connection: Upgrade and Upgrade: {PROTOCOL}"),
            Fault::Frame { message } => message.clone(),
            Fault::BatchTooLarge { count, limit } => {
                format!("the batch has {count} settlements; at most {limit} are taken at once")
            }
            Fault::Missing { field, expected } => format!("{field} is missing; expected {expected}"),
            Fault::Invalid { field, got, expected } | Fault::OutOfRange { field, got, expected } => {
                format!("{field} is {got}; expected {expected}")
            }
            Fault::Unknown { field, known } if known.is_empty() => {
                format!("{field} is no parameter of this action; it has none")
            }
            Fault::Unknown { field, known } => {
                format!(
                    "{field} is no parameter of this action; it has {}",
                    known.join(", ")
                )
            }
            Fault::NotFound { message, .. } => message.clone(),
            Fault::Alarm { reason } => {
                format!("this node has an alarm and vouches for no seal; ask another: {reason}")
            }
            Fault::Refused { refusal, .. } => refusal.to_string(),
            Fault::Unanswered(why) => why.to_string(),
            Fault::NotDone(why) => why.to_string(),
        }
    }

    /// What stands beside code and message.
    fn data(&self) -> Map<String, Value> {
        let data = match self {
            Fault::NoSuchAction { hint: Some(hint), .. } => json!({ "hint": hint }),
            Fault::MediaType { got, expected } => json!({ "got": got, "expected": expected }),
            Fault::BodyTooLarge { limit } | Fault::BatchTooLarge { limit, .. } => json!({ "limit": limit }),
            Fault::Query(malformed) => json!({ "field": malformed.name }),
            Fault::Missing { field, expected } => json!({ "field": field, "expected": expected }),
            Fault::Invalid { field, got, expected } | Fault::OutOfRange { field, got, expected } => {
                json!({ "field": field, "got": got, "expected": expected })
            }
            Fault::Unknown { field, known } => json!({ "field": field, "known": known }),
            Fault::NotFound { field, .. } => json!({ "field": field }),
            Fault::Refused { refusal, .. } => refusal_data(refusal),
            Fault::NotDone(NotDone::NotLeader { leader }) => json!({ "leader": leader }),
            Fault::Unanswered(Unanswered::TooManyArchived { needed, most }) => {
                json!({ "needed": needed, "limit": most })
            }
            _ => json!({}),
        };
        match data {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }

    /// The ledger's time that came with it, if any did.
    pub(crate) fn now(&self) -> Option<Timestamp> {
        match self {
            Fault::Refused { now, .. } => *now,
            _ => None,
        }
    }

    /// The `error` object.
    pub(crate) fn error(&self) -> Value {
        let mut error = self.data();
        error.insert("code".to_owned(), self.status().1.into());
        error.insert("message".to_owned(), self.message().into());
        Value::Object(error)
    }

    /// The body of the answer.
    pub(crate) fn body(&self, now: Timestamp) -> Value {
        let mut body = json!({ "error": self.error(), "now": now.get() });
        if let Fault::Refused {
            refusal: Refusal::AlreadySealed { .. },
            ..
        } = self
        {
            body["err"] = "balance already sealed".into();
        }
        body
    }

    /// Headers that belong to it.
    pub(crate) fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let retry = |after: Duration| {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            (RETRY_AFTER, HeaderValue::from(seconds.max(RETRY_AFTER_SECONDS)))
        };
        match self {
            Fault::Method { route, .. } => {
                let allowed: Vec<_> = route
                    .methods
                    .list()
                    .iter()
                    .map(|method| method.as_str())
                    .collect();
                HeaderValue::try_from(allowed.join(", "))
                    .map(|value| vec![(ALLOW, value)])
                    .unwrap_or_default()
            }
            Fault::Unanswered(Unanswered::Busy { retry_after } | Unanswered::ArchiveBusy { retry_after }) => {
                vec![retry(*retry_after)]
            }
            Fault::NoUpgrade => vec![
                (CONNECTION, HeaderValue::from_static("upgrade")),
                (UPGRADE, HeaderValue::from_static(PROTOCOL)),
            ],
            _ if self.status().0 == StatusCode::SERVICE_UNAVAILABLE => {
                vec![retry(Duration::from_secs(RETRY_AFTER_SECONDS))]
            }
            _ => Vec::new(),
        }
    }
}

/// The status of a refusal: 404 where a thing isn't there, 403 where the signer may not, 409 where the ledger's
/// state stands against it.
fn refused(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::UnknownAsset { .. }
        | Refusal::UnknownContract { .. }
        | Refusal::UnknownNode { .. }
        | Refusal::UnknownRoster { .. }
        | Refusal::UnknownBlock { .. } => StatusCode::NOT_FOUND,
        Refusal::NotAdmin {}
        | Refusal::NotAuditor { .. }
        | Refusal::UnknownSigner {}
        | Refusal::BadSignature {} => StatusCode::FORBIDDEN,
        _ => StatusCode::CONFLICT,
    }
}

/// What a refusal is about.
fn refusal_data(refusal: &Refusal) -> Value {
    match refusal {
        Refusal::UnknownAsset { asset } | Refusal::SameParty { asset } | Refusal::NotAuditor { asset } => {
            json!({ "assetId": asset })
        }
        Refusal::UnknownContract { contract }
        | Refusal::ContractExists { contract }
        | Refusal::RepeatedContract { contract } => json!({ "contractId": contract }),
        Refusal::UnknownRoster { roster } => json!({ "roster": roster }),
        Refusal::RuleCycle { asset, through } => json!({ "assetId": asset, "through": through }),
        Refusal::ContractStatus { contract, status } => json!({ "contractId": contract, "status": status }),
        Refusal::ForeignContract { contract, asset } => json!({ "contractId": contract, "assetId": asset }),
        Refusal::OutOfRange { figure } => json!({ "figure": figure }),
        Refusal::NothingToSeal { asset, epoch }
        | Refusal::NotSealed { asset, epoch }
        | Refusal::NothingLate { asset, epoch } => json!({ "assetId": asset, "epoch": epoch }),
        Refusal::AlreadySealed { seal, digest } => json!({
            "assetId": seal.asset, "epoch": seal.epoch,
            "seal": { "assetId": seal.asset, "epoch": seal.epoch, "version": seal.version, "digest": digest },
        }),
        Refusal::DownstreamOpen { asset, epoch, assets } => {
            json!({ "assetId": asset, "epoch": epoch, "assets": assets })
        }
        Refusal::ApprovalMissing {
            asset,
            epoch,
            have,
            want,
        } => {
            json!({ "assetId": asset, "epoch": epoch, "have": have, "want": want })
        }
        Refusal::MetadataTooLarge { bytes } => json!({ "bytes": bytes, "limit": 4096 }),
        Refusal::AuditRuleUnsatisfiable { approvals, auditors } => {
            json!({ "field": "approvals", "approvals": approvals, "auditors": auditors })
        }
        Refusal::UnknownNode { node } | Refusal::KeyRevoked { node } => json!({ "node": node }),
        Refusal::Expired { not_after, .. } | Refusal::NotAfterTooFar { not_after, .. } => {
            json!({ "not_after": not_after })
        }
        _ => json!({}),
    }
}
