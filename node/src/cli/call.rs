//! `gridseal call`: any action of the API from a shell.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper::body::Bytes;
use serde_json::{Map, Value};

use super::{Failure, cluster_file};
use crate::client::{Ask, Client};
use crate::identity::os_entropy;
use crate::say;

/// Call an action of the API and print the JSON answer.
///
/// Parameters are key=value: numbers, true, false and null are taken as such, anything else as a string;
/// key:=JSON takes JSON as it is (key:='"12"' is a string of digits); a.b=value sets a nested field. @FILE sends
/// a file as the body (@- is standard input); one that ends in .ndjson goes as application/x-ndjson.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples: gridseal call asset.upsert assetId=pv1 balancerule.to=house1
          gridseal call balancing.addSettlement meterId=pv1 epoch=1337 consumption=500 label=virtual_1
          gridseal call balancing.addSettlements @readings.json
          gridseal call balancing.balance assetId=house1 epoch=1337 --consistency local

A call carries an Idempotency-Key, so that the next node can be tried after silence without doing a thing twice;
--key repeats an earlier call's. Exit codes: 0 done, 1 refused (the refusal is printed), 3 no answer.")]
pub(super) struct Call {
    /// SERVICE.ACTION, as balancing.seal; /api/openapi.json of any node lists them.
    action: String,
    /// key=value, key:=JSON, nested.key=value, or @FILE.
    #[arg(value_name = "PARAMETER")]
    parameters: Vec<String>,
    /// Nodes to ask, in order, as host:port or http://host:port; by default those of the cluster file.
    #[arg(long, value_name = "URL")]
    node: Vec<String>,
    /// The cluster file that names the nodes.
    #[arg(long, value_name = "FILE")]
    cluster: Option<PathBuf>,
    /// linearizable: nothing acknowledged is missed. local: what the node has, at once.
    #[arg(long, value_name = "LEVEL", value_parser = ["linearizable", "local"], default_value = "linearizable")]
    consistency: String,
    /// The Idempotency-Key (up to 64 characters); random by default.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Seconds to go on trying.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    patience: u64,
    /// One line of JSON, for programs.
    #[arg(long)]
    json: bool,
}

impl Call {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let nodes = addresses(&self.node, self.cluster.as_deref())?;
        let (body, content_type) = body(&self.parameters)?;
        let key = match self.key {
            Some(key) => key,
            None => random_key()?,
        };
        let ask = Ask {
            action: self.action,
            body: Some(body),
            content_type,
            key: Some(key),
            local: self.consistency == "local",
        };
        let answer = Client::new(nodes, Duration::from_secs(self.patience))
            .call(0, &ask)
            .await?;
        print(&answer.body, self.json)?;
        Ok(answer.ok(&ask.action).map(drop)?)
    }
}

/// The nodes of the command line, else of the cluster file, as `host:port`.
pub(super) fn addresses(named: &[String], cluster: Option<&std::path::Path>) -> Result<Vec<String>, Failure> {
    if named.is_empty() {
        let (cluster, _) = cluster_file::find(cluster)?;
        return Ok(cluster.nodes.into_iter().map(|node| node.api).collect());
    }
    let address = |url: &String| {
        if url.starts_with("https://") {
            return Err(Failure::Usage(format!("{url}: nodes speak plain http")));
        }
        let address = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        if address.contains('/') || !address.contains(':') {
            return Err(Failure::Usage(format!(
                "{url}: expected host:port or http://host:port"
            )));
        }
        Ok(address.to_owned())
    };
    named.iter().map(address).collect()
}

/// A key that no other call has.
pub(super) fn random_key() -> Result<String, Failure> {
    let mut bits = [0; 16];
    os_entropy(&mut bits).map_err(|error| Failure::Broken(error.to_string()))?;
    Ok(hex::encode(bits))
}

/// Prints JSON on standard output; `null` (an empty body) prints nothing.
pub(super) fn print(value: &Value, compact: bool) -> Result<(), Failure> {
    if value.is_null() {
        return Ok(());
    }
    let text = if compact {
        value.to_string()
    } else {
        format!("{value:#}")
    };
    say::text(text).map_err(|error| Failure::Broken(format!("standard output: {error}")))
}

fn body(parameters: &[String]) -> Result<(Bytes, &'static str), Failure> {
    if let [parameter] = parameters
        && let Some(file) = parameter.strip_prefix('@')
    {
        let content_type = if file.ends_with(".ndjson") {
            "application/x-ndjson"
        } else {
            "application/json"
        };
        let mut content = Vec::new();
        let read = if file == "-" {
            std::io::stdin().read_to_end(&mut content).map(drop)
        } else {
            std::fs::read(file).map(|bytes| content = bytes)
        };
        read.map_err(|error| Failure::Usage(format!("{file}: {error}")))?;
        return Ok((Bytes::from(content), content_type));
    }
    let mut body = Map::new();
    for parameter in parameters {
        set(&mut body, parameter)?;
    }
    Ok((Bytes::from(Value::Object(body).to_string()), "application/json"))
}

/// Sets one `key=value`, `key:=JSON` or `a.b=value`.
fn set(body: &mut Map<String, Value>, parameter: &str) -> Result<(), Failure> {
    let wrong = |what: &str| Err(Failure::Usage(format!("{parameter:?}: {what}")));
    let Some((key, text)) = parameter.split_once('=') else {
        return wrong("expected key=value, key:=JSON, or @FILE alone");
    };
    let (key, value) = match key.strip_suffix(':') {
        Some(key) => match serde_json::from_str(text) {
            Ok(value) => (key, value),
            Err(error) => return wrong(&format!("not JSON: {error}")),
        },
        None => (key, detect(text)),
    };
    let mut place = body;
    let mut path = key.split('.').peekable();
    while let Some(step) = path.next() {
        if step.is_empty() {
            return wrong("expected a name before the =");
        }
        if path.peek().is_none() {
            place.insert(step.to_owned(), value);
            return Ok(());
        }
        let inner = place
            .entry(step.to_owned())
            .or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(inner) = inner else {
            return wrong(&format!("{step} is already set to something that has no fields"));
        };
        place = inner;
    }
    wrong("expected a name before the =")
}

/// Numbers, booleans and null as such; anything else is a string, also what only resembles a number (`007`).
fn detect(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_) | Value::Null)) => value,
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(parameters: &[&str]) -> Result<Value, Failure> {
        let parameters: Vec<String> = parameters.iter().map(|&text| text.to_owned()).collect();
        body(&parameters).map(|(bytes, _)| serde_json::from_slice(&bytes).expect("body is JSON"))
    }

    #[test]
    fn values_are_numbers_booleans_strings_json_or_nested() {
        let found = parsed(&[
            "assetId=a b=c",
            "epoch=1337",
            "consumption=-2.5",
            "flag=true",
            "code=007",
            "id:=\"12\"",
            "mol:=[1]",
            "balancerule.from=x",
            "balancerule.to=y",
            "empty=",
        ])
        .expect("it parses");
        let expected = json!({"assetId": "a b=c", "epoch": 1337, "consumption": -2.5, "flag": true, "code": "007",
            "id": "12", "mol": [1], "balancerule": {"from": "x", "to": "y"}, "empty": ""});
        assert_eq!(found, expected);
        assert_eq!(parsed(&[]).expect("nothing is fine"), json!({}));
    }

    #[test]
    fn mistakes_name_the_parameter() {
        for bad in [
            &["epoch"][..],
            &["=1"],
            &["a:=x"],
            &["a=1", "a.b=2"],
            &["a..b=1"],
            &["@/no/such/file"],
        ] {
            assert!(matches!(parsed(bad), Err(Failure::Usage(_))), "{bad:?}");
        }
    }

    #[test]
    fn nodes_are_given_with_or_without_scheme() {
        let named = ["http://127.0.0.1:3001/".to_owned(), "h:1".to_owned()];
        assert_eq!(
            addresses(&named, None),
            Ok(vec!["127.0.0.1:3001".to_owned(), "h:1".to_owned()])
        );
        for bad in ["https://h:1", "h", "http://h:1/api"] {
            assert!(addresses(&[bad.to_owned()], None).is_err(), "{bad}");
        }
    }
}
