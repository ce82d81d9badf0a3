//! A TCP proxy in front of each node's peer port, which cuts links between nodes on demand.
//!
//! The proxy learns who dials from the first frame of a connection (raft's hello: 8 bytes of frame head, 6 of
//! magic, 2 of version, 1 of lane, 32 of cluster, then `from` and `to` as 8 bytes big-endian). A cut closes what
//! is open between the two nodes and swallows what is dialled anew, in either direction.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const HELLO: usize = 65;
const FROM: std::ops::Range<usize> = 49..57;

/// All links of one cluster.
#[derive(Debug, Default)]
pub struct Links {
    cut: BTreeSet<(u64, u64)>,
    open: Vec<(u64, u64, TcpStream)>,
}

/// Shared by the proxies of all nodes.
#[derive(Debug, Clone, Default)]
pub struct Proxy(Arc<Mutex<Links>>);

impl Proxy {
    /// Accepts on `listen` for node `to`, whose own port is `target`. Lives until the process ends.
    pub fn serve(&self, to: u64, listen: u16, target: u16) {
        let listener = TcpListener::bind(("127.0.0.1", listen)).expect("the proxy's port is free");
        let proxy = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let proxy = proxy.clone();
                std::thread::spawn(move || proxy.forward(to, stream, target));
            }
        });
    }

    /// Cuts every link between a node of `these` and any other node.
    pub fn isolate(&self, these: &[u64], all: &[u64]) {
        let mut links = self.0.lock().expect("no proxy thread panics");
        for &a in these {
            for &b in all.iter().filter(|b| !these.contains(b)) {
                links.cut.extend([(a, b), (b, a)]);
            }
        }
        let cut = links.cut.clone();
        links.open.retain(|(from, to, stream)| {
            let stays = !cut.contains(&(*from, *to));
            if !stays {
                // It may be closed already.
                let _ = stream.shutdown(Shutdown::Both);
            }
            stays
        });
    }

    /// Mends every link.
    pub fn heal(&self) {
        self.0.lock().expect("no proxy thread panics").cut.clear();
    }

    fn forward(&self, to: u64, mut inbound: TcpStream, target: u16) {
        let mut hello = [0; HELLO];
        if inbound.read_exact(&mut hello).is_err() {
            return;
        }
        let from = u64::from_be_bytes(hello[FROM].try_into().expect("eight bytes"));
        assert_eq!(
            &hello[8..14],
            b"GSPEER",
            "raft's hello changed: read its place of `from` anew"
        );
        let Ok(mut outbound) = TcpStream::connect(("127.0.0.1", target)) else {
            return;
        };
        {
            let mut links = self.0.lock().expect("no proxy thread panics");
            if links.cut.contains(&(from, to)) {
                return;
            }
            for stream in [&inbound, &outbound] {
                if let Ok(stream) = stream.try_clone() {
                    links.open.push((from, to, stream));
                }
            }
        }
        let (Ok(mut back_in), Ok(mut back_out)) = (outbound.try_clone(), inbound.try_clone()) else {
            return;
        };
        let _ = inbound.set_nodelay(true);
        let _ = outbound.set_nodelay(true);
        if outbound.write_all(&hello).is_err() {
            return;
        }
        let back = std::thread::spawn(move || {
            let _ = std::io::copy(&mut back_in, &mut back_out);
            let _ = back_out.shutdown(Shutdown::Both);
        });
        let _ = std::io::copy(&mut inbound, &mut outbound);
        let _ = outbound.shutdown(Shutdown::Both);
        let _ = back.join();
    }
}
