//! The product has no planted bugs: nothing that a build of the whole workspace makes reaches the crate that names them.

use std::process::Command;

#[test]
fn no_crate_depends_on_planted_bugs_unless_it_is_told_to() {
    // With all members at once, features are united: if one member turned the bugs on, all would have them.
    let without = dependents(&["--workspace"]);
    assert_eq!(without.len(), 1, "only itself: {without:#?}");
    // And the question can be answered otherwise: with the feature they do.
    let with = dependents(&["--package", "sim", "--features", "planted"]);
    for name in ["sim", "gridseal", "ledger", "raft"] {
        assert!(
            with.iter().any(|line| line.contains(&format!("{name} v"))),
            "{name} lacks the bugs: {with:#?}"
        );
    }
}

/// Who depends on the crate of planted bugs, itself included.
fn dependents(of: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges", "normal", "--invert", "planted"])
        .args(of)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs this test, so it is there");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    tree.lines().map(str::to_owned).collect()
}
