//! Reads a case from TOML. A mistake is said with file, line, and what was expected.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use gridseal::falsify::{Falsify, Wrong};
use serde::Deserialize;
use toml::Spanned;

use super::{Case, Expect};
use crate::faults::duration::{duration, read_duration};
use crate::faults::words::Step;
use crate::workload::Mix;

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseError {
    /// Which file.
    pub file: String,
    /// Which line, from 1; 0 if it is the file as a whole.
    pub line: usize,
    /// What, and what was expected.
    pub what: String,
}

impl fmt::Display for CaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

impl std::error::Error for CaseError {}

/// A file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    title: String,
    #[serde(default)]
    about: String,
    #[serde(default)]
    seed: u64,
    nodes: Option<Spanned<u64>>,
    clients: Option<Spanned<u64>>,
    duration: Option<Spanned<String>>,
    #[serde(default)]
    rough: bool,
    #[serde(default)]
    drawn: bool,
    #[serde(default)]
    lying_disks: bool,
    corrupt: Option<Spanned<Corrupt>>,
    workload: Option<Spanned<Mix>>,
    #[serde(default)]
    mute: Vec<String>,
    #[serde(default, rename = "fault")]
    faults: Vec<Spanned<Step>>,
    #[serde(default)]
    expect: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Corrupt {
    node: u64,
    from_entry: u64,
    #[serde(default)]
    what: Wrong,
}

/// Reads a file.
///
/// # Errors
/// It can't be read, or says something that is not understood.
pub fn load(path: &Path) -> Result<Case, CaseError> {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&file, &text),
        Err(e) => Err(CaseError {
            file,
            line: 0,
            what: format!("can't be read: {e}"),
        }),
    }
}

/// Reads the text of a file of this name.
///
/// # Errors
/// It says something that is not understood.
pub fn parse(file: &str, text: &str) -> Result<Case, CaseError> {
    let wrong = |at: usize, what: String| CaseError {
        file: file.to_owned(),
        line: line(text, at),
        what,
    };
    let raw: Raw = toml::from_str(text)
        .map_err(|e| wrong(e.span().map_or(0, |span| span.start), e.message().to_owned()))?;
    let within = |value: Option<&Spanned<u64>>, field: &str, default: u64, most: u64| match value {
        None => Ok(default),
        Some(value) if (1..=most).contains(value.get_ref()) => Ok(*value.get_ref()),
        Some(value) => Err(wrong(
            value.span().start,
            format!("`{field}` is {}; expected 1 to {most}", value.get_ref()),
        )),
    };
    let defaults = Case::default();
    let nodes = within(raw.nodes.as_ref(), "nodes", defaults.nodes, 9)?;
    let clients = within(raw.clients.as_ref(), "clients", defaults.clients, 64)?;
    let duration_ms = match &raw.duration {
        None => defaults.duration_ms,
        Some(duration) => read_duration(duration.get_ref())
            .ok()
            .filter(|ms| (1_000..=86_400_000).contains(ms))
            .ok_or_else(|| {
                let what = format!(
                    "`duration` is `{}`; expected a time from `1s` to `24h`",
                    duration.get_ref()
                );
                wrong(duration.span().start, what)
            })?,
    };
    let corrupt = match &raw.corrupt {
        None => None,
        Some(corrupt) if (1..=nodes).contains(&corrupt.get_ref().node) => {
            let &Corrupt {
                node,
                from_entry,
                what,
            } = corrupt.get_ref();
            let how = Falsify {
                from: from_entry,
                what,
            };
            Some((node, how))
        }
        Some(corrupt) => {
            let what = format!(
                "`node` is {}; expected a node, 1 to {nodes}",
                corrupt.get_ref().node
            );
            return Err(wrong(corrupt.span().start, what));
        }
    };
    let mix = match &raw.workload {
        None => Mix::default(),
        Some(work) => {
            let mix = *work.get_ref();
            let weights = mix.weights();
            if weights.iter().all(|(_, weight)| *weight == 0)
                || weights.iter().any(|(_, weight)| *weight > 1_000)
            {
                let names = weights.map(|(name, _)| name).join(", ");
                let what = format!("expected weights up to 1000, at least one of {names} above 0");
                return Err(wrong(work.span().start, what));
            }
            mix
        }
    };
    let joiners: BTreeSet<u64> = raw
        .faults
        .iter()
        .flat_map(|step| step.get_ref().joiners())
        .collect();
    let known = |node: u64| (1..=nodes).contains(&node) || joiners.contains(&node);
    let mut steps = Vec::new();
    for step in &raw.faults {
        let here = |what| wrong(step.span().start, what);
        for (at, fault) in step.get_ref().read(nodes, &joiners).map_err(here)? {
            if at > duration_ms {
                let what = format!(
                    "`{}` is at {}, after the end; expected a time up to `duration`, {}",
                    fault.name(),
                    duration(at),
                    duration(duration_ms)
                );
                return Err(here(what));
            }
            steps.push((at, fault));
        }
    }
    steps.sort_by_key(|(at, _)| *at);
    let mut expect = Vec::new();
    for sentence in &raw.expect {
        expect.push(
            Expect::read(sentence.get_ref(), nodes, &known)
                .map_err(|what| wrong(sentence.span().start, what))?,
        );
    }
    Ok(Case {
        title: raw.title,
        about: raw.about,
        seed: raw.seed,
        nodes,
        clients,
        duration_ms,
        rough: raw.rough,
        drawn: raw.drawn,
        lying_disks: raw.lying_disks,
        corrupt,
        mix,
        mute: raw.mute.into_iter().collect(),
        steps,
        expect,
    })
}

/// The line that this byte is in, from 1.
fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_name_file_line_and_what_was_expected() {
        for (text, line, says) in [
            ("", 1, "missing field `title`"),
            (
                "title = \"x\"\nnode = 3",
                2,
                "unknown field `node`, expected one of",
            ),
            ("title = \"x\"\nnodes = 10", 2, "expected 1 to 9"),
            (
                "title = \"x\"\n\nduration = \"30\"",
                3,
                "expected a time from `1s` to `24h`",
            ),
            (
                "title = \"x\"\nexpect = [\n  \"alarm on node 3\",\n  \"luck\",\n]",
                4,
                "expected one of",
            ),
            (
                "title = \"x\"\n[[fault]]\nat = \"1s\"\ndo = \"fire\"",
                2,
                "expected one of partition",
            ),
            (
                "title = \"x\"\n[[fault]]\nat = \"31s\"\ndo = \"ring\"",
                2,
                "after the end",
            ),
            (
                "title = \"x\"\n[workload]\nsettle = 0",
                2,
                "at least one of settle",
            ),
            (
                "title = \"x\"\ncorrupt = { node = 6, from_entry = 1 }",
                2,
                "expected a node, 1 to 5",
            ),
            ("title = \"x\nnodes = 3", 1, ""),
        ] {
            let error = parse("my.toml", text).unwrap_err();
            assert_eq!(
                (error.file.as_str(), error.line),
                ("my.toml", line),
                "{text}\n{error}"
            );
            assert!(error.to_string().contains(says), "{text}\n{error}");
        }
    }

    #[test]
    fn a_file_that_says_little_means_the_defaults() {
        let case = parse("my.toml", "title = \"calm\"").unwrap();
        assert_eq!(
            case,
            Case {
                title: "calm".into(),
                ..Case::default()
            }
        );
    }
}
