//! What must be taken back: commands and directories, in the reverse of the order in which they were made.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Takes everything back when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Undo {
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Run(Vec<String>),
    Remove(PathBuf),
}

impl Undo {
    /// Runs this command at the end.
    pub(super) fn run(&mut self, command: &[&str]) {
        self.steps
            .push(Step::Run(command.iter().map(|&word| word.to_owned()).collect()));
    }

    /// Removes this directory, with all that is in it, at the end.
    pub(super) fn remove(&mut self, directory: PathBuf) {
        self.steps.push(Step::Remove(directory));
    }

    /// Keeps all directories after all.
    pub(super) fn keep(&mut self) {
        self.steps.retain(|step| matches!(step, Step::Run(_)));
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for step in self.steps.drain(..).rev() {
            match step {
                // It may have been undone already: a namespace takes its interfaces with it.
                Step::Run(words) => {
                    let [program, arguments @ ..] = words.as_slice() else {
                        continue;
                    };
                    let quiet = Command::new(program)
                        .args(arguments)
                        .stdin(Stdio::null())
                        .stdout(Stdio::null())
                        .stderr(Stdio::null())
                        .status();
                    drop(quiet);
                }
                Step::Remove(directory) => {
                    if let Err(e) = std::fs::remove_dir_all(&directory) {
                        eprintln!("sim: {} stays: {e}", directory.display());
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_taken_back_in_reverse_even_after_a_panic() {
        let dir = std::env::temp_dir().join(format!("gridseal-undo-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("inner")).expect("a directory");
        let (inner, outer) = (dir.join("inner"), dir.clone());
        let result = std::panic::catch_unwind(move || {
            let mut undo = Undo::default();
            undo.remove(outer);
            // Works only while the directory is still there; a file in it would be removed with it.
            undo.run(&["rmdir", &inner.display().to_string()]);
            panic!("a bug");
        });
        assert!(result.is_err());
        assert!(!dir.exists());
    }

    #[test]
    fn what_is_kept_stays_and_commands_run_all_the_same() {
        let dir = std::env::temp_dir().join(format!("gridseal-kept-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("inner")).expect("a directory");
        let mut undo = Undo::default();
        undo.remove(dir.clone());
        undo.run(&["rmdir", &dir.join("inner").display().to_string()]);
        undo.keep();
        drop(undo);
        assert!(dir.exists() && !dir.join("inner").exists());
        std::fs::remove_dir(&dir).expect("empty");
    }
}
