//! Tells the compiler that `tokio_unstable` is a name on purpose: the library refuses to build without it.
fn main() {
    println!("cargo::rustc-check-cfg=cfg(tokio_unstable)");
    println!("cargo::rerun-if-changed=build.rs");
}
