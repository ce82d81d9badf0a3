//! `gridseal member`: who belongs to the cluster.
//!
//! A change is an action in the log, signed here with the admin's key; whoever leads then takes Raft there. The
//! command returns when that is done.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use ed25519_dalek::Signer as _;
use ledger::Timestamp;
use ledger::canonical::Canonical as _;
use ledger::jws::base64url;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Failure, call, table};
use crate::client::{Ask, Client};
use crate::gateway::sign_envelope;
use crate::identity::{self, parse_key_x};
use crate::order::{self, Order, Task};
use crate::say;

/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks whether it is done.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a signed change stays valid.
const LIFETIME_MS: u64 = 60_000;

/// Add, promote, remove and list members.
///
/// A node joins in four steps: `gridseal keys new --id 4` on its machine; `gridseal member add` with the key it
/// printed; start it with `gridseal node --id 4` (its directory holds a copy of genesis.json, its cluster file a
/// line for it with genesis = false); once it has caught up, `gridseal member promote`.
///
/// A node's key is replaced in three: `gridseal keys renew --id 4` on its machine; `gridseal member key` with the key
/// it printed; restart the node.
#[derive(Debug, Args)]
pub(super) struct Member {
    #[command(subcommand)]
    action: Action,
    /// Nodes to ask, as host:port or http://host:port; by default those of the cluster file.
    #[arg(long, global = true, value_name = "URL")]
    node: Vec<String>,
    /// The cluster file that names the nodes.
    #[arg(long, global = true, value_name = "FILE")]
    cluster: Option<PathBuf>,
    /// The directory with genesis.json and admin.key, which signs the change.
    #[arg(long, global = true, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add a node that listens but has no vote yet, and register the key it signs with.
    Add {
        /// Its id, never used before.
        #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        /// host:port where the other nodes reach it.
        #[arg(long, value_name = "HOST:PORT")]
        peer: String,
        /// Its public key, as `gridseal keys new` prints it (x).
        #[arg(long, value_name = "X")]
        key: String,
    },
    /// Give a node that has caught up a vote.
    Promote {
        /// Its id.
        #[arg(long, value_name = "ID")]
        id: u64,
    },
    /// Remove a node. Its key signs nothing from then on; its id must not be used again.
    Remove {
        /// Its id.
        #[arg(long, value_name = "ID")]
        id: u64,
    },
    /// Replace the key that a node signs with. The old one signs nothing from then on.
    Key {
        /// Its id.
        #[arg(long, value_name = "ID")]
        id: u64,
        /// Its new public key, as `gridseal keys renew` prints it (x).
        #[arg(long, value_name = "X")]
        key: String,
    },
    /// Have another voter lead.
    Lead {
        /// Its id.
        #[arg(long, value_name = "ID")]
        id: u64,
    },
    /// Have a node take a snapshot and drop the log that it covers.
    Snapshot {
        /// Its id.
        #[arg(long, value_name = "ID")]
        id: u64,
    },
    /// Who votes, who listens.
    List,
}

impl Member {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = Client::new(call::addresses(&self.node, self.cluster.as_deref())?, PATIENCE);
        let (id, action, done) = match self.action {
            Action::List => return list(&client, self.json).await,
            Action::Lead { id } => return lead(&client, &self.data, id, self.json).await,
            Action::Snapshot { id } => {
                let answer = order(&client, &self.data, id, Task::Snapshot {}).await?;
                if self.json {
                    return call::print(&answer, false);
                }
                say!("node {id} has a snapshot up to entry {}", answer["snapshot"]);
                return Ok(());
            }
            Action::Key { id, key } => {
                let key = parse_key_x(&key).map_err(|error| Failure::Usage(format!("--key: {error}")))?;
                let peer = None;
                let action = ledger::Action::RegisterNode { node: id, key, peer };
                (id, action, "has a new key; restart it")
            }
            Action::Add { id, peer, key } => {
                let key = parse_key_x(&key).map_err(|error| Failure::Usage(format!("--key: {error}")))?;
                let action = ledger::Action::RegisterNode {
                    node: id,
                    key,
                    peer: Some(peer),
                };
                (id, action, "listens; start it, then promote it")
            }
            Action::Promote { id } => (id, ledger::Action::PromoteNode { node: id }, "votes"),
            Action::Remove { id } => (
                id,
                ledger::Action::RevokeNode { node: id },
                "is no member any more",
            ),
        };
        let reached = match action {
            ledger::Action::RegisterNode { .. } => Place::Member,
            ledger::Action::PromoteNode { .. } => Place::Voter,
            _ => Place::Gone,
        };
        let answer = submit(&client, &self.data, action).await?;
        wait(&client, id, reached).await?;
        if self.json {
            return call::print(&answer, false);
        }
        say!("node {id} {done}");
        Ok(())
    }
}

/// Where a node shall stand in Raft's membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Member,
    Voter,
    Gone,
}

impl Place {
    fn reached(self, status: &Value, id: u64) -> bool {
        let among = |list: &str| {
            status[list]
                .as_array()
                .is_some_and(|list| list.contains(&json!(id)))
        };
        match self {
            Self::Member => among("voters") || among("learners"),
            Self::Voter => among("voters"),
            Self::Gone => !among("voters") && !among("learners"),
        }
    }
}

/// Signs the action with the admin's key and orders it. A retry on another node is the same envelope.
async fn submit(client: &Client, data: &Path, action: ledger::Action) -> Result<Value, Failure> {
    let genesis = identity::load_genesis(data)?;
    let key = identity::read_key(&identity::admin_key_path(data))?;
    let answer = client.call(0, &Ask::new("cluster.status", &json!({}))).await?;
    let now = answer
        .now
        .ok_or_else(|| Failure::Broken(format!("{} doesn't say its ledger's time", answer.node)))?;
    let status = answer.ok("cluster.status")?;
    if status["cluster"] != json!(genesis.cluster().to_string()) {
        let (here, there) = (genesis.cluster(), &status["cluster"]);
        return Err(Failure::Usage(format!(
            "{} is of cluster {here}, but the nodes are of {there}",
            data.display()
        )));
    }
    let mut nonce = [0; 16];
    identity::os_entropy(&mut nonce).map_err(|error| Failure::Broken(error.to_string()))?;
    let not_after = Timestamp::ZERO.plus(now.saturating_add(LIFETIME_MS));
    let envelope = sign_envelope(&key, genesis.cluster(), nonce, not_after, action);
    let body = json!({"envelope": base64url(&envelope.to_bytes())});
    let answer = client.call(0, &Ask::new("envelope.submit", &body)).await?;
    Ok(answer.ok("envelope.submit")?)
}

/// Has `id` lead: an order to whoever leads now.
async fn lead(client: &Client, data: &Path, id: u64, json: bool) -> Result<(), Failure> {
    let leader = newest(client).await?["leader"].as_u64();
    let leader = leader.ok_or_else(|| Failure::Unavailable("no node leads".to_owned()))?;
    let answer = match leader == id {
        true => json!({ "leader": id }),
        false => order(client, data, leader, Task::Transfer { to: id }).await?,
    };
    if json {
        return call::print(&answer, false);
    }
    say!("node {} leads", answer["leader"]);
    Ok(())
}

/// Signs an order and gives it to the node that it is for.
async fn order(client: &Client, data: &Path, id: u64, task: Task) -> Result<Value, Failure> {
    let genesis = identity::load_genesis(data)?;
    let key = identity::read_key(&identity::admin_key_path(data))?;
    let ask = Ask::new("cluster.status", &json!({}));
    for place in 0..client.len() {
        let Ok(answer) = client.ask(place, &ask).await? else {
            continue;
        };
        let Some(now) = answer.now.filter(|_| answer.body["node"] == json!(id)) else {
            continue;
        };
        let mut nonce = [0; 16];
        identity::os_entropy(&mut nonce).map_err(|error| Failure::Broken(error.to_string()))?;
        let order = Order {
            cluster: genesis.cluster(),
            node: id,
            order: task,
            not_after: Timestamp::ZERO.plus(now.saturating_add(order::LIFETIME_MS)),
            nonce: base64url(&nonce),
        };
        let sign = |message: &[u8]| ledger::Signature(key.sign(message).to_bytes());
        let token = order::issue(&order, &identity::public(&key), sign);
        let ask = Ask::new("cluster.order", &json!({ "order": token }));
        return match client.ask(place, &ask).await? {
            Ok(answer) => Ok(answer.ok("cluster.order")?),
            Err(why) => Err(Failure::Unavailable(format!("node {id}: {why}"))),
        };
    }
    Err(Failure::Unavailable(format!(
        "node {id} is not among those that answer"
    )))
}

/// Waits until the leader has taken Raft where the ledger wants it.
async fn wait(client: &Client, id: u64, place: Place) -> Result<(), Failure> {
    let started = Instant::now();
    loop {
        if place.reached(&newest(client).await?, id) {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            let message =
                "it is ordered, but not done yet: a node gets its vote when it runs and has caught up";
            return Err(Failure::Unavailable(format!("node {id}: {message}")));
        }
        sleep(PAUSE).await;
    }
}

/// The newest status of all that answer: each node says what it knows, and one that was removed learns no more.
async fn newest(client: &Client) -> Result<Value, Failure> {
    let ask = Ask::new("cluster.status", &json!({}));
    let mut newest = None;
    for node in 0..client.len() {
        if let Ok(answer) = client.ask(node, &ask).await?
            && answer.is_ok()
        {
            let status = answer.body;
            let leads = status["leader"] == status["node"];
            let rank = (status["term"].as_u64(), leads, status["applied"].as_u64());
            if newest.as_ref().is_none_or(|(best, _)| rank > *best) {
                newest = Some((rank, status));
            }
        }
    }
    newest
        .map(|(_, status)| status)
        .ok_or_else(|| Failure::Unavailable("no node answers".to_owned()))
}

async fn list(client: &Client, json: bool) -> Result<(), Failure> {
    let status = newest(client).await?;
    if json {
        let members =
            json!({"leader": status["leader"], "voters": status["voters"], "learners": status["learners"]});
        return call::print(&members, false);
    }
    let mut rows = Vec::new();
    for (role, list) in [("voter", &status["voters"]), ("learner", &status["learners"])] {
        for id in list.as_array().into_iter().flatten() {
            let leads = if *id == status["leader"] { "leads" } else { "" };
            rows.push(vec![id.to_string(), role.to_owned(), leads.to_owned()]);
        }
    }
    say!("{}", table::render(&["node", "role", ""], &[true], &rows));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_from_the_status() {
        let status = json!({"voters": [1, 2], "learners": [3]});
        let places = [Place::Member, Place::Voter, Place::Gone];
        let reached = |id| places.map(|place| place.reached(&status, id));
        assert_eq!(reached(1), [true, true, false]);
        assert_eq!(reached(3), [true, false, false]);
        assert_eq!(reached(4), [false, false, true]);
    }
}
