//! Standard output, whose reader may have seen enough (`| head`): what was begun is finished, and the exit code counts.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write as _};

/// Prints as `println!` does, unless nobody reads any more; what ends a line already gets no second end.
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => {
        $crate::say::words(::std::format_args!($($words)*))
    };
}

/// What [`say!`](crate::say!) does.
///
/// # Panics
/// Standard output can't be written to: a full disk must not look like an empty result.
pub fn words(words: Arguments<'_>) {
    if let Err(error) = text(words.to_string()) {
        panic!("standard output: {error}");
    }
}

/// Prints a text, with the end of its last line, in one write: other threads and processes may write to the same terminal.
///
/// # Errors
/// Standard output can't be written to, for another reason than that nobody reads it any more.
pub fn text(mut text: String) -> io::Result<()> {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
