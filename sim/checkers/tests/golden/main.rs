//! Golden histories: for each checker good ones that it accepts, and bad ones, which differ from a good one in one thing,
//! that it must notice.

mod attestation;
mod clients;
mod linear;
mod log;
#[path = "../../../src/product.rs"]
mod product;
mod raft;
mod small;
mod wal;
mod watch;
