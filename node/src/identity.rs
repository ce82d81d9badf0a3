//! Who a node is: the genesis that everyone shares, and the keys that only it holds.
//!
//! ```text
//! DATA/genesis.json         the genesis, for people to read and to hand to new nodes
//! DATA/gateway.key          signs the unsigned calls of a development cluster
//! DATA/admin.key            signs changes of membership and of audit rules
//! DATA/node-<id>/node.key   signs the block headers and the hellos of that node
//! ```
//!
//! What always holds: [`init`] never overwrites, and `genesis.json` is the last file it makes, so a data
//! directory either has its genesis and every key that it names, or has none and can be finished. A key file
//! that others may read is refused, not used. A cluster file that disagrees with the genesis is refused with
//! both values.
//!
//! Absent on purpose: keys in logs and messages (only public keys and thumbprints are ever shown), and any
//! randomness but the caller's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use ledger::jws::{base64url, base64url_decode, thumbprint};
use ledger::{Genesis, PublicKey, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::Cluster;

/// First word of a key file, so that no other file is taken for one.
const KEY_MAGIC: &str = "gridseal-ed25519-secret-v1";

/// Fills a buffer with bits that nobody can guess.
pub type Fill<'a> = &'a mut dyn FnMut(&mut [u8]) -> io::Result<()>;

/// What a node needs to know of itself and of the cluster.
#[derive(Debug, Clone)]
pub struct Identity {
    /// This node.
    pub node: u64,
    /// The first entry of the log; its digest is the cluster's id.
    pub genesis: Genesis,
    /// Signs block headers.
    pub node_key: SigningKey,
    /// Signs what clients send unsigned; only a development cluster's gateways have it.
    pub gateway_key: Option<SigningKey>,
}

/// Why there is no identity to start with.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The genesis isn't there.
    #[error("{}: no such file; `gridseal keys init` makes it, and a node that joins later copies it", .0.display())]
    NoGenesis(PathBuf),
    /// A file can't be read, written or understood.
    #[error("{}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Others may read a secret.
    #[error("{}: others can read this key (mode {mode:o}); run: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The cluster file and the genesis say different things.
    #[error("{cluster}: {field} is {here}, but {} says {there}; a genesis never changes, so correct the former", genesis.display())]
    Disagreement {
        /// The cluster file.
        cluster: String,
        /// The genesis file.
        genesis: PathBuf,
        /// The field, as the cluster file calls it.
        field: String,
        /// The cluster file's value.
        here: String,
        /// The genesis's value.
        there: String,
    },
    /// A key file holds another key than the genesis names.
    #[error("{}: holds the key {found}, but genesis.json names {expected} for {role}", path.display())]
    WrongKey {
        /// The key file.
        path: PathBuf,
        /// Whose key it should be.
        role: String,
        /// Thumbprint of the key in the file.
        found: String,
        /// Thumbprint of the key in the genesis.
        expected: String,
    },
}

impl IdentityError {
    fn file(path: &Path, what: impl std::fmt::Display) -> Self {
        Self::File {
            path: path.to_owned(),
            what: what.to_string(),
        }
    }
}

impl Identity {
    /// Reads node `node`'s identity from `data` and checks it against the cluster file.
    ///
    /// # Errors
    /// If a file is missing, exposed, damaged or another cluster's, or if `cluster` disagrees with the genesis.
    pub fn load(data: &Path, node: u64, cluster: &Cluster) -> Result<Self, IdentityError> {
        let genesis = load_genesis(data)?;
        agree(cluster, &genesis, &genesis_path(data))?;

        let path = node_key_path(data, node);
        let node_key = read_key(&path)?;
        // A key that the genesis doesn't name may have replaced the one that it does; the log knows. Another node's can't have.
        let held = public(&node_key);
        let of = |id: u64| genesis.nodes.iter().find(|(founder, _)| *founder == id);
        let anothers = genesis.nodes.iter().any(|(id, key)| *id != node && *key == held);
        if anothers && let Some((_, expected)) = of(node) {
            return Err(wrong_key(path, format!("node {node}"), &node_key, expected));
        }

        let path = gateway_key_path(data);
        let gateway_key = if path.exists() {
            Some(read_key(&path)?)
        } else {
            None
        };
        if let (Some(key), Some(expected)) = (&gateway_key, genesis.gateways.first())
            && !genesis.gateways.contains(&public(key))
        {
            return Err(wrong_key(path, "the gateways".to_owned(), key, expected));
        }
        Ok(Self {
            node,
            genesis,
            node_key,
            gateway_key,
        })
    }
}

/// Makes what is missing of a new cluster's identity in `data` and returns the genesis: the founders' keys, the
/// gateways' and the admin's, and last `genesis.json`. If there is a genesis already, changes nothing.
///
/// # Errors
/// If a file can't be written or an existing one is unusable, or if `fill` fails.
pub fn init(
    data: &Path,
    cluster: &Cluster,
    created: Timestamp,
    fill: Fill<'_>,
) -> Result<Genesis, IdentityError> {
    let path = genesis_path(data);
    if path.exists() {
        let genesis = load_genesis(data)?;
        agree(cluster, &genesis, &path)?;
        return Ok(genesis);
    }
    let mut nodes = Vec::new();
    for id in cluster.founders() {
        nodes.push((id, public(&ensure_key(&node_key_path(data, id), fill)?)));
    }
    let gateway = public(&ensure_key(&gateway_key_path(data), fill)?);
    let admin = public(&ensure_key(&admin_key_path(data), fill)?);
    let mut salt = [0; 32];
    fill(&mut salt).map_err(|error| IdentityError::file(&path, error))?;
    let genesis = Genesis {
        salt,
        created,
        epoch_ms: cluster.epoch_ms,
        nodes,
        admins: vec![admin],
        gateways: vec![gateway],
        development: cluster.development,
    };
    #[expect(
        clippy::expect_used,
        reason = "a struct of strings, numbers and lists always serializes"
    )]
    let mut text =
        serde_json::to_string_pretty(&GenesisJson::from(&genesis)).expect("the genesis is plain JSON");
    text.push('\n');
    write_new(&path, text.as_bytes(), 0o644)?;
    Ok(genesis)
}

/// Reads `genesis.json` of the data directory.
///
/// # Errors
/// If it is missing or isn't a genesis.
pub fn load_genesis(data: &Path) -> Result<Genesis, IdentityError> {
    read_genesis(&genesis_path(data))
}

/// Reads a genesis in its JSON form from any file.
///
/// # Errors
/// As [`load_genesis`].
pub fn read_genesis(path: &Path) -> Result<Genesis, IdentityError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(IdentityError::NoGenesis(path.to_owned()));
        }
        Err(error) => return Err(IdentityError::file(path, error)),
    };
    serde_json::from_str::<GenesisJson>(&text)
        .map_err(|error| error.to_string())
        .and_then(Genesis::try_from)
        .map_err(|what| IdentityError::file(path, format!("not a genesis: {what}")))
}

/// The key in `path`, made first if there is no such file.
///
/// # Errors
/// If it can't be read or written, or is exposed; if `fill` fails.
pub fn ensure_key(path: &Path, fill: Fill<'_>) -> Result<SigningKey, IdentityError> {
    if path.exists() {
        return read_key(path);
    }
    let mut seed = [0; 32];
    fill(&mut seed).map_err(|error| IdentityError::file(path, error))?;
    let key = SigningKey::from_bytes(&seed);
    write_new(
        path,
        format!("{KEY_MAGIC} {}\n", base64url(&seed)).as_bytes(),
        0o600,
    )?;
    Ok(key)
}

/// Makes a new key in the place of the one in `path`, which is kept beside it as `….old`.
///
/// # Errors
/// If there is no key to replace, or it can't be read or written; if `fill` fails.
pub fn renew_key(path: &Path, fill: Fill<'_>) -> Result<SigningKey, IdentityError> {
    read_key(path)?;
    let next = path.with_extension("next");
    // One that a crash left behind was never shown to anyone.
    if next.exists() {
        fs::remove_file(&next).map_err(|error| IdentityError::file(&next, error))?;
    }
    let key = ensure_key(&next, fill)?;
    let replaced = fs::rename(path, path.with_extension("old")).and_then(|()| fs::rename(&next, path));
    replaced.map_err(|error| IdentityError::file(path, error))?;
    Ok(key)
}

/// Reads a key file.
///
/// # Errors
/// If it can't be read, if its group or the world may read it, or if it isn't a key file.
pub fn read_key(path: &Path) -> Result<SigningKey, IdentityError> {
    let metadata = fs::metadata(path).map_err(|error| IdentityError::file(path, error))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let text = fs::read_to_string(path).map_err(|error| IdentityError::file(path, error))?;
    let seed = text
        .trim_end()
        .strip_prefix(KEY_MAGIC)
        .and_then(|rest| base64url_decode(rest.trim_start()))
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    match seed {
        Some(seed) => Ok(SigningKey::from_bytes(&seed)),
        None => Err(IdentityError::file(path, "not a key file of `gridseal keys`")),
    }
}

/// Fills from the operating system: the randomness that keys are made of.
///
/// # Errors
/// If the operating system has none to give.
pub fn os_entropy(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(|error| io::Error::other(format!("no randomness: {error}")))
}

/// The public half of a key.
#[must_use]
pub fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

/// A public key as JWK's `x`: base64url without padding.
#[must_use]
pub fn key_x(key: &PublicKey) -> String {
    base64url(&key.0)
}

/// The key that a JWK's `x` stands for.
///
/// # Errors
/// In words, if `x` isn't the base64url of 32 bytes.
pub fn parse_key_x(x: &str) -> Result<PublicKey, String> {
    let bytes = base64url_decode(x).ok_or_else(|| format!("{x:?} is not base64url without padding"))?;
    let bytes: [u8; 32] = bytes
        .try_into()
        .map_err(|bytes: Vec<u8>| format!("{x:?} has {} bytes, expected 32", bytes.len()))?;
    Ok(PublicKey(bytes))
}

/// `DATA/genesis.json`.
#[must_use]
pub fn genesis_path(data: &Path) -> PathBuf {
    data.join("genesis.json")
}

/// `DATA/node-<id>`: everything that one node writes.
#[must_use]
pub fn node_dir(data: &Path, node: u64) -> PathBuf {
    data.join(format!("node-{node}"))
}

/// `DATA/node-<id>/node.key`.
#[must_use]
pub fn node_key_path(data: &Path, node: u64) -> PathBuf {
    node_dir(data, node).join("node.key")
}

/// `DATA/gateway.key`.
#[must_use]
pub fn gateway_key_path(data: &Path) -> PathBuf {
    data.join("gateway.key")
}

/// `DATA/admin.key`.
#[must_use]
pub fn admin_key_path(data: &Path) -> PathBuf {
    data.join("admin.key")
}

/// Whether the cluster file and the genesis tell the same story.
fn agree(cluster: &Cluster, genesis: &Genesis, path: &Path) -> Result<(), IdentityError> {
    let disagree = |field: &str, here: String, there: String| {
        Err(IdentityError::Disagreement {
            cluster: cluster.source.clone(),
            genesis: path.to_owned(),
            field: field.to_owned(),
            here,
            there,
        })
    };
    if cluster.epoch_ms != genesis.epoch_ms {
        return disagree(
            "epoch_ms",
            cluster.epoch_ms.to_string(),
            genesis.epoch_ms.to_string(),
        );
    }
    if cluster.development != genesis.development {
        return disagree(
            "development",
            cluster.development.to_string(),
            genesis.development.to_string(),
        );
    }
    let here: Vec<u64> = cluster.founders().collect();
    let mut there: Vec<u64> = genesis.nodes.iter().map(|(id, _)| *id).collect();
    there.sort_unstable();
    if here != there {
        return disagree(
            "the list of [[node]] ids (without genesis = false)",
            format!("{here:?}"),
            format!("{there:?}"),
        );
    }
    Ok(())
}

fn wrong_key(path: PathBuf, role: String, found: &SigningKey, expected: &PublicKey) -> IdentityError {
    IdentityError::WrongKey {
        path,
        role,
        found: thumbprint(&public(found)),
        expected: thumbprint(expected),
    }
}

/// Creates `path` with `content`, whole or not at all, durable before it returns; never replaces a file.
fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), IdentityError> {
    let write = || -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let draft = path.with_extension("draft");
        // A draft that a crash left behind was never used by anyone.
        if let Err(error) = fs::remove_file(&draft)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        // A link, unlike a rename, fails if the name is taken.
        fs::hard_link(&draft, path)?;
        fs::remove_file(&draft)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| IdentityError::file(path, error))
}

/// The JSON form of the genesis.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GenesisJson {
    /// Always `gridseal-genesis-v1`.
    format: String,
    /// The cluster's id, for people; it is recomputed and checked.
    cluster: String,
    salt: String,
    created: u64,
    epoch_ms: u64,
    development: bool,
    nodes: Vec<NodeJson>,
    admins: Vec<KeyJson>,
    gateways: Vec<KeyJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeJson {
    id: u64,
    x: String,
    kid: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyJson {
    x: String,
    kid: String,
}

const GENESIS_FORMAT: &str = "gridseal-genesis-v1";

impl From<&PublicKey> for KeyJson {
    fn from(key: &PublicKey) -> Self {
        Self {
            x: key_x(key),
            kid: thumbprint(key),
        }
    }
}

impl From<&Genesis> for GenesisJson {
    fn from(genesis: &Genesis) -> Self {
        let node = |(id, key): &(u64, PublicKey)| NodeJson {
            id: *id,
            x: key_x(key),
            kid: thumbprint(key),
        };
        Self {
            format: GENESIS_FORMAT.to_owned(),
            cluster: genesis.cluster().to_string(),
            salt: hex::encode(genesis.salt),
            created: genesis.created.get(),
            epoch_ms: genesis.epoch_ms,
            development: genesis.development,
            nodes: genesis.nodes.iter().map(node).collect(),
            admins: genesis.admins.iter().map(KeyJson::from).collect(),
            gateways: genesis.gateways.iter().map(KeyJson::from).collect(),
        }
    }
}

impl TryFrom<GenesisJson> for Genesis {
    type Error = String;

    fn try_from(json: GenesisJson) -> Result<Self, String> {
        if json.format != GENESIS_FORMAT {
            return Err(format!(
                "format is {:?}, expected {GENESIS_FORMAT:?}",
                json.format
            ));
        }
        let key = |x: &str, kid: &str| {
            let key = parse_key_x(x)?;
            if thumbprint(&key) == kid {
                Ok(key)
            } else {
                Err(format!("kid {kid:?} is not the thumbprint of {x:?}"))
            }
        };
        let keys = |list: &[KeyJson]| {
            list.iter()
                .map(|entry| key(&entry.x, &entry.kid))
                .collect::<Result<_, _>>()
        };
        let genesis = Self {
            salt: hex::decode(&json.salt)
                .ok()
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or("salt is not 64 hexadecimal digits")?,
            created: Timestamp::new(json.created).map_err(|error| format!("created: {error}"))?,
            epoch_ms: json.epoch_ms,
            nodes: json
                .nodes
                .iter()
                .map(|node| Ok((node.id, key(&node.x, &node.kid)?)))
                .collect::<Result<_, String>>()?,
            admins: keys(&json.admins)?,
            gateways: keys(&json.gateways)?,
            development: json.development,
        };
        if let Some(fault) = genesis.fault() {
            return Err(fault.to_owned());
        }
        let cluster = genesis.cluster().to_string();
        if cluster == json.cluster {
            Ok(genesis)
        } else {
            Err(format!(
                "cluster is {:?}, but the fields hash to {cluster:?}: one of them was changed",
                json.cluster
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts up, so that every key differs and every run is the same.
    fn counting() -> impl FnMut(&mut [u8]) -> io::Result<()> {
        let mut next = 0u8;
        move |bytes| {
            next += 1;
            bytes.fill(next);
            Ok(())
        }
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::new(ms).expect("a small number")
    }

    fn cluster(text: &str) -> Cluster {
        Cluster::parse("cluster.toml", text).expect("the test's cluster file is valid")
    }

    fn two_nodes() -> Cluster {
        cluster(
            "epoch_ms = 900000\ndevelopment = true\n\
             [[node]]\nid = 1\napi = \"a:1\"\npeer = \"a:2\"\n[[node]]\nid = 2\napi = \"a:3\"\npeer = \"a:4\"\n",
        )
    }

    fn made() -> (tempfile::TempDir, Genesis) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let genesis = init(dir.path(), &two_nodes(), at(7), &mut counting()).expect("init works");
        (dir, genesis)
    }

    #[test]
    fn what_init_made_is_what_every_node_loads() {
        let (dir, genesis) = made();
        for id in [1, 2] {
            let identity = Identity::load(dir.path(), id, &two_nodes()).expect("it loads");
            assert_eq!(identity.genesis.cluster(), genesis.cluster());
            assert_eq!(
                genesis.nodes[usize::try_from(id).expect("small") - 1].1,
                public(&identity.node_key)
            );
            assert_eq!(
                genesis.gateways,
                [public(&identity.gateway_key.expect("the gateway key"))]
            );
        }
    }

    #[test]
    fn init_never_overwrites_and_finishes_what_a_crash_left() {
        let (dir, genesis) = made();
        let again = init(dir.path(), &two_nodes(), at(9), &mut |_| {
            Err(io::Error::other("not asked"))
        });
        assert_eq!(again.expect("nothing to do").cluster(), genesis.cluster());

        // As if the machine had stopped before genesis.json: the keys stay, a draft is dropped.
        fs::remove_file(genesis_path(dir.path())).expect("remove");
        fs::write(dir.path().join("genesis.draft"), "half").expect("write");
        let finished = init(dir.path(), &two_nodes(), at(9), &mut counting()).expect("init finishes");
        assert_eq!(finished.nodes, genesis.nodes);
        assert_ne!(
            finished.cluster(),
            genesis.cluster(),
            "a new salt and time make another cluster"
        );
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        let (dir, _) = made();
        let path = node_key_path(dir.path(), 1);
        assert_eq!(
            fs::metadata(&path).expect("it exists").permissions().mode() & 0o777,
            0o600
        );
        for mode in [0o640, 0o604, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
            let error = Identity::load(dir.path(), 1, &two_nodes())
                .expect_err("exposed")
                .to_string();
            assert!(
                error.contains("chmod 600") && error.contains("node.key"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_cluster_file_that_disagrees_is_refused_with_both_values() {
        let (dir, _) = made();
        let base = "epoch_ms = 900000\ndevelopment = true\n[[node]]\nid = 1\napi = \"a:1\"\npeer = \"a:2\"\n";
        let second = "[[node]]\nid = 2\napi = \"a:3\"\npeer = \"a:4\"\n";
        let third = "[[node]]\nid = 3\napi = \"a:5\"\npeer = \"a:6\"\n";
        let cases = [
            (
                format!("{base}{second}").replace("900000", "3600000"),
                "epoch_ms is 3600000, but",
            ),
            (
                format!("{base}{second}").replace("true", "false"),
                "development is false, but",
            ),
            (base.to_owned(), "ids (without genesis = false) is [1], but"),
            (
                format!("{base}{second}{third}"),
                "ids (without genesis = false) is [1, 2, 3], but",
            ),
        ];
        for (text, expected) in cases {
            let error = Identity::load(dir.path(), 1, &cluster(&text))
                .expect_err("it disagrees")
                .to_string();
            assert!(
                error.contains(expected) && error.contains("genesis.json says"),
                "{error}"
            );
        }
        // A node that joined later is no founder, and may stand in the file.
        let joined = cluster(&format!("{base}{second}{third}genesis = false\n"));
        Identity::load(dir.path(), 1, &joined).expect("it agrees");
    }

    #[test]
    fn an_altered_genesis_or_a_swapped_key_is_noticed() {
        let (dir, _) = made();
        let path = genesis_path(dir.path());
        let text = fs::read_to_string(&path).expect("genesis.json");
        fs::write(&path, text.replace("\"created\": 7", "\"created\": 8")).expect("write");
        let error = Identity::load(dir.path(), 1, &two_nodes())
            .expect_err("altered")
            .to_string();
        assert!(error.contains("one of them was changed"), "{error}");
        fs::write(&path, text).expect("write");

        fs::copy(node_key_path(dir.path(), 2), node_key_path(dir.path(), 1)).expect("copy");
        let error = Identity::load(dir.path(), 1, &two_nodes())
            .expect_err("swapped")
            .to_string();
        assert!(error.contains("for node 1"), "{error}");
    }

    #[test]
    fn a_renewed_key_is_the_nodes_and_the_old_one_is_kept() {
        let (dir, _) = made();
        let path = node_key_path(dir.path(), 1);
        let old = read_key(&path).expect("a key");
        let new = renew_key(&path, &mut |bytes: &mut [u8]| {
            bytes.fill(0x77);
            Ok(())
        })
        .expect("renewed");
        assert_ne!(public(&new), public(&old));
        let loaded =
            Identity::load(dir.path(), 1, &two_nodes()).expect("it may have been replaced in the log");
        assert_eq!(public(&loaded.node_key), public(&new));
        let kept = read_key(&path.with_extension("old")).expect("the old key");
        assert_eq!(public(&kept), public(&old));
    }
}
