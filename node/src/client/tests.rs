//! The client against scripted nodes.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Ask, Client, Error};

/// A node that answers each connection's one request with the next of `answers`, and reports the requests.
async fn scripted(answers: Vec<&'static str>) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let (seen, requests) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        for answer in answers {
            let Ok((mut stream, _)) = listener.accept().await else {
                return;
            };
            let mut buffer = vec![0; 65_536];
            let n = stream.read(&mut buffer).await.unwrap_or(0);
            let _ = seen.send(String::from_utf8_lossy(&buffer[..n]).into_owned());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, requests)
}

fn reply(status: &str, body: &str) -> &'static str {
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    Box::leak(text.into_boxed_str())
}

#[tokio::test]
async fn a_write_is_tried_elsewhere_with_the_same_key_and_a_refusal_ends_it() {
    let (first, mut first_saw) = scripted(vec![reply(
        "503 Service Unavailable",
        "{\"error\":{\"code\":\"no_leader\"}}",
    )])
    .await;
    let refusal = "{\"error\":{\"code\":\"already_sealed\",\"message\":\"sealed\"}}";
    let (second, mut second_saw) = scripted(vec![reply("409 Conflict", refusal)]).await;
    let client = Client::new([first, second.clone()], Duration::from_secs(5));
    let ask = Ask::once("balancing.seal", &json!({"assetId": "a", "epoch": 1}), "k1");
    let answer = client.call(0, &ask).await.expect("an answer");
    assert_eq!(
        (answer.status, answer.code(), answer.node.as_str()),
        (409, "already_sealed", second.as_str())
    );
    for saw in [first_saw.recv().await, second_saw.recv().await] {
        let request = saw.expect("one request each");
        assert!(
            request.starts_with("POST /api/balancing/seal HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(request.contains("idempotency-key: k1\r\n"), "{request}");
    }
}

#[tokio::test]
async fn silence_everywhere_is_unavailable_and_says_that_a_write_may_have_taken_effect() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    drop(listener);
    let client = Client::new([address], Duration::from_millis(1));
    let failure = client
        .call(0, &Ask::once("a.b", &json!({}), "k"))
        .await
        .expect_err("nobody is there");
    assert!(
        matches!(&failure, Error::NoAnswer(text) if text.contains("may have taken effect")),
        "{failure}"
    );
}

#[test]
fn an_action_needs_a_service() {
    assert!(matches!(
        Ask::new("seal", &json!({})).request("h"),
        Err(Error::Impossible(_))
    ));
}
