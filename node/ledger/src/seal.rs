//! A seal: an immutable balance of `(asset, epoch)` over a prefix of its journal, and how it is made.
//!
//! [`close`] is the six steps of sealing as a pure function. The ledger seals with it; the balancing actors recompute with it on their
//! own memory. It books nothing: it returns the statements that must be booked.

use crate::asset::AssetId;
use crate::balance::{Balance, Flow};
use crate::canonical::{Canonical, canonical_struct};
use crate::contract::{Contract, ContractId, Direction};
use crate::digest::{ClusterId, Digest, digest_of};
use crate::key::PublicKey;
use crate::merit_order::{PartnerView, Reason, intensity, take, value};
use crate::merkle::Frontier;
use crate::statement::{Kind, Statement, StatementId};
use crate::units::{Epoch, GramsCo2, MicroCurrency, OutOfRange, Wh};
use serde::{Deserialize, Serialize};

/// What a contract did in a seal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Served {
    /// Which contract.
    pub contract: ContractId,
    /// How much it booked.
    pub energy: Wh,
    /// Why nothing, where it booked nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

canonical_struct!(Served {
    contract,
    energy,
    reason
});

/// The content of a seal: everything that its digest vouches for.
///
/// The digest is `SHA-256("gridseal/seal/v1\0" ‖ canonical bytes)`, the fields being encoded in the order in which
/// they stand here; the JSON form has the same fields under the same names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// In which cluster.
    pub cluster: ClusterId,
    /// Of which asset.
    pub asset: AssetId,
    /// In which epoch.
    pub epoch: Epoch,
    /// 0, then one more with each correction.
    pub version: u32,
    /// How many statements of the journal it covers.
    pub watermark: u64,
    /// The digest of the version before; zeros for version 0.
    pub previous: Digest,
    /// The RFC 6962 root over the digests of those statements.
    pub root: Digest,
    /// Whom a deficit is drawn from.
    pub upstream_from: AssetId,
    /// Whom a surplus is delivered to.
    pub upstream_to: AssetId,
    /// Step 2, over the part of the journal past the watermark before, and before any contract.
    pub residual: Wh,
    /// Step 4, likewise.
    pub position: Wh,
    /// What came in, over the whole watermark, own consumption included.
    pub energy_in: Wh,
    /// What went out, over the whole watermark, own production included.
    pub energy_out: Wh,
    /// The CO2 that came in.
    pub co2_in: GramsCo2,
    /// The CO2 that went out.
    pub co2_out: GramsCo2,
    /// Every contract that was walked, in order.
    pub contracts: Vec<Served>,
    /// The auditors who approved, sorted.
    pub approvals: Vec<PublicKey>,
}

canonical_struct!(Seal {
    cluster,
    asset,
    epoch,
    version,
    watermark,
    previous,
    root,
    upstream_from,
    upstream_to,
    residual,
    position,
    energy_in,
    energy_out,
    co2_in,
    co2_out,
    contracts,
    approvals
});

impl Seal {
    /// The digest of the content: a leaf of its block's Merkle tree.
    pub fn digest(&self) -> Digest {
        digest_of("seal", |out| self.encode(out))
    }

    /// Its name.
    pub fn id(&self) -> SealRef {
        SealRef {
            asset: self.asset.clone(),
            epoch: self.epoch,
            version: self.version,
        }
    }
}

/// The name of a seal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SealRef {
    /// Of which asset.
    pub asset: AssetId,
    /// In which epoch.
    pub epoch: Epoch,
    /// Which version.
    pub version: u32,
}

canonical_struct!(SealRef {
    asset,
    epoch,
    version
});

impl std::fmt::Display for SealRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} v{}", self.asset, self.epoch, self.version)
    }
}

/// A contract's turn in the merit order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Which contract.
    pub contract: ContractId,
    /// What was seen of the partner at this moment, everything booked before this turn included.
    pub partner: PartnerView,
    /// How much it took.
    pub taken: Wh,
    /// Why nothing, where it took nothing.
    pub reason: Option<Reason>,
    /// The contract statement and its counter, where it took something.
    pub booked: Option<(Statement, Statement)>,
}

/// What a sealing starts from. All of it is plain data of one asset in one epoch.
#[derive(Clone, Debug)]
pub struct Opening<'a> {
    /// In which cluster.
    pub cluster: ClusterId,
    /// Of which asset.
    pub asset: AssetId,
    /// In which epoch.
    pub epoch: Epoch,
    /// The version to be made.
    pub version: u32,
    /// The digest of the version before; zeros for version 0.
    pub previous: Digest,
    /// Whom a deficit is drawn from.
    pub upstream_from: AssetId,
    /// Whom a surplus is delivered to.
    pub upstream_to: AssetId,
    /// The balance of the journal up to the watermark.
    pub sealed: Balance,
    /// The balance past it.
    pub open: Balance,
    /// The Merkle frontier over the whole journal so far, both parts.
    pub frontier: Frontier,
    /// The asset's own contracts that are active and valid in the epoch, in merit order, each with what it booked in
    /// this epoch already.
    pub contracts: Vec<(&'a Contract, i128)>,
    /// The auditors who approved, sorted.
    pub approvals: Vec<PublicKey>,
    /// The id of the first statement to be booked.
    pub first: StatementId,
}

/// What a sealing comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The content.
    pub seal: Seal,
    /// Its digest.
    pub digest: Digest,
    /// The statement of step 3.
    pub residual: Option<Statement>,
    /// Step 5.
    pub turns: Vec<Turn>,
    /// The balance up to the new watermark.
    pub sealed: Balance,
    /// The frontier up to the new watermark.
    pub frontier: Frontier,
}

impl Closed {
    /// The statements to book, in order.
    pub fn statements(&self) -> impl Iterator<Item = &Statement> {
        let traded = self.turns.iter().filter_map(|turn| turn.booked.as_ref());
        self.residual
            .iter()
            .chain(traded.flat_map(|(contract, counter)| [contract, counter]))
    }
}

/// The other parties' side of a sealing.
pub trait Partners {
    /// A statement of this sealing was made; it may touch anyone.
    fn booked(&mut self, statement: &Statement);

    /// What is seen of the partner of `contract` at this moment, [`Partners::booked`] statements included.
    fn view(&mut self, contract: &Contract) -> PartnerView;
}

/// The six steps of sealing.
///
/// # Errors
/// [`OutOfRange`] if any figure of the seal or of a statement would pass 2^53 − 1.
pub fn close(opening: Opening<'_>, partners: &mut dyn Partners) -> Result<Closed, OutOfRange> {
    let mut draft = Draft {
        asset: &opening.asset,
        epoch: opening.epoch,
        next: opening.first,
        total: opening.sealed,
        frontier: opening.frontier,
        partners,
    };
    draft.total.merge(&opening.open);

    let residual = opening.open.residual();
    let (upstream_from, upstream_to) = (&opening.upstream_from, &opening.upstream_to);
    let closing = if residual.energy < 0 {
        Some(draft.book(upstream_from, &opening.asset, negated(residual), Kind::Residual)?)
    } else if residual.energy > 0 || residual.co2 != 0 {
        Some(draft.book(&opening.asset, upstream_to, residual, Kind::Residual)?)
    } else {
        None
    };

    let offered = opening.open.position();
    let mut position = offered.energy;
    let mut turns = Vec::with_capacity(opening.contracts.len());
    for (contract, booked_in_epoch) in &opening.contracts {
        let terms = &contract.terms;
        let partner = draft.partners.view(contract);
        let turn = take(terms, *booked_in_epoch, contract.balanced, position, partner);
        let taken = Wh::new(turn.energy)?;
        let booked = match (turn.energy, partner) {
            (0, _) | (_, PartnerView::Sealed {}) => None,
            (energy, PartnerView::Open { position: theirs }) => {
                let trade = Kind::Contract {
                    contract: terms.id.clone(),
                    value: MicroCurrency::new(value(terms, energy))?,
                };
                let mirror = Kind::Counter {
                    contract: terms.id.clone(),
                };
                Some(match terms.direction {
                    Direction::To => {
                        position -= energy;
                        let flow = Flow {
                            energy,
                            co2: intensity(offered, energy),
                        };
                        (
                            draft.book(&opening.asset, &terms.partner, flow, trade)?,
                            draft.book(upstream_to, &opening.asset, flow, mirror)?,
                        )
                    }
                    Direction::From => {
                        position += energy;
                        let flow = Flow {
                            energy,
                            co2: intensity(theirs, energy),
                        };
                        (
                            draft.book(&terms.partner, &opening.asset, flow, trade)?,
                            draft.book(&opening.asset, upstream_from, flow, mirror)?,
                        )
                    }
                })
            }
        };
        turns.push(Turn {
            contract: terms.id.clone(),
            partner,
            taken,
            reason: turn.reason,
            booked,
        });
    }

    let (sealed, mut frontier) = (draft.total, draft.frontier);
    // It is kept as long as the seal, and there are as many as assets.
    frontier.shrink();
    let (all_in, all_out) = (sealed.total_in(), sealed.total_out());
    let contracts = turns
        .iter()
        .map(|turn| Served {
            contract: turn.contract.clone(),
            energy: turn.taken,
            reason: turn.reason,
        })
        .collect();
    let seal = Seal {
        cluster: opening.cluster,
        asset: opening.asset,
        epoch: opening.epoch,
        version: opening.version,
        watermark: frontier.len(),
        previous: opening.previous,
        root: frontier.root(),
        upstream_from: opening.upstream_from,
        upstream_to: opening.upstream_to,
        residual: Wh::new(residual.energy)?,
        position: Wh::new(offered.energy)?,
        energy_in: Wh::new(all_in.energy)?,
        energy_out: Wh::new(all_out.energy)?,
        co2_in: GramsCo2::new(all_in.co2)?,
        co2_out: GramsCo2::new(all_out.co2)?,
        contracts,
        approvals: opening.approvals,
    };
    let digest = seal.digest();
    Ok(Closed {
        seal,
        digest,
        residual: closing,
        turns,
        sealed,
        frontier,
    })
}

fn negated(flow: Flow) -> Flow {
    Flow {
        energy: -flow.energy,
        co2: -flow.co2,
    }
}

/// A sealing in the making: everything that a new statement changes.
struct Draft<'a> {
    asset: &'a AssetId,
    epoch: Epoch,
    next: StatementId,
    total: Balance,
    frontier: Frontier,
    partners: &'a mut dyn Partners,
}

impl Draft<'_> {
    /// Makes a statement. All of a sealing's statements touch its asset, so each goes into its journal.
    fn book(
        &mut self,
        from: &AssetId,
        to: &AssetId,
        flow: Flow,
        kind: Kind,
    ) -> Result<Statement, OutOfRange> {
        let statement = Statement {
            id: self.next,
            from: from.clone(),
            to: to.clone(),
            epoch: self.epoch,
            energy: Wh::new(flow.energy)?,
            co2eq: GramsCo2::new(flow.co2)?,
            kind,
        };
        // An entry with 2^32 statements would not fit into any log.
        self.next.position = self.next.position.saturating_add(1);
        self.total.add(self.asset, &statement);
        self.frontier.push(statement.digest());
        self.partners.booked(&statement);
        Ok(statement)
    }
}
