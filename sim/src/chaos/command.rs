//! The system's own tools.

use std::ffi::OsStr;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// Tools that take longer hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a command to its end and returns what it printed.
///
/// # Errors
/// It can't be started, hangs, or fails; with what it complained of.
pub(super) async fn run<S: AsRef<OsStr>>(words: &[S]) -> io::Result<String> {
    let [program, arguments @ ..] = words else {
        return Err(io::Error::other("no command"));
    };
    let shown = || {
        words
            .iter()
            .map(|word| word.as_ref().to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, child)
        .await
        .map_err(|_| io::Error::other(format!("{}: no end after {} s", shown(), PATIENCE.as_secs())))?
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", shown())))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "{}: {}: {}",
        shown(),
        output.status,
        complaint.trim()
    )))
}

/// Whether this process is root, which some faults need.
///
/// # Errors
/// It is not.
pub(super) fn need_root() -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "it needs root"))
}
