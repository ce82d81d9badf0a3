//! Old epochs leave memory for files: they are read, proved and corrected as before, survive kill -9, and a node that
//! joins gets them.

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::http::Request;
use common::{Cluster, Plan, eventually, gridseal};
use serde_json::{Value, json};

const OPTIONS: &str = "[log]\nsnapshot_after_entries = 40\nkeep_entries = 5\nsegment_bytes = 65536\n\
                       [archive]\nafter_epochs = 2\nkeep_seals = 8\nmost_seals = 12\n";
const SOON: Duration = Duration::from_secs(60);

fn write(cluster: &Cluster, action: &str, body: &Value, key: &str) -> Value {
    cluster.persist(&[1, 2, 3], action, body, key).ok()
}

fn settle_and_seal(cluster: &Cluster, epochs: std::ops::RangeInclusive<u64>) {
    for epoch in epochs {
        for meter in ["pv", "load"] {
            let consumption = if meter == "pv" { 500 + epoch } else { 300 };
            let body = json!({"meterId": meter, "epoch": epoch, "consumption": consumption, "label": "l"});
            write(
                cluster,
                "balancing.addSettlement",
                &body,
                &format!("{meter} {epoch}"),
            );
        }
        let sealed = write(
            cluster,
            "balancing.sealEpoch",
            &json!({"epoch": epoch}),
            &format!("seal {epoch}"),
        );
        assert!(
            sealed["seals"].as_array().is_some_and(|seals| seals.len() >= 3),
            "{sealed}"
        );
    }
}

fn metric(cluster: &Cluster, id: u64, name: &str) -> Option<u64> {
    let text = Request::get(&cluster.api(id), "/metrics").send()?.body;
    let text = text.as_str()?.to_owned();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("gridseal_{name} ")))?;
    line.trim().parse().ok()
}

fn archived(cluster: &Cluster, ids: &[u64], least: u64) {
    for &id in ids {
        eventually(&format!("node {id} has archived {least} epochs"), SOON, || {
            metric(cluster, id, "archived_epochs").filter(|epochs| *epochs >= least)
        });
    }
}

/// Everything that can be asked of an epoch.
fn shown(cluster: &Cluster, id: u64, epoch: u64) -> Vec<Value> {
    let mut all = Vec::new();
    for asset in ["pv", "seller", "load"] {
        let of = json!({"assetId": asset, "epoch": epoch});
        for action in ["balancing.journal", "balancing.proof", "balancing.isSealed"] {
            all.push(cluster.ok(id, action, &of));
        }
        let mut balance = cluster.ok(id, "balancing.sealedBalance", &of);
        // Each node signs its own.
        strip(&mut balance);
        all.push(balance);
        let mut latest = cluster.ok(
            id,
            "balancing.latestBalances",
            &json!({"assetId": asset, "before": epoch + 1, "n": 2}),
        );
        strip(&mut latest);
        all.push(latest);
    }
    all
}

fn strip(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(strip),
        Value::Object(fields) => {
            fields.remove("seal");
        }
        _ => {}
    }
}

fn files(cluster: &Cluster, id: u64) -> Vec<PathBuf> {
    let dir = cluster
        .path("data")
        .join(format!("node-{id}"))
        .join("disk")
        .join("archive");
    let found = std::fs::read_dir(&dir).expect("the archive");
    let mut files: Vec<PathBuf> = found.map(|file| file.expect("a file").path()).collect();
    files.sort();
    files
}

#[test]
fn archived_epochs_are_read_proved_corrected_restarted_and_handed_on() {
    let mut cluster = Plan::nodes(3).options(OPTIONS).start();
    for (asset, to) in [("pv", "seller"), ("seller", "grid")] {
        let body = json!({"assetId": asset, "balancerule": {"to": to}});
        write(&cluster, "asset.upsert", &body, &format!("rule {asset}"));
    }
    let contract = json!({"assetId": "seller", "partnerId": "load", "direction": "to", "energy": 200, "contractId": "ppa"});
    write(&cluster, "contract.add", &contract, "contract");
    settle_and_seal(&cluster, 1..=2);
    cluster.certified(&[1, 2, 3], 2);
    let before = shown(&cluster, 1, 2);
    settle_and_seal(&cluster, 3..=20);
    cluster.certified(&[1, 2, 3], 20);
    archived(&cluster, &[1, 2, 3], 16);

    // As before, on every node, before and after all of them were killed.
    let proofs = |all: &[Value]| -> Vec<Value> { all.iter().map(|value| value["seal"].clone()).collect() };
    for id in cluster.ids() {
        let now = shown(&cluster, id, 2);
        assert_eq!(proofs(&now), proofs(&before), "node {id}");
        assert_eq!(now[0], before[0]);
        assert_eq!(now[3], before[3]);
        assert!(!files(&cluster, id).is_empty());
    }
    let settled = shown(&cluster, 1, 5);
    for id in cluster.ids() {
        cluster.kill9(id);
    }
    for id in cluster.ids() {
        cluster.spawn(id);
    }
    for id in cluster.ids() {
        cluster.wait_ready(id);
    }
    cluster.certified(&[1, 2, 3], 20);
    archived(&cluster, &[1, 2, 3], 16);
    for id in cluster.ids() {
        assert_eq!(shown(&cluster, id, 5), settled, "node {id}");
    }
    let proof = cluster.ok(2, "balancing.proof", &json!({"assetId": "seller", "epoch": 5}));
    std::fs::write(cluster.path("proof.json"), proof.to_string()).expect("a file");
    let genesis = cluster.path("data").join("genesis.json").display().to_string();
    let (code, out, error) = gridseal(&[
        "verify",
        &cluster.path("proof.json").display().to_string(),
        "--genesis",
        &genesis,
    ]);
    assert_eq!(code, 0, "{out}{error}");

    // A late value and its correction, long after.
    let late = json!({"meterId": "pv", "epoch": 5, "consumption": 7, "label": "late"});
    write(&cluster, "balancing.addSettlement", &late, "late");
    let listed = cluster.ok(3, "balancing.late", &json!({"epoch": 5}));
    assert!(listed.to_string().contains("\"late\""), "{listed}");
    let corrected = write(&cluster, "balancing.sealEpoch", &json!({"epoch": 5}), "correct");
    assert!(
        corrected["seals"]
            .as_array()
            .is_some_and(|seals| seals.len() >= 2),
        "{corrected}"
    );
    cluster.certified(&[1, 2, 3], 21);
    for id in cluster.ids() {
        let journal = cluster.ok(id, "balancing.journal", &json!({"assetId": "pv", "epoch": 5}));
        assert_eq!(journal["version"], 1, "{journal}");
        let old = cluster.ok(
            id,
            "balancing.proof",
            &json!({"assetId": "pv", "epoch": 5, "version": 0}),
        );
        assert_eq!(old["seal"], settled[1]["seal"]);
        eventually("it is thawed for that", SOON, || {
            metric(&cluster, id, "archive_thaws").filter(|thaws| *thaws > 0)
        });
    }
    archived(&cluster, &[1, 2, 3], 17);
    settle_and_seal(&cluster, 21..=24);
    cluster.certified(&[1, 2, 3], 25);
    archived(&cluster, &[1, 2, 3], 20);

    // A node that joins has it all.
    let key = cluster.join(4);
    let (peer, data) = (cluster.peer(4), cluster.data());
    let add = [
        "member", "--data", &data, "add", "--id", "4", "--peer", &peer, "--key", &key,
    ];
    let (code, out, error) = cluster.cli(&add);
    assert_eq!(code, 0, "{out}{error}");
    cluster.spawn(4);
    cluster.wait_ready(4);
    cluster.certified(&[1, 2, 3, 4], 25);
    assert!(
        cluster.log(4).contains("received a snapshot"),
        "the log still reached back: this tested nothing"
    );
    for epoch in [2, 5, 9] {
        assert_eq!(
            shown(&cluster, 4, epoch),
            shown(&cluster, 1, epoch),
            "epoch {epoch}"
        );
    }
    assert!(!files(&cluster, 4).is_empty());

    // A damaged file is never served: the node gets it again from another.
    let damaged = files(&cluster, 4).into_iter().next().expect("a file");
    let content = std::fs::read(&damaged).expect("the file");
    let mut changed = content.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    std::fs::write(&damaged, changed).expect("the file");
    let name = damaged
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let epoch: u64 = name
        .split('-')
        .next()
        .expect("the epoch")
        .parse()
        .expect("a number");
    // What was shown may still be in memory; a restart forgets it.
    cluster.kill9(4);
    cluster.restart(4);
    let of = json!({"assetId": "pv", "epoch": epoch});
    assert_eq!(
        cluster.ok(4, "balancing.journal", &of),
        cluster.ok(1, "balancing.journal", &of)
    );
    assert_eq!(std::fs::read(&damaged).expect("the file"), content);
    assert_eq!(metric(&cluster, 4, "archive_mended_files"), Some(1));
    let log = cluster.log(4);
    assert!(log.contains(&name) && log.contains("damaged"), "{log}");

    // So it is with one that is gone when the node starts. While nobody has it, what is in it can't be read, and the node
    // serves everything else.
    cluster.kill9(4);
    let same = |file: &PathBuf| file.file_name() == damaged.file_name();
    let others: Vec<PathBuf> = [1, 2, 3]
        .into_iter()
        .flat_map(|id| files(&cluster, id))
        .filter(same)
        .collect();
    assert!(!others.is_empty(), "no other node has {name}");
    for file in others.iter().chain([&damaged]) {
        std::fs::remove_file(file).expect("the file");
    }
    cluster.restart(4);
    let refused = cluster.try_call(4, "balancing.journal", &of).expect("an answer");
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(
        refused.body["error"]["code"], "archive_damaged",
        "{}",
        refused.body
    );
    assert!(refused.body.to_string().contains(&name), "{}", refused.body);
    assert_eq!(metric(&cluster, 4, "archive_damaged_files"), Some(1));
    cluster.ok(4, "balancing.journal", &json!({"assetId": "pv", "epoch": 24}));
    for file in &others {
        std::fs::write(file, &content).expect("the file");
    }
    eventually("it is fetched again", SOON, || {
        metric(&cluster, 4, "archive_damaged_files").filter(|files| *files == 0)
    });
    assert_eq!(
        cluster.ok(4, "balancing.journal", &of),
        cluster.ok(1, "balancing.journal", &of)
    );
}

/// Each brings its whole epoch back into memory, on every node, before anything else is applied.
#[test]
fn late_values_are_taken_for_so_many_archived_epochs_at_once() {
    const MOST: usize = 64;
    let cluster = Plan::nodes(1)
        .options("[archive]\nafter_epochs = 0\nkeep_seals = 0\n")
        .start();
    let epochs = MOST as u64 + 1;
    let values = |upto: u64, label: &str| -> Value {
        let value = |epoch| json!({"meterId": "m", "epoch": epoch, "consumption": 5, "label": label});
        (1..=upto).map(value).collect()
    };
    cluster.ok(1, "balancing.addSettlements", &values(epochs, "first"));
    for epoch in 1..=epochs {
        cluster.ok(1, "balancing.sealEpoch", &json!({"epoch": epoch, "brief": true}));
    }
    archived(&cluster, &[1], epochs);

    let refused = cluster.call(1, "balancing.addSettlements", &values(epochs, "late"));
    assert_eq!((refused.status, refused.code()), (413, "too_many_archived"));
    assert_eq!(refused.body["error"]["needed"], epochs);
    assert_eq!(refused.body["error"]["limit"], MOST);
    assert_eq!(metric(&cluster, 1, "archive_thaws"), Some(0), "nothing was done");
    let accepted = cluster.ok(1, "balancing.addSettlements", &values(MOST as u64, "late"));
    assert_eq!(accepted["accepted"], MOST);
    let journal = cluster.ok(1, "balancing.journal", &json!({"assetId": "m", "epoch": MOST}));
    assert_eq!(journal["statements"].as_array().map(Vec::len), Some(2));
}
