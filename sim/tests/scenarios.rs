//! The scenarios that ship show what they say, and the tools around a run do what they say: each through the built
//! binary, one process a run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(args)
        .output()
        .expect("the built simulator starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn scenarios() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = std::fs::read_dir(dir).expect("the scenarios are there");
    let mut files: Vec<PathBuf> = files
        .map(|file| file.expect("a directory entry").path())
        .collect();
    files.sort();
    files
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[test]
fn every_scenario_shows_what_it_says() {
    let files = scenarios();
    assert!(files.len() >= 12, "{files:?}");
    let failed = std::sync::Mutex::new(Vec::new());
    sim::child::each(&files, 2, |file| {
        let out = sim(&["scenario", &file.display().to_string()]);
        if !out.status.success() {
            let told = text(&out.stdout) + &text(&out.stderr);
            failed.lock().expect("no thread panics").push(told);
        }
        false
    });
    let failed = failed.into_inner().expect("no thread panics");
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn a_mistake_in_a_file_is_said_with_its_line() {
    let dir = dir();
    let file = dir.path().join("mine.toml");
    std::fs::write(
        &file,
        "title = \"mine\"\n\n[[fault]]\nat = \"1s\"\ndo = \"kil\"\nnode = 1\n",
    )
    .expect("a file");
    let out = sim(&["scenario", &file.display().to_string()]);
    assert_eq!(out.status.code(), Some(2));
    let said = text(&out.stderr);
    assert!(
        said.contains("mine.toml:3: `do` is `kil`; expected one of partition"),
        "{said}"
    );
}

#[test]
fn a_failing_run_is_shrunk_replayed_and_drawn() {
    let dir = dir();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (small, html) = (path("small.toml"), path("small.html"));
    let all_lie = path("lie.toml");
    // All nodes lose power, and no disk has what it said it synced. The cut between two of them has no part in it.
    std::fs::write(
        &all_lie,
        "title = \"lies\"\nseed = 3\nnodes = 3\nclients = 2\nduration = \"4s\"\nlying_disks = true\n\
         [[fault]]\nat = \"1500ms\"\ndo = \"cut\"\nnode = 1\nother = 2\nfor = \"200ms\"\n\
         [[fault]]\nat = \"3s\"\ndo = \"power-cut\"\nnodes = [1, 2, 3]\nfor = \"100ms\"\n",
    )
    .expect("a file");
    let out = sim(&["shrink", &all_lie, "--out", &small, "--budget-s", "40"]);
    let told = text(&out.stdout) + &text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{told}");
    for part in [
        "What happened",
        "Node by node",
        "Which promise broke",
        "loses power",
    ] {
        assert!(told.contains(part), "`{part}` in {told}");
    }
    let case = sim::case::load(Path::new(&small)).expect("what was written reads back");
    assert!(
        case.steps.iter().all(|(_, fault)| fault.name() != "cut"),
        "{:?}",
        case.steps
    );

    let replays: Vec<Value> = (0..2)
        .map(|_| {
            let out = sim(&["replay", &small, "--json", "--html", &html]);
            assert_eq!(out.status.code(), Some(1));
            serde_json::from_slice(&out.stdout).expect("one JSON object")
        })
        .collect();
    assert_eq!(replays[0]["trace"], replays[1]["trace"]);
    assert_eq!(
        sim(&["scenario", &small]).status.code(),
        Some(0),
        "it is expected to break what it breaks"
    );

    let page = std::fs::read_to_string(&html).expect("the report");
    for part in [
        "a promise was broken",
        "<svg",
        ">n1</text>",
        "is down",
        "Which promise broke",
    ] {
        assert!(page.contains(part), "`{part}` in the report");
    }
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    assert!(
        !outside.contains("http") && !outside.contains("<script"),
        "it needs nothing but itself"
    );
}

#[test]
fn exploring_says_what_was_seen() {
    let out = sim(&[
        "explore",
        "--seeds",
        "0..2",
        "--jobs",
        "2",
        "--nodes",
        "3",
        "--virtual-s",
        "5",
        "--json",
    ]);
    let found: Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
    assert_eq!(found["seeds"], 2, "{found}");
    let failed = found["failed"].as_array().expect("a list");
    assert_eq!(
        (out.status.success(), found["ok"] == true),
        (failed.is_empty(), failed.is_empty()),
        "{found}"
    );
    assert!(
        found["faults"].as_object().is_some_and(|faults| faults.len() > 3),
        "{found}"
    );
}
