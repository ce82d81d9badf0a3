//! Waiting for conditions. The one place of the tests that looks at a clock.

use std::time::Duration;

/// Time since it was started.
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "real processes run in real time")]
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Asks again and again until there is an answer, and returns it. Panics with `what` if there is none in time.
#[expect(
    clippy::disallowed_methods,
    reason = "a pause between two questions; what counts is the answer"
)]
#[track_caller]
pub fn eventually<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let watch = Stopwatch::start();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(watch.elapsed() < within, "after {within:?} still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
