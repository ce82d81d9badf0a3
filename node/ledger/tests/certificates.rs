//! Certificates: the proof of a seal as JSON, every way to break it, and the RFCs' own examples.

mod common;

use common::{Cluster, attestation, key, node_key, public, script};
use ledger::certificate::{Broken, Proof, verify};
use ledger::jws::{base64url, base64url_decode, protected, signing_input, thumbprint};
use ledger::units::Wh;
use ledger::{AssetId, Body, Digest, Epoch, NodeId, PublicKey, Signature};

fn trusted() -> Vec<(NodeId, PublicKey)> {
    common::genesis(3).nodes
}

/// A proof of `pv`/1, whose block nodes `signers` signed, or its successor did.
fn proof(signers: &[NodeId], later: bool) -> Proof {
    let mut cluster = Cluster::new();
    for line in [
        "rule pv to=s",
        "settle pv 1 70, load 1 5",
        "epoch 1",
        "settle x 2 1",
        "seal x 2",
    ] {
        cluster.act(script::parse(line).expect("an action"));
        if line == "epoch 1" && !later {
            break;
        }
    }
    let header = cluster.ledger.head().expect("a block").header.clone();
    let attestations = signers
        .iter()
        .map(|node| attestation(*node, &node_key(*node), &header))
        .collect();
    cluster.apply(Body::Attestations { attestations });
    let asset = AssetId::try_from("pv").expect("a name");
    cluster
        .ledger
        .proof(&asset, Epoch::new(1).expect("small"), None)
        .expect("it is sealed")
}

#[test]
fn a_proof_survives_json_and_verifies_offline() {
    for later in [false, true] {
        let proof = proof(&[1, 3], later);
        let json = serde_json::to_string(&proof).expect("JSON");
        let read: Proof = serde_json::from_str(&json).expect("the same JSON");
        assert_eq!(read, proof);
        let verdict = verify(&read, &trusted()).expect("it holds");
        assert_eq!(verdict.signers, [1, 3].into());
        assert_eq!(
            (verdict.quorums, verdict.distance),
            (vec![(3, 2)], usize::from(later))
        );
        assert_eq!(verdict.digest, read.seal.digest());
    }
}

#[test]
fn whatever_is_changed_breaks_its_part() {
    let good = proof(&[1, 2, 3], true);
    let broken = |change: &dyn Fn(&mut Proof)| {
        let mut proof = good.clone();
        change(&mut proof);
        verify(&proof, &trusted()).expect_err("a changed proof")
    };
    assert!(matches!(
        broken(&|p| p.seal.position = Wh::new(71).expect("small")),
        Broken::Path { .. }
    ));
    let approve = |p: &mut Proof| p.seal.approvals.push(public(&key(1)));
    assert!(matches!(broken(&approve), Broken::Path { .. }));
    assert!(matches!(broken(&|p| p.path.leaf_index += 1), Broken::Path { .. }));
    assert!(matches!(
        broken(&|p| p.path.hashes.push(Digest::ZERO)),
        Broken::Path { .. }
    ));
    assert!(matches!(
        broken(&|p| p.header.count += 1),
        Broken::Path { .. } | Broken::Chain { .. }
    ));
    assert!(matches!(
        broken(&|p| p.header.state = Digest::ZERO),
        Broken::Chain { .. }
    ));
    assert!(matches!(
        broken(&|p| p.header.cluster = Digest::ZERO),
        Broken::Cluster { .. }
    ));
    assert!(matches!(broken(&|p| p.chain.clear()), Broken::Payload { .. }));
    assert!(matches!(
        broken(&|p| p.chain[0].previous = Digest::ZERO),
        Broken::Chain { .. }
    ));
    assert!(matches!(
        broken(&|p| p.chain[0].root = Digest::ZERO),
        Broken::Payload { .. }
    ));
    assert!(matches!(
        broken(&|p| p.certificate.payload.push('A')),
        Broken::Payload { .. }
    ));
    assert!(matches!(
        broken(&|p| p.certificate.payload.push('=')),
        Broken::Payload { .. }
    ));
    assert!(matches!(
        broken(&|p| p.voters.0[0].truncate(1)),
        Broken::Voters { .. }
    ));
    assert!(matches!(broken(&|p| p.voters.0.clear()), Broken::Voters { .. }));
    assert!(matches!(
        broken(&|p| p.certificate.signatures.truncate(1)),
        Broken::Quorum {
            signed: 1,
            voters: 3,
            needed: 2
        }
    ));
    assert!(matches!(
        broken(&|p| p.certificate.signatures.push(p.certificate.signatures[0].clone())),
        Broken::Signature { .. }
    ));
    assert!(matches!(
        broken(&|p| p.certificate.signatures[0].signature = base64url(&[0; 64])),
        Broken::Signature { place: 0, .. }
    ));
    assert!(matches!(
        broken(&|p| p.certificate.signatures[1].signature.truncate(9)),
        Broken::Signature { place: 1, .. }
    ));
    // Another typ or alg, even if the signature fits it.
    let other =
        |header: &str| broken(&|p| p.certificate.signatures[0].protected = base64url(header.as_bytes()));
    let key = public(&node_key(1));
    assert!(matches!(
        other(&protected(&key, "gridseal-seal+jwt")),
        Broken::Signature { place: 0, .. }
    ));
    let none = protected(&key, "gridseal-block+jws").replace("EdDSA", "none");
    assert!(matches!(other(&none), Broken::Signature { place: 0, .. }));
}

#[test]
fn only_keys_on_the_verifiers_list_count() {
    let good = proof(&[1, 2, 3], false);
    let mut strangers = trusted();
    strangers[2].1 = public(&key(200));
    assert_eq!(verify(&good, &strangers), Err(Broken::Untrusted { node: 3 }));
    assert_eq!(verify(&good, &trusted()[..2]), Err(Broken::Untrusted { node: 3 }));
    // The list must be the very one of then: with a longer one, whoever is on it could vote alone.
    let mut more = trusted();
    more.push((9, public(&key(200))));
    let listed = Broken::Listed {
        index: good.header.index,
        voters: [1, 2, 3].into(),
        listed: [9].into(),
    };
    assert_eq!(verify(&good, &more), Err(listed));
    // In which order, and how often something stands in it, is nobody's business.
    let mut mixed = trusted();
    mixed.reverse();
    mixed.push(mixed[0]);
    assert!(verify(&good, &mixed).is_ok());
}

/// A proof that is well made and signed, but whose header lets these voters vote.
fn made_up(voters: Vec<Vec<ledger::voters::Voter>>, signers: &[NodeId]) -> Proof {
    let mut forged = proof(&[1, 2, 3], false);
    forged.voters.0 = voters;
    forged.header.voters = forged.voters.digest();
    let payload = forged.header.to_json();
    forged.certificate.payload = base64url(payload.as_bytes());
    forged.certificate.signatures = signers
        .iter()
        .map(|node| {
            let key = node_key(*node);
            let input = signing_input(&public(&key), payload.as_bytes());
            ledger::certificate::JwsSignature {
                protected: base64url(protected(&public(&key), "gridseal-block+jws").as_bytes()),
                signature: base64url(&ed25519_dalek::Signer::sign(&key, input.as_bytes()).to_bytes()),
            }
        })
        .collect();
    forged
}

#[test]
fn one_node_that_makes_up_who_votes_proves_nothing() {
    let voter = |node: NodeId| ledger::voters::Voter {
        node,
        key: Some(public(&node_key(node))),
    };
    let all = || vec![voter(1), voter(2), voter(3)];
    assert!(
        verify(&made_up(vec![all()], &[1, 2]), &trusted()).is_ok(),
        "it is well made"
    );
    for alone in [
        vec![vec![voter(1)]],
        vec![vec![voter(1), voter(1)]],
        vec![vec![voter(1)], vec![voter(1)]],
        vec![vec![voter(1), voter(1), voter(2), voter(3)]],
    ] {
        let broken = verify(&made_up(alone, &[1]), &trusted()).expect_err("one signs");
        assert!(matches!(broken, Broken::Listed { .. }), "{broken}");
    }
    // Of two configurations one must be the list; then that one's quorum is needed, whatever the other is.
    let joint = |signers| verify(&made_up(vec![vec![voter(1)], all()], signers), &trusted());
    assert!(matches!(
        joint(&[1]),
        Err(Broken::Quorum {
            signed: 1,
            voters: 3,
            needed: 2
        })
    ));
    assert!(joint(&[1, 2]).is_ok());
}

#[test]
fn a_forged_quorum_of_other_keys_does_not_pass() {
    // Whoever makes up voters and signs for them must also change the header's `voters`, and then nobody trusts the keys.
    use ed25519_dalek::Signer;
    let mut forged = proof(&[1, 2], false);
    let keys: Vec<_> = (0..3u8).map(|i| key(210 + i)).collect();
    for (voter, key) in forged.voters.0[0].iter_mut().zip(&keys) {
        voter.key = Some(public(key));
    }
    forged.header.voters = forged.voters.digest();
    let payload = forged.header.to_json();
    forged.certificate.payload = base64url(payload.as_bytes());
    forged.certificate.signatures = keys
        .iter()
        .map(|key| ledger::certificate::JwsSignature {
            protected: base64url(protected(&public(key), "gridseal-block+jws").as_bytes()),
            signature: base64url(
                &key.sign(signing_input(&public(key), payload.as_bytes()).as_bytes())
                    .to_bytes(),
            ),
        })
        .collect();
    let their_list: Vec<_> = (1..).zip(keys.iter().map(public)).collect();
    assert!(verify(&forged, &their_list).is_ok(), "it is well made");
    assert_eq!(verify(&forged, &trusted()), Err(Broken::Untrusted { node: 1 }));
}

#[test]
fn headers_are_canonical_json() {
    let proof = proof(&[1], false);
    let text = proof.header.to_json();
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    // serde_json sorts members and writes no white space: for strings without escapes and small integers that is RFC 8785.
    assert_eq!(serde_json::to_string(&value).expect("JSON"), text);
    assert_eq!(
        serde_json::from_str::<ledger::block::Header>(&text).expect("a header"),
        proof.header
    );
}

#[test]
fn revoked_keys_no_longer_sign() {
    let mut cluster = Cluster::new();
    for line in ["settle pv 1 70", "seal pv 1"] {
        cluster.act(script::parse(line).expect("an action"));
    }
    let header = cluster.ledger.head().expect("a block").header.clone();
    cluster.act(ledger::Action::RevokeNode { node: 2 });
    let attestations = [1, 2, 3]
        .map(|node| attestation(node, &node_key(node), &header))
        .into();
    let applied = cluster.apply(Body::Attestations { attestations });
    let results: Vec<_> = applied
        .attestations
        .iter()
        .map(|a| a.result.as_ref().map_err(|r| r.code()).err())
        .collect();
    assert_eq!(results, [None, Some("key_revoked"), None]);
    assert_eq!(applied.certified, [header.index]);
    // Nor does its key come back under another name.
    let taken = ledger::Action::RegisterNode {
        node: 8,
        key: public(&node_key(2)),
        peer: None,
    };
    assert_eq!(cluster.act(taken).refusal().map(|r| r.code()), Some("key_taken"));
    // A rotated key signs what comes after; what came before was under the old one.
    let new = key(140);
    let rotate = ledger::Action::RegisterNode {
        node: 3,
        key: public(&new),
        peer: None,
    };
    assert_eq!(cluster.act(rotate).refusal(), None);
    for line in ["settle pv 2 70", "seal pv 2"] {
        cluster.act(script::parse(line).expect("an action"));
    }
    let header = cluster.ledger.head().expect("a block").header.clone();
    let attestations = vec![
        attestation(3, &node_key(3), &header),
        attestation(3, &new, &header),
    ];
    let applied = cluster.apply(Body::Attestations { attestations });
    let results: Vec<_> = applied
        .attestations
        .iter()
        .map(|a| a.result.as_ref().map_err(|r| r.code()).err())
        .collect();
    assert_eq!(results, [Some("bad_signature"), None]);
}

/// RFC 8037, appendix A: the key, its thumbprint, and the signature of A.4.
#[test]
fn the_examples_of_rfc_8037() {
    let x = base64url_decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").expect("base64url");
    let key = PublicKey(x.try_into().expect("32 bytes"));
    assert_eq!(thumbprint(&key), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let input = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    assert_eq!(
        base64url(br#"{"alg":"EdDSA"}"#),
        input.split('.').next().expect("two parts")
    );
    assert_eq!(
        base64url(b"Example of Ed25519 signing"),
        input.split('.').nth(1).expect("two parts")
    );
    let signature = base64url_decode(
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
    );
    let mut signature = Signature(signature.expect("base64url").try_into().expect("64 bytes"));
    assert!(key.verify(input.as_bytes(), &signature));
    signature.0[0] ^= 1;
    assert!(!key.verify(input.as_bytes(), &signature));
}

#[test]
fn base64url_has_one_spelling() {
    // RFC 4648 §10, without padding.
    for (bytes, text) in [
        ("", ""),
        ("f", "Zg"),
        ("fo", "Zm8"),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg"),
        ("fooba", "Zm9vYmE"),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(base64url(bytes.as_bytes()), text);
        assert_eq!(base64url_decode(text).as_deref(), Some(bytes.as_bytes()));
    }
    assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    for wrong in ["Zh", "Zm9=", "Zm9v=", "Z", "Zm9vY", "Zm 9", "+_8", "Zm9"] {
        assert_eq!(base64url_decode(wrong), None, "{wrong}");
    }
}

#[test]
fn small_order_keys_verify_nothing() {
    // The identity as key and as R makes the plain equation hold for any message; strict verification refuses it.
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut signature = [0; 64];
    signature[0] = 1;
    assert!(!PublicKey(identity).verify(b"anything", &Signature(signature)));
}
