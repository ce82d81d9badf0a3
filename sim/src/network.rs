//! TCP between simulated machines, behind [`raft::Network`].
//!
//! It is our own rather than turmoil's for what consensus code meets on real networks and turmoil's TCP can't
//! show: there a lost segment is lost for ever, so that a partition silently kills each connection it touches;
//! here, as with real TCP, bytes wait and *resume* when the cut heals. Connections break in the middle of a
//! frame, a machine that lost its power leaves half-open connections behind, a paused process keeps its
//! sockets, the window fills when nobody reads. Like turmoil's, it runs one tokio runtime for each machine
//! ([`crate::host`]), so a crash drops whatever the machine was doing, at any await point.
//!
//! What always holds: bytes of a connection arrive once and in order, or the connection ends. Loss,
//! duplicates and reordering below that are not visible to the code under test on any TCP, and so appear as
//! what they cause: delay. Nothing takes less than a millisecond, and time moves in whole ones.
//!
//! Absent on purpose: bandwidth, names (an address is `ip:port`, and a machine has one), half-closed reading.

mod link;
mod newer;
mod stream;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use parking_lot::Mutex;
use raft::{BoxFuture, BoxStream, Listener, Network};

use self::link::Link;
pub use self::link::Quality;
use self::stream::{Dialing, SimStream};
use crate::rng::{PerMillion, Rng};
use crate::trace;

/// Bytes that may be under way in one direction of a connection before the writer waits for the reader.
const WINDOW: usize = 256 << 10;
/// A machine that is down is asked again after this long.
const KNOCK_MS: u64 = 1_000;

/// The network and all that is under way in it.
#[derive(Clone)]
pub struct SimNet(Arc<Mutex<Core>>);

type ConnId = u64;

/// The two ends of a connection: who dialed, and who accepted.
const DIALER: usize = 0;
const ACCEPTER: usize = 1;

struct Core {
    now: u64,
    rng: Rng,
    machines: BTreeMap<IpAddr, Machine>,
    links: BTreeMap<(IpAddr, IpAddr), Link>,
    conns: BTreeMap<ConnId, Conn>,
    next_conn: ConnId,
    /// By when they are due, then by when they were sent.
    queue: BTreeMap<(u64, u64), Parcel>,
    /// How often links were cut and healed.
    cuts: u64,
    /// Sent into a cut link: when, and what. In order.
    held: BTreeMap<(IpAddr, IpAddr), Vec<(u64, Parcel)>>,
    next_parcel: u64,
    /// To be woken when the core is no longer borrowed.
    wake: Vec<Waker>,
    segments: u64,
    bytes: u64,
}

#[derive(Default)]
struct Machine {
    /// Which process runs there; those before it are dead.
    boots: u64,
    /// False while it has no power: it answers nothing, not even no.
    powered: bool,
    listeners: BTreeMap<u16, Backlog>,
}

#[derive(Default)]
struct Backlog {
    arrived: VecDeque<ConnId>,
    waker: Option<Waker>,
}

struct Conn {
    ends: [End; 2],
    established: bool,
}

struct End {
    addr: SocketAddr,
    /// The process that owns it.
    boot: u64,
    inbox: VecDeque<Bytes>,
    /// The other side will send no more.
    finished: bool,
    broken: Option<io::ErrorKind>,
    /// This side has said it will send no more.
    shut: bool,
    /// The process has dropped it, or died.
    gone: bool,
    /// What it may still send before the other side has read.
    credit: usize,
    /// What this side has read and not yet told the other.
    owed: usize,
    /// Nothing may arrive here before what was sent earlier.
    last_due: u64,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl End {
    fn new(addr: SocketAddr, boot: u64) -> Self {
        End {
            addr,
            boot,
            inbox: VecDeque::new(),
            finished: false,
            broken: None,
            shut: false,
            gone: false,
            credit: WINDOW,
            owed: 0,
            last_due: 0,
            reader: None,
            writer: None,
        }
    }
}

/// Something under way to one end of a connection.
struct Parcel {
    conn: ConnId,
    to: usize,
    what: What,
}

enum What {
    Syn,
    SynAck,
    Data(Bytes),
    Fin,
    Reset(io::ErrorKind),
    /// The other side has read so much.
    Credit(usize),
}

impl SimNet {
    /// An empty network, whose delays this stream decides.
    pub fn new(rng: Rng) -> Self {
        SimNet(Arc::new(Mutex::new(Core {
            now: 0,
            rng,
            machines: BTreeMap::new(),
            links: BTreeMap::new(),
            conns: BTreeMap::new(),
            next_conn: 0,
            queue: BTreeMap::new(),
            cuts: 0,
            held: BTreeMap::new(),
            next_parcel: 0,
            wake: Vec::new(),
            segments: 0,
            bytes: 0,
        })))
    }

    /// Borrows the core, and wakes whom it wants woken afterwards.
    fn with<T>(&self, op: impl FnOnce(&mut Core) -> T) -> T {
        let (result, wake) = {
            let mut core = self.0.lock();
            let result = op(&mut core);
            (result, std::mem::take(&mut core.wake))
        };
        for waker in wake {
            waker.wake();
        }
        result
    }

    /// The network as a new process on this machine sees it. Those before it are dead.
    pub fn attach(&self, ip: IpAddr) -> Attached {
        self.with(|core| {
            let machine = core.machines.entry(ip).or_default();
            machine.boots += 1;
            machine.powered = true;
            Attached {
                net: self.clone(),
                ip,
                boot: machine.boots,
                newer: false,
            }
        })
    }

    /// Ends the process on a machine. With `power_cut` the machine goes silent, and its peers learn of it only
    /// when they hear nothing, or when it is back and knows nothing of their connections; else its kernel
    /// resets them.
    pub fn crash(&self, ip: IpAddr, power_cut: bool) {
        self.with(|core| core.crash(ip, power_cut));
    }

    /// Delivers everything due by `now`.
    pub fn advance(&self, now: u64) {
        self.with(|core| {
            core.now = now;
            while let Some(entry) = core.queue.first_entry() {
                if entry.key().0 > now {
                    break;
                }
                let parcel = entry.remove();
                core.deliver(parcel);
            }
        });
    }

    /// Whether anything is due by then.
    pub fn due_by(&self, then: u64) -> bool {
        self.0
            .lock()
            .queue
            .first_key_value()
            .is_some_and(|((due, _), _)| *due <= then)
    }

    /// Lets nothing through from one machine to another, in this direction. What is under way still arrives.
    pub fn cut(&self, from: IpAddr, to: IpAddr) {
        self.with(|core| {
            core.cuts += 1;
            core.link(from, to).cut = true;
        });
    }

    /// How often links were cut and healed: while it stays the same, so does [`SimNet::cuts`].
    pub fn cuts_version(&self) -> u64 {
        self.0.lock().cuts
    }

    /// The ways, from one machine to another, that nothing gets through.
    pub fn cuts(&self) -> BTreeSet<(IpAddr, IpAddr)> {
        let core = self.0.lock();
        let cut = core.links.iter().filter(|(_, link)| link.cut);
        cut.map(|(way, _)| *way).collect()
    }

    /// Heals every cut, in both directions; what waited is sent again when TCP would.
    pub fn heal(&self) {
        self.with(|core| {
            core.cuts += 1;
            for link in core.links.values_mut() {
                link.cut = false;
            }
            let now = core.now;
            for (_, waiting) in std::mem::take(&mut core.held) {
                for (since, parcel) in waiting {
                    core.send_at(link::retransmit_ms(since, now), parcel);
                }
            }
        });
    }

    /// Makes every link a good one.
    pub fn soothe(&self) {
        self.with(|core| {
            for link in core.links.values_mut() {
                link.quality = Quality::default();
            }
        });
    }

    /// Changes the quality of the way from one machine to another, in this direction.
    pub fn set_quality(&self, from: IpAddr, to: IpAddr, quality: Quality) {
        self.with(|core| core.link(from, to).quality = quality);
    }

    /// Resets every connection between two machines.
    pub fn reset(&self, a: IpAddr, b: IpAddr) {
        self.with(|core| {
            let between = |conn: &Conn| {
                let ips = conn.ends.each_ref().map(|end| end.addr.ip());
                ips == [a, b] || ips == [b, a]
            };
            let ids: Vec<ConnId> = core
                .conns
                .iter()
                .filter(|(_, conn)| between(conn))
                .map(|(id, _)| *id)
                .collect();
            for id in ids {
                core.break_both(id);
            }
        });
    }

    /// Segments delivered so far, and the bytes in them.
    pub fn work(&self) -> (u64, u64) {
        let core = self.0.lock();
        (core.segments, core.bytes)
    }
}

impl Core {
    fn link(&mut self, from: IpAddr, to: IpAddr) -> &mut Link {
        self.links.entry((from, to)).or_default()
    }

    fn alive(&self, ip: IpAddr, boot: u64) -> bool {
        self.machines
            .get(&ip)
            .is_some_and(|machine| machine.powered && machine.boots == boot)
    }

    /// Sends something to one end of a connection, from the other.
    fn send(&mut self, parcel: Parcel) {
        self.send_at(self.now, parcel);
    }

    /// As [`Core::send`], leaving at a later time.
    fn send_at(&mut self, leaves: u64, parcel: Parcel) {
        let Some(conn) = self.conns.get(&parcel.conn) else {
            return;
        };
        let way = (conn.ends[1 - parcel.to].addr.ip(), conn.ends[parcel.to].addr.ip());
        let link = self.links.entry(way).or_default();
        if link.cut {
            self.held.entry(way).or_default().push((leaves, parcel));
            return;
        }
        if matches!(parcel.what, What::Data(_)) && self.rng.chance(link.quality.reset) {
            self.break_in_flight(parcel);
            return;
        }
        let due = leaves + link.draw_ms(&mut self.rng);
        let split = link.quality.split;
        match parcel.what {
            What::Data(bytes) if bytes.len() > 1 && self.rng.chance(split) => {
                let at = 1 + self.rng.index(bytes.len() - 1);
                let Parcel { conn, to, .. } = parcel;
                let piece = |bytes| Parcel {
                    conn,
                    to,
                    what: What::Data(bytes),
                };
                self.put(due, piece(bytes.slice(..at)));
                let later = self.rng.within(0..=3);
                self.put(due + later, piece(bytes.slice(at..)));
            }
            _ => self.put(due, parcel),
        }
    }

    /// Part of the segment arrives, then both ends learn that the connection is gone.
    fn break_in_flight(&mut self, parcel: Parcel) {
        if let What::Data(bytes) = &parcel.what {
            let part = bytes.slice(..self.rng.index(bytes.len()));
            let due = self.now + 1;
            if !part.is_empty() {
                self.put(
                    due,
                    Parcel {
                        conn: parcel.conn,
                        to: parcel.to,
                        what: What::Data(part),
                    },
                );
            }
        }
        self.break_both(parcel.conn);
    }

    fn break_both(&mut self, conn: ConnId) {
        for to in [DIALER, ACCEPTER] {
            let due = self.now + self.rng.within(1..=4);
            self.put(
                due,
                Parcel {
                    conn,
                    to,
                    what: What::Reset(io::ErrorKind::ConnectionReset),
                },
            );
        }
    }

    /// Queues something, behind all that goes to the same end.
    fn put(&mut self, due: u64, parcel: Parcel) {
        let Some(conn) = self.conns.get_mut(&parcel.conn) else {
            return;
        };
        let end = &mut conn.ends[parcel.to];
        let due = due.max(end.last_due);
        end.last_due = due;
        self.queue.insert((due, self.next_parcel), parcel);
        self.next_parcel += 1;
    }

    fn deliver(&mut self, parcel: Parcel) {
        let Parcel { conn: id, to, what } = parcel;
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let (addr, boot) = (conn.ends[to].addr, conn.ends[to].boot);
        let powered = self
            .machines
            .get(&addr.ip())
            .is_some_and(|machine| machine.powered);
        if !powered {
            // Nobody is there to say no. The sender tries again, and its own deadlines decide.
            if !matches!(what, What::Reset(_) | What::Credit(_)) {
                self.put(self.now + KNOCK_MS, Parcel { conn: id, to, what });
            }
            return;
        }
        if let What::Syn = what {
            return self.knock(id, addr);
        }
        let alive = self
            .machines
            .get(&addr.ip())
            .is_some_and(|machine| machine.boots == boot);
        let end = &mut conn.ends[to];
        if end.gone || !alive {
            end.gone = true;
            if !matches!(what, What::Reset(_) | What::Credit(_)) {
                self.send(Parcel {
                    conn: id,
                    to: 1 - to,
                    what: What::Reset(io::ErrorKind::ConnectionReset),
                });
            }
            self.forget(id);
            return;
        }
        match what {
            What::Syn => {}
            What::SynAck => {
                conn.established = true;
                self.wake.extend(end.reader.take());
            }
            What::Data(bytes) => {
                self.segments += 1;
                self.bytes += bytes.len() as u64;
                trace::record(format_args!(
                    "net {} > {} {} bytes",
                    conn.ends[1 - to].addr,
                    addr,
                    bytes.len()
                ));
                let end = &mut conn.ends[to];
                if end.broken.is_none() {
                    end.inbox.push_back(bytes);
                    self.wake.extend(end.reader.take());
                }
            }
            What::Fin => {
                end.finished = true;
                self.wake.extend(end.reader.take());
            }
            What::Reset(kind) => {
                trace::record(format_args!("net {} > {} {kind}", conn.ends[1 - to].addr, addr));
                let end = &mut conn.ends[to];
                end.broken.get_or_insert(kind);
                // What had arrived and was not read is gone as well, as TCP has it.
                end.inbox.clear();
                self.wake.extend(end.reader.take());
                self.wake.extend(end.writer.take());
            }
            What::Credit(n) => {
                end.credit += n;
                self.wake.extend(end.writer.take());
            }
        }
    }

    /// A connection asks to be let in.
    fn knock(&mut self, id: ConnId, addr: SocketAddr) {
        let listener = self.machines.get_mut(&addr.ip()).and_then(|machine| {
            let boot = machine.boots;
            machine
                .listeners
                .get_mut(&addr.port())
                .map(|backlog| (backlog, boot))
        });
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        match listener {
            Some((backlog, boot)) if !conn.ends[DIALER].gone => {
                conn.ends[ACCEPTER].boot = boot;
                backlog.arrived.push_back(id);
                self.wake.extend(backlog.waker.take());
                self.send(Parcel {
                    conn: id,
                    to: DIALER,
                    what: What::SynAck,
                });
            }
            _ => {
                conn.ends[ACCEPTER].gone = true;
                self.send(Parcel {
                    conn: id,
                    to: DIALER,
                    what: What::Reset(io::ErrorKind::ConnectionRefused),
                });
            }
        }
    }

    fn crash(&mut self, ip: IpAddr, power_cut: bool) {
        let Some(machine) = self.machines.get_mut(&ip) else {
            return;
        };
        machine.boots += 1;
        machine.powered = !power_cut;
        machine.listeners.clear();
        let mut orphans = Vec::new();
        for (id, conn) in &mut self.conns {
            for side in [DIALER, ACCEPTER] {
                let end = &mut conn.ends[side];
                if end.addr.ip() == ip && !end.gone {
                    end.gone = true;
                    end.reader = None;
                    end.writer = None;
                    orphans.push((*id, 1 - side));
                }
            }
        }
        for (conn, to) in orphans {
            if !power_cut {
                self.send(Parcel {
                    conn,
                    to,
                    what: What::Reset(io::ErrorKind::ConnectionReset),
                });
            }
            self.forget(conn);
        }
    }

    /// Forgets a connection that neither side has any more.
    fn forget(&mut self, id: ConnId) {
        if self
            .conns
            .get(&id)
            .is_some_and(|conn| conn.ends.iter().all(|end| end.gone))
        {
            self.conns.remove(&id);
        }
    }

    /// The process has dropped its end.
    fn close(&mut self, id: ConnId, side: usize) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let end = &mut conn.ends[side];
        if end.gone {
            return;
        }
        end.gone = true;
        let (ip, boot, unread, shut) = (end.addr.ip(), end.boot, !end.inbox.is_empty(), end.shut);
        if self.alive(ip, boot) {
            let what = if unread {
                What::Reset(io::ErrorKind::ConnectionReset)
            } else if shut {
                return self.forget(id);
            } else {
                What::Fin
            };
            self.send(Parcel {
                conn: id,
                to: 1 - side,
                what,
            });
        }
        self.forget(id);
    }
}

/// The network as one process sees it.
#[derive(Clone)]
pub struct Attached {
    net: SimNet,
    ip: IpAddr,
    boot: u64,
    newer: bool,
}

impl Attached {
    /// The same for a build that speaks the next version of the peers' protocol, and no other.
    pub fn newer(self) -> Self {
        Attached { newer: true, ..self }
    }
}

fn open(stream: SimStream, newer: bool) -> BoxStream {
    match newer {
        true => Box::new(newer::Newer::new(stream)),
        false => Box::new(stream),
    }
}

fn parse(addr: &str) -> io::Result<SocketAddr> {
    addr.parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("`{addr}` is not `ip:port`")))
}

/// The first of the ports that a listener on port 0 and a dialer may be given.
const EPHEMERAL: u16 = 49_152;

impl Network for Attached {
    fn dial<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let to = parse(addr)?;
            let id = self.net.with(|core| {
                if !core.alive(self.ip, self.boot) {
                    return Err(io::Error::from(io::ErrorKind::NetworkDown));
                }
                let id = core.next_conn;
                core.next_conn += 1;
                // A port is told apart by its connection; no one here dials 16,384 at once.
                let port = EPHEMERAL + u16::try_from(id % 16_384).unwrap_or(0);
                let dialer = End::new(SocketAddr::new(self.ip, port), self.boot);
                let accepter = End::new(to, 0);
                core.conns.insert(
                    id,
                    Conn {
                        ends: [dialer, accepter],
                        established: false,
                    },
                );
                core.send(Parcel {
                    conn: id,
                    to: ACCEPTER,
                    what: What::Syn,
                });
                Ok(id)
            })?;
            let stream = Dialing(Some(SimStream::new(self.net.clone(), id, DIALER))).await?;
            Ok(open(stream, self.newer))
        })
    }

    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let mut addr = parse(addr)?;
            if !addr.ip().is_unspecified() && addr.ip() != self.ip {
                return Err(io::Error::new(
                    io::ErrorKind::AddrNotAvailable,
                    format!("{addr} is not of this machine"),
                ));
            }
            addr.set_ip(self.ip);
            self.net.with(|core| {
                if !core.alive(self.ip, self.boot) {
                    return Err(io::Error::from(io::ErrorKind::NetworkDown));
                }
                let machine = core.machines.entry(self.ip).or_default();
                if addr.port() == 0 {
                    let free = (EPHEMERAL..).find(|port| !machine.listeners.contains_key(port));
                    addr.set_port(free.ok_or(io::ErrorKind::AddrInUse)?);
                }
                if machine.listeners.contains_key(&addr.port()) {
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, addr.to_string()));
                }
                machine.listeners.insert(addr.port(), Backlog::default());
                Ok(())
            })?;
            Ok(Box::new(SimListener {
                net: self.net.clone(),
                addr,
                boot: self.boot,
                newer: self.newer,
            }) as Box<dyn Listener>)
        })
    }
}

struct SimListener {
    net: SimNet,
    addr: SocketAddr,
    boot: u64,
    newer: bool,
}

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, String)>> {
        Box::pin(std::future::poll_fn(|cx| {
            self.net.with(|core| {
                let alive = core.alive(self.addr.ip(), self.boot);
                let machine = core.machines.get_mut(&self.addr.ip());
                let backlog = machine.and_then(|machine| machine.listeners.get_mut(&self.addr.port()));
                let Some(backlog) = backlog.filter(|_| alive) else {
                    return std::task::Poll::Ready(Err(io::Error::from(io::ErrorKind::NotConnected)));
                };
                match backlog.arrived.pop_front() {
                    Some(id) => {
                        let from = core.conns.get(&id).map(|conn| conn.ends[DIALER].addr.to_string());
                        let stream = SimStream::new(self.net.clone(), id, ACCEPTER);
                        std::task::Poll::Ready(Ok((open(stream, self.newer), from.unwrap_or_default())))
                    }
                    None => {
                        backlog.waker = Some(cx.waker().clone());
                        std::task::Poll::Pending
                    }
                }
            })
        }))
    }

    fn local_addr(&self) -> String {
        self.addr.to_string()
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.net.with(|core| {
            if !core.alive(self.addr.ip(), self.boot) {
                return;
            }
            let machine = core.machines.get_mut(&self.addr.ip());
            let backlog = machine.and_then(|machine| machine.listeners.remove(&self.addr.port()));
            for id in backlog.map(|backlog| backlog.arrived).unwrap_or_default() {
                core.close(id, ACCEPTER);
            }
        });
    }
}

/// A link quality that a seed draws: mostly good, sometimes slow, lossy or breaking.
pub fn draw_quality(rng: &mut Rng) -> Quality {
    let mut quality = Quality {
        latency_ms: 1..=*rng.pick(&[1, 2, 5, 20]),
        split: PerMillion::percent(5),
        ..Quality::default()
    };
    if rng.chance(PerMillion::percent(25)) {
        quality.spike = PerMillion::percent(1);
    }
    if rng.chance(PerMillion::percent(25)) {
        quality.loss = PerMillion::percent(*rng.pick(&[1, 3, 10]));
    }
    if rng.chance(PerMillion::percent(25)) {
        quality.reset = PerMillion(*rng.pick(&[200, 1_000, 3_000]));
    }
    quality
}

#[cfg(test)]
mod tests;
