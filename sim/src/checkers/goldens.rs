//! Golden histories of the checkers that watch logs: for each a good one that it accepts, and one for each violation it
//! must notice, which differs in one thing.

mod attestation;
mod linear;
mod log;
mod raft;
mod small;
mod wal;
mod watch;
