//! The GridSeal node: parties who don't trust one machine agree on the seals of off-grid trades.
//!
//! A request is parsed at the edge ([`api`]), signed and ordered through the [`gateway`], replicated by the crate
//! `raft`, and applied by the crate `ledger` inside the state machine. What was applied feeds the balancing
//! actors, which recompute every seal on their own memory; the node signs what they agree on, and a quorum's
//! signatures in the log make it final.
//!
//! One way in (the log), one mutation (`Ledger::apply`), one way out (its events). [`start::start`] joins the
//! parts over the [`seams`], the same in production and in the simulator.

/// Whether this bug is planted: always `false`, except in the simulator's own build (see the crate `planted`).
macro_rules! planted {
    ($name:literal) => {{
        #[cfg(feature = "planted")]
        {
            ::planted::is($name)
        }
        #[cfg(not(feature = "planted"))]
        {
            false
        }
    }};
}

pub(crate) mod actors;
pub mod alarm;
pub mod api;
pub mod archive;
pub mod cli;
pub mod client;
pub mod config;
pub mod falsify;
pub mod gateway;
pub mod identity;
pub mod jwt;
pub(crate) mod listen;
pub(crate) mod machine;
pub(crate) mod membership;
pub mod metrics;
pub mod order;
pub mod say;
pub mod seams;
pub mod start;
pub mod stream;

#[cfg(test)]
mod start_tests;
