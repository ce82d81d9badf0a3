//! The binary stream against the same node as everything else, and frames that are none.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ledger::canonical::Canonical;
use ledger::{Action, AssetId, Epoch, GramsCo2, Settlement, Wh};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{Client, Solo, key};
use crate::api::backend::Unanswered;
use crate::api::{Edge, Limits, stream};
use crate::client::stream::StreamClient;
use crate::metrics::Metrics;
use crate::stream::{Question, Reply, take};

const LIMITS: Limits = Limits {
    body_bytes: 4 << 10,
    batch: 20,
};

fn settlement(meter: &str, wh: i64) -> Settlement {
    Settlement {
        meter: AssetId::try_from(meter).expect("a name"),
        epoch: Epoch::new(7).expect("an epoch"),
        consumption: Wh::new(wh).expect("small"),
        label: "l".parse().expect("a label"),
        co2eq: GramsCo2::ZERO,
        autoseal: None,
    }
}

fn settle(settlements: Vec<Settlement>) -> Question {
    Question::settle(&Action::Settle { settlements }, None)
}

/// The client's end of a stream to this node.
fn open(solo: &Arc<Solo>) -> DuplexStream {
    let (near, far) = tokio::io::duplex(1 << 10);
    let edge = Edge {
        backend: Arc::clone(solo) as Arc<dyn crate::api::backend::Backend>,
        limits: LIMITS,
        metrics: Arc::new(Metrics::new()),
    };
    tokio::spawn(stream::serve(edge, far));
    near
}

/// Sends all, closes, and reads all answers, by number.
async fn converse(solo: &Arc<Solo>, sent: Vec<u8>) -> Vec<(u64, Reply)> {
    let (mut reading, mut writing) = tokio::io::split(open(solo));
    let writing = async move {
        // The node may have closed already, for what came before.
        let _ = writing.write_all(&sent).await;
        let _ = writing.shutdown().await;
    };
    let reading = async move {
        let mut inbox = BytesMut::new();
        while reading.read_buf(&mut inbox).await.expect("a stream") > 0 {}
        inbox
    };
    let (mut inbox, ()) = tokio::join!(reading, writing);
    let mut replies: Vec<_> = std::iter::from_fn(|| take(&mut inbox, 1 << 20).expect("frames"))
        .map(|frame| (frame.number, Reply::read(frame).expect("an answer")))
        .collect();
    assert!(inbox.is_empty(), "half an answer");
    replies.sort_by_key(|(number, _)| *number);
    replies
}

fn sent(questions: &[(u64, Question)]) -> Vec<u8> {
    let mut out = BytesMut::new();
    for (number, question) in questions {
        question.put(*number, &mut out);
    }
    out.into()
}

fn codes(replies: &[(u64, Reply)]) -> Vec<(u64, u16, &str)> {
    replies
        .iter()
        .map(|(number, reply)| match reply {
            Reply::Done { .. } => (*number, 200, ""),
            Reply::Failed { status, code, .. } => (*number, *status, code.as_str()),
        })
        .collect()
}

#[tokio::test]
async fn answers_name_the_statements_that_a_question_became() {
    let solo = Solo::new();
    let questions = [
        (70, settle(vec![settlement("a", 1), settlement("b", 2)])),
        (9, settle(vec![settlement("a", 3)])),
    ];
    let replies = converse(&solo, sent(&questions)).await;
    let ledger = solo.ledger.read();
    for (number, energies) in [(70, vec![1, 2]), (9, vec![3])] {
        let (_, reply) = replies
            .iter()
            .find(|(found, _)| *found == number)
            .expect("answered");
        let Reply::Done {
            index, first, count, ..
        } = reply
        else {
            panic!("{reply:?}");
        };
        let found: Vec<_> = (*first..first + count)
            .map(|position| {
                let id = ledger::StatementId {
                    index: *index,
                    position,
                };
                let statement = ledger.statement(Epoch::new(7).expect("an epoch"), id);
                statement.expect("it is there").energy.get()
            })
            .collect();
        assert_eq!(found, energies);
    }
}

#[tokio::test]
async fn what_fails_fails_as_over_http_and_the_rest_goes_on() {
    let solo = Solo::new();
    let beyond = settlement("a", (1 << 40) + 1);
    let refused = (1, settle(vec![settlement("a", 1), beyond]));
    let root = (2, settle(vec![settlement(ledger::ROOT.as_str(), 1)]));
    let many = (3, settle(vec![settlement("a", 1); 21]));
    let none = (4, settle(vec![]));
    let seal = Action::Seal {
        asset: AssetId::try_from("a").expect("a name"),
        epoch: Epoch::new(7).expect("an epoch"),
    };
    let unsigned_seal = (5, Question::settle(&seal, None));
    let garbage = (6, Question::Envelope(Bytes::from_static(b"garbage")));
    let mut forged = solo.envelope(&key(3), [9; 16], seal);
    forged.signature.0[7] ^= 1;
    let forged = (7, Question::Envelope(forged.to_bytes().into()));
    let good = (8, settle(vec![settlement("a", 1)]));
    let replies = converse(
        &solo,
        sent(&[refused, root, many, none, unsigned_seal, garbage, forged, good]),
    )
    .await;
    assert_eq!(
        codes(&replies),
        [
            (1, 409, "out_of_range"),
            (2, 409, "root_is_no_meter"),
            (3, 413, "batch_too_large"),
            (4, 422, "missing_parameter"),
            (5, 422, "invalid_parameter"),
            (6, 422, "invalid_parameter"),
            (7, 403, "bad_signature"),
            (8, 200, ""),
        ]
    );

    solo.state.lock().faults.push_back(Unanswered::Unknown);
    let replies = converse(&solo, sent(&[(1, settle(vec![settlement("a", 1)]))])).await;
    assert_eq!(codes(&replies), [(1, 504, "outcome_unknown")]);
}

#[tokio::test]
async fn a_nonce_makes_a_retry_harmless_and_signed_envelopes_do_as_they_say() {
    let solo = Solo::new();
    let action = Action::Settle {
        settlements: vec![settlement("a", 1)],
    };
    let keyed = Question::settle(&action, Some([5; 16]));
    let replies = converse(&solo, sent(&[(1, keyed.clone()), (2, keyed)])).await;
    assert_eq!(replies.len(), 2);
    let place = |reply: &Reply| match reply {
        Reply::Done {
            index, first, count, ..
        } => (*index, *first, *count),
        failed => panic!("{failed:?}"),
    };
    assert_eq!(place(&replies[0].1), place(&replies[1].1));

    let signed = solo.envelope(&key(3), [6; 16], action);
    let replies = converse(&solo, sent(&[(1, Question::Envelope(signed.to_bytes().into()))])).await;
    assert_eq!(place(&replies[0].1).2, 1);
}

#[tokio::test]
async fn what_is_no_frame_is_answered_and_ends_the_stream() {
    let solo = Solo::new();
    let good = sent(&[(1, settle(vec![settlement("a", 1)]))]);
    for (name, bytes, number) in [
        ("4 GiB", vec![0xFF, 0xFF, 0xFF, 0xFF], 0),
        ("no room for a number", vec![0, 0, 0, 3, 1, 1, 1], 0),
        ("an unknown kind", vec![0, 0, 0, 9, 77, 0, 0, 0, 0, 0, 0, 0, 5], 5),
        (
            "a key that is none",
            vec![0, 0, 0, 10, 1, 0, 0, 0, 0, 0, 0, 0, 6, 2],
            6,
        ),
    ] {
        // What came before it is answered; what comes behind it isn't looked at.
        let all = [good.clone(), bytes, good.clone()].concat();
        let mut replies = converse(&solo, all).await;
        replies.retain(|(answered, _)| *answered != 1);
        assert_eq!(codes(&replies), [(number, 400, "malformed_frame")], "{name}");
    }
    assert_eq!(
        converse(&solo, good[..9].to_vec()).await,
        [],
        "a cut frame is no question"
    );
}

#[tokio::test]
async fn more_questions_than_a_window_are_all_answered_through_a_narrow_pipe() {
    let solo = Solo::new();
    let questions: Vec<_> = (1..=6_000)
        .map(|number| (number, settle(vec![settlement("a", 1)])))
        .collect();
    let replies = converse(&solo, sent(&questions)).await;
    let numbers: Vec<u64> = replies.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=6_000).collect::<Vec<_>>());
    assert!(codes(&replies).iter().all(|(_, status, _)| *status == 200));
}

#[test]
fn a_stream_must_be_asked_for() {
    let client = Client::new();
    for headers in [
        &[][..],
        &[("upgrade", "websocket")],
        &[("upgrade", "gridseal-stream/2")],
    ] {
        let got = client.raw("GET", "/api/stream", headers, "");
        assert_eq!(
            (got.status.as_u16(), &got.body["error"]["code"]),
            (426, &json!("upgrade_required")),
            "{headers:?}"
        );
        assert_eq!(got.headers["upgrade"], "gridseal-stream/1");
    }
}

#[tokio::test]
async fn the_client_and_the_node_understand_one_another_over_a_socket() {
    let (client, solo) = {
        let client = Client::new();
        (client.router, client.solo)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let addr = listener.local_addr().expect("an address").to_string();
    let server = tokio::spawn(async move { axum::serve(listener, client).await });

    let stream = StreamClient::connect(&addr).await.expect("a stream");
    let asks = (1..=100).map(|wh| stream.settle(vec![settlement("a", wh)], None));
    for reply in futures::future::join_all(asks).await {
        assert!(matches!(reply, Ok(Reply::Done { count: 1, .. })), "{reply:?}");
    }
    let booked = solo
        .ledger
        .read()
        .statements(Epoch::new(7).expect("an epoch"))
        .count();
    assert_eq!(booked, 100);

    // Nobody answers any more: whoever waits learns it, and whoever comes later.
    server.abort();
    let other = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let addr = other.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        let (mut io, _) = other.accept().await.expect("a client");
        let head = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
        io.write_all(head).await.expect("a client");
        let mut asked = [0; 200];
        let _ = io.read(&mut asked).await;
        let _ = io.read(&mut asked).await;
    });
    let stream = StreamClient::connect(&addr).await.expect("what looks like one");
    let reply = tokio::time::timeout(
        Duration::from_secs(60),
        stream.settle(vec![settlement("a", 1)], None),
    );
    assert!(reply.await.expect("an end").is_err());
}
