//! Three disks and what clients saw, all at once: what a real cluster leaves behind.

use std::collections::BTreeSet;

use super::log::Fixture;
use super::odd::Liar;
use super::product::Product;
use super::wal::{Files, frame, head, path};
use checkers::history::History;
use checkers::oracle::judge::Payload;
use checkers::recovery::{EQUAL_MS, View};
use checkers::wal::Platter;
use checkers::watch::{Conclusion, Glance, Watch};

/// The log of a fixture up to an index, as it lies on a disk, and what was signed.
fn disk(fixture: &Fixture, upto: u64, damage: Option<u64>) -> Files {
    let disk = logged(fixture, upto, damage);
    sign(&disk, fixture.block());
    disk
}

/// The log alone.
fn logged(fixture: &Fixture, upto: u64, damage: Option<u64>) -> Files {
    let disk = Files::default();
    disk.put(&path(1), &head(1, 1));
    for (seq, (index, payload)) in (1..).zip(fixture.log.range(..=upto)) {
        let mut body = vec![3];
        body.extend([1_u64, 1, *index].into_iter().flat_map(u64::to_be_bytes));
        match payload {
            Payload::Blank => body.push(0),
            Payload::App(bytes) => {
                body.push(1);
                body.extend(bytes);
            }
            // postcard: one configuration of three, no nodes.
            Payload::Membership(_) => body.extend([2, 1, 3, 1, 2, 3, 0]),
        }
        if damage == Some(*index) {
            body.push(0);
        }
        disk.put(&path(1), &frame(1, seq, &body));
    }
    disk
}

/// The last header signed, and its block.
fn sign(disk: &Files, (block, header): (u64, [u8; 32])) {
    let mut signed = b"GSSIGNED".to_vec();
    signed.extend(1_u64.to_be_bytes());
    signed.extend(block.to_be_bytes());
    signed.extend(header);
    signed.extend(crc32c::crc32c(&signed).to_be_bytes());
    disk.put("signed/last", &signed);
}

/// A snapshot with the first bytes of a body that is no ledger's.
fn snapshot(body_bytes: usize) -> Vec<u8> {
    let body = b"what a machine gave";
    let mut file = b"GRIDSNP\x02".to_vec();
    file.extend([7; 40]);
    // No last entry; n1, n2 and n3 vote by the first one; no files.
    let meta = [0, 1, 1, 1, 0, 1, 3, 1, 2, 3, 0, 0];
    file.extend((meta.len() as u32).to_be_bytes());
    file.extend((body.len() as u64).to_be_bytes());
    file.extend(crc32c::crc32c(body).to_be_bytes());
    file.extend([0; 4]);
    file.extend(meta);
    file.extend(&body[..body_bytes]);
    file
}

/// Three nodes, watched while they run. The third shows a state, has a snapshot to match if it isn't the others', and signs
/// a header; `wrong` says whether its ledger computes wrongly on purpose.
fn watched(wrong: bool, state: [u8; 32], header: [u8; 32]) -> Vec<&'static str> {
    let fixture = Fixture::new();
    let (block, right) = fixture.block();
    let last = *fixture.log.keys().next_back().unwrap();
    let mut watch = Watch::new(BTreeSet::new(), wrong.then_some(3).into_iter().collect());
    let mut look = |version, disks: &[Files; 3], applied, state: Option<[u8; 32]>| {
        let own = Some(fixture.ledger.state().0).filter(|_| state.is_some());
        let all = (1..)
            .zip(disks)
            .map(|(node, disk)| (node, version, disk as &dyn Platter));
        watch.look_at_disks(version, all);
        for (node, state) in [(1, own), (2, own), (3, state)] {
            let glance = Glance {
                applied: Some(applied),
                state,
                life: 1,
                ..Glance::default()
            };
            watch.look_at_node(version, node, &glance);
        }
    };
    // A block is signed once it is committed, and not before.
    look(1, &[(); 3].map(|()| logged(&fixture, block, None)), block, None);
    let disks = [right, right, header].map(|header| {
        let disk = logged(&fixture, last, None);
        sign(&disk, (block, header));
        disk
    });
    let own = fixture.ledger.state().0;
    if state != own {
        disks[2].put("snapshot/00000000000000000002.snap", &snapshot(19));
    }
    look(2, &disks, last, Some(state));
    let view = |state| View {
        term: 1,
        leader: Some(1),
        applied: Some(last),
        state,
        newest_block: Some(block),
        certified: Some(block),
    };
    assert_eq!(watch.committed_to(), Some(last));
    assert_eq!(watch.is_broken(), !watch.violations().is_empty());
    assert_eq!(watch.is_broken(), !wrong && state != own);
    let views = [(1, view(own)), (2, view(own)), (3, view(state))].into();
    watch.look_at_all(3, Some(&views));
    watch.look_at_all(4 + EQUAL_MS, Some(&views));
    complaints(&watch.conclude::<Product>(5 + EQUAL_MS, &fixture.history()))
}

fn autopsy(fixture: &Fixture, disks: &[Files; 3]) -> Conclusion {
    let disks = (1..).zip(disks.iter().map(|disk| disk as &dyn Platter));
    Watch::post_mortem::<Product>(1, disks, &fixture.history())
}

fn complaints(conclusion: &Conclusion) -> Vec<&'static str> {
    let mut checkers: Vec<_> = conclusion
        .violations
        .iter()
        .map(|violation| violation.checker)
        .collect();
    checkers.dedup();
    checkers
}

#[test]
fn what_a_good_cluster_leaves_is_good() {
    let fixture = Fixture::new();
    let all = fixture.log.len() as u64;
    let good = autopsy(
        &fixture,
        &[
            disk(&fixture, all, None),
            disk(&fixture, all, None),
            disk(&fixture, 2, None),
        ],
    );
    assert_eq!(good.violations, []);
    let reached: Vec<_> = good.reached.keys().copied().collect();
    assert_eq!(
        reached,
        [
            "a client gave up without an answer",
            "a retry that was a duplicate",
            "a seal",
            "a seal made twice, refused",
            "three voters"
        ]
    );
}

#[test]
fn what_is_committed_is_known_from_the_disks_alone() {
    let fixture = Fixture::new();
    let all = *fixture.log.keys().next_back().unwrap();
    let disks = [(); 3].map(|()| {
        let disk = disk(&fixture, all, None);
        let mut mark = vec![5];
        mark.extend([1_u64, 1, all].into_iter().flat_map(u64::to_be_bytes));
        disk.put(&path(1), &frame(1, all + 2, &mark));
        disk
    });
    let disks = (1..).zip(disks.iter().map(|disk| disk as &dyn Platter));
    let conclusion = Watch::post_mortem::<Product>(1, disks, &History::default());
    assert_eq!(conclusion.replayed, Some(all + 1));
}

#[test]
fn what_others_find_is_told_five_times_at_most() {
    let mut watch = Watch::default();
    watch.complain(1, "liveness", None);
    assert!(!watch.is_broken());
    for at_ms in 1..=9 {
        watch.complain(at_ms, "liveness", Some("it spins".into()));
    }
    watch.complain(10, "fail-stop", Some("it goes on".into()));
    let told: Vec<_> = watch.violations().iter().map(|v| (v.at_ms, v.checker)).collect();
    assert_eq!(told[..5], [1, 2, 3, 4, 5].map(|at_ms| (at_ms, "liveness")));
    assert_eq!(told[5..], [(10, "fail-stop")]);
}

#[test]
fn of_an_excused_disk_nothing_is_asked() {
    let fixture = Fixture::new();
    // Up to before anything is signed.
    let complaints = |excused: &[u64]| {
        let mut watch = Watch::new(excused.iter().copied().collect(), BTreeSet::new());
        let disks = [None, None, Some(4)].map(|damage| logged(&fixture, 4, damage));
        let disks = (1..).zip(&disks);
        watch.look_at_disks(1, disks.map(|(node, disk)| (node, 1, disk as &dyn Platter)));
        watch.violations().len()
    };
    assert!(complaints(&[]) > 0);
    assert_eq!(complaints(&[3]), 0);
}

#[test]
fn a_node_whose_ledger_is_wrong_is_judged_by_what_it_signs_alone() {
    let fixture = Fixture::new();
    let (state, (_, header)) = (fixture.ledger.state().0, fixture.block());
    assert_eq!(watched(false, state, header), [""; 0]);
    assert_eq!(watched(true, [9; 32], header), [""; 0]);
    assert_eq!(
        watched(false, [9; 32], header),
        ["state machine safety", "recovery", "replay"]
    );
    assert_eq!(watched(true, [9; 32], [9; 32]), ["attestation"]);
}

#[test]
fn what_it_must_not_leave_is_told() {
    let fixture = Fixture::new();
    let all = fixture.log.len() as u64;
    let lonely = autopsy(
        &fixture,
        &[
            disk(&fixture, all, None),
            disk(&fixture, 4, None),
            disk(&fixture, 4, None),
        ],
    );
    assert_eq!(complaints(&lonely), ["durability"]);
    let torn = autopsy(
        &fixture,
        &[
            disk(&fixture, all, None),
            disk(&fixture, all, Some(4)),
            disk(&fixture, all, None),
        ],
    );
    assert_eq!(complaints(&torn), ["log matching"]);
    let mut told_wrong = fixture.history();
    told_wrong.operations.remove(1);
    told_wrong.operations[1].outcome = checkers::history::Outcome::Done;
    told_wrong.seals[0].digest = "00".into();
    let disks = [disk(&fixture, all, None), disk(&fixture, all, None)];
    let disks = (1..).zip(disks.iter().map(|disk| disk as &dyn Platter));
    let conclusion = Watch::post_mortem::<Product>(1, disks, &told_wrong);
    assert_eq!(complaints(&conclusion), ["replay", "exactly once"]);
    // What the ledger says it did is held against the oracle.
    let disks = [disk(&fixture, all, None), disk(&fixture, all, None)];
    let disks = (1..).zip(disks.iter().map(|disk| disk as &dyn Platter));
    let conclusion = Watch::post_mortem::<Liar>(1, disks, &fixture.history());
    assert!(complaints(&conclusion).contains(&"oracle"));
}

#[test]
fn a_snapshot_covers_what_was_dropped_only_if_its_bytes_are_there() {
    let fixture = Fixture::new();
    let all = fixture.log.len() as u64;
    let dropping = |body_bytes: usize| {
        let dropping = disk(&fixture, all, None);
        dropping.put("snapshot/00000000000000000002.snap", &snapshot(body_bytes));
        let mut purge = vec![6];
        purge.extend([1_u64, 1, 2].into_iter().flat_map(u64::to_be_bytes));
        let seq = fixture.log.range(..=all).count() as u64 + 1;
        dropping.put(&path(1), &frame(1, seq, &purge));
        let conclusion = autopsy(
            &fixture,
            &[dropping, disk(&fixture, all, None), disk(&fixture, all, None)],
        );
        complaints(&conclusion)
    };
    // Whole, it covers them; that it is no ledger's snapshot is another matter.
    assert_eq!(dropping(19), ["replay"]);
    assert_eq!(dropping(18), ["durability"]);
}
