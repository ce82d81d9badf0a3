//! Reads every node's block chain and compares them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::Failure;
use crate::client::{Ask, Client};

/// How long certificates and slower nodes are waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// A chain that all nodes have alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    /// How many blocks.
    pub(super) blocks: usize,
    /// How many seals they hold.
    pub(super) seals: u64,
    /// How many of the blocks are certified.
    pub(super) certified: usize,
    /// The fewest signatures under a certified block.
    pub(super) least: u64,
    /// The most.
    pub(super) most: u64,
}

/// Waits until every node has the newest block certified, then compares all blocks of all nodes.
///
/// # Errors
/// `Broken` if two nodes have different blocks; `Unavailable` if certificates don't come.
pub(super) async fn compare(client: &Client) -> Result<Chain, Failure> {
    let started = Instant::now();
    loop {
        let mut chains = Vec::new();
        for node in 0..client.len() {
            chains.push(read(client, node).await?);
        }
        let longest = chains.iter().map(Vec::len).max().unwrap_or(0);
        let complete = |chain: &Vec<Value>| chain.len() == longest && chain.last().is_none_or(certified);
        if chains.iter().all(complete) {
            return equal(client, &chains);
        }
        if started.elapsed() > PATIENCE {
            let far: Vec<_> = chains
                .iter()
                .map(|chain| chain.iter().filter(|block| certified(block)).count())
                .collect();
            return Err(Failure::Unavailable(format!(
                "of {longest} blocks only {far:?} are certified on the nodes after {} s; `gridseal status` shows more",
                PATIENCE.as_secs()
            )));
        }
        sleep(PAUSE).await;
    }
}

fn certified(block: &Value) -> bool {
    block["certified"] == true
}

/// All blocks that a node has, from its own memory.
async fn read(client: &Client, node: usize) -> Result<Vec<Value>, Failure> {
    let mut chain: Vec<Value> = Vec::new();
    loop {
        let from = chain
            .last()
            .and_then(|block| block["index"].as_u64())
            .map_or(0, |index| index + 1);
        let ask = Ask::new("cluster.blocks", &json!({"from": from, "limit": 1_000})).local();
        let page = match client.ask(node, &ask).await? {
            Ok(answer) => answer.ok(&ask.action)?,
            Err(silence) => return Err(Failure::Unavailable(silence)),
        };
        match page {
            Value::Array(page) if page.is_empty() => return Ok(chain),
            Value::Array(page) => chain.extend(page),
            other => return Err(Failure::Broken(format!("cluster.blocks answered {other}"))),
        }
    }
}

fn equal(client: &Client, chains: &[Vec<Value>]) -> Result<Chain, Failure> {
    let Some(first) = chains.first() else {
        return Err(Failure::Usage("there are no nodes".to_owned()));
    };
    for (node, chain) in chains.iter().enumerate().skip(1) {
        for (ours, theirs) in first.iter().zip(chain) {
            if ours["digest"] != theirs["digest"] || ours["index"] != theirs["index"] {
                let (here, there) = (client.address(0), client.address(node));
                return Err(Failure::Broken(format!(
                    "{here} and {there} have different blocks: {} with {}, {} with {}",
                    ours["index"], ours["digest"], theirs["index"], theirs["digest"]
                )));
            }
        }
    }
    let signatures = || {
        first
            .iter()
            .filter(|block| certified(block))
            .filter_map(|block| block["signatures"].as_u64())
    };
    Ok(Chain {
        blocks: first.len(),
        seals: first.iter().filter_map(|block| block["count"].as_u64()).sum(),
        certified: first.iter().filter(|block| certified(block)).count(),
        least: signatures().min().unwrap_or(0),
        most: signatures().max().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(index: u64, digest: &str, signatures: u64) -> Value {
        json!({"index": index, "digest": digest, "count": 3, "signatures": signatures, "certified": signatures > 1})
    }

    #[test]
    fn equal_chains_are_summed_up_and_a_difference_is_named() {
        let client = Client::new(["a:1".to_owned(), "b:2".to_owned()], Duration::ZERO);
        let chain = vec![block(5, "aa", 3), block(9, "bb", 2), block(11, "cc", 0)];
        let same = equal(&client, &[chain.clone(), chain.clone()]).expect("they are equal");
        assert_eq!(
            same,
            Chain {
                blocks: 3,
                seals: 9,
                certified: 2,
                least: 2,
                most: 3
            }
        );
        let mut other = chain.clone();
        other[1] = block(9, "xx", 2);
        let failure = equal(&client, &[chain, other])
            .expect_err("they differ")
            .to_string();
        assert!(
            failure.contains("a:1 and b:2") && failure.contains("xx"),
            "{failure}"
        );
    }
}
