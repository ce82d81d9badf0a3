//! Addresses are names, connections are pipes.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::duplex;
use tokio::sync::mpsc;

use crate::network::{BoxStream, Listener, Network};

type Backlogs = BTreeMap<String, mpsc::UnboundedSender<BoxStream>>;

#[derive(Clone, Default)]
pub(crate) struct MemoryNetwork(Arc<Mutex<Backlogs>>);

struct Pipe {
    addr: String,
    backlog: mpsc::UnboundedReceiver<BoxStream>,
}

impl Network for MemoryNetwork {
    fn dial<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            // A way takes time; without it virtual time would stand still between retries.
            tokio::time::sleep(std::time::Duration::from_micros(200)).await;
            let (near, far) = duplex(64 << 10);
            let sent = self.0.lock().get(addr).map(|backlog| backlog.send(Box::new(far)));
            match sent {
                Some(Ok(())) => Ok(Box::new(near) as BoxStream),
                _ => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }

    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (tx, backlog) = mpsc::unbounded_channel();
            self.0.lock().insert(addr.to_owned(), tx);
            Ok(Box::new(Pipe {
                addr: addr.to_owned(),
                backlog,
            }) as Box<dyn Listener>)
        })
    }
}

impl Listener for Pipe {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, String)>> {
        Box::pin(async move {
            let stream = self.backlog.recv().await.ok_or(io::ErrorKind::NotConnected)?;
            Ok((stream, "pipe".to_owned()))
        })
    }

    fn local_addr(&self) -> String {
        self.addr.clone()
    }
}
