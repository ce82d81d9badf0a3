//! Books the week: assets, contracts, settlements, seals.
//!
//! What always holds: stopped anywhere, by Ctrl-C or by the power, it goes on where it was and books nothing
//! twice. A window of epochs is one request, all or nothing, so that one look at the window's first journal tells
//! whether it is booked; every write carries a key made of what it books, so that a retry within the nodes'
//! memory of keys is the same write. Requests go to all nodes in turn, several at a time.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::super::Failure;
use super::super::progress::Progress;
use super::book::{self, Book, GRID, GROUP};
use super::week::Week;
use crate::client::{Ask, Client};

/// Epochs in one request of settlements.
const WINDOW: usize = 4;
/// Requests under way at once.
const AT_ONCE: usize = 12;

/// What had to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Settlements booked now; the others were there.
    pub(super) settled: u64,
    /// Epochs sealed now; the others were.
    pub(super) sealed: u64,
}

/// Books assets and contracts, unless they are there.
pub(super) async fn prepare(client: &Client, week: &Week, book: &Book) -> Result<(), Failure> {
    let group = client
        .call(0, &Ask::new("asset.get", &json!({"assetId": GROUP})))
        .await?;
    if group.is_ok() && group.body["assetId"] == GROUP {
        return Ok(());
    }
    let named = |action: &str, body: &Value, field: &str| {
        Ask::once(
            action,
            body,
            format!("demo-{}", body[field].as_str().unwrap_or_default()),
        )
    };
    let assets: Vec<Ask> = book
        .assets(week)
        .iter()
        .map(|body| named("asset.upsert", body, "assetId"))
        .collect();
    let contracts: Vec<Ask> = book
        .contracts
        .iter()
        .map(|body| named("contract.add", body, "contractId"))
        .collect();
    for batch in [assets, contracts] {
        stream::iter(batch.iter().enumerate())
            .map(|(turn, ask)| async move {
                let answer = client.call(turn, ask).await?;
                if answer.code() == "contract_exists" {
                    Ok(())
                } else {
                    answer.ok(&ask.action).map(drop)
                }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
    }
    let last = Ask::once("asset.upsert", &book.last(), format!("demo-{GROUP}"));
    Ok(client.call(0, &last).await?.ok(&last.action).map(drop)?)
}

/// Settles and seals every epoch of the week that is not sealed yet.
pub(super) async fn run(client: &Client, week: &Week) -> Result<Done, Failure> {
    let progress = Progress::new("settlements", week.settlements());
    let done = stream::iter(week.epochs.chunks(WINDOW).enumerate())
        .map(|(turn, rows)| window(client, turn, week, rows, &progress))
        .buffer_unordered(AT_ONCE)
        .try_fold(Done::default(), |all, one| async move {
            Ok(Done {
                settled: all.settled + one.settled,
                sealed: all.sealed + one.sealed,
            })
        })
        .await;
    progress.finish();
    done
}

/// One window: settles it if its first journal is empty, then seals its open epochs.
async fn window(
    client: &Client,
    turn: usize,
    week: &Week,
    rows: &[(u64, Vec<i64>)],
    progress: &Progress,
) -> Result<Done, Failure> {
    let mut done = Done::default();
    let readings = (rows.len() * week.meters.len()) as u64;
    let mut open = Vec::new();
    for (epoch, _) in rows {
        let ask = Ask::new("balancing.isSealed", &json!({"assetId": GRID, "epoch": epoch}));
        if client.call(turn, &ask).await?.ok(&ask.action)? != Value::Bool(true) {
            open.push(*epoch);
        }
    }
    if open.len() == rows.len() && !booked(client, turn, week, rows).await? {
        settle(client, turn, week, rows).await?;
        done.settled = readings;
    }
    for (position, epoch) in open.into_iter().enumerate() {
        let key = format!("demo-seal-{epoch}");
        let ask = Ask::once("balancing.sealEpoch", &json!({"epoch": epoch}), key);
        let answer = client.call(turn + position, &ask).await?.ok(&ask.action)?;
        if answer["held"].as_array().is_none_or(|held| !held.is_empty()) {
            return Err(Failure::Broken(format!(
                "epoch {epoch} could not be sealed whole: {}",
                answer["held"]
            )));
        }
        done.sealed += 1;
    }
    progress.add(readings);
    Ok(done)
}

/// Whether the window's settlements are in the ledger: all are if one is.
async fn booked(
    client: &Client,
    turn: usize,
    week: &Week,
    rows: &[(u64, Vec<i64>)],
) -> Result<bool, Failure> {
    let (Some((epoch, _)), Some(meter)) = (rows.first(), week.meters.first()) else {
        return Ok(true);
    };
    let ask = Ask::new("balancing.journal", &json!({"assetId": meter.id, "epoch": epoch}));
    let journal = client.call(turn, &ask).await?;
    // Before anything names the meter, it is unknown: nothing can be booked then.
    if journal.status == 404 {
        return Ok(false);
    }
    let journal = journal.ok(&ask.action)?;
    Ok(journal["statements"]
        .as_array()
        .is_some_and(|statements| !statements.is_empty()))
}

async fn settle(client: &Client, turn: usize, week: &Week, rows: &[(u64, Vec<i64>)]) -> Result<(), Failure> {
    let batch: Vec<Value> = rows
        .iter()
        .flat_map(|(epoch, readings)| book::settlements(week, *epoch, readings))
        .collect();
    let many = batch.len();
    let key = format!("demo-settle-{}", rows.first().map_or(0, |row| row.0));
    let ask = Ask {
        body: Some(Bytes::from(Value::Array(batch).to_string())),
        ..Ask::once("balancing.addSettlements", &Value::Null, key)
    };
    let answer = client.call(turn, &ask).await?.ok(&ask.action)?;
    if answer["accepted"] == many {
        Ok(())
    } else {
        Err(Failure::Broken(format!(
            "{many} settlements were sent, but the answer is {answer}"
        )))
    }
}
