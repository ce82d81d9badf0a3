//! `settlement.retrieve`: what a consumption over a time comes to by tariff.
//!
//! EAF asks a tariff signal on the internet. Here the tariff is a fixed one, said openly: the day from 06:00 to 22:00 UTC
//! is `virtual_1`, the night `virtual_2`, and the energy is spread evenly over the time; its CO2 is 380 g/kWh, about the
//! average of the European grid. It is a calculator: it books nothing.

use serde_json::{Map, Value};

use super::answer::Answer;
use super::balancing::peers::shares;
use super::call::Call;
use super::error::Fault;
use super::params::{rounded, whole};
use super::route::{Access, Body, Methods, Route, required, schema};
use ledger::units::{MAX_SETTLEMENT, round_div};

/// An hour, in milliseconds.
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// When a day's tariff begins and ends.
const BEGINS: i64 = 6 * HOUR;
const ENDS: i64 = 22 * HOUR;
/// Grams of CO2 a kWh.
const INTENSITY: i128 = 380;
/// The latest moment: as far as epochs reach is farther than any client needs.
const LATEST: i64 = 1 << 50;
const TIME: &str = r#"{"type":"integer","minimum":0,"maximum":1125899906842624}"#;

pub(crate) const ROUTES: &[Route] = &[Route {
    name: "settlement.retrieve",
    methods: Methods::Post,
    access: Access::Local,
    body: Body::Fields,
    about: "Splits a consumption over a time into the tariffs `virtual_1` (06:00 to 22:00 UTC) and `virtual_2` (the \
            night), with its CO2 at 380 g/kWh. Books nothing.",
    params: &[
        required("consumption", schema::SETTLED, "in Wh"),
        required("startTime", TIME, "in milliseconds since 1970"),
        required("endTime", TIME, "in milliseconds since 1970, after startTime"),
    ],
    answer: r##"{"$ref":"#/components/schemas/Tariffs"}"##,
    refusals: &[],
    handler: |call| Box::pin(retrieve(call)),
}];

/// How many milliseconds before `time` are day, since 1970.
fn day_before(time: i64) -> i64 {
    time / DAY * (ENDS - BEGINS) + (time % DAY).clamp(BEGINS, ENDS) - BEGINS
}

async fn retrieve(call: Call) -> Result<Answer, Fault> {
    let consumption = call
        .params
        .required("consumption", rounded(-MAX_SETTLEMENT, MAX_SETTLEMENT))?;
    let start = call.params.required("startTime", whole(0, LATEST))?;
    let end = call.params.required("endTime", whole(0, LATEST))?;
    if end <= start {
        return Err(call.params.invalid("endTime", "a time after startTime"));
    }
    let day = day_before(end) - day_before(start);
    let night = end - start - day;
    let sign = i128::from(consumption.signum());
    let split = shares(
        i128::from(consumption.abs()),
        &[i128::from(day), i128::from(night)],
    );
    let mut body = Map::new();
    for (label, share) in ["virtual_1", "virtual_2"].into_iter().zip(split) {
        if share != 0 {
            body.insert(label.to_owned(), super::wire::sum(share * sign));
        }
    }
    let co2 = round_div(i128::from(consumption) * INTENSITY, 1000).unwrap_or(0);
    body.insert("co2eq".to_owned(), super::wire::sum(co2));
    Ok(Value::Object(body).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn day_and_night_add_up() {
        let hours = |from: i64, to: i64| (day_before(to * HOUR) - day_before(from * HOUR)) / HOUR;
        for (from, to, day) in [
            (0, 24, 16),
            (0, 6, 0),
            (6, 22, 16),
            (22, 30, 0),
            (5, 7, 1),
            (21, 23, 1),
            (12, 60, 32),
        ] {
            assert_eq!(hours(from, to), day, "{from}–{to}");
        }
    }
}
