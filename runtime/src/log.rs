//! The log: lines on standard output. If nobody reads a pipe, a socket or a file, only lines are lost;
//! a terminal that is stopped stops the function, too.

use std::env;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Mutex;

use lambda_runtime::tracing;
use lambda_runtime::tracing::subscriber::filter::LevelFilter;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// In bytes. A pipe that has any room takes this much without blocking: Linux's `PIPE_BUF`, see
/// [pipe(7)](https://man7.org/linux/man-pages/man7/pipe.7.html).
const MAX_WRITE: usize = 4096;
/// In bytes, of a text from elsewhere in a line.
const MAX_PART: usize = 1024;

/// Starts the log in the format and at the level that `AWS_LAMBDA_LOG_FORMAT` and
/// `AWS_LAMBDA_LOG_LEVEL` give, unless the process has one already.
pub(crate) fn init() {
    let level = env::var("AWS_LAMBDA_LOG_LEVEL").unwrap_or_default();
    let level = match &*level.to_ascii_lowercase() {
        "" => LevelFilter::INFO,
        "fatal" => LevelFilter::OFF, // no line is fatal
        level => level.parse().unwrap_or(LevelFilter::INFO),
    };
    // `lambda_runtime::tracing::init_default_subscriber` would also read RUST_LOG, and complain of it
    // on standard error, which can panic and block.
    let format = env::var("AWS_LAMBDA_LOG_FORMAT").unwrap_or_default();
    let is_json = format.eq_ignore_ascii_case("json");
    let log = tracing::subscriber::fmt()
        .with_target(false)
        .without_time()
        .with_max_level(level)
        .with_writer(Mutex::new(Lines {
            output: io::stdout(),
            is_json,
            dropped: 0,
            is_cut: false,
        }));
    let _ = if is_json {
        log.json().try_init()
    } else {
        log.try_init()
    };
}

/// The start of a text from elsewhere, its first KB, as part of a log line.
pub(crate) fn excerpt(text: &[u8]) -> String {
    let start = String::from_utf8_lossy(&text[..text.len().min(MAX_PART)]);
    start.replace(char::is_control, " ")
}

/// Writes lines as long as the output has room for them, and drops the others.
struct Lines<W> {
    output: W,
    is_json: bool,
    /// How many lines have been dropped since the last one that was written.
    dropped: u64,
    /// Whether what was written last is the start of a line.
    is_cut: bool,
}

impl<W: AsFd + Write> Lines<W> {
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        for part in line.chunks(MAX_WRITE) {
            let mut output = [PollFd::new(self.output.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut output, PollTimeout::ZERO)? == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.output.write_all(part)?;
            self.output.flush()?;
            self.is_cut = !part.ends_with(b"\n");
        }
        Ok(())
    }
}

/// Never fails: the subscriber would write of the failure to standard error, which can panic and
/// block.
impl<W: AsFd + Write> Write for Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.dropped > 0 {
            let dropped = self.dropped;
            let message = "log lines were dropped because nobody read them";
            let start = if self.is_cut { "\n" } else { "" };
            let note = if self.is_json {
                format!(
                    "{start}{{\"level\":\"WARN\",\"fields\":{{\"message\":\"{message}\",\"dropped\":{dropped}}}}}\n"
                )
            } else {
                format!("{start} WARN {message} dropped={dropped}\n")
            };
            if self.write_line(note.as_bytes()).is_ok() {
                self.dropped = 0;
            }
        }
        if self.dropped > 0 || self.write_line(line).is_err() {
            self.dropped += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};

    use super::*;

    #[test]
    fn a_long_line_is_written_as_far_as_there_is_room() {
        let (mut reader, output) = pipe().unwrap();
        let mut lines = Lines {
            output,
            is_json: false,
            dropped: 0,
            is_cut: false,
        };
        let long = format!("{}\n", "x".repeat(10_000));
        lines.write_all(long.as_bytes()).unwrap();
        let mut written = vec![0; long.len()];
        reader.read_exact(&mut written).unwrap();
        assert_eq!(written, long.as_bytes());

        let longer_than_a_pipe = format!("{}\n", "x".repeat(10_000_000));
        lines.write_all(longer_than_a_pipe.as_bytes()).unwrap();
        reader.read_exact(&mut [0; 2 * MAX_WRITE]).unwrap();
        lines.write_all(b"next\n").unwrap();
        drop(lines);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(
            rest.trim_start_matches('x'),
            "\n WARN log lines were dropped because nobody read them dropped=1\nnext\n"
        );
    }
}
