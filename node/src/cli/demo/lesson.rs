//! The reference lesson: four calls, two seals, four statements.
//!
//! The same calls as any client of the original would make. Safe to run again: what is there already is left
//! as it is.

use serde_json::{Value, json};

use super::super::Failure;
use crate::client::{Ask, Client};

/// The lesson's epoch.
const EPOCH: u64 = 1337;

/// Runs the lesson, or what is missing of it, and returns its statements in booking order, one line each.
pub(super) async fn run(client: &Client) -> Result<Vec<String>, Failure> {
    let upserts = [
        json!({"assetId": "production1", "type": "balance", "balancerule": {"to": "seller1"}}),
        json!({"assetId": "seller1", "type": "balance", "balancerule": {"from": "bigbalancer", "to": "bigbalancer"}}),
    ];
    for upsert in &upserts {
        let key = format!(
            "demo-lesson-asset-{}",
            upsert["assetId"].as_str().unwrap_or_default()
        );
        call(client, &Ask::once("asset.upsert", upsert, key)).await?;
    }

    let contracts = call(client, &Ask::new("contract.list", &json!({"assetId": "seller1"}))).await?;
    if contracts.as_array().is_some_and(Vec::is_empty) {
        let contract = json!({"assetId": "seller1", "partnerId": "buyer1", "direction": "to", "energy": 200,
            "load_min": 0, "load_max": 20_000, "balanced": 0, "status": "active"});
        call(
            client,
            &Ask::once("contract.add", &contract, "demo-lesson-contract"),
        )
        .await?;
    }

    if statements(client, "production1").await?.is_empty() {
        let settlement =
            json!({"meterId": "production1", "epoch": EPOCH, "consumption": 500, "label": "virtual_1"});
        call(
            client,
            &Ask::once("balancing.addSettlement", &settlement, "demo-lesson-settlement"),
        )
        .await?;
    }
    for asset in ["production1", "seller1"] {
        let body = json!({"assetId": asset, "epoch": EPOCH});
        if call(client, &Ask::new("balancing.isSealed", &body)).await? != Value::Bool(true) {
            call(
                client,
                &Ask::once("balancing.seal", &body, format!("demo-lesson-seal-{asset}")),
            )
            .await?;
        }
    }
    Ok(statements(client, "seller1").await?.iter().map(line).collect())
}

async fn call(client: &Client, ask: &Ask) -> Result<Value, Failure> {
    Ok(client.call(0, ask).await?.ok(&ask.action)?)
}

async fn statements(client: &Client, asset: &str) -> Result<Vec<Value>, Failure> {
    let body = json!({"assetId": asset, "epoch": EPOCH});
    let journal = call(client, &Ask::new("balancing.journal", &body)).await?;
    journal["statements"].as_array().cloned().ok_or_else(|| {
        Failure::Broken(format!(
            "balancing.journal of {asset} answered without statements: {journal}"
        ))
    })
}

fn line(statement: &Value) -> String {
    let text = |field: &str| statement[field].as_str().unwrap_or("?").to_owned();
    format!(
        "{:<11} → {:<11} {:>4} Wh  {}",
        text("from"),
        text("to"),
        statement["energy"],
        text("kind")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_one_line() {
        let statement =
            json!({"from": "seller1", "to": "buyer1", "energy": 200, "kind": "contract", "label": ".ppa"});
        assert_eq!(line(&statement), "seller1     → buyer1      200 Wh  contract");
    }
}
