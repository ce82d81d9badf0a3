//! Query strings and forms as EAF's clients write them: `a[b]=c` nests, `a[]=x` lists.
//!
//! Everything is a string here; [`super::params`] reads the numbers in them. What always holds: depth and number
//! of values are bounded, a name stands once, and broken escapes are refused rather than guessed.

use std::collections::BTreeMap;

use super::json::{Json, MAX_DEPTH};

/// Values in one query.
const MAX_VALUES: usize = 1000;

/// Why a query is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// At which name, as far as it could be read.
    pub(crate) name: String,
    /// What is wrong.
    pub(crate) message: &'static str,
}

/// The values of a query, as an object.
pub(crate) fn parse(query: &str) -> Result<BTreeMap<String, Json>, Malformed> {
    let mut root = BTreeMap::new();
    for (count, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let raw = name;
        let fail = |message| Malformed {
            name: raw.chars().take(80).collect(),
            message,
        };
        if count >= MAX_VALUES {
            return Err(fail("there are more than 1000 values"));
        }
        let name = unescape(name).ok_or_else(|| fail("the name has a broken escape"))?;
        let value = unescape(value).ok_or_else(|| fail("the value has a broken escape"))?;
        let path = path(&name).ok_or_else(|| fail("brackets don't match: expected name[part][part]"))?;
        if path.len() > MAX_DEPTH {
            return Err(fail("nested too deep"));
        }
        insert(&mut root, &path, value).map_err(fail)?;
    }
    Ok(root)
}

/// `a[b][c]` as its parts.
fn path(name: &str) -> Option<Vec<&str>> {
    let Some(open) = name.find('[') else {
        return (!name.is_empty()).then(|| vec![name]);
    };
    let (first, mut rest) = name.split_at(open);
    if first.is_empty() {
        return None;
    }
    let mut parts = vec![first];
    while !rest.is_empty() {
        let (part, after) = rest.strip_prefix('[')?.split_once(']')?;
        if part.contains('[') {
            return None;
        }
        parts.push(part);
        rest = after;
    }
    Some(parts)
}

fn insert(into: &mut BTreeMap<String, Json>, path: &[&str], value: String) -> Result<(), &'static str> {
    let Some((part, rest)) = path.split_first() else {
        return Err("the name is empty");
    };
    let part = match *part {
        // The next place of a list.
        "" => into.len().to_string(),
        part => part.to_owned(),
    };
    if rest.is_empty() {
        return match into.insert(part, Json::Text(value)) {
            None => Ok(()),
            Some(_) => Err("it is given twice"),
        };
    }
    match into.entry(part).or_insert_with(|| Json::Object(BTreeMap::new())) {
        Json::Object(inner) => insert(inner, rest, value),
        _ => Err("it is given twice"),
    }
}

/// `+` is a space, `%41` a byte; `None` for broken escapes and what is no UTF-8.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|c| char::from(c).to_digit(16));
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high << 4 | low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(query: &str) -> String {
        match parse(query) {
            Ok(fields) => Json::Object(fields).to_string(),
            Err(error) => format!("{}: {}", error.name, error.message),
        }
    }

    #[test]
    fn queries_become_trees() {
        for (query, tree) in [
            ("", "{}"),
            ("a=1&b=x+y%21", r#"{"a":"1","b":"x y!"}"#),
            ("a", r#"{"a":""}"#),
            ("a==", r#"{"a":"="}"#),
            (
                "balancerule[to]=x&balancerule[from]=y",
                r#"{"balancerule":{"from":"y","to":"x"}}"#,
            ),
            (
                "q[$or][0][balancerule.to]=a",
                r#"{"q":{"$or":{"0":{"balancerule.to":"a"}}}}"#,
            ),
            ("q%5Ba%5D=b", r#"{"q":{"a":"b"}}"#),
            ("l[]=a&l[]=b", r#"{"l":{"0":"a","1":"b"}}"#),
        ] {
            assert_eq!(json(query), tree, "{query}");
        }
    }

    #[test]
    fn broken_queries_are_refused() {
        for (query, part) in [
            ("a=%", "broken escape"),
            ("a=%zz", "broken escape"),
            ("a=%ff", "broken escape"),
            ("%e4=1", "broken escape"),
            ("a[b=1", "brackets"),
            ("[a]=1", "brackets"),
            ("a]b[=1", "brackets"),
            ("a[b]c=1", "brackets"),
            ("=1", "brackets"),
            ("a=1&a=2", "twice"),
            ("a=1&a[b]=2", "twice"),
            ("a[b]=2&a=1", "twice"),
        ] {
            assert!(json(query).contains(part), "{query}: {}", json(query));
        }
        assert!(json(&format!("a{}=1", "[b]".repeat(50))).contains("too deep"));
        assert!(json(&"a=1&".repeat(2000)).contains("twice"));
        let many: String = (0..2000).map(|i| format!("a{i}=1&")).collect();
        assert!(json(&many).contains("more than 1000"));
    }
}
