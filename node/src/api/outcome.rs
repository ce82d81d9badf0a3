//! What an action answered, as JSON: one shape an outcome, whichever way the action came (unsigned, or in an
//! envelope).

use ledger::outcome::{Autoseal, Held};
use ledger::seal::SealRef;
use ledger::{Outcome, Settlement, Statement, StatementId};
use serde_json::{Value, json};

use super::answer::Answer;
use super::backend::Receipt;
use super::balancing::sealed;
use super::call::Call;
use super::error::Fault;
use super::wire;

/// Seals that are shown under one look at the ledger, which nothing can be applied to meanwhile.
const AT_ONCE: usize = 64;

/// The answer to a receipt that is no refusal.
pub(crate) async fn answer(call: &Call, receipt: Receipt) -> Result<Answer, Fault> {
    let body = match &receipt.outcome {
        Outcome::Refused { refusal } => {
            return Err(Fault::Refused {
                refusal: refusal.clone(),
                now: Some(receipt.now),
            });
        }
        Outcome::Began { cluster, index } => json!({ "cluster": cluster, "index": index }),
        Outcome::Asset { index, .. } | Outcome::AuditRule { index } | Outcome::Node { index } => {
            json!({ "index": index })
        }
        Outcome::Roster { index, roster } => json!({ "roster": roster, "index": index }),
        Outcome::Approved { index, approvals } => json!({ "index": index, "approvals": approvals }),
        Outcome::Contract { index, contract } => {
            let mut body = wire::contract(contract);
            body["index"] = json!(index);
            body
        }
        Outcome::MeritOrder { contracts, .. } => contracts.iter().map(wire::contract).collect(),
        Outcome::Settled {
            index,
            count,
            autoseals,
            ..
        } => {
            let mut body = json!({ "accepted": count, "index": index });
            if !autoseals.is_empty() {
                body["autoseals"] = autoseals.iter().map(autoseal).collect();
            }
            body
        }
        Outcome::Sealed { index, seal } => sealed_now(call, *index, std::slice::from_ref(seal))
            .await?
            .pop()
            .unwrap_or_default(),
        Outcome::EpochSealed { index, seals, held } => {
            epoch_sealed(*index, sealed_now(call, *index, seals).await?, held)
        }
    };
    Ok(Answer::to(&receipt, body))
}

/// Seals that were just made, each with this node's token if it signed their block in time.
async fn sealed_now(call: &Call, block: u64, seals: &[SealRef]) -> Result<Vec<Value>, Fault> {
    // The seals of one action are of one epoch.
    let Some(epoch) = seals.first().map(|seal| seal.epoch) else {
        return Ok(Vec::new());
    };
    let signed = call.backend.signed(block).await;
    let mut answers = Vec::with_capacity(seals.len());
    for seals in seals.chunks(AT_ONCE) {
        let rendered: Vec<sealed::Sealed> = {
            let ledger = call.ledger_at(epoch).await?;
            let record = |seal: &SealRef| ledger.seal_record(&seal.asset, seal.epoch, Some(seal.version));
            // Seals are immutable and this one is applied, so there is a record of each.
            seals
                .iter()
                .filter_map(record)
                .map(|record| sealed::render(&ledger, record))
                .collect()
        };
        answers.extend(
            rendered
                .into_iter()
                .map(|seal| seal.finish(&*call.backend, signed)),
        );
        tokio::task::yield_now().await;
    }
    Ok(answers)
}

/// The answer to a whole-epoch sealing with no more of each seal than its name and digest.
pub(crate) async fn epoch_sealed_briefly(call: &Call, receipt: Receipt) -> Result<Answer, Fault> {
    let Outcome::EpochSealed { index, seals, held } = &receipt.outcome else {
        return answer(call, receipt).await;
    };
    let mut names: Vec<Value> = Vec::with_capacity(seals.len());
    for seals in seals.chunks(AT_ONCE) {
        // All are of one epoch, and there is none of no seals.
        let ledger = call.ledger_at(seals[0].epoch).await?;
        let record = |seal: &SealRef| ledger.seal_record(&seal.asset, seal.epoch, Some(seal.version));
        names.extend(seals.iter().filter_map(record).map(wire::seal_name));
    }
    Ok(Answer::to(&receipt, epoch_sealed(*index, names, held)))
}

fn epoch_sealed(index: u64, seals: Vec<Value>, held: &[Held]) -> Value {
    let held: Vec<Value> = held
        .iter()
        .map(|held| wire::held(&held.asset, &held.refusal))
        .collect();
    let block = (!seals.is_empty()).then_some(index);
    json!({ "seals": seals, "held": held, "index": index, "block": block })
}

/// What became of an `autoseal` within a batch.
pub(crate) fn autoseal(autoseal: &Autoseal) -> Value {
    match &autoseal.result {
        Ok(seal) => json!({
            "settlement": autoseal.settlement,
            "seal": { "assetId": seal.asset, "epoch": seal.epoch, "version": seal.version },
        }),
        Err(refusal) => json!({ "settlement": autoseal.settlement, "error": wire::refusal(refusal) }),
    }
}

/// The answer to a single settlement: the statement it became.
pub(crate) async fn settled(call: &Call, receipt: Receipt, settlement: &Settlement) -> Result<Answer, Fault> {
    let Outcome::Settled {
        index,
        first,
        autoseals,
        ..
    } = &receipt.outcome
    else {
        return answer(call, receipt).await;
    };
    let id = StatementId {
        index: *index,
        position: *first,
    };
    let statement: Option<Statement> = call
        .ledger_at(settlement.epoch)
        .await?
        .statement(settlement.epoch, id);
    let mut body = json!({ "statement": statement.as_ref().map(wire::statement), "index": index });
    if let Some(sealed) = autoseals.first() {
        body["autoseal"] = autoseal(sealed);
    }
    Ok(Answer::to(&receipt, body))
}
