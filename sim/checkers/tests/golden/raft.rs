//! Three disks, two terms, and everything that Raft forbids.

use std::collections::BTreeSet;

use checkers::oracle::judge::Payload;
use checkers::raft::Raft;
use checkers::wal::{Leader, LogId, Record};

fn id(term: u64, node: u64, index: u64) -> LogId {
    LogId {
        leader: Leader { term, node },
        index,
    }
}

fn vote(term: u64, node: u64) -> Record {
    Record::Vote((Leader { term, node }, false))
}

fn command(id: LogId, text: &'static str) -> Record {
    Record::Entry(id, Payload::App(text.into()))
}

fn members(id: LogId, configs: &[&[u64]]) -> Record {
    let configs = configs
        .iter()
        .map(|config| config.iter().copied().collect::<BTreeSet<_>>());
    Record::Entry(id, Payload::Membership(configs.collect()))
}

/// Three voters, of whom n1 leads term 1; entry 1 is on the disks of n1 and n2 and committed; n3 has only heard of
/// the membership.
fn good() -> Raft {
    let mut raft = Raft::default();
    for node in 1..=3 {
        raft.record(node, &members(id(0, 0, 0), &[&[1, 2, 3]]));
        raft.record(node, &vote(1, 1));
    }
    raft.leads(1, 1);
    raft.record(1, &command(id(1, 1, 1), "a"));
    raft.record(2, &command(id(1, 1, 1), "a"));
    raft.applied(1, 1);
    raft
}

/// Who complains.
fn complaints(raft: &mut Raft) -> Vec<&'static str> {
    raft.take_found()
        .into_iter()
        .map(|(checker, _)| checker)
        .collect()
}

fn after(steps: impl FnOnce(&mut Raft)) -> Vec<&'static str> {
    let mut raft = good();
    assert_eq!(raft.take_found(), []);
    steps(&mut raft);
    complaints(&mut raft)
}

const NONE: [&str; 0] = [];

#[test]
fn a_life_without_faults_is_good() {
    let mut raft = good();
    // n2 takes over, with all that is committed; what n1 had beside that goes.
    raft.record(1, &command(id(1, 1, 2), "lost"));
    for node in [2, 3] {
        raft.record(node, &vote(2, 2));
    }
    raft.leads(2, 2);
    raft.record(3, &command(id(1, 1, 1), "a"));
    for node in [2, 3] {
        raft.record(node, &command(id(2, 2, 2), "b"));
    }
    raft.applied(3, 2);
    raft.record(1, &Record::Truncate(Some(id(1, 1, 1))));
    raft.record(1, &command(id(2, 2, 2), "b"));
    raft.record(1, &Record::Committed(id(2, 2, 2)));
    raft.snapshot(1, 2);
    raft.record(1, &Record::Purge(id(1, 1, 1)));
    raft.record(
        1,
        &Record::Checkpoint {
            vote: Some((Leader { term: 2, node: 2 }, true)),
            purged: Some(id(1, 1, 1)),
            committed: Some(id(2, 2, 2)),
        },
    );
    assert_eq!(raft.take_found(), []);
    assert_eq!(raft.committed_to(), Some(2));
    let log = raft.committed_log().unwrap();
    assert_eq!(
        log.values().skip(1).cloned().collect::<Vec<_>>(),
        [Payload::App("a".into()), Payload::App("b".into())]
    );
    let seen: Vec<_> = raft.seen().iter().map(|(what, times)| (*what, *times)).collect();
    assert_eq!(
        seen,
        [
            ("a leader changed with a batch in flight", 1),
            ("a leader elected", 2),
            ("a log purged", 1),
            ("a snapshot taken", 1),
        ]
    );
}

#[test]
fn what_is_applied_must_be_on_a_majority_of_disks() {
    let lonely = |raft: &mut Raft| {
        raft.record(1, &command(id(1, 1, 2), "b"));
        raft.applied(1, 2);
    };
    assert_eq!(after(lonely), ["durability"]);
    assert_eq!(
        after(|raft| raft.applied(1, 2)),
        ["durability"],
        "on no disk at all"
    );
    // Whoever applies it all the same shows nothing of what is committed: nothing may be signed for it.
    let mut raft = good();
    assert_eq!((raft.committed_to(), raft.backed_to()), (Some(1), Some(1)));
    lonely(&mut raft);
    raft.record(2, &command(id(1, 1, 2), "b"));
    raft.record(2, &command(id(1, 1, 3), "c"));
    raft.applied(2, 3);
    assert_eq!((raft.committed_to(), raft.backed_to()), (Some(3), Some(1)));
    // A snapshot stands for what it covers.
    let covered = |raft: &mut Raft| {
        raft.record(1, &command(id(1, 1, 2), "b"));
        raft.snapshot(2, 2);
        raft.applied(1, 2);
    };
    assert_eq!(after(covered), NONE);
    // Both configurations count while they change: two of 1, 2, 3, and two of 3, 4, 5.
    let joint = |disks: &'static [u64]| {
        move |raft: &mut Raft| {
            for node in disks {
                raft.record(*node, &members(id(1, 1, 2), &[&[1, 2, 3], &[3, 4, 5]]));
            }
            raft.applied(1, 2);
        }
    };
    assert_eq!(after(joint(&[1, 2])), ["durability"]);
    assert_eq!(after(joint(&[1, 2, 4])), ["durability"]);
    assert_eq!(after(joint(&[1, 2, 4, 5])), NONE);
    // Once that is committed its leader counts by what follows, which is on no disk yet; elections don't.
    let behind = |disks: &'static [u64]| {
        move |raft: &mut Raft| {
            joint(&[1, 2, 4, 5])(raft);
            for node in disks {
                raft.record(*node, &command(id(1, 1, 3), "c"));
            }
            raft.applied(1, 3);
        }
    };
    assert_eq!(after(behind(&[4, 5])), NONE);
    assert_eq!(after(behind(&[1, 2])), ["durability"]);
    let elected = |raft: &mut Raft| {
        behind(&[4, 5])(raft);
        for node in [4, 5] {
            raft.record(node, &vote(2, 4));
        }
        raft.leads(4, 2);
    };
    assert_eq!(after(elected), ["election safety"]);
}

#[test]
fn half_is_no_majority_and_more_than_half_is() {
    let on = |voters: &'static [u64], disks: &'static [u64]| {
        let mut raft = Raft::default();
        for node in voters {
            raft.record(*node, &members(id(0, 0, 0), &[voters]));
        }
        raft.applied(1, 0);
        for node in disks {
            raft.record(*node, &command(id(1, 1, 1), "a"));
        }
        raft.applied(1, 1);
        complaints(&mut raft)
    };
    assert_eq!(on(&[1, 2, 3, 4], &[1, 2]), ["durability"]);
    assert_eq!(on(&[1, 2, 3, 4], &[1, 2, 3]), NONE);
    assert_eq!(on(&[1, 2, 3, 4, 5], &[1, 2]), ["durability"]);
    assert_eq!(on(&[1, 2, 3, 4, 5], &[1, 2, 3]), NONE);
}

#[test]
fn a_membership_made_later_may_have_committed_what_stands_before_it() {
    let handed_over = |later: bool| {
        move |raft: &mut Raft| {
            for node in [4, 5] {
                raft.record(node, &members(id(0, 0, 0), &[&[1, 2, 3]]));
                raft.record(node, &command(id(1, 1, 1), "a"));
                raft.record(node, &command(id(1, 1, 2), "b"));
            }
            if later {
                raft.record(4, &members(id(1, 1, 3), &[&[4, 5, 6]]));
            }
            raft.applied(4, 2);
        }
    };
    assert_eq!(after(handed_over(true)), NONE);
    assert_eq!(after(handed_over(false)), ["durability"]);
}

#[test]
fn a_leader_that_removes_itself_is_counted_once() {
    let mut raft = good();
    raft.record(3, &command(id(1, 1, 1), "a"));
    for node in [2, 3] {
        raft.record(node, &members(id(1, 1, 2), &[&[2, 3]]));
    }
    raft.applied(2, 2);
    for index in 3..=5 {
        for node in [2, 3] {
            raft.record(node, &command(id(1, 1, index), "b"));
        }
        raft.applied(2, index);
    }
    assert_eq!(raft.take_found(), []);
    assert_eq!(raft.seen().get("a leader removed while it led"), Some(&1));
    // One that stays, or a membership without its leader at the very beginning, is no such thing.
    let mut stays = good();
    for node in [1, 2] {
        stays.record(node, &members(id(1, 1, 2), &[&[1, 2]]));
    }
    stays.applied(1, 2);
    assert_eq!(stays.seen().get("a leader removed while it led"), None);
}

#[test]
fn a_leader_has_the_votes_of_a_majority_on_their_disks() {
    assert_eq!(after(|raft| raft.leads(2, 2)), ["election safety"], "none");
    let votes = |voters: &'static [u64]| {
        move |raft: &mut Raft| {
            voters.iter().for_each(|node| raft.record(*node, &vote(2, 2)));
            raft.leads(2, 2);
            raft.leads(2, 2);
        }
    };
    assert_eq!(after(votes(&[2])), ["election safety"]);
    assert_eq!(after(votes(&[2, 3])), NONE);
    // A later vote can only have come after.
    let later = |raft: &mut Raft| {
        raft.record(2, &vote(2, 2));
        raft.record(3, &vote(3, 1));
        raft.leads(2, 2);
    };
    assert_eq!(after(later), NONE);
}

#[test]
fn excused_disks_may_hold_anything() {
    let mut raft = Raft::new(BTreeSet::from([2]));
    for node in [1, 3] {
        raft.record(node, &members(id(0, 0, 0), &[&[1, 2, 3]]));
    }
    raft.record(1, &command(id(1, 1, 1), "a"));
    raft.applied(1, 1);
    assert_eq!(raft.take_found(), []);
    raft.applied(1, 2);
    assert_eq!(complaints(&mut raft), ["durability"], "one excuse is no majority");
}

#[test]
fn logs_match() {
    let other_command = |raft: &mut Raft| raft.record(3, &command(id(1, 1, 1), "x"));
    assert_eq!(after(other_command), ["log matching"]);
    let gap = |raft: &mut Raft| raft.record(1, &command(id(1, 1, 3), "c"));
    assert_eq!(after(gap), ["log matching"]);
    let over = |raft: &mut Raft| raft.record(1, &command(id(1, 1, 1), "a"));
    assert_eq!(
        after(over),
        ["log matching"; 2],
        "written over without a truncation: it follows itself"
    );
    let backwards = |raft: &mut Raft| raft.record(1, &command(id(0, 3, 2), "old"));
    assert_eq!(after(backwards), ["log matching"]);
    let other_past = |raft: &mut Raft| {
        raft.record(1, &command(id(1, 1, 2), "b"));
        raft.record(1, &command(id(1, 1, 3), "c"));
        raft.record(3, &command(id(1, 1, 1), "a"));
        raft.record(3, &command(id(1, 0, 2), "z"));
        raft.record(3, &command(id(1, 1, 3), "c"));
    };
    // (The older entry behind a younger one is told as well.)
    assert_eq!(after(other_past), ["log matching", "log matching"]);
    let unknown = |raft: &mut Raft| raft.record(1, &Record::Truncate(Some(id(1, 2, 1))));
    assert_eq!(after(unknown), ["log matching"]);
}

#[test]
fn whoever_follows_a_newer_leader_has_all_that_was_committed() {
    let over_committed = |raft: &mut Raft| raft.record(3, &command(id(2, 3, 1), "b"));
    assert_eq!(after(over_committed), ["leader completeness"]);
    let elsewhere = |raft: &mut Raft| {
        raft.record(3, &command(id(1, 3, 1), "x"));
        raft.take_found();
        raft.record(3, &command(id(2, 3, 2), "b"));
    };
    assert_eq!(after(elsewhere), ["leader completeness"]);
    let by_snapshot = |raft: &mut Raft| {
        raft.snapshot(3, 1);
        raft.record(3, &Record::Purge(id(1, 1, 1)));
        raft.record(3, &command(id(2, 3, 2), "b"));
    };
    assert_eq!(after(by_snapshot), NONE);
}

#[test]
fn what_is_committed_stays() {
    let dropped = |raft: &mut Raft| raft.record(1, &Record::Truncate(Some(id(0, 0, 0))));
    assert_eq!(after(dropped), ["state machine safety"]);
    assert_eq!(
        after(|raft| raft.record(1, &Record::Truncate(None))),
        ["state machine safety"]
    );
    let another = |raft: &mut Raft| {
        raft.record(3, &command(id(1, 1, 1), "a"));
        raft.record(3, &Record::Committed(id(1, 2, 1)));
    };
    assert_eq!(after(another), ["state machine safety"]);
    let uncommitted = |raft: &mut Raft| {
        raft.record(1, &command(id(1, 1, 2), "b"));
        raft.record(1, &Record::Truncate(Some(id(1, 1, 1))));
    };
    assert_eq!(after(uncommitted), NONE);
    // A node that never knew may drop what others have for certain: a snapshot that covers it comes in its place.
    let others_have_it = |raft: &mut Raft| {
        raft.record(3, &command(id(1, 1, 1), "a"));
        raft.record(1, &Record::Truncate(Some(id(0, 0, 0))));
    };
    assert_eq!(after(others_have_it), NONE);
    let but_it_knew = |raft: &mut Raft| {
        raft.record(1, &Record::Committed(id(1, 1, 1)));
        others_have_it(raft);
    };
    assert_eq!(after(but_it_knew), ["state machine safety"]);
}

#[test]
fn what_a_node_holds_for_committed_is_on_its_disk_before_it_says_so() {
    let early = |raft: &mut Raft| raft.record(3, &Record::Committed(id(1, 1, 1)));
    assert_eq!(after(early), ["state machine safety"]);
    let checkpoint = |purged| Record::Checkpoint {
        vote: None,
        purged,
        committed: Some(id(1, 1, 1)),
    };
    let early = |raft: &mut Raft| raft.record(3, &checkpoint(None));
    assert_eq!(after(early), ["state machine safety"]);
    let covered = |raft: &mut Raft| {
        raft.snapshot(3, 1);
        raft.record(3, &checkpoint(Some(id(1, 1, 1))));
    };
    assert_eq!(after(covered), NONE);
    let there = |raft: &mut Raft| {
        raft.record(3, &command(id(1, 1, 1), "a"));
        raft.record(3, &Record::Committed(id(1, 1, 1)));
    };
    assert_eq!(after(there), NONE);
}

#[test]
fn what_a_node_holds_for_committed_stays_on_its_own_disk() {
    let marked = |drops: u64| {
        move |raft: &mut Raft| {
            raft.record(3, &command(id(1, 1, 1), "a"));
            raft.record(3, &command(id(1, 1, 2), "b"));
            raft.record(3, &Record::Committed(id(1, 1, 1)));
            raft.record(3, &Record::Truncate(Some(id(1, 1, drops))));
        }
    };
    assert_eq!(after(marked(1)), NONE);
    let unmarked = |raft: &mut Raft| {
        raft.record(3, &command(id(1, 1, 1), "a"));
        raft.record(3, &command(id(1, 1, 2), "b"));
        raft.record(3, &Record::Committed(id(1, 1, 2)));
        raft.record(3, &Record::Truncate(Some(id(1, 1, 1))));
    };
    assert_eq!(after(unmarked), ["state machine safety"], "nobody else knows yet");
    // What stands before a mark is marked as well.
    let before_the_mark = |raft: &mut Raft| {
        raft.record(3, &command(id(1, 3, 1), "x"));
        raft.record(3, &command(id(1, 3, 2), "y"));
        raft.take_found();
        raft.record(3, &Record::Committed(id(1, 3, 2)));
    };
    assert_eq!(after(before_the_mark), ["state machine safety"]);
}

/// The same logs, read one after the other when all is over.
fn buried(steps: impl FnOnce(&mut Raft)) -> (Raft, Vec<&'static str>) {
    let mut raft = Raft::post_mortem();
    for node in 1..=3 {
        raft.record(node, &members(id(0, 0, 0), &[&[1, 2, 3]]));
        raft.record(node, &vote(1, 1));
    }
    steps(&mut raft);
    raft.end();
    let found = complaints(&mut raft);
    (raft, found)
}

#[test]
fn disks_that_are_read_afterwards_say_themselves_what_is_committed() {
    let two = |raft: &mut Raft| {
        for node in [1, 2] {
            raft.record(node, &command(id(1, 1, 1), "a"));
            raft.record(node, &command(id(1, 1, 2), "b"));
            raft.record(node, &Record::Committed(id(1, 1, 2)));
        }
    };
    let (raft, found) = buried(two);
    assert_eq!((raft.committed_to(), found), (Some(2), vec![]));
    assert_eq!(raft.committed_log().map(|log| log.len()), Some(3));
    let lonely = |raft: &mut Raft| {
        raft.record(1, &command(id(1, 1, 1), "a"));
        raft.record(1, &Record::Committed(id(1, 1, 1)));
    };
    assert_eq!(buried(lonely).1, ["durability"], "of three disks one has it");
    let two_truths = |raft: &mut Raft| {
        two(raft);
        raft.record(3, &command(id(1, 1, 1), "a"));
        raft.record(3, &command(id(1, 3, 2), "c"));
        raft.record(3, &Record::Committed(id(1, 3, 2)));
    };
    assert_eq!(
        buried(two_truths).1,
        ["leader completeness", "state machine safety"]
    );
    // What n3 drops may have been committed only later, with other disks' help.
    let dropped = |raft: &mut Raft| {
        two(raft);
        raft.record(3, &command(id(1, 1, 1), "a"));
        raft.record(3, &Record::Truncate(Some(id(0, 0, 0))));
    };
    assert_eq!(buried(dropped).1, NONE);
    let unknown = |raft: &mut Raft| raft.record(1, &Record::Committed(id(1, 1, 9)));
    assert_eq!(
        buried(unknown).0.committed_to(),
        Some(0),
        "a mark without its entry says nothing"
    );
}

#[test]
fn nothing_goes_back() {
    assert_eq!(after(|raft| raft.record(1, &vote(0, 9))), ["monotonic"]);
    assert_eq!(
        after(|raft| raft.record(1, &vote(1, 0))),
        ["monotonic"],
        "another vote in the same term"
    );
    assert_eq!(after(|raft| raft.record(1, &vote(1, 1))), NONE);
    let mark = |raft: &mut Raft| {
        raft.record(1, &Record::Committed(id(1, 1, 1)));
        raft.record(1, &Record::Committed(id(0, 0, 0)));
    };
    assert_eq!(after(mark), ["monotonic"]);
    // A mark is held against what is committed once, with what stands before it, and not again with every mark behind it.
    let told_once = |raft: &mut Raft| {
        for index in 1..=3 {
            raft.record(3, &command(id(2, 2, index), "x"));
        }
        raft.take_found();
        raft.record(3, &Record::Committed(id(2, 2, 1)));
        raft.record(3, &Record::Committed(id(2, 2, 3)));
    };
    assert_eq!(after(told_once), ["state machine safety"]);
    let checkpoint = |raft: &mut Raft| {
        raft.record(
            1,
            &Record::Checkpoint {
                vote: Some((Leader::default(), false)),
                purged: None,
                committed: None,
            },
        );
    };
    assert_eq!(after(checkpoint), ["monotonic"]);
}

#[test]
fn a_log_goes_only_behind_a_snapshot() {
    assert_eq!(
        after(|raft| raft.record(1, &Record::Purge(id(1, 1, 1)))),
        ["durability"]
    );
    let too_old = |raft: &mut Raft| {
        raft.snapshot(1, 0);
        raft.record(1, &Record::Purge(id(1, 1, 1)));
    };
    assert_eq!(after(too_old), ["durability"]);
    // Told again by a checkpoint, it is no second offence.
    let twice = |raft: &mut Raft| {
        raft.snapshot(1, 1);
        raft.record(1, &Record::Purge(id(1, 1, 1)));
        raft.record(1, &Record::Purge(id(1, 1, 1)));
    };
    assert_eq!(after(twice), NONE);
    let installed = |raft: &mut Raft| raft.snapshot(3, 7);
    let mut raft = good();
    installed(&mut raft);
    assert_eq!(raft.seen().get("a snapshot installed"), Some(&1));
}

#[test]
fn a_disk_that_does_not_continue_is_told() {
    assert_eq!(after(|raft| raft.broken(1, "a hole")), ["fail-stop"]);
}

#[test]
fn a_log_with_unknown_parts_is_none() {
    let mut raft = Raft::default();
    raft.record(1, &command(id(1, 1, 5), "e"));
    raft.applied(1, 5);
    assert_eq!(
        raft.committed_log().map(|log| log.len()),
        Some(0),
        "nothing is known to be committed"
    );
    let hole = |raft: &mut Raft| {
        raft.record(1, &command(id(1, 1, 5), "e"));
        raft.record(1, &Record::Committed(id(1, 1, 5)));
    };
    assert_eq!(buried(hole).0.committed_log(), None, "its middle is on no disk");
}

#[test]
fn only_commands_that_go_are_a_batch_in_flight() {
    let cut = |payload: Payload| {
        let mut raft = good();
        raft.record(1, &Record::Entry(id(1, 1, 2), payload));
        raft.record(1, &Record::Truncate(Some(id(1, 1, 1))));
        raft.seen()
            .get("a leader changed with a batch in flight")
            .copied()
    };
    assert_eq!(cut(Payload::App("b".into())), Some(1));
    assert_eq!(cut(Payload::Blank), None);
}
