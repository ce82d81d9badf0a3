//! The oracle: the specification computed a second time, straightforwardly, from the bytes of the log alone.
//!
//! It shares no code with the ledger: bytes are decoded by [`entry`], sections 2 to 5 are [`model`] (which the
//! ledger's own tests use as well), section 8 is [`book`], digests and signatures of section 7 are [`digest`]
//! and [`proof`].
//! [`judge`] runs it beside a ledger over one committed log, and says where they part.

pub mod answer;
pub mod book;
pub mod digest;
pub mod entry;
pub mod judge;
pub mod model;
pub mod proof;
