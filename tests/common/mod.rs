//! What the end-to-end tests share: real processes of the real binary on free ports, a client, a proxy between
//! peers.
//!
//! The tests see the product as its users do: the command line, the files it writes, and HTTP. They wait for
//! conditions, never for time to pass; whatever they started is killed when they end, also when they fail.

// Each test binary uses a part of this.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    reason = "shared by several test binaries"
)]

pub mod cluster;
pub mod http;
pub mod ports;
pub mod proxy;
pub mod wait;

pub use cluster::{Cluster, Plan};
pub use http::Answer;
pub use wait::{Stopwatch, eventually};

/// Runs the binary with these arguments and returns exit code, standard output and standard error.
pub fn gridseal(arguments: &[&str]) -> (i32, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_gridseal"))
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}
