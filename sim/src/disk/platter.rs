//! What is on the platter: what a power cut would leave, if it lost all that it may. For checkers, which look at
//! disks from outside; no process can.

use checkers::wal::Platter;

use super::{SimDisk, split};

impl SimDisk {
    /// A number that grows whenever what is on the platter may have changed.
    pub fn durable_version(&self) -> u64 {
        self.0.lock().durable_version
    }
}

impl Platter for SimDisk {
    fn list(&self, dir: &str) -> Vec<String> {
        self.0
            .lock()
            .dirs
            .get(dir)
            .map(|names| names.durable().keys().cloned().collect())
            .unwrap_or_default()
    }

    fn read(&self, path: &str, offset: u64, len: usize) -> Vec<u8> {
        let core = self.0.lock();
        let (dir, name) = split(path);
        let id = core
            .dirs
            .get(dir)
            .and_then(|names| names.durable().get(name).copied());
        id.and_then(|id| core.files.get(&id))
            .map(|file| file.durable().read(offset, len))
            .unwrap_or_default()
    }
}
