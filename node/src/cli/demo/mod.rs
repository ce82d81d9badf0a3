//! The demonstration that `up` runs: the reference lesson, then a week of a real street.
//!
//! It is a client like any other: everything goes over HTTP, every figure it prints was read from the nodes, and
//! what doesn't fit is an error, not a footnote.

mod book;
mod chains;
mod figures;
mod lesson;
mod load;
mod proof;
mod random;
mod week;

use std::path::Path;

use tokio::time::Instant;

use super::Failure;
use super::table::thousands;
use crate::client::Client;
use crate::say;
use book::Book;
pub(super) use week::Week;

/// Runs the demonstration, or what is missing of it, and prints what it shows. `epochs` limits the week.
pub(super) async fn run(client: &Client, data: &Path, epochs: Option<usize>) -> Result<(), Failure> {
    say!(
        "\nThe lesson: production1 → seller1 → bigbalancer, seller1 sells 200 Wh to buyer1, 500 Wh are metered."
    );
    for line in lesson::run(client).await? {
        say!("  {line}");
    }

    let week = match epochs {
        Some(epochs) => Week::shipped().first(epochs),
        None => Week::shipped(),
    };
    let book = Book::generate(&week);
    say!(
        "\nThe community week: {} meters, {} quarter-hours, SimBench-derived (ODbL, see node/data/README.md).\n  \
         Generated, seeded: which household owns which plant, and {} PPAs between owners and neighbours;\n  \
         CO2: 40 g a kWh of photovoltaics, consumption meters carry none.",
        week.meters.len(),
        week.epochs.len(),
        book.contracts.len()
    );
    let started = Instant::now();
    load::prepare(client, &week, &book).await?;
    let done = load::run(client, &week).await?;
    if done.settled == 0 && done.sealed == 0 {
        say!("  It is all there already: nothing was booked again.");
    } else {
        say!(
            "  {} settlements booked and {} epochs sealed in {:.1} s",
            thousands(i128::from(done.settled)),
            done.sealed,
            started.elapsed().as_secs_f64()
        );
    }
    let chain = chains::compare(client).await?;
    summary(client, &week).await?;
    say!(
        "  seals              {:>8}       in {} blocks, {} of them certified, by {} to {} of {} nodes",
        thousands(i128::from(chain.seals)),
        thousands(chain.blocks as i128),
        thousands(chain.certified as i128),
        chain.least,
        chain.most,
        client.len()
    );
    say!(
        "\nAll {} nodes have the same chain of {} blocks.",
        client.len(),
        chain.blocks
    );

    let proved = proof::run(client, &week, &book, data).await?;
    say!(
        "\nA certificate, checked offline against the keys in genesis.json: the seal of {}.",
        proved.what
    );
    for line in proved.verdict.lines() {
        say!("  {line}");
    }
    say!("  It is in {}.", proved.file.display());
    Ok(())
}

async fn summary(client: &Client, week: &Week) -> Result<(), Failure> {
    let figures = figures::read(client, week).await?;
    say!(
        "\nWhat the ledger says (read back from the nodes; equal to the data, meter by meter and epoch by epoch):"
    );
    for line in figures.lines() {
        say!("  {line}");
    }
    Ok(())
}
