//! Balancing: settlements in, seals out, and everything that can be read of journals.
//!
//! | file | what |
//! |---|---|
//! | `settle` | `addSettlement`, `addSettlements`, `addRoster` |
//! | `seal` | `seal`, `correct`, `sealEpoch` |
//! | `sealed` | how a seal looks, with EAF's figures and this node's token |
//! | `balance` | `balance`, `unsealedBalance`, `sealedBalance`, `isSealed`, `latestBalances` |
//! | `journal` | `journal`, `late`, `statements`, `assets` |
//! | `peers` | who traded with whom: shares that add up |
//! | `upstream` | `peers`, `getUpstream` |
//! | `proof` | `proof`, `decodeSeal` |

pub(crate) mod balance;
pub(crate) mod journal;
pub(crate) mod peers;
pub(crate) mod proof;
pub(crate) mod seal;
pub(crate) mod sealed;
pub(crate) mod settle;
pub(crate) mod upstream;
