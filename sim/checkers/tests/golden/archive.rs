//! Files of an archive: what a ledger refers to, and what a process stops for.

use std::collections::BTreeMap;

use checkers::archive;
use sha2::{Digest as _, Sha256};

use crate::wal::Files;

/// The name that belongs to a content.
fn name(content: &[u8]) -> String {
    format!(
        "0000000000009-seals-{}.parquet",
        hex::encode(&Sha256::digest(content)[..8])
    )
}

fn disk(files: &[(&str, &[u8])]) -> Files {
    let disk = Files::default();
    for (name, content) in files {
        disk.put(&format!("archive/{name}"), content);
    }
    disk
}

#[test]
fn what_a_ledger_refers_to_is_what_it_has_noted_in_the_end() {
    let (own, other) = (name(b"own"), name(b"other"));
    let noted = |content: &[u8]| -> [u8; 32] { Sha256::digest(content).into() };
    let needed = BTreeMap::from([(own.clone(), noted(b"own"))]);
    let complaints = |content: &[u8]| archive::at_rest(7, &disk(&[(&own, content)]), &needed);
    assert_eq!(complaints(b"own"), [""; 0]);
    for wrong in [&b"owm"[..], b"ow", b"own ", b""] {
        let told = complaints(wrong);
        assert!(
            told.len() == 1 && told[0].contains("of n7 is damaged"),
            "{told:?}"
        );
    }
    // What nobody refers to is nobody's concern, and what is not there is upkeep's.
    assert_eq!(archive::at_rest(7, &disk(&[(&other, b"?")]), &needed), [""; 0]);
    // A ledger that has noted something else than it wrote.
    let needed = BTreeMap::from([(own.clone(), noted(b"other"))]);
    let told = archive::at_rest(7, &disk(&[(&own, b"own")]), &needed);
    assert!(
        told.len() == 1 && told[0].contains("ledger of n7 has noted"),
        "{told:?}"
    );
}

#[test]
fn a_process_that_stops_for_want_of_a_file_says_which() {
    let why = "disk fault: applying 7: archive/0-seals-1.parquet is missing, and no other member gave it (node 1: no such file)";
    assert_eq!(archive::wanting(why), Some("0-seals-1.parquet"));
    assert_eq!(
        archive::wanting("disk fault: archive/0.draft: no space left"),
        None
    );
    assert_eq!(
        archive::wanting("archive/0-seals-1.parquet is damaged"),
        None,
        "nobody was asked"
    );
}
