//! Balances: `balancing.balance`, `.unsealedBalance`, `.sealedBalance`, `.isSealed`, `.latestBalances`.
//!
//! A sealed balance looks as [`super::sealed`] says. An open one has the same figures over the journal as it now is, and
//! `energy = out − in`, as EAF computes it; its `clearing` is what sealing would book, with the sign of
//! `energy + upstreamenergy`.

use futures::FutureExt;
use ledger::journal::SealRecord;
use ledger::seal::SealRef;
use ledger::{AssetId, Epoch, Ledger, Refusal};
use serde_json::{Value, json};

use super::{peers, sealed};
use crate::api::answer::Answer;
use crate::api::call::{Call, known};
use crate::api::error::Fault;
use crate::api::params::{self, page};
use crate::api::route::{Access, Body, Methods, Param, Route, optional, required, schema};
use crate::api::wire;

/// Balances in one answer.
const LIMIT: usize = 100;
const PARAMS: &[Param] = &[
    required("assetId", schema::ID, "the asset"),
    required("epoch", schema::EPOCH, "the epoch"),
];
const BALANCE: &str =
    r##"{"oneOf":[{"$ref":"#/components/schemas/Sealed"},{"$ref":"#/components/schemas/OpenBalance"}]}"##;

pub(crate) const ROUTES: &[Route] = &[
    Route {
        name: "balancing.balance",
        methods: Methods::GetPost,
        access: Access::ReadSealed,
        body: Body::Fields,
        about: "The newest sealed balance, or the open one if there is none.",
        params: PARAMS,
        answer: BALANCE,
        refusals: &[],
        handler: |call| Box::pin(balance(call)),
    },
    Route {
        name: "balancing.unsealedBalance",
        methods: Methods::GetPost,
        access: Access::ReadSealed,
        body: Body::Fields,
        about: "The open balance of an epoch that isn't sealed.",
        params: PARAMS,
        answer: r##"{"$ref":"#/components/schemas/OpenBalance"}"##,
        refusals: &["already_sealed"],
        handler: |call| Box::pin(unsealed(call)),
    },
    Route {
        name: "balancing.sealedBalance",
        methods: Methods::GetPost,
        access: Access::ReadSealed,
        body: Body::Fields,
        about: "All versions of the seal, the newest first; none if it isn't sealed.",
        params: PARAMS,
        answer: r##"{"type":"array","items":{"$ref":"#/components/schemas/Sealed"}}"##,
        refusals: &[],
        handler: |call| Box::pin(versions(call)),
    },
    Route {
        name: "balancing.isSealed",
        methods: Methods::GetPost,
        access: Access::ReadSealed,
        body: Body::Fields,
        about: "Whether there is a seal.",
        params: PARAMS,
        answer: r#"{"type":"boolean"}"#,
        refusals: &[],
        handler: |call| Box::pin(is_sealed(call)),
    },
    Route {
        name: "balancing.latestBalances",
        methods: Methods::GetPost,
        access: Access::ReadSealed,
        body: Body::Fields,
        about: "The balances of an asset's newest epochs, newest first, each with the `time` at which its epoch begins.",
        params: &[
            required("assetId", schema::ID, "the asset"),
            optional("n", schema::LIMIT, "how many; 1 if not given, at most 100"),
            optional("before", schema::EPOCH, "only epochs before this one"),
        ],
        answer: r##"{"type":"array","items":{"oneOf":[{"$ref":"#/components/schemas/Sealed"},{"$ref":"#/components/schemas/OpenBalance"}]}}"##,
        refusals: &[],
        handler: |call| Box::pin(latest(call)),
    },
];

/// A balance that may still lack its token.
enum Draft {
    Open(Value),
    Sealed(u64, Box<sealed::Sealed>),
}

impl Draft {
    fn of(ledger: &Ledger, asset: &AssetId, epoch: Epoch) -> Draft {
        match ledger.seal_record(asset, epoch, None) {
            Some(record) => Draft::sealed(ledger, record),
            None => Draft::Open(open(ledger, asset, epoch)),
        }
    }

    fn sealed(ledger: &Ledger, record: &SealRecord) -> Draft {
        Draft::Sealed(record.index, Box::new(sealed::render(ledger, record)))
    }

    /// Reads don't wait for a signature: what isn't signed by now has no token.
    fn finish(self, call: &Call) -> Value {
        match self {
            Draft::Open(body) => body,
            Draft::Sealed(block, seal) => {
                let signed = call.backend.signed(block).now_or_never().unwrap_or(false);
                seal.finish(&*call.backend, signed)
            }
        }
    }
}

/// The balance of a journal, none of which is sealed.
fn open(ledger: &Ledger, asset: &AssetId, epoch: Epoch) -> Value {
    let statements = ledger.journal(asset, epoch).unwrap_or_default().statements;
    let rule = ledger
        .asset(asset)
        .map(|asset| asset.rule.clone())
        .unwrap_or_default();
    let (upstream_from, upstream_to) = (rule.upstream_from(), rule.upstream_to());
    let all = ledger.balance(asset, epoch).unwrap_or_default().all;
    let (all_in, all_out) = (all.total_in(), all.total_out());
    let (mut upstream_energy, mut upstream_co2) = (0, 0);
    for statement in &statements {
        if statement.to == *asset && statement.from == upstream_from {
            upstream_energy += statement.energy.wide();
            upstream_co2 += statement.co2eq.wide();
        } else if statement.from == *asset && statement.to == upstream_to {
            upstream_energy -= statement.energy.wide();
            upstream_co2 -= statement.co2eq.wide();
        }
    }
    let energy = all_out.energy - all_in.energy;
    let co2 = all_out.co2 - all_in.co2;
    let clearing = energy + upstream_energy;
    let draws = if clearing == 0 {
        upstream_energy > 0
    } else {
        clearing > 0
    };
    let (upstream, from, to) = if draws {
        (&upstream_from, &upstream_from, asset)
    } else {
        (&upstream_to, asset, &upstream_to)
    };
    json!({
        "assetId": asset,
        "epoch": epoch,
        "in": wire::sum(all_in.energy),
        "out": wire::sum(all_out.energy),
        "energy": wire::sum(energy),
        "upstream": upstream,
        "upstream_from": upstream_from,
        "upstream_to": upstream_to,
        "upstreamenergy": wire::sum(upstream_energy),
        "balancesum": wire::sum(if all_out.energy > all_in.energy { -all_out.energy } else { all_in.energy }),
        "co2eq": wire::sum(co2),
        "in_co2eq": wire::sum(all_in.co2),
        "out_co2eq": wire::sum(all_out.co2),
        "upstreamco2eq": wire::sum(upstream_co2),
        "clearing": {
            "from": from,
            "to": to,
            "epoch": epoch,
            "energy": wire::sum(clearing),
            "co2eq": wire::sum(co2 + upstream_co2),
        },
        "transactions": statements.iter().map(wire::statement).collect::<Vec<_>>(),
        "peers": peers::of(asset, &statements),
    })
}

fn asked(call: &Call) -> Result<(AssetId, Epoch), Fault> {
    let asset = call.params.required("assetId", params::asset)?;
    let epoch = call.params.required("epoch", params::epoch)?;
    known(&call.ledger(), &asset)?;
    Ok((asset, epoch))
}

async fn balance(call: Call) -> Result<Answer, Fault> {
    let (asset, epoch) = asked(&call)?;
    let draft = {
        let ledger = call.ledger_at(epoch).await?;
        Draft::of(&ledger, &asset, epoch)
    };
    Ok(draft.finish(&call).into())
}

async fn unsealed(call: Call) -> Result<Answer, Fault> {
    let (asset, epoch) = asked(&call)?;
    let ledger = call.ledger_at(epoch).await?;
    match ledger.seal_record(&asset, epoch, None) {
        None => Ok(open(&ledger, &asset, epoch).into()),
        Some(record) => {
            let seal = SealRef {
                asset,
                epoch,
                version: record.seal.version,
            };
            Err(Refusal::AlreadySealed {
                seal,
                digest: record.digest,
            }
            .into())
        }
    }
}

async fn versions(call: Call) -> Result<Answer, Fault> {
    let (asset, epoch) = asked(&call)?;
    let drafts: Vec<Draft> = {
        let ledger = call.ledger_at(epoch).await?;
        let records = ledger.seals(&asset, epoch).iter().rev();
        records.map(|record| Draft::sealed(&ledger, record)).collect()
    };
    Ok(Value::from_iter(drafts.into_iter().map(|draft| draft.finish(&call))).into())
}

async fn is_sealed(call: Call) -> Result<Answer, Fault> {
    let (asset, epoch) = asked(&call)?;
    let sealed = !call.ledger_at(epoch).await?.seals(&asset, epoch).is_empty();
    Ok(Value::from(sealed).into())
}

async fn latest(call: Call) -> Result<Answer, Fault> {
    let asset = call.params.required("assetId", params::asset)?;
    let n = call.params.optional("n", page(LIMIT))?.unwrap_or(1);
    let before = call.params.optional("before", params::epoch)?;
    let epochs = {
        let ledger = call.ledger();
        known(&ledger, &asset)?;
        ledger.epochs_of(&asset, before, n)
    };
    let mut drafts: Vec<(u64, Draft)> = Vec::with_capacity(epochs.len());
    for epoch in epochs {
        let ledger = call.ledger_at(epoch).await?;
        drafts.push((time(&ledger, epoch), Draft::of(&ledger, &asset, epoch)));
    }
    let balances = drafts.into_iter().map(|(time, draft)| {
        let mut balance = draft.finish(&call);
        balance["time"] = time.into();
        balance
    });
    Ok(Value::from_iter(balances).into())
}

/// When an epoch begins, in milliseconds since 1970.
pub(crate) fn time(ledger: &Ledger, epoch: Epoch) -> u64 {
    epoch.get().saturating_mul(ledger.epoch_ms().unwrap_or_default())
}
