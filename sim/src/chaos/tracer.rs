//! Syncs that fail or take long, by strace: it stops each system call of a process that syncs, and lets it fail or
//! sleep.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::command;
use super::layout::Layout;

/// strace, attached to a node. Lets go when it is dropped.
#[derive(Debug)]
pub(super) struct Tracer {
    strace: Child,
    record: PathBuf,
}

/// Whether it can be done here.
///
/// # Errors
/// There is no strace, or it may not trace.
pub(super) async fn possible() -> io::Result<()> {
    let inject = "inject=fsync:error=EIO:when=1";
    command::run(&[
        "strace",
        "-f",
        "-o",
        "/dev/null",
        "-e",
        "trace=fsync",
        "-e",
        inject,
        "true",
    ])
    .await
    .map(drop)
}

impl Tracer {
    /// The first sync of each thread fails from here on.
    ///
    /// # Errors
    /// strace does not start.
    pub(super) fn fail(layout: &Layout, id: u64, pid: Pid) -> io::Result<Self> {
        Self::attach(layout, id, pid, "error=EIO:when=1")
    }

    /// Each sync takes so many milliseconds longer.
    ///
    /// # Errors
    /// strace does not start.
    pub(super) fn slow(layout: &Layout, id: u64, pid: Pid, ms: u64) -> io::Result<Self> {
        Self::attach(
            layout,
            id,
            pid,
            &format!("delay_exit={}", ms.saturating_mul(1_000)),
        )
    }

    fn attach(layout: &Layout, id: u64, pid: Pid, how: &str) -> io::Result<Self> {
        let record = layout.data.join(format!("node-{id}.strace"));
        let strace = Command::new("strace")
            .args([
                "-f",
                "-q",
                "-p",
                &pid.as_raw_nonzero().to_string(),
                "-e",
                "trace=fsync,fdatasync",
            ])
            .args(["-e", &format!("inject=fsync,fdatasync:{how}"), "-o"])
            .arg(&record)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Tracer { strace, record })
    }

    /// Lets go; whether any sync failed.
    pub(super) fn finish(mut self) -> bool {
        // It writes its record down at its end.
        self.let_go();
        fs::read_to_string(&self.record)
            .is_ok_and(|record| record.contains("(INJECTED)") && record.contains("EIO"))
    }

    fn let_go(&mut self) {
        // On SIGTERM it lets go in good order. An error means that it is gone, with the process it traced.
        if let Ok(None) = self.strace.try_wait() {
            let _ = kill_process(Pid::from_child(&self.strace), Signal::TERM);
            let _ = self.strace.wait();
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.let_go();
        let _ = fs::remove_file(&self.record);
    }
}
