//! Journals: `balancing.journal`, `.late`, `.statements`, `.assets`.

use std::collections::BTreeMap;

use ledger::{AssetId, Epoch, Ledger, ROOT, Statement, StatementId};
use regex::Regex;
use serde_json::{Value, json};

use super::balance::time;
use crate::api::answer::Answer;
use crate::api::asset::pattern;
use crate::api::call::{Call, known};
use crate::api::error::Fault;
use crate::api::params::{self, page, whole};
use crate::api::route::{Access, Body, Methods, Route, optional, required, schema};
use crate::api::wire;

/// Late statements in one answer.
const LATE: usize = 10_000;
/// EAF's page of statements.
const NEWEST: usize = 50;
/// Epochs that `statements`, when none is given, and `assets` look back over.
const EPOCHS_BACK: usize = 50;
const STATEMENTS: &str = r##"{"type":"array","items":{"$ref":"#/components/schemas/Statement"}}"##;

pub(crate) const ROUTES: &[Route] = &[
    Route {
        name: "balancing.journal",
        methods: Methods::GetPost,
        access: Access::ReadSealed,
        body: Body::Fields,
        about: "The statements of an asset's epoch in booking order, and how many of them the newest seal covers.",
        params: &[
            required("assetId", schema::ID, "the asset"),
            required("epoch", schema::EPOCH, "the epoch"),
            optional("offset", schema::COUNT, "leave out so many from the beginning"),
            optional("limit", schema::LIMIT, "at most so many; all if not given"),
        ],
        answer: r##"{"$ref":"#/components/schemas/Journal"}"##,
        refusals: &[],
        handler: |call| Box::pin(journal(call)),
    },
    Route {
        name: "balancing.late",
        methods: Methods::GetPost,
        access: Access::ReadSealed,
        body: Body::Fields,
        about: "The statements past a seal's watermark, each with the asset for which it is late.",
        params: &[
            optional("assetId", schema::ID, "only what is late for this asset"),
            optional("epoch", schema::EPOCH, "only in this epoch"),
            optional(
                "limit",
                schema::LIMIT,
                "at most so many; 1000 if not given, at most 10000",
            ),
        ],
        answer: STATEMENTS,
        refusals: &[],
        handler: |call| Box::pin(late(call)),
    },
    Route {
        name: "balancing.statements",
        methods: Methods::GetPost,
        access: Access::ReadSealed,
        body: Body::Fields,
        about: "An asset's statements as EAF shows them: with `sealed`, the `time` of the epoch, and whether the other \
                side is its upstream. Without an epoch: the newest 50, newest first.",
        params: &[
            required("assetId", schema::ID, "the asset"),
            optional("epoch", schema::EPOCH, "the epoch"),
        ],
        answer: STATEMENTS,
        refusals: &[],
        handler: |call| Box::pin(statements(call)),
    },
    Route {
        name: "balancing.assets",
        methods: Methods::GetPost,
        access: Access::ReadSealed,
        body: Body::Fields,
        about: "The newest 50 open statements, newest first, of the assets last booked on or of those that match.",
        params: &[optional(
            "q",
            schema::STRING,
            "an asset's exact id, or a regular expression",
        )],
        answer: STATEMENTS,
        refusals: &[],
        handler: |call| Box::pin(assets(call)),
    },
];

async fn journal(call: Call) -> Result<Answer, Fault> {
    let asset = call.params.required("assetId", params::asset)?;
    let epoch = call.params.required("epoch", params::epoch)?;
    let offset = call.params.optional("offset", whole(0, i64::MAX))?.unwrap_or(0);
    let limit = call
        .params
        .optional("limit", page(usize::MAX))?
        .unwrap_or(usize::MAX);
    let ledger = call.ledger_at(epoch).await?;
    known(&ledger, &asset)?;
    let journal = ledger.journal(&asset, epoch).unwrap_or_default();
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let statements = journal
        .statements
        .iter()
        .skip(offset)
        .take(limit)
        .map(wire::statement);
    Ok(json!({
        "statements": statements.collect::<Vec<_>>(),
        "watermark": journal.watermark,
        "version": journal.version,
    })
    .into())
}

async fn late(call: Call) -> Result<Answer, Fault> {
    let asset = call.params.optional("assetId", params::asset)?;
    let epoch = call.params.optional("epoch", params::epoch)?;
    let limit = call.params.optional("limit", page(LATE))?.unwrap_or(1000);
    let ledger = call.ledger();
    if let Some(asset) = &asset {
        known(&ledger, asset)?;
    }
    let late = ledger
        .late(asset.as_ref(), epoch, limit)
        .into_iter()
        .map(|(asset, statement)| {
            let mut fields = wire::statement_fields(&statement);
            fields.insert("assetId".to_owned(), json!(asset));
            Value::Object(fields)
        });
    Ok(Value::from_iter(late).into())
}

async fn statements(call: Call) -> Result<Answer, Fault> {
    let asset: AssetId = call.params.required("assetId", params::asset)?;
    let epoch = call.params.optional("epoch", params::epoch)?;
    let (rule, epochs) = {
        let ledger = call.ledger();
        known(&ledger, &asset)?;
        let rule = ledger.asset(&asset).map(|asset| asset.rule.clone());
        (
            rule.unwrap_or_default(),
            ledger.epochs_of(&asset, None, EPOCHS_BACK),
        )
    };
    let upstreams = [rule.upstream_from(), rule.upstream_to()];
    let show = |ledger: &Ledger, place: usize, statement: &Statement, watermark: usize| {
        let other = if statement.from == asset {
            &statement.to
        } else {
            &statement.from
        };
        let mut fields = wire::statement_fields(statement);
        fields.insert("sealed".to_owned(), (place < watermark).into());
        fields.insert("time".to_owned(), time(ledger, statement.epoch).into());
        fields.insert("isUpstream".to_owned(), upstreams.contains(other).into());
        Value::Object(fields)
    };
    let mut shown = Vec::new();
    match epoch {
        Some(epoch) => {
            let ledger = call.ledger_at(epoch).await?;
            let journal = ledger.journal(&asset, epoch).unwrap_or_default();
            let all = journal.statements.iter().enumerate();
            shown.extend(all.map(|(place, statement)| show(&ledger, place, statement, journal.watermark)));
        }
        None => {
            for epoch in epochs {
                let ledger = call.ledger_at(epoch).await?;
                let journal = ledger.journal(&asset, epoch).unwrap_or_default();
                let newest = journal
                    .statements
                    .iter()
                    .enumerate()
                    .rev()
                    .take(NEWEST - shown.len());
                shown.extend(
                    newest.map(|(place, statement)| show(&ledger, place, statement, journal.watermark)),
                );
                if shown.len() >= NEWEST {
                    break;
                }
            }
        }
    }
    Ok(Value::from(shown).into())
}

async fn assets(call: Call) -> Result<Answer, Fault> {
    let q = call
        .params
        .optional("q", params::string)?
        .filter(|q| !q.is_empty());
    let pattern = q
        .as_deref()
        .map(pattern)
        .transpose()
        .map_err(|what| call.params.invalid("q", what))?;
    let newest = newest_epochs(&call.ledger(), q, pattern.as_ref());
    let mut found: BTreeMap<StatementId, Statement> = BTreeMap::new();
    for (asset, epoch) in newest {
        let journal = call
            .ledger_at(epoch)
            .await?
            .journal(&asset, epoch)
            .unwrap_or_default();
        let open = journal
            .statements
            .into_iter()
            .skip(journal.watermark)
            .rev()
            .take(NEWEST);
        found.extend(open.map(|statement| (statement.id, statement)));
    }
    let newest = found.values().rev().take(NEWEST);
    Ok(Value::from_iter(newest.map(wire::statement)).into())
}

/// The assets asked for, each with its newest epochs that may have open statements. A statement has one id, on whichever
/// side it is found.
fn newest_epochs(ledger: &Ledger, q: Option<String>, pattern: Option<&Regex>) -> Vec<(AssetId, Epoch)> {
    let exact = q
        .and_then(|q| AssetId::try_from(q).ok())
        .filter(|id| ledger.asset(id).is_some());
    let assets: Vec<AssetId> = match (exact, pattern) {
        (Some(id), _) => vec![id],
        (None, Some(pattern)) => {
            let matches = ledger
                .assets()
                .filter(|asset| pattern.is_match(asset.id.as_str()));
            matches.take(NEWEST).map(|asset| asset.id.clone()).collect()
        }
        (None, None) => ledger
            .recent_assets(NEWEST)
            .into_iter()
            .map(|asset| asset.id.clone())
            .collect(),
    };
    let newest = assets.into_iter().flat_map(|asset| {
        let epochs = ledger.epochs_of(&asset, None, EPOCHS_BACK).into_iter();
        // The root's journals are long, and of an archived epoch its side alone is open: the newest is enough.
        let root = asset == *ROOT;
        let wanted = |(n, epoch): &(usize, Epoch)| match root {
            true => *n == 0,
            false => ledger.is_open(&asset, *epoch),
        };
        let epochs = epochs.enumerate().filter(wanted);
        epochs
            .map(|(_, epoch)| (asset.clone(), epoch))
            .collect::<Vec<_>>()
    });
    newest.collect()
}
