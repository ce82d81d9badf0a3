//! How settlements travel: one trait, a form each.

use hyper::body::Bytes;
use ledger::canonical::Canonical as _;
use ledger::roster::{RosterId, Row};
use ledger::{Epoch, GramsCo2, RosterBatch, Settlement, Wh};
use serde_json::json;

use super::population::{Population, Slice};
use crate::client::{Ask, Client, Error};

/// Turns settlements into a request.
pub(super) trait Encoder: Send + Sync + std::fmt::Debug {
    /// The request that settles a slice.
    fn encode(&self, population: &Population, slice: &Slice) -> Ask;
}

/// The label of every settlement.
pub(super) const LABEL: &str = "virtual_1";

/// One settlement as a JSON object, to `balancing.addSettlement`.
#[derive(Debug)]
pub(super) struct Single;

impl Encoder for Single {
    fn encode(&self, population: &Population, slice: &Slice) -> Ask {
        let mut body = Vec::with_capacity(128);
        object(&mut body, population, slice.epoch, slice.first);
        Ask::bytes("balancing.addSettlement", "application/json", Bytes::from(body))
    }
}

/// An object a line, to `balancing.addSettlements`.
#[derive(Debug)]
pub(super) struct Lines;

impl Encoder for Lines {
    fn encode(&self, population: &Population, slice: &Slice) -> Ask {
        let mut body = Vec::with_capacity(128 * slice.len);
        for meter in slice.meters() {
            object(&mut body, population, slice.epoch, meter);
            body.push(b'\n');
        }
        Ask::bytes(
            "balancing.addSettlements",
            "application/x-ndjson",
            Bytes::from(body),
        )
    }
}

/// Rows of 20 bytes that name meters by their places in a roster, to `balancing.addSettlements`.
#[derive(Debug)]
pub(super) struct Packed {
    rosters: Vec<RosterId>,
    /// Meters of a roster; a multiple of the batch, so that no slice has meters of two.
    size: usize,
}

/// About so many meters are in a roster: their list must fit into a request.
const ROSTER: usize = 100_000;

impl Packed {
    /// Gives the cluster the rosters of a population.
    ///
    /// # Errors
    /// As [`Client::call`], or if the cluster refuses.
    async fn prepare(client: &Client, population: &Population, batch: usize) -> Result<Self, Error> {
        let size = (ROSTER / batch).max(1) * batch;
        let mut rosters = Vec::new();
        for first in (0..population.len()).step_by(size) {
            let meters = first..population.len().min(first + size);
            let ids: Vec<&str> = meters.map(|meter| population.meter(meter)).collect();
            let ask = Ask::once(
                "balancing.addRoster",
                &json!({"meters": ids}),
                format!("roster-{first}"),
            );
            let roster = client.call(0, &ask).await?.ok(&ask.action)?;
            let roster = serde_json::from_value(roster["roster"].clone())
                .map_err(|error| Error::Refused(format!("{}: {error}: {roster}", ask.action)))?;
            rosters.push(roster);
        }
        Ok(Self { rosters, size })
    }
}

impl Encoder for Packed {
    fn encode(&self, population: &Population, slice: &Slice) -> Ask {
        let begin = slice.first / self.size * self.size;
        let row = |meter: usize| {
            let reading = population.reading(slice.epoch, meter);
            Row {
                #[expect(clippy::cast_possible_truncation, reason = "below the size of a roster")]
                place: (meter - begin) as u32,
                consumption: reading.wh,
                co2eq: reading.grams,
            }
        };
        #[expect(
            clippy::expect_used,
            reason = "epochs and label are this module's own, and in range"
        )]
        let batch = RosterBatch {
            roster: self.rosters[slice.first / self.size],
            epoch: Epoch::new(slice.epoch).expect("far below the last epoch"),
            label: LABEL.parse().expect("a label"),
            rows: slice.meters().map(row).collect(),
        };
        Ask::bytes(
            "balancing.addSettlements",
            "application/vnd.gridseal.batch",
            Bytes::from(batch.to_bytes()),
        )
    }
}

/// In which form batches travel. Single settlements are always JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Lines,
    Packed,
    /// As settlements on the binary stream.
    Stream,
}

/// The settlements of a slice.
pub(super) fn settlements(population: &Population, slice: &Slice) -> Vec<Settlement> {
    let settlement = |meter: usize| {
        let reading = population.reading(slice.epoch, meter);
        #[expect(
            clippy::expect_used,
            reason = "names, epochs and readings are the bench's own, and in range"
        )]
        Settlement {
            meter: population.meter(meter).parse().expect("a name"),
            epoch: Epoch::new(slice.epoch).expect("far below the last epoch"),
            consumption: Wh::new(reading.wh).expect("a reading"),
            label: LABEL.parse().expect("a label"),
            co2eq: GramsCo2::new(reading.grams).expect("a reading"),
            autoseal: None,
        }
    };
    slice.meters().map(settlement).collect()
}

/// The encoder for batches of a size; the cluster is given what it needs to know.
///
/// # Errors
/// As [`Packed::prepare`].
pub(super) async fn encoder(
    form: Form,
    client: &Client,
    population: &Population,
    batch: usize,
) -> Result<Box<dyn Encoder>, Error> {
    Ok(match form {
        _ if batch == 1 => Box::new(Single),
        // What is encoded for HTTP isn't used on streams.
        Form::Lines | Form::Stream => Box::new(Lines),
        Form::Packed => Box::new(Packed::prepare(client, population, batch).await?),
    })
}

/// A settlement as a JSON object. Ids are plain, so that nothing needs escaping.
fn object(out: &mut Vec<u8>, population: &Population, epoch: u64, meter: usize) {
    use std::io::Write as _;
    let reading = population.reading(epoch, meter);
    // Writing to memory doesn't fail.
    let _ = write!(
        out,
        r#"{{"meterId":"{}","epoch":{epoch},"consumption":{},"label":"{LABEL}","co2eq":{}}}"#,
        population.meter(meter),
        reading.wh,
        reading.grams
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn what_is_sent_is_what_the_population_says() {
        let population = Population::flat(100);
        let slice = Slice {
            epoch: 9,
            first: 10,
            len: 3,
        };
        let ask = Lines.encode(&population, &slice);
        let body = ask.body.expect("a body");
        let lines: Vec<Value> = body
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 3);
        for (line, meter) in lines.iter().zip(10..) {
            let reading = population.reading(9, meter);
            let expected = json!({"meterId": population.meter(meter), "epoch": 9, "consumption": reading.wh,
                "label": LABEL, "co2eq": reading.grams});
            assert_eq!(*line, expected);
        }
        let single = Single.encode(&population, &Slice { len: 1, ..slice });
        let single: Value = serde_json::from_slice(&single.body.expect("a body")).expect("JSON");
        assert_eq!(single, lines[0]);
    }

    #[test]
    fn packed_rows_name_meters_by_their_places() {
        let population = Population::flat(100);
        let packed = Packed {
            rosters: vec![ledger::Digest([1; 32]), ledger::Digest([2; 32])],
            size: 50,
        };
        let slice = Slice {
            epoch: 9,
            first: 60,
            len: 10,
        };
        let ask = packed.encode(&population, &slice);
        let batch = RosterBatch::from_bytes(&ask.body.expect("a body")).expect("a packed batch");
        assert_eq!((batch.roster, batch.epoch.get()), (ledger::Digest([2; 32]), 9));
        let rows: Vec<Row> = batch.rows.iter().collect();
        assert_eq!(rows.len(), 10);
        for (row, meter) in rows.iter().zip(60..) {
            let reading = population.reading(9, meter);
            assert_eq!(
                (row.place as usize, row.consumption, row.co2eq),
                (meter - 50, reading.wh, reading.grams)
            );
        }
    }
}
