//! The clients' way to the nodes: they name a node as in the simulation, and arrive at a real address.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use futures::future::BoxFuture;
use raft::{BoxStream, Listener, Network, TcpNetwork};

use super::layout::Place;
use crate::host::ip;
use crate::http::API_PORT;

/// TCP, under the addresses of the simulation.
#[derive(Debug)]
pub(super) struct Doors {
    real: BTreeMap<String, String>,
}

impl Doors {
    pub(super) fn new(places: &[Place]) -> Self {
        let name = |place: &Place| SocketAddr::new(ip(place.id), API_PORT).to_string();
        Doors {
            real: places
                .iter()
                .map(|place| (name(place), place.api.clone()))
                .collect(),
        }
    }
}

impl Network for Doors {
    fn dial<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        match self.real.get(addr) {
            Some(real) => TcpNetwork.dial(real),
            None => Box::pin(async move { Err(io::Error::other(format!("no node has the address {addr}"))) }),
        }
    }

    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move { Err(io::Error::other(format!("clients don't listen on {addr}"))) })
    }
}
