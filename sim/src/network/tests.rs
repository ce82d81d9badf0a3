//! The network alone: one paused runtime, a task that moves it on each millisecond.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::*;
use crate::host::ip;

fn run<T>(seed: u64, test: impl AsyncFnOnce(SimNet) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let net = SimNet::new(Rng::new(seed));
        let driven = net.clone();
        tokio::spawn(async move {
            for now in 1.. {
                sleep(Duration::from_millis(1)).await;
                driven.advance(now);
            }
        });
        test(net).await
    })
}

/// A connection from machine 1 to machine 2.
async fn connect(net: &SimNet) -> (BoxStream, BoxStream) {
    let (a, b) = (net.attach(ip(1)), net.attach(ip(2)));
    let mut listener = b.listen("10.0.0.2:80").await.unwrap();
    let (dialed, accepted) = tokio::join!(a.dial("10.0.0.2:80"), listener.accept());
    (dialed.unwrap(), accepted.unwrap().0)
}

fn noise(n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    Rng::new(9).fill(&mut bytes);
    bytes
}

#[test]
fn bytes_arrive_once_and_in_order_over_a_bad_link() {
    for seed in 0..20 {
        run(seed, async |net| {
            let (mut a, mut b) = connect(&net).await;
            let bad = Quality {
                latency_ms: 1..=50,
                spike: PerMillion::percent(5),
                loss: PerMillion::percent(20),
                split: PerMillion::percent(50),
                ..Quality::default()
            };
            net.set_quality(ip(1), ip(2), bad);
            let sent = noise(700_000);
            let expected = sent.clone();
            let writer = tokio::spawn(async move {
                for chunk in sent.chunks(7_001) {
                    a.write_all(chunk).await.unwrap();
                }
                a.shutdown().await.unwrap();
                a
            });
            let mut got = Vec::new();
            b.read_to_end(&mut got).await.unwrap();
            assert!(got == expected, "seed {seed}");
            writer.await.unwrap();
        });
    }
}

#[test]
fn a_cut_stalls_and_a_heal_resumes_the_same_connection() {
    run(1, async |net| {
        let (mut a, mut b) = connect(&net).await;
        net.cut(ip(1), ip(2));
        a.write_all(b"one").await.unwrap();
        let mut buf = [0; 3];
        timeout(Duration::from_secs(10), b.read_exact(&mut buf))
            .await
            .unwrap_err();
        // The other way still works.
        b.write_all(b"two").await.unwrap();
        timeout(Duration::from_secs(1), a.read_exact(&mut buf))
            .await
            .unwrap()
            .unwrap();
        net.heal();
        timeout(Duration::from_secs(6), b.read_exact(&mut buf))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&buf, b"one");
    });
}

#[test]
fn refused_where_nobody_listens_and_silent_where_nobody_is() {
    run(1, async |net| {
        let (a, _b) = (net.attach(ip(1)), net.attach(ip(2)));
        let refused = timeout(Duration::from_secs(1), a.dial("10.0.0.2:80"))
            .await
            .unwrap();
        assert_eq!(refused.err().unwrap().kind(), io::ErrorKind::ConnectionRefused);
        net.crash(ip(2), true);
        timeout(Duration::from_secs(60), a.dial("10.0.0.2:80"))
            .await
            .err()
            .expect("nobody is there to refuse");
        let b = net.attach(ip(2));
        let mut listener = b.listen("0.0.0.0:80").await.unwrap();
        let (dialed, _) = tokio::join!(a.dial("10.0.0.2:80"), listener.accept());
        dialed.unwrap();
        assert!(b.listen("10.0.0.2:80").await.is_err(), "the port is taken");
        drop(listener);
        assert!(b.listen("10.0.0.2:80").await.is_ok());
    });
}

#[test]
fn a_killed_process_resets_and_a_silent_one_is_found_out_later() {
    run(1, async |net| {
        let (mut a, b) = connect(&net).await;
        net.crash(ip(2), false);
        let reset = timeout(Duration::from_secs(1), a.read_u8())
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
        drop(b);

        let (mut a, mut b) = connect(&net).await;
        net.crash(ip(2), true);
        timeout(Duration::from_secs(60), a.read_u8()).await.unwrap_err();
        b.write_all(b"ghost").await.unwrap_err();
        a.write_all(b"are you there?").await.unwrap();
        timeout(Duration::from_secs(60), a.read_u8()).await.unwrap_err();
        let _back = net.attach(ip(2));
        let reset = timeout(Duration::from_secs(2), a.read_u8())
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_writer_waits_for_a_reader() {
    run(1, async |net| {
        let (mut a, mut b) = connect(&net).await;
        let all = noise(WINDOW + 1);
        timeout(Duration::from_secs(10), a.write_all(&all))
            .await
            .unwrap_err();
        let mut got = vec![0; WINDOW];
        b.read_exact(&mut got).await.unwrap();
        assert!(got == all[..WINDOW]);
        timeout(Duration::from_secs(1), a.write_all(b"more"))
            .await
            .unwrap()
            .unwrap();
    });
}

#[test]
fn a_reset_may_leave_half_a_frame() {
    let mut halves = 0;
    for seed in 0..50 {
        run(seed, async |net| {
            let (mut a, mut b) = connect(&net).await;
            let breaking = Quality {
                reset: PerMillion::ALWAYS,
                ..Quality::default()
            };
            net.set_quality(ip(1), ip(2), breaking);
            a.write_all(&noise(1_000)).await.unwrap();
            let mut buf = [0; 2_000];
            match b.read(&mut buf).await {
                Ok(n) => {
                    assert!(n < 1_000);
                    halves += 1;
                    b.read(&mut buf).await.unwrap_err();
                }
                Err(e) => assert_eq!(e.kind(), io::ErrorKind::ConnectionReset),
            }
            a.read_u8().await.unwrap_err();
        });
    }
    assert!(halves > 10, "{halves} of 50");
}

#[test]
fn dropping_an_end_ends_the_other() {
    run(1, async |net| {
        let (a, mut b) = connect(&net).await;
        drop(a);
        assert_eq!(b.read(&mut [0; 1]).await.unwrap(), 0);
        b.write_all(b"x").await.unwrap();
        sleep(Duration::from_millis(10)).await;
        b.write_all(b"x").await.unwrap_err();
        drop(b);
        assert!(net.0.lock().conns.is_empty(), "closed connections are forgotten");
    });
}
