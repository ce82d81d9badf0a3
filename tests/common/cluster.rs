//! A cluster of real node processes, each of which can be killed, paused, cut off and started again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::http::{Answer, Request};
use super::proxy::Proxy;
use super::{eventually, gridseal, ports};

/// How long anything may take that should happen soon. Generous: the machine may be busy with other tests.
pub const SOON: Duration = Duration::from_secs(60);

/// What kind of cluster to start.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many founders.
    pub nodes: u64,
    /// Whether peers reach each other through proxies.
    pub proxied: bool,
    /// Further lines of the cluster file, after the nodes (tables only).
    pub options: String,
    /// Further environment of single nodes.
    pub env: BTreeMap<u64, Vec<(String, String)>>,
}

impl Plan {
    pub fn nodes(nodes: u64) -> Self {
        Self {
            nodes,
            proxied: false,
            options: String::new(),
            env: BTreeMap::new(),
        }
    }

    pub fn proxied(self) -> Self {
        Self {
            proxied: true,
            ..self
        }
    }

    pub fn options(self, options: &str) -> Self {
        Self {
            options: options.to_owned(),
            ..self
        }
    }

    pub fn env(mut self, node: u64, key: &str, value: &str) -> Self {
        self.env
            .entry(node)
            .or_default()
            .push((key.to_owned(), value.to_owned()));
        self
    }

    /// Starts the cluster and waits until every node is ready.
    pub fn start(self) -> Cluster {
        let cluster = self.prepare();
        let mut cluster = cluster;
        for id in cluster.ids() {
            cluster.spawn(id);
        }
        for id in cluster.ids() {
            cluster.wait_ready(id);
        }
        cluster
    }

    /// Makes files and keys, starts nothing.
    pub fn prepare(self) -> Cluster {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut cluster = Cluster {
            dir,
            plan: self.clone(),
            nodes: BTreeMap::new(),
            proxy: Proxy::default(),
            joined: Vec::new(),
        };
        for id in 1..=self.nodes {
            cluster.place(id);
        }
        cluster.write_file();
        let (code, _, error) = gridseal(&[
            "keys",
            "init",
            "--cluster",
            &cluster.file(),
            "--data",
            &cluster.data(),
        ]);
        assert_eq!(code, 0, "keys init: {error}");
        cluster
    }
}

/// Where one node is.
#[derive(Debug)]
struct Place {
    api: u16,
    peer: u16,
    bind_peer: u16,
    child: Option<Child>,
}

/// A running cluster. Dropping it kills every node.
#[derive(Debug)]
pub struct Cluster {
    dir: tempfile::TempDir,
    plan: Plan,
    nodes: BTreeMap<u64, Place>,
    proxy: Proxy,
    joined: Vec<u64>,
}

impl Cluster {
    fn place(&mut self, id: u64) {
        let bind_peer = ports::free();
        let peer = if self.plan.proxied {
            ports::free()
        } else {
            bind_peer
        };
        if self.plan.proxied {
            self.proxy.serve(id, peer, bind_peer);
        }
        self.nodes.insert(
            id,
            Place {
                api: ports::free(),
                peer,
                bind_peer,
                child: None,
            },
        );
    }

    fn write_file(&self) {
        let mut text = "epoch_ms = 900000\ndevelopment = true\n".to_owned();
        for (id, node) in &self.nodes {
            let genesis = !self.joined.contains(id);
            write!(
                text,
                "[[node]]\nid = {id}\napi = \"127.0.0.1:{}\"\npeer = \"127.0.0.1:{}\"\nbind_peer = \"127.0.0.1:{}\"\ngenesis = {genesis}\n",
                node.api, node.peer, node.bind_peer
            )
            .expect("writing to a string");
        }
        text.push_str(&self.plan.options);
        std::fs::write(self.dir.path().join("cluster.toml"), text).expect("the cluster file");
    }

    /// Makes room for a node that joins later, and returns its key's `x`.
    pub fn join(&mut self, id: u64) -> String {
        self.joined.push(id);
        self.place(id);
        self.write_file();
        let (code, out, error) = gridseal(&[
            "keys",
            "new",
            "--id",
            &id.to_string(),
            "--data",
            &self.data(),
            "--json",
        ]);
        assert_eq!(code, 0, "keys new: {error}");
        let jwk: Value = serde_json::from_str(&out).expect("a JWK");
        jwk["x"].as_str().expect("x").to_owned()
    }

    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// Path of the cluster file.
    pub fn file(&self) -> String {
        self.path("cluster.toml").display().to_string()
    }

    /// Path of the data directory.
    pub fn data(&self) -> String {
        self.path("data").display().to_string()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `host:port` of a node's API.
    pub fn api(&self, id: u64) -> String {
        format!("127.0.0.1:{}", self.nodes[&id].api)
    }

    /// `host:port` at which peers reach a node.
    pub fn peer(&self, id: u64) -> String {
        format!("127.0.0.1:{}", self.nodes[&id].peer)
    }

    /// What a node has logged so far.
    pub fn log(&self, id: u64) -> String {
        std::fs::read_to_string(self.path(&format!("node-{id}.log"))).unwrap_or_default()
    }

    // Processes.

    /// Starts a node's process.
    pub fn spawn(&mut self, id: u64) {
        let log = |name: &str| -> File {
            let path = self.dir.path().join(format!("node-{id}.{name}"));
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .expect("the log")
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_gridseal"));
        command
            .args([
                "node",
                "--id",
                &id.to_string(),
                "--cluster",
                &self.file(),
                "--data",
                &self.data(),
            ])
            .stdin(Stdio::null())
            .stdout(log("out"))
            .stderr(log("log"));
        for (key, value) in self.plan.env.get(&id).into_iter().flatten() {
            command.env(key, value);
        }
        let child = command.spawn().expect("the node starts");
        self.nodes.get_mut(&id).expect("a node").child = Some(child);
    }

    #[track_caller]
    pub fn wait_ready(&mut self, id: u64) {
        let request = Request::get(&self.api(id), "/readyz").within(Duration::from_secs(2));
        eventually(&format!("node {id} is ready"), SOON, || {
            let child = self
                .nodes
                .get_mut(&id)
                .expect("a node")
                .child
                .as_mut()
                .expect("it was started");
            if let Ok(Some(status)) = child.try_wait() {
                panic!(
                    "node {id} ended with {status}:\n{}",
                    tail(&self.dir.path().join(format!("node-{id}.log")))
                );
            }
            request.send().filter(Answer::is_ok)
        });
    }

    /// Starts a node again and waits until it is ready.
    #[track_caller]
    pub fn restart(&mut self, id: u64) {
        self.spawn(id);
        self.wait_ready(id);
    }

    /// kill -9.
    pub fn kill9(&mut self, id: u64) {
        if let Some(mut child) = self.nodes.get_mut(&id).expect("a node").child.take() {
            // It may have died on its own.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and how the node ended.
    #[track_caller]
    pub fn terminate(&mut self, id: u64) -> ExitStatus {
        self.signal(id, Signal::TERM);
        let mut child = self
            .nodes
            .get_mut(&id)
            .expect("a node")
            .child
            .take()
            .expect("it runs");
        eventually(&format!("node {id} ends"), SOON, || {
            child.try_wait().expect("a child")
        })
    }

    /// SIGSTOP.
    pub fn pause(&self, id: u64) {
        self.signal(id, Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self, id: u64) {
        self.signal(id, Signal::CONT);
    }

    fn signal(&self, id: u64, signal: Signal) {
        let child = self.nodes[&id].child.as_ref().expect("the node runs");
        let pid = Pid::from_child(child);
        kill_process(pid, signal).expect("the signal is sent");
    }

    /// Cuts these nodes off from all others.
    pub fn cut_off(&self, these: &[u64]) {
        assert!(self.plan.proxied, "only a proxied cluster can be cut");
        self.proxy.isolate(these, &self.ids());
    }

    pub fn heal(&self) {
        self.proxy.heal();
    }

    // Calls.

    /// One call to one node; `None` if it is silent.
    pub fn try_call(&self, id: u64, action: &str, body: &Value) -> Option<Answer> {
        Request::post(&self.api(id), action, body).send()
    }

    /// One call to one node, which answers, whatever it says.
    #[track_caller]
    pub fn call(&self, id: u64, action: &str, body: &Value) -> Answer {
        self.try_call(id, action, body)
            .unwrap_or_else(|| panic!("node {id} is silent on {action} {body}"))
    }

    /// One call to one node, which answers 200.
    #[track_caller]
    pub fn ok(&self, id: u64, action: &str, body: &Value) -> Value {
        let answer = self.call(id, action, body);
        assert!(
            answer.is_ok(),
            "{action} {body} on node {id}: {} {}",
            answer.status,
            answer.body
        );
        answer.body
    }

    /// A write that is tried on these nodes until one answers other than 429, 503 or 504, always with one key.
    #[track_caller]
    pub fn persist(&self, ids: &[u64], action: &str, body: &Value, key: &str) -> Answer {
        let mut turn = 0;
        eventually(&format!("{action} {body} is answered"), SOON, || {
            let id = ids[turn % ids.len()];
            turn += 1;
            let request = Request::post(&self.api(id), action, body)
                .key(key)
                .within(Duration::from_secs(5));
            request
                .send()
                .filter(|answer| !matches!(answer.status, 429 | 503 | 504))
        })
    }

    /// A node's own answer to `cluster.status`.
    pub fn status(&self, id: u64) -> Option<Value> {
        let request = Request::post(&self.api(id), "cluster.status", &json!({}))
            .local()
            .within(Duration::from_secs(2));
        request.send().filter(Answer::is_ok).map(|answer| answer.body)
    }

    /// The leader that these nodes agree on.
    #[track_caller]
    pub fn leader(&self, among: &[u64]) -> u64 {
        eventually(&format!("{among:?} agree on a leader among them"), SOON, || {
            let leaders: Vec<Option<u64>> = among
                .iter()
                .map(|&id| self.status(id).and_then(|status| status["leader"].as_u64()))
                .collect();
            let first = leaders.first().copied().flatten()?;
            (among.contains(&first) && leaders.iter().all(|leader| *leader == Some(first))).then_some(first)
        })
    }

    /// All blocks a node has.
    pub fn blocks(&self, id: u64) -> Option<Vec<Value>> {
        let mut chain: Vec<Value> = Vec::new();
        loop {
            let from = chain
                .last()
                .map_or(0, |block| block["index"].as_u64().expect("an index") + 1);
            let body = json!({"from": from, "limit": 1_000});
            let request = Request::post(&self.api(id), "cluster.blocks", &body)
                .local()
                .within(Duration::from_secs(5));
            let page = request.send().filter(Answer::is_ok)?.body;
            let page = page.as_array().expect("a list of blocks").clone();
            if page.is_empty() {
                return Some(chain);
            }
            chain.extend(page);
        }
    }

    /// Waits until these nodes have the same chain, at least `least` blocks long, and all of it certified.
    #[track_caller]
    pub fn certified(&self, ids: &[u64], least: usize) -> Vec<Value> {
        let digests = |chain: &[Value]| -> Vec<(Value, Value)> {
            chain
                .iter()
                .map(|block| (block["index"].clone(), block["digest"].clone()))
                .collect()
        };
        eventually(
            &format!("{ids:?} have one certified chain of {least} blocks or more"),
            SOON,
            || {
                let chains: Vec<Vec<Value>> = ids.iter().map(|&id| self.blocks(id)).collect::<Option<_>>()?;
                let longest = chains.iter().map(Vec::len).max()?;
                let done = |chain: &Vec<Value>| {
                    chain.len() == longest && chain.iter().all(|block| block["certified"] == true)
                };
                if longest < least || !chains.iter().all(done) {
                    return None;
                }
                let first = digests(&chains[0]);
                assert!(
                    chains.iter().all(|chain| digests(chain) == first),
                    "the chains differ: {chains:?}"
                );
                chains.into_iter().next()
            },
        )
    }

    /// Runs the binary on this cluster: `--cluster FILE` is appended.
    pub fn cli(&self, arguments: &[&str]) -> (i32, String, String) {
        let file = self.file();
        let mut all = arguments.to_vec();
        all.extend(["--cluster", &file]);
        gridseal(&all)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let ids = self.ids();
        for &id in &ids {
            self.kill9(id);
        }
        if std::thread::panicking() {
            for id in ids {
                eprintln!(
                    "--- node {id}, last lines\n{}",
                    tail(&self.dir.path().join(format!("node-{id}.log")))
                );
            }
        }
    }
}

/// The end of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
