//! Settlements: `balancing.addSettlement`, `.addSettlements`, `.addRoster`.

use ledger::canonical::Canonical;
use ledger::{Action, GramsCo2, RosterBatch, Settlement};

use crate::api::answer::Answer;
use crate::api::call::Call;
use crate::api::error::Fault;
use crate::api::outcome;
use crate::api::params::{self, LAST_EPOCH, Params, list, whole};
use crate::api::route::{Access, Body, Methods, Param, Route, optional, required, schema};

const PARAMS: &[Param] = &[
    required(
        "meterId",
        schema::ID,
        "the meter; it becomes an asset if it is none yet",
    ),
    required("epoch", schema::EPOCH, "the market time unit it was measured in"),
    required(
        "consumption",
        schema::SETTLED,
        "in Wh; negative swaps the sides; a fraction is rounded",
    ),
    required(
        "label",
        schema::ID,
        "the tariff or channel; labels that start with a dot are the ledger's",
    ),
    optional(
        "co2eq",
        schema::SETTLED,
        "grams of CO2 equivalent; 0 if not given",
    ),
    optional(
        "autoseal",
        schema::COUNT,
        "seal this meter so many epochs earlier once this is booked",
    ),
];
const REFUSALS: &[&str] = &["root_is_no_meter", "out_of_range"];

pub(crate) const ROUTES: &[Route] = &[
    Route {
        name: "balancing.addSettlement",
        methods: Methods::GetPost,
        access: Access::Write,
        body: Body::Fields,
        about: "Books a metered amount.",
        params: PARAMS,
        answer: r##"{"$ref":"#/components/schemas/Settled"}"##,
        refusals: REFUSALS,
        handler: |call| Box::pin(one(call)),
    },
    Route {
        name: "balancing.addSettlements",
        methods: Methods::Post,
        access: Access::Write,
        body: Body::Batch,
        about: "Books metered amounts in the order given, all or none. Packed (`application/vnd.gridseal.batch`): roster \
                (32 bytes), epoch (8), label (length in 2 bytes, UTF-8), number of rows (4), then 20 bytes a row: the meter's \
                place in the roster from 0 (4), consumption in Wh (8), co2eq in g (8), big-endian.",
        params: PARAMS,
        answer: r##"{"$ref":"#/components/schemas/Accepted"}"##,
        refusals: &["root_is_no_meter", "out_of_range", "unknown_roster"],
        handler: |call| Box::pin(many(call)),
    },
    Route {
        name: "balancing.addRoster",
        methods: Methods::Post,
        access: Access::Write,
        body: Body::Fields,
        about: "Takes down a list of meters, once and for all, so that packed batches name each by its place. The roster's \
                name is the digest of the list; giving a list again changes nothing.",
        params: &[required(
            "meters",
            r#"{"type":"array","minItems":1,"items":{"type":"string","minLength":1,"maxLength":128}}"#,
            "the meters, in the order in which batches count them from 0",
        )],
        answer: r##"{"$ref":"#/components/schemas/Roster"}"##,
        refusals: &["root_is_no_meter"],
        handler: |call| Box::pin(roster(call)),
    },
];

fn settlement(params: &Params) -> Result<Settlement, Fault> {
    Ok(Settlement {
        meter: params.required("meterId", params::asset)?,
        epoch: params.required("epoch", params::epoch)?,
        consumption: params.required("consumption", params::signed_energy)?,
        label: params.required("label", params::label)?,
        co2eq: params.optional("co2eq", params::co2)?.unwrap_or(GramsCo2::ZERO),
        autoseal: params
            .optional("autoseal", whole(0, LAST_EPOCH))?
            .map(i64::unsigned_abs),
    })
}

async fn one(call: Call) -> Result<Answer, Fault> {
    let settlement = settlement(&call.params)?;
    let receipt = call
        .submit(Action::Settle {
            settlements: vec![settlement.clone()],
        })
        .await?;
    outcome::settled(&call, receipt, &settlement).await
}

async fn many(mut call: Call) -> Result<Answer, Fault> {
    if let Some(bytes) = &call.bytes {
        let batch = packed(bytes, call.batch_limit)?;
        let receipt = call.submit(Action::SettleRoster { batch }).await?;
        return outcome::answer(&call, receipt).await;
    }
    if call.batch.is_empty() {
        return Err(Fault::Missing {
            field: "body".to_owned(),
            expected: "a JSON array of settlements, or NDJSON, with at least one".to_owned(),
        });
    }
    let batch = std::mem::take(&mut call.batch);
    let settlements = batch.iter().map(settlement).collect::<Result<_, _>>()?;
    let receipt = call.submit(Action::Settle { settlements }).await?;
    outcome::answer(&call, receipt).await
}

fn packed(bytes: &[u8], limit: usize) -> Result<RosterBatch, Fault> {
    let batch = RosterBatch::from_bytes(bytes).map_err(|error| Fault::Invalid {
        field: "body".to_owned(),
        got: format!("{} bytes", bytes.len()),
        expected: format!(
            "a packed batch: roster (32 bytes), epoch (8), label (2 + n), number of rows (4), 20 bytes a row ({error})"
        ),
    })?;
    match batch.rows.len() {
        count if count > limit => Err(Fault::BatchTooLarge { count, limit }),
        _ => Ok(batch),
    }
}

async fn roster(call: Call) -> Result<Answer, Fault> {
    let meters = call
        .params
        .required("meters", list("a list of meters' ids", params::asset))?;
    if meters.is_empty() {
        return Err(Fault::Missing {
            field: "meters".to_owned(),
            expected: "at least one meter".to_owned(),
        });
    }
    let receipt = call
        .submit(Action::AddRoster {
            meters: meters.into(),
        })
        .await?;
    outcome::answer(&call, receipt).await
}
