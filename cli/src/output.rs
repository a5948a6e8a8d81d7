//! Writing for people and scripts. A reader that goes away early (`ringway … | head`) is no failure.

use std::io::{self, IsTerminal as _, Write as _};

use crate::failure::Failure;

/// Writes one line to standard output.
pub(crate) fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    bytes_line(text.as_ref().as_bytes())
}

/// Writes bytes and the end of a line to standard output.
pub(crate) fn bytes_line(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(bytes)
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Failure::System {
            what: "write to standard output",
            error,
        },
    })
}

/// Writes one remark to standard error; a remark that can't be written is lost.
pub(crate) fn note(text: impl AsRef<str>) {
    let mut stderr = io::stderr().lock();
    let written = stderr
        .write_all(text.as_ref().as_bytes())
        .and_then(|()| stderr.write_all(b"\n"));
    drop(written);
}

/// Says why the command failed.
pub(crate) fn complain(failure: &Failure) {
    note(format!("ringway: {failure}"));
}

/// Whether standard error is a terminal, where bars and colours make sense.
pub(crate) fn is_interactive() -> bool {
    io::stderr().is_terminal()
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Nanoseconds as a person reads them.
pub(crate) fn duration(nanos: f64) -> String {
    match nanos {
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e5 => format!("{:.2} us", n / 1e3),
        n if n < 1e6 => format!("{:.1} us", n / 1e3),
        n if n < 1e9 => format!("{:.2} ms", n / 1e6),
        n => format!("{:.2} s", n / 1e9),
    }
}

/// A count per second, or a count of bytes, with a decimal prefix.
pub(crate) fn quantity(value: f64) -> String {
    match value {
        v if v < 1e3 => format!("{v:.1}"),
        v if v < 1e6 => format!("{:.1} k", v / 1e3),
        v if v < 1e9 => format!("{:.2} M", v / 1e6),
        v => format!("{:.2} G", v / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_quantities_read_well() {
        assert_eq!(duration(870.0), "870 ns");
        assert_eq!(duration(9_810.0), "9.81 us");
        assert_eq!(duration(123_456.0), "123.5 us");
        assert_eq!(duration(2_500_000.0), "2.50 ms");
        assert_eq!(duration(3e9), "3.00 s");
        assert_eq!(quantity(12.0), "12.0");
        assert_eq!(quantity(1_234_567.0), "1.23 M");
        assert_eq!(quantity(4.2e9), "4.20 G");
    }
}
