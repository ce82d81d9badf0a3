//! A TCP proxy in front of nodes, which does to each direction of each link what it is told.
//!
//! There is one listener for each node that is reached through it. Who dials it learns from the first frame of a
//! connection, raft's hello: 8 bytes of frame head, 6 of magic, 2 of version, 1 of lane, 32 of cluster, then `from`
//! and `to`, 8 bytes big-endian each.
//!
//! As on a wire, a cut of one direction stops its bytes on all connections between the two, whoever dialled, and
//! what was sent meanwhile arrives when the cut ends: TCP repeats it until then. Not even a closed connection is
//! noticed through a cut. A proxy can't lose or reorder bytes; only network namespaces can, below TCP.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

const MAGIC: &[u8] = b"GSPEER";
const HELLO: usize = 65;
const MAGIC_AT: std::ops::Range<usize> = 8..14;
const FROM_AT: std::ops::Range<usize> = 49..57;
/// How long a connection may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes under way in one direction of a connection; more stay with the sender.
const IN_FLIGHT: usize = 256 << 10;

/// What the way from one node to another is like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Air {
    /// So many faults cut it just now.
    cuts: u32,
    /// So many refuse connections.
    refusals: u32,
    /// How long bytes take, milliseconds.
    delay_ms: u64,
    /// How many bytes a second it carries; without, all.
    rate: Option<u64>,
    /// How often connections were reset, and how many more bytes the last reset let through.
    resets: (u64, usize),
}

/// All proxies of one cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxy(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    ways: BTreeMap<(u64, u64), watch::Sender<Air>>,
    /// Connections that were forwarded.
    forwarded: u64,
    /// Connections that were not raft's.
    strangers: u64,
}

impl Proxy {
    /// Listens on a free port for node `to`, which itself listens at `target`; returns `host:port`.
    ///
    /// # Errors
    /// There is no free port on this address.
    pub(super) async fn serve(&self, to: u64, on: IpAddr, target: String) -> io::Result<String> {
        let listener = TcpListener::bind((on, 0)).await?;
        let address = listener.local_addr()?.to_string();
        let proxy = self.clone();
        tokio::spawn(async move {
            loop {
                let Ok((inbound, _)) = listener.accept().await else {
                    // Out of descriptors, perhaps: some will be closed.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let (proxy, target) = (proxy.clone(), target.clone());
                // Its errors are those of a connection that broke: its ends notice themselves.
                tokio::spawn(async move { drop(proxy.forward(to, inbound, &target).await) });
            }
        });
        Ok(address)
    }

    fn change(&self, from: u64, to: u64, change: impl FnOnce(&mut Air)) {
        self.0
            .lock()
            .ways
            .entry((from, to))
            .or_default()
            .send_modify(change);
    }

    fn way(&self, from: u64, to: u64) -> watch::Receiver<Air> {
        self.0.lock().ways.entry((from, to)).or_default().subscribe()
    }

    /// From here on, until as many [`Proxy::mend`]s, nothing gets from one to the other.
    pub(super) fn cut(&self, from: u64, to: u64) {
        self.change(from, to, |air| air.cuts += 1);
    }

    /// Takes one cut back.
    pub(super) fn mend(&self, from: u64, to: u64) {
        self.change(from, to, |air| air.cuts = air.cuts.saturating_sub(1));
    }

    /// New connections are reset, or no more.
    pub(super) fn refuse(&self, from: u64, to: u64, refuse: bool) {
        self.change(from, to, |air| {
            air.refusals = if refuse {
                air.refusals + 1
            } else {
                air.refusals.saturating_sub(1)
            };
        });
    }

    /// Bytes take so long; 0 for as long as they take.
    pub(super) fn delay(&self, from: u64, to: u64, ms: u64) {
        self.change(from, to, |air| air.delay_ms = ms);
    }

    /// So many bytes a second get through.
    pub(super) fn slow(&self, from: u64, to: u64, rate: Option<u64>) {
        self.change(from, to, |air| air.rate = rate.map(|rate| rate.max(1)));
    }

    /// Resets every connection between two, each after at most so many more bytes in a direction: in the middle of a
    /// frame, as like as not.
    pub(super) fn reset(&self, a: u64, b: u64, after: usize) {
        for (from, to) in [(a, b), (b, a)] {
            self.change(from, to, |air| air.resets = (air.resets.0 + 1, after));
        }
    }

    /// How many connections were forwarded, and how many were not raft's.
    pub(super) fn counts(&self) -> (u64, u64) {
        let state = self.0.lock();
        (state.forwarded, state.strangers)
    }

    async fn forward(&self, to: u64, mut inbound: TcpStream, target: &str) -> io::Result<()> {
        inbound.set_nodelay(true)?;
        let mut hello = [0; HELLO];
        timeout(PATIENCE, inbound.read_exact(&mut hello)).await??;
        let from = <[u8; 8]>::try_from(&hello[FROM_AT])
            .map(u64::from_be_bytes)
            .unwrap_or_default();
        if hello[MAGIC_AT] != *MAGIC {
            self.0.lock().strangers += 1;
            return Err(io::Error::other("not raft's hello"));
        }
        let (mut there, mut back) = (self.way(from, to), self.way(to, from));
        if there.borrow_and_update().refusals > 0 {
            return inbound.set_zero_linger();
        }
        // The handshake needs both ways.
        gone(there.wait_for(|air| air.cuts == 0).await)?;
        gone(back.wait_for(|air| air.cuts == 0).await)?;
        let mut outbound = TcpStream::connect(target).await?;
        outbound.set_nodelay(true)?;
        self.0.lock().forwarded += 1;
        let ended = {
            let (in_read, in_write) = inbound.split();
            let (out_read, out_write) = outbound.split();
            tokio::try_join!(
                pump(in_read, out_write, there, hello.to_vec()),
                pump(out_read, in_write, back, Vec::new()),
            )
        };
        if ended.is_err() {
            // Both ends learn of it as of a reset, even if only one had it.
            inbound.set_zero_linger()?;
            outbound.set_zero_linger()?;
        }
        ended.map(|_| ())
    }
}

/// The proxies are gone, and with them who could tell.
fn gone<T>(told: Result<T, watch::error::RecvError>) -> io::Result<()> {
    told.map(drop).map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// Carries bytes one way, as the air allows, until the sender has no more. `first` were read already.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut air: watch::Receiver<Air>,
    first: Vec<u8>,
) -> io::Result<()> {
    let resets = air.borrow().resets.0;
    let mut under_way = VecDeque::from([(Instant::now(), first)]);
    let mut size = 0_usize;
    let mut ended = false;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let now = air.borrow_and_update().clone();
        if now.resets.0 != resets {
            let mut left = now.resets.1;
            for (_, bytes) in &under_way {
                let some = &bytes[..bytes.len().min(left)];
                left -= some.len();
                // The receiver may be gone already, which is what this is about.
                drop(timeout(PATIENCE, to.write_all(some)).await);
            }
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let open = now.cuts == 0;
        let due = under_way.front().map(|(due, _)| *due);
        if open && ended && due.is_none() {
            return to.shutdown().await;
        }
        tokio::select! {
            changed = air.changed() => gone(changed)?,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if open && due.is_some() => {
                if let Some((_, bytes)) = under_way.pop_front() {
                    size = size.saturating_sub(bytes.len());
                    to.write_all(&bytes).await?;
                    if let Some(rate) = now.rate {
                        let ms = (bytes.len() as u64).saturating_mul(1_000) / rate;
                        let written = Instant::now();
                        if let Some((due, _)) = under_way.front_mut() {
                            *due = (*due).max(written + Duration::from_millis(ms));
                        }
                    }
                }
            }
            read = from.read(&mut buffer), if open && !ended && size < IN_FLIGHT => {
                let read = read?;
                if read == 0 {
                    ended = true;
                } else {
                    size += read;
                    under_way.push_back((Instant::now() + Duration::from_millis(now.delay_ms), buffer[..read].to_vec()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);
    /// Nothing arrives for so long: it is held.
    const HELD: Duration = Duration::from_millis(300);

    /// Node 2 that echoes, behind a proxy, and a connection of node 1 to it that has said hello.
    async fn echo() -> (Proxy, String, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let target = listener.local_addr().expect("bound").to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        let proxy = Proxy::default();
        let address = proxy
            .serve(2, [127, 0, 0, 1].into(), target)
            .await
            .expect("it listens");
        let stream = greeted(&address).await;
        (proxy, address, stream)
    }

    async fn greeted(address: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("it accepts");
        let mut hello = [0; HELLO];
        hello[MAGIC_AT].copy_from_slice(MAGIC);
        hello[FROM_AT].copy_from_slice(&1_u64.to_be_bytes());
        stream.write_all(&hello).await.expect("sent");
        stream
    }

    async fn echoed(stream: &mut TcpStream, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        match timeout(SOON, stream.read_exact(&mut bytes))
            .await
            .expect("in time")
        {
            Ok(_) => Some(bytes),
            Err(_) => None,
        }
    }

    async fn silent(stream: &mut TcpStream) -> bool {
        timeout(HELD, stream.read_u8()).await.is_err()
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_an_end_too() {
        let (proxy, _, mut stream) = echo().await;
        assert_eq!(
            echoed(&mut stream, HELLO)
                .await
                .map(|hello| hello[MAGIC_AT].to_vec()),
            Some(MAGIC.to_vec())
        );
        let sent: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        stream.write_all(&sent).await.expect("sent");
        assert_eq!(echoed(&mut stream, sent.len()).await, Some(sent));
        stream.shutdown().await.expect("ended");
        assert_eq!(
            timeout(SOON, stream.read(&mut [0]))
                .await
                .expect("in time")
                .expect("an end"),
            0
        );
        assert_eq!(proxy.counts(), (1, 0));
    }

    #[tokio::test]
    async fn a_cut_of_either_way_holds_bytes_and_mending_delivers_them() {
        for (from, to) in [(1, 2), (2, 1)] {
            let (proxy, _, mut stream) = echo().await;
            echoed(&mut stream, HELLO).await.expect("hello");
            proxy.cut(from, to);
            proxy.cut(from, to);
            stream.write_all(b"held").await.expect("taken");
            assert!(silent(&mut stream).await, "cut n{from}>n{to}");
            proxy.mend(from, to);
            assert!(
                silent(&mut stream).await,
                "one of two cuts of n{from}>n{to} is left"
            );
            proxy.mend(from, to);
            assert_eq!(echoed(&mut stream, 4).await, Some(b"held".to_vec()));
        }
    }

    #[tokio::test]
    async fn who_dials_into_a_cut_waits_and_a_cut_elsewhere_is_not_noticed() {
        let (proxy, address, _first) = echo().await;
        proxy.cut(2, 1);
        proxy.cut(1, 3);
        let mut stream = greeted(&address).await;
        assert!(silent(&mut stream).await);
        proxy.mend(2, 1);
        assert!(echoed(&mut stream, HELLO).await.is_some());
    }

    #[tokio::test]
    async fn a_reset_is_an_error_and_a_refusal_keeps_new_connections_out() {
        let (proxy, address, mut stream) = echo().await;
        echoed(&mut stream, HELLO).await.expect("hello");
        proxy.reset(1, 2, 3);
        let broken = timeout(SOON, stream.read_u8()).await.expect("in time");
        assert!(broken.is_err());
        proxy.refuse(1, 2, true);
        let mut refused = greeted(&address).await;
        assert_eq!(echoed(&mut refused, 1).await, None);
        proxy.refuse(1, 2, false);
        let mut again = greeted(&address).await;
        assert!(echoed(&mut again, HELLO).await.is_some());
    }

    #[tokio::test]
    async fn delays_are_kept_and_order_with_them() {
        let (proxy, _, mut stream) = echo().await;
        echoed(&mut stream, HELLO).await.expect("hello");
        proxy.delay(1, 2, 200);
        let sent = Instant::now();
        stream.write_all(b"ab").await.expect("sent");
        assert_eq!(echoed(&mut stream, 2).await, Some(b"ab".to_vec()));
        assert!(
            sent.elapsed() >= Duration::from_millis(200),
            "{:?}",
            sent.elapsed()
        );
    }

    #[tokio::test]
    async fn strangers_are_not_forwarded() {
        let (proxy, address, _first) = echo().await;
        let mut stranger = TcpStream::connect(&address).await.expect("it accepts");
        stranger.write_all(&[b'G'; HELLO]).await.expect("sent");
        assert_eq!(echoed(&mut stranger, 1).await, None);
        assert_eq!(proxy.counts().1, 1);
    }
}
