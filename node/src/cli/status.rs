//! `gridseal status`: every node at a glance.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::{Failure, call, table};
use crate::client::{Ask, Client};
use crate::say;

/// Show what each node says of itself: who leads, how far it is, what is certified, alarms.
///
/// Exit codes: 0 every node answered without an alarm, 1 an alarm, 3 a node did not answer.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Nodes to ask, as host:port or http://host:port; by default those of the cluster file.
    #[arg(long, value_name = "URL")]
    node: Vec<String>,
    /// The cluster file that names the nodes.
    #[arg(long, value_name = "FILE")]
    cluster: Option<PathBuf>,
    /// Print JSON: a list with each node's own answer, its newest block and how many of its blocks are certified.
    #[arg(long)]
    json: bool,
}

/// What one node answered.
struct Report {
    address: String,
    status: Result<Value, String>,
    newest: Option<Value>,
}

impl Status {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let nodes = call::addresses(&self.node, self.cluster.as_deref())?;
        let client = Client::new(nodes, Duration::from_secs(2));
        let mut reports = Vec::new();
        for node in 0..client.len() {
            reports.push(report(&client, node).await?);
        }
        if self.json {
            let list: Vec<Value> = reports.iter().map(Report::to_json).collect();
            call::print(&Value::Array(list), false)?;
        } else {
            let head = [
                "node",
                "api",
                "state",
                "leader",
                "term",
                "applied",
                "committed",
                "blocks to",
                "signatures",
                "alarms",
            ];
            let right = [true, false, false, true, true, true, true, true, true, false];
            let rows: Vec<_> = reports.iter().map(Report::row).collect();
            say!("{}", table::render(&head, &right, &rows));
        }
        verdict(&reports)
    }
}

fn verdict(reports: &[Report]) -> Result<(), Failure> {
    for report in reports {
        if let Ok(status) = &report.status
            && status["alarms"]
                .as_array()
                .is_some_and(|alarms| !alarms.is_empty())
        {
            return Err(Failure::Refused(format!(
                "{} raised an alarm: {}",
                report.address, status["alarms"]
            )));
        }
    }
    match reports.iter().find_map(|report| report.status.as_ref().err()) {
        Some(silence) => Err(Failure::Unavailable(silence.clone())),
        None => Ok(()),
    }
}

async fn report(client: &Client, node: usize) -> Result<Report, Failure> {
    let status = read(client, node, "cluster.status", &json!({})).await?;
    let newest = match status.as_ref().ok().and_then(|status| status["applied"].as_u64()) {
        // The newest block is found from a little before the end; the list begins at the first block from there.
        Some(applied) => {
            let from = applied.saturating_sub(64);
            let blocks = read(
                client,
                node,
                "cluster.blocks",
                &json!({"from": from, "limit": 128}),
            )
            .await?;
            blocks
                .ok()
                .and_then(|blocks| blocks.as_array().and_then(|list| list.last().cloned()))
        }
        None => None,
    };
    Ok(Report {
        address: client.address(node).to_owned(),
        status,
        newest,
    })
}

/// A node's own answer, or why there is none, in words.
async fn read(
    client: &Client,
    node: usize,
    action: &str,
    body: &Value,
) -> Result<Result<Value, String>, Failure> {
    Ok(match client.ask(node, &Ask::new(action, body).local()).await? {
        Ok(answer) if answer.is_ok() => Ok(answer.body),
        Ok(answer) => Err(format!("{}: {} {}", answer.node, answer.status, answer.code())),
        Err(silence) => Err(silence),
    })
}

impl Report {
    fn to_json(&self) -> Value {
        match &self.status {
            Ok(status) => json!({"api": self.address, "status": status, "newest_block": self.newest}),
            Err(silence) => json!({"api": self.address, "error": silence}),
        }
    }

    fn row(&self) -> Vec<String> {
        let Ok(status) = &self.status else {
            let mut row = vec!["?".to_owned(), self.address.clone(), "no answer".to_owned()];
            row.resize(10, String::new());
            return row;
        };
        let figure = |value: &Value| match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let alarms = match status["alarms"].as_array() {
            Some(alarms) if !alarms.is_empty() => status["alarms"].to_string(),
            _ => "none".to_owned(),
        };
        let role = if !status["leader"].is_null() && status["leader"] == status["node"] {
            "leader"
        } else {
            "follower"
        };
        let newest = self.newest.as_ref().unwrap_or(&Value::Null);
        let certified = if newest["certified"] == true {
            ", certified"
        } else {
            ""
        };
        let signatures = match &newest["signatures"] {
            Value::Null => "-".to_owned(),
            count => format!("{count}{certified}"),
        };
        vec![
            figure(&status["node"]),
            self.address.clone(),
            role.to_owned(),
            figure(&status["leader"]),
            figure(&status["term"]),
            figure(&status["applied"]),
            figure(&status["committed"]),
            figure(&newest["index"]),
            signatures,
            alarms,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(alarms: Value) -> Vec<Report> {
        let status =
            json!({"node": 1, "leader": 1, "term": 2, "applied": 9, "committed": 9, "alarms": alarms});
        let newest = Some(json!({"index": 8, "signatures": 3, "certified": true}));
        vec![
            Report {
                address: "a:1".to_owned(),
                status: Ok(status),
                newest,
            },
            Report {
                address: "b:2".to_owned(),
                status: Err("b:2: refused".to_owned()),
                newest: None,
            },
        ]
    }

    #[test]
    fn rows_are_complete_and_an_alarm_outweighs_silence() {
        let calm = reports(json!([]));
        assert_eq!(
            calm[0].row(),
            [
                "1",
                "a:1",
                "leader",
                "1",
                "2",
                "9",
                "9",
                "8",
                "3, certified",
                "none"
            ]
        );
        assert_eq!(calm[1].row().len(), 10);
        assert_eq!(
            verdict(&calm),
            Err(Failure::Unavailable("b:2: refused".to_owned()))
        );
        assert!(matches!(
            verdict(&reports(json!(["diverged"]))),
            Err(Failure::Refused(_))
        ));
        assert_eq!(verdict(&calm[..1]), Ok(()));
    }
}
