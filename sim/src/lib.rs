//! wip
#[cfg(not(tokio_unstable))]
compile_error!(
    "the simulator needs `--cfg tokio_unstable` (see .cargo/config.toml): without it tokio's scheduler is not \
     seeded, and a seed would not mean one run. An environment's RUSTFLAGS overrides the file: unset it."
);
pub mod bare;
pub mod clock;
pub mod disk;
pub mod entropy;
pub mod faults;
pub mod host;
pub mod network;
pub mod report;
pub mod rng;
pub mod run;
pub mod trace;
pub mod world;
