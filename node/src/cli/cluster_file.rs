//! Which cluster file a command means.

use std::path::{Path, PathBuf};

use super::Failure;
use crate::config::Cluster;

/// The cluster file of the command line, else `./cluster.toml`, else the built-in one. The path is `None` for
/// the built-in one.
pub(super) fn find(named: Option<&Path>) -> Result<(Cluster, Option<PathBuf>), Failure> {
    let here = Path::new("cluster.toml");
    match named {
        Some(path) => Ok((Cluster::read(path)?, Some(path.to_owned()))),
        None if here.exists() => Ok((Cluster::read(here)?, Some(here.to_owned()))),
        None => Ok((Cluster::shipped(), None)),
    }
}
