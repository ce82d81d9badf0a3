//! Packed batches: the same settlements in 20 bytes each.

use ledger::canonical::Canonical;
use ledger::roster::{Row, Rows, roster_id};
use ledger::{AssetId, Epoch, RosterBatch};
use serde_json::{Value, json};

use super::{Client, Got};

const PACKED: &[(&str, &str)] = &[("content-type", "application/vnd.gridseal.batch")];

fn batch(meters: &[&str], rows: &[(u32, i64)]) -> RosterBatch {
    let meters: Vec<AssetId> = meters
        .iter()
        .map(|meter| meter.parse().expect("a name"))
        .collect();
    let rows: Rows = rows
        .iter()
        .map(|(place, consumption)| Row {
            place: *place,
            consumption: *consumption,
            co2eq: 3,
        })
        .collect();
    RosterBatch {
        roster: roster_id(&meters),
        epoch: Epoch::new(9).expect("an epoch"),
        label: "virtual_1".parse().expect("a label"),
        rows,
    }
}

fn settle(client: &Client, body: Vec<u8>) -> Got {
    client.raw("POST", "/api/balancing/addSettlements", PACKED, body)
}

#[test]
fn a_packed_batch_books_what_its_settlements_book() {
    let client = Client::new();
    client.done(
        "asset.upsert",
        json!({ "assetId": "pv", "balancerule": { "to": "house" } }),
    );
    let added = client.done("balancing.addRoster", json!({ "meters": ["shed", "pv"] }));
    let batch = batch(&["shed", "pv"], &[(1, 500), (0, -20)]);
    assert_eq!(added["roster"], json!(batch.roster));
    let got = settle(&client, batch.to_bytes());
    assert_eq!((got.status.as_u16(), &got.body["accepted"]), (200, &json!(2)));

    let twin = Client::new();
    twin.done(
        "asset.upsert",
        json!({ "assetId": "pv", "balancerule": { "to": "house" } }),
    );
    let one = |meter: &str, consumption: i64| json!({ "meterId": meter, "epoch": 9, "consumption": consumption, "label": "virtual_1", "co2eq": 3 });
    twin.done(
        "balancing.addSettlements",
        json!([one("pv", 500), one("shed", -20)]),
    );
    let journal = |client: &Client, asset: &str| {
        let mut journal = client.done("balancing.journal", json!({ "assetId": asset, "epoch": 9 }));
        for statement in journal["statements"].as_array_mut().into_iter().flatten() {
            // The entry's index differs: the roster took one.
            statement["id"] = Value::Null;
        }
        journal
    };
    for asset in ["pv", "house", "shed", "eaf_generic_balancegroup"] {
        assert_eq!(journal(&client, asset), journal(&twin, asset), "{asset}");
    }
}

#[test]
fn what_is_no_packed_batch_is_refused_and_says_what_one_is() {
    let client = Client::new();
    client.done("balancing.addRoster", json!({ "meters": ["a"] }));
    let good = batch(&["a"], &[(0, 1)]).to_bytes();
    for bad in [&good[..good.len() - 1], &[good.as_slice(), &[0]].concat(), b"{}"] {
        let got = settle(&client, bad.to_vec());
        assert_eq!(got.status, 422, "{}", got.body);
        let expected = got.body["error"]["expected"].as_str().unwrap_or_default();
        assert!(expected.contains("20 bytes a row"), "{}", got.body);
    }
    let got = settle(&client, batch(&["b"], &[(0, 1)]).to_bytes());
    assert_eq!(
        (got.status.as_u16(), &got.body["error"]["code"]),
        (404, &json!("unknown_roster"))
    );
    let got = settle(&client, batch(&["a"], &[(1, 1)]).to_bytes());
    assert_eq!(
        (got.status.as_u16(), &got.body["error"]["code"]),
        (409, &json!("out_of_range"))
    );
    // 100 settlements are the limit here.
    let got = settle(&client, batch(&["a"], &[(0, 1); 101]).to_bytes());
    assert_eq!(got.status, 413, "{}", got.body);
    assert!(
        client.solo.ledger.read().epochs().next().is_none(),
        "nothing was booked"
    );
}
