//! The HTTP edge of a node.

pub mod backend;
