//! `gridseal keys`: make a cluster's identity, make a new node's key, show the public halves.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ed25519_dalek::SigningKey;
use ledger::PublicKey;
use ledger::jws::thumbprint;
use serde_json::{Value, json};

use super::{Failure, Place, call, cluster_file, table};
use crate::identity::{self, key_x, os_entropy};
use crate::say;
use crate::seams::{Clock as _, SystemClock};

/// Make and show keys. Secret keys never leave their files (mode 0600).
#[derive(Debug, Args)]
pub(super) struct Keys {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a new cluster's identity: keys of the founding nodes, the gateways and the admin, and genesis.json.
    /// Overwrites nothing; `up` does it by itself. Where nodes run on several machines, give each genesis.json, its
    /// own node-<id>/ and, if it answers unsigned development calls, gateway.key.
    Init(Init),
    /// Show the public keys of the genesis; --jwks prints them as a JWK set, which `verify --keys` takes.
    Show(Show),
    /// Make the key of a node that will join (`gridseal member add`) and print its public half.
    New(New),
    /// Replace a node's key: on its machine, make a new one and print its public half. Register that with `gridseal member
    /// key`, then restart the node; until both are done its signatures count for nothing. The old key is kept as node.old.
    Renew(New),
}

#[derive(Debug, Args)]
struct Init {
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Show {
    /// The directory with genesis.json.
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// The nodes' keys as a JWK set (RFC 7517, RFC 8037).
    #[arg(long, conflicts_with = "json")]
    jwks: bool,
    /// All keys and the cluster's id as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct New {
    /// The node's id.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    /// The node's data directory.
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Keys {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Init(init) => {
                let (cluster, _) = cluster_file::find(init.place.cluster.as_deref())?;
                let data = init.place.data;
                let genesis = identity::init(&data, &cluster, SystemClock.now(), &mut os_entropy)?;
                say!("cluster {} in {}", genesis.cluster(), data.display());
                Ok(())
            }
            Action::Show(show) => show.run(),
            Action::New(new) => {
                let path = identity::node_key_path(&new.data, new.id);
                new.print(&identity::ensure_key(&path, &mut os_entropy)?)
            }
            Action::Renew(renew) => {
                let path = identity::node_key_path(&renew.data, renew.id);
                renew.print(&identity::renew_key(&path, &mut os_entropy)?)
            }
        }
    }
}

impl New {
    fn print(&self, key: &SigningKey) -> Result<(), Failure> {
        let public = identity::public(key);
        if self.json {
            return call::print(&jwk(Some(self.id), &public), true);
        }
        say!(
            "node {}  x {}  kid {}",
            self.id,
            key_x(&public),
            thumbprint(&public)
        );
        Ok(())
    }
}

impl Show {
    fn run(self) -> Result<(), Failure> {
        let genesis = identity::load_genesis(&self.data)?;
        let nodes: Vec<Value> = genesis
            .nodes
            .iter()
            .map(|(id, key)| jwk(Some(*id), key))
            .collect();
        if self.jwks {
            return call::print(&json!({"keys": nodes}), false);
        }
        let others = |keys: &[PublicKey]| keys.iter().map(|key| jwk(None, key)).collect::<Vec<_>>();
        if self.json {
            let all = json!({"cluster": genesis.cluster().to_string(), "nodes": nodes,
                "admins": others(&genesis.admins), "gateways": others(&genesis.gateways)});
            return call::print(&all, false);
        }
        let row = |who: String, key: &PublicKey| vec![who, key_x(key), thumbprint(key)];
        let mut rows: Vec<_> = genesis
            .nodes
            .iter()
            .map(|(id, key)| row(format!("node {id}"), key))
            .collect();
        rows.extend(genesis.gateways.iter().map(|key| row("gateways".to_owned(), key)));
        rows.extend(genesis.admins.iter().map(|key| row("admin".to_owned(), key)));
        say!("cluster {}", genesis.cluster());
        say!(
            "{}",
            table::render(&["who", "x (public key)", "kid (thumbprint)"], &[], &rows)
        );
        Ok(())
    }
}

/// A public key as a JWK; `node` is this project's own member, which others ignore.
fn jwk(node: Option<u64>, key: &PublicKey) -> Value {
    let mut jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
        "kid": thumbprint(key), "x": key_x(key)});
    if let Some(node) = node {
        jwk["node"] = json!(node);
    }
    jwk
}

/// The nodes' keys of a JWK set, as [`Show`] prints it with `--jwks`.
pub(super) fn parse_jwks(text: &str) -> Result<Vec<(u64, PublicKey)>, String> {
    let set: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let keys = set["keys"]
        .as_array()
        .ok_or("not a JWK set: expected {\"keys\": [...]}")?;
    let one = |(position, jwk): (usize, &Value)| {
        let wrong = |what: &str| format!("keys[{position}]: {what}");
        if jwk["kty"] != "OKP" || jwk["crv"] != "Ed25519" {
            return Err(wrong("expected kty \"OKP\" and crv \"Ed25519\""));
        }
        let node = jwk["node"]
            .as_u64()
            .ok_or_else(|| wrong("expected node, the id of the node whose key it is"))?;
        let x = jwk["x"].as_str().ok_or_else(|| wrong("expected x"))?;
        let key = identity::parse_key_x(x).map_err(|error| wrong(&error))?;
        match jwk.get("kid") {
            Some(kid) if *kid != json!(thumbprint(&key)) => Err(wrong("kid is not the thumbprint of x")),
            _ => Ok((node, key)),
        }
    };
    keys.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_set_survives_the_round_trip_and_lies_are_found() {
        // RFC 8037, appendix A.2 and A.3: a public key and its thumbprint.
        let key = identity::parse_key_x("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").expect("a key");
        let set = json!({"keys": [jwk(Some(7), &key)]});
        assert_eq!(
            set["keys"][0]["kid"],
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
        assert_eq!(parse_jwks(&set.to_string()), Ok(vec![(7, key)]));
        for (field, value) in [
            ("kid", json!("other")),
            ("x", json!("AA")),
            ("kty", json!("EC")),
            ("node", json!(null)),
        ] {
            let mut broken = set.clone();
            broken["keys"][0][field] = value;
            assert!(parse_jwks(&broken.to_string()).is_err(), "{field}");
        }
    }
}
