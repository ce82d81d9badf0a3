//! `gridseal up` as a newcomer meets it: the demonstration, a second start, a death in the middle.

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::http::Request;
use common::{eventually, gridseal, ports};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// A directory with a cluster file of three nodes on free ports.
struct Place {
    dir: tempfile::TempDir,
    apis: Vec<u16>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let apis: Vec<u16> = (0..3).map(|_| ports::free()).collect();
        let mut text = "epoch_ms = 900000\ndevelopment = true\n".to_owned();
        for (position, api) in apis.iter().enumerate() {
            let (id, peer) = (position + 1, ports::free());
            text.push_str(&format!(
                "[[node]]\nid = {id}\napi = \"127.0.0.1:{api}\"\npeer = \"127.0.0.1:{peer}\"\n"
            ));
        }
        std::fs::write(dir.path().join("cluster.toml"), text).expect("the cluster file");
        Self { dir, apis }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let path = |name: &str| self.path(name).display().to_string();
        let mut all: Vec<String> = vec!["up".to_owned(), "--cluster".to_owned(), path("cluster.toml")];
        all.extend(["--data".to_owned(), path("data")]);
        all.extend(more.iter().map(|&argument| argument.to_owned()));
        all
    }

    /// Runs `up` to its end.
    fn up(&self, more: &[&str]) -> (i32, String, String) {
        let arguments = self.arguments(more);
        gridseal(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Starts `up` and leaves it running.
    fn start(&self, more: &[&str]) -> Running {
        let child = Command::new(env!("CARGO_BIN_EXE_gridseal"))
            .args(self.arguments(more))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        Running(child)
    }

    fn nobody_answers(&self) -> bool {
        self.apis
            .iter()
            .all(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_err())
    }
}

/// `up`, killed when the test ends; its nodes then end by themselves.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Reads what it prints until a line contains `text`.
    fn until(&mut self, text: &str) {
        let stdout = self.0.stdout.take().expect("a pipe");
        let mut lines = BufReader::new(stdout).lines();
        let found = lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.contains(text));
        assert!(found, "it never said {text:?}");
        // Whatever it prints further must not block it.
        std::thread::spawn(move || lines.for_each(drop));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("the signal is sent");
    }
}

/// The seven lines of figures; of the seals only their number, for signatures go on coming in.
fn figures(out: &str) -> Vec<&str> {
    let words = [
        "consumption ",
        "production ",
        "traded by PPA ",
        "from the grid ",
        "to the grid ",
        "used in the street ",
        "seals ",
    ];
    let lines = out
        .lines()
        .map(str::trim)
        .filter(|line| words.iter().any(|word| line.starts_with(word)));
    lines
        .map(|line| line.split(" blocks").next().unwrap_or(line))
        .collect()
}

fn proof_holds(place: &Path) {
    let path = |name: &str| place.join("data").join(name).display().to_string();
    let (code, words, error) = gridseal(&["verify", &path("proof.json"), "--genesis", &path("genesis.json")]);
    assert!(code == 0 && words.starts_with("VALID"), "{words}{error}");
}

#[test]
fn the_demonstration_runs_once_and_is_found_again() {
    let place = Place::new();
    let (code, first, error) = place.up(&["--once", "--demo-epochs", "100"]);
    assert_eq!(code, 0, "{first}{error}");
    for expected in [
        "production1 → seller1     500 Wh  metered",
        "bigbalancer → seller1     200 Wh  counter",
        "17 000 settlements booked and 100 epochs sealed",
        "All 3 nodes have the same chain",
        "VALID: version 0",
    ] {
        assert!(first.contains(expected), "{expected:?} is missing in\n{first}");
    }
    assert_eq!(figures(&first).len(), 7, "{first}");
    proof_holds(place.dir.path());
    assert!(place.nobody_answers(), "--once leaves nothing behind");

    let (code, second, error) = place.up(&["--once", "--demo-epochs", "100"]);
    assert_eq!(code, 0, "{second}{error}");
    assert!(second.contains("nothing was booked again"), "{second}");
    assert_eq!(figures(&second), figures(&first));
}

#[test]
fn killed_in_the_middle_it_takes_its_nodes_along_and_goes_on_later_without_booking_twice() {
    let place = Place::new();
    let mut running = place.start(&["--demo-epochs", "100"]);
    running.until("The community week");
    let api = format!("127.0.0.1:{}", place.apis[0]);
    eventually("something of the week is sealed", Duration::from_secs(60), || {
        let blocks = Request::post(&api, "cluster.blocks", &json!({})).send()?;
        blocks.body.as_array().filter(|blocks| blocks.len() > 5).map(drop)
    });
    running.signal(Signal::KILL);
    eventually("the nodes end with their parent", Duration::from_secs(30), || {
        place.nobody_answers().then_some(())
    });
    drop(running);

    // The figures are compared with the data meter by meter: a value booked twice would not fit.
    let (code, out, error) = place.up(&["--once", "--demo-epochs", "100"]);
    assert_eq!(code, 0, "{out}{error}");
    assert!(
        !out.contains("17 000 settlements booked"),
        "it began anew instead of going on:\n{out}"
    );
    assert_eq!(figures(&out).len(), 7, "{out}");
    proof_holds(place.dir.path());
}

#[test]
fn ctrl_c_stops_every_node_and_a_second_cluster_is_refused() {
    let place = Place::new();
    let mut running = place.start(&["--no-demo"]);
    running.until("Ctrl-C stops the nodes");

    // A second one from the same directory is refused, and so is one whose ports are taken.
    let (code, _, error) = place.up(&["--no-demo", "--once"]);
    assert!(
        code == 2 && error.contains("another gridseal is up"),
        "{code} {error}"
    );
    let elsewhere = place.path("elsewhere").display().to_string();
    let cluster = place.path("cluster.toml").display().to_string();
    let (code, _, error) = gridseal(&[
        "up",
        "--once",
        "--no-demo",
        "--cluster",
        &cluster,
        "--data",
        &elsewhere,
    ]);
    assert!(code == 2 && error.contains("API of node 1"), "{code} {error}");

    running.signal(Signal::INT);
    let status = eventually("it ends", Duration::from_secs(30), || {
        running.0.try_wait().expect("a child")
    });
    assert!(status.success(), "{status}");
    assert!(place.nobody_answers());
    let logs: Vec<String> = (1..=3)
        .map(|id| {
            std::fs::read_to_string(place.path("data").join(format!("node-{id}/log"))).expect("its log")
        })
        .collect();
    assert!(logs.iter().all(|log| log.contains("started")), "{logs:?}");
}
