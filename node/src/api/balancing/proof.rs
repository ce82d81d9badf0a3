//! What convinces a stranger: `balancing.proof`, and EAF's `balancing.decodeSeal`.

use ledger::jws::thumbprint;
use ledger::{NodeId, PublicKey, Refusal};
use serde_json::{Value, json};

use crate::api::answer::Answer;
use crate::api::call::{Call, known};
use crate::api::error::Fault;
use crate::api::params::{self, whole};
use crate::api::route::{Access, Body, Methods, Route, optional, required, schema};
use crate::jwt;

pub(crate) const ROUTES: &[Route] = &[
    Route {
        name: "balancing.proof",
        methods: Methods::GetPost,
        access: Access::ReadSealed,
        body: Body::Fields,
        about: "All that offline verification of a seal needs but the node keys: content, Merkle path, block header, \
                signatures so far (a JWS), voters; and the headers between, where a later block carries the signatures.",
        params: &[
            required("assetId", schema::ID, "the asset"),
            required("epoch", schema::EPOCH, "the epoch"),
            optional("version", schema::COUNT, "the newest if not given"),
        ],
        answer: r##"{"$ref":"#/components/schemas/Proof"}"##,
        refusals: &["not_sealed", "unknown_version"],
        handler: |call| Box::pin(proof(call)),
    },
    Route {
        name: "balancing.decodeSeal",
        methods: Methods::GetPost,
        access: Access::Read,
        body: Body::Fields,
        about: "What a seal's token says, and in `verified` whether one of the cluster's nodes signed it (`node`).",
        params: &[required("seal", schema::STRING, "the token: a compact JWT")],
        answer: r##"{"$ref":"#/components/schemas/DecodedSeal"}"##,
        refusals: &[],
        handler: |call| Box::pin(decode(call)),
    },
];

async fn proof(call: Call) -> Result<Answer, Fault> {
    let asset = call.params.required("assetId", params::asset)?;
    let epoch = call.params.required("epoch", params::epoch)?;
    let version = call.params.optional("version", whole(0, i64::from(u32::MAX)))?;
    let version = version.and_then(|version| u32::try_from(version).ok());
    let ledger = call.ledger_at(epoch).await?;
    known(&ledger, &asset)?;
    if ledger.seals(&asset, epoch).is_empty() {
        return Err(Refusal::NotSealed { asset, epoch }.into());
    }
    match ledger.proof(&asset, epoch, version) {
        Some(proof) => Ok(serde_json::to_value(proof).unwrap_or_default().into()),
        None => Err(Fault::NotFound {
            code: "unknown_version",
            message: format!("`{asset}` epoch {epoch} has no such version"),
            field: "version",
        }),
    }
}

async fn decode(call: Call) -> Result<Answer, Fault> {
    let token = call.params.required("seal", params::string)?;
    let Some(token) = jwt::decode(&token) else {
        return Err(call
            .params
            .invalid("seal", "a compact JWT with a JSON object in it, of at most 8 KiB"));
    };
    let signer: Option<(NodeId, PublicKey)> = {
        let ledger = call.ledger();
        let keys = ledger.node_keys().iter();
        keys.map(|(node, key)| (*node, *key))
            .find(|(_, key)| token.kid.as_deref() == Some(&*thumbprint(key)))
    };
    let node = signer.filter(|(_, key)| token.verify(key)).map(|(node, _)| node);
    let mut body: Value = token.payload;
    body["verified"] = node.is_some().into();
    body["node"] = json!(node);
    Ok(body.into())
}
