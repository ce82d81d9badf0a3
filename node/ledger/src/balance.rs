//! A balance: one asset's side of statements, summed in 128 bits.
//!
//! The asset's **own** metered statements are production and consumption; everything else that comes in or goes
//! out passes through.

use crate::asset::AssetId;
use crate::canonical::canonical_struct;
use crate::statement::{MeterSide, Statement};

/// Energy in watt-hours and the CO2 that belongs to it, in grams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Watt-hours.
    pub energy: i128,
    /// Grams.
    pub co2: i128,
}

canonical_struct!(Flow { energy, co2 });

impl Flow {
    fn add(&mut self, energy: i128, co2: i128) {
        // Sums of less than 2^64 statements of at most 2^53 each: far below 2^127.
        self.energy = self.energy.saturating_add(energy);
        self.co2 = self.co2.saturating_add(co2);
    }
}

/// What flowed on one asset's side of some statements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Own metered statements that go out.
    pub production: Flow,
    /// Own metered statements that come in.
    pub consumption: Flow,
    /// Everything else that comes in.
    pub inflow: Flow,
    /// Everything else that goes out.
    pub outflow: Flow,
}

canonical_struct!(Balance {
    production,
    consumption,
    inflow,
    outflow
});

impl Balance {
    /// Adds a statement as `asset` sees it; one that doesn't touch it adds nothing.
    pub fn add(&mut self, asset: &AssetId, statement: &Statement) {
        let own = statement.meter() == Some(asset);
        let (energy, co2) = (statement.energy.wide(), statement.co2eq.wide());
        if statement.from == *asset {
            self.add_side(MeterSide::From, own, energy, co2);
        }
        if statement.to == *asset {
            self.add_side(MeterSide::To, own, energy, co2);
        }
    }

    /// Adds one side of a statement, which is the asset's own or not.
    pub fn add_side(&mut self, side: MeterSide, own: bool, energy: i128, co2: i128) {
        let flow = match (side, own) {
            (MeterSide::From, true) => &mut self.production,
            (MeterSide::To, true) => &mut self.consumption,
            (MeterSide::To, false) => &mut self.inflow,
            (MeterSide::From, false) => &mut self.outflow,
        };
        flow.add(energy, co2);
    }

    /// Adds another balance.
    pub fn merge(&mut self, other: &Balance) {
        self.production.add(other.production.energy, other.production.co2);
        self.consumption
            .add(other.consumption.energy, other.consumption.co2);
        self.inflow.add(other.inflow.energy, other.inflow.co2);
        self.outflow.add(other.outflow.energy, other.outflow.co2);
    }

    /// Step 2: what passed through and must be closed towards an upstream, with its CO2.
    pub fn residual(&self) -> Flow {
        let mut residual = Flow {
            energy: self.inflow.energy - self.outflow.energy,
            co2: self.inflow.co2 - self.outflow.co2,
        };
        if planted!("own-metered-in-residual") {
            residual.energy += self.production.energy - self.consumption.energy;
        }
        if planted!("watt-hour-lost") {
            // Halves of it are booked to two tariffs.
            residual.energy = residual.energy / 2 * 2;
        }
        residual
    }

    /// Step 4: what there is to sell (+) or to buy (−), with the CO2 that belongs to it.
    pub fn position(&self) -> Flow {
        let residual = self.residual();
        Flow {
            energy: residual.energy + self.production.energy - self.consumption.energy,
            co2: residual.co2 + self.production.co2 - self.consumption.co2,
        }
    }

    /// Everything that came in, own or not.
    pub fn total_in(&self) -> Flow {
        Flow {
            energy: self.inflow.energy + self.consumption.energy,
            co2: self.inflow.co2 + self.consumption.co2,
        }
    }

    /// Everything that went out, own or not.
    pub fn total_out(&self) -> Flow {
        Flow {
            energy: self.outflow.energy + self.production.energy,
            co2: self.outflow.co2 + self.production.co2,
        }
    }
}
