//! What was measured, for people and for programs.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::table::{self, thousands};
use super::check::Checked;
use super::workload::Seals;

/// CPUs kept busy, on average, by whom: 2.0 is both of two.
#[derive(Debug, Clone, Default)]
pub(super) struct Shares {
    /// Each node, in the order of ids.
    pub(super) nodes: Vec<f64>,
    /// This process: clients, encoding, statistics.
    pub(super) driver: f64,
}

/// What one workload came to.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) batch: usize,
    pub(super) clients: usize,
    pub(super) settlements_per_s: f64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    pub(super) p999_us: u64,
    /// Acknowledgements behind the percentiles.
    pub(super) samples: usize,
    pub(super) cpu_s_per_million: f64,
    pub(super) bytes_per_settlement: f64,
    pub(super) peak_rss: u64,
    pub(super) fsyncs: u64,
    pub(super) pushed_back: u64,
    pub(super) shares: Shares,
    /// Changes of leadership while nobody was killed.
    pub(super) elections: u64,
    /// From the start of killed nodes until all were ready.
    pub(super) restart: Duration,
    pub(super) checked: Checked,
    pub(super) seals: Seals,
}

impl Row {
    /// The promised shape.
    pub(super) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "batch": self.batch,
            "clients": self.clients,
            "settlements_per_s": rounded(self.settlements_per_s, 1.0),
            "ack_p50_us": self.p50_us,
            "ack_p99_us": self.p99_us,
            "ack_p999_us": self.p999_us,
            "cpu_s_per_million": rounded(self.cpu_s_per_million, 1_000.0),
            "bytes_written_per_settlement": rounded(self.bytes_per_settlement, 10.0),
            "peak_rss_bytes": self.peak_rss,
            "fsyncs": self.fsyncs,
        })
    }

    fn cells(&self) -> Vec<String> {
        let ms = |micros: u64| format!("{:.2}", micros as f64 / 1_000.0);
        vec![
            self.name.clone(),
            #[expect(clippy::cast_possible_truncation, reason = "no rate is that high")]
            thousands(self.settlements_per_s.round() as i128),
            ms(self.p50_us),
            ms(self.p99_us),
            ms(self.p999_us),
            format!("{:.2}", self.cpu_s_per_million),
            format!("{:.0}", self.bytes_per_settlement),
            format!("{}", self.peak_rss >> 20),
            thousands(self.fsyncs.into()),
        ]
    }

    /// What the table has no room for.
    pub(super) fn note(&self) -> String {
        let nodes: Vec<String> = self
            .shares
            .nodes
            .iter()
            .map(|share| format!("{share:.2}"))
            .collect();
        let mut note = format!(
            "  {}: {} /s; CPUs busy: nodes {}, driver {:.2}; {} of {} acknowledged settlements compared after kill -9 of all; ready {:.1} s after it",
            self.name,
            self.cells()[1],
            nodes.join(" + "),
            self.shares.driver,
            thousands(self.checked.compared.into()),
            thousands(self.checked.of.into()),
            self.restart.as_secs_f64(),
        );
        let mut seals = self.seals.clone();
        if seals.epochs.len() > 0 {
            note.push_str(&format!(
                "; {} epochs sealed ({} seals), {:.0} ms each (p50)",
                seals.epochs.len(),
                thousands(seals.seals.into()),
                seals.epochs.at(0.5) as f64 / 1_000.0
            ));
        }
        if self.pushed_back > 0 {
            note.push_str(&format!(
                "; pushed back {} times",
                thousands(self.pushed_back.into())
            ));
        }
        if self.elections > 0 {
            note.push_str(&format!("; {} ELECTIONS UNDER LOAD", self.elections));
        }
        if self.samples < 1_000 {
            note.push_str(&format!(
                "; only {} acknowledgements, so p99.9 says little",
                self.samples
            ));
        }
        note
    }
}

/// All rows as a table.
pub(super) fn render(rows: &[Row]) -> String {
    let head = [
        "workload",
        "settlements/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "CPU s/million",
        "bytes each",
        "RSS MiB",
        "fsyncs",
    ];
    let mut right = [true; 9];
    right[0] = false;
    let cells: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
    table::render(&head, &right, &cells)
}

/// Rounded to a unit's fraction; JSON has no infinities.
fn rounded(number: f64, per_unit: f64) -> f64 {
    if number.is_finite() {
        (number * per_unit).round() / per_unit
    } else {
        0.0
    }
}
