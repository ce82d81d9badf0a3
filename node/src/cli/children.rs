//! The node processes that `up` starts, watches and stops.
//!
//! What always holds: no child outlives its parent, not even one killed with -9: each child's standard input is
//! a pipe from the parent, and a node that reads its end shuts down by itself. A child that dies is reported
//! and started again, unless it keeps dying. Each child is in a process group of its own, so that Ctrl-C reaches
//! the parent only, which then lets them go in good order.
//!
//! A child's standard error goes to `DATA/node-<id>/log`, begun anew at each `up`; the one before is kept as
//! `log.old`, so logs never take more than two runs' room.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::Failure;

/// How long a node may take to stop by itself before it is killed.
const GRACE: Duration = Duration::from_secs(15);
/// A node that lives shorter than this died of its start.
const START: Duration = Duration::from_secs(10);
/// So many deaths at the start in a row, and it is left alone.
const MOST_STARTS: u32 = 5;

/// How to start one node.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    /// The node's id.
    pub(super) id: u64,
    /// Arguments of the binary.
    pub(super) arguments: Vec<std::ffi::OsString>,
    /// Where its standard error goes.
    pub(super) log: PathBuf,
}

/// All nodes of this machine.
#[derive(Debug)]
pub(super) struct Children {
    watchers: JoinSet<Result<(), Failure>>,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Children {
    /// Starts them all.
    pub(super) fn start(recipes: Vec<Recipe>) -> Result<Self, Failure> {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut watchers = JoinSet::new();
        for recipe in recipes {
            keep_old(&recipe.log).map_err(|error| broken(&recipe, &error))?;
            let running = spawn(&recipe).map_err(|error| broken(&recipe, &error))?;
            watchers.spawn(watch(recipe, running, stopped.clone()));
        }
        Ok(Self { watchers, stop })
    }

    /// Completes when a node can't be kept running, with the reason. Otherwise never.
    pub(super) async fn failed(&mut self) -> Failure {
        match self.watchers.join_next().await {
            Some(Ok(Err(failure))) => failure,
            Some(Ok(Ok(()))) => Failure::Broken("a node stopped for no reason".to_owned()),
            Some(Err(error)) => Failure::Broken(format!("watching a node: {error}")),
            None => std::future::pending().await,
        }
    }

    /// Lets every node hand over, write down and end; kills those that don't within 15 s.
    pub(super) async fn stop(mut self) {
        // No receiver means that every watcher has ended.
        let _ = self.stop.send(true);
        while self.watchers.join_next().await.is_some() {}
    }
}

fn broken(recipe: &Recipe, error: &io::Error) -> Failure {
    Failure::Broken(format!("node {} can't be started: {error}", recipe.id))
}

/// Puts the last run's log aside.
pub(super) fn keep_old(log: &Path) -> io::Result<()> {
    if let Some(directory) = log.parent() {
        fs::create_dir_all(directory)?;
    }
    match fs::rename(log, log.with_extension("old")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A child, and the end of the pipe that keeps it alive. Apart, because waiting for a child closes its own.
pub(super) struct Running {
    pub(super) child: Child,
    pipe: Option<ChildStdin>,
}

/// Starts one node's process.
pub(super) fn spawn(recipe: &Recipe) -> io::Result<Running> {
    let log: File = OpenOptions::new().create(true).append(true).open(&recipe.log)?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(&recipe.arguments)
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let pipe = child.stdin.take();
    Ok(Running { child, pipe })
}

async fn watch(
    recipe: Recipe,
    mut running: Running,
    mut stop: tokio::sync::watch::Receiver<bool>,
) -> Result<(), Failure> {
    let mut deaths = 0;
    loop {
        let born = Instant::now();
        let ended = tokio::select! {
            () = asked(&mut stop) => {
                end(&recipe, running).await;
                return Ok(());
            }
            ended = running.child.wait() => ended.map_err(|error| broken(&recipe, &error))?,
        };
        deaths = if born.elapsed() < START { deaths + 1 } else { 1 };
        let said = last_line(&recipe.log);
        if deaths >= MOST_STARTS {
            let message = format!(
                "node {} keeps stopping ({}): {said}; see {}",
                recipe.id,
                how(ended),
                recipe.log.display()
            );
            return Err(Failure::Broken(message));
        }
        eprintln!(
            "node {} stopped ({}): {said}; starting it again",
            recipe.id,
            how(ended)
        );
        sleep(Duration::from_millis(200) * deaths).await;
        running = spawn(&recipe).map_err(|error| broken(&recipe, &error))?;
    }
}

async fn asked(stop: &mut tokio::sync::watch::Receiver<bool>) {
    // An error means that the sender is gone, and `up` with it: as good as asked.
    let _ = stop.wait_for(|&stop| stop).await;
}

async fn end(recipe: &Recipe, running: Running) {
    let Running { mut child, pipe } = running;
    drop(pipe);
    if let Some(pid) = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw)
    {
        // It may have ended on its own meanwhile.
        let _ = kill_process(pid, Signal::TERM);
    }
    match timeout(GRACE, child.wait()).await {
        Ok(Ok(ended)) if ended.success() => {}
        Ok(Ok(ended)) => eprintln!(
            "node {} ended badly ({}); see {}",
            recipe.id,
            how(ended),
            recipe.log.display()
        ),
        Ok(Err(error)) => eprintln!("node {}: {error}", recipe.id),
        Err(_) => {
            eprintln!(
                "node {} did not stop within {} s and is killed",
                recipe.id,
                GRACE.as_secs()
            );
            // An error means that it is gone already.
            let _ = child.kill().await;
        }
    }
}

fn how(ended: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (ended.code(), ended.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no code".to_owned(),
    }
}

/// What the node said last, for the message about its end.
fn last_line(log: &Path) -> String {
    let text = fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let line = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it said nothing");
    line.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_before_is_kept_once_and_the_last_words_are_found() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = dir.path().join("log");
        for run in ["first", "second", "third"] {
            keep_old(&log).expect("no old log is fine");
            fs::write(&log, format!("begin\n{run}\n\n")).expect("write");
        }
        assert_eq!(last_line(&log), "third");
        assert_eq!(last_line(&dir.path().join("log.old")), "second");
        assert_eq!(last_line(&dir.path().join("none")), "it said nothing");
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 2);
    }
}
