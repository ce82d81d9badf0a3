//! `gridseal member`: who belongs to the cluster.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::http::{Ask, Client};
use super::{Failure, call, table};
use crate::identity::parse_key_x;

/// Add, promote, remove and list members.
///
/// A node joins in four steps: `gridseal keys new --id 4` on its machine; `gridseal member add` with the key it
/// printed; start it with `gridseal node --id 4` (its directory holds a copy of genesis.json, its cluster file a
/// line for it with genesis = false); once it has caught up, `gridseal member promote`.
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
    /// Who votes, who listens.
    List,
}

impl Member {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = Client::new(
            call::addresses(&self.node, self.cluster.as_deref())?,
            Duration::from_secs(30),
        );
        let (ask, done) = match self.action {
            Action::List => return list(&client, self.json).await,
            Action::Add { id, peer, key } => {
                parse_key_x(&key).map_err(|error| Failure::Usage(format!("--key: {error}")))?;
                let body = json!({"id": id, "peer": peer, "key": key});
                (
                    write("cluster.addMember", &body)?,
                    format!("node {id} listens; start it, then promote it"),
                )
            }
            Action::Promote { id } => (
                write("cluster.promoteMember", &json!({"id": id}))?,
                format!("node {id} votes"),
            ),
            Action::Remove { id } => (
                write("cluster.removeMember", &json!({"id": id}))?,
                format!("node {id} is no member any more"),
            ),
        };
        let answer = client.call(0, &ask).await?.ok(&ask.action)?;
        if self.json {
            return call::print(&answer, false);
        }
        println!("{done}");
        Ok(())
    }
}

fn write(action: &str, body: &Value) -> Result<Ask, Failure> {
    Ok(Ask::once(action, body, call::random_key()?))
}

async fn list(client: &Client, json: bool) -> Result<(), Failure> {
    let status = client
        .call(0, &Ask::new("cluster.status", &json!({})))
        .await?
        .ok("cluster.status")?;
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
    println!("{}", table::render(&["node", "role", ""], &[true], &rows));
    Ok(())
}
