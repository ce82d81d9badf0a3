//! What the commands of `sim` do, where that is more than a call.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use checkers::coverage;
use clap::Args;
use serde_json::json;

use crate::bench::{self, BenchArgs};
use crate::case::{self, Case};
use crate::explore::{self, ExploreArgs};
use crate::report::Report;
use crate::run::{self, Around};
use crate::shrink::ShrinkArgs;
use crate::{html, story};
use gridseal::say;

/// Runs a case again.
#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// The case.
    pub file: PathBuf,
    /// Prints one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Writes a report with a picture of the run to this file.
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Writes every event to this file.
    #[arg(long)]
    pub log: Option<PathBuf>,
}

/// Runs scenario files.
#[derive(Args, Clone, Debug)]
pub struct ScenarioArgs {
    /// The files; see `sim/scenarios` for some to start from.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Prints one JSON object a file.
    #[arg(long)]
    pub json: bool,
    /// Writes a report with a picture of the run to this file; with one scenario only.
    #[arg(long)]
    pub html: Option<PathBuf>,
}

/// Writes the report.
///
/// # Errors
/// The file can't be written.
pub fn write_html(path: &Path, case: &Case, report: &Report) -> io::Result<()> {
    std::fs::write(path, html::page(case, report))
}

fn load(file: &Path) -> io::Result<Case> {
    case::load(file).map_err(io::Error::other)
}

/// `sim explore`.
///
/// # Errors
/// No child can be started.
pub fn explore(args: &ExploreArgs) -> io::Result<bool> {
    let found = explore::run(args, coverage::STATES)?;
    match args.json {
        true => say!("{}", json!(found)),
        false => say!("{found}"),
    }
    Ok(found.ok)
}

/// `sim shrink`: fails if it does what it is for, as the promise is still broken.
///
/// # Errors
/// No child can be started, or a file can't be read or written.
pub fn shrink(args: &ShrinkArgs) -> io::Result<bool> {
    let Some((small, out)) = args.run()? else {
        say!("it does not fail: there is nothing to shrink");
        return Ok(true);
    };
    let report = run::run(&Around::of(small.seed, false), || small.run())?;
    say!("{}", story::tell(&small, &report));
    say!("\nwritten to {0}: `sim replay {0}` runs it again", out.display());
    Ok(report.ok)
}

/// `sim replay`.
///
/// # Errors
/// The file is not understood, or the run can't be made.
pub fn replay(args: &ReplayArgs) -> io::Result<bool> {
    let case = load(&args.file)?;
    let around = Around {
        seed: case.seed,
        json: args.json,
        log: args.log.clone(),
        ..Around::default()
    };
    let report = run::run(&around, || case.run())?;
    if let Some(path) = &args.html {
        write_html(path, &case, &report)?;
    }
    match args.json {
        true => say!("{}", json!(report)),
        false => say!("{}", story::tell(&case, &report)),
    }
    Ok(report.ok)
}

/// `sim scenario`: every file must be understood before the first is run.
///
/// # Errors
/// A file is not understood, or a run can't be made.
pub fn scenario(args: &ScenarioArgs) -> io::Result<bool> {
    let cases: Vec<Case> = args
        .files
        .iter()
        .map(|file| load(file))
        .collect::<io::Result<_>>()?;
    if let [case] = &cases[..] {
        return one_scenario(&args.files[0], case, args);
    }
    if args.html.is_some() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "--html takes one scenario",
        ));
    }
    let mut failed = Vec::new();
    for file in &args.files {
        // A process each, so that every one runs as it does alone.
        let mut child = Command::new(std::env::current_exe()?);
        child
            .arg("scenario")
            .arg(file)
            .args(args.json.then_some("--json"));
        if !child.status()?.success() {
            failed.push(file.display().to_string());
        }
    }
    if !args.json {
        match failed.len() {
            0 => say!("all {} scenarios showed what they should", args.files.len()),
            n => say!(
                "{n} of {} scenarios FAILED: {}",
                args.files.len(),
                failed.join(", ")
            ),
        }
    }
    Ok(failed.is_empty())
}

fn one_scenario(file: &Path, case: &Case, args: &ScenarioArgs) -> io::Result<bool> {
    let report = run::run(&Around::of(case.seed, args.json), || case.run())?;
    if let Some(path) = &args.html {
        write_html(path, case, &report)?;
    }
    let verdicts = case.judge(&report);
    let ok = verdicts.iter().all(|(_, met)| met.is_ok());
    if args.json {
        let expectations: Vec<_> = verdicts
            .iter()
            .map(|(what, met)| json!({"what": what, "met": met.is_ok(), "why": met.as_ref().err()}))
            .collect();
        let (title, file) = (&case.title, file.display().to_string());
        say!(
            "{}",
            json!({"file": file, "title": title, "ok": ok, "expectations": expectations, "report": report})
        );
        return Ok(ok);
    }
    say!(
        "{}: {} ({:.1} virtual seconds in {:.1} s)",
        file.display(),
        case.title,
        report.virtual_s,
        report.wall_s
    );
    for (what, met) in &verdicts {
        match met {
            Ok(()) => say!("  ✓ {what}"),
            Err(why) => say!("  ✗ {what}: {why}"),
        }
    }
    if !ok {
        say!("\n{}", story::tell(case, &report));
    }
    Ok(ok)
}

/// `sim bench`.
///
/// # Errors
/// The run can't be made.
pub fn bench(args: &BenchArgs) -> io::Result<bool> {
    let mut speeds = Vec::new();
    for clients in &args.clients {
        let speed = bench::run(args, *clients)?;
        if !args.json {
            say!("{speed}");
        }
        speeds.push(speed);
    }
    if args.json {
        say!("{}", json!(speeds));
    }
    Ok(speeds.iter().all(|speed| speed.ok))
}
