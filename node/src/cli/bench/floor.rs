//! What the machine allows at best: a preallocated write with its sync, and a loopback round trip.
//!
//! Nothing that is durable on three disks (here: three files of one disk) and goes through two processes can be
//! faster; the single-record workload is to be read beside it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::latency::Latencies;

/// Sizes of the writes, and how many of each.
const WRITES: [(usize, usize); 3] = [(4 << 10, 250), (64 << 10, 150), (512 << 10, 60)];
/// Files that are written at once: one a node.
const AT_ONCE: usize = 3;
/// Round trips, and bytes each way.
const TRIPS: usize = 4_000;
const MESSAGE: usize = 128;
/// Single-record latency is to stay within so many floors.
const BOUND: f64 = 1.5;

/// Median and 99th percentile, microseconds.
#[derive(Debug, Clone, Copy)]
struct Spread {
    p50: u64,
    p99: u64,
}

impl Spread {
    fn of(mut latencies: Latencies) -> Self {
        Self {
            p50: latencies.at(0.5),
            p99: latencies.at(0.99),
        }
    }

    fn json(self) -> Value {
        json!({"p50_us": self.p50, "p99_us": self.p99})
    }
}

/// The machine's floor.
#[derive(Debug, Clone)]
pub(super) struct Floor {
    /// By size: one file, and three at once.
    writes: Vec<(usize, Spread, Spread)>,
    trip: Spread,
}

impl Floor {
    /// Measures it in a directory; takes a second or two.
    pub(super) fn measure(dir: &Path) -> io::Result<Self> {
        let writes = WRITES
            .iter()
            .map(|&(bytes, count)| {
                let one = write_and_sync(dir, bytes, count, 1)?;
                let three = write_and_sync(dir, bytes, count, AT_ONCE)?;
                Ok((bytes, one, three))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            writes,
            trip: round_trips()?,
        })
    }

    /// What a single record may take: 1.5 × (three concurrent syncs of 4 KiB and two round trips), medians.
    pub(super) fn single_record_bound_us(&self) -> f64 {
        let syncs = self.writes.first().map_or(0, |(_, _, three)| three.p50);
        BOUND * (syncs + 2 * self.trip.p50) as f64
    }

    pub(super) fn json(&self) -> Value {
        let writes: Vec<Value> = self
            .writes
            .iter()
            .map(|(bytes, one, three)| json!({"bytes": bytes, "one": one.json(), "three_at_once": three.json()}))
            .collect();
        json!({
            "write_fdatasync": writes,
            "loopback_round_trip": self.trip.json(),
            "single_record_bound_us": self.single_record_bound_us(),
        })
    }

    /// In words, for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .writes
            .iter()
            .map(|(bytes, one, three)| {
                format!(
                    "  write + fdatasync, {:>3} KiB: {} / {} µs (p50 / p99), three files at once {} / {} µs",
                    bytes >> 10,
                    one.p50,
                    one.p99,
                    three.p50,
                    three.p99
                )
            })
            .collect();
        lines.push(format!(
            "  loopback round trip: {} / {} µs; 1.5 × (three syncs of 4 KiB + two round trips) = {:.0} µs",
            self.trip.p50,
            self.trip.p99,
            self.single_record_bound_us()
        ));
        lines
    }
}

/// `files` threads, each with a preallocated file of its own, write and sync `count` times.
fn write_and_sync(dir: &Path, bytes: usize, count: usize, files: usize) -> io::Result<Spread> {
    let begin = Barrier::new(files);
    let all: Vec<io::Result<Latencies>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..files)
            .map(|file| {
                let begin = &begin;
                let path = dir.join(format!("floor-{file}"));
                scope.spawn(move || {
                    let prepared = prepared(&path, bytes, count);
                    // Everyone arrives, or those who did would wait for ever.
                    begin.wait();
                    let latencies = prepared.and_then(|file| synced_writes(&file, bytes, count));
                    std::fs::remove_file(&path)?;
                    latencies
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a measuring thread panicked")))
            })
            .collect()
    });
    let mut joined = Latencies::default();
    for latencies in all {
        joined.join(latencies?);
    }
    Ok(Spread::of(joined))
}

/// A file of zeros, written and synced, as the log prepares its own.
fn prepared(path: &Path, bytes: usize, count: usize) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(path)?;
    let zeros = vec![0; bytes];
    for position in 0..count {
        file.write_all_at(&zeros, (position * bytes) as u64)?;
    }
    file.sync_all()?;
    Ok(file)
}

fn synced_writes(file: &File, bytes: usize, count: usize) -> io::Result<Latencies> {
    let data = vec![0xa5; bytes];
    let mut latencies = Latencies::default();
    for position in 0..count {
        let begun = Instant::now();
        file.write_all_at(&data, (position * bytes) as u64)?;
        file.sync_data()?;
        latencies.add(begun.elapsed());
    }
    Ok(latencies)
}

/// Messages to another thread and back, over TCP.
fn round_trips() -> io::Result<Spread> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::scope(|scope| {
        let echo = scope.spawn(move || -> io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            let mut message = [0; MESSAGE];
            for _ in 0..TRIPS {
                stream.read_exact(&mut message)?;
                stream.write_all(&message)?;
            }
            Ok(())
        });
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut message = [7; MESSAGE];
        let mut latencies = Latencies::default();
        for _ in 0..TRIPS {
            let begun = Instant::now();
            stream.write_all(&message)?;
            stream.read_exact(&mut message)?;
            latencies.add(begun.elapsed());
        }
        drop(stream);
        echo.join()
            .unwrap_or_else(|_| Err(io::Error::other("the echoing thread panicked")))?;
        Ok(Spread::of(latencies))
    })
}
