//! The shelf of snapshots over many lives of a node.

use std::sync::Arc;

use bytes::Bytes;

use super::{Keep, MemoryDisk};
use crate::attachments::Attachments;
use crate::disk::Disk as _;
use crate::snapshot::Shelf;
use crate::threads::{Pace, Pieces};
use crate::types::{LeaderId, LogId, SnapshotMeta};

async fn names(disk: &MemoryDisk) -> Vec<String> {
    disk.list("snapshot").await.expect("the directory")
}

/// What seed 304 of the simulator found: every power cut took back the removal of all that had been replaced.
#[tokio::test]
async fn power_cuts_do_not_pile_up_what_was_replaced() {
    let mut disk = MemoryDisk::default();
    for index in 1..=5 {
        let shared: Arc<dyn crate::Disk> = Arc::new(disk.clone());
        let (shelf, newest) = Shelf::open(Arc::clone(&shared), Attachments::new(shared), [1; 32], 1)
            .await
            .expect("a shelf");
        let before = newest
            .and_then(|(meta, _)| meta.last_log_id)
            .map(|last| last.index());
        assert_eq!(before, (index > 1).then(|| index - 1));
        if index > 1 {
            assert_eq!(names(&disk).await, [format!("{:020}.snap", index - 1)]);
        }
        let meta = SnapshotMeta {
            last_log_id: Some(LogId::new(LeaderId { term: 1, node_id: 1 }, index)),
            ..SnapshotMeta::default()
        };
        let body = Pieces::of(Pace::Behind, |give| give(Bytes::from_static(b"state"))).expect("a thread");
        shelf.save(meta, Vec::new(), body).await.expect("a snapshot");
        assert_eq!(names(&disk).await, [format!("{index:020}.snap")]);
        disk = disk.after_crash(Keep::Nothing);
        let left = names(&disk).await;
        assert!(left.len() <= 2, "{left:?}");
    }
}
