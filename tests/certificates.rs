//! Certificates convince a stranger: the offline verifier, a foreign JOSE library, and nothing that was altered.

mod common;

use common::{Cluster, Plan, gridseal};
use jwt_compact::alg::Ed25519;
use jwt_compact::{AlgorithmExt as _, UntrustedToken};
use serde_json::{Value, json};

/// A cluster with a sealed and certified epoch 1, the proof of one of its seals, and the trusted keys in a file.
fn proved() -> (Cluster, Value, String) {
    let cluster = Plan::nodes(3).start();
    cluster.ok(
        1,
        "asset.upsert",
        &json!({"assetId": "pv", "balancerule": {"to": "house"}}),
    );
    cluster.ok(
        2,
        "asset.upsert",
        &json!({"assetId": "house", "balancerule": {"from": "grid", "to": "grid"}}),
    );
    let contract = json!({"contractId": "k", "assetId": "house", "partnerId": "neighbour", "direction": "to", "energy": 60});
    cluster.ok(3, "contract.add", &contract);
    cluster.ok(
        1,
        "balancing.addSettlement",
        &json!({"meterId": "pv", "epoch": 1, "consumption": 100, "label": "l"}),
    );
    cluster.ok(2, "balancing.sealEpoch", &json!({"epoch": 1}));
    cluster.certified(&[1, 2, 3], 1);
    let proof = cluster.ok(3, "balancing.proof", &json!({"assetId": "house", "epoch": 1}));
    let (code, keys, error) = gridseal(&["keys", "show", "--jwks", "--data", &cluster.data()]);
    assert_eq!(code, 0, "{error}");
    let file = cluster.path("keys.json");
    std::fs::write(&file, keys).expect("the keys");
    let file = file.display().to_string();
    (cluster, proof, file)
}

fn verify(cluster: &Cluster, proof: &Value, keys: &str) -> (i32, String, String) {
    let file = cluster.path("proof.json");
    std::fs::write(&file, proof.to_string()).expect("the proof");
    gridseal(&["verify", &file.display().to_string(), "--keys", keys])
}

#[test]
fn a_proof_holds_and_every_alteration_of_it_is_found() {
    let (cluster, proof, keys) = proved();
    let (code, words, error) = verify(&cluster, &proof, &keys);
    assert_eq!(code, 0, "{error}");
    assert!(
        words.starts_with("VALID: version 0 of the seal of house for epoch 1"),
        "{words}"
    );
    let genesis = format!("{}/genesis.json", cluster.data());
    let file = cluster.path("proof.json").display().to_string();
    assert_eq!(gridseal(&["verify", &file, "--genesis", &genesis]).0, 0);

    // Whatever is changed, and the part that must be blamed.
    type Alter = fn(&mut Value);
    let flip = |text: &Value| {
        let text = text.as_str().expect("a string");
        let last = if text.ends_with('0') { '1' } else { '0' };
        json!(format!("{}{last}", &text[..text.len() - 1]))
    };
    let cases: [(&str, Alter, &str); 15] = [
        ("energy", |proof| proof["seal"]["energy_in"] = json!(161), "path"),
        ("epoch", |proof| proof["seal"]["epoch"] = json!(2), "path"),
        ("asset", |proof| proof["seal"]["asset"] = json!("pv"), "path"),
        (
            "a contract's booking",
            |proof| proof["seal"]["contracts"][0]["energy"] = json!(61),
            "path",
        ),
        (
            "a contract left out",
            |proof| proof["seal"]["contracts"] = json!([]),
            "path",
        ),
        (
            "leaf index",
            |proof| proof["path"]["leaf_index"] = json!(3),
            "path",
        ),
        (
            "path left out",
            |proof| proof["path"]["hashes"] = json!([]),
            "path",
        ),
        ("count", |proof| proof["header"]["count"] = json!(1), "path"),
        ("index", |proof| proof["header"]["index"] = json!(1), "payload"),
        (
            "payload",
            |proof| proof["certificate"]["payload"] = json!("e30"),
            "payload",
        ),
        (
            "voters left out",
            |proof| proof["voters"][0] = json!([]),
            "voters",
        ),
        (
            "one signature only",
            |proof| {
                let first = proof["certificate"]["signatures"][0].clone();
                proof["certificate"]["signatures"] = json!([first]);
            },
            "are needed",
        ),
        (
            "one signature twice",
            |proof| {
                let first = proof["certificate"]["signatures"][0].clone();
                proof["certificate"]["signatures"] = json!([first, first]);
            },
            "twice",
        ),
        (
            "signatures exchanged",
            |proof| {
                let other = proof["certificate"]["signatures"][1]["signature"].clone();
                proof["certificate"]["signatures"][0]["signature"] = other;
            },
            "signature 0",
        ),
        (
            "another typ",
            |proof| {
                let header = ledger::jws::base64url(br#"{"alg":"EdDSA","kid":"k","typ":"JWT"}"#);
                proof["certificate"]["signatures"][0]["protected"] = json!(header);
            },
            "signature 0",
        ),
    ];
    for (what, alter, blamed) in cases {
        let mut altered = proof.clone();
        alter(&mut altered);
        assert_ne!(altered, proof, "{what}: nothing was altered");
        let (code, _, error) = verify(&cluster, &altered, &keys);
        assert_eq!(code, 1, "{what}: {error}");
        assert!(error.contains(blamed), "{what} is blamed on {error}");
    }
    for field in ["cluster", "previous", "root", "state", "voters"] {
        let mut altered = proof.clone();
        altered["header"][field] = flip(&proof["header"][field]);
        let (code, _, error) = verify(&cluster, &altered, &keys);
        assert_eq!(code, 1, "header.{field}: {error}");
    }
    // An unknown member could hide something: refused as well.
    let mut more = proof.clone();
    more["seal"]["remark"] = json!("trust me");
    assert_eq!(verify(&cluster, &more, &keys).0, 1);
}

#[test]
fn only_keys_on_the_verifiers_own_list_count() {
    let (cluster, proof, keys) = proved();
    let mut list: Value = serde_json::from_str(&std::fs::read_to_string(&keys).expect("keys")).expect("JSON");
    // Another cluster's keys: nobody who signed is on the list.
    let other = Plan::nodes(3).prepare();
    let (_, foreign, _) = gridseal(&["keys", "show", "--jwks", "--data", &other.data()]);
    std::fs::write(&keys, &foreign).expect("write");
    let (code, _, error) = verify(&cluster, &proof, &keys);
    assert!(code == 1 && error.contains("not on your list"), "{code} {error}");
    // A node on the list that did not vote: such a list would let any one of its nodes vote alone.
    let mut longer = list.clone();
    let mut stranger = serde_json::from_str::<Value>(&foreign).expect("JSON")["keys"][0].clone();
    stranger["node"] = json!(9);
    longer["keys"].as_array_mut().expect("keys").push(stranger);
    std::fs::write(&keys, longer.to_string()).expect("write");
    let (code, _, error) = verify(&cluster, &proof, &keys);
    assert!(
        code == 1 && error.contains("your list has {9} as well"),
        "{code} {error}"
    );
    // One voter missing from the list.
    list["keys"].as_array_mut().expect("keys").pop();
    std::fs::write(&keys, list.to_string()).expect("write");
    let (code, _, error) = verify(&cluster, &proof, &keys);
    assert!(code == 1 && error.contains("node 3"), "{code} {error}");
    // A file that is no list is the caller's mistake.
    std::fs::write(&keys, "{}").expect("write");
    assert_eq!(verify(&cluster, &proof, &keys).0, 2);
    assert_eq!(gridseal(&["verify", "/no/such/file", "--keys", &keys]).0, 2);
}

/// The foreign library reads compact tokens; a signature of the general serialization is one when it is put
/// together with its payload (RFC 7515 §7.1).
fn compact(certificate: &Value, signature: &Value) -> String {
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    format!(
        "{}.{}.{}",
        text(&signature["protected"]),
        text(&certificate["payload"]),
        text(&signature["signature"])
    )
}

#[test]
fn a_foreign_jose_library_accepts_each_signature_and_no_altered_one() {
    let (cluster, proof, keys) = proved();
    let parsed: jose_jws::Jws =
        serde_json::from_value(proof["certificate"].clone()).expect("a JWS of RFC 7515");
    assert!(
        matches!(parsed, jose_jws::Jws::General(_)),
        "general JSON serialization"
    );
    let signatures = proof["certificate"]["signatures"].as_array().expect("signatures");
    assert!(signatures.len() >= 2, "a quorum of three is two: {signatures:?}");

    let keys: Value = serde_json::from_str(&std::fs::read_to_string(keys).expect("keys")).expect("JSON");
    let mut accepted = 0;
    for signature in signatures {
        let token = compact(&proof["certificate"], signature);
        let token = UntrustedToken::new(&token).expect("a compact token");
        assert_eq!(token.algorithm(), "EdDSA");
        let kid = token.header().key_id.clone().expect("a kid");
        let jwk = keys["keys"]
            .as_array()
            .expect("keys")
            .iter()
            .find(|jwk| jwk["kid"] == kid.as_str())
            .expect("its key");
        // The foreign library reads the JWK, and agrees on its thumbprint.
        let jwk: jwt_compact::jwk::JsonWebKey<'_> = serde_json::from_value(jwk.clone()).expect("a JWK");
        let thumbprint = jwk.thumbprint::<sha2_010::Sha256>();
        assert_eq!(ledger::jws::base64url(&thumbprint), kid);
        let key = <Ed25519 as jwt_compact::Algorithm>::VerifyingKey::try_from(&jwk).expect("an Ed25519 key");
        let valid = Ed25519
            .validator::<Value>(&key)
            .validate(&token)
            .expect("the signature holds");
        assert_eq!(valid.claims().custom["root"], proof["header"]["root"]);
        accepted += 1;

        // With any other key, and over any other payload, it doesn't.
        let other = keys["keys"]
            .as_array()
            .expect("keys")
            .iter()
            .find(|jwk| jwk["kid"] != kid.as_str())
            .expect("another");
        let other = ledger::jws::base64url_decode(other["x"].as_str().expect("x")).expect("base64url");
        let other = <Ed25519 as jwt_compact::Algorithm>::VerifyingKey::from_slice(&other).expect("a key");
        assert!(Ed25519.validator::<Value>(&other).validate(&token).is_err());
        let mut altered = proof["certificate"].clone();
        altered["payload"] = json!(ledger::jws::base64url(b"{}"));
        let altered = compact(&altered, signature);
        let altered = UntrustedToken::new(&altered).expect("still a token");
        assert!(Ed25519.validator::<Value>(&key).validate(&altered).is_err());
    }
    assert_eq!(accepted, signatures.len());

    // The compact JWT of EAF's seal field, too, and its claims are the seal's.
    let balance = cluster.ok(1, "balancing.balance", &json!({"assetId": "house", "epoch": 1}));
    let token = balance["seal"]
        .as_str()
        .unwrap_or_else(|| panic!("a signed seal has a token: {balance}"));
    let token = UntrustedToken::new(token).expect("a compact token");
    let kid = token.header().key_id.clone().expect("a kid");
    let jwk = keys["keys"]
        .as_array()
        .expect("keys")
        .iter()
        .find(|jwk| jwk["kid"] == kid.as_str())
        .expect("its key");
    let key = ledger::jws::base64url_decode(jwk["x"].as_str().expect("x")).expect("base64url");
    let key = <Ed25519 as jwt_compact::Algorithm>::VerifyingKey::from_slice(&key).expect("a key");
    let valid = Ed25519
        .validator::<Value>(&key)
        .validate(&token)
        .expect("the signature holds");
    let claims = &valid.claims().custom;
    assert_eq!(
        (&claims["assetId"], &claims["epoch"]),
        (&json!("house"), &json!(1)),
        "{claims}"
    );
    assert_eq!(claims["digest"], balance["digest"], "{claims} {balance}");
}

/// RFC 8037, appendix A.4: what our signing input and the foreign library must agree on.
#[test]
fn the_vector_of_rfc_8037_holds_in_both_libraries() {
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
                 hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let x = ledger::jws::base64url_decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").expect("base64url");
    let (input, signature) = token.rsplit_once('.').expect("three parts");
    let signature = ledger::jws::base64url_decode(signature).expect("base64url");

    let ours = ledger::PublicKey(x.clone().try_into().expect("32 bytes"));
    let bytes: [u8; 64] = signature.try_into().expect("64 bytes");
    assert!(ours.verify(input.as_bytes(), &ledger::Signature(bytes)));
    assert!(!ours.verify(&input.as_bytes()[1..], &ledger::Signature(bytes)));

    let theirs = <Ed25519 as jwt_compact::Algorithm>::VerifyingKey::from_slice(&x).expect("a key");
    let foreign = UntrustedToken::new(token).expect("a compact token");
    // The payload of the vector is no JSON, so the library gets as far as the claims: the signature held.
    let outcome = Ed25519.validator::<Value>(&theirs).validate(&foreign);
    assert!(
        matches!(outcome, Err(jwt_compact::ValidationError::MalformedClaims(_))),
        "{outcome:?}"
    );
}
