//! The `gridseal` command.
fn main() {}
