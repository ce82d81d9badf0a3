//! Answers: what a node says of its books, asked through the API, is what stands in the oracle's.
//!
//! The ledgers are compared entry by entry elsewhere ([`crate::oracle::judge`]), and nodes with each other
//! ([`crate::agreement`]). This is about what lies between a ledger and its users: journals, balances, contracts and
//! rules as they are read, out of memory or out of the archive. An answer may have more fields than are looked at here.

mod figures;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use self::figures::{Flows, balance_sum, closed_from, figure, peers};
use crate::history::{Asked, History};
use crate::oracle::book::Book;
use crate::oracle::digest::{self, hex};
use crate::oracle::model::{Contract, ROOT, Rule, Seal, Statement};
use crate::oracle::proof;

/// The name under which an audit of a version is known: so many bytes of a digest of which it is.
pub fn audit_id(asset: &str, epoch: u64, version: usize) -> String {
    let name = format!("{asset}/{epoch}/{version}");
    digest::base64url(&digest::digest("audit-id", name.as_bytes())[..12])
}

/// Everything that nodes show in the end, against the oracle's books after the whole log.
pub fn check(history: &History, book: &Book) -> Vec<String> {
    let books = Books::new(book);
    let mut found = Vec::new();
    // All nodes show the same journals and contracts (that is agreement's to check), so one is enough.
    if let Some((node, shown)) = history.shown.iter().next() {
        for ((asset, epoch), journal) in &shown.journals {
            if let Err(what) = books.journal(asset, *epoch, journal) {
                found.push(format!("n{node} shows of {asset} in {epoch} a journal: {what}"));
            }
        }
        if let Err(what) = books.contracts(book.oracle.contracts.iter().collect(), &shown.contracts) {
            found.push(format!("n{node} shows contracts: {what}"));
        }
    }
    for (node, shown) in &history.shown {
        for asked in &shown.asked {
            if let Err(what) = books.answer(asked) {
                let (action, params) = (&asked.action, &asked.params);
                found.push(format!("n{node} answers {action} {params}: {what}"));
            }
        }
    }
    found
}

/// By asset and epoch, in order.
type ByAsset<'a, T> = BTreeMap<&'a str, BTreeMap<u64, Vec<&'a T>>>;

/// The oracle's books, and an index to them.
struct Books<'a> {
    book: &'a Book,
    journals: ByAsset<'a, Statement>,
    versions: ByAsset<'a, Seal>,
}

type Verdict = Result<(), String>;

fn same(what: &str, shown: &Value, expected: &Value) -> Verdict {
    if shown == expected {
        return Ok(());
    }
    Err(format!("{what} is {shown}, and not {expected}"))
}

/// An asset that nobody ever named has no books.
fn unknown(shown: &Value) -> Verdict {
    same("its code", &shown["error"]["code"], &json!("unknown_asset"))
}

fn all_same<const N: usize>(shown: &Value, expected: [(&str, Value); N]) -> Verdict {
    expected
        .into_iter()
        .try_for_each(|(field, value)| same(field, &shown[field], &value))
}

impl<'a> Books<'a> {
    fn new(book: &'a Book) -> Self {
        let mut journals: ByAsset<'_, Statement> = BTreeMap::new();
        for s in &book.oracle.statements {
            for side in [&s.from, &s.to] {
                let epochs = journals.entry(side).or_default();
                epochs.entry(s.epoch).or_default().push(s);
            }
        }
        let mut versions: ByAsset<'_, Seal> = BTreeMap::new();
        for seal in &book.oracle.seals {
            let epochs = versions.entry(&seal.asset).or_default();
            epochs.entry(seal.epoch).or_default().push(seal);
        }
        Books {
            book,
            journals,
            versions,
        }
    }

    fn statements(&self, asset: &str, epoch: u64) -> &[&'a Statement] {
        let of = self.journals.get(asset).and_then(|epochs| epochs.get(&epoch));
        of.map_or(&[], Vec::as_slice)
    }

    fn seals(&self, asset: &str, epoch: u64) -> &[&'a Seal] {
        let of = self.versions.get(asset).and_then(|epochs| epochs.get(&epoch));
        of.map_or(&[], Vec::as_slice)
    }

    fn rule(&self, asset: &str) -> Rule {
        self.book.oracle.rules.get(asset).cloned().unwrap_or_default()
    }

    fn upstreams(&self, asset: &str) -> (String, String) {
        let rule = self.rule(asset);
        let or_root = |upstream: Option<String>| upstream.unwrap_or_else(|| ROOT.to_owned());
        (or_root(rule.from), or_root(rule.to))
    }

    /// What was answered to a question of any kind.
    fn answer(&self, asked: &Asked) -> Verdict {
        let (params, body) = (&asked.params, &asked.body);
        let asset = params["assetId"].as_str().unwrap_or_default();
        let epoch = params["epoch"].as_u64().unwrap_or_default();
        let seals = self.seals(asset, epoch);
        if asked.action == "contract.list" {
            return self.listed(params, body.as_array().map_or(&[], Vec::as_slice));
        }
        if asked.action == "balancing.late" && params["assetId"].is_null() {
            return self.late(params, body);
        }
        if !self.book.oracle.known(asset) {
            return unknown(body);
        }
        if asked.action == "balancing.unsealedBalance" && !seals.is_empty() {
            return same("its code", &body["error"]["code"], &json!("already_sealed"));
        }
        match asked.action.as_str() {
            "balancing.balance" | "balancing.unsealedBalance" => self.balance(asset, epoch, body),
            "balancing.sealedBalance" => {
                let shown = body.as_array().map_or(&[][..], Vec::as_slice);
                same("how many", &json!(shown.len()), &json!(seals.len()))?;
                let newest_first = shown.iter().zip((0..seals.len()).rev());
                newest_first
                    .into_iter()
                    .try_for_each(|(shown, version)| self.sealed(asset, epoch, version, shown))
            }
            "balancing.isSealed" => same("it", body, &json!(!seals.is_empty())),
            "balancing.latestBalances" => self.latest(asset, params, body),
            "balancing.journal" => self.page(asset, epoch, params, body),
            "balancing.late" => self.late(params, body),
            "balancing.statements" if params["epoch"].is_null() => self.newest_marked(asset, body),
            "balancing.statements" => self.marked(asset, epoch, body),
            "balancing.proof" => self.newest_proof(asset, epoch, body),
            "balancing.peers" => {
                let ids: Vec<&Value> = ids(body, "assetId");
                same(
                    "the list",
                    &json!(ids),
                    &json!(self.book.oracle.downstream(asset)),
                )
            }
            "balancing.getUpstream" => {
                let (from, to) = self.upstreams(asset);
                let draws = params["energy"].as_i64().unwrap_or(-1) < 0;
                same("it", body, &json!(if draws { from } else { to }))
            }
            "meritorder.get" => {
                let all = self.book.oracle.contracts.iter();
                let mut own: Vec<_> = all.filter(|(_, contract)| contract.asset == asset).collect();
                own.sort_by_key(|(id, contract)| (contract.priority, *id));
                self.contracts(own, body.as_array().map_or(&[], Vec::as_slice))
            }
            "asset.get" => self.asset(asset, body),
            "audit.requestApproval" => {
                let (want, auditors) = self.book.oracle.audit.get(asset).cloned().unwrap_or_default();
                same("success", &body["success"], &json!(want == 0))?;
                let audit = audit_id(asset, epoch, seals.len());
                same("the audit's name", &body["auditId"], &json!(audit))?;
                let next = [
                    ("want", json!(want)),
                    ("auditors", json!(auditors)),
                    ("version", json!(seals.len())),
                ];
                all_same(&body["payload"], next)
            }
            other => Err(format!("nobody knows what {other} should say")),
        }
    }

    fn journal(&self, asset: &str, epoch: u64, shown: &Value) -> Verdict {
        if !self.book.oracle.known(asset) {
            return unknown(shown);
        }
        self.page(asset, epoch, &Value::Null, shown)
    }

    /// A journal, or the part of it that was asked for.
    fn page(&self, asset: &str, epoch: u64, params: &Value, shown: &Value) -> Verdict {
        let newest = self.seals(asset, epoch).last();
        same(
            "the watermark",
            &shown["watermark"],
            &json!(newest.map_or(0, |seal| seal.watermark)),
        )?;
        same(
            "the version",
            &shown["version"],
            &json!(newest.map(|seal| seal.version)),
        )?;
        let number = |name: &str| params[name].as_u64().and_then(|n| usize::try_from(n).ok());
        let all = self.statements(asset, epoch);
        let from = &all[number("offset").unwrap_or(0).min(all.len())..];
        let page = &from[..number("limit").unwrap_or(from.len()).min(from.len())];
        list(&shown["statements"], page)
    }

    /// Statements as EAF shows them: what is sealed, and which are with an upstream.
    fn marked(&self, asset: &str, epoch: u64, shown: &Value) -> Verdict {
        let statements = self.statements(asset, epoch);
        list(shown, statements)?;
        let watermark = self.seals(asset, epoch).last().map_or(0, |seal| seal.watermark);
        for (place, s) in statements.iter().enumerate() {
            all_same(&shown[place], self.marks(asset, s, place < watermark))?;
        }
        Ok(())
    }

    fn marks(&self, asset: &str, s: &Statement, sealed: bool) -> [(&'static str, Value); 2] {
        let (from, to) = self.upstreams(asset);
        let other = if s.from == asset { &s.to } else { &s.from };
        [
            ("sealed", json!(sealed)),
            ("isUpstream", json!(*other == from || *other == to)),
        ]
    }

    /// What came after a seal and is in none yet: of one asset or all, in one epoch or all; by epoch, then by asset.
    fn late(&self, params: &Value, shown: &Value) -> Verdict {
        let is_asked = |asset: &str, epoch: u64| {
            params["assetId"].as_str().is_none_or(|own| own == asset)
                && params["epoch"].as_u64().is_none_or(|own| own == epoch)
        };
        let sealed = self.versions.iter().flat_map(|(asset, epochs)| {
            let newest = epochs
                .iter()
                .filter_map(|(epoch, seals)| Some((*epoch, seals.last()?)));
            newest.map(move |(epoch, seal)| (epoch, *asset, seal.watermark))
        });
        let mut places: Vec<(u64, &str, usize)> = sealed
            .filter(|(epoch, asset, _)| is_asked(asset, *epoch))
            .collect();
        places.sort_unstable();
        let late = places.into_iter().flat_map(|(epoch, asset, watermark)| {
            let late = self.statements(asset, epoch).get(watermark..).unwrap_or_default();
            late.iter().map(move |statement| (asset, *statement))
        });
        let limit = params["limit"].as_u64().and_then(|n| usize::try_from(n).ok());
        let (assets, late): (Vec<&str>, Vec<&Statement>) = late.take(limit.unwrap_or(1_000)).unzip();
        same("whose", &json!(ids(shown, "assetId")), &json!(assets))?;
        list(shown, &late)
    }

    /// The newest statements of all epochs, the last one first.
    fn newest_marked(&self, asset: &str, shown: &Value) -> Verdict {
        const NEWEST: usize = 50;
        let epochs = self.journals.get(asset).into_iter().flatten();
        let newest = epochs.rev().flat_map(|(_, statements)| statements.iter().rev());
        let newest: Vec<&Statement> = newest.take(NEWEST).copied().collect();
        list(shown, &newest)?;
        let marked = newest.iter().zip(shown.as_array().into_iter().flatten());
        marked.into_iter().try_for_each(|(s, shown)| {
            let watermark = self.seals(asset, s.epoch).last().map_or(0, |seal| seal.watermark);
            let sealed = &self.statements(asset, s.epoch)[..watermark];
            let is_sealed = sealed.iter().any(|sealed| std::ptr::eq(*sealed, *s));
            all_same(shown, self.marks(asset, s, is_sealed))
        })
    }

    /// The proof of the newest version, where none was asked for.
    fn newest_proof(&self, asset: &str, epoch: u64, shown: &Value) -> Verdict {
        let Some(newest) = self.book.versions(asset, epoch).last() else {
            return same("its code", &shown["error"]["code"], &json!("not_sealed"));
        };
        match proof::seal_digest(&shown["seal"]) {
            Some(digest) if digest == *newest => Ok(()),
            _ => Err(format!(
                "it proves {}, and the newest is {}",
                shown["seal"],
                hex(newest)
            )),
        }
    }

    fn latest(&self, asset: &str, params: &Value, shown: &Value) -> Verdict {
        let n = params["n"].as_u64().unwrap_or(1);
        let before = params["before"].as_u64().unwrap_or(u64::MAX);
        let epochs = self.journals.get(asset).into_iter();
        let own = epochs
            .flat_map(|epochs| epochs.range(..before))
            .map(|(epoch, _)| epoch);
        let newest: Vec<u64> = own
            .rev()
            .copied()
            .take(usize::try_from(n).unwrap_or(usize::MAX))
            .collect();
        same("the epochs", &json!(ids(shown, "epoch")), &json!(newest))?;
        let balances = shown.as_array().into_iter().flatten().zip(newest);
        balances.into_iter().try_for_each(|(shown, epoch)| {
            same("the time", &shown["time"], &json!(self.book.time(epoch)))?;
            self.balance(asset, epoch, shown)
        })
    }

    /// The newest sealed balance, or the open one.
    fn balance(&self, asset: &str, epoch: u64, shown: &Value) -> Verdict {
        match self.seals(asset, epoch).len().checked_sub(1) {
            Some(newest) => self.sealed(asset, epoch, newest, shown),
            None => self.open(asset, epoch, shown),
        }
    }

    fn open(&self, asset: &str, epoch: u64, shown: &Value) -> Verdict {
        let statements = self.statements(asset, epoch);
        let (upstream_from, upstream_to) = self.upstreams(asset);
        let flows = Flows::of(asset, statements, &upstream_from, &upstream_to);
        let (energy, co2) = (flows.outward.0 - flows.inward.0, flows.outward.1 - flows.inward.1);
        // What sealing would book has this sign; where nothing is left, the side on which something flowed.
        let left = energy + flows.upstream.0;
        let draws = left > 0 || (left == 0 && flows.upstream.0 > 0);
        let (upstream, from, to) = if draws {
            (&upstream_from, upstream_from.as_str(), asset)
        } else {
            (&upstream_to, asset, upstream_to.as_str())
        };
        all_same(
            shown,
            [
                ("assetId", json!(asset)),
                ("epoch", json!(epoch)),
                ("energy", figure(energy)),
                ("co2eq", figure(co2)),
                ("upstream", json!(upstream)),
                ("upstream_from", json!(upstream_from)),
                ("upstream_to", json!(upstream_to)),
                ("balancesum", figure(balance_sum(&flows))),
                (
                    "clearing",
                    json!({
                        "from": from, "to": to, "epoch": epoch, "energy": figure(left), "co2eq": figure(co2 + flows.upstream.1),
                    }),
                ),
                ("peers", peers(asset, statements)),
            ],
        )?;
        flows.shown(shown)?;
        list(&shown["transactions"], statements)
    }

    fn sealed(&self, asset: &str, epoch: u64, version: usize, shown: &Value) -> Verdict {
        let (seals, digests) = (self.seals(asset, epoch), self.book.versions(asset, epoch));
        let (Some(seal), Some(digest)) = (seals.get(version), digests.get(version)) else {
            return Err(format!("there is no version {version}"));
        };
        let all = self.statements(asset, epoch);
        let statements = &all[..seal.watermark.min(all.len())];
        let before = &statements[..closed_from(seal, statements)];
        let flows = Flows::of(asset, statements, &seal.upstream_from, &seal.upstream_to);
        let before_closing = Flows::of(asset, before, &seal.upstream_from, &seal.upstream_to);
        let upstream = if flows.upstream.0 > 0 {
            &seal.upstream_from
        } else {
            &seal.upstream_to
        };
        // EAF's sign: towards the asset is positive.
        let closing = statements.get(before.len()).filter(|s| s.kind == "residual");
        let (from, to, co2) = match closing {
            Some(s) if s.to == asset => (&s.from, &s.to, s.co2),
            Some(s) => (&s.from, &s.to, -s.co2),
            None => (&seal.asset, &seal.upstream_to, 0),
        };
        let contracts = seal.contracts.iter().map(|(id, energy, reason)| match reason {
            None => json!({"contractId": id, "energy": figure(*energy)}),
            Some(reason) => json!({"contractId": id, "energy": figure(*energy), "reason": reason}),
        });
        let previous = version
            .checked_sub(1)
            .map_or_else(|| hex(&[0; 32]), |v| hex(&digests[v]));
        all_same(
            shown,
            [
                ("assetId", json!(asset)),
                ("epoch", json!(epoch)),
                ("version", json!(version)),
                ("digest", json!(hex(digest))),
                ("auditId", json!(audit_id(asset, epoch, version))),
                ("previous", json!(previous)),
                ("watermark", json!(seal.watermark)),
                ("residual", figure(seal.residual)),
                ("position", figure(seal.position)),
                ("contracts", contracts.collect()),
                ("energy", figure(flows.upstream.0)),
                ("co2eq", figure(flows.upstream.1)),
                ("upstream", json!(upstream)),
                ("upstream_from", json!(seal.upstream_from)),
                ("upstream_to", json!(seal.upstream_to)),
                ("balancesum", figure(balance_sum(&before_closing))),
                (
                    "clearing",
                    json!({
                        "from": from, "to": to, "epoch": epoch, "energy": figure(-seal.residual), "co2eq": figure(co2),
                    }),
                ),
                ("peers", peers(asset, statements)),
            ],
        )?;
        flows.shown(shown)?;
        list(&shown["transactions"], statements)?;
        let block = shown["block"]
            .as_u64()
            .and_then(|index| self.book.blocks.get(&index));
        match block {
            Some(block) if block.seals.contains(digest) => Ok(()),
            _ => Err(format!("it is not in the block {}", shown["block"])),
        }
    }

    /// Contracts in the order of their names, filtered.
    fn listed(&self, params: &Value, shown: &[Value]) -> Verdict {
        let is = |name: &str, own: &String| params[name].as_str().is_none_or(|wanted| wanted == own);
        let listed = self.book.oracle.contracts.iter().filter(|(_, contract)| {
            is("assetId", &contract.asset)
                && is("partnerId", &contract.partner)
                && is("status", &contract.status)
        });
        self.contracts(listed.collect(), shown)
    }

    fn contracts(&self, expected: Vec<(&String, &Contract)>, shown: &[Value]) -> Verdict {
        let ids: Vec<&Value> = shown.iter().map(|contract| &contract["contractId"]).collect();
        let wanted: Vec<&String> = expected.iter().map(|(id, _)| *id).collect();
        same("the list", &json!(ids), &json!(wanted))?;
        for ((id, contract), shown) in expected.into_iter().zip(shown) {
            all_same(
                shown,
                [
                    ("contractId", json!(id)),
                    ("assetId", json!(contract.asset)),
                    ("partnerId", json!(contract.partner)),
                    ("direction", json!(if contract.sells { "to" } else { "from" })),
                    ("delivery", json!(contract.delivery)),
                    ("status", json!(contract.status)),
                    ("priority", json!(contract.priority)),
                    ("energy", figure(contract.energy)),
                    ("load_min", figure(contract.load_min)),
                    ("load_max", json!(contract.load_max.map(figure))),
                    ("energy_total", json!(contract.energy_total.map(figure))),
                    ("valid_from", json!(contract.valid_from)),
                    ("valid_until", json!(contract.valid_until)),
                    ("price", figure(contract.price)),
                    ("balanced", figure(self.book.oracle.balanced(id))),
                ],
            )
            .map_err(|what| format!("of {id} {what}"))?;
        }
        Ok(())
    }

    fn asset(&self, asset: &str, shown: &Value) -> Verdict {
        let rule = self.rule(asset);
        let sides = [("from", rule.from), ("to", rule.to)];
        let rule: serde_json::Map<String, Value> = sides
            .into_iter()
            .filter_map(|(side, upstream)| Some((side.to_owned(), upstream?.into())))
            .collect();
        all_same(shown, [("assetId", json!(asset)), ("balancerule", rule.into())])?;
        self.book.metadata(asset).try_for_each(|(name, text)| {
            let value = serde_json::from_str(text).unwrap_or_else(|_| text.into());
            same(name, &shown[name], &value)
        })
    }
}

fn ids<'v>(list: &'v Value, field: &str) -> Vec<&'v Value> {
    list.as_array()
        .into_iter()
        .flatten()
        .map(|item| &item[field])
        .collect()
}

/// Whether statements are shown in full and in order. There may be tens of thousands: nothing is built for them.
fn list(shown: &Value, expected: &[&Statement]) -> Verdict {
    let shown = shown.as_array().map_or(&[][..], Vec::as_slice);
    if shown.len() != expected.len() {
        return Err(format!(
            "has {} statements, and not {}",
            shown.len(),
            expected.len()
        ));
    }
    let is = |shown: &Value, s: &Statement| {
        let number = |shown: &Value, number: i128| shown.as_i64().map(i128::from) == Some(number);
        let text = |shown: &Value, text: Option<&str>| shown.as_str() == text;
        text(&shown["from"], Some(&s.from))
            && text(&shown["to"], Some(&s.to))
            && number(&shown["epoch"], s.epoch.into())
            && number(&shown["energy"], s.energy)
            && number(&shown["co2eq"], s.co2)
            && text(&shown["kind"], Some(s.kind))
            && text(&shown["label"], Some(&s.label))
            && text(&shown["meter"], s.meter.as_deref())
            && text(&shown["contractId"], s.contract.as_deref())
            && shown["value"].as_i64().map(i128::from) == s.value
    };
    let mut ids = BTreeSet::new();
    for (shown, s) in shown.iter().zip(expected) {
        if !is(shown, s) {
            return Err(format!("has {shown}, and not {s:?}"));
        }
        // What is late for two assets is listed for either.
        let of = shown["assetId"].as_str();
        if !shown["id"].as_str().is_some_and(|id| ids.insert((of, id))) {
            return Err(format!("has {shown}, whose id is none or another's"));
        }
    }
    Ok(())
}
