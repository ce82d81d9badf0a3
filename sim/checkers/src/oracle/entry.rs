//! The canonical bytes of a log entry, read by code of our own: what the specification's section 7 says, and nothing
//! of the ledger's.
//!
//! What a signature covers is taken from the bytes as they stand, never encoded again: a decoder and an encoder
//! that are wrong alike would otherwise agree.

use std::collections::BTreeMap;
use std::ops::Range;

use super::digest::{Hash, digest};

/// A public key.
pub type Key = [u8; 32];
/// What makes an envelope of a signer the same one.
pub type Nonce = [u8; 16];

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The leader's time stamp, in milliseconds.
    pub at: u64,
    /// What happened.
    pub body: Body,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The cluster begins.
    Genesis(Genesis),
    /// Clients ask.
    Envelopes(Vec<Envelope>),
    /// Nodes sign blocks.
    Attestations(Vec<Attestation>),
    /// Time passes.
    Tick,
}

/// What a cluster begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// Its own bytes, whose digest is the cluster's id.
    pub bytes: Vec<u8>,
    /// How long an epoch is, in milliseconds.
    pub epoch_ms: u64,
    /// Nodes and their keys.
    pub nodes: Vec<(u64, Key)>,
    /// Keys of admins.
    pub admins: Vec<Key>,
    /// Keys of gateways.
    pub gateways: Vec<Key>,
    /// Whether gateways have every role.
    pub development: bool,
}

/// A signed action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who asks.
    pub signer: Key,
    /// Once.
    pub nonce: Nonce,
    /// Until when, in milliseconds.
    pub not_after: u64,
    /// What.
    pub action: Action,
    /// The action's own bytes.
    pub action_bytes: Vec<u8>,
    /// All that the signature covers, but for the domain and the cluster.
    pub signed: Vec<u8>,
    /// The signature.
    pub signature: [u8; 64],
}

/// A node's signature under the header of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// Who signs.
    pub node: u64,
    /// The index of the block.
    pub index: u64,
    /// The digest of the header.
    pub header: [u8; 32],
    /// The signature.
    pub signature: [u8; 64],
}

/// A settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Whose.
    pub meter: String,
    /// When.
    pub epoch: u64,
    /// Watt-hours.
    pub consumption: i64,
    /// As given.
    pub label: String,
    /// Grams.
    pub co2eq: i64,
    /// Seal the meter's epoch so many epochs earlier.
    pub autoseal: Option<u64>,
}

/// What is agreed in a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Its id.
    pub id: String,
    /// Its owner.
    pub asset: String,
    /// The other side.
    pub partner: String,
    /// `to` or `from`.
    pub direction: String,
    /// `as_available`, `matched` or `firm`.
    pub delivery: String,
    /// Watt-hours an epoch.
    pub energy: i64,
    /// The least of one booking.
    pub load_min: i64,
    /// The most of one epoch.
    pub load_max: Option<i64>,
    /// The most of its life.
    pub energy_total: Option<i64>,
    /// The first epoch.
    pub valid_from: Option<u64>,
    /// The last epoch.
    pub valid_until: Option<u64>,
    /// Millionths of the currency per kWh.
    pub price: i64,
}

/// What clients can ask.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the words of the specification's sections 8 and 9, as they stand there"
)]
pub enum Action {
    UpsertAsset {
        asset: String,
        kind: Option<String>,
        rule: Option<[Option<String>; 2]>,
        metadata: BTreeMap<String, String>,
    },
    AddContract {
        terms: Terms,
        status: String,
        priority: i64,
    },
    ChangeContract {
        contract: String,
        change: String,
    },
    SetMeritOrder {
        asset: String,
        contracts: Vec<String>,
    },
    Settle {
        settlements: Vec<Settlement>,
    },
    Seal {
        asset: String,
        epoch: u64,
    },
    Correct {
        asset: String,
        epoch: u64,
    },
    SealEpoch {
        epoch: u64,
        under: Option<String>,
    },
    SetAuditRule {
        asset: String,
        approvals: u64,
        auditors: Vec<Key>,
    },
    Approve {
        asset: String,
        epoch: u64,
    },
    RegisterNode {
        node: u64,
        key: Key,
        peer: Option<String>,
    },
    RevokeNode {
        node: u64,
    },
    PromoteNode {
        node: u64,
    },
    AddRoster {
        roster: Hash,
        meters: Vec<String>,
    },
    SettleRoster {
        roster: Hash,
        epoch: u64,
        label: String,
        rows: Vec<(u32, i64, i64)>,
    },
}

/// The entry of these bytes; `None` if they are none.
pub fn decode(bytes: &[u8]) -> Option<Entry> {
    let mut from = Reader { bytes, at: 0 };
    let entry = from.entry()?;
    (from.at == bytes.len()).then_some(entry)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, n: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.array::<1>()?[0])
    }

    fn uint(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn int(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn name(&mut self) -> Option<String> {
        let len = u16::from_be_bytes(self.array()?);
        String::from_utf8(self.take(len.into())?.to_vec()).ok()
    }

    fn text(&mut self) -> Option<String> {
        let len = usize::try_from(u32::from_be_bytes(self.array()?)).ok()?;
        String::from_utf8(self.take(len)?.to_vec()).ok()
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? {
            read(self).map(Some)
        } else {
            Some(None)
        }
    }

    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = u32::from_be_bytes(self.array()?);
        // Every element has a byte at least: more than there are bytes is a lie.
        if usize::try_from(count).ok()? > self.bytes.len() - self.at {
            return None;
        }
        (0..count).map(|_| read(self)).collect()
    }

    /// The bytes between here and where `read` ends, and what it read.
    fn spanned<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<(Range<usize>, T)> {
        let start = self.at;
        let value = read(self)?;
        Some((start..self.at, value))
    }

    fn entry(&mut self) -> Option<Entry> {
        if self.byte()? != 1 {
            return None;
        }
        let at = self.uint()?;
        let body = match self.byte()? {
            0 => Body::Genesis(self.genesis()?),
            1 => Body::Envelopes(self.list(Self::envelope)?),
            2 => Body::Attestations(self.list(Self::attestation)?),
            3 => Body::Tick,
            _ => return None,
        };
        Some(Entry { at, body })
    }

    fn genesis(&mut self) -> Option<Genesis> {
        let (span, mut genesis) = self.spanned(|from| {
            let (_salt, _created, epoch_ms) = (from.array::<32>()?, from.uint()?, from.uint()?);
            Some(Genesis {
                bytes: Vec::new(),
                epoch_ms,
                nodes: from.list(|from| Some((from.uint()?, from.array()?)))?,
                admins: from.list(Self::array)?,
                gateways: from.list(Self::array)?,
                development: from.flag()?,
            })
        })?;
        genesis.bytes = self.bytes[span].to_vec();
        Some(genesis)
    }

    fn envelope(&mut self) -> Option<Envelope> {
        let start = self.at;
        let (signer, nonce, not_after) = (self.array()?, self.array()?, self.uint()?);
        let (span, action) = self.spanned(Self::action)?;
        let signed = self.bytes[start..self.at].to_vec();
        let action_bytes = self.bytes[span].to_vec();
        Some(Envelope {
            signer,
            nonce,
            not_after,
            action,
            action_bytes,
            signed,
            signature: self.array()?,
        })
    }

    fn attestation(&mut self) -> Option<Attestation> {
        Some(Attestation {
            node: self.uint()?,
            index: self.uint()?,
            header: self.array()?,
            signature: self.array()?,
        })
    }

    fn action(&mut self) -> Option<Action> {
        Some(match self.byte()? {
            0 => Action::UpsertAsset {
                asset: self.name()?,
                kind: self.option(Self::text)?,
                rule: self.option(|from| Some([from.option(Self::name)?, from.option(Self::name)?]))?,
                metadata: self
                    .list(|from| Some((from.text()?, from.text()?)))?
                    .into_iter()
                    .collect(),
            },
            1 => Action::AddContract {
                terms: self.terms()?,
                status: self.name()?,
                priority: self.int()?,
            },
            2 => Action::ChangeContract {
                contract: self.name()?,
                change: self.name()?,
            },
            3 => Action::SetMeritOrder {
                asset: self.name()?,
                contracts: self.list(Self::name)?,
            },
            4 => Action::Settle {
                settlements: self.list(Self::settlement)?,
            },
            5 => Action::Seal {
                asset: self.name()?,
                epoch: self.uint()?,
            },
            6 => Action::Correct {
                asset: self.name()?,
                epoch: self.uint()?,
            },
            7 => Action::SealEpoch {
                epoch: self.uint()?,
                under: self.option(Self::name)?,
            },
            8 => Action::SetAuditRule {
                asset: self.name()?,
                approvals: self.uint()?,
                auditors: self.list(Self::array)?,
            },
            9 => Action::Approve {
                asset: self.name()?,
                epoch: self.uint()?,
            },
            10 => Action::RegisterNode {
                node: self.uint()?,
                key: self.array()?,
                peer: self.option(Self::text)?,
            },
            11 => Action::RevokeNode { node: self.uint()? },
            12 => Action::PromoteNode { node: self.uint()? },
            13 => {
                let (span, meters) = self.spanned(|from| from.list(Self::name))?;
                Action::AddRoster {
                    roster: digest("roster", &self.bytes[span]),
                    meters,
                }
            }
            14 => Action::SettleRoster {
                roster: self.array()?,
                epoch: self.uint()?,
                label: self.name()?,
                rows: self.list(|from| {
                    let place = u32::from_be_bytes(from.array()?);
                    Some((place, from.int()?, from.int()?))
                })?,
            },
            _ => return None,
        })
    }

    fn terms(&mut self) -> Option<Terms> {
        Some(Terms {
            id: self.name()?,
            asset: self.name()?,
            partner: self.name()?,
            direction: self.name()?,
            delivery: self.name()?,
            energy: self.int()?,
            load_min: self.int()?,
            load_max: self.option(Self::int)?,
            energy_total: self.option(Self::int)?,
            valid_from: self.option(Self::uint)?,
            valid_until: self.option(Self::uint)?,
            price: self.int()?,
        })
    }

    fn settlement(&mut self) -> Option<Settlement> {
        Some(Settlement {
            meter: self.name()?,
            epoch: self.uint()?,
            consumption: self.int()?,
            label: self.name()?,
            co2eq: self.int()?,
            autoseal: self.option(Self::uint)?,
        })
    }
}
