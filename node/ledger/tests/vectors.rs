//! The worked examples of the specification, step by step: statements in order, seals, refusals with their codes,
//! what contracts booked.

mod common;

use common::Cluster;
use ledger::contract::{Delivery, Direction, Status, Terms};
use ledger::rule::Rule;
use ledger::units::{Epoch, GramsCo2, MicroCurrency, Wh, round_decimal};
use ledger::{Action, AssetId, ContractId, Outcome, Settlement, Statement};
use serde_json::{Map, Value, json};

#[test]
fn every_vector_passes_step_by_step() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the vectors are here")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    assert!(files.len() >= 10, "the vectors are missing");
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable");
        run(
            &file.display().to_string(),
            &serde_json::from_str(&text).expect("a vector is JSON"),
        );
    }
}

fn run(name: &str, vector: &Value) {
    let mut cluster = Cluster::new();
    for (number, step) in vector["steps"].as_array().expect("steps").iter().enumerate() {
        let call = step["call"].as_str().expect("a call");
        let action = action(call, step["params"].as_object().expect("parameters"));
        let outcome = cluster.act(action);
        let answer = answer(&cluster, &outcome);
        let expected = &step["expect"];
        assert_eq!(&answer, expected, "{name}, step {number}: {step}");
    }
    let booked: Vec<Value> = cluster.booked.iter().map(statement).collect();
    assert_eq!(
        booked,
        *vector["statements"].as_array().expect("statements"),
        "{name}: statements"
    );
    for epoch in cluster.ledger.epochs() {
        let of_epoch: Vec<Value> = cluster.ledger.statements(epoch).map(|s| statement(&s)).collect();
        let expected: Vec<Value> = booked
            .iter()
            .filter(|s| s["epoch"] == json!(epoch.get()))
            .cloned()
            .collect();
        assert_eq!(of_epoch, expected, "{name}: statements as stored");
    }
    let mut seals = Vec::new();
    for asset in cluster.ledger.assets() {
        for epoch in cluster.ledger.epochs() {
            seals.extend(
                cluster
                    .ledger
                    .seals(&asset.id, epoch)
                    .iter()
                    .map(|record| seal(&record.seal)),
            );
        }
    }
    assert_eq!(
        seals,
        *vector["seals"].as_array().expect("seals"),
        "{name}: seals"
    );
    for (id, balanced) in vector["contracts"].as_object().expect("contracts") {
        let contract = cluster
            .ledger
            .contract(&ContractId::try_from(id.as_str()).expect("an id"));
        let contract = contract.unwrap_or_else(|| panic!("{name}: contract {id} is missing"));
        assert_eq!(
            i64::try_from(contract.balanced).ok(),
            balanced.as_i64(),
            "{name}: contract {id}"
        );
    }
    let known = vector["contracts"].as_object().map_or(0, Map::len);
    assert_eq!(
        cluster.ledger.contracts(None, None, None).count(),
        known,
        "{name}: number of contracts"
    );
}

fn action(call: &str, p: &Map<String, Value>) -> Action {
    let text = |key: &str| p.get(key).and_then(Value::as_str).map(str::to_owned);
    let asset =
        |key: &str| AssetId::try_from(text(key).unwrap_or_else(|| panic!("{key} in {p:?}"))).expect("an id");
    let int = |key: &str| {
        p.get(key)
            .map(|v| round_decimal(&v.to_string()).expect("a number"))
    };
    let wh = |key: &str| int(key).map(|n| Wh::new(n).expect("in range"));
    let epoch = |key: &str| {
        p.get(key)
            .map(|v| Epoch::new(v.as_u64().expect("an epoch")).expect("in range"))
    };
    let contract = || ContractId::try_from(text("contractId").expect("a contract")).expect("an id");
    match call {
        "asset.upsert" => Action::UpsertAsset {
            asset: asset("assetId"),
            kind: text("type"),
            rule: p
                .get("balancerule")
                .map(|rule| serde_json::from_value::<Rule>(rule.clone()).expect("a rule")),
            metadata: Default::default(),
        },
        "contract.add" => Action::AddContract {
            terms: Terms {
                id: contract(),
                asset: asset("assetId"),
                partner: asset("partnerId"),
                direction: Direction::parse(&text("direction").expect("a direction")).expect("a direction"),
                delivery: text("delivery").map_or(Delivery::AsAvailable, |d| {
                    Delivery::parse(&d).expect("a delivery")
                }),
                energy: wh("energy").expect("energy"),
                load_min: wh("load_min").unwrap_or_default(),
                load_max: wh("load_max"),
                energy_total: wh("energy_total"),
                valid_from: epoch("valid_from"),
                valid_until: epoch("valid_until"),
                price: MicroCurrency::new(int("price").unwrap_or(0)).expect("in range"),
            },
            status: text("status").map_or(Status::Active, |s| Status::parse(&s).expect("a status")),
            priority: int("priority").unwrap_or(1),
        },
        "contract.suspend" => Action::ChangeContract {
            contract: contract(),
            change: ledger::contract::Change::Suspend,
        },
        "contract.cancel" => Action::ChangeContract {
            contract: contract(),
            change: ledger::contract::Change::Cancel,
        },
        "balancing.addSettlement" => Action::Settle {
            settlements: vec![Settlement {
                meter: asset("meterId"),
                epoch: epoch("epoch").expect("an epoch"),
                consumption: wh("consumption").expect("consumption"),
                label: text("label").expect("a label").try_into().expect("a label"),
                co2eq: GramsCo2::new(int("co2eq").unwrap_or(0)).expect("in range"),
                autoseal: None,
            }],
        },
        "balancing.seal" => Action::Seal {
            asset: asset("assetId"),
            epoch: epoch("epoch").expect("an epoch"),
        },
        "balancing.correct" => Action::Correct {
            asset: asset("assetId"),
            epoch: epoch("epoch").expect("an epoch"),
        },
        "balancing.sealEpoch" => Action::SealEpoch {
            epoch: epoch("epoch").expect("an epoch"),
            under: p.get("under").map(|_| asset("under")),
        },
        other => panic!("a call that this test doesn't know: {other}"),
    }
}

fn answer(cluster: &Cluster, outcome: &Outcome) -> Value {
    let sealed = |id: &ledger::seal::SealRef| {
        let record = cluster
            .ledger
            .seal_record(&id.asset, id.epoch, Some(id.version))
            .expect("a seal that was made");
        seal(&record.seal)
    };
    match outcome {
        Outcome::Refused { refusal } => {
            let mut error = json!({ "error": refusal.code() });
            if let ledger::Refusal::DownstreamOpen { assets, .. } = refusal {
                error["assets"] = json!(assets);
            }
            error
        }
        Outcome::Asset { .. } | Outcome::Contract { .. } => json!({}),
        Outcome::Settled { .. } => {
            json!({ "statement": statement(cluster.booked.last().expect("one was booked")) })
        }
        Outcome::Sealed { seal, .. } => json!({ "seal": sealed(seal) }),
        Outcome::EpochSealed { seals, held, .. } => {
            let held: Vec<Value> = held
                .iter()
                .map(|h| json!({ "assetId": h.asset, "code": h.refusal.code() }))
                .collect();
            json!({ "seals": seals.iter().map(sealed).collect::<Vec<_>>(), "held": held })
        }
        other => panic!("an outcome that no vector expects: {other:?}"),
    }
}

fn statement(s: &Statement) -> Value {
    let mut value = json!({
        "from": s.from, "to": s.to, "epoch": s.epoch, "energy": s.energy, "co2eq": s.co2eq,
        "kind": s.kind_name(), "label": s.label(),
    });
    if let Some(contract) = s.contract() {
        value["contractId"] = json!(contract);
        value["value"] = json!(s.value());
    }
    value
}

fn seal(s: &ledger::seal::Seal) -> Value {
    let contracts: Vec<Value> = s
        .contracts
        .iter()
        .map(|served| match served.reason {
            None => json!({ "contractId": served.contract, "energy": served.energy }),
            Some(reason) => {
                json!({ "contractId": served.contract, "energy": served.energy, "reason": reason })
            }
        })
        .collect();
    json!({
        "assetId": s.asset, "epoch": s.epoch, "version": s.version, "watermark": s.watermark,
        "residual": s.residual, "position": s.position, "contracts": contracts,
    })
}
