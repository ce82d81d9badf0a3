//! The oracle: sections 2 to 5 of the specification, word for word, as slowly and simply as can be.
//!
//! It keeps one list of statements and scans an epoch of it for every question. It shares no code with the ledger, not even its types.
//! The ledger's own tests run it over random actions, the checkers over whole logs.

use std::collections::{BTreeMap, BTreeSet};

/// The root of the upstream relation.
pub const ROOT: &str = "eaf_generic_balancegroup";
const LIMIT: i128 = 9_007_199_254_740_991;

/// One booking.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Where the energy comes from.
    pub from: String,
    /// Where it goes.
    pub to: String,
    /// When.
    pub epoch: u64,
    /// Watt-hours.
    pub energy: i128,
    /// Grams.
    pub co2: i128,
    /// `metered`, `residual`, `contract` or `counter`.
    pub kind: &'static str,
    /// As given, `.end` or `.ppa`.
    pub label: String,
    /// Whose own it is, if it is metered.
    pub meter: Option<String>,
    /// Of which contract, if of one.
    pub contract: Option<String>,
    /// What it costs, if it is of a contract.
    pub value: Option<i128>,
}

/// An immutable balance.
#[derive(Clone, Debug, PartialEq)]
pub struct Seal {
    /// Whose.
    pub asset: String,
    /// When.
    pub epoch: u64,
    /// 0, then one more with each correction.
    pub version: usize,
    /// How many statements of the journal it covers.
    pub watermark: usize,
    /// Step 2.
    pub residual: i128,
    /// Step 4.
    pub position: i128,
    /// What came in over the whole watermark, in watt-hours.
    pub energy_in: i128,
    /// What went out.
    pub energy_out: i128,
    /// What came in, in grams.
    pub co2_in: i128,
    /// What went out.
    pub co2_out: i128,
    /// Whom a deficit is drawn from.
    pub upstream_from: String,
    /// Whom a surplus is delivered to.
    pub upstream_to: String,
    /// The contracts walked, in order: what each booked, and why nothing.
    pub contracts: Vec<(String, i128, Option<&'static str>)>,
    /// The auditors who approved.
    pub approvals: Vec<String>,
}

/// A trade that no meter sees, in the words of the specification.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "section 9 describes each, under the same name")]
pub struct Contract {
    pub asset: String,
    pub partner: String,
    /// Whether its direction is `to`.
    pub sells: bool,
    pub delivery: String,
    pub status: String,
    pub priority: i64,
    pub energy: i128,
    pub load_min: i128,
    pub load_max: Option<i128>,
    pub energy_total: Option<i128>,
    pub valid_from: Option<u64>,
    pub valid_until: Option<u64>,
    pub price: i128,
}

/// An asset's upstreams.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Whom it draws a deficit from.
    pub from: Option<String>,
    /// Whom it delivers a surplus to.
    pub to: Option<String>,
}

/// A refusal's code, with what it names.
pub type Refused = String;

/// The seals of a whole epoch in order, and what is held with its code.
pub type Sealed = (Vec<Seal>, Vec<(String, String)>);

/// All there is.
#[derive(Clone, Default)]
pub struct Oracle {
    /// The assets, the root aside.
    pub assets: BTreeSet<String>,
    /// Their rules.
    pub rules: BTreeMap<String, Rule>,
    /// The contracts, by id.
    pub contracts: BTreeMap<String, Contract>,
    /// Lists of meters, by their digest.
    pub rosters: BTreeMap<[u8; 32], Vec<String>>,
    /// In booking order.
    pub statements: Vec<Statement>,
    /// In the order in which they were made.
    pub seals: Vec<Seal>,
    /// How many of which auditors must approve an asset's next seal.
    pub audit: BTreeMap<String, (usize, BTreeSet<String>)>,
    /// Who has approved what.
    pub approvals: BTreeSet<(String, u64, String)>,
    /// The places of an epoch's statements in the list.
    by_epoch: BTreeMap<u64, Vec<usize>>,
    /// The places of an epoch's seals in their list, by asset.
    sealed: BTreeMap<u64, BTreeMap<String, Vec<usize>>>,
}

/// Nearest integer, halves away from zero.
fn rounded(n: i128, d: i128) -> i128 {
    let sign = if (n < 0) != (d < 0) { -1 } else { 1 };
    sign * ((2 * n.abs() + d.abs()) / (2 * d.abs()))
}

impl Oracle {
    fn rule(&self, asset: &str) -> Rule {
        self.rules.get(asset).cloned().unwrap_or_default()
    }

    fn upstream_from(&self, asset: &str) -> String {
        self.rule(asset).from.unwrap_or(ROOT.to_owned())
    }

    fn upstream_to(&self, asset: &str) -> String {
        self.rule(asset).to.unwrap_or(ROOT.to_owned())
    }

    /// Whether there is such an asset.
    pub fn known(&self, asset: &str) -> bool {
        asset == ROOT || self.assets.contains(asset)
    }

    /// An asset was named.
    pub fn name(&mut self, asset: &str) {
        if asset != ROOT {
            self.assets.insert(asset.to_owned());
        }
    }

    fn leads_to(&self, asset: &str, target: &str) -> bool {
        let rule = self.rule(asset);
        asset == target
            || [rule.from, rule.to]
                .into_iter()
                .flatten()
                .any(|up| self.leads_to(&up, target))
    }

    /// Sets a rule.
    ///
    /// # Errors
    /// `root_has_no_rule`, `rule_cycle`.
    pub fn upsert(&mut self, asset: &str, rule: Rule) -> Result<(), Refused> {
        if asset == ROOT {
            return Err("root_has_no_rule".into());
        }
        for upstream in [&rule.from, &rule.to].into_iter().flatten() {
            if self.leads_to(upstream, asset) {
                return Err("rule_cycle".into());
            }
        }
        self.name(asset);
        for upstream in [&rule.from, &rule.to].into_iter().flatten() {
            self.name(upstream);
        }
        self.rules.insert(asset.to_owned(), rule);
        Ok(())
    }

    /// Adds a contract.
    ///
    /// # Errors
    /// `root_is_no_party`, `contract_exists`, `same_party`.
    pub fn add_contract(&mut self, id: &str, contract: Contract) -> Result<(), Refused> {
        if contract.asset == ROOT || contract.partner == ROOT {
            return Err("root_is_no_party".into());
        }
        if self.contracts.contains_key(id) {
            return Err("contract_exists".into());
        }
        if contract.asset == contract.partner {
            return Err("same_party".into());
        }
        self.name(&contract.asset);
        self.name(&contract.partner);
        self.contracts.insert(id.to_owned(), contract);
        Ok(())
    }

    /// Section 2.
    pub fn settle(&mut self, meter: &str, epoch: u64, consumption: i128, co2: i128, label: &str) {
        self.name(meter);
        let rule = self.rule(meter);
        let (from, to) = if let Some(to) = rule.to {
            (meter.to_owned(), to)
        } else if let Some(from) = rule.from {
            (from, meter.to_owned())
        } else {
            (ROOT.to_owned(), meter.to_owned())
        };
        let (from, to) = if consumption < 0 { (to, from) } else { (from, to) };
        self.append(Statement {
            from,
            to,
            epoch,
            energy: consumption.abs(),
            co2,
            kind: "metered",
            label: label.to_owned(),
            meter: Some(meter.to_owned()),
            contract: None,
            value: None,
        });
    }

    fn append(&mut self, statement: Statement) {
        self.by_epoch
            .entry(statement.epoch)
            .or_default()
            .push(self.statements.len());
        self.statements.push(statement);
    }

    /// Takes back what was booked since there were so many statements.
    fn take_back(&mut self, len: usize) {
        while self.statements.len() > len {
            if let Some(gone) = self.statements.pop() {
                self.by_epoch.entry(gone.epoch).or_default().pop();
            }
        }
    }

    /// The statements of an epoch, in booking order.
    pub fn of_epoch(&self, epoch: u64) -> impl Iterator<Item = &Statement> {
        self.by_epoch
            .get(&epoch)
            .into_iter()
            .flatten()
            .map(|place| &self.statements[*place])
    }

    /// The statements that have an asset on either side.
    pub fn journal(&self, asset: &str, epoch: u64) -> Vec<Statement> {
        self.of_epoch(epoch)
            .filter(|s| s.from == asset || s.to == asset)
            .cloned()
            .collect()
    }

    fn versions(&self, asset: &str, epoch: u64) -> Vec<&Seal> {
        let places = self.sealed.get(&epoch).and_then(|by_asset| by_asset.get(asset));
        places
            .into_iter()
            .flatten()
            .map(|place| &self.seals[*place])
            .collect()
    }

    fn watermark(&self, asset: &str, epoch: u64) -> usize {
        self.versions(asset, epoch)
            .last()
            .map_or(0, |seal| seal.watermark)
    }

    /// Those past the watermark.
    pub fn unsealed(&self, asset: &str, epoch: u64) -> Vec<Statement> {
        self.journal(asset, epoch).split_off(self.watermark(asset, epoch))
    }

    /// Whether there are any past the watermark.
    fn is_open(&self, asset: &str, epoch: u64) -> bool {
        let all = self
            .of_epoch(epoch)
            .filter(|s| s.from == asset || s.to == asset)
            .count();
        all > self.watermark(asset, epoch)
    }

    /// Residual and position with their CO2, by steps 1, 2 and 4.
    fn figures(asset: &str, statements: &[Statement]) -> ((i128, i128), (i128, i128)) {
        let (mut residual, mut own) = ((0, 0), (0, 0));
        for s in statements {
            let sign = if s.to == asset { 1 } else { -1 };
            if s.meter.as_deref() == Some(asset) {
                // Production goes out and counts for the position; consumption comes in and counts against it.
                own = (own.0 - sign * s.energy, own.1 - sign * s.co2);
            } else {
                residual = (residual.0 + sign * s.energy, residual.1 + sign * s.co2);
            }
        }
        (residual, (residual.0 + own.0, residual.1 + own.1))
    }

    fn booked(&self, contract: &str, epoch: Option<u64>) -> i128 {
        let of_it = |s: &&Statement| s.kind == "contract" && s.contract.as_deref() == Some(contract);
        match epoch {
            Some(epoch) => self.of_epoch(epoch).filter(of_it).map(|s| s.energy).sum(),
            None => self.statements.iter().filter(of_it).map(|s| s.energy).sum(),
        }
    }

    /// What a contract booked in its life.
    pub fn balanced(&self, contract: &str) -> i128 {
        self.booked(contract, None)
    }

    fn served(&self, owner: &str, epoch: u64) -> Vec<(String, Contract)> {
        let mut served: Vec<(String, Contract)> = self
            .contracts
            .iter()
            .filter(|(_, c)| c.asset == owner && c.status == "active")
            .filter(|(_, c)| {
                c.valid_from.is_none_or(|e| e <= epoch) && c.valid_until.is_none_or(|e| epoch <= e)
            })
            .map(|(id, c)| (id.clone(), c.clone()))
            .collect();
        served.sort_by(|a, b| (a.1.priority, &a.0).cmp(&(b.1.priority, &b.0)));
        served
    }

    /// Section 3.
    ///
    /// # Errors
    /// As listed there.
    pub fn seal(&mut self, asset: &str, epoch: u64) -> Result<Seal, Refused> {
        if asset == ROOT {
            return Err("root_not_sealable".into());
        }
        if !self.known(asset) {
            return Err("unknown_asset".into());
        }
        if !self.versions(asset, epoch).is_empty() {
            return Err("already_sealed".into());
        }
        if self.journal(asset, epoch).is_empty() {
            return Err("nothing_to_seal".into());
        }
        self.make(asset, epoch)
    }

    /// Section 5.
    ///
    /// # Errors
    /// As listed there.
    pub fn correct(&mut self, asset: &str, epoch: u64) -> Result<Seal, Refused> {
        if asset == ROOT {
            return Err("root_not_sealable".into());
        }
        if !self.known(asset) {
            return Err("unknown_asset".into());
        }
        if self.versions(asset, epoch).is_empty() {
            return Err("not_sealed".into());
        }
        if !self.is_open(asset, epoch) {
            return Err("nothing_late".into());
        }
        self.make(asset, epoch)
    }

    /// The assets whose rules name this one.
    pub fn downstream(&self, asset: &str) -> Vec<String> {
        let names = |rule: &Rule| rule.from.as_deref() == Some(asset) || rule.to.as_deref() == Some(asset);
        self.rules
            .iter()
            .filter(|(_, rule)| names(rule))
            .map(|(id, _)| id.clone())
            .collect()
    }

    fn make(&mut self, asset: &str, epoch: u64) -> Result<Seal, Refused> {
        let open: Vec<String> = self
            .downstream(asset)
            .into_iter()
            .filter(|d| self.is_open(d, epoch))
            .take(16)
            .collect();
        if !open.is_empty() {
            return Err(format!("downstream_open {}", open.join(" ")));
        }
        let (wanted, auditors) = self.audit.get(asset).cloned().unwrap_or_default();
        let approvals: Vec<String> = auditors
            .into_iter()
            .filter(|auditor| {
                self.approvals
                    .contains(&(asset.to_owned(), epoch, auditor.clone()))
            })
            .collect();
        if approvals.len() < wanted {
            return Err("approval_missing".into());
        }
        // A refusal changes nothing: until the seal is made, the steps only book.
        let before = self.statements.len();
        self.six_steps(asset, epoch, approvals)
            .inspect_err(|_| self.take_back(before))
    }

    fn book(
        &mut self,
        from: &str,
        to: &str,
        epoch: u64,
        flow: (i128, i128),
        kind: &'static str,
    ) -> Result<&mut Statement, Refused> {
        if flow.0.abs() > LIMIT || flow.1.abs() > LIMIT {
            return Err("out_of_range".into());
        }
        self.append(Statement {
            from: from.to_owned(),
            to: to.to_owned(),
            epoch,
            energy: flow.0,
            co2: flow.1,
            kind,
            label: if kind == "residual" { ".end" } else { ".ppa" }.to_owned(),
            meter: None,
            contract: None,
            value: None,
        });
        self.statements.last_mut().ok_or_else(|| "unreachable".into())
    }

    fn six_steps(&mut self, asset: &str, epoch: u64, approvals: Vec<String>) -> Result<Seal, Refused> {
        let (upstream_from, upstream_to) = (self.upstream_from(asset), self.upstream_to(asset));
        let (residual, offered) = Self::figures(asset, &self.unsealed(asset, epoch));
        if residual.0 < 0 {
            self.book(
                &upstream_from,
                asset,
                epoch,
                (-residual.0, -residual.1),
                "residual",
            )?;
        } else if residual.0 > 0 || residual.1 != 0 {
            self.book(asset, &upstream_to, epoch, residual, "residual")?;
        }
        let mut position = offered.0;
        let mut walked = Vec::new();
        for (id, c) in self.served(asset, epoch) {
            if !self.versions(&c.partner, epoch).is_empty() {
                walked.push((id, 0, Some("partner_sealed")));
                continue;
            }
            let (_, theirs) = Self::figures(&c.partner, &self.unsealed(&c.partner, epoch));
            let mut cap = c.energy.min(c.load_max.unwrap_or(c.energy)) - self.booked(&id, Some(epoch));
            if let Some(total) = c.energy_total {
                cap = cap.min(total - self.booked(&id, None));
            }
            let cap = cap.max(0);
            let avail = if c.sells {
                position.max(0)
            } else {
                (-position).max(0)
            };
            let room = if c.sells {
                (-theirs.0).max(0)
            } else {
                theirs.0.max(0)
            };
            let q = match c.delivery.as_str() {
                "as_available" => avail.min(cap),
                "matched" => avail.min(room).min(cap),
                _ => cap,
            };
            let reason = match q {
                _ if cap == 0 => Some("fulfilled"),
                0 => Some("exhausted"),
                q if q < c.load_min => Some("below_load_min"),
                _ => None,
            };
            if reason.is_some() {
                walked.push((id, 0, reason));
                continue;
            }
            let seller = if c.sells { offered } else { theirs };
            let co2 = if seller.0 <= 0 {
                0
            } else {
                rounded(seller.1 * q, seller.0)
            };
            let value = rounded(q * c.price, 1000);
            if value.abs() > LIMIT {
                return Err("out_of_range".into());
            }
            let (trade, mirror) = if c.sells {
                ((asset, c.partner.as_str()), (upstream_to.as_str(), asset))
            } else {
                ((c.partner.as_str(), asset), (asset, upstream_from.as_str()))
            };
            let statement = self.book(trade.0, trade.1, epoch, (q, co2), "contract")?;
            (statement.contract, statement.value) = (Some(id.clone()), Some(value));
            let statement = self.book(mirror.0, mirror.1, epoch, (q, co2), "counter")?;
            (statement.contract, statement.value) = (Some(id.clone()), Some(0));
            position += if c.sells { -q } else { q };
            walked.push((id, q, None));
        }
        let journal = self.journal(asset, epoch);
        let sum = |incoming: bool, f: fn(&Statement) -> i128| -> i128 {
            journal
                .iter()
                .filter(|s| (s.to == asset) == incoming)
                .map(f)
                .sum()
        };
        let seal = Seal {
            asset: asset.to_owned(),
            epoch,
            version: self.versions(asset, epoch).len(),
            watermark: journal.len(),
            residual: residual.0,
            position: offered.0,
            energy_in: sum(true, |s| s.energy),
            energy_out: sum(false, |s| s.energy),
            co2_in: sum(true, |s| s.co2),
            co2_out: sum(false, |s| s.co2),
            upstream_from,
            upstream_to,
            contracts: walked,
            approvals,
        };
        let figures = [
            seal.residual,
            seal.position,
            seal.energy_in,
            seal.energy_out,
            seal.co2_in,
            seal.co2_out,
        ];
        if figures.iter().any(|figure| figure.abs() > LIMIT) {
            return Err("out_of_range".into());
        }
        self.approvals
            .retain(|(a, e, _)| (a.as_str(), *e) != (asset, epoch));
        self.sealed
            .entry(epoch)
            .or_default()
            .entry(asset.to_owned())
            .or_default()
            .push(self.seals.len());
        self.seals.push(seal.clone());
        Ok(seal)
    }

    /// Section 4: the seals in order, and what is held with its code.
    ///
    /// # Errors
    /// `unknown_asset`.
    pub fn seal_epoch(&mut self, epoch: u64, under: Option<&str>) -> Result<Sealed, Refused> {
        if under.is_some_and(|under| !self.known(under)) {
            return Err("unknown_asset".into());
        }
        let mut seals = Vec::new();
        loop {
            let (mut made, mut held) = (Vec::new(), BTreeMap::new());
            let members = self.members(epoch, under);
            let mut undone = members.clone();
            while !undone.is_empty() {
                let ready = |a: &&String| !self.downstream(a).iter().any(|d| undone.contains(d));
                let free = |a: &&String| {
                    !undone
                        .iter()
                        .any(|owner| self.served(owner, epoch).iter().any(|(_, c)| c.partner == **a))
                };
                let next = undone
                    .iter()
                    .filter(ready)
                    .find(free)
                    .or_else(|| undone.iter().find(ready));
                let next = next.expect("rules form no cycle").clone();
                if self.is_open(&next, epoch) {
                    match self.make(&next, epoch) {
                        Ok(seal) => made.push(seal),
                        Err(code) => {
                            held.insert(next.clone(), code);
                        }
                    }
                }
                undone.remove(&next);
            }
            if made.is_empty() {
                return Ok((seals, held.into_iter().collect()));
            }
            seals.extend(made);
        }
    }

    fn members(&self, epoch: u64, under: Option<&str>) -> BTreeSet<String> {
        let inside = |asset: &str| {
            asset != ROOT && under.is_none_or(|under| under == ROOT || self.leads_to(asset, under))
        };
        let mut members: BTreeSet<String> = self
            .assets
            .iter()
            .filter(|a| inside(a) && self.is_open(a, epoch))
            .cloned()
            .collect();
        loop {
            let mut reached = BTreeSet::new();
            for member in &members {
                reached.insert(self.upstream_from(member));
                reached.insert(self.upstream_to(member));
                reached.extend(self.served(member, epoch).into_iter().map(|(_, c)| c.partner));
            }
            let before = members.len();
            members.extend(reached.into_iter().filter(|a| inside(a)));
            if members.len() == before {
                return members;
            }
        }
    }
}
