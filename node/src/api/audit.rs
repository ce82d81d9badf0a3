//! Audits: who must approve before an asset's epoch is sealed.
//!
//! The rule and the approvals are in the log, the auditing itself is outside: an auditor looks at the open
//! balance in its own time and approves, and no node ever calls anyone. An approval counts for the next seal and
//! is spent by it.

use ledger::Action;
use serde_json::json;

use super::answer::Answer;
use super::balancing::sealed::audit_id;
use super::call::{Call, known};
use super::error::Fault;
use super::outcome;
use super::params::{self, list, public_key, whole};
use super::route::{Access, Body, Methods, Route, optional, required, schema};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        name: "audit.requestApproval",
        methods: Methods::GetPost,
        access: Access::Read,
        body: Body::Fields,
        about: "Whose approvals the next seal wants, and the name of its audit. `success` if it wants none, as EAF \
                answers without rules; who is named in the payload gives his with audit.approve.",
        params: &[
            optional("assetId", schema::ID, "the asset whose seal is wanted"),
            optional("epoch", schema::EPOCH, "its epoch"),
        ],
        answer: r##"{"$ref":"#/components/schemas/Approval"}"##,
        refusals: &[],
        handler: |call| Box::pin(request(call)),
    },
    Route {
        name: "audit.setRule",
        methods: Methods::Post,
        access: Access::Write,
        body: Body::Fields,
        about: "Says how many of whose approvals an asset's seals need; 0 lifts it. Admins only, but in a development \
                cluster.",
        params: &[
            required("assetId", schema::ID, "the asset"),
            required("approvals", schema::COUNT, "how many"),
            optional(
                "auditors",
                r#"{"type":"array","items":{"type":"string"}}"#,
                "of these: Ed25519 public keys; the gateways' key if not given, in a development cluster",
            ),
        ],
        answer: r##"{"$ref":"#/components/schemas/Written"}"##,
        refusals: &["audit_rule_unsatisfiable", "not_admin"],
        handler: |call| Box::pin(set_rule(call)),
    },
    Route {
        name: "audit.approve",
        methods: Methods::Post,
        access: Access::Write,
        body: Body::Fields,
        about: "An auditor, who is whoever signs, approves the next seal.",
        params: &[
            required("assetId", schema::ID, "the asset"),
            required("epoch", schema::EPOCH, "the epoch"),
        ],
        answer: r##"{"$ref":"#/components/schemas/Approved"}"##,
        refusals: &["not_auditor"],
        handler: |call| Box::pin(approve(call)),
    },
];

async fn request(call: Call) -> Result<Answer, Fault> {
    let asset = call.params.optional("assetId", params::asset)?;
    let epoch = call.params.optional("epoch", params::epoch)?;
    let Some((asset, epoch)) = asset.clone().zip(epoch) else {
        if asset.is_some() != epoch.is_some() {
            let field = if asset.is_some() { "epoch" } else { "assetId" };
            let expected = "both assetId and epoch, or neither".to_owned();
            return Err(Fault::Missing {
                field: field.to_owned(),
                expected,
            });
        }
        let id = ledger::jws::base64url(&call.backend.nonce()[..12]);
        return Ok(json!({
            "service": "audit", "success": true, "type": "approval", "payload": {}, "auditId": id,
        })
        .into());
    };
    let ledger = call.ledger_at(epoch).await?;
    known(&ledger, &asset)?;
    let rule = ledger
        .asset(&asset)
        .map(|asset| asset.audit.clone())
        .unwrap_or_default();
    let next = ledger.seals(&asset, epoch).len();
    Ok(json!({
        "service": "audit",
        "success": rule.approvals == 0,
        "type": "approval",
        "payload": {
            "assetId": asset,
            "epoch": epoch,
            "version": next,
            "want": rule.approvals,
            "auditors": rule.auditors,
        },
        "auditId": audit_id(&asset, epoch, u32::try_from(next).unwrap_or(u32::MAX)),
    })
    .into())
}

async fn set_rule(call: Call) -> Result<Answer, Fault> {
    let keys = list(
        "a list of Ed25519 public keys, in hexadecimal or base64url",
        public_key,
    );
    let gateways = {
        let ledger = call.ledger();
        let development = ledger.genesis().filter(|genesis| genesis.development);
        development.map(|genesis| genesis.gateways.clone())
    };
    let auditors = match (call.params.optional("auditors", &keys)?, gateways) {
        (Some(given), _) => given,
        (None, Some(gateways)) => gateways,
        (None, None) => call.params.required("auditors", &keys)?,
    };
    let action = Action::SetAuditRule {
        asset: call.params.required("assetId", params::asset)?,
        approvals: u32::try_from(call.params.required("approvals", whole(0, 1000))?).unwrap_or(u32::MAX),
        auditors: auditors.into_iter().collect(),
    };
    let receipt = call.submit(action).await?;
    outcome::answer(&call, receipt).await
}

async fn approve(call: Call) -> Result<Answer, Fault> {
    let asset = call.params.required("assetId", params::asset)?;
    let epoch = call.params.required("epoch", params::epoch)?;
    let receipt = call.submit(Action::Approve { asset, epoch }).await?;
    outcome::answer(&call, receipt).await
}
