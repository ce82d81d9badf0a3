//! The simulator with the bugs in it, in a target directory of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Builds it, and says where it is.
///
/// # Errors
/// There is no cargo, or it fails; what it says goes to standard error.
pub(super) fn build() -> io::Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = workspace.join("target/mutants");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // The profile is the tests' on purpose: openraft checks its followers' logs in debug assertions only. So is the
    // selection, a test included: crates of the registry then have the features that they have for the tests, and
    // whoever has built those can copy them here instead of building them again (as `.ci/run` does).
    let status = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--workspace",
            "--bin",
            "sim",
            "--test",
            "planted",
            "--features",
            "sim/planted",
            "--target-dir",
        ])
        .arg(&target)
        .current_dir(&workspace)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(io::Error::other(format!(
            "the simulator with planted bugs can't be built: {status}"
        )));
    }
    Ok(target.join("debug/sim"))
}
