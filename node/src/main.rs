//! The `gridseal` command; see [`gridseal::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    gridseal::cli::main()
}
