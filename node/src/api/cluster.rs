//! The cluster itself: `cluster.status`, `.blocks`, `.genesis`, `.order`.

use ledger::jws::{base64url, thumbprint};
use ledger::units::MAX_FIGURE;
use ledger::{Genesis, PublicKey};
use serde_json::{Value, json};

use super::answer::Answer;
use super::backend::Unanswered;
use super::call::Call;
use super::error::Fault;
use super::params::{page, string, whole};
use super::route::{Access, Body, Methods, Route, optional, required, schema};
use super::wire;
use crate::order::{self, Done};

/// Blocks in one answer.
const BLOCKS: usize = 1000;

pub(crate) const ROUTES: &[Route] = &[
    Route {
        name: "cluster.status",
        methods: Methods::GetPost,
        access: Access::Local,
        body: Body::Fields,
        about: "Where this node stands. `state` is the ledger's running digest at `applied`.",
        params: &[],
        answer: r##"{"$ref":"#/components/schemas/Status"}"##,
        refusals: &[],
        handler: |call| Box::pin(status(call)),
    },
    Route {
        name: "cluster.blocks",
        methods: Methods::GetPost,
        access: Access::Read,
        body: Body::Fields,
        about: "The chain of seal blocks, from a log index on.",
        params: &[
            optional("from", schema::COUNT, "the first log index; 0 if not given"),
            optional(
                "limit",
                schema::LIMIT,
                "at most so many; 100 if not given, at most 1000",
            ),
        ],
        answer: r##"{"type":"array","items":{"$ref":"#/components/schemas/Block"}}"##,
        refusals: &[],
        handler: |call| Box::pin(blocks(call)),
    },
    Route {
        name: "cluster.genesis",
        methods: Methods::GetPost,
        access: Access::Local,
        body: Body::Fields,
        about: "The first entry of the log, as genesis.json has it. Trust it only if the cluster id is one you know.",
        params: &[],
        answer: r##"{"$ref":"#/components/schemas/Genesis"}"##,
        refusals: &[],
        handler: |call| Box::pin(genesis(call)),
    },
    Route {
        name: "cluster.order",
        methods: Methods::Post,
        access: Access::Local,
        body: Body::Fields,
        about: "An admin's order to this node: a compact JWS that says what to do. `transfer` hands leadership over, \
                `snapshot` takes a snapshot and drops the log it covers. It counts once, for a minute at most.",
        params: &[required(
            "order",
            schema::STRING,
            "the JWS, typ gridseal-order+jws",
        )],
        answer: r##"{"$ref":"#/components/schemas/Obeyed"}"##,
        refusals: &[
            "unknown_signer",
            "not_admin",
            "bad_signature",
            "expired",
            "not_after_too_far",
            "order_repeated",
            "not_leader",
            "impossible",
            "no_leader",
            "stopping",
            "outcome_unknown",
        ],
        handler: |call| Box::pin(order(call)),
    },
];

/// Where the node stands, with the ledger's digest at the very index it is of.
pub(crate) fn status_json(backend: &dyn super::backend::Backend) -> Value {
    let status = backend.status();
    let ledger = backend.ledger().read();
    json!({
        "cluster": ledger.cluster(),
        "node": status.node,
        "leader": status.leader,
        "term": status.term,
        "applied": ledger.applied().unwrap_or(0),
        "committed": status.committed,
        "voters": status.voters,
        "learners": status.learners,
        "state": ledger.state(),
        "alarms": status.alarms,
    })
}

async fn status(call: Call) -> Result<Answer, Fault> {
    Ok(status_json(&*call.backend).into())
}

async fn blocks(call: Call) -> Result<Answer, Fault> {
    let from = call.params.optional("from", whole(0, MAX_FIGURE))?.unwrap_or(0);
    let limit = call.params.optional("limit", page(BLOCKS))?.unwrap_or(100);
    let ledger = call.ledger();
    Ok(Value::from_iter(ledger.blocks(from.unsigned_abs(), limit).map(wire::block)).into())
}

async fn genesis(call: Call) -> Result<Answer, Fault> {
    match call.ledger().genesis() {
        Some(genesis) => Ok(render(genesis).into()),
        // Before the first entry there is no cluster to speak of.
        None => Err(Unanswered::NoLeader.into()),
    }
}

async fn order(call: Call) -> Result<Answer, Fault> {
    let token = call.params.required("order", string)?;
    let (node, read) = {
        let ledger = call.ledger();
        let node = call.backend.status().node;
        // Before the first entry nobody is known to be an admin.
        let genesis = ledger.genesis().ok_or(Unanswered::NoLeader)?;
        (node, order::read(&token, node, genesis, ledger.now())?)
    };
    let order = read.ok_or_else(|| Fault::Invalid {
        field: "order".to_owned(),
        got: format!("{} bytes", token.len()),
        expected: format!("a compact JWS with an order to node {node} of this cluster"),
    })?;
    Ok(match call.backend.obey(order).await? {
        Done::Leads(leader) => json!({ "leader": leader }),
        Done::Snapshot(index) => json!({ "snapshot": index }),
    }
    .into())
}

/// The form in which [`crate::identity::read_genesis`] reads it back.
fn render(genesis: &Genesis) -> Value {
    let key = |key: &PublicKey| json!({ "x": base64url(&key.0), "kid": thumbprint(key) });
    let node =
        |(id, key): &(u64, PublicKey)| json!({ "id": id, "x": base64url(&key.0), "kid": thumbprint(key) });
    json!({
        "format": "gridseal-genesis-v1",
        "cluster": genesis.cluster(),
        "salt": hex::encode(genesis.salt),
        "created": genesis.created,
        "epoch_ms": genesis.epoch_ms,
        "development": genesis.development,
        "nodes": genesis.nodes.iter().map(node).collect::<Vec<_>>(),
        "admins": genesis.admins.iter().map(key).collect::<Vec<_>>(),
        "gateways": genesis.gateways.iter().map(key).collect::<Vec<_>>(),
    })
}
