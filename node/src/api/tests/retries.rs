//! Exactly once: Idempotency-Keys and envelopes.

use ledger::canonical::Canonical;
use ledger::{Action, AssetId, Epoch};
use serde_json::{Value, json};

use super::{Client, Got, key};

fn keyed(client: &Client, action: &str, key: &str, body: &Value) -> Got {
    let path = format!("/api/{}", action.replacen('.', "/", 1));
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    client.raw("POST", &path, &headers, body.to_string())
}

#[test]
fn a_retry_with_the_same_key_books_once_and_answers_the_same() {
    let client = Client::new();
    let body = json!({ "meterId": "m", "epoch": 1, "consumption": 5, "label": "x" });
    let first = keyed(&client, "balancing.addSettlement", "order 66 ä", &body);
    let second = keyed(&client, "balancing.addSettlement", "order 66 ä", &body);
    assert_eq!((first.status, &first.body), (second.status, &second.body));
    let journal = client.get("/api/balancing/journal?assetId=m&epoch=1").body;
    assert_eq!(journal["statements"].as_array().map(Vec::len), Some(1));
    // Another key is another settlement, another action under the same key is refused.
    keyed(&client, "balancing.addSettlement", "order 67", &body);
    let journal = client.get("/api/balancing/journal?assetId=m&epoch=1").body;
    assert_eq!(journal["statements"].as_array().map(Vec::len), Some(2));
    let reused = keyed(
        &client,
        "balancing.seal",
        "order 66 ä",
        &json!({ "assetId": "m", "epoch": 1 }),
    );
    assert_eq!(
        (reused.status.as_u16(), &reused.body["error"]["code"]),
        (409, &json!("nonce_reused"))
    );
}

#[test]
fn a_made_contract_id_survives_a_retry() {
    let client = Client::new();
    let body = json!({ "assetId": "a", "partnerId": "b", "direction": "to", "energy": 1 });
    let first = keyed(&client, "contract.add", "k", &body).body;
    assert_eq!(keyed(&client, "contract.add", "k", &body).body, first);
    assert_eq!(
        client.get("/api/contract/list").body.as_array().map(Vec::len),
        Some(1)
    );
    let id = first["contractId"].as_str().expect("an id");
    assert!(
        id.len() == 16
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'),
        "{id}"
    );
    assert_ne!(
        client.done("contract.add", body)["contractId"],
        first["contractId"]
    );
}

#[test]
fn refusals_are_remembered_too() {
    let client = Client::new();
    let seal = json!({ "assetId": "m", "epoch": 1 });
    let first = keyed(&client, "balancing.seal", "k", &seal);
    assert_eq!(
        (first.status.as_u16(), &first.body["error"]["code"]),
        (404, &json!("unknown_asset"))
    );
    client.done(
        "balancing.addSettlement",
        json!({ "meterId": "m", "epoch": 1, "consumption": 5, "label": "x" }),
    );
    let second = keyed(&client, "balancing.seal", "k", &seal);
    assert_eq!(second.body["error"]["code"], "unknown_asset");
}

#[test]
fn keys_have_bounds() {
    let client = Client::new();
    let body = json!({ "meterId": "m", "epoch": 1, "consumption": 5, "label": "x" });
    assert_eq!(
        keyed(&client, "balancing.addSettlement", &"k".repeat(64), &body).status,
        200
    );
    for key in ["", &"k".repeat(65)] {
        let got = keyed(&client, "balancing.addSettlement", key, &body);
        assert_eq!(
            (got.status.as_u16(), &got.body["error"]["field"]),
            (422, &json!("Idempotency-Key"))
        );
    }
}

#[test]
fn signed_envelopes_are_answered_as_their_actions() {
    let client = Client::new();
    client.done(
        "balancing.addSettlement",
        json!({ "meterId": "m", "epoch": 1, "consumption": 5, "label": "x" }),
    );
    let asset = AssetId::try_from("m").expect("a name");
    let action = Action::Seal {
        asset,
        epoch: Epoch::new(1).expect("small"),
    };
    let envelope = client.solo.envelope(&key(2), [7; 16], action.clone()).to_bytes();
    let octets = [("content-type", "application/octet-stream")];
    let sealed = client.raw("POST", "/api/envelope/submit", &octets, envelope.clone());
    assert_eq!(
        (
            sealed.status.as_u16(),
            &sealed.body["assetId"],
            &sealed.body["version"]
        ),
        (200, &json!("m"), &json!(0))
    );
    // The same envelope again, now as JSON: the first answer, but that the token is issued anew.
    let text = ledger::jws::base64url(&envelope);
    let (mut again, mut first) = (
        client.done("envelope.submit", json!({ "envelope": text })),
        sealed.body,
    );
    assert!(again["seal"].is_string() && first["seal"].is_string());
    (again["seal"], first["seal"]) = (Value::Null, Value::Null);
    assert_eq!(again, first);

    let stranger = client.solo.envelope(&key(9), [8; 16], action.clone()).to_bytes();
    let got = client.raw("POST", "/api/envelope/submit", &octets, stranger);
    assert_eq!(
        (got.status.as_u16(), &got.body["error"]["code"]),
        (403, &json!("unknown_signer"))
    );
    let mut forged = client.solo.envelope(&key(2), [9; 16], action);
    forged.signature.0[0] ^= 1;
    let got = client.raw("POST", "/api/envelope/submit", &octets, forged.to_bytes());
    assert_eq!(
        (got.status.as_u16(), &got.body["error"]["code"]),
        (403, &json!("bad_signature"))
    );
    for (body, headers) in [
        (b"".to_vec(), &octets[..]),
        (b"junk".to_vec(), &octets),
        (envelope[..envelope.len() - 1].to_vec(), &octets),
        (b"{}".to_vec(), &[]),
        (b"{\"envelope\":\"!\"}".to_vec(), &[]),
        (b"{\"envelope\":7}".to_vec(), &[]),
    ] {
        let got = client.raw("POST", "/api/envelope/submit", headers, body);
        assert_eq!(
            (got.status.as_u16(), &got.body["error"]["field"]),
            (422, &json!("envelope")),
            "{}",
            got.body
        );
    }
}

#[test]
fn an_envelope_with_one_settlement_answers_its_statement() {
    let client = Client::new();
    let settlement = ledger::Settlement {
        meter: AssetId::try_from("m").expect("a name"),
        epoch: Epoch::new(1).expect("small"),
        consumption: ledger::Wh::new(5).expect("small"),
        label: ledger::Label::try_from("x").expect("a label"),
        co2eq: ledger::GramsCo2::ZERO,
        autoseal: Some(0),
    };
    let action = Action::Settle {
        settlements: vec![settlement],
    };
    let envelope = client.solo.envelope(&key(2), [1; 16], action).to_bytes();
    let body = client.done(
        "envelope.submit",
        json!({ "envelope": ledger::jws::base64url(&envelope) }),
    );
    assert_eq!(
        (&body["statement"]["energy"], &body["autoseal"]["seal"]["version"]),
        (&json!(5), &json!(0))
    );
}
