//! The table of actions: what the router routes, what parameters it lets through, and what the OpenAPI document
//! says are one and the same list.
//!
//! What always holds: a handler can read only parameters that its route declares (checked in debug builds and
//! tests), and a request can't carry others, except where a route says that it keeps them.

use axum::http::Method;
use futures::future::BoxFuture;

use super::answer::Answer;
use super::call::Call;
use super::error::Fault;

/// One action.
#[derive(Debug)]
pub(crate) struct Route {
    /// `service.action`.
    pub(crate) name: &'static str,
    /// How it may be asked.
    pub(crate) methods: Methods,
    /// What it does with the ledger.
    pub(crate) access: Access,
    /// What comes in the body.
    pub(crate) body: Body,
    /// One sentence.
    pub(crate) about: &'static str,
    /// What it takes.
    pub(crate) params: &'static [Param],
    /// The answer, as a JSON schema (see `schemas.json` for the named ones).
    pub(crate) answer: &'static str,
    /// Codes of refusals that it may answer besides those of every route.
    pub(crate) refusals: &'static [&'static str],
    /// Does it.
    pub(crate) handler: fn(Call) -> BoxFuture<'static, Result<Answer, Fault>>,
}

/// Which HTTP methods an action answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Methods {
    /// `POST` only.
    Post,
    /// `GET` too: everything that reads, and what EAF served so.
    GetPost,
    /// Any, as EAF served it.
    Any,
}

impl Methods {
    /// All that are allowed, for `Allow` and the document.
    pub(crate) fn list(self) -> &'static [Method] {
        const POST: &[Method] = &[Method::POST];
        const GET_POST: &[Method] = &[Method::GET, Method::POST];
        const ANY: &[Method] = &[
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ];
        match self {
            Methods::Post => POST,
            Methods::GetPost => GET_POST,
            Methods::Any => ANY,
        }
    }

    /// Whether this one is. `HEAD` is a `GET` whose body nobody sends.
    pub(crate) fn allow(self, method: &Method) -> bool {
        let method = if *method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        self.list().contains(method)
    }
}

/// What an action does with the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Orders something through the log.
    Write,
    /// Reads; linearizable unless the client says `consistency=local`.
    Read,
    /// Reads what seals vouch for: refused on a node with an alarm.
    ReadSealed,
    /// Needs no ledger, or wants to be answered in any state of the node.
    Local,
}

/// What comes in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// A JSON object (or a form) with the parameters.
    Fields,
    /// As [`Body::Fields`], and names that aren't declared are kept.
    OpenFields,
    /// A JSON array, or NDJSON, of objects with the parameters; or a packed batch.
    Batch,
    /// Bytes, or a JSON object with the parameters.
    Bytes,
}

/// One parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Param {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its JSON schema.
    pub(crate) schema: &'static str,
    /// Whether it must be given.
    pub(crate) required: bool,
    /// One sentence.
    pub(crate) about: &'static str,
}

/// A parameter that must be given.
pub(crate) const fn required(name: &'static str, schema: &'static str, about: &'static str) -> Param {
    Param {
        name,
        schema,
        required: true,
        about,
    }
}

/// A parameter that may be given.
pub(crate) const fn optional(name: &'static str, schema: &'static str, about: &'static str) -> Param {
    Param {
        name,
        schema,
        required: false,
        about,
    }
}

/// Schemas of parameters that many actions have.
pub(crate) mod schema {
    /// An asset's or contract's id.
    pub(crate) const ID: &str = r#"{"type":"string","minLength":1,"maxLength":128}"#;
    /// Any short text.
    pub(crate) const TEXT: &str = r#"{"type":"string","maxLength":256}"#;
    /// An epoch.
    pub(crate) const EPOCH: &str = r#"{"type":"integer","minimum":0,"maximum":1099511627775}"#;
    /// A figure of one settlement.
    pub(crate) const SETTLED: &str = r#"{"type":"number","minimum":-1099511627776,"maximum":1099511627776}"#;
    /// A quantity of energy.
    pub(crate) const ENERGY: &str = r#"{"type":"number","minimum":0,"maximum":9007199254740991}"#;
    /// A signed amount of money, or a rank.
    pub(crate) const SIGNED: &str =
        r#"{"type":"number","minimum":-9007199254740991,"maximum":9007199254740991}"#;
    /// A count.
    pub(crate) const COUNT: &str = r#"{"type":"integer","minimum":0}"#;
    /// A bare string.
    pub(crate) const STRING: &str = r#"{"type":"string"}"#;
    /// A page's size.
    pub(crate) const LIMIT: &str = r#"{"type":"integer","minimum":1}"#;
}

impl Route {
    /// The part before the dot.
    pub(crate) fn service(&self) -> &'static str {
        self.name
            .split_once('.')
            .map_or(self.name, |(service, _)| service)
    }

    /// The part after it.
    pub(crate) fn action(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, action)| action)
    }

    /// Whether it declares this parameter.
    pub(crate) fn declares(&self, name: &str) -> bool {
        self.params.iter().any(|param| param.name == name)
    }
}

/// All actions, service by service.
pub(crate) fn all() -> impl Iterator<Item = &'static Route> {
    const SERVICES: &[&[Route]] = &[
        super::asset::ROUTES,
        super::contract::ROUTES,
        super::meritorder::ROUTES,
        super::balancing::settle::ROUTES,
        super::balancing::seal::ROUTES,
        super::balancing::journal::ROUTES,
        super::balancing::balance::ROUTES,
        super::balancing::proof::ROUTES,
        super::balancing::upstream::ROUTES,
        super::audit::ROUTES,
        super::demometer::ROUTES,
        super::settlement::ROUTES,
        super::access::ROUTES,
        super::cluster::ROUTES,
        super::envelope::ROUTES,
    ];
    SERVICES.iter().copied().flatten()
}

/// The action of a path, if there is one.
pub(crate) fn find(service: &str, action: &str) -> Option<&'static Route> {
    all().find(|route| route.service() == service && route.action() == action)
}

/// The action that was probably meant: the one with the fewest letters to change, if they are few.
pub(crate) fn similar(service: &str, action: &str) -> Option<&'static Route> {
    // What can't be within the distance isn't measured.
    if service.len() + action.len() > 64 {
        return None;
    }
    let asked = format!("{service}.{action}").to_lowercase();
    let (distance, route) = all()
        .map(|route| (distance(&asked, &route.name.to_lowercase()), route))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= 4).then_some(route)
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_have_two_parts() {
        let names: Vec<_> = all().map(|route| route.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert!(names.iter().all(|name| name.split('.').count() == 2));
    }

    #[test]
    fn schemas_are_json() {
        for route in all() {
            serde_json::from_str::<serde_json::Value>(route.answer).expect(route.name);
            for param in route.params {
                serde_json::from_str::<serde_json::Value>(param.schema).expect(param.name);
            }
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_recognized() {
        for (service, action, meant) in [
            ("balancing", "addsettlement", Some("balancing.addSettlement")),
            ("assets", "get", Some("asset.get")),
            ("balancing", "seel", Some("balancing.seal")),
            ("nothing", "likeThisAtAll", None),
        ] {
            assert_eq!(
                similar(service, action).map(|route| route.name),
                meant,
                "{service}.{action}"
            );
        }
    }

    #[test]
    fn distances() {
        for (a, b, d) in [
            ("", "", 0),
            ("a", "", 1),
            ("kitten", "sitting", 3),
            ("abc", "abc", 0),
        ] {
            assert_eq!(distance(a, b), d);
        }
    }
}
