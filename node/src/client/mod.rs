//! Clients of a node.

pub mod stream;
