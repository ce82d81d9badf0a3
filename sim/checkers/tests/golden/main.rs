//! Golden histories: for each checker good ones that it accepts, and bad ones, which differ from a good one in one thing,
//! that it must notice.

mod agree;
mod answers;
mod archive;
mod attestation;
mod certificates;
mod clients;
#[path = "../../../../node/ledger/tests/common/mod.rs"]
mod common;
#[path = "../../../../node/ledger/tests/oracle/history.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a test of the ledger's, of which this one uses a part"
)]
mod history;
mod limits;
mod linear;
mod log;
mod odd;
#[path = "../../../src/product.rs"]
mod product;
mod raft;
mod small;
mod tokens;
mod upstream;
mod wal;
mod watch;
