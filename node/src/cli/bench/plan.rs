//! Which workloads there are.

use std::time::Duration;

use super::load::Target;
use super::payload::Form;

/// Meters of the SimBench-like year at tier L.
pub(super) const TIER_L: usize = 39_421;

/// Who reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// So many meters without rules.
    Flat(usize),
    /// So many assets with rules, and so many contracts; complete epochs are sealed meanwhile.
    Grid(usize, usize),
    /// So many meters of the SimBench-like year; complete epochs are sealed meanwhile.
    Year(usize),
}

/// One workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workload {
    pub(super) name: String,
    pub(super) who: Who,
    pub(super) batch: usize,
    pub(super) clients: usize,
    pub(super) form: Form,
    pub(super) target: Target,
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
    /// How long the check may take.
    pub(super) check: Duration,
}

impl Workload {
    /// Whether complete epochs are sealed while others are settled.
    pub(super) fn seals(&self) -> bool {
        matches!(self.who, Who::Grid(..) | Who::Year(_))
    }

    fn flat(batch: usize, clients: usize, meters: usize) -> Self {
        let size = if meters >= 1_000_000 {
            format!("{}M", meters / 1_000_000)
        } else {
            format!("{}k", meters / 1_000)
        };
        Self {
            name: format!("batch-{batch}-clients-{clients}-accounts-{size}"),
            who: Who::Flat(meters),
            batch,
            clients,
            form: Form::Packed,
            target: Target::Leader,
            warm_up: Duration::ZERO,
            measured: Duration::ZERO,
            check: Duration::ZERO,
        }
    }

    fn sealing(assets: usize) -> Self {
        Self {
            name: format!("sealing-{}k-assets", assets / 1_000),
            who: Who::Grid(assets, assets),
            ..Self::flat(1_000, 16, 1_000)
        }
    }

    fn year(meters: usize) -> Self {
        Self {
            name: format!("year-{meters}-meters"),
            who: Who::Year(meters),
            ..Self::flat(8_000, 4, 1_000)
        }
    }

    fn all_nodes(self) -> Self {
        Self {
            name: format!("{}-all-nodes", self.name),
            target: Target::All,
            ..self
        }
    }

    fn in_lines(self) -> Self {
        Self {
            name: format!("{}-ndjson", self.name),
            form: Form::Lines,
            ..self
        }
    }

    fn streamed(self) -> Self {
        Self {
            name: format!("{}-stream", self.name),
            form: Form::Stream,
            ..self
        }
    }

    fn lasting(self, warm_up: Duration, measured: Duration, check: Duration) -> Self {
        Self {
            warm_up,
            measured,
            check,
            ..self
        }
    }
}

/// About a minute in all.
pub(super) fn quick(measured: Option<Duration>) -> Vec<Workload> {
    let workloads = vec![
        Workload::flat(1, 1, 10_000),
        Workload::flat(1, 64, 10_000),
        Workload::flat(1, 1_024, 10_000),
        Workload::flat(1, 1_024, 10_000).streamed(),
        Workload::flat(64, 16, 10_000),
        Workload::flat(1_000, 16, 10_000),
        Workload::flat(1_000, 16, 10_000).in_lines(),
        Workload::flat(8_000, 4, 1_000_000),
        Workload::sealing(1_000),
    ];
    let measured = measured.unwrap_or(Duration::from_millis(3_500));
    let all = workloads.into_iter();
    all.map(|workload| workload.lasting(measured / 4, measured, Duration::from_secs(1)))
        .collect()
}

/// Everything.
pub(super) fn full(measured: Option<Duration>) -> Vec<Workload> {
    let mut workloads = Vec::new();
    for batch in [1, 64, 1_000, 8_000] {
        for clients in [1, 16, 64] {
            workloads.push(Workload::flat(batch, clients, 10_000));
        }
    }
    workloads.push(Workload::flat(1, 1_024, 10_000));
    workloads.push(Workload::flat(1, 1_024, 10_000).streamed());
    workloads.push(Workload::flat(1_000, 16, 10_000).in_lines());
    workloads.push(Workload::flat(8_000, 16, 10_000).in_lines());
    workloads.push(Workload::flat(1, 1, 10_000).all_nodes());
    workloads.push(Workload::flat(1_000, 16, 10_000).all_nodes());
    workloads.push(Workload::flat(1_000, 16, 1_000_000));
    workloads.push(Workload::flat(8_000, 4, 1_000_000));
    workloads.push(Workload::sealing(1_000));
    workloads.push(Workload::sealing(10_000));
    workloads.push(Workload::sealing(100_000));
    workloads.push(Workload::year(TIER_L));
    let measured = measured.unwrap_or(Duration::from_secs(10));
    let all = workloads.into_iter();
    all.map(|workload| workload.lasting(measured / 5, measured, Duration::from_secs(10)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_all_is_there_that_was_promised() {
        for plan in [quick(None), full(None)] {
            let names: BTreeSet<&str> = plan.iter().map(|workload| workload.name.as_str()).collect();
            assert_eq!(names.len(), plan.len());
        }
        let full = full(None);
        for batch in [1, 64, 1_000, 8_000] {
            for clients in [1, 16, 64] {
                assert!(
                    full.iter()
                        .any(|one| (one.batch, one.clients) == (batch, clients))
                );
            }
        }
        assert!(full.iter().any(|one| one.who == Who::Grid(100_000, 100_000)));
        assert!(full.iter().any(|one| one.who == Who::Year(TIER_L)));
        let least = quick(None)
            .iter()
            .map(|one| one.warm_up + one.measured)
            .sum::<Duration>();
        assert!(
            least < Duration::from_secs(45),
            "a minute, starts and checks included: {least:?}"
        );
    }
}
