//! What an answer to a write tells of what became of it: by which entry, and in the oracle's words what was sealed and what was not.

use serde_json::{Value, json};

/// What a client was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The log index of the entry, where it is told.
    pub index: Option<u64>,
    /// What became of it, as [`crate::oracle::answer::Answer::heard`] says it.
    pub words: String,
    /// How many settlements were booked, where it is told.
    pub accepted: Option<u64>,
    /// In what a contract that is told differs from the one that was asked for.
    pub differs: Option<String>,
}

/// What the answer to a request that was done tells.
pub fn told(action: &str, request: &Value, body: &Value) -> Told {
    let words = match action {
        "balancing.addSettlement" => settled(std::slice::from_ref(&body["autoseal"])),
        "balancing.addSettlements" => settled(body["autoseals"].as_array().map_or(&[], Vec::as_slice)),
        "balancing.seal" | "balancing.correct" => format!("sealed: {}", seal(body)),
        "balancing.sealEpoch" => {
            let list = |name: &str| body[name].as_array().cloned().unwrap_or_default();
            let seals: Vec<String> = list("seals").iter().map(seal).collect();
            let held: Vec<String> = list("held")
                .iter()
                .map(|held| format!("{} {}", text(&held["assetId"]), text(&held["code"])))
                .collect();
            format!("sealed: {seals:?}, held: {held:?}")
        }
        "audit.approve" => format!("approved: {}", body["approvals"]),
        _ => "done".to_owned(),
    };
    Told {
        index: body["index"].as_u64(),
        words,
        accepted: body["accepted"].as_u64(),
        differs: contract(action, request, body).or_else(|| places(request, body)),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn seal(body: &Value) -> String {
    format!(
        "{}/{} v{}",
        text(&body["assetId"]),
        body["epoch"],
        body["version"]
    )
}

/// What became of each `autoseal`; nothing is told of a settlement that had none.
fn settled(autoseals: &[Value]) -> String {
    let one = |autoseal: &Value| match &autoseal["error"] {
        Value::Null => seal(&autoseal["seal"]),
        error => text(&error["code"]).to_owned(),
    };
    let all: Vec<String> = autoseals
        .iter()
        .filter(|autoseal| !autoseal.is_null())
        .map(one)
        .collect();
    format!("settled: {all:?}")
}

/// Of a list of settlements it is told which one's `autoseal` each was.
fn places(request: &Value, body: &Value) -> Option<String> {
    let told = body["autoseals"].as_array()?;
    let told: Vec<&Value> = told.iter().map(|autoseal| &autoseal["settlement"]).collect();
    let asked = request.as_array()?.iter().enumerate();
    let asked: Vec<usize> = asked
        .filter(|(_, settlement)| !settlement["autoseal"].is_null())
        .map(|(place, _)| place)
        .collect();
    (json!(told) != json!(asked)).then(|| format!("it seals for the settlements {told:?}, and not {asked:?}"))
}

/// A contract that is told is the one asked for, in the status that the change gives it.
fn contract(action: &str, request: &Value, body: &Value) -> Option<String> {
    let status = match action {
        "contract.add" => request["status"].as_str().unwrap_or("active"),
        "contract.confirm" | "contract.activate" => "active",
        "contract.suspend" => "suspended",
        "contract.cancel" => "cancelled",
        _ => return None,
    };
    if body["status"] != status {
        return Some(format!("its status is {}, and not {status}", body["status"]));
    }
    let asked = request.as_object().into_iter().flatten();
    // What was left open is made up.
    let mut asked = asked.filter(|(name, value)| match value {
        Value::Null => body[*name].is_null(),
        value => body[*name] != **value,
    });
    asked
        .next()
        .map(|(name, value)| format!("{name} is {}, and not {value}", body[name]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(action: &str, body: &Value) -> String {
        told(action, &json!({}), body).words
    }

    #[test]
    fn what_was_sealed_and_what_was_not() {
        let one = json!({"assetId": "a", "epoch": 7, "version": 1, "index": 9});
        assert_eq!(words("balancing.seal", &one), "sealed: a/7 v1");
        assert_eq!(told("balancing.correct", &json!({}), &one).index, Some(9));
        let epoch = json!({"seals": [one], "held": [{"assetId": "b", "code": "downstream_open"}]});
        let all = "sealed: [\"a/7 v1\"], held: [\"b downstream_open\"]";
        assert_eq!(words("balancing.sealEpoch", &epoch), all);
        assert_eq!(words("audit.approve", &json!({"approvals": 2})), "approved: 2");
        assert_eq!(words("asset.upsert", &json!({"index": 3})), "done");
    }

    #[test]
    fn what_became_of_autoseals() {
        let (made, not) = (
            json!({"settlement": 0, "seal": {"assetId": "a", "epoch": 7, "version": 0}}),
            json!({"settlement": 2, "error": {"code": "already_sealed", "message": "x"}}),
        );
        let many = json!({"accepted": 3, "index": 4, "autoseals": [made, not]});
        let asked = json!([{"autoseal": 0}, {}, {"autoseal": 3}]);
        let told_of = told("balancing.addSettlements", &asked, &many);
        assert_eq!(told_of.differs, None);
        let others = told(
            "balancing.addSettlements",
            &json!([{}, {"autoseal": 0}, {"autoseal": 3}]),
            &many,
        );
        assert!(others.differs.is_some());
        assert_eq!(told_of.words, "settled: [\"a/7 v0\", \"already_sealed\"]");
        assert_eq!((told_of.accepted, told_of.index), (Some(3), Some(4)));
        assert_eq!(
            words("balancing.addSettlements", &json!({"accepted": 1})),
            "settled: []"
        );
        let single = json!({"statement": {}, "autoseal": made});
        assert_eq!(words("balancing.addSettlement", &single), "settled: [\"a/7 v0\"]");
        assert_eq!(words("balancing.addSettlement", &json!({})), "settled: []");
    }

    #[test]
    fn a_contract_is_the_one_that_was_asked_for() {
        let differs = |action: &str, request: Value, body: Value| told(action, &request, &body).differs;
        let asked = json!({"contractId": "c", "energy": 5});
        let given = |status: &str| json!({"contractId": "c", "energy": 5, "priority": 1, "status": status});
        assert_eq!(differs("contract.add", asked.clone(), given("active")), None);
        let proposed = json!({"contractId": "c", "status": "proposed"});
        assert_eq!(differs("contract.add", proposed.clone(), given("proposed")), None);
        for (action, status) in [
            ("contract.confirm", "active"),
            ("contract.activate", "active"),
            ("contract.suspend", "suspended"),
            ("contract.cancel", "cancelled"),
        ] {
            let request = json!({"contractId": "c"});
            assert_eq!(differs(action, request.clone(), given(status)), None, "{action}");
            assert!(differs(action, request, given("proposed")).is_some(), "{action}");
        }
        assert!(
            differs(
                "contract.add",
                asked,
                json!({"contractId": "c", "energy": 6, "status": "active"})
            )
            .is_some()
        );
        assert!(differs("contract.add", proposed, given("active")).is_some());
        let nameless = json!({"contractId": null});
        assert_eq!(differs("contract.add", nameless.clone(), given("active")), None);
        assert!(differs("contract.add", nameless, json!({"status": "active"})).is_some());
    }
}
