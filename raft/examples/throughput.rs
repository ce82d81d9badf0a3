//! Measures the floor under everything else: `cargo run --release -p raft --example throughput [DIR]`.
//!
//! One replica: proposals of 64 KiB, one at a time; each is one write and one sync. Three replicas in this
//! process, on one disk: payloads of 200 bytes, and of 8,000 records of 20 and of 60 bytes, so many in flight. CPU is that of
//! this process, all replicas and whoever proposes, kernel included.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raft::{
    Capture, Committed, Config, FileDisk, NoService, PeerAddr, Replica, RestoreError, Role, StateMachine,
    TcpNetwork,
};
use tokio::time::Instant;

const RECORDS: usize = 8_000;

/// Applies by forgetting.
struct Sink;

impl StateMachine for Sink {
    fn apply(&mut self, _batch: Vec<Committed>) {}

    fn snapshot(&mut self) -> Capture {
        Capture::new(Bytes::new)
    }

    fn restore(&mut self, _snapshot: Bytes, _index: u64) -> Result<(), RestoreError> {
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "target/throughput".into());
    measure(&dir, 1, 64 << 10, &[1, 4]).await?;
    measure(&dir, 3, 200, &[1, 64, 1024]).await?;
    measure(&dir, 3, RECORDS * 20, &[1, 2, 4, 8]).await?;
    measure(&dir, 3, RECORDS * 60, &[1, 2, 4]).await?;
    Ok(())
}

/// User and system time of this process so far; zero where there is no /proc.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = behind_name.split_whitespace().skip(11).take(2);
    // A hundredth of a second is the tick that Linux shows everywhere.
    Duration::from_millis(10 * ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>())
}

async fn measure(
    dir: &str,
    nodes: u64,
    payload_bytes: usize,
    in_flight: &[usize],
) -> Result<(), Box<dyn std::error::Error>> {
    let mut replicas = Vec::new();
    for id in 1..=nodes {
        let path = format!("{dir}/{id}");
        // Left over from an earlier run, if it is there at all.
        let _ = std::fs::remove_dir_all(&path);
        let config = Config::new(id, [1; 32], "127.0.0.1:0", id);
        let disk = Arc::new(FileDisk::new(path));
        replicas.push(
            Replica::start(
                config,
                disk,
                Arc::new(TcpNetwork),
                Box::new(Sink),
                Arc::new(NoService),
            )
            .await?,
        );
    }
    let members: BTreeMap<u64, PeerAddr> = (1..)
        .zip(&replicas)
        .map(|(id, replica)| (id, PeerAddr(replica.listen_addr().to_owned())))
        .collect();
    for replica in &replicas {
        replica.initialize(members.clone()).await?;
    }
    let elected = replicas[0]
        .watch_status()
        .wait_for(|status| status.leader.is_some())
        .await?
        .leader;
    let leader = replicas[usize::try_from(elected.unwrap_or(1) - 1)?].clone();
    leader
        .watch_status()
        .wait_for(|status| status.role == Role::Leader)
        .await?;
    leader.read_barrier().await?;

    for window in in_flight {
        let (started, used) = (Instant::now(), cpu());
        let workers: Vec<_> = (0..*window)
            .map(|_| {
                let leader = leader.clone();
                tokio::spawn(async move {
                    let payload = Bytes::from(vec![7; payload_bytes]);
                    let mut latencies = Vec::new();
                    while started.elapsed() < Duration::from_secs(3) {
                        let asked = Instant::now();
                        match leader.propose(vec![payload.clone()]).await {
                            Ok(_) => latencies.push(asked.elapsed()),
                            Err(refused) => return Err((started.elapsed(), leader.status(), refused)),
                        }
                    }
                    Ok(latencies)
                })
            })
            .collect();
        let mut latencies = Vec::new();
        for worker in workers {
            match worker.await? {
                Ok(measured) => latencies.extend(measured),
                Err((when, status, refused)) => println!("stopped after {when:?}: {refused}; {status:?}"),
            }
        }
        latencies.sort();
        let per_second = latencies.len() as f64 / started.elapsed().as_secs_f64();
        let at = |part: usize| latencies[(latencies.len() * part / 100).min(latencies.len() - 1)];
        println!(
            "{nodes} nodes, {payload_bytes} bytes, {window} in flight: {per_second:.0}/s, {:.1} MB/s, p50 {:?}, p99 {:?}, \
             CPU {:.0} µs an entry",
            per_second * payload_bytes as f64 / 1e6,
            at(50),
            at(99),
            (cpu() - used).as_secs_f64() * 1e6 / latencies.len() as f64,
        );
    }
    for replica in replicas {
        replica.shutdown().await?;
    }
    Ok(())
}
