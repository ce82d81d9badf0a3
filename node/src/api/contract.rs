//! Contracts: `contract.add`, `.get`, `.list`, and what a party can do to one.

use ledger::contract::{Change, ContractId, Delivery, Direction, Status, Terms};
use ledger::digest::digest;
use ledger::jws::base64url;
use ledger::units::MAX_FIGURE;
use ledger::{Action, Refusal, Wh};
use serde_json::Value;

use super::answer::Answer;
use super::call::{Call, half};
use super::error::Fault;
use super::params::{self, page, rounded, whole, word};
use super::route::{Access, Body, Methods, Param, Route, optional, required, schema};
use super::{outcome, wire};

/// Contracts in one answer.
const LIMIT: usize = 10_000;
const ANSWER: &str = r##"{"$ref":"#/components/schemas/WrittenContract"}"##;
const DIRECTION: &str = r#"{"type":"string","enum":["to","from"]}"#;
const STATUS: &str = r#"{"type":"string","enum":["proposed","active","suspended","cancelled"]}"#;
const DELIVERY: &str = r#"{"type":"string","enum":["as_available","matched","firm"]}"#;

const CONTRACT: &[Param] = &[required("contractId", schema::ID, "the contract")];

const fn change(
    name: &'static str,
    about: &'static str,
    handler: fn(Call) -> futures::future::BoxFuture<'static, Result<Answer, Fault>>,
) -> Route {
    Route {
        name,
        methods: Methods::Post,
        access: Access::Write,
        body: Body::Fields,
        about,
        params: CONTRACT,
        answer: ANSWER,
        refusals: &["unknown_contract", "contract_status"],
        handler,
    }
}

pub(crate) const ROUTES: &[Route] = &[
    Route {
        name: "contract.add",
        methods: Methods::Post,
        access: Access::Write,
        body: Body::Fields,
        about: "Makes a contract (PPA) between an asset, whose sealing serves it, and a partner.",
        params: &[
            required("assetId", schema::ID, "the owner"),
            required("partnerId", schema::ID, "the other party"),
            required("direction", DIRECTION, "`to`: the owner sells; `from`: it buys"),
            required("energy", schema::ENERGY, "at most this much in an epoch, in Wh"),
            optional("contractId", schema::ID, "its name; made if not given"),
            optional("status", STATUS, "`active` if not given"),
            optional(
                "priority",
                schema::SIGNED,
                "its place in the merit order, the lowest first; 1 if not given",
            ),
            optional(
                "delivery",
                DELIVERY,
                "how the quantity is found; `as_available` if not given",
            ),
            optional(
                "load_min",
                schema::ENERGY,
                "a booking below this is none; 0 if not given",
            ),
            optional("load_max", schema::ENERGY, "at most this much in an epoch, too"),
            optional("energy_total", schema::ENERGY, "at most this much in its life"),
            optional("valid_from", schema::EPOCH, "the first epoch it is valid in"),
            optional("valid_until", schema::EPOCH, "the last one"),
            optional(
                "price",
                schema::SIGNED,
                "in millionths of the currency per kWh; 0 if not given",
            ),
            optional(
                "balanced",
                r#"{"type":"number","const":0}"#,
                "EAF's counter; a new contract's is 0",
            ),
        ],
        answer: ANSWER,
        refusals: &["contract_exists", "same_party", "root_is_no_party"],
        handler: |call| Box::pin(add(call)),
    },
    Route {
        name: "contract.get",
        methods: Methods::GetPost,
        access: Access::Read,
        body: Body::Fields,
        about: "A contract with what it has booked so far.",
        params: &[required("contractId", schema::ID, "the contract")],
        answer: r##"{"$ref":"#/components/schemas/Contract"}"##,
        refusals: &["unknown_contract"],
        handler: |call| Box::pin(get(call)),
    },
    Route {
        name: "contract.list",
        methods: Methods::GetPost,
        access: Access::Read,
        body: Body::Fields,
        about: "The contracts, in id order.",
        params: &[
            optional("assetId", schema::ID, "only this owner's"),
            optional("partnerId", schema::ID, "only with this partner"),
            optional("status", STATUS, "only in this status"),
            optional(
                "limit",
                schema::LIMIT,
                "at most so many; 1000 if not given, at most 10000",
            ),
        ],
        answer: r##"{"type":"array","items":{"$ref":"#/components/schemas/Contract"}}"##,
        refusals: &[],
        handler: |call| Box::pin(list(call)),
    },
    change(
        "contract.confirm",
        "A proposed contract becomes active.",
        |call| Box::pin(make(call, Change::Confirm)),
    ),
    change(
        "contract.suspend",
        "An active contract is not served for now.",
        |call| Box::pin(make(call, Change::Suspend)),
    ),
    change(
        "contract.activate",
        "A suspended contract is served again.",
        |call| Box::pin(make(call, Change::Activate)),
    ),
    change("contract.cancel", "A contract is never served again.", |call| {
        Box::pin(make(call, Change::Cancel))
    }),
];

async fn add(call: Call) -> Result<Answer, Fault> {
    let params = &call.params;
    let words = word(Status::ALL, Status::as_str);
    let (valid_from, valid_until) = (
        params.optional("valid_from", params::epoch)?,
        params.optional("valid_until", params::epoch)?,
    );
    if valid_from
        .zip(valid_until)
        .is_some_and(|(first, last)| first > last)
    {
        return Err(params.invalid("valid_until", "an epoch not before valid_from"));
    }
    params.optional("balanced", rounded(0, 0))?;
    let terms = Terms {
        id: match params.optional("contractId", params::contract)? {
            Some(id) => id,
            None => made_id(&call)?,
        },
        asset: params.required("assetId", params::asset)?,
        partner: params.required("partnerId", params::asset)?,
        direction: params.required("direction", word(Direction::ALL, Direction::as_str))?,
        delivery: params
            .optional("delivery", word(Delivery::ALL, Delivery::as_str))?
            .unwrap_or(Delivery::AsAvailable),
        energy: params.required("energy", params::energy)?,
        load_min: params.optional("load_min", params::energy)?.unwrap_or(Wh::ZERO),
        load_max: params.optional("load_max", params::energy)?,
        energy_total: params.optional("energy_total", params::energy)?,
        valid_from,
        valid_until,
        price: params.optional("price", params::money)?.unwrap_or_default(),
    };
    let action = Action::AddContract {
        terms,
        status: params.optional("status", words)?.unwrap_or(Status::Active),
        priority: params
            .optional("priority", whole(-MAX_FIGURE, MAX_FIGURE))?
            .unwrap_or(1),
    };
    let receipt = call.submit(action).await?;
    outcome::answer(&call, receipt).await
}

/// 16 url-safe characters. A retry with the same Idempotency-Key makes the same id, or it would be another action.
fn made_id(call: &Call) -> Result<ContractId, Fault> {
    let nonce = call.nonce.unwrap_or_else(|| call.backend.nonce());
    let id = base64url(&half(&digest("contract-id", &nonce))[..12]);
    ContractId::try_from(id.as_str()).map_err(|what| call.params.invalid("contractId", what))
}

async fn get(call: Call) -> Result<Answer, Fault> {
    let id = call.params.required("contractId", params::contract)?;
    let ledger = call.ledger();
    match ledger.contract(&id) {
        Some(contract) => Ok(wire::contract(contract).into()),
        None => Err(Refusal::UnknownContract { contract: id }.into()),
    }
}

async fn list(call: Call) -> Result<Answer, Fault> {
    let params = &call.params;
    let asset = params.optional("assetId", params::asset)?;
    let partner = params.optional("partnerId", params::asset)?;
    let status = params.optional("status", word(Status::ALL, Status::as_str))?;
    let limit = params.optional("limit", page(LIMIT))?.unwrap_or(1000);
    let ledger = call.ledger();
    let found = ledger
        .contracts(asset.as_ref(), partner.as_ref(), status)
        .take(limit);
    Ok(Value::from(found.map(wire::contract).collect::<Vec<_>>()).into())
}

async fn make(call: Call, change: Change) -> Result<Answer, Fault> {
    let contract = call.params.required("contractId", params::contract)?;
    let receipt = call.submit(Action::ChangeContract { contract, change }).await?;
    outcome::answer(&call, receipt).await
}
