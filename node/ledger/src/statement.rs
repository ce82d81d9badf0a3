//! A statement: one booking `from → to` of energy in an epoch. Nothing ever changes or removes one.

use crate::asset::AssetId;
use crate::canonical::{Canonical, DecodeError, Decoder, Encoder, canonical_struct, words};
use crate::contract::ContractId;
use crate::digest::{Digest, digest_of};
use crate::id::name;
use crate::units::{Epoch, GramsCo2, MicroCurrency, Wh};
use serde::{Deserialize, Serialize};

name!(
    /// The label of a metered statement: 1–128 characters, no control characters, no leading dot.
    Label, "a label", reserved: true
);

/// The label of a residual.
pub const LABEL_RESIDUAL: &str = ".end";
/// The label of a contract's two statements.
pub const LABEL_CONTRACT: &str = ".ppa";

/// Which log entry booked a statement, and at which place within that entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StatementId {
    /// The log index of the entry.
    pub index: u64,
    /// How many statements the entry had booked before, in all epochs.
    pub position: u32,
}

canonical_struct!(StatementId { index, position });

impl std::fmt::Display for StatementId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.index, self.position)
    }
}

words!(
    /// On which side of a metered statement its meter stands.
    MeterSide: "side" {
        /// The meter delivered.
        From = "from",
        /// The meter drew.
        To = "to",
    }
);

impl MeterSide {
    /// The other one.
    pub fn other(self) -> MeterSide {
        match self {
            MeterSide::From => MeterSide::To,
            MeterSide::To => MeterSide::From,
        }
    }
}

words!(
    /// The four kinds, without what belongs to them.
    KindName: "kind" {
        /// Measured.
        Metered = "metered",
        /// The closing entry of a seal.
        Residual = "residual",
        /// A trade.
        Contract = "contract",
        /// Its mirror towards the owner's upstream.
        Counter = "counter",
    }
);

/// Why a statement was booked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A settlement; the meter on this side owns it.
    Metered {
        /// Where the meter stands.
        meter: MeterSide,
        /// As given by the meter operator.
        label: Label,
    },
    /// Step 3 of sealing.
    Residual,
    /// Step 5 of sealing: what the contract's parties trade.
    Contract {
        /// Under which contract.
        contract: ContractId,
        /// What it costs.
        value: MicroCurrency,
    },
    /// Step 5 of sealing: the same energy between the owner and its upstream, without value.
    Counter {
        /// Under which contract.
        contract: ContractId,
    },
}

/// One booking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// When it was booked.
    pub id: StatementId,
    /// Who delivered.
    pub from: AssetId,
    /// Who received.
    pub to: AssetId,
    /// The time unit it belongs to.
    pub epoch: Epoch,
    /// How much, never negative.
    pub energy: Wh,
    /// The CO2 it carries, signed.
    pub co2eq: GramsCo2,
    /// Why.
    pub kind: Kind,
}

impl Statement {
    /// The kind's bare name.
    pub fn kind_name(&self) -> KindName {
        match self.kind {
            Kind::Metered { .. } => KindName::Metered,
            Kind::Residual => KindName::Residual,
            Kind::Contract { .. } => KindName::Contract,
            Kind::Counter { .. } => KindName::Counter,
        }
    }

    /// The label: the operator's, or one of the ledger's own.
    pub fn label(&self) -> &str {
        match &self.kind {
            Kind::Metered { label, .. } => label.as_str(),
            Kind::Residual => LABEL_RESIDUAL,
            Kind::Contract { .. } | Kind::Counter { .. } => LABEL_CONTRACT,
        }
    }

    /// The meter that owns a metered statement.
    pub fn meter(&self) -> Option<&AssetId> {
        match self.kind {
            Kind::Metered {
                meter: MeterSide::From,
                ..
            } => Some(&self.from),
            Kind::Metered {
                meter: MeterSide::To, ..
            } => Some(&self.to),
            _ => None,
        }
    }

    /// The contract of a contract or counter statement.
    pub fn contract(&self) -> Option<&ContractId> {
        match &self.kind {
            Kind::Contract { contract, .. } | Kind::Counter { contract } => Some(contract),
            _ => None,
        }
    }

    /// What it costs: 0 on a counter, nothing on statements without a contract.
    pub fn value(&self) -> Option<MicroCurrency> {
        match self.kind {
            Kind::Contract { value, .. } => Some(value),
            Kind::Counter { .. } => Some(MicroCurrency::ZERO),
            _ => None,
        }
    }

    /// Whether `asset` stands on either side.
    pub fn touches(&self, asset: &AssetId) -> bool {
        self.from == *asset || self.to == *asset
    }

    /// The digest of its canonical bytes; the leaf of a journal's Merkle tree.
    pub fn digest(&self) -> Digest {
        self.parts().digest()
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            id: self.id,
            from: &self.from,
            to: &self.to,
            epoch: self.epoch,
            energy: self.energy.get(),
            co2eq: self.co2eq.get(),
            kind: self.kind_name(),
            label: self.label(),
            meter: self.meter(),
            contract: self.contract(),
            value: self.value(),
        }
    }
}

/// A statement's fields, wherever they lie: whoever keeps statements otherwise hashes them without making them first.
struct Parts<'a> {
    id: StatementId,
    from: &'a AssetId,
    to: &'a AssetId,
    epoch: Epoch,
    energy: i64,
    co2eq: i64,
    kind: KindName,
    label: &'a str,
    meter: Option<&'a AssetId>,
    contract: Option<&'a ContractId>,
    value: Option<MicroCurrency>,
}

impl Parts<'_> {
    /// `index, position, from, to, epoch, energy, co2eq, kind, label, meter?, contract?, value?`.
    fn encode(&self, out: &mut Encoder) {
        self.id.encode(out);
        self.from.encode(out);
        self.to.encode(out);
        self.epoch.encode(out);
        out.int(self.energy);
        out.int(self.co2eq);
        self.kind.encode(out);
        out.text(self.label);
        out.optional(self.meter);
        out.optional(self.contract);
        out.optional(self.value.as_ref());
    }

    fn digest(&self) -> Digest {
        digest_of("statement", |out| self.encode(out))
    }
}

/// A metered statement's fields, to be hashed without making one: journals are long, and nobody wants their statements.
#[derive(Clone, Copy, Debug)]
pub struct Metered<'a> {
    /// When it was booked.
    pub id: StatementId,
    /// Who delivered.
    pub from: &'a AssetId,
    /// Who received.
    pub to: &'a AssetId,
    /// The time unit it belongs to.
    pub epoch: Epoch,
    /// In watt-hours.
    pub energy: i64,
    /// In grams.
    pub co2eq: i64,
    /// Where the meter stands.
    pub meter: MeterSide,
    /// As given by the meter operator.
    pub label: &'a Label,
}

impl Metered<'_> {
    /// What [`Statement::digest`] of the same statement is.
    pub fn digest(&self) -> Digest {
        let parts = Parts {
            id: self.id,
            from: self.from,
            to: self.to,
            epoch: self.epoch,
            energy: self.energy,
            co2eq: self.co2eq,
            kind: KindName::Metered,
            label: self.label.as_str(),
            meter: Some(match self.meter {
                MeterSide::From => self.from,
                MeterSide::To => self.to,
            }),
            contract: None,
            value: None,
        };
        parts.digest()
    }
}

impl Canonical for Statement {
    fn encode(&self, out: &mut Encoder) {
        self.parts().encode(out);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        const INVALID: DecodeError = DecodeError::Invalid { what: "statement" };
        let id = StatementId::decode(from)?;
        let (source, target) = (AssetId::decode(from)?, AssetId::decode(from)?);
        let epoch = Epoch::decode(from)?;
        let (energy, co2eq) = (Wh::decode(from)?, GramsCo2::decode(from)?);
        let kind = KindName::decode(from)?;
        let label = from.text()?;
        let meter = Option::<AssetId>::decode(from)?;
        let contract = Option::<ContractId>::decode(from)?;
        let value = Option::<MicroCurrency>::decode(from)?;
        let kind = match (kind, label, meter, contract, value) {
            (KindName::Metered, label, Some(meter), None, None) => Kind::Metered {
                meter: match meter {
                    m if m == source => MeterSide::From,
                    m if m == target => MeterSide::To,
                    _ => return Err(INVALID),
                },
                label: Label::try_from(label).map_err(|_| INVALID)?,
            },
            (KindName::Residual, LABEL_RESIDUAL, None, None, None) => Kind::Residual,
            (KindName::Contract, LABEL_CONTRACT, None, Some(contract), Some(value)) => {
                Kind::Contract { contract, value }
            }
            (KindName::Counter, LABEL_CONTRACT, None, Some(contract), Some(MicroCurrency::ZERO)) => {
                Kind::Counter { contract }
            }
            _ => return Err(INVALID),
        };
        if energy.get() < 0 || source == target {
            return Err(INVALID);
        }
        Ok(Statement {
            id,
            from: source,
            to: target,
            epoch,
            energy,
            co2eq,
            kind,
        })
    }
}
