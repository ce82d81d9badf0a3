//! A minority without contact: the majority goes on, the minority neither writes nor answers with old news.

mod common;

use std::time::Duration;

use common::http::Request;
use common::{Answer, Cluster, Plan, eventually};
use serde_json::{Value, json};

fn settlement(epoch: u64, wh: u64) -> Value {
    json!({"meterId": "meter", "epoch": epoch, "consumption": wh, "label": "virtual_1"})
}

fn read(cluster: &Cluster, node: u64) -> Option<Answer> {
    let body = json!({"assetId": "meter", "epoch": 1});
    Request::post(&cluster.api(node), "balancing.journal", &body).send()
}

fn energies(answer: &Answer) -> Vec<u64> {
    let statements = answer.body["statements"].as_array().expect("statements");
    statements
        .iter()
        .map(|statement| statement["energy"].as_u64().expect("energy"))
        .collect()
}

fn others(cluster: &Cluster, one: u64) -> Vec<u64> {
    cluster.ids().into_iter().filter(|&id| id != one).collect()
}

const REQUEST: &str = "[timing]\nrequest_ms = 1500\n";

#[test]
fn a_leader_that_is_cut_off_answers_neither_writes_nor_reads_and_the_rest_goes_on() {
    let cluster = Plan::nodes(3).proxied().options(REQUEST).start();
    cluster.ok(1, "balancing.addSettlement", &settlement(1, 10));
    let alone = cluster.leader(&[1, 2, 3]);
    let rest = others(&cluster, alone);
    cluster.cut_off(&[alone]);

    // The rest elects and books; the cut-off leader must not show the old state as the present one.
    let written = cluster
        .persist(&rest, "balancing.addSettlement", &settlement(1, 20), "second")
        .ok();
    assert_eq!(written["statement"]["energy"], 20);
    for _ in 0..5 {
        let stale = read(&cluster, alone).expect("it answers");
        assert!(
            matches!(stale.status, 503 | 504),
            "a cut-off node answered {} {}",
            stale.status,
            stale.body
        );
        assert!(!stale.code().is_empty(), "{}", stale.body);
    }
    let refused = cluster.call(alone, "balancing.addSettlement", &settlement(1, 30));
    assert!(
        matches!(refused.status, 503 | 504),
        "{} {}",
        refused.status,
        refused.body
    );
    if refused.status == 503 {
        assert!(refused.header("retry-after").is_some(), "{:?}", refused.headers);
    }
    // What the node has is still to be had by whoever asks for just that.
    let body = json!({"assetId": "meter", "epoch": 1});
    let local = Request::post(&cluster.api(alone), "balancing.journal", &body)
        .local()
        .send()
        .expect("an answer");
    assert_eq!(energies(&local), [10], "{}", local.body);

    cluster.heal();
    let healed = eventually(
        "the node that was cut off is current again",
        common::cluster::SOON,
        || read(&cluster, alone).filter(Answer::is_ok),
    );
    // 30 was answered 503 or 504: in the second case it may have been booked.
    let found = energies(&healed);
    assert!(found.starts_with(&[10, 20]) && found.len() <= 3, "{found:?}");
}

#[test]
fn a_stopped_process_is_overtaken_and_never_shows_old_news_when_it_wakes() {
    let cluster = Plan::nodes(3).options(REQUEST).start();
    cluster.ok(1, "balancing.addSettlement", &settlement(1, 1));
    for round in 2..=4 {
        let sleeper = cluster.leader(&[1, 2, 3]);
        cluster.pause(sleeper);
        let rest = others(&cluster, sleeper);
        let written = cluster.persist(
            &rest,
            "balancing.addSettlement",
            &settlement(1, round),
            &format!("round {round}"),
        );
        assert!(written.is_ok(), "{}", written.body);
        cluster.resume(sleeper);
        // It still thinks that it leads. Whatever it answers now must include what was acknowledged above.
        let expected: Vec<u64> = (1..=round).collect();
        let answered = eventually("the sleeper answers", common::cluster::SOON, || {
            let answer = read(&cluster, sleeper)?;
            if answer.is_ok() {
                return Some(answer);
            }
            assert!(
                matches!(answer.status, 503 | 504),
                "{} {}",
                answer.status,
                answer.body
            );
            None
        });
        assert_eq!(energies(&answered), expected, "round {round}");
    }
    cluster.ok(1, "balancing.sealEpoch", &json!({"epoch": 1}));
    cluster.certified(&[1, 2, 3], 1);
}

#[test]
fn a_read_after_a_write_sees_it_on_every_node() {
    let cluster = Plan::nodes(3).start();
    for number in 1..=60 {
        let writer = 1 + number % 3;
        cluster.ok(writer, "balancing.addSettlement", &settlement(1, number));
        let reader = 1 + (number + 1) % 3;
        let answer = read(&cluster, reader).expect("an answer");
        assert_eq!(
            energies(&answer),
            (1..=number).collect::<Vec<_>>(),
            "written on {writer}, read on {reader}"
        );
    }
}

#[test]
fn two_of_three_certify_and_the_third_catches_up() {
    let cluster = Plan::nodes(3).proxied().options(REQUEST).start();
    let leader = cluster.leader(&[1, 2, 3]);
    let away = others(&cluster, leader)[0];
    let rest = others(&cluster, away);
    cluster.cut_off(&[away]);
    for epoch in 1..=5 {
        cluster
            .persist(
                &rest,
                "balancing.addSettlement",
                &settlement(epoch, epoch),
                &format!("settle {epoch}"),
            )
            .ok();
        cluster
            .persist(
                &rest,
                "balancing.sealEpoch",
                &json!({"epoch": epoch}),
                &format!("seal {epoch}"),
            )
            .ok();
    }
    cluster.certified(&rest, 5);
    let lonely = cluster.blocks(away).expect("it answers local reads");
    assert!(lonely.is_empty(), "{lonely:?}");
    cluster.heal();
    let chain = cluster.certified(&[1, 2, 3], 5);
    assert_eq!(chain.len(), 5);
    // What is certified needs no third signature, and two may be quicker than the third: it signs sooner or later.
    let mut epoch = 5;
    eventually("the third signs too", Duration::from_secs(30), || {
        epoch += 1;
        let settle = settlement(epoch, epoch);
        let asks = [
            ("balancing.addSettlement", settle, format!("settle {epoch}")),
            (
                "balancing.sealEpoch",
                json!({"epoch": epoch}),
                format!("seal {epoch}"),
            ),
        ];
        for (action, body, key) in asks {
            cluster.persist(&[away], action, &body, &key).ok();
        }
        let chain = cluster.certified(&[away], usize::try_from(epoch).ok()?);
        chain.iter().any(|block| block["signatures"] == 3).then_some(())
    });
}
