//! JSON as clients send it, with every number kept as it was written.
//!
//! Floating point never stands between a client and the ledger: `2.4999999999999999999` is not 2.5, and an
//! integer beyond 2^53 is not its neighbour. So a number stays text until [`super::params`] rounds it, once.
//! A query string becomes the same tree ([`super::query`]), which is why strings may hold numbers.
//!
//! What always holds: nesting is at most [`MAX_DEPTH`], a name stands in an object once, and what is malformed
//! is refused with its line and column. The syntax is serde_json's; absent on purpose is any extension of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Objects and lists within each other.
pub(crate) const MAX_DEPTH: usize = 16;

/// A value as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    /// Nothing; the same as not given.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A number, exactly as written.
    Number(String),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// Named values.
    Object(BTreeMap<String, Json>),
}

/// Why bytes are no JSON that is taken here, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// What is wrong, with line and column where they are known.
    pub(crate) message: String,
}

impl Json {
    /// Reads one document.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Json, Malformed> {
        let text = std::str::from_utf8(bytes).map_err(|error| Malformed {
            message: format!("not UTF-8 from byte {}", error.valid_up_to()),
        })?;
        // The whole is checked first, so that the position in the message is one in the whole.
        let raw: &RawValue = serde_json::from_str(text).map_err(malformed)?;
        Json::build(raw.get(), 0)
    }

    fn build(raw: &str, depth: usize) -> Result<Json, Malformed> {
        let first = raw.bytes().next().unwrap_or(b'n');
        if depth >= MAX_DEPTH && matches!(first, b'[' | b'{') {
            return Err(Malformed {
                message: format!("nested more than {MAX_DEPTH} deep"),
            });
        }
        Ok(match first {
            b'{' => {
                let fields: Fields<'_> = serde_json::from_str(raw).map_err(unplaced)?;
                let fields = fields.0.into_iter();
                Json::Object(
                    fields
                        .map(|(name, value)| Ok((name.into_owned(), Json::build(value.get(), depth + 1)?)))
                        .collect::<Result<_, _>>()?,
                )
            }
            b'[' => {
                let items: Items<'_> = serde_json::from_str(raw).map_err(unplaced)?;
                Json::List(
                    items
                        .0
                        .into_iter()
                        .map(|value| Json::build(value.get(), depth + 1))
                        .collect::<Result<_, _>>()?,
                )
            }
            b'"' => Json::Text(serde_json::from_str(raw).map_err(unplaced)?),
            b't' => Json::Flag(true),
            b'f' => Json::Flag(false),
            b'n' => Json::Null,
            _ => Json::Number(raw.to_owned()),
        })
    }

    /// What it is, for a message.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Flag(_) => "a boolean",
            Json::Number(_) => "a number",
            Json::Text(_) => "a string",
            Json::List(_) => "a list",
            Json::Object(_) => "an object",
        }
    }

    /// The value for a message: short ones as they are, long ones cut.
    pub(crate) fn shown(&self) -> String {
        const LONGEST: usize = 40;
        let text = self.to_string();
        match text.char_indices().nth(LONGEST) {
            Some((cut, _)) => format!("{}…", &text[..cut]),
            None => text,
        }
    }
}

/// JSON again. Numbers as they were written; names in byte order.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Flag(flag) => flag.fmt(f),
            Json::Number(number) => f.write_str(number),
            Json::Text(text) => f.write_str(&quoted(text)),
            Json::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Json::Object(fields) => {
                f.write_str("{")?;
                for (i, (name, value)) in fields.iter().enumerate() {
                    write!(f, "{}{}:{value}", if i == 0 { "" } else { "," }, quoted(name))?;
                }
                f.write_str("}")
            }
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn malformed(error: serde_json::Error) -> Malformed {
    Malformed {
        message: error.to_string(),
    }
}

/// The syntax was checked, so the error is about a part, and its line and column would mislead.
fn unplaced(error: serde_json::Error) -> Malformed {
    let message = error.to_string();
    let end = message.rfind(" at line ").unwrap_or(message.len());
    Malformed {
        message: message[..end].to_owned(),
    }
}

struct Fields<'a>(BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    if fields.contains_key(&name) {
                        return Err(A::Error::custom(format_args!(
                            "the name {} stands twice in one object",
                            quoted(&name)
                        )));
                    }
                    fields.insert(name, value);
                }
                Ok(Fields(fields))
            }
        }
        from.deserialize_map(Reader)
    }
}

#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Items<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Items(items))
            }
        }
        from.deserialize_seq(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Json, String> {
        Json::parse(text.as_bytes()).map_err(|error| error.message)
    }

    #[test]
    fn numbers_stay_as_written() {
        for number in [
            "2.4999999999999999999999999",
            "-0",
            "1e400",
            "9007199254740993",
            "0.5E-1",
        ] {
            assert_eq!(parse(number), Ok(Json::Number(number.to_owned())));
        }
    }

    #[test]
    fn it_prints_what_it_read() {
        let text = r#"{"a":[1,-2.50,{"b":null}],"ä\n":"x\"y","t":true,"f":false}"#;
        let sorted = r#"{"a":[1,-2.50,{"b":null}],"f":false,"t":true,"ä\n":"x\"y"}"#;
        assert_eq!(parse(text).map(|json| json.to_string()).as_deref(), Ok(sorted));
    }

    #[test]
    fn what_is_malformed_is_refused_with_its_place() {
        for (text, part) in [
            ("{\"a\":1,\n \"b\":}", "line 2 column"),
            ("", "EOF"),
            ("{} x", "trailing characters at line 1 column 4"),
            ("01", "column"),
            ("NaN", "column"),
            (r#"{"a":1,"a":2}"#, "the name \"a\" stands twice"),
            (r#"{"x":{"a":1,"\u0061":2}}"#, "the name \"a\" stands twice"),
            (r#""\ud800""#, "hex escape"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(
            Json::parse(b"\"\xff\"")
                .expect_err("not UTF-8")
                .message
                .contains("byte 1")
        );
    }

    #[test]
    fn nesting_is_bounded_however_deep_it_goes() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&nested(MAX_DEPTH)).is_ok());
        assert!(parse(&nested(MAX_DEPTH + 1)).is_err());
        assert!(parse(&nested(1_000_000)).is_err());
        assert!(parse(&"{\"a\":".repeat(100_000)).is_err());
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let long = Json::Text("ä".repeat(1000));
        assert_eq!(long.shown().chars().count(), 41);
    }
}
