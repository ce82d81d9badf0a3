//! Random histories: actions drawn from a seed, so dense that rules, contracts, late values and corrections meet.

use ledger::contract::{Change, Delivery, Direction, Status, Terms};
use ledger::rule::Rule;
use ledger::units::{Epoch, GramsCo2, MAX_FIGURE, MAX_SETTLEMENT, MicroCurrency, Wh};
use ledger::{Action, AssetId, ContractId, PublicKey, ROOT, Settlement};

/// SplitMix64: small, seedable, the same everywhere.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn between(&mut self, low: i64, high: i64) -> i64 {
        low + i64::try_from(self.below((high - low + 1).unsigned_abs())).expect("a small range")
    }

    fn maybe<T>(&mut self, percent: u64, value: impl FnOnce(&mut Dice) -> T) -> Option<T> {
        if self.chance(percent) {
            Some(value(self))
        } else {
            None
        }
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).expect("small")]
    }
}

/// What a history is made of; drawn once a seed.
pub struct Style {
    assets: u64,
    epochs: u64,
    contracts: u64,
    auditors: Vec<PublicKey>,
    /// Whether figures near their bounds occur.
    extreme: bool,
    audited: bool,
}

impl Style {
    pub fn draw(dice: &mut Dice, auditors: Vec<PublicKey>) -> Style {
        Style {
            assets: 3 + dice.below(10),
            epochs: 1 + dice.below(3),
            contracts: dice.below(12),
            auditors,
            extreme: dice.chance(10),
            audited: dice.chance(20),
        }
    }

    fn asset(&self, dice: &mut Dice) -> AssetId {
        if dice.chance(1) {
            return ROOT.clone();
        }
        // `a10` sorts before `a2`: ids are ordered by bytes.
        AssetId::try_from(format!("a{}", dice.below(self.assets)).as_str()).expect("a name")
    }

    fn epoch(&self, dice: &mut Dice) -> Epoch {
        Epoch::new(7 + dice.below(self.epochs)).expect("small")
    }

    fn contract(&self, dice: &mut Dice) -> ContractId {
        ContractId::try_from(format!("k{}", dice.below(self.contracts + 1)).as_str()).expect("a name")
    }

    fn amount(&self, dice: &mut Dice, most: i64) -> i64 {
        match dice.below(20) {
            0 => 0,
            1 if self.extreme => MAX_FIGURE - dice.between(0, 2),
            2 if self.extreme => MAX_FIGURE / dice.between(1, 40),
            _ => dice.between(1, most),
        }
    }

    /// A rule whose upstreams mostly have smaller numbers, so that most are accepted and trees grow deep.
    fn rule(&self, dice: &mut Dice, asset: &AssetId) -> Rule {
        let number = asset.as_str().trim_start_matches('a').parse::<u64>().unwrap_or(0);
        let upstream = |dice: &mut Dice| {
            if dice.chance(90) && number > 0 {
                AssetId::try_from(format!("a{}", dice.below(number)).as_str()).expect("a name")
            } else {
                self.asset(dice)
            }
        };
        if dice.chance(60) {
            let both = upstream(dice);
            return Rule {
                from: Some(both.clone()),
                to: Some(both),
            };
        }
        Rule {
            from: dice.maybe(60, upstream),
            to: dice.maybe(60, upstream),
        }
    }

    fn settlement(&self, dice: &mut Dice) -> Settlement {
        let bounded = |dice: &mut Dice, most: i64| {
            let edge = self.extreme && dice.chance(3);
            let amount = if edge {
                MAX_SETTLEMENT + dice.between(-1, 1)
            } else {
                dice.between(0, most)
            };
            if dice.chance(25) { -amount } else { amount }
        };
        Settlement {
            meter: self.asset(dice),
            epoch: self.epoch(dice),
            consumption: Wh::new(bounded(dice, 1000)).expect("in range"),
            label: dice
                .pick(&["virtual_1", "virtual_2", "x"])
                .try_into()
                .expect("a label"),
            co2eq: GramsCo2::new(if dice.chance(60) { bounded(dice, 400) } else { 0 }).expect("in range"),
            autoseal: dice.maybe(4, |dice| dice.below(9)),
        }
    }

    fn terms(&self, dice: &mut Dice) -> Terms {
        let wh = |n: i64| Wh::new(n).expect("in range");
        Terms {
            id: self.contract(dice),
            asset: self.asset(dice),
            partner: self.asset(dice),
            direction: dice.pick(Direction::ALL),
            delivery: dice.pick(Delivery::ALL),
            energy: wh(self.amount(dice, 600)),
            load_min: wh(if dice.chance(30) {
                self.amount(dice, 200)
            } else {
                0
            }),
            load_max: dice.maybe(30, |dice| wh(self.amount(dice, 500))),
            energy_total: dice.maybe(30, |dice| wh(self.amount(dice, 900))),
            valid_from: dice.maybe(15, |dice| self.epoch(dice)),
            valid_until: dice.maybe(15, |dice| self.epoch(dice)),
            price: MicroCurrency::new(dice.between(-200_000, 400_000)).expect("in range"),
        }
    }

    /// The next action, and the auditor who takes it, if one does.
    pub fn action(&self, dice: &mut Dice) -> (Action, Option<usize>) {
        let action = match dice.below(100) {
            0..36 => {
                let count = 1 + if dice.chance(30) { dice.below(5) } else { 0 };
                Action::Settle {
                    settlements: (0..count).map(|_| self.settlement(dice)).collect(),
                }
            }
            36..46 => Action::Seal {
                asset: self.asset(dice),
                epoch: self.epoch(dice),
            },
            46..54 => Action::Correct {
                asset: self.asset(dice),
                epoch: self.epoch(dice),
            },
            54..68 => Action::SealEpoch {
                epoch: self.epoch(dice),
                under: dice.maybe(35, |dice| self.asset(dice)),
            },
            68..82 => {
                let asset = self.asset(dice);
                let rule = self.rule(dice, &asset);
                Action::UpsertAsset {
                    asset,
                    kind: None,
                    rule: Some(rule),
                    metadata: Default::default(),
                }
            }
            82..91 => Action::AddContract {
                terms: self.terms(dice),
                status: if dice.chance(90) {
                    Status::Active
                } else {
                    dice.pick(Status::ALL)
                },
                priority: dice.between(0, 3),
            },
            91..94 => Action::ChangeContract {
                contract: self.contract(dice),
                change: dice.pick(Change::ALL),
            },
            94..96 => {
                let count = dice.below(4);
                let contracts = (0..count).map(|_| self.contract(dice)).collect();
                Action::SetMeritOrder {
                    asset: self.asset(dice),
                    contracts,
                }
            }
            _ if !self.audited => Action::SealEpoch {
                epoch: self.epoch(dice),
                under: None,
            },
            96..98 => {
                let auditors = self
                    .auditors
                    .iter()
                    .filter(|_| dice.chance(70))
                    .copied()
                    .collect();
                let approvals = u32::try_from(dice.below(3)).expect("small");
                Action::SetAuditRule {
                    asset: self.asset(dice),
                    approvals,
                    auditors,
                }
            }
            _ => {
                let auditor = usize::try_from(dice.below(self.auditors.len() as u64)).expect("small");
                return (
                    Action::Approve {
                        asset: self.asset(dice),
                        epoch: self.epoch(dice),
                    },
                    Some(auditor),
                );
            }
        };
        (action, None)
    }
}
