//! Who is there: the first frame each way.

use std::io;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::time::timeout;

use super::Context;
use super::frame::{Frames, invalid};
use crate::codec::{Malformed, Reader};
use crate::network::BoxStream;
use crate::wal::{Identity, hex};

const MAGIC: &[u8; 6] = b"GSPEER";
const VERSION: u16 = 2;
/// Largest frame before a peer is known.
const HELLO_BYTES: usize = 512;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Append = 1,
    Control = 2,
    Snapshot = 3,
    Call = 4,
    Attachment = 5,
}

impl Lane {
    fn from(byte: u8) -> Option<Lane> {
        let lanes = [
            Lane::Append,
            Lane::Control,
            Lane::Snapshot,
            Lane::Call,
            Lane::Attachment,
        ];
        lanes.into_iter().find(|lane| *lane as u8 == byte)
    }
}

/// Connects to a peer, all within the deadline for connecting.
///
/// # Errors
/// `TimedOut`, `PermissionDenied` with the peer's reason if it does not want us, or what the network says.
pub(super) async fn dial(context: &Context, target: u64, addr: &str, lane: Lane) -> io::Result<Frames> {
    dial_with(context, target, addr, lane, Bytes::new()).await
}

/// [`dial`], with a first (small) question right behind the hello: that saves a round trip. Whoever refuses the
/// hello doesn't look at it, and its answer is read only behind a good welcome.
///
/// # Errors
/// As [`dial`].
pub(super) async fn dial_with(
    context: &Context,
    target: u64,
    addr: &str,
    lane: Lane,
    question: Bytes,
) -> io::Result<Frames> {
    let deadline = context.config.timing.connect;
    let connecting = async {
        let stream = context.network.dial(addr).await?;
        let mut frames = Frames::new(stream, HELLO_BYTES);
        frames.queue([hello(&context.identity, target, lane)])?;
        if !question.is_empty() {
            frames.queue([question])?;
        }
        frames.flush().await?;
        let answer = frames.next().await?;
        let mut reader = Reader::new(answer);
        match reader.u8("welcome") {
            Ok(0) => {
                let disk = reader.u128("welcome").map_err(|e| invalid(e.to_string()))?;
                if let Err(error) = context.pins.check(target, disk).await {
                    tracing::error!(peer = target, addr, %error, "not the peer it was");
                    return Err(error);
                }
            }
            Ok(1) => {
                let why = String::from_utf8_lossy(&reader.rest()).into_owned();
                tracing::warn!(peer = target, addr, why, "the peer refuses this node");
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
            _ => return Err(invalid("not a welcome".into())),
        }
        frames.set_max_frame(context.max_frame());
        Ok(frames)
    };
    within(deadline, "connecting", connecting).await
}

fn hello(us: &Identity, target: u64, lane: Lane) -> Bytes {
    let mut out = BytesMut::with_capacity(96);
    out.put_slice(MAGIC);
    out.put_u16(VERSION);
    out.put_u8(lane as u8);
    out.put_slice(&us.cluster);
    out.put_u64(us.node);
    out.put_u64(target);
    out.put_u128(us.disk);
    out.freeze()
}

/// Accepts a peer, within the deadline for connecting, or refuses it with a reason.
///
/// # Errors
/// Why it was refused, or what the network says.
pub(super) async fn accept(context: &Context, stream: BoxStream) -> io::Result<(Frames, Lane, u64)> {
    let accepting = async {
        let mut frames = Frames::new(stream, HELLO_BYTES);
        let hello = frames.next().await?;
        let checked = match check(&context.identity, hello) {
            Ok((lane, from, disk)) => match context.pins.check(from, disk).await {
                Ok(()) => Ok((lane, from)),
                Err(error) => Err(error.to_string()),
            },
            Err(why) => Err(why),
        };
        match checked {
            Ok((lane, from)) => {
                let mut welcome = BytesMut::new();
                welcome.put_u8(0);
                welcome.put_u128(context.identity.disk);
                frames.queue([welcome.freeze()])?;
                frames.flush().await?;
                frames.set_max_frame(context.max_frame());
                Ok((frames, lane, from))
            }
            Err(why) => {
                frames.queue([Bytes::from_static(&[1]), Bytes::from(why.clone())])?;
                frames.flush().await?;
                Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
            }
        }
    };
    within(context.config.timing.connect, "saying hello", accepting).await
}

fn check(us: &Identity, hello: Bytes) -> Result<(Lane, u64, u128), String> {
    let mut reader = Reader::new(hello);
    let magic = reader.take(MAGIC.len(), "magic").map_err(|e| e.to_string())?;
    if magic[..] != MAGIC[..] {
        return Err("not a peer".into());
    }
    let mut fields = || {
        let version = (u16::from(reader.u8("version")?) << 8) | u16::from(reader.u8("version")?);
        let lane = reader.u8("lane")?;
        let cluster = reader.bytes32("cluster")?;
        Ok((
            version,
            lane,
            cluster,
            reader.u64("from")?,
            reader.u64("to")?,
            reader.u128("disk")?,
        ))
    };
    let (version, lane, cluster, from, to, disk) = fields().map_err(|e: Malformed| e.to_string())?;
    if version != VERSION {
        return Err(format!("peer protocol {version}; this node speaks {VERSION}"));
    }
    if cluster != us.cluster {
        return Err(format!("cluster {} is not {}", hex(&cluster), hex(&us.cluster)));
    }
    if to != us.node {
        return Err(format!("this is node {}, not {to}", us.node));
    }
    if from == us.node {
        return Err(format!("this is node {from} itself"));
    }
    let lane = Lane::from(lane).ok_or_else(|| format!("unknown lane {lane}"))?;
    Ok((lane, from, disk))
}

/// Puts a deadline on a wait.
///
/// # Errors
/// `TimedOut`, naming what was waited for, or the wait's own error.
pub(super) async fn within<T>(
    deadline: Duration,
    what: &str,
    wait: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match timeout(deadline, wait).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("{what} took over {deadline:?}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_node_of_the_cluster_that_means_this_one_is_let_in() {
        let node = |node, cluster| Identity {
            cluster: [cluster; 32],
            node,
            disk: u128::from(node) << 100,
        };
        let us = node(2, 7);
        let refused = |hello: Bytes| check(&us, hello).expect_err("refused");
        assert_eq!(
            check(&us, hello(&node(1, 7), 2, Lane::Snapshot)),
            Ok((Lane::Snapshot, 1, 1 << 100))
        );
        assert!(refused(hello(&node(1, 8), 2, Lane::Call)).contains("is not 0707"));
        assert_eq!(
            refused(hello(&node(1, 7), 3, Lane::Call)),
            "this is node 2, not 3"
        );
        assert_eq!(refused(hello(&us, 2, Lane::Call)), "this is node 2 itself");
        let good = hello(&node(1, 7), 2, Lane::Control);
        let with = |at: usize, byte| {
            let mut hello = good.to_vec();
            hello[at] = byte;
            Bytes::from(hello)
        };
        assert_eq!(refused(with(0, b'g')), "not a peer");
        assert_eq!(refused(with(7, 3)), "peer protocol 3; this node speaks 2");
        assert_eq!(refused(with(8, 9)), "unknown lane 9");
        for len in 0..good.len() {
            refused(good.slice(..len));
        }
    }
}
