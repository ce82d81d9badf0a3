//! A safe subset of Mongo's queries, as EAF's `asset.query` takes them.
//!
//! ```text
//! query      { path: condition, …, "$or": [query…], "$and": [query…] }      all must hold
//! condition  value                                                          equality
//!            { "$in": [value…], "$ne": value, "$exists": bool, "$regex": text }   all must hold
//! path       name.name…
//! ```
//!
//! A string in a query equals a number of the same text too, for query strings know no numbers. What always holds:
//! depth is bounded by the parser before, the number of conditions and of regular expressions here, and the latter take
//! linear time: a query is held against every asset while nothing can be applied. Absent on purpose: `$where`
//! and everything else that computes.

use regex::Regex;
use serde_json::Value;

use super::asset::pattern;
use super::json::Json;

/// Values that one query may compare with.
const VALUES: usize = 1_000;
/// Regular expressions in one query; each may take a mebibyte.
const PATTERNS: usize = 16;

/// Conditions that must all hold.
#[derive(Debug)]
pub(crate) struct Filter(Vec<Term>);

/// What a query may still have.
struct Allowance {
    values: usize,
    patterns: usize,
}

impl Allowance {
    fn values(&mut self, n: usize) -> Result<(), String> {
        let left = self.values.checked_sub(n);
        self.values = left.ok_or_else(|| format!("a query of at most {VALUES} conditions and values"))?;
        Ok(())
    }

    fn pattern(&mut self) -> Result<(), String> {
        let left = self.patterns.checked_sub(1);
        self.patterns = left.ok_or_else(|| format!("a query of at most {PATTERNS} regular expressions"))?;
        Ok(())
    }
}

#[derive(Debug)]
enum Term {
    /// One of these.
    Or(Vec<Filter>),
    /// All of these.
    And(Vec<Filter>),
    /// What stands at a path.
    At(Vec<String>, Condition),
}

#[derive(Debug)]
enum Condition {
    Equals(Json),
    Differs(Json),
    In(Vec<Json>),
    Exists(bool),
    Matches(Regex),
}

impl Filter {
    /// Reads a query, or says what was expected.
    pub(crate) fn parse(json: &Json) -> Result<Filter, String> {
        let allowed = &mut Allowance {
            values: VALUES,
            patterns: PATTERNS,
        };
        Filter::read(json, allowed)
    }

    fn read(json: &Json, allowed: &mut Allowance) -> Result<Filter, String> {
        let Json::Object(fields) = json else {
            return Err("a query object, as {\"balancerule.to\": \"g\"}".to_owned());
        };
        let mut terms = Vec::new();
        for (name, value) in fields {
            allowed.values(1)?;
            match name.as_str() {
                "$or" => terms.push(Term::Or(branches(name, value, allowed)?)),
                "$and" => terms.push(Term::And(branches(name, value, allowed)?)),
                _ if name.starts_with('$') => return Err(format!("one of $or, $and or a path, not {name}")),
                _ => {
                    let path: Vec<String> = name.split('.').map(str::to_owned).collect();
                    for condition in conditions(value, allowed)? {
                        terms.push(Term::At(path.clone(), condition));
                    }
                }
            }
        }
        Ok(Filter(terms))
    }

    /// Whether an object matches.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|term| match term {
            Term::Or(branches) => branches.iter().any(|branch| branch.matches(object)),
            Term::And(branches) => branches.iter().all(|branch| branch.matches(object)),
            Term::At(path, condition) => {
                let value = path
                    .iter()
                    .try_fold(object, |value, name| value.get(name))
                    .filter(|value| !value.is_null());
                match condition {
                    Condition::Equals(Json::Null) => value.is_none(),
                    Condition::Equals(json) => value.is_some_and(|value| equal(json, value)),
                    Condition::Differs(json) => !value.is_some_and(|value| equal(json, value)),
                    Condition::In(all) => {
                        value.is_some_and(|value| all.iter().any(|json| equal(json, value)))
                    }
                    Condition::Exists(wanted) => value.is_some() == *wanted,
                    Condition::Matches(regex) => value
                        .and_then(Value::as_str)
                        .is_some_and(|text| regex.is_match(text)),
                }
            }
        })
    }
}

/// A list, or a query string's numbered fields.
fn elements(json: &Json) -> Option<Vec<&Json>> {
    match json {
        Json::List(items) => Some(items.iter().collect()),
        Json::Object(fields) => (0..fields.len()).map(|i| fields.get(&i.to_string())).collect(),
        _ => None,
    }
}

fn branches(name: &str, json: &Json, allowed: &mut Allowance) -> Result<Vec<Filter>, String> {
    let branches = elements(json).filter(|branches| !branches.is_empty());
    branches
        .ok_or_else(|| format!("a list of queries in {name}"))?
        .into_iter()
        .map(|branch| Filter::read(branch, allowed))
        .collect()
}

fn conditions(json: &Json, allowed: &mut Allowance) -> Result<Vec<Condition>, String> {
    let Json::Object(fields) = json else {
        return Ok(vec![Condition::Equals(json.clone())]);
    };
    let operators = fields.keys().filter(|name| name.starts_with('$')).count();
    if operators == 0 {
        return Ok(vec![Condition::Equals(json.clone())]);
    }
    fields
        .iter()
        .map(|(name, value)| match (name.as_str(), value) {
            ("$eq", value) => Ok(Condition::Equals(value.clone())),
            ("$ne", value) => Ok(Condition::Differs(value.clone())),
            ("$in", value) => {
                let all = elements(value).ok_or("a list of values in $in")?;
                allowed.values(all.len())?;
                Ok(Condition::In(all.into_iter().cloned().collect()))
            }
            ("$exists", Json::Flag(wanted)) => Ok(Condition::Exists(*wanted)),
            ("$exists", Json::Text(text)) if text == "true" || text == "false" => {
                Ok(Condition::Exists(text == "true"))
            }
            ("$exists", _) => Err("true or false in $exists".to_owned()),
            ("$regex", Json::Text(text)) => {
                allowed.pattern()?;
                Ok(Condition::Matches(pattern(text)?))
            }
            ("$regex", _) => Err("a regular expression in $regex".to_owned()),
            (name, _) => Err(format!("one of $eq, $ne, $in, $exists, $regex, not {name}")),
        })
        .collect()
}

fn equal(json: &Json, value: &Value) -> bool {
    match (json, value) {
        (Json::Null, Value::Null) => true,
        (Json::Flag(a), Value::Bool(b)) => a == b,
        (Json::Text(a), Value::Bool(b)) => *a == b.to_string(),
        (Json::Text(a), Value::String(b)) => a == b,
        (Json::Number(a) | Json::Text(a), Value::Number(b)) => {
            *a == b.to_string() || a.parse::<f64>().is_ok_and(|a| Some(a) == b.as_f64())
        }
        (Json::List(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Json::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn matches(filter: &str, object: &Value) -> Result<bool, String> {
        Filter::parse(&Json::parse(filter.as_bytes()).expect("the test's JSON"))
            .map(|filter| filter.matches(object))
    }

    #[test]
    fn the_subset_holds() {
        let asset =
            json!({ "assetId": "m1", "type": "balance", "balancerule": { "to": "g" }, "n": 5, "flag": true });
        for (filter, yes) in [
            ("{}", true),
            (r#"{"assetId":"m1"}"#, true),
            (r#"{"assetId":"m2"}"#, false),
            (r#"{"balancerule.to":"g"}"#, true),
            (r#"{"balancerule":{"to":"g"}}"#, true),
            (r#"{"balancerule.from":null}"#, true),
            (r#"{"$or":[{"balancerule.to":"x"},{"balancerule.to":"g"}]}"#, true),
            (r#"{"$or":{"0":{"balancerule.to":"g"}}}"#, true),
            (r#"{"$and":[{"type":"balance"},{"assetId":"m2"}]}"#, false),
            (r#"{"assetId":{"$in":["m0","m1"]}}"#, true),
            (r#"{"assetId":{"$ne":"m1"}}"#, false),
            (r#"{"assetId":{"$regex":"^m[0-9]$"}}"#, true),
            (r#"{"nothing":{"$exists":false},"flag":{"$exists":"true"}}"#, true),
            (r#"{"n":"5","flag":"true"}"#, true),
            (r#"{"n":5.0}"#, true),
            (r#"{"n":6}"#, false),
        ] {
            assert_eq!(matches(filter, &asset), Ok(yes), "{filter}");
        }
    }

    #[test]
    fn all_else_is_refused() {
        let asset = json!({});
        for filter in [
            "[]",
            r#"{"$where":"1"}"#,
            r#"{"a":{"$gt":1}}"#,
            r#"{"$or":[]}"#,
            r#"{"$or":"x"}"#,
            r#"{"a":{"$regex":"("}}"#,
            r#"{"a":{"$regex":"(a{1000}){1000}{1000}"}}"#,
            r#"{"a":{"$in":"x"}}"#,
        ] {
            assert!(matches(filter, &asset).is_err(), "{filter}");
        }
    }

    #[test]
    fn a_query_costs_a_bounded_amount() {
        let many = |one: &str, n: usize| format!(r#"{{"$or":[{}]}}"#, vec![one; n].join(","));
        let values = |n: usize| format!(r#"{{"a":{{"$in":[{}]}}}}"#, vec!["1"; n].join(","));
        let asset = json!({"a": "x"});
        for (filter, taken) in [
            // The `$or` is a condition too.
            (many(r#"{"a":"y"}"#, VALUES - 1), true),
            (many(r#"{"a":"y"}"#, VALUES), false),
            (values(VALUES - 1), true),
            (values(VALUES), false),
            (many(r#"{"a":{"$regex":"y"}}"#, PATTERNS), true),
            (many(r#"{"a":{"$regex":"y"}}"#, PATTERNS + 1), false),
        ] {
            let found = matches(&filter, &asset);
            assert_eq!(found.is_ok(), taken, "{:.80}: {found:?}", filter);
        }
        let refused = matches(&many(r#"{"a":"y"}"#, VALUES), &asset).expect_err("too many");
        assert_eq!(refused, "a query of at most 1000 conditions and values");
    }
}
