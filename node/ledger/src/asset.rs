//! Assets: anything that energy is booked to. Made by being named, never removed.
//!
//! Inside the ledger an asset is a number (a handle), given in the order in which assets were first named; the root is 0.

use crate::audit::AuditRule;
use crate::canonical::canonical_struct;
use crate::chunks::Chunks;
use crate::event::Event;
use crate::id::name;
use crate::ledger::{Ledger, Work};
use crate::outcome::Outcome;
use crate::refusal::Refusal;
use crate::rule::Rule;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

name!(
    /// The name of an asset: 1–128 characters, no control characters. Ordered by its bytes.
    AssetId, "an asset id", reserved: false
);

/// The root: upstream of everything, never sealed, without rule or contracts.
pub static ROOT: LazyLock<AssetId> =
    LazyLock::new(|| AssetId::try_from("eaf_generic_balancegroup").expect("the root's name is a valid name"));

/// An asset's metadata may take this many bytes, names and values together.
pub const MAX_METADATA: usize = 4096;

/// An asset as the ledger numbers it.
pub(crate) type Handle = u32;
/// The root's number.
pub(crate) const ROOT_HANDLE: Handle = 0;

/// What is known of an asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    /// Its name.
    pub id: AssetId,
    /// Its type, if one was given.
    pub kind: Option<String>,
    /// Its balancing rule.
    pub rule: Rule,
    /// Its other fields: name → JSON text.
    pub metadata: BTreeMap<String, String>,
    /// Its audit rule.
    pub audit: AuditRule,
    /// The index of the entry that first named it.
    pub created: u64,
}

canonical_struct!(Asset {
    id,
    kind,
    rule,
    metadata,
    audit,
    created
});

/// An asset with the ledger's indexes on it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) asset: Asset,
    /// Whose rules name it.
    pub(crate) downstream: BTreeSet<Handle>,
    /// The contracts that it owns, by number.
    pub(crate) contracts: Vec<u32>,
}

impl Record {
    fn new(id: AssetId, created: u64) -> Record {
        let asset = Asset {
            id,
            kind: None,
            rule: Rule::default(),
            metadata: BTreeMap::new(),
            audit: AuditRule::default(),
            created,
        };
        Record {
            asset,
            downstream: BTreeSet::new(),
            contracts: Vec::new(),
        }
    }
}

/// What every settlement looks up and changes, apart from the rest so that a million assets of it fit into the caches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    from: Handle,
    to: Handle,
    booked: u64,
}

/// No handle: an asset's name takes more than a byte, so there are never so many.
const NOBODY: Handle = Handle::MAX;

impl Links {
    const NONE: Links = Links {
        from: NOBODY,
        to: NOBODY,
        booked: 0,
    };

    /// Whom a deficit is drawn from, if the rule names someone.
    pub(crate) fn from(self) -> Option<Handle> {
        (self.from != NOBODY).then_some(self.from)
    }

    /// Whom a surplus is delivered to, if the rule names someone.
    pub(crate) fn to(self) -> Option<Handle> {
        (self.to != NOBODY).then_some(self.to)
    }

    /// Both upstreams, the root where none is named.
    pub(crate) fn upstreams(self) -> [Handle; 2] {
        [
            self.from().unwrap_or(ROOT_HANDLE),
            self.to().unwrap_or(ROOT_HANDLE),
        ]
    }

    /// The index of the entry that last booked a statement on it. The first entry of a log books none.
    pub(crate) fn booked(self) -> Option<u64> {
        (self.booked != 0).then_some(self.booked)
    }
}

/// All assets, by number and by name.
#[derive(Debug)]
pub(crate) struct Assets {
    records: Chunks<Record>,
    /// Of the same assets.
    links: Vec<Links>,
    by_id: BTreeMap<AssetId, Handle>,
    /// The same for look-ups, which every settlement makes.
    #[expect(
        clippy::disallowed_types,
        reason = "it is only asked for single names, so its order can't leak"
    )]
    index: std::collections::HashMap<AssetId, Handle>,
}

impl Assets {
    pub(crate) fn new() -> Assets {
        let mut assets = Assets {
            records: Chunks::default(),
            links: Vec::new(),
            by_id: BTreeMap::new(),
            index: Default::default(),
        };
        assets.push(Record::new(ROOT.clone(), 0));
        assets
    }

    fn push(&mut self, record: Record) -> Handle {
        // Names of 2^32 assets would not fit into memory.
        let handle = Handle::try_from(self.records.len()).expect("less than 2^32 assets");
        self.by_id.insert(record.asset.id.clone(), handle);
        self.index.insert(record.asset.id.clone(), handle);
        self.records.push(record);
        self.links.push(Links::NONE);
        handle
    }

    pub(crate) fn get(&self, handle: Handle) -> &Record {
        self.records.at(handle as usize)
    }

    pub(crate) fn get_mut(&mut self, handle: Handle) -> &mut Record {
        self.records.at_mut(handle as usize)
    }

    pub(crate) fn id(&self, handle: Handle) -> &AssetId {
        &self.get(handle).asset.id
    }

    pub(crate) fn handle(&self, id: &str) -> Option<Handle> {
        self.index.get(id).copied()
    }

    /// The asset's number, or the refusal that it is unknown.
    pub(crate) fn known(&self, id: &AssetId) -> Result<Handle, Refusal> {
        self.handle(id.as_str())
            .ok_or_else(|| Refusal::UnknownAsset { asset: id.clone() })
    }

    /// In id order.
    pub(crate) fn ordered(&self) -> impl Iterator<Item = (&AssetId, Handle)> {
        self.by_id.iter().map(|(id, handle)| (id, *handle))
    }

    /// In the order in which they were first named, the root first; a clone shares them.
    pub(crate) fn records(&self) -> &Chunks<Record> {
        &self.records
    }

    /// What a snapshot says of them, as it is now; the records are shared, not copied.
    pub(crate) fn capture(&self) -> (Chunks<Record>, Vec<Links>) {
        (self.records.clone(), self.links.clone())
    }

    /// Takes an asset back from a snapshot. `false` if there is one of that name, or if it isn't the root that comes first.
    pub(crate) fn restore(&mut self, asset: Asset) -> bool {
        if asset.id == *ROOT {
            let untouched = self.records.len() == 1;
            self.get_mut(ROOT_HANDLE).asset = asset;
            return untouched;
        }
        let fresh = !self.by_id.contains_key(&asset.id);
        if fresh {
            let created = asset.created;
            let mut record = Record::new(asset.id.clone(), created);
            record.asset = asset;
            self.push(record);
        }
        fresh
    }

    /// Sets the handles and the downstream index after the asset's rule was replaced.
    pub(crate) fn link(&mut self, handle: Handle, from: Option<Handle>, to: Option<Handle>) {
        let links = &mut self.links[handle as usize];
        let old = [links.from(), links.to()];
        (links.from, links.to) = (from.unwrap_or(NOBODY), to.unwrap_or(NOBODY));
        for upstream in old
            .into_iter()
            .flatten()
            .filter(|_| !planted!("moved-asset-stays"))
        {
            self.get_mut(upstream).downstream.remove(&handle);
        }
        for upstream in [from, to].into_iter().flatten() {
            self.get_mut(upstream).downstream.insert(handle);
        }
    }

    /// Its upstreams, and when it was last booked on.
    pub(crate) fn links(&self, handle: Handle) -> Links {
        self.links[handle as usize]
    }

    /// The entry at `index` booked a statement on it.
    pub(crate) fn booked(&mut self, handle: Handle, index: u64) {
        self.links[handle as usize].booked = index;
    }
}

impl Ledger {
    /// The asset of this name, made if there is none yet.
    pub(crate) fn named(&mut self, work: &mut Work, id: &AssetId) -> Handle {
        if let Some(handle) = self.assets.handle(id.as_str()) {
            return handle;
        }
        let handle = self.assets.push(Record::new(id.clone(), work.index));
        work.event(Event::AssetAdded { asset: id.clone() });
        handle
    }

    /// Makes an asset or changes one: a given type or rule replaces, other fields are merged.
    pub(crate) fn upsert_asset(
        &mut self,
        work: &mut Work,
        id: &AssetId,
        kind: Option<&String>,
        rule: Option<&Rule>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Outcome, Refusal> {
        let known = self.assets.handle(id.as_str());
        if let Some(rule) = rule {
            self.check_rule(id, rule)?;
        }
        let mut merged = known
            .map(|handle| self.assets.get(handle).asset.metadata.clone())
            .unwrap_or_default();
        merged.extend(metadata.iter().map(|(name, value)| (name.clone(), value.clone())));
        let fields: usize = merged.iter().map(|(name, value)| name.len() + value.len()).sum();
        let bytes = fields + kind.map_or(0, String::len);
        if bytes > MAX_METADATA {
            return Err(Refusal::MetadataTooLarge {
                bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
            });
        }

        let handle = self.named(work, id);
        let asset = &mut self.assets.get_mut(handle).asset;
        asset.metadata = merged;
        if let Some(kind) = kind {
            asset.kind = Some(kind.clone());
        }
        if let Some(rule) = rule {
            self.set_rule(work, handle, rule);
        }
        Ok(Outcome::Asset {
            index: work.index,
            created: known.is_none(),
        })
    }
}
