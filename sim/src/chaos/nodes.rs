//! The nodes' processes.
//!
//! None outlives the run: dropping [`Nodes`] kills and awaits them, and should this process be killed itself, each
//! node's standard input ends, on which it stops.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::layout::Layout;
use super::netns::Namespaces;

/// All nodes.
#[derive(Debug)]
pub(super) struct Nodes {
    layout: Layout,
    namespaces: Option<Namespaces>,
    running: BTreeMap<u64, Option<Child>>,
}

impl Nodes {
    pub(super) fn new(layout: Layout, namespaces: Option<Namespaces>, ids: &[u64]) -> Self {
        Nodes {
            layout,
            namespaces,
            running: ids.iter().map(|id| (*id, None)).collect(),
        }
    }

    pub(super) fn ids(&self) -> Vec<u64> {
        self.running.keys().copied().collect()
    }

    /// Starts a node, if it does not run.
    ///
    /// # Errors
    /// The process can't be started.
    pub(super) fn start(&mut self, id: u64) -> io::Result<()> {
        if self.pid(id).is_some() {
            return Ok(());
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.layout.log(id))?;
        let mut command = match &self.namespaces {
            // It becomes the node: the process keeps its id. (`ip netns exec` would give it copies of all mounts as well,
            // which keep the disks of others in use.)
            Some(namespaces) => {
                let mut command = Command::new("nsenter");
                command.arg(namespaces.option(id)).arg(&self.layout.gridseal);
                command
            }
            None => Command::new(&self.layout.gridseal),
        };
        let child = command
            .args(["node", "--id", &id.to_string(), "--until-stdin-ends", "--cluster"])
            .arg(self.layout.cluster_file())
            .arg("--data")
            .arg(&self.layout.data)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for this process, which then stops the nodes.
            .process_group(0)
            .spawn()?;
        self.running.insert(id, Some(child));
        Ok(())
    }

    /// The process of a node, while there is one.
    pub(super) fn pid(&self, id: u64) -> Option<Pid> {
        self.running.get(&id)?.as_ref().map(Pid::from_child)
    }

    /// Sends a signal to a node, if it runs.
    pub(super) fn signal(&self, id: u64, signal: Signal) {
        if let Some(pid) = self.pid(id) {
            // It has not been waited for, so the process's id is still its own; an error means that it is dead.
            let _ = kill_process(pid, signal);
        }
    }

    /// Whether all threads of a node have come to a stop.
    pub(super) fn has_stopped(&self, id: u64) -> bool {
        let Some(pid) = self.pid(id) else { return true };
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())) else {
            return true;
        };
        threads.flatten().all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // "pid (name) state …"; a thread that has gone meanwhile reads empty.
            stat.rsplit_once(')')
                .is_none_or(|(_, rest)| rest.trim_start().starts_with(['T', 't', 'Z', 'X']))
        })
    }

    /// kill -9, awaited.
    pub(super) fn kill(&mut self, id: u64) {
        if let Some(mut child) = self.running.get_mut(&id).and_then(Option::take) {
            // It may have died on its own.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// How a node ended, if it did since it was last asked.
    pub(super) fn ended(&mut self, id: u64) -> Option<ExitStatus> {
        let child = self.running.get_mut(&id)?;
        let status = child.as_mut()?.try_wait().ok().flatten()?;
        *child = None;
        Some(status)
    }

    /// The last line a node logged.
    pub(super) fn last_words(&self, id: u64) -> String {
        let bytes = fs::read(self.layout.log(id)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        last.unwrap_or("it said nothing").chars().take(400).collect()
    }

    /// Lines of all logs that tell of a panic.
    pub(super) fn panics(&self) -> Vec<String> {
        let mut found = Vec::new();
        for id in self.running.keys() {
            let bytes = fs::read(self.layout.log(*id)).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            for (at, line) in lines
                .iter()
                .enumerate()
                .filter(|(_, line)| line.contains("panicked at"))
            {
                let why = lines.get(at + 1).copied().unwrap_or_default();
                found.push(format!("n{id}: {line} {why}"));
            }
        }
        found
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for id in self.ids() {
            self.kill(id);
        }
    }
}
