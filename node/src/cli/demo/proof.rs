//! Fetches the proof of one seal and checks it as a stranger would.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::{Failure, verify};
use super::book::Book;
use super::week::Week;
use crate::client::{Ask, Client};
use crate::identity::genesis_path;

/// What was proved, and where the proof lies.
#[derive(Debug)]
pub(super) struct Proved {
    /// What the seal is of.
    pub(super) what: String,
    /// The verifier's words.
    pub(super) verdict: String,
    /// The file.
    pub(super) file: PathBuf,
}

/// Proves the seal of the household with the most contracts, in the quarter-hour with the most sun.
pub(super) async fn run(client: &Client, week: &Week, book: &Book, data: &Path) -> Result<Proved, Failure> {
    let noon = week
        .epochs
        .iter()
        .max_by_key(|(_, readings)| week.epoch_sums(readings).1)
        .map_or(0, |row| row.0);
    let sells = |house: &str| {
        book.contracts
            .iter()
            .filter(|contract| contract["assetId"] == house)
            .count()
    };
    let seller = book
        .owners
        .iter()
        .map(|&owner| book.households[owner].as_str())
        .max_by_key(|house| sells(house))
        .ok_or_else(|| Failure::Broken("nobody owns a plant".to_owned()))?;

    let ask = Ask::new("balancing.proof", &json!({"assetId": seller, "epoch": noon}));
    let proof: Value = client.call(1, &ask).await?.ok(&ask.action)?;
    let file = data.join("proof.json");
    std::fs::write(&file, format!("{proof:#}\n"))
        .map_err(|error| Failure::Broken(format!("{}: {error}", file.display())))?;
    let keys = verify::genesis_keys(&genesis_path(data))?;
    let verdict = verify::check(&proof.to_string(), &keys)?;
    Ok(Proved {
        what: format!("{seller} in epoch {noon}"),
        verdict,
        file,
    })
}
