//! On what it was measured.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::super::Failure;

/// Linux's number for a file system in memory.
const TMPFS: u64 = 0x0102_1994;

/// The machine and its state at the start.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    cpu: String,
    cores: usize,
    memory_bytes: u64,
    kernel: String,
    disk: String,
    /// Runnable processes, on average over the last minute: more than a few, and others were at work.
    load: f64,
}

impl Machine {
    /// Looks around; `dir` is where the nodes will write.
    ///
    /// # Errors
    /// `Usage` if the directory is in memory: syncs would cost nothing there.
    pub(super) fn look(dir: &Path) -> Result<Self, Failure> {
        let statfs =
            rustix::fs::statfs(dir).map_err(|error| Failure::Usage(format!("{}: {error}", dir.display())))?;
        if u64::try_from(statfs.f_type).is_ok_and(|kind| kind == TMPFS) {
            return Err(Failure::Usage(format!(
                "{} is in memory, where nothing is durable: choose a directory on a disk with --dir",
                dir.display()
            )));
        }
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        Ok(Self {
            cpu: cpuinfo
                .lines()
                .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
                .map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: super::process::number_after(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0)
                * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            disk: mount(&read("/proc/self/mounts"), dir),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(0.0),
        })
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "cores": self.cores,
            "memory_bytes": self.memory_bytes,
            "kernel": self.kernel,
            "disk": self.disk,
            "load_1m": self.load,
            "version": env!("CARGO_PKG_VERSION"),
            "optimised": !cfg!(debug_assertions),
        })
    }

    /// In words, for people.
    pub(super) fn line(&self) -> String {
        format!(
            "{} × {}, {} GiB, Linux {}, {}; load {:.1} at the start{}",
            self.cores,
            self.cpu,
            self.memory_bytes >> 30,
            self.kernel,
            self.disk,
            self.load,
            if cfg!(debug_assertions) {
                "; NOT A RELEASE BUILD"
            } else {
                ""
            }
        )
    }
}

/// Device and file system under a directory: the longest mount point that it lies below.
fn mount(mounts: &str, dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (device, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
            dir.starts_with(point).then_some((point.len(), device, kind))
        })
        .max_by_key(|&(length, ..)| length)
        .map_or_else(
            || "unknown file system".to_owned(),
            |(_, device, kind)| format!("{kind} on {device}"),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\nproc /proc proc rw 0 0\n/dev/b /proc/self xfs rw 0 0\n";
        assert_eq!(mount(mounts, Path::new("/")), "ext4 on /dev/a");
        assert_eq!(mount(mounts, Path::new("/nowhere")), "ext4 on /dev/a");
        assert_eq!(mount("", Path::new("/")), "unknown file system");
    }
}
