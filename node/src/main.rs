//! The `gridseal` command; see [`gridseal::cli`].

#[cfg(feature = "planted")]
compile_error!("planted bugs are for the simulator alone; the product is never built with them");

use std::process::ExitCode;

fn main() -> ExitCode {
    gridseal::cli::main()
}
