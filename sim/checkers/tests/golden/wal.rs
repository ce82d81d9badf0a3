//! Bytes on a disk, written here by hand as the format says, and read back by the checkers.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crc32c::{crc32c, crc32c_append};

use checkers::failstop::Damaged;
use checkers::oracle::judge::Payload;
use checkers::upkeep::{self, Upkeep};
use checkers::wal::{self, Directory, Leader, LogId, Platter, Record, Tail};

#[derive(Default)]
pub(super) struct Files(RefCell<BTreeMap<String, Vec<u8>>>);

impl Files {
    pub(super) fn put(&self, path: &str, bytes: &[u8]) {
        self.0
            .borrow_mut()
            .entry(path.into())
            .or_default()
            .extend_from_slice(bytes);
    }
}

impl Platter for Files {
    fn list(&self, dir: &str) -> Vec<String> {
        let prefix = format!("{dir}/");
        self.0
            .borrow()
            .keys()
            .filter_map(|path| path.strip_prefix(&prefix).map(str::to_owned))
            .collect()
    }

    fn read(&self, path: &str, offset: u64, len: usize) -> Vec<u8> {
        let files = self.0.borrow();
        let offset = usize::try_from(offset).unwrap();
        files
            .get(path)
            .map(|bytes| bytes.iter().skip(offset).take(len).copied().collect())
            .unwrap_or_default()
    }
}

const DISK: u128 = 77;

pub(super) fn path(segment: u64) -> String {
    format!("log/{segment:016x}.wal")
}

pub(super) fn head(segment: u64, first_seq: u64) -> Vec<u8> {
    let mut out = b"GRIDWAL\x01".to_vec();
    out.extend([7; 32]);
    out.extend(3_u64.to_be_bytes());
    out.extend(DISK.to_be_bytes());
    out.extend(segment.to_be_bytes());
    out.extend(first_seq.to_be_bytes());
    out.extend(crc32c(&out).to_be_bytes());
    out
}

pub(super) fn frame(segment: u64, seq: u64, body: &[u8]) -> Vec<u8> {
    let salt = crc32c_append(crc32c(&DISK.to_be_bytes()), &segment.to_be_bytes());
    let mut out = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    out.extend(seq.to_be_bytes());
    out.extend(84_u64.to_be_bytes());
    out.extend(crc32c(body).to_be_bytes());
    out.extend(crc32c_append(salt, &out).to_be_bytes());
    out.push(0xF7);
    out.extend(body);
    out.push(0xE7);
    out
}

fn id(index: u64) -> LogId {
    LogId {
        leader: Leader { term: 2, node: 3 },
        index,
    }
}

fn log_id(index: u64) -> Vec<u8> {
    [2_u64, 3, index].into_iter().flat_map(u64::to_be_bytes).collect()
}

fn vote() -> Vec<u8> {
    [&log_id(0)[..16], &[1]].concat()
}

/// Every kind of record, as bytes and as read.
fn records() -> Vec<(Vec<u8>, Record)> {
    let with = |kind: u8, rest: &[u8]| [&[kind], rest].concat();
    let voted = (Leader { term: 2, node: 3 }, true);
    // postcard: one configuration of two, no nodes.
    let membership = [&log_id(4)[..], &[2, 1, 2, 1, 2, 0]].concat();
    let checkpoint = [&[1], &vote()[..], &[1], &log_id(1)[..], &[0]].concat();
    vec![
        (
            with(1, &checkpoint),
            Record::Checkpoint {
                vote: Some(voted),
                purged: Some(id(1)),
                committed: None,
            },
        ),
        (with(2, &vote()), Record::Vote(voted)),
        (
            with(3, &[&log_id(2)[..], &[0]].concat()),
            Record::Entry(id(2), Payload::Blank),
        ),
        (
            with(3, &[&log_id(3)[..], &[1], b"hi"].concat()),
            Record::Entry(id(3), Payload::App("hi".into())),
        ),
        (
            with(3, &membership),
            Record::Entry(id(4), Payload::Membership(vec![BTreeSet::from([1, 2])])),
        ),
        (
            with(4, &[&[1], &log_id(3)[..]].concat()),
            Record::Truncate(Some(id(3))),
        ),
        (with(4, &[0]), Record::Truncate(None)),
        (with(5, &log_id(3)), Record::Committed(id(3))),
        (with(6, &log_id(2)), Record::Purge(id(2))),
    ]
}

#[test]
fn a_directory_is_a_disk_too() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("log")).unwrap();
    for (name, content) in [("log/b", "of b"), ("log/a", "of a")] {
        std::fs::write(root.path().join(name), content).unwrap();
    }
    let disk = Directory(root.path().to_owned());
    assert_eq!(disk.list("log"), ["a", "b"]);
    assert_eq!(disk.list("elsewhere"), [""; 0]);
    assert_eq!(disk.read("log/a", 1, 2), b"f ");
    assert_eq!(disk.read("log/a", 3, 9), b"a");
    assert_eq!(disk.read("log/c", 0, 9), b"");
}

#[test]
fn a_log_is_followed_while_it_grows() {
    let disk = Files::default();
    let mut tail = Tail::default();
    assert_eq!(tail.news(&disk), Default::default());
    disk.put(&path(1), &head(1, 1));
    assert_eq!(tail.news(&disk), Default::default());
    for (seq, (bytes, record)) in (1..).zip(records()) {
        let frame = frame(1, seq, &bytes);
        let (begin, rest) = frame.split_at(frame.len() / 2);
        disk.put(&path(1), begin);
        assert_eq!(tail.news(&disk).records, [], "half a frame is none");
        disk.put(&path(1), rest);
        let news = tail.news(&disk);
        assert_eq!((news.records, news.breaks), (vec![record], vec![]));
    }
    // The rest is zeros, and then another segment.
    disk.put(&path(1), &[0; 100]);
    disk.put("log/0000000000000003.spare", &[0; 100]);
    disk.put(&path(2), &head(2, 10));
    disk.put(&path(2), &frame(2, 10, &records()[1].0));
    disk.0.borrow_mut().remove(&path(1));
    let news = tail.news(&disk);
    assert_eq!(
        (news.records, news.breaks),
        (vec![records()[1].1.clone()], vec![])
    );
    // All at once is the same.
    let mut late = Tail::default();
    assert_eq!(late.news(&disk).records, [records()[1].1.clone()]);
}

#[test]
fn a_segment_that_does_not_continue_the_one_before_is_a_break() {
    for (first, word) in [(3, "granted"), (1, "forgotten")] {
        let disk = Files::default();
        disk.put(&path(1), &head(1, 1));
        disk.put(&path(1), &frame(1, 1, &records()[1].0));
        disk.put(&path(2), &head(2, first));
        disk.put(&path(2), &frame(2, first, &records()[1].0));
        let news = Tail::default().news(&disk);
        assert_eq!(news.breaks.len(), 1);
        assert!(
            news.breaks[0].contains(word) && news.breaks[0].contains(" 1 frames"),
            "{:?}",
            news.breaks
        );
        assert_eq!(news.records.len(), 2, "reading goes on");
    }
}

#[test]
fn a_damaged_log_may_end_but_not_forget() {
    let disk = |number: u128, first: u64| {
        let disk = Files::default();
        for (segment, first) in [(1, 1), (2, first)] {
            let mut head = head(segment, first);
            let end = head.len() - 4;
            head[48..64].copy_from_slice(&number.to_be_bytes());
            let sum = crc32c(&head[..end]).to_be_bytes();
            head[end..].copy_from_slice(&sum);
            disk.put(&path(segment), &head);
        }
        disk
    };
    let grown = Files::default();
    grown.put(&path(1), &head(1, 1));
    grown.put(&path(1), &frame(1, 1, &records()[1].0));
    let mut damaged = Damaged::default();
    assert_eq!(damaged.look(4, &grown), None);
    assert_eq!(damaged.look(5, &Files::default()), None, "no log at all");
    // Another disk knows nothing of the first, and may begin at its beginning.
    assert_eq!(damaged.look(4, &disk(78, 1)), None);
    assert_eq!(damaged.look(4, &grown), None, "the first again");
    let cut = disk(DISK, 1);
    cut.put(&path(1), &frame(1, 1, &records()[1].0));
    let told = damaged.look(4, &cut).expect("a frame is gone");
    assert!(
        told.contains("n4") && told.contains("has forgotten 1 frames"),
        "{told}"
    );
}

#[test]
fn every_flipped_bit_ends_the_log_there() {
    let whole = [head(1, 1), frame(1, 1, &records()[3].0)].concat();
    for at in 0..whole.len() {
        let disk = Files::default();
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        disk.put(&path(1), &bytes);
        assert_eq!(Tail::default().news(&disk).records, [], "byte {at}");
    }
    let disk = Files::default();
    disk.put(&path(1), &[head(1, 1), frame(1, 2, &records()[3].0)].concat());
    assert_eq!(
        Tail::default().news(&disk).records,
        [],
        "a frame that is not the next"
    );
    let mut other = head(1, 1);
    let end = other.len() - 4;
    other[7] = 2;
    let sum = crc32c(&other[..end]).to_be_bytes();
    other[end..].copy_from_slice(&sum);
    let newer = Files::default();
    newer.put(&path(1), &[other, frame(1, 1, &records()[3].0)].concat());
    assert_eq!(Tail::default().news(&newer).records, [], "another format");
    disk.put(&path(9), &head(8, 1));
    assert_eq!(
        Tail::default().news(&disk).breaks,
        [""; 0],
        "a segment under another's name"
    );
}

/// A snapshot's own words: up to entry 42 of term 3 under n1; by entry 300 of term 2 under n2 n1 and n2 vote and n1 is there; no files.
fn meta() -> Vec<u8> {
    let membership = [&[1, 2, 1, 2], &[1, 1][..], b"\x01a"].concat();
    [&[1, 3, 1, 42], &[1, 2, 2, 0xac, 2][..], &membership, &[0]].concat()
}

fn snapshot(body: &[u8]) -> Vec<u8> {
    let mut file = b"GRIDSNP\x02".to_vec();
    file.extend([7; 40]);
    let meta = meta();
    file.extend((meta.len() as u32).to_be_bytes());
    file.extend((body.len() as u64).to_be_bytes());
    file.extend(crc32c(body).to_be_bytes());
    file.extend([0; 4]);
    file.extend(meta);
    file.extend(body);
    file
}

#[test]
fn snapshots_are_whole_or_absent() {
    let body = b"the machine's bytes";
    let file = snapshot(body);
    let read = |bytes: &[u8]| {
        let disk = Files::default();
        disk.put("snapshot/00000000000000000042.snap", bytes);
        disk.put("snapshot/7.draft", b"x");
        assert_eq!(wal::snapshots(&disk), BTreeSet::from([42]));
        wal::snapshot(&disk, 42).map(|snapshot| (snapshot.index, snapshot.body.to_vec()))
    };
    assert_eq!(read(&file), Some((42, body.to_vec())));
    let disk = Files::default();
    disk.put("snapshot/00000000000000000042.snap", &file);
    let members = wal::snapshot(&disk, 42).map(|snapshot| snapshot.membership);
    assert_eq!(members, Some(Some((Some(300), vec![[1, 2].into()]))));
    assert_eq!(read(&file[..file.len() - 1]), None);
    assert_eq!(read(&file[..20]), None);
    for at in [0, 60, 64, file.len() - 1] {
        let mut bytes = file.clone();
        bytes[at] ^= 1;
        if at == 64 {
            assert!(
                read(&bytes).is_some(),
                "the head's own checksum is the replica's to check"
            );
        } else {
            assert_eq!(read(&bytes), None, "byte {at}");
        }
    }
}

#[test]
fn the_newest_whole_slot_says_what_was_signed() {
    let slot = |sequence: u64, index: u64| {
        let mut out = b"GSSIGNED".to_vec();
        out.extend(sequence.to_be_bytes());
        out.extend(index.to_be_bytes());
        out.extend([9; 32]);
        out.extend(crc32c(&out).to_be_bytes());
        out
    };
    let disk = |first: &[u8], second: &[u8]| {
        let disk = Files::default();
        let mut bytes = first.to_vec();
        bytes.resize(4_096, 0);
        bytes.extend(second);
        disk.put("signed/last", &bytes);
        wal::signed(&disk).map(|(index, header)| (index, header[0]))
    };
    assert_eq!(wal::signed(&Files::default()), None);
    assert_eq!(disk(&slot(2, 20), &slot(1, 10)), Some((20, 9)));
    assert_eq!(disk(&slot(2, 20), &slot(3, 30)), Some((30, 9)));
    let mut torn = slot(3, 30);
    torn[20] ^= 1;
    assert_eq!(disk(&slot(2, 20), &torn), Some((20, 9)));
    assert_eq!(disk(&[], &slot(1, 10)), Some((10, 9)));
    assert_eq!(disk(b"SOMETHING ELSE", &[]), None);
}

#[test]
fn a_disk_full_of_old_snapshots_is_not_kept_up() {
    let disk = Files::default();
    for index in 1..=3 {
        disk.put(&format!("snapshot/{index:020}.snap"), &[1]);
        disk.put(&format!("snapshot/{index}.draft"), &[1]);
        disk.put(&format!("archive/{index}.snap"), &[1]);
    }
    let mut upkeep = Upkeep::default();
    assert_eq!(upkeep.look(7, &disk), None);
    disk.put(&format!("snapshot/{:020}.snap", 4), &[1]);
    let told = upkeep.look(7, &disk).expect("four snapshots");
    assert!(told.contains("n7 keeps 4 snapshots"), "{told}");
}

#[test]
fn what_the_newest_snapshot_names_stays() {
    let disk = |covered: u64, body: &[u8], files: &[&str]| {
        let disk = Files::default();
        disk.put(&format!("snapshot/{covered:020}.snap"), &snapshot(body));
        for file in files {
            disk.put(&format!("archive/{file}"), &[1]);
        }
        disk
    };
    let [first, second] = [archived(1), archived(2)];
    let names = format!("-{first}-{second}");
    let look_with = |upkeep: &mut Upkeep, disk: Files| upkeep.look(7, &disk);
    let mut upkeep = Upkeep::default();
    let mut look = |disk: Files| look_with(&mut upkeep, disk);
    let whole = [&first[..], &second[..], "x.parquet"];
    assert_eq!(look(disk(3, names.as_bytes(), &whole)), None);
    // What it does not name may go.
    assert_eq!(look(disk(3, names.as_bytes(), &whole[..2])), None);
    let told = look(disk(3, names.as_bytes(), &whole[..1])).expect("a file is gone");
    assert!(told.contains(&format!("n7 has no {second}")), "{told}");
    // Nor need it ever have been seen.
    assert!(look(disk(5, names.as_bytes(), &[])).is_some());
    // What was taken away on purpose is for others to give again.
    upkeep.taken(7, &second);
    upkeep.taken(8, &first);
    assert_eq!(
        look_with(&mut upkeep, disk(5, names.as_bytes(), &whole[..1])),
        None
    );
    let named_again = disk(6, names.as_bytes(), &whole[..1]);
    assert_eq!(look_with(&mut upkeep, named_again), None);
    let told = look_with(&mut upkeep, disk(6, names.as_bytes(), &[])).expect("the other is gone, too");
    assert!(told.contains(&format!("n7 has no {first}")), "{told}");
    // It came back, and is gone once more.
    assert_eq!(look_with(&mut upkeep, disk(6, names.as_bytes(), &whole)), None);
    let told = look_with(&mut upkeep, disk(6, names.as_bytes(), &whole[..1])).expect("gone");
    assert!(told.contains(&format!("n7 has no {second}")), "{told}");
    let mut look = |disk: Files| look_with(&mut upkeep, disk);
    // And what only an older one named.
    assert_eq!(look(disk(7, first.as_bytes(), &whole[..1])), None);
    assert_eq!(look(Files::default()), None);
}

/// What a file of the archive is called.
fn archived(number: u64) -> String {
    format!("{number:013}-seals-{number:016x}.parquet")
}

/// A segment with these entries.
fn segment(disk: &Files, number: u64, first_seq: u64, bodies: &[Vec<u8>]) {
    disk.put(&path(number), &head(number, first_seq));
    for (seq, body) in (first_seq..).zip(bodies) {
        disk.put(&path(number), &frame(number, seq, body));
    }
}

#[test]
fn a_node_at_rest_keeps_nothing_that_it_does_not_need() {
    let entry = |index: u64| [&[3], &log_id(index)[..], &[0]].concat();
    let purge = |index: u64| [&[6], &log_id(index)[..]].concat();
    let complaints = |covered: u64, purges: &[u64], keep: u64, files: &[u64]| {
        let disk = Files::default();
        segment(&disk, 1, 1, &[entry(1), entry(2)]);
        segment(&disk, 2, 3, &[entry(3), entry(4)]);
        let mut last = vec![entry(5)];
        last.extend(purges.iter().map(|index| purge(*index)));
        segment(&disk, 3, 5, &last);
        disk.put(
            &format!("snapshot/{covered:020}.snap"),
            &snapshot(format!("refers to {}", archived(1)).as_bytes()),
        );
        for file in files {
            disk.put(&format!("archive/{}", archived(*file)), &[1]);
        }
        let shown = disk.list("archive");
        let needed = BTreeSet::from([archived(2)]);
        upkeep::at_rest(7, &disk, keep, &shown, &needed)
    };
    let needed = [1, 2];
    assert_eq!(complaints(3, &[1, 3], 0, &needed), [""; 0]);
    assert_eq!(complaints(4, &[1, 3], 1, &needed), [""; 0]);
    assert_eq!(complaints(4, &[], 5, &needed), [""; 0]);
    let one = |told: Vec<String>, what: &str| assert!(told.len() == 1 && told[0].contains(what), "{told:?}");
    one(
        complaints(4, &[1, 2], 1, &needed),
        "dropped its log up to Some(2) only",
    );
    one(complaints(4, &[], 4, &needed), "dropped its log up to None only");
    one(complaints(4, &[4], 0, &needed), "segments [1, 2]");
    let more = [0, 2, 3];
    one(
        complaints(3, &[3], 0, &more),
        &format!("keeps {} and 1 more files", archived(0)),
    );
    one(complaints(3, &[3], 0, &[]), &format!("has no {}", archived(2)));
    // The last one is written to, even if nothing in it is needed any more.
    let disk = Files::default();
    segment(&disk, 2, 3, &[entry(3), entry(4)]);
    segment(&disk, 3, 5, &[entry(5), purge(5)]);
    disk.put("snapshot/00000000000000000005.snap", &snapshot(b"x"));
    assert_eq!(upkeep::at_rest(7, &disk, 0, &[], &BTreeSet::new()), [""; 0]);
    let nothing = upkeep::at_rest(7, &Files::default(), 0, &[], &BTreeSet::new());
    one(nothing, "has no snapshot");
}
