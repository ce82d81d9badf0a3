//! `envelope.submit`: for clients who hold their own key.
//!
//! The envelope carries its own nonce, so an Idempotency-Key has no meaning here. The answer has the shape of the
//! action that was signed.

use ledger::canonical::Canonical;
use ledger::jws::base64url_decode;
use ledger::{Action, Envelope};

use super::answer::Answer;
use super::call::{Call, accepted};
use super::error::Fault;
use super::outcome;
use super::params::{self, Wrong};
use super::route::{Access, Body, Methods, Route, optional};

pub(crate) const ROUTES: &[Route] = &[Route {
    name: "envelope.submit",
    methods: Methods::Post,
    access: Access::Write,
    body: Body::Bytes,
    about: "Orders an action that its client signed: the envelope's canonical bytes (application/octet-stream), or JSON \
            with them in base64url. The answer has the shape of the action's own.",
    params: &[optional(
        "envelope",
        r#"{"type":"string","contentEncoding":"base64url"}"#,
        "the canonical bytes",
    )],
    answer: r##"{"$ref":"#/components/schemas/AnyWritten"}"##,
    refusals: &["bad_signature", "unknown_signer", "not_after_too_far"],
    handler: |call| Box::pin(submit(call)),
}];

const EXPECTED: &str =
    "the canonical bytes of a signed envelope: signer, nonce, not_after, action, signature";

async fn submit(call: Call) -> Result<Answer, Fault> {
    let read = |json: &super::json::Json| {
        let bytes = base64url_decode(&params::string(json)?);
        bytes.ok_or_else(|| Wrong::Expected(format!("in base64url without padding, {EXPECTED}")))
    };
    let bytes = match &call.bytes {
        Some(bytes) => bytes.to_vec(),
        None => call.params.required("envelope", read)?,
    };
    let envelope = Envelope::from_bytes(&bytes).map_err(|error| Fault::Invalid {
        field: "envelope".to_owned(),
        got: format!("{} bytes", bytes.len()),
        expected: format!("{EXPECTED} ({error})"),
    })?;
    let single = match &envelope.action {
        Action::Settle { settlements } if settlements.len() == 1 => settlements.first().cloned(),
        _ => None,
    };
    let receipt = accepted(call.backend.submit_envelope(envelope).await?)?;
    match single {
        Some(settlement) => outcome::settled(&call, receipt, &settlement).await,
        None => outcome::answer(&call, receipt).await,
    }
}
