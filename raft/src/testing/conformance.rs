//! openraft's own suite for storage, on our log and machine.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

use super::{Journal, MemoryDisk};
use crate::applier::Applier;
use crate::attachments::Attachments;
use crate::config::{LogPolicy, SnapshotPolicy};
use crate::disk::{Disk, FileDisk};
use crate::fault::Faults;
use crate::log_store::LogStore;
use crate::runtime::Seeds;
use crate::snapshot::Shelf;
use crate::types::TypeConfig;

struct Builder {
    on_files: bool,
    policy: LogPolicy,
}

impl StoreBuilder<TypeConfig, LogStore, Applier, Option<tempfile::TempDir>> for Builder {
    async fn build(
        &self,
    ) -> Result<(Option<tempfile::TempDir>, LogStore, Applier), StorageError<TypeConfig>> {
        let (guard, disk): (_, Arc<dyn Disk>) = if self.on_files {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let disk = FileDisk::new(dir.path());
            (Some(dir), Arc::new(disk))
        } else {
            (None, Arc::new(MemoryDisk::default()))
        };
        let _held = disk.lock().await.expect("nobody else has it");
        let log = LogStore::open(Arc::clone(&disk), [1; 32], 1, 7, &self.policy, Box::new(|_| {}))
            .await
            .expect("an empty disk");
        let (shelf, newest) = Shelf::open(Arc::clone(&disk), Attachments::new(disk), [1; 32], 1)
            .await
            .expect("an empty disk");
        let machine = Box::new(Journal::default());
        let applier = Applier::open(
            machine,
            shelf,
            newest,
            &SnapshotPolicy::default(),
            1 << 20,
            Faults::new(),
        )
        .await
        .expect("an empty disk");
        Ok((guard, log, applier))
    }
}

async fn conform(builder: Builder) {
    Seeds::new(1)
        .scope(Suite::test_all(builder))
        .await
        .expect("the suite passes");
}

#[tokio::test]
async fn in_memory() {
    conform(Builder {
        on_files: false,
        policy: LogPolicy::default(),
    })
    .await;
}

#[tokio::test]
async fn with_nothing_cached_and_tiny_segments() {
    let policy = LogPolicy {
        segment_bytes: 4 << 10,
        cache_bytes: 0,
        max_batch_bytes: 64,
        ..LogPolicy::default()
    };
    conform(Builder {
        on_files: false,
        policy,
    })
    .await;
}

#[tokio::test]
async fn on_files() {
    let policy = LogPolicy {
        segment_bytes: 64 << 10,
        ..LogPolicy::default()
    };
    conform(Builder {
        on_files: true,
        policy,
    })
    .await;
}
