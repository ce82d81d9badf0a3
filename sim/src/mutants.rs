//! Planted bugs: the proof that the checkers notice.
//!
//! [`list`] names the bugs, each a small wrong patch in the product's own code (see the crate `planted`), with the
//! checkers that must notice it. [`build`] makes a simulator with them in a target directory of its own, so that
//! the product never has any; [`hunt`] runs it, one process a seed, until the bug is noticed, and then runs the same
//! seeds without it: nothing may fire then.

mod build;
mod hunt;
mod list;

use std::fmt;
use std::io;
use std::path::PathBuf;

pub use hunt::{Control, Verdict};
pub use list::{FAMILIES, MUTANTS, Mutant};

/// What to look for, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only these; all if empty.
    pub only: Vec<String>,
    /// Only the first of each family.
    pub families: bool,
    /// Seeds to try for each, from 0.
    pub max_seeds: u64,
    /// Children at a time.
    pub jobs: usize,
    /// A simulator that was built with the bugs; else one is built.
    pub binary: Option<PathBuf>,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// One a bug, in the order of the list.
    pub verdicts: Vec<Verdict>,
    /// The same seeds without a bug.
    pub control: Control,
}

impl Outcome {
    /// Whether every bug was noticed by a checker named for it, and nothing fired without one.
    pub fn ok(&self) -> bool {
        self.control.fired.is_empty() && self.verdicts.iter().all(|verdict| verdict.caught)
    }
}

/// Hunts for all of them; `tell` hears of each as it ends.
///
/// # Errors
/// A name that no bug has, a simulator that can't be built or run.
pub fn run(options: &Options, tell: impl Fn(&Verdict) + Sync) -> io::Result<Outcome> {
    let chosen = list::choose(&options.only, options.families)?;
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => build::build()?,
    };
    let verdicts = hunt::all(&binary, &chosen, options.max_seeds, options.jobs, &tell)?;
    let control = hunt::control(&binary, &verdicts, options.jobs)?;
    Ok(Outcome { verdicts, control })
}

/// Plants a bug in this process, and says which it is.
///
/// # Errors
/// No bug has that name, one was planted before, or this simulator was built without them.
pub fn plant(name: &str) -> Result<&'static Mutant, String> {
    let Some(mutant) = MUTANTS.iter().find(|mutant| mutant.name == name) else {
        return Err(format!("no bug is called {name}"));
    };
    #[cfg(feature = "planted")]
    let planted = planted::plant(mutant.name);
    #[cfg(not(feature = "planted"))]
    let planted = false;
    match planted {
        true => Ok(mutant),
        false => Err(
            "this simulator has no planted bugs (`sim mutants` builds one that has), or one already".into(),
        ),
    }
}

/// How often the planted code was reached; `None` in a simulator without bugs.
pub fn reached() -> Option<u64> {
    #[cfg(feature = "planted")]
    return Some(planted::reached());
    #[cfg(not(feature = "planted"))]
    None
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checker = self.checker.as_deref().unwrap_or("nobody");
        match self.caught {
            true => write!(
                f,
                "{:<30} caught: seed {}, {:.1} s, by \"{checker}\"",
                self.name, self.seed, self.virtual_s
            )?,
            false => {
                let expected = self.expected.join("\" or \"");
                write!(
                    f,
                    "{:<30} MISSED in {} seeds: expected \"{expected}\"",
                    self.name,
                    self.seed + 1
                )?;
            }
        }
        if !self.others.is_empty() {
            let others: Vec<&str> = self.others.iter().map(String::as_str).collect();
            write!(f, " (others: {})", others.join(", "))?;
        }
        if !self.caught {
            write!(f, "; its code ran {} times", self.reached)?;
        }
        if let Some(broken) = &self.broken {
            write!(f, "; a run broke: {broken}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let caught = self.verdicts.iter().filter(|verdict| verdict.caught).count();
        writeln!(
            f,
            "{caught} of {} bugs caught by a checker named for them",
            self.verdicts.len()
        )?;
        let mut seeds: Vec<u64> = self
            .verdicts
            .iter()
            .filter(|v| v.caught)
            .map(|v| v.seed + 1)
            .collect();
        seeds.sort_unstable();
        if let Some(median) = seeds.get(seeds.len() / 2) {
            writeln!(
                f,
                "seeds it took: median {median}, most {}",
                seeds.last().unwrap_or(median)
            )?;
        }
        writeln!(
            f,
            "without a bug, on the same {} seeds: {} fired",
            self.control.seeds.len(),
            self.control.fired.len()
        )?;
        for (seed, checkers) in &self.control.fired {
            writeln!(f, "  seed {seed}: {checkers:?}")?;
        }
        Ok(())
    }
}
