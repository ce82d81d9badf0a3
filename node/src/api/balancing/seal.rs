//! Sealing: `balancing.seal`, `.correct`, `.sealEpoch`.

use ledger::Action;

use crate::api::answer::Answer;
use crate::api::call::Call;
use crate::api::error::Fault;
use crate::api::outcome;
use crate::api::params;
use crate::api::route::{Access, Body, Methods, Param, Route, optional, required, schema};

const PARAMS: &[Param] = &[
    required("assetId", schema::ID, "the asset"),
    required("epoch", schema::EPOCH, "the epoch"),
];
const ANSWER: &str = r##"{"$ref":"#/components/schemas/Sealed"}"##;

pub(crate) const ROUTES: &[Route] = &[
    Route {
        name: "balancing.seal",
        methods: Methods::GetPost,
        access: Access::Write,
        body: Body::Fields,
        about: "Seals an asset's epoch: closes its balance, serves its contracts, fixes the watermark.",
        params: PARAMS,
        answer: ANSWER,
        refusals: &[
            "root_not_sealable",
            "already_sealed",
            "nothing_to_seal",
            "downstream_open",
            "approval_missing",
            "out_of_range",
        ],
        handler: |call| Box::pin(seal(call)),
    },
    Route {
        name: "balancing.correct",
        methods: Methods::Post,
        access: Access::Write,
        body: Body::Fields,
        about: "Makes the next version of a seal over what came late.",
        params: PARAMS,
        answer: ANSWER,
        refusals: &[
            "root_not_sealable",
            "not_sealed",
            "nothing_late",
            "downstream_open",
            "approval_missing",
            "out_of_range",
        ],
        handler: |call| Box::pin(correct(call)),
    },
    Route {
        name: "balancing.sealEpoch",
        methods: Methods::Post,
        access: Access::Write,
        body: Body::Fields,
        about: "Seals and corrects all that an epoch has open, in one action.",
        params: &[
            required("epoch", schema::EPOCH, "the epoch"),
            optional(
                "under",
                schema::ID,
                "only this asset and everything downstream of it",
            ),
            optional(
                "brief",
                r#"{"type":"boolean"}"#,
                "show no more of each seal than its name and digest: for epochs of many assets",
            ),
        ],
        answer: r##"{"$ref":"#/components/schemas/EpochSealed"}"##,
        refusals: &[],
        handler: |call| Box::pin(epoch(call)),
    },
];

async fn seal(call: Call) -> Result<Answer, Fault> {
    let asset = call.params.required("assetId", params::asset)?;
    let epoch = call.params.required("epoch", params::epoch)?;
    let receipt = call.submit(Action::Seal { asset, epoch }).await?;
    outcome::answer(&call, receipt).await
}

async fn correct(call: Call) -> Result<Answer, Fault> {
    let asset = call.params.required("assetId", params::asset)?;
    let epoch = call.params.required("epoch", params::epoch)?;
    let receipt = call.submit(Action::Correct { asset, epoch }).await?;
    outcome::answer(&call, receipt).await
}

async fn epoch(call: Call) -> Result<Answer, Fault> {
    let epoch = call.params.required("epoch", params::epoch)?;
    let under = call.params.optional("under", params::asset)?;
    let brief = call.params.optional("brief", params::flag)?.unwrap_or(false);
    let receipt = call.submit(Action::SealEpoch { epoch, under }).await?;
    match brief {
        true => outcome::epoch_sealed_briefly(&call, receipt).await,
        false => outcome::answer(&call, receipt).await,
    }
}
