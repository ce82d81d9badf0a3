//! What nodes may sign, and when.

use std::collections::BTreeSet;

use serde_json::json;

use super::log::{Fixture, Judged};
use checkers::attestation::Attestations;
use checkers::history::{History, Shown};
use checkers::oracle::judge::Payload;

fn complaints(attestations: &mut Attestations) -> Vec<&'static str> {
    attestations
        .take_found()
        .into_iter()
        .map(|(checker, _)| checker)
        .collect()
}

/// The bytes of every entry with signatures, and the digest of the block that they are under.
fn signatures(fixture: &Fixture) -> Vec<Vec<u8>> {
    let app = |payload: &Payload| match payload {
        Payload::App(bytes) if bytes.get(9) == Some(&2) => Some(bytes.to_vec()),
        _ => None,
    };
    fixture.log.values().filter_map(app).collect()
}

#[test]
fn a_signature_needs_a_committed_entry_and_a_record_on_the_signers_disk() {
    let fixture = Fixture::new();
    let (index, header) = fixture.block();
    let entry = &signatures(&fixture)[0];

    let mut good = Attestations::default();
    for node in 1..=3 {
        good.on_disk(node, index, header, Some(index));
    }
    good.entry(entry, Some(index));
    good.entry(b"not an entry", Some(index));
    assert_eq!(good.take_found(), []);
    let judgement = Judged::of(&fixture.log);
    assert_eq!(good.check(&judgement.book), []);

    let mut early = Attestations::default();
    early.on_disk(1, index, header, Some(index - 1));
    assert_eq!(complaints(&mut early), ["attestation"]);
    early.on_disk(2, index, header, None);
    assert_eq!(complaints(&mut early), ["attestation"]);

    let mut unrecorded = Attestations::default();
    unrecorded.entry(entry, Some(index));
    assert_eq!(
        complaints(&mut unrecorded),
        ["one header"; 2],
        "one for each of the two signers"
    );

    let mut old_record = Attestations::default();
    old_record.on_disk(1, index - 1, header, Some(index));
    old_record.on_disk(2, index, header, Some(index));
    old_record.entry(entry, Some(index));
    assert_eq!(complaints(&mut old_record), ["one header"]);

    let mut excused = Attestations::new(BTreeSet::from([1, 2]));
    excused.entry(entry, Some(index));
    assert_eq!(excused.take_found(), []);
}

#[test]
fn nobody_signs_two_headers_for_one_index_or_forgets_what_was_signed() {
    let mut twice = Attestations::default();
    twice.on_disk(1, 5, [1; 32], Some(9));
    twice.on_disk(1, 5, [1; 32], Some(9));
    twice.on_disk(2, 5, [2; 32], Some(9));
    assert_eq!(twice.take_found(), [], "the same again, or another node's");
    twice.on_disk(1, 5, [2; 32], Some(9));
    assert_eq!(complaints(&mut twice), ["one header"]);

    let mut back = Attestations::default();
    back.on_disk(1, 5, [1; 32], Some(9));
    back.on_disk(1, 4, [3; 32], Some(9));
    assert_eq!(complaints(&mut back), ["one header"]);
}

#[test]
fn what_was_signed_is_what_replay_gives() {
    let fixture = Fixture::new();
    let (index, header) = fixture.block();
    let judgement = Judged::of(&fixture.log);
    for (index, header) in [(index, [9; 32]), (index + 1, header)] {
        let mut wrong = Attestations::default();
        wrong.on_disk(1, index, header, Some(index));
        let found: Vec<_> = wrong
            .check(&judgement.book)
            .into_iter()
            .map(|(checker, _)| checker)
            .collect();
        assert_eq!(found, ["attestation"]);
    }
}

#[test]
fn whoever_shows_a_block_has_signed_it() {
    let shown = |blocks: &[u64]| Shown {
        blocks: blocks.iter().map(|index| json!({ "index": index })).collect(),
        ..Shown::default()
    };
    let history = History {
        shown: [(1, shown(&[4, 7])), (2, shown(&[4, 7])), (3, shown(&[]))].into(),
        ..History::default()
    };
    let idle = |signed: &[(u64, u64)], excused: &[u64], covered: Option<u64>| {
        let mut attestations = Attestations::new(excused.iter().copied().collect());
        for (node, index) in signed {
            attestations.on_disk(*node, *index, [1; 32], Some(9));
        }
        attestations.idle(&history, |_| covered).len()
    };
    assert_eq!(idle(&[(1, 7), (2, 8)], &[], None), 0);
    assert_eq!(idle(&[(1, 7), (2, 6)], &[], None), 1, "n2 has stopped");
    assert_eq!(idle(&[(1, 7)], &[], Some(6)), 1, "n2 never signed");
    assert_eq!(idle(&[(1, 7)], &[2], None), 0, "n2 is excused");
    assert_eq!(idle(&[(1, 7)], &[], Some(7)), 0, "it came with a snapshot");
}
