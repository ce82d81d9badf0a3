//! The JSON shapes of the ledger's things. Wire types are not domain types: names here are the API's.

use ledger::asset::{Asset, AssetId};
use ledger::block::Block;
use ledger::contract::Contract;
use ledger::journal::SealRecord;
use ledger::seal::Served;
use ledger::{Refusal, Statement};
use serde_json::{Map, Value, json};

use super::error::Fault;

/// Sums are wider than any single figure; JSON readers are exact up to 2^53 and near beyond.
pub(crate) fn sum(figure: i128) -> Value {
    i64::try_from(figure).map_or_else(|_| Value::from(figure as f64), Value::from)
}

/// An asset: EAF's fields, then its other fields as they were given.
pub(crate) fn asset(asset: &Asset) -> Value {
    let mut fields: Map<String, Value> = asset
        .metadata
        .iter()
        // A signed envelope may carry what is no JSON; it is shown as the text that it is.
        .map(|(name, text)| {
            (
                name.clone(),
                serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()),
            )
        })
        .collect();
    fields.insert("assetId".to_owned(), json!(asset.id));
    fields.insert("type".to_owned(), json!(asset.kind));
    fields.insert("balancerule".to_owned(), json!(asset.rule));
    Value::Object(fields)
}

/// A contract with what it has booked so far.
pub(crate) fn contract(contract: &Contract) -> Value {
    let terms = &contract.terms;
    json!({
        "contractId": terms.id,
        "assetId": terms.asset,
        "partnerId": terms.partner,
        "direction": terms.direction,
        "status": contract.status,
        "priority": contract.priority,
        "delivery": terms.delivery,
        "energy": terms.energy,
        "load_min": terms.load_min,
        "load_max": terms.load_max,
        "energy_total": terms.energy_total,
        "valid_from": terms.valid_from,
        "valid_until": terms.valid_until,
        "price": terms.price,
        "balanced": sum(contract.balanced),
    })
}

/// A statement.
pub(crate) fn statement(statement: &Statement) -> Value {
    Value::Object(statement_fields(statement))
}

/// A statement's fields.
pub(crate) fn statement_fields(statement: &Statement) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    put("id", statement.id.to_string().into());
    put("from", json!(statement.from));
    put("to", json!(statement.to));
    put("epoch", json!(statement.epoch));
    put("energy", json!(statement.energy));
    put("co2eq", json!(statement.co2eq));
    put("kind", json!(statement.kind_name()));
    put("label", statement.label().into());
    if let Some(meter) = statement.meter() {
        put("meter", json!(meter));
    }
    if let Some(contract) = statement.contract() {
        put("contractId", json!(contract));
    }
    if let Some(value) = statement.value() {
        put("value", json!(value));
    }
    fields
}

/// A seal by its name and digest.
pub(crate) fn seal_name(record: &SealRecord) -> Value {
    let seal = &record.seal;
    json!({ "assetId": seal.asset, "epoch": seal.epoch, "version": seal.version, "digest": record.digest })
}

/// A contract's turn in a seal: `{contractId, energy}`, and the reason only where the energy is 0.
pub(crate) fn served(served: &Served) -> Value {
    let mut value = json!({ "contractId": served.contract, "energy": served.energy });
    if let Some(reason) = served.reason {
        value["reason"] = json!(reason);
    }
    value
}

/// An asset that a whole-epoch sealing left open, or an autoseal that was refused.
pub(crate) fn held(asset: &AssetId, refusal: &Refusal) -> Value {
    json!({ "assetId": asset, "code": refusal.code() })
}

/// A refusal that stands within an answer.
pub(crate) fn refusal(refusal: &Refusal) -> Value {
    Fault::from(refusal.clone()).error()
}

/// A block and how many signed it.
pub(crate) fn block(block: &Block) -> Value {
    let header = &block.header;
    json!({
        "index": header.index,
        "count": header.count,
        "root": header.root,
        "previous": header.previous,
        "state": header.state,
        "digest": block.digest,
        "signatures": block.signatures.len(),
        "certified": block.certified,
    })
}
