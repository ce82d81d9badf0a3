//! Every worked example of the specification, through HTTP.

use serde_json::Value;

use super::Client;

/// Whether everything that is expected is there; what is there besides doesn't matter.
fn within(expected: &Value, got: &Value) -> bool {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => expected
            .iter()
            .all(|(name, value)| got.get(name).is_some_and(|got| within(value, got))),
        (Value::Array(expected), Value::Array(got)) => {
            expected.len() == got.len()
                && expected
                    .iter()
                    .zip(got)
                    .all(|(expected, got)| within(expected, got))
        }
        _ => expected == got,
    }
}

fn step(client: &Client, step: &Value, place: &str) {
    let call = step["call"].as_str().expect("a call");
    let (got, expect) = (client.post(call, &step["params"]), &step["expect"]);
    if let Some(code) = expect.get("error") {
        assert_eq!(&got.body["error"]["code"], code, "{place}: {}", got.body);
        let status = if code.as_str().is_some_and(|code| code.starts_with("unknown_")) {
            404
        } else {
            409
        };
        assert_eq!(got.status, status, "{place}");
        if let Some(assets) = expect.get("assets") {
            assert_eq!(&got.body["error"]["assets"], assets, "{place}");
        }
        return;
    }
    assert_eq!(got.status, 200, "{place}: {}", got.body);
    if let Some(statement) = expect.get("statement") {
        assert!(within(statement, &got.body["statement"]), "{place}: {}", got.body);
    }
    if let Some(seal) = expect.get("seal") {
        assert!(
            within(seal, &got.body),
            "{place}: {} is not within {}",
            seal,
            got.body
        );
        assert_eq!(
            got.body["contracts"], seal["contracts"],
            "{place}: reasons only where the energy is 0"
        );
    }
    for list in ["seals", "held"] {
        if let Some(expected) = expect.get(list) {
            assert!(
                within(expected, &got.body[list]),
                "{place}: {expected} is not {}",
                got.body[list]
            );
        }
    }
}

#[test]
fn all_vectors_through_http() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the vectors")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 10);
    for path in paths {
        let vector: Value = serde_json::from_slice(&std::fs::read(&path).expect("readable")).expect("JSON");
        let client = Client::new();
        for (number, each) in vector["steps"].as_array().expect("steps").iter().enumerate() {
            step(&client, each, &format!("{} step {number}", path.display()));
        }
        let ledger = client.solo.ledger.read();
        let booked: Vec<Value> = ledger
            .epochs()
            .flat_map(|epoch| ledger.statements(epoch).collect::<Vec<_>>())
            .map(|s| crate::api::wire::statement(&s))
            .collect();
        let mut booked = booked;
        booked.sort_by_key(|statement| {
            let id = statement["id"]
                .as_str()
                .expect("an id")
                .split_once('.')
                .map(|(i, p)| (i.parse::<u64>(), p.parse::<u64>()));
            id.map(|(index, position)| (index.expect("a number"), position.expect("a number")))
        });
        let expected = &vector["statements"];
        assert!(
            within(expected, &Value::from(booked)),
            "{}: the statements differ",
            path.display()
        );
        for (id, balanced) in vector["contracts"].as_object().into_iter().flatten() {
            let contract = ledger
                .contract(&id.as_str().try_into().expect("an id"))
                .expect("a contract");
            let balanced = balanced.get("balanced").unwrap_or(balanced);
            assert_eq!(
                &crate::api::wire::contract(contract)["balanced"],
                balanced,
                "{} {id}",
                path.display()
            );
        }
    }
}
