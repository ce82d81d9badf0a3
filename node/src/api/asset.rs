//! Assets: `asset.upsert`, `.get`, `.find`, `.query`.

use std::collections::BTreeMap;

use ledger::Action;
use ledger::asset::AssetId;
use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::answer::Answer;
use super::call::{Call, known};
use super::error::Fault;
use super::filter::Filter;
use super::json::Json;
use super::params::{self, page};
use super::route::{Access, Body, Methods, Route, optional, required, schema};
use super::{outcome, wire};

/// Assets in one answer.
const LIMIT: usize = 10_000;
const LIMIT_ABOUT: &str = "at most so many, in id order; 1000 if not given, at most 10000";

pub(crate) const ROUTES: &[Route] = &[
    Route {
        name: "asset.upsert",
        methods: Methods::Any,
        access: Access::Write,
        body: Body::OpenFields,
        about: "Makes an asset, or changes one. A rule given replaces the rule, a rule not given leaves it; any other \
                field is kept as metadata (4 KiB in all) and merged.",
        params: &[
            required("assetId", schema::ID, "the asset"),
            optional(
                "type",
                schema::TEXT,
                "what it is, as EAF's clients say it: `balance`, `meter`, …",
            ),
            optional(
                "balancerule",
                r#"{"type":"object","properties":{"from":{"type":"string"},"to":{"type":"string"}},"additionalProperties":false}"#,
                "whom it draws a deficit from, and whom it delivers a surplus to",
            ),
        ],
        answer: r##"{"$ref":"#/components/schemas/Written"}"##,
        refusals: &["rule_cycle", "root_has_no_rule", "metadata_too_large"],
        handler: |call| Box::pin(upsert(call)),
    },
    Route {
        name: "asset.get",
        methods: Methods::Any,
        access: Access::Read,
        body: Body::Fields,
        about: "An asset with its rule and its other fields.",
        params: &[
            required("assetId", schema::ID, "the asset"),
            optional("type", schema::TEXT, "only if it is of this type"),
        ],
        answer: r##"{"$ref":"#/components/schemas/Asset"}"##,
        refusals: &[],
        handler: |call| Box::pin(get(call)),
    },
    Route {
        name: "asset.find",
        methods: Methods::GetPost,
        access: Access::Read,
        body: Body::Fields,
        about: "The assets whose id is `q`, or matches it as a regular expression, and that have the type.",
        params: &[
            optional(
                "q",
                schema::STRING,
                "an exact id, or a regular expression (linear-time syntax: no look-around)",
            ),
            optional("type", schema::TEXT, "only of this type"),
            optional("limit", schema::LIMIT, LIMIT_ABOUT),
        ],
        answer: r##"{"type":"array","items":{"$ref":"#/components/schemas/Asset"}}"##,
        refusals: &[],
        handler: |call| Box::pin(find(call)),
    },
    Route {
        name: "asset.query",
        methods: Methods::GetPost,
        access: Access::Read,
        body: Body::Fields,
        about: "The assets that match a Mongo query, a subset of which is taken: equality, `$or`, `$and`, `$in`, `$ne`, \
                `$exists`, `$regex`, dotted paths.",
        params: &[
            required(
                "q",
                r#"{"type":"object"}"#,
                "the query, e.g. `q[$or][0][balancerule.to]=g`",
            ),
            optional("limit", schema::LIMIT, LIMIT_ABOUT),
        ],
        answer: r##"{"type":"array","items":{"$ref":"#/components/schemas/Asset"}}"##,
        refusals: &[],
        handler: |call| Box::pin(query(call)),
    },
];

async fn upsert(call: Call) -> Result<Answer, Fault> {
    let params = &call.params;
    let mut metadata = BTreeMap::new();
    for (name, value) in params.others() {
        let text = value.to_string();
        // It is given back as JSON, so what no JSON reader takes (1e999) isn't let in.
        if serde_json::from_str::<Value>(&text).is_err() {
            let (field, got) = (name.clone(), value.shown());
            return Err(Fault::Invalid {
                field,
                got,
                expected: "JSON whose numbers fit into a double".to_owned(),
            });
        }
        metadata.insert(name.clone(), text);
    }
    let action = Action::UpsertAsset {
        asset: params.required("assetId", params::asset)?,
        kind: params.optional("type", params::text)?,
        rule: params.optional("balancerule", params::rule)?,
        metadata,
    };
    let receipt = call.submit(action).await?;
    outcome::answer(&call, receipt).await
}

async fn get(call: Call) -> Result<Answer, Fault> {
    let id: AssetId = call.params.required("assetId", params::asset)?;
    let kind = call.params.optional("type", params::text)?;
    let ledger = call.ledger();
    known(&ledger, &id)?;
    match ledger
        .asset(&id)
        .filter(|asset| kind.is_none() || asset.kind == kind)
    {
        Some(asset) => Ok(wire::asset(asset).into()),
        None => Err(Fault::NotFound {
            code: "unknown_asset",
            message: format!("asset `{id}` is of another type"),
            field: "type",
        }),
    }
}

async fn find(call: Call) -> Result<Answer, Fault> {
    let params = &call.params;
    let q = params.optional("q", params::string)?.filter(|q| !q.is_empty());
    let kind = params.optional("type", params::text)?;
    let limit = params.optional("limit", page(LIMIT))?.unwrap_or(1000);
    let pattern = q
        .as_deref()
        .map(pattern)
        .transpose()
        .map_err(|what| params.invalid("q", what))?;
    let ledger = call.ledger();
    let of_kind = |asset: &&ledger::asset::Asset| kind.is_none() || asset.kind == kind;
    let exact = q
        .and_then(|q| AssetId::try_from(q).ok())
        .and_then(|id| ledger.asset(&id));
    let found: Vec<Value> = match exact {
        Some(asset) => Some(asset).into_iter().filter(of_kind).map(wire::asset).collect(),
        None => {
            let matches = |asset: &&ledger::asset::Asset| {
                pattern
                    .as_ref()
                    .is_none_or(|pattern| pattern.is_match(asset.id.as_str()))
            };
            ledger
                .assets()
                .filter(of_kind)
                .filter(matches)
                .take(limit)
                .map(wire::asset)
                .collect()
        }
    };
    Ok(Value::from(found).into())
}

/// A regular expression that can't cost more than its text is long.
pub(crate) fn pattern(text: &str) -> Result<Regex, String> {
    const WHAT: &str = "an exact id, or a regular expression of at most 256 characters";
    if text.chars().count() > 256 {
        return Err(WHAT.to_owned());
    }
    RegexBuilder::new(text)
        .size_limit(1 << 20)
        .build()
        .map_err(|error| {
            // The last line says what is wrong; those before draw it.
            let error = error.to_string();
            format!("{WHAT}: {}", error.lines().last().unwrap_or_default())
        })
}

async fn query(call: Call) -> Result<Answer, Fault> {
    let limit = call.params.optional("limit", page(LIMIT))?.unwrap_or(1000);
    let filter = call.params.required("q", |json: &Json| {
        Filter::parse(json).map_err(params::Wrong::Expected)
    })?;
    let ledger = call.ledger();
    let found = ledger
        .assets()
        .map(wire::asset)
        .filter(|asset| filter.matches(asset))
        .take(limit);
    Ok(Value::from(found.collect::<Vec<_>>()).into())
}
