//! GridSeal node.
pub mod config;
