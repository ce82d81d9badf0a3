//! The disk against a model that is simpler than it: for every byte, the set of values it may have after a
//! crash.

use std::collections::BTreeSet;

use super::*;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(Rng::new(seed))
}

async fn contents(mount: &Mount, path: &str) -> io::Result<Vec<u8>> {
    let file = mount.open(path, false).await?;
    let len = usize::try_from(file.size().await?).unwrap();
    Ok(file.read_at(0, len).await?.to_vec())
}

/// A file whose name is durable.
async fn create(mount: &Mount, path: &str) -> Arc<dyn DiskFile> {
    let file = mount.open(path, true).await.unwrap();
    mount.sync_dir(split(path).0).await.unwrap();
    file
}

#[test]
fn what_was_synced_survives_and_the_rest_may_not() {
    run(async {
        let disk = disk(1);
        let mount = disk.mount();
        let file = create(&mount, "a").await;
        file.write_and_sync(0, Bytes::from_static(b"synced"))
            .await
            .unwrap();
        file.write_at(6, Bytes::from_static(b" lost")).await.unwrap();
        assert_eq!(contents(&mount, "a").await.unwrap(), b"synced lost");
        disk.crash(Loss::Everything);
        assert_eq!(contents(&disk.mount(), "a").await.unwrap(), b"synced");
    });
}

#[test]
fn names_need_a_sync_of_their_directory() {
    run(async {
        let disk = disk(1);
        let mount = disk.mount();
        mount.create_dir("d").await.unwrap();
        let file = mount.open("d/a", true).await.unwrap();
        file.write_and_sync(0, Bytes::from_static(b"x")).await.unwrap();
        let twin = disk.0.lock().dirs.clone();
        disk.crash(Loss::Everything);
        assert_eq!(disk.mount().list("d").await.unwrap(), Vec::<String>::new());
        assert!(twin["d"].get("a").is_some(), "it was visible before");

        let mount = disk.mount();
        create(&mount, "d/a").await;
        mount.rename("d/a", "d/b").await.unwrap();
        assert_eq!(mount.list("d").await.unwrap(), ["b"]);
        disk.crash(Loss::Everything);
        let mount = disk.mount();
        assert_eq!(mount.list("d").await.unwrap(), ["a"], "the rename was not synced");
        mount.rename("d/a", "d/b").await.unwrap();
        mount.sync_dir("d").await.unwrap();
        disk.crash(Loss::Everything);
        assert_eq!(disk.mount().list("d").await.unwrap(), ["b"]);
    });
}

#[test]
fn a_rename_is_one_step_under_every_loss() {
    run(async {
        for seed in 0..200 {
            let disk = disk(seed);
            let mount = disk.mount();
            create(&mount, "new")
                .await
                .write_and_sync(0, Bytes::from_static(b"new"))
                .await
                .unwrap();
            create(&mount, "old")
                .await
                .write_and_sync(0, Bytes::from_static(b"old"))
                .await
                .unwrap();
            mount.rename("new", "old").await.unwrap();
            disk.crash(Loss::Some);
            let mount = disk.mount();
            match mount.list("").await.unwrap().len() {
                1 => assert_eq!(contents(&mount, "old").await.unwrap(), b"new"),
                _ => {
                    assert_eq!(contents(&mount, "old").await.unwrap(), b"old");
                    assert_eq!(contents(&mount, "new").await.unwrap(), b"new");
                }
            }
        }
    });
}

#[test]
fn after_a_failed_sync_the_bytes_are_seen_but_never_written() {
    run(async {
        let mut lost = 0;
        for seed in 0..100 {
            let disk = disk(seed);
            let mount = disk.mount();
            let file = create(&mount, "a").await;
            file.write_at(0, Bytes::from_static(b"x")).await.unwrap();
            disk.fail_next_sync();
            file.sync().await.unwrap_err();
            assert_eq!(contents(&mount, "a").await.unwrap(), b"x");
            file.sync().await.unwrap();
            disk.crash(Loss::Nothing);
            lost += u32::from(contents(&disk.mount(), "a").await.unwrap() != b"x");
        }
        assert!(
            (20..80).contains(&lost),
            "lost {lost} of 100 although a second sync said yes"
        );
    });
}

#[test]
fn a_sync_beside_the_log_fails_and_none_of_the_log() {
    run(async {
        let disk = disk(1);
        let mount = disk.mount();
        mount.create_dir("log").await.unwrap();
        mount.create_dir("archive").await.unwrap();
        let log = create(&mount, "log/1").await;
        let file = create(&mount, "archive/1").await;
        disk.fail_next_sync_beside("log");
        log.sync().await.unwrap();
        mount.sync_dir("log").await.unwrap();
        file.sync().await.unwrap_err();
        file.sync().await.unwrap();
        disk.fail_next_sync_beside("log");
        mount.sync_dir("archive").await.unwrap_err();
        assert!(disk.sync_failed());
        disk.fail_next_sync_beside("log");
        disk.spare_syncs();
        file.sync().await.unwrap();
    });
}

#[test]
fn a_dead_process_changes_nothing() {
    run(async {
        let disk = disk(1);
        let mount = disk.mount();
        let lock = mount.lock().await.unwrap();
        assert_eq!(mount.lock().await.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let file = create(&mount, "a").await;
        disk.crash(Loss::Nothing);
        let next = disk.mount();
        let held = next.lock().await.unwrap();
        drop(lock);
        assert_eq!(
            next.lock().await.unwrap_err().kind(),
            io::ErrorKind::WouldBlock,
            "a dead guard freed it"
        );
        drop(held);
        assert!(next.lock().await.is_ok());
        file.write_at(0, Bytes::from_static(b"ghost")).await.unwrap_err();
        mount.remove("a").await.unwrap_err();
        assert_eq!(contents(&next, "a").await.unwrap(), b"");
    });
}

#[test]
fn a_crash_in_the_middle_of_a_sync_promises_nothing() {
    run(async {
        let disk = disk(3);
        disk.set_faults(DiskFaults {
            sync_ms: 10..=10,
            ..DiskFaults::default()
        });
        let mount = disk.mount();
        let file = create(&mount, "a").await;
        file.write_at(0, Bytes::from_static(b"x")).await.unwrap();
        let mut sync = Box::pin(file.sync());
        assert!(futures::poll!(&mut sync).is_pending());
        disk.crash(Loss::Everything);
        sync.await.unwrap_err();
        assert_eq!(contents(&disk.mount(), "a").await.unwrap(), b"");
    });
}

#[test]
fn a_sync_covers_what_was_written_before_it_began() {
    run(async {
        let disk = disk(3);
        let mount = disk.mount();
        let file = create(&mount, "a").await;
        file.write_at(0, Bytes::from_static(b"x")).await.unwrap();
        let mut sync = Box::pin(file.sync());
        assert!(futures::poll!(&mut sync).is_pending());
        file.write_at(1, Bytes::from_static(b"y")).await.unwrap();
        sync.await.unwrap();
        disk.crash(Loss::Everything);
        assert_eq!(contents(&disk.mount(), "a").await.unwrap(), b"x");
    });
}

#[test]
fn full_rotten_and_unreadable() {
    run(async {
        let disk = disk(1);
        disk.set_faults(DiskFaults {
            capacity: Some(10_000),
            ..DiskFaults::default()
        });
        let mount = disk.mount();
        let file = create(&mount, "a").await;
        file.allocate(9_000).await.unwrap();
        let full = file
            .write_at(8_999, Bytes::from(vec![1; 2_000]))
            .await
            .unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        file.write_at(0, Bytes::from(vec![1; 9_000])).await.unwrap();

        assert!(disk.rot("a", 5, 3));
        assert_eq!(file.read_at(5, 1).await.unwrap()[0], 1 ^ 8);
        assert!(disk.spoil("a", 5_000));
        file.read_at(4_000, 200).await.unwrap_err();
        assert_eq!(file.read_at(0, 4_096).await.unwrap().len(), 4_096);
        file.write_at(4_096, Bytes::from(vec![2; 4_096])).await.unwrap();
        assert_eq!(file.read_at(5_000, 1).await.unwrap()[0], 2);
        assert!(!disk.rot("b", 0, 0));
    });
}

#[test]
fn what_is_damaged_or_taken_away_is_felt_by_whoever_comes_upon_it() {
    run(async {
        let disk = disk(1);
        let mount = disk.mount();
        mount.create_dir("d").await.unwrap();
        for name in ["d/rotten", "d/short", "d/gone", "d/whole"] {
            let file = create(&mount, name).await;
            file.write_at(0, Bytes::from_static(b"0123456789")).await.unwrap();
            assert_eq!(disk.settled(name), None, "not synced yet");
            file.sync().await.unwrap();
            assert_eq!(disk.settled(name), Some(Bytes::from_static(b"0123456789")));
        }
        let short = Harm::Cut { at: 4 };
        assert!(disk.harm("d/rotten", Harm::Flip { at: 3, bit: 0 }));
        assert!(disk.harm("d/short", short) && disk.harm("d/gone", Harm::Lose));
        let again = disk.harm("d/short", short) || disk.harm("d/gone", Harm::Lose);
        assert!(!again, "it is so already");
        disk.crash(Loss::Everything);
        for (name, shown) in [
            ("d/whole", Some(&b"0123456789"[..])),
            ("d/rotten", Some(b"0122456789")),
            ("d/short", Some(b"0123")),
            ("d/gone", None),
        ] {
            let mount = disk.mount();
            assert!(!disk.was_felt());
            let content = contents(&mount, name).await.ok();
            assert_eq!(content.as_deref(), shown, "{name}");
            assert_eq!(disk.was_felt(), name != "d/whole", "{name}");
        }
        // What is put in its place is like any other.
        let mount = disk.mount();
        for name in ["d/rotten", "d/gone"] {
            let draft = mount.open("d/draft", true).await.unwrap();
            draft.write_and_sync(0, Bytes::from_static(b"new")).await.unwrap();
            mount.rename("d/draft", name).await.unwrap();
            assert_eq!(contents(&mount, name).await.unwrap(), b"new");
        }
        mount.remove("d/gone").await.unwrap();
        assert!(contents(&mount, "d/gone").await.is_err() && !disk.was_felt());
    });
}

#[test]
fn a_lying_disk_loses_what_it_called_synced() {
    run(async {
        let disk = disk(1);
        let mount = disk.mount();
        let file = create(&mount, "a").await;
        disk.set_faults(DiskFaults {
            lies: true,
            ..DiskFaults::default()
        });
        file.write_and_sync(0, Bytes::from_static(b"x")).await.unwrap();
        disk.crash(Loss::Everything);
        assert_eq!(contents(&disk.mount(), "a").await.unwrap(), b"");
    });
}

/// For every byte of a file: what it may be after a crash. Past the end means absent.
struct Model {
    live: Vec<u8>,
    may: Vec<BTreeSet<u8>>,
    /// The lengths it may have: at least, at most.
    len: (usize, usize),
}

impl Model {
    fn new() -> Self {
        Model {
            live: Vec::new(),
            may: Vec::new(),
            len: (0, 0),
        }
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if self.live.len() < end {
            self.live.resize(end, 0);
        }
        self.live[offset..end].copy_from_slice(data);
        self.len.1 = self.len.1.max(end);
        if self.may.len() < end {
            self.may.resize(end, BTreeSet::from([0]));
        }
        for (at, byte) in (offset..).zip(data) {
            self.may[at].insert(*byte);
        }
    }

    fn set_len(&mut self, len: usize) {
        self.live.resize(len, 0);
        self.len = (self.len.0.min(len), self.len.1.max(len));
        if self.may.len() < len {
            self.may.resize(len, BTreeSet::from([0]));
        }
        // What was cut may come back as zero.
        for may in &mut self.may[len..] {
            may.insert(0);
        }
    }

    fn sync(&mut self) {
        self.may = self.live.iter().map(|byte| BTreeSet::from([*byte])).collect();
        self.len = (self.live.len(), self.live.len());
    }

    fn check(&mut self, found: &[u8], seed: u64) {
        assert!(
            (self.len.0..=self.len.1).contains(&found.len()),
            "seed {seed}: length {} is none of {:?}",
            found.len(),
            self.len
        );
        for (at, byte) in found.iter().enumerate() {
            assert!(
                self.may[at].contains(byte),
                "seed {seed}: byte {at} is {byte}, none of {:?}",
                self.may[at]
            );
        }
        self.live = found.to_vec();
        self.sync();
    }
}

#[test]
fn no_byte_is_ever_anything_but_synced_or_written_since() {
    run(async {
        let (mut crashes, mut changed) = (0, 0);
        for seed in 0..300 {
            let mut rng = Rng::fork(seed, "ops");
            let disk = disk(seed);
            let mut mount = disk.mount();
            let mut file = create(&mount, "f").await;
            let mut model = Model::new();
            for _ in 0..60 {
                match rng.below(10) {
                    0..=4 => {
                        let mut data = vec![0; rng.index(3_000) + 1];
                        rng.fill(&mut data);
                        let offset = rng.index(9_000);
                        model.write(offset, &data);
                        file.write_at(offset as u64, data.into()).await.unwrap();
                    }
                    5 => {
                        let len = rng.index(12_000);
                        model.set_len(len);
                        file.truncate(len as u64).await.unwrap();
                    }
                    6 => {
                        let len = rng.index(12_000);
                        if len > model.live.len() {
                            model.set_len(len);
                        }
                        file.allocate(len as u64).await.unwrap();
                    }
                    7 | 8 => {
                        file.sync().await.unwrap();
                        model.sync();
                    }
                    _ => {
                        let loss = *rng.pick(&[Loss::Nothing, Loss::Everything, Loss::Some, Loss::Some]);
                        let before = model.live.clone();
                        disk.crash(loss);
                        mount = disk.mount();
                        file = mount.open("f", false).await.unwrap();
                        let found = contents(&mount, "f").await.unwrap();
                        crashes += 1;
                        changed += u32::from(found != before);
                        if loss == Loss::Nothing {
                            assert_eq!(found, before, "seed {seed}");
                        }
                        model.check(&found, seed);
                    }
                }
                assert_eq!(
                    contents(&mount, "f").await.unwrap(),
                    model.live,
                    "seed {seed}: a process reads what it wrote"
                );
            }
        }
        assert!(
            crashes > 1_000 && changed > 300,
            "{crashes} crashes, {changed} of them lost something"
        );
    });
}
