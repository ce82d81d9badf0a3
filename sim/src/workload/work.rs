//! What clients do all day: settle, seal, correct and read. How they trade is in [`super::trade`], how many of them
//! settle at once in [`super::crowd`], how what was settled is read back at once in [`super::chase`],
//! what comes just after its epoch was sealed in [`super::tardy`], what must be refused in [`super::blunder`].

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::client::{Client, note_odd};
use super::{LATE_EPOCHS, ROOT};
use crate::http::Http;
use crate::rng::{PerMillion, Rng};
use crate::trace;
use checkers::history::{History, Outcome, Read, Reported};

/// The largest amount that one settlement may have, in Wh or in g.
const MOST: u64 = 1 << 40;

impl Client {
    /// Sets the community up, however long it takes.
    pub(super) async fn found(&mut self) {
        let community = Arc::clone(&self.community);
        let upserts = community.upserts.iter().map(|body| ("asset.upsert", body));
        let contracts = community.contracts.iter().map(|body| ("contract.add", body));
        let ids: Vec<&str> = community.meters.iter().map(|meter| meter.id.as_str()).collect();
        let roster = json!({ "meters": ids });
        let roster = std::iter::once(("balancing.addRoster", &roster));
        let rule = |asset| json!({"assetId": asset, "approvals": 1});
        let rules: Vec<Value> = community.audited.iter().map(rule).collect();
        let rules = rules.iter().map(|body| ("audit.setRule", body));
        for (action, body) in upserts.chain(contracts).chain(roster).chain(rules) {
            while matches!(
                self.operate(action, body.clone(), Vec::new()).await,
                Outcome::Unknown | Outcome::Refused(429 | 503, _)
            ) {}
        }
    }

    /// Works until the time has come.
    pub(super) async fn work(mut self, until_ms: u64) {
        while self.time.now_ms() < until_ms {
            self.pause(1..=60).await;
            match self.mix.draw(&mut self.rng) {
                "seal" => self.seal("balancing.seal").await,
                "seal_epoch" => self.seal_epoch().await,
                "correct" => self.seal("balancing.correct").await,
                "trade" => self.trade().await,
                "read" => self.read().await,
                "large" => self.settle_many().await,
                "week" => self.settle_week().await,
                "approve" => self.approve().await,
                "crowd" => self.settle_in_a_crowd().await,
                "chase" => self.chase().await,
                "tardy" => self.come_late().await,
                "blunder" => self.blunder().await,
                _ => self.settle().await,
            }
        }
    }

    /// One or more settlements, for now or for earlier.
    async fn settle(&mut self) {
        let count = match self.rng.below(10) {
            0..4 => 1,
            4..6 => return self.settle_packed().await,
            _ => self.rng.within(2..=12),
        };
        let mut settles = Vec::new();
        for n in 0..count {
            let community = Arc::clone(&self.community);
            let meter = self.rng.pick(&community.meters);
            let back = self.rng.below(LATE_EPOCHS + 1);
            settles.push(Reported {
                meter: meter.id.clone(),
                epoch: self.epoch().saturating_sub(back),
                consumption: amount(&mut self.rng, meter.produces),
                label: format!("{}-{}-{n}", self.name, self.made),
            });
        }
        self.report(settles).await;
    }

    /// One settlement of some of the roster's meters, packed: they share an epoch and a label.
    async fn settle_packed(&mut self) {
        let community = Arc::clone(&self.community);
        let epoch = self.epoch().saturating_sub(self.rng.below(LATE_EPOCHS + 1));
        let label = format!("{}-{}", self.name, self.made);
        let (mut settles, mut rows) = (Vec::new(), Vec::new());
        for (place, meter) in community.meters.iter().enumerate() {
            if self.rng.chance(PerMillion::percent(60)) {
                let consumption = amount(&mut self.rng, meter.produces);
                rows.push(json!([place, consumption, co2(&mut self.rng)]));
                settles.push(Reported {
                    meter: meter.id.clone(),
                    epoch,
                    consumption,
                    label: label.clone(),
                });
            }
        }
        if self.rng.chance(PerMillion::percent(5)) {
            // The whole batch must be refused for this one.
            rows.push(json!([community.meters.len(), 1, 0]));
        }
        if !rows.is_empty() {
            let body = json!({"roster": community.roster(), "epoch": epoch, "label": label, "rows": rows});
            self.history.lock().count("packed batches");
            self.operate("balancing.addSettlements", body, settles).await;
        }
    }

    /// As many settlements as one request may have, or nearly.
    async fn settle_many(&mut self) {
        let count = self.rng.within(1_000..=8_000);
        let epoch = self.epoch();
        let community = Arc::clone(&self.community);
        let settles = (0..count).map(|n| Reported {
            meter: self.rng.pick(&community.meters).id.clone(),
            epoch,
            consumption: i64::try_from(self.rng.below(100)).unwrap_or(0) - 30,
            label: format!("{}-{}-{n}", self.name, self.made),
        });
        let settles = settles.collect();
        self.history.lock().count("large batches");
        self.report(settles).await;
    }

    /// One to four quarter-hours of the community week, and what they settled is sealed.
    async fn settle_week(&mut self) {
        let community = Arc::clone(&self.community);
        let Some(week) = &community.week else { return };
        let (epoch, first) = (self.epoch(), self.rng.below(672));
        let mut settles = Vec::new();
        for quarter in first..first + self.rng.within(1..=4) {
            for (meter, wh) in week.readings(usize::try_from(quarter).unwrap_or(0)) {
                settles.push(Reported {
                    meter: meter.to_owned(),
                    epoch,
                    consumption: wh,
                    label: format!("{}-{}-{quarter}-{meter}", self.name, self.made),
                });
            }
        }
        self.history.lock().count("quarter-hours of the week");
        self.report(settles).await;
        let body = json!({"epoch": epoch, "under": super::week::STREET, "brief": true});
        self.operate("balancing.sealEpoch", body, Vec::new()).await;
    }

    async fn report(&mut self, settles: Vec<Reported>) -> Outcome {
        let mut body: Vec<Value> = Vec::new();
        for s in &settles {
            let mut settlement = settlement(&mut self.rng, s);
            if settles.len() <= 12 && self.rng.chance(PerMillion::percent(8)) {
                // Nobody else will seal what was long ago; what is now may go on for a while.
                settlement["autoseal"] = json!(self.rng.below(LATE_EPOCHS + 1));
            }
            body.push(settlement);
        }
        if body.len() > 1 && self.rng.chance(PerMillion::percent(5)) {
            // The whole batch must be refused for this one.
            body.push(json!({"meterId": ROOT, "epoch": self.epoch(), "consumption": 1, "label": "no-meter"}));
        }
        match <[Value; 1]>::try_from(body) {
            Ok([one]) => self.operate("balancing.addSettlement", one, settles).await,
            Err(many) => {
                self.operate("balancing.addSettlements", Value::Array(many), settles)
                    .await
            }
        }
    }

    async fn seal(&mut self, action: &str) {
        let community = Arc::clone(&self.community);
        let asset = self.rng.pick(&community.assets);
        let back = self.rng.within(1..=LATE_EPOCHS + 1);
        let body = json!({"assetId": asset, "epoch": self.epoch().saturating_sub(back)});
        self.operate(action, body, Vec::new()).await;
    }

    async fn seal_epoch(&mut self) {
        let back = self.rng.within(2..=LATE_EPOCHS + 1);
        let mut body = json!({"epoch": self.epoch().saturating_sub(back)});
        if self.rng.chance(PerMillion::percent(30)) {
            body["under"] = json!(self.rng.pick(&["east", "west", "district"]));
        }
        // Whoever seals a whole epoch seldom wants all of every seal; showing it would be most of a run's work.
        if self.rng.chance(PerMillion::percent(70)) {
            body["brief"] = json!(true);
        }
        self.operate("balancing.sealEpoch", body, Vec::new()).await;
    }

    /// A read of a journal, mostly a linearizable one.
    async fn read(&mut self) {
        let community = Arc::clone(&self.community);
        let asset = self.rng.pick(&community.meters).id.clone();
        let back = self.rng.below(LATE_EPOCHS + 1);
        let epoch = self.epoch().saturating_sub(back);
        let node = self.any_node();
        let local = self.rng.chance(PerMillion::percent(15));
        if self.rng.chance(PerMillion::percent(15)) {
            return self.read_otherwise(node, &asset, epoch).await;
        }
        let (history, now) = (&self.history, || self.time.now_ms());
        read(history, now, &mut self.http, node, (&asset, epoch), local).await;
    }

    /// Reads something else than a journal: what it says of seals must be true, and the answer be one.
    async fn read_otherwise(&mut self, node: u64, asset: &str, epoch: u64) {
        let actions = [
            "balancing.balance",
            "balancing.sealedBalance",
            "balancing.latestBalances",
        ];
        let action = *self.rng.pick(&actions);
        let body = match action {
            "balancing.latestBalances" => json!({"assetId": asset, "n": 3}),
            _ => json!({"assetId": asset, "epoch": epoch}),
        };
        let patience = Duration::from_secs(3);
        let Ok(answer) = self.http.call(node, action, None, &body, patience).await else {
            return;
        };
        self.note_odd(action, node, &answer);
        if answer.status == 200 {
            self.note_seals(node, &answer.body);
            for balance in answer.body.as_array().into_iter().flatten() {
                self.note_seals(node, balance);
            }
        }
    }
}

/// The parameters of a settlement.
pub(super) fn settlement(rng: &mut Rng, s: &Reported) -> Value {
    json!({
        "meterId": s.meter, "epoch": s.epoch, "consumption": written(s.consumption, &s.label), "label": s.label, "co2eq": co2(rng),
    })
}

/// An amount as a client writes it: now and then with a fraction that is rounded to it, halves away from zero.
fn written(amount: i64, label: &str) -> Value {
    // No chance is drawn for it: it must not change what else a seed does.
    let fraction = match label
        .bytes()
        .fold(7u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte))
        % 24
    {
        0 => 0.4,
        1 => -0.4,
        2 if amount != 0 => -0.5 * if amount > 0 { 1.0 } else { -1.0 },
        _ => return json!(amount),
    };
    #[expect(clippy::cast_precision_loss, reason = "at most 2^40, whose halves are exact")]
    let exact = amount as f64;
    json!(exact + fraction)
}

/// Watt-hours. Mostly little ones, which divide badly, so that rounding shows; now and then as many as there may be.
pub(super) fn amount(rng: &mut Rng, produces: bool) -> i64 {
    let most = *rng.pick(&[8, 40, 40, 300, 300, 300, 3_000, 3_000, 3_000, MOST]);
    let amount = i64::try_from(rng.within(0..=most)).unwrap_or(0);
    let usual = !rng.chance(PerMillion::percent(10));
    if produces == usual { amount } else { -amount }
}

/// Grams of CO2. What a watt-hour carries differs from hour to hour, and is negative where some is stored; now and then
/// it is so much that floating point would round it.
fn co2(rng: &mut Rng) -> i64 {
    let most = if rng.chance(PerMillion::percent(10)) {
        MOST
    } else {
        450
    };
    let grams = i64::try_from(rng.within(0..=most)).unwrap_or(0) - 50;
    if rng.chance(PerMillion::percent(20)) {
        -grams
    } else {
        grams
    }
}

/// Reads a journal, asking once, and notes what it shows.
pub(super) async fn read(
    history: &Mutex<History>,
    now_ms: impl Fn() -> u64,
    http: &mut Http,
    node: u64,
    (asset, epoch): (&str, u64),
    local: bool,
) {
    const ACTION: &str = "balancing.journal";
    let mut body = json!({"assetId": asset, "epoch": epoch});
    if local {
        body["consistency"] = json!("local");
    }
    let asked = history.lock().moment(now_ms());
    let answer = http.call(node, ACTION, None, &body, Duration::from_secs(3)).await;
    let Ok(answer) = answer else { return };
    let answered = history.lock().moment(now_ms());
    note_odd(history, answered.ms, ACTION, node, &answer);
    if answer.status != 200 {
        return;
    }
    let statements = answer.body["statements"].as_array().cloned().unwrap_or_default();
    let watermark = answer.body["watermark"].as_u64().unwrap_or(0);
    // Where another meter is below this one its values are here, too.
    let own = |s: &&Value| s["kind"] == "metered" && s["meter"] == *asset;
    let labels = statements.iter().filter(own);
    let labels: Vec<String> = labels
        .filter_map(|s| s["label"].as_str().map(str::to_owned))
        .collect();
    trace::record(format_args!(
        "reads {asset} of {epoch} at n{node}: {} statements",
        labels.len()
    ));
    let covered = usize::try_from(watermark).unwrap_or(usize::MAX);
    history.lock().reads.push(Read {
        node,
        local,
        asset: asset.to_owned(),
        epoch,
        asked,
        answered,
        labels,
        watermark,
        sealed: statements.into_iter().take(covered).collect(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_with_a_fraction_is_rounded_to_what_is_meant() {
        let mut halves = 0;
        for n in 0..500 {
            for amount in [0, 1, -1, 2, -7, 1 << 40, -(1 << 40)] {
                let text = written(amount, &format!("c1-{n}")).to_string();
                halves += usize::from(text.ends_with(".5"));
                assert_eq!(ledger::units::round_decimal(&text), Ok(amount), "{text}");
            }
        }
        assert!(halves > 20, "{halves}");
    }
}
