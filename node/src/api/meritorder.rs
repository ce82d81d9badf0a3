//! The merit order: an asset's contracts in the order they are served.

use ledger::Action;
use ledger::contract::ContractId;
use serde_json::Value;

use super::answer::Answer;
use super::call::{Call, known};
use super::error::Fault;
use super::json::Json;
use super::params::{self, Wrong, list};
use super::route::{Access, Body, Methods, Route, required, schema};
use super::{outcome, wire};

const ANSWER: &str = r##"{"type":"array","items":{"$ref":"#/components/schemas/Contract"}}"##;

pub(crate) const ROUTES: &[Route] = &[
    Route {
        name: "meritorder.get",
        methods: Methods::GetPost,
        access: Access::Read,
        body: Body::Fields,
        about: "An asset's own contracts in the order they are served, whatever their status.",
        params: &[required("assetId", schema::ID, "the asset")],
        answer: ANSWER,
        refusals: &[],
        handler: |call| Box::pin(get(call)),
    },
    Route {
        name: "meritorder.set",
        methods: Methods::Post,
        access: Access::Write,
        body: Body::Fields,
        about: "Gives the listed contracts of an asset the priorities 1, 2, 3…; contracts not listed keep theirs.",
        params: &[
            required("assetId", schema::ID, "the asset"),
            required(
                "mol",
                r#"{"type":"array","items":{"oneOf":[{"type":"string"},{"type":"object","required":["contractId"],"properties":{"contractId":{"type":"string"}}}]}}"#,
                "contracts, or their ids, in the order wanted",
            ),
        ],
        answer: ANSWER,
        refusals: &["unknown_contract", "foreign_contract", "repeated_contract"],
        handler: |call| Box::pin(set(call)),
    },
];

async fn get(call: Call) -> Result<Answer, Fault> {
    let asset = call.params.required("assetId", params::asset)?;
    let ledger = call.ledger();
    known(&ledger, &asset)?;
    Ok(Value::from(
        ledger
            .merit_order(&asset)
            .into_iter()
            .map(wire::contract)
            .collect::<Vec<_>>(),
    )
    .into())
}

/// EAF's clients send whole contracts; what counts is which.
fn named(json: &Json) -> Result<ContractId, Wrong> {
    const WHAT: &str = "a contract id, or a contract with its `contractId`";
    match json {
        Json::Object(fields) => match fields.get("contractId") {
            Some(id) => params::contract(id),
            None => Err(Wrong::Expected(WHAT.to_owned())),
        },
        Json::Text(_) => params::contract(json),
        _ => Err(Wrong::Expected(WHAT.to_owned())),
    }
}

async fn set(call: Call) -> Result<Answer, Fault> {
    let action = Action::SetMeritOrder {
        asset: call.params.required("assetId", params::asset)?,
        contracts: call
            .params
            .required("mol", list("a list of contracts or contract ids", named))?,
    };
    let receipt = call.submit(action).await?;
    outcome::answer(&call, receipt).await
}
