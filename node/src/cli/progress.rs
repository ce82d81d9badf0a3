//! Progress of a long piece of work: a bar on a terminal, a line every tenth elsewhere.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::table::thousands;

/// Progress towards a known total. Shared by the tasks that make it.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
    total: u64,
    done: AtomicU64,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins; `what` is a noun in the plural ("settlements").
    pub(super) fn new(what: &'static str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
            let template =
                format!("  {{bar:40}} {{human_pos}} of {{human_len}} {what}, {{per_sec}}, {{eta}} left");
            // The template is fixed; were it wrong, the default style would do.
            bar.set_style(
                ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar
        });
        Self {
            what,
            total,
            done: AtomicU64::new(0),
            bar,
        }
    }

    /// Counts `more` as done.
    pub(super) fn add(&self, more: u64) {
        let before = self.done.fetch_add(more, Ordering::Relaxed);
        match &self.bar {
            Some(bar) => bar.inc(more),
            None => {
                if let Some(tenths) = tenth_passed(before, before + more, self.total) {
                    let done = thousands(i128::from(before + more));
                    eprintln!(
                        "  {}0 %: {done} of {} {}",
                        tenths,
                        thousands(i128::from(self.total)),
                        self.what
                    );
                }
            }
        }
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The last tenth of `total` that lies in `(before, after]`, if one does.
fn tenth_passed(before: u64, after: u64, total: u64) -> Option<u64> {
    let tenths = |done: u64| (done.min(total) * 10).checked_div(total).unwrap_or(10);
    (tenths(after) > tenths(before)).then(|| tenths(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tenth_is_said_once() {
        let said: Vec<u64> = (0..168)
            .filter_map(|step| tenth_passed(step, step + 1, 168))
            .collect();
        assert_eq!(said, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(tenth_passed(0, 1, 1), Some(10));
        assert_eq!(tenth_passed(1, 9, 100), None);
        assert_eq!(tenth_passed(0, 0, 0), None);
    }
}
