//! The simulator: the very same node code under faults, in virtual time, and a check of what it promises.
//!
//! A run is a [`world`]: machines ([`host`]) with simulated disks ([`disk`]), clocks ([`clock`]) and randomness ([`entropy`]) on a
//! simulated [`network`]; a plan of [`faults`]; a program for each node, which is the product's own `start`
//! ([`cluster`]) or a bare replica ([`bare`]); clients that work through HTTP ([`workload`]) and write down what they
//! hear ([`checkers::history`]); an [`observer`], who shows what happens to the [`checkers`], a crate of their own; and
//! the product's ledger in their words (`product`). [`scenario`] joins them,
//! [`run`] puts a [`trace`] around them, [`report`] tells what came of it.
//!
//! What always holds: one seed, one run. Everything that happens is decided by [`rng`], and two runs of a seed have
//! byte-identical traces, in one process or in two. Nothing of a node is replaced above its seams.
//!
//! Absent on purpose: mocks, and threads. A run is one thread (a second only looks at the clock, see [`watchdog`]); many seeds
//! are many processes.

#[cfg(not(any(tokio_unstable, doc)))]
compile_error!(
    "the simulator needs `--cfg tokio_unstable` (see .cargo/config.toml): without it tokio's scheduler is not \
     seeded, and a seed would not mean one run. An environment's RUSTFLAGS overrides the file: unset it."
);
pub mod admin;
pub mod bare;
pub mod bench;
pub mod case;
pub mod chaos;
pub mod child;
pub mod clock;
pub mod cluster;
pub mod commands;
pub mod disk;
pub mod entropy;
pub mod explore;
pub mod faults;
pub mod host;
pub mod html;
pub mod http;
pub mod mutants;
pub mod network;
pub mod observer;
mod product;
pub mod report;
pub mod rng;
pub mod rogue;
pub mod run;
pub mod scenario;
pub mod shrink;
pub mod story;
pub mod timeline;
pub mod trace;
pub mod watchdog;
pub mod workload;
pub mod world;
