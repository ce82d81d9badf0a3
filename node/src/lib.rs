//! GridSeal node.
pub mod api;
pub mod config;
pub mod identity;
