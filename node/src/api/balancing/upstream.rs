//! Who balances whom: `balancing.peers`, `.getUpstream`.

use ledger::units::MAX_FIGURE;
use serde_json::{Value, json};

use crate::api::answer::Answer;
use crate::api::call::{Call, known};
use crate::api::error::Fault;
use crate::api::params::{self, rounded};
use crate::api::route::{Access, Body, Methods, Route, optional, required, schema};
use crate::api::wire;

pub(crate) const ROUTES: &[Route] = &[
    Route {
        name: "balancing.peers",
        methods: Methods::GetPost,
        access: Access::Read,
        body: Body::Fields,
        about: "The assets whose rule names this one: its direct downstream.",
        params: &[required("assetId", schema::ID, "the asset")],
        answer: r##"{"type":"array","items":{"$ref":"#/components/schemas/Asset"}}"##,
        refusals: &[],
        handler: |call| Box::pin(peers(call)),
    },
    Route {
        name: "balancing.getUpstream",
        methods: Methods::GetPost,
        access: Access::Read,
        body: Body::Fields,
        about: "The upstream of an asset: whom it draws a deficit from, or whom it delivers a surplus to.",
        params: &[
            required("assetId", schema::ID, "the asset"),
            optional(
                "energy",
                schema::SIGNED,
                "negative: a deficit, as if not given; else a surplus",
            ),
        ],
        answer: r#"{"type":"string"}"#,
        refusals: &[],
        handler: |call| Box::pin(upstream(call)),
    },
];

async fn peers(call: Call) -> Result<Answer, Fault> {
    let asset = call.params.required("assetId", params::asset)?;
    let ledger = call.ledger();
    known(&ledger, &asset)?;
    let downstream = ledger.downstream(&asset);
    let assets = downstream
        .iter()
        .filter_map(|id| ledger.asset(id))
        .map(wire::asset);
    Ok(Value::from_iter(assets).into())
}

async fn upstream(call: Call) -> Result<Answer, Fault> {
    let id = call.params.required("assetId", params::asset)?;
    let energy = call
        .params
        .optional("energy", rounded(-MAX_FIGURE, MAX_FIGURE))?
        .unwrap_or(-1);
    let ledger = call.ledger();
    known(&ledger, &id)?;
    let rule = ledger
        .asset(&id)
        .map(|asset| asset.rule.clone())
        .unwrap_or_default();
    Ok(json!(if energy < 0 {
        rule.upstream_from()
    } else {
        rule.upstream_to()
    })
    .into())
}
