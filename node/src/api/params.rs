//! From what was sent to typed values that can't be wrong, or an error that names the field, what came, and
//! what was expected.
//!
//! A reader is a function from [`Json`] to a value. Numbers may stand in strings everywhere, as EAF's clients and
//! every query string send them; fractions of figures are rounded here and nowhere else, halves away from zero,
//! and without floating point. `null` is the same as not given.

use std::collections::BTreeMap;
use std::fmt::Display;

use ledger::asset::AssetId;
use ledger::contract::ContractId;
use ledger::rule::Rule;
use ledger::units::{DecimalError, EPOCHS, MAX_FIGURE, round_decimal};
use ledger::{Epoch, GramsCo2, Label, MicroCurrency, PublicKey, Wh};

use super::error::Fault;
use super::json::Json;
use super::route::{Body, Route};

/// The last epoch there is.
pub(crate) const LAST_EPOCH: i64 = EPOCHS.cast_signed() - 1;

/// What a reader expected instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Something of another kind or form.
    Expected(String),
    /// A number within these bounds.
    Range(String),
    /// Something else in a part of the value.
    Within {
        /// Which part, as it is appended to the field's name.
        part: String,
        /// What came.
        got: String,
        /// What was expected there.
        wrong: Box<Wrong>,
    },
}

fn expected<T>(what: impl Display) -> Result<T, Wrong> {
    Err(Wrong::Expected(what.to_string()))
}

impl Wrong {
    fn expectation(&self) -> &str {
        match self {
            Wrong::Expected(what) | Wrong::Range(what) => what,
            Wrong::Within { wrong, .. } => wrong.expectation(),
        }
    }

    fn fault(self, field: String, got: &Json) -> Fault {
        match self {
            Wrong::Expected(expected) => Fault::Invalid {
                field,
                got: got.shown(),
                expected,
            },
            Wrong::Range(expected) => Fault::OutOfRange {
                field,
                got: got.shown(),
                expected,
            },
            Wrong::Within { part, got, wrong } => {
                let field = field + &part;
                match *wrong {
                    Wrong::Expected(expected) => Fault::Invalid { field, got, expected },
                    Wrong::Range(expected) => Fault::OutOfRange { field, got, expected },
                    // Parts don't have parts; the outer name would do if they had.
                    Wrong::Within { wrong, got, .. } => Fault::Invalid {
                        field,
                        got,
                        expected: wrong.expectation().to_owned(),
                    },
                }
            }
        }
    }
}

/// The parameters of one request, or of one item of a batch.
#[derive(Debug)]
pub(crate) struct Params {
    route: &'static Route,
    /// What stands before each name in messages: `[3].` in a batch.
    prefix: String,
    fields: BTreeMap<String, Json>,
}

impl Params {
    /// Takes the fields if the route has them all.
    pub(crate) fn new(
        route: &'static Route,
        prefix: String,
        fields: BTreeMap<String, Json>,
    ) -> Result<Params, Fault> {
        let params = Params {
            route,
            prefix,
            fields,
        };
        if route.body != Body::OpenFields
            && let Some(name) = params.fields.keys().find(|name| !route.declares(name))
        {
            let known = route.params.iter().map(|param| param.name).collect();
            return Err(Fault::Unknown {
                field: params.name(name),
                known,
            });
        }
        Ok(params)
    }

    fn name(&self, name: &str) -> String {
        format!("{}{}", self.prefix, name.chars().take(80).collect::<String>())
    }

    /// A parameter that may be missing.
    pub(crate) fn optional<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&Json) -> Result<T, Wrong>,
    ) -> Result<Option<T>, Fault> {
        debug_assert!(
            self.route.declares(name),
            "{} doesn't declare {name}",
            self.route.name
        );
        match self.fields.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(value) => read(value)
                .map(Some)
                .map_err(|wrong| wrong.fault(self.name(name), value)),
        }
    }

    /// A parameter that must be there.
    pub(crate) fn required<T>(
        &self,
        name: &'static str,
        read: impl Fn(&Json) -> Result<T, Wrong>,
    ) -> Result<T, Fault> {
        match self.optional(name, &read)? {
            Some(value) => Ok(value),
            None => {
                // No reader takes null, so it says what it wants instead.
                let expected = read(&Json::Null)
                    .err()
                    .map(|wrong| wrong.expectation().to_owned());
                Err(Fault::Missing {
                    field: self.name(name),
                    expected: expected.unwrap_or_default(),
                })
            }
        }
    }

    /// What is given beside the declared parameters.
    pub(crate) fn others(&self) -> impl Iterator<Item = (&String, &Json)> {
        self.fields.iter().filter(|(name, _)| !self.route.declares(name))
    }

    /// A fault about one of the parameters.
    pub(crate) fn invalid(&self, name: &'static str, expected: impl Display) -> Fault {
        let got = self
            .fields
            .get(name)
            .map_or_else(|| "not given".to_owned(), Json::shown);
        Fault::Invalid {
            field: self.name(name),
            got,
            expected: expected.to_string(),
        }
    }
}

/// Any text of at most 256 characters without control characters.
pub(crate) fn text(json: &Json) -> Result<String, Wrong> {
    const WHAT: &str = "a string of at most 256 characters, none of them a control character";
    match json {
        Json::Text(text) if text.chars().count() <= 256 && !text.chars().any(char::is_control) => {
            Ok(text.clone())
        }
        _ => expected(WHAT),
    }
}

/// Text of any length and kind; whoever takes it bounds it.
pub(crate) fn string(json: &Json) -> Result<String, Wrong> {
    match json {
        Json::Text(text) => Ok(text.clone()),
        _ => expected("a string"),
    }
}

/// Yes or no; a query spells it.
pub(crate) fn flag(json: &Json) -> Result<bool, Wrong> {
    match json {
        Json::Flag(flag) => Ok(*flag),
        Json::Text(text) if text == "true" => Ok(true),
        Json::Text(text) if text == "false" => Ok(false),
        _ => expected("true or false"),
    }
}

/// An asset's id.
pub(crate) fn asset(json: &Json) -> Result<AssetId, Wrong> {
    id(json)
}

/// A contract's id.
pub(crate) fn contract(json: &Json) -> Result<ContractId, Wrong> {
    id(json)
}

/// A settlement's label.
pub(crate) fn label(json: &Json) -> Result<Label, Wrong> {
    match json {
        Json::Text(text) => {
            Label::try_from(text.as_str()).or_else(|error| expected(format_args!("{LABEL}; {error}")))
        }
        _ => expected(LABEL),
    }
}

const ID: &str = "a string of 1 to 128 characters, none of them a control character";
const LABEL: &str = "a string of 1 to 128 characters, none of them a control character, the first no dot";

fn id<T>(json: &Json) -> Result<T, Wrong>
where
    T: for<'a> TryFrom<&'a str>,
    for<'a> <T as TryFrom<&'a str>>::Error: Display,
{
    match json {
        Json::Text(text) => match T::try_from(text.as_str()) {
            Ok(id) => Ok(id),
            Err(error) => expected(format_args!("{ID}; {error}")),
        },
        _ => expected(ID),
    }
}

/// The text of a number, from a number or a string.
fn number(json: &Json) -> Option<&str> {
    match json {
        Json::Number(text) | Json::Text(text) => Some(text),
        _ => None,
    }
}

/// A whole number within bounds; `5.0` is one, `5.5` is not.
pub(crate) fn whole(min: i64, max: i64) -> impl Fn(&Json) -> Result<i64, Wrong> {
    move |json| {
        let what = || format!("a whole number from {min} to {max}");
        let Some(text) = number(json) else {
            return expected(what());
        };
        let (integer, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = integer.strip_prefix('-').unwrap_or(integer);
        let is_whole = !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !fraction.is_empty()
            && fraction.bytes().all(|b| b == b'0');
        if !is_whole {
            return expected(what());
        }
        match integer.parse::<i64>() {
            Ok(value) if (min..=max).contains(&value) => Ok(value),
            _ => Err(Wrong::Range(what())),
        }
    }
}

/// A number within bounds, rounded to a whole one, halves away from zero.
pub(crate) fn rounded(min: i64, max: i64) -> impl Fn(&Json) -> Result<i64, Wrong> {
    move |json| {
        let what = || format!("a number from {min} to {max}");
        let Some(text) = number(json) else {
            return expected(what());
        };
        match round_decimal(text) {
            Ok(value) if (min..=max).contains(&value) => Ok(value),
            Ok(_) | Err(DecimalError::TooLarge { .. }) => Err(Wrong::Range(what())),
            Err(DecimalError::Malformed { .. }) => expected(what()),
        }
    }
}

/// An epoch.
pub(crate) fn epoch(json: &Json) -> Result<Epoch, Wrong> {
    let value = whole(0, LAST_EPOCH)(json)?;
    Epoch::new(value.unsigned_abs()).or_else(expected)
}

/// Watt-hours, signed. The ledger has narrower bounds for settlements and refuses what is beyond them.
pub(crate) fn signed_energy(json: &Json) -> Result<Wh, Wrong> {
    Wh::new(rounded(-MAX_FIGURE, MAX_FIGURE)(json)?).or_else(expected)
}

/// Watt-hours, not negative.
pub(crate) fn energy(json: &Json) -> Result<Wh, Wrong> {
    Wh::new(rounded(0, MAX_FIGURE)(json)?).or_else(expected)
}

/// Grams of CO2, signed.
pub(crate) fn co2(json: &Json) -> Result<GramsCo2, Wrong> {
    GramsCo2::new(rounded(-MAX_FIGURE, MAX_FIGURE)(json)?).or_else(expected)
}

/// Millionths of the currency, signed.
pub(crate) fn money(json: &Json) -> Result<MicroCurrency, Wrong> {
    MicroCurrency::new(rounded(-MAX_FIGURE, MAX_FIGURE)(json)?).or_else(expected)
}

/// How many, at most; more is clamped, not refused.
pub(crate) fn page(limit: usize) -> impl Fn(&Json) -> Result<usize, Wrong> {
    move |json| {
        let value = whole(1, i64::MAX)(json)
            .map_err(|_| Wrong::Expected(format!("a whole number from 1 to {limit}")))?;
        Ok(usize::try_from(value).unwrap_or(usize::MAX).min(limit))
    }
}

/// One of these words.
pub(crate) fn word<T: Copy>(
    all: &'static [T],
    spell: fn(T) -> &'static str,
) -> impl Fn(&Json) -> Result<T, Wrong> {
    move |json| {
        let found = match json {
            Json::Text(text) => all.iter().copied().find(|word| spell(*word) == text),
            _ => None,
        };
        let words = || {
            all.iter()
                .map(|word| format!("`{}`", spell(*word)))
                .collect::<Vec<_>>()
                .join(", ")
        };
        found.map_or_else(|| expected(format_args!("one of {}", words())), Ok)
    }
}

/// A balancing rule: `{from?, to?}`.
pub(crate) fn rule(json: &Json) -> Result<Rule, Wrong> {
    const WHAT: &str = "an object {from?, to?} of asset ids";
    let Json::Object(fields) = json else {
        return expected(WHAT);
    };
    let mut rule = Rule::default();
    for (name, value) in fields {
        let side = match name.as_str() {
            "from" => &mut rule.from,
            "to" => &mut rule.to,
            _ => {
                let part = format!(".{}", name.chars().take(80).collect::<String>());
                let wrong = Box::new(Wrong::Expected(WHAT.to_owned()));
                return Err(Wrong::Within {
                    part,
                    got: value.shown(),
                    wrong,
                });
            }
        };
        if *value != Json::Null {
            *side = Some(asset(value).map_err(|wrong| Wrong::Within {
                part: format!(".{name}"),
                got: value.shown(),
                wrong: Box::new(wrong),
            })?);
        }
    }
    Ok(rule)
}

/// A list of what `read` reads; a query's `a[0]=x&a[1]=y` is one.
pub(crate) fn list<T>(
    what: &'static str,
    read: impl Fn(&Json) -> Result<T, Wrong>,
) -> impl Fn(&Json) -> Result<Vec<T>, Wrong> {
    move |json| {
        let items: Vec<&Json> = match json {
            Json::List(items) => items.iter().collect(),
            Json::Object(fields) => (0..fields.len())
                .map(|i| fields.get(&i.to_string()))
                .collect::<Option<_>>()
                .ok_or_else(|| Wrong::Expected(what.to_owned()))?,
            _ => return expected(what),
        };
        items
            .into_iter()
            .enumerate()
            .map(|(i, item)| {
                read(item).map_err(|wrong| Wrong::Within {
                    part: format!("[{i}]"),
                    got: item.shown(),
                    wrong: Box::new(wrong),
                })
            })
            .collect()
    }
}

/// A public key, in hexadecimal (64 digits) or base64url (43 characters, the `x` of its JWK).
pub(crate) fn public_key(json: &Json) -> Result<PublicKey, Wrong> {
    let text = string(json).unwrap_or_default();
    let bytes = ledger::jws::base64url_decode(&text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    match PublicKey::parse(&text).or_else(|| bytes.map(PublicKey)) {
        Some(key) => Ok(key),
        None => expected("an Ed25519 public key: 64 hexadecimal digits, or 43 characters of base64url"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(reader: impl Fn(&Json) -> Result<T, Wrong>, text: &str) -> Result<T, Wrong> {
        reader(&Json::parse(text.as_bytes()).expect("the test's JSON"))
    }

    #[test]
    fn numbers_may_stand_in_strings_and_nothing_else_does() {
        for (text, value) in [
            ("1337", 1337),
            ("\"1337\"", 1337),
            ("1337.0", 1337),
            ("0", 0),
            ("\"00012\"", 12),
        ] {
            assert_eq!(read(epoch, text).map(Epoch::get), Ok(value), "{text}");
        }
        for text in [
            "13.37", "\"abc\"", "\"\"", "null", "true", "[1]", "{}", "1e3", "\" 1\"", "\"1,5\"", "\"+1\"",
        ] {
            assert!(matches!(read(epoch, text), Err(Wrong::Expected(_))), "{text}");
        }
        for text in ["-1", "1099511627776", "99999999999999999999999", "\"-5\""] {
            assert!(matches!(read(epoch, text), Err(Wrong::Range(_))), "{text}");
        }
    }

    #[test]
    fn figures_are_rounded_once_and_exactly() {
        for (text, value) in [
            ("2.5", 3),
            ("-2.5", -3),
            ("\"-2.5\"", -3),
            ("2.4999999999999999999999", 2),
            ("1e3", 1000),
            ("9007199254740991", MAX_FIGURE),
        ] {
            assert_eq!(read(signed_energy, text).map(Wh::get), Ok(value), "{text}");
        }
        for text in ["9007199254740992", "-1e16", "1e400"] {
            assert!(
                matches!(read(signed_energy, text), Err(Wrong::Range(_))),
                "{text}"
            );
        }
        for text in ["\"NaN\"", "\"\"", "null", "false", "[]"] {
            assert!(
                matches!(read(signed_energy, text), Err(Wrong::Expected(_))),
                "{text}"
            );
        }
        assert!(matches!(read(energy, "-1"), Err(Wrong::Range(_))));
        assert_eq!(read(energy, "-0.4").map(Wh::get), Ok(0));
    }

    #[test]
    fn names_are_strings_within_bounds() {
        assert!(read(asset, "\"a\"").is_ok());
        for text in ["\"\"", "7", "null", "\"a\\u0000\"", "{}"] {
            assert!(matches!(read(asset, text), Err(Wrong::Expected(_))), "{text}");
        }
        assert!(read(asset, &format!("\"{}\"", "ä".repeat(128))).is_ok());
        assert!(read(asset, &format!("\"{}\"", "ä".repeat(129))).is_err());
        assert!(read(label, "\"virtual_1\"").is_ok() && read(label, "\".end\"").is_err());
    }

    #[test]
    fn rules_name_what_is_wrong_in_them() {
        let good = read(rule, r#"{"to":"x","from":null}"#).expect("a rule");
        assert_eq!(
            (good.to.as_ref().map(AssetId::as_str), good.from),
            (Some("x"), None)
        );
        for (text, part) in [
            (r#"{"to":7}"#, ".to"),
            (r#"{"from":""}"#, ".from"),
            (r#"{"via":"x"}"#, ".via"),
        ] {
            let Err(Wrong::Within { part: at, .. }) = read(rule, text) else {
                panic!("{text} was taken")
            };
            assert_eq!(at, part);
        }
        assert!(matches!(read(rule, "\"x\""), Err(Wrong::Expected(_))));
    }

    #[test]
    fn lists_come_from_json_and_from_queries() {
        let names = |text| read(list("a list of ids", asset), text).map(|ids| ids.len());
        assert_eq!(names(r#"["a","b"]"#), Ok(2));
        assert_eq!(names(r#"{"0":"a","1":"b"}"#), Ok(2));
        assert!(names(r#"{"0":"a","2":"b"}"#).is_err());
        assert!(matches!(names(r#"["a",""]"#), Err(Wrong::Within { part, .. }) if part == "[1]"));
    }

    #[test]
    fn pages_are_clamped() {
        assert_eq!(read(page(50), "7"), Ok(7));
        assert_eq!(read(page(50), "1000000000"), Ok(50));
        assert!(read(page(50), "0").is_err() && read(page(50), "-1").is_err());
    }

    #[test]
    fn keys_come_in_two_spellings() {
        let key = PublicKey([7; 32]);
        assert_eq!(read(public_key, &format!("\"{key}\"")), Ok(key));
        assert_eq!(
            read(public_key, &format!("\"{}\"", ledger::jws::base64url(&key.0))),
            Ok(key)
        );
        assert!(read(public_key, "\"07\"").is_err());
    }
}
