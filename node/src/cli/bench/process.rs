//! What a process has used, as Linux accounts for it in `/proc`.

use std::io;

/// Clock ticks a second in `/proc/PID/stat`: fixed by Linux's interface to programs.
const TICKS: f64 = 100.0;

/// Seconds that a process has been on a CPU since it began, in the program and in the kernel on its behalf.
pub(super) fn cpu_s(pid: u32) -> io::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse(&stat).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat reads unlike Linux's")))
}

/// The most memory that a process ever had resident, in bytes.
pub(super) fn peak_rss(pid: u32) -> io::Result<u64> {
    status_kib(pid, "VmHWM:").map(|kib| kib * 1024)
}

/// The memory that a process has resident now, in bytes.
pub(super) fn rss(pid: u32) -> io::Result<u64> {
    status_kib(pid, "VmRSS:").map(|kib| kib * 1024)
}

fn status_kib(pid: u32, field: &str) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    number_after(&status, field).ok_or_else(|| io::Error::other(format!("/proc/{pid}/status has no {field}")))
}

fn parse(stat: &str) -> Option<f64> {
    // The second field is the name in brackets, which may hold anything; user and system time are the 14th and 15th.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

/// The first number on the line that begins with `field`.
pub(super) fn number_after(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(field))?;
    line[field.len()..].split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 7 0 0 0 250 50 0 0 20 0 3 0 11 22 33";
        let seconds = parse(stat).expect("it is well-formed");
        assert!((seconds - 3.0).abs() < 1e-9, "{seconds}");
        assert_eq!(parse("42 (a) S 1"), None);
        assert_eq!(number_after("VmHWM:\t  12 kB\n", "VmHWM:"), Some(12));
    }

    #[test]
    fn this_process_is_somewhere() {
        assert!(peak_rss(std::process::id()).expect("Linux") > 0);
        cpu_s(std::process::id()).expect("Linux");
    }
}
