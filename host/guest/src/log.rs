//! What a guest says: lines for the instance's log, from `control.log` and from stdout and stderr.

use rehydrate_core::{LimitExceeded, limits::check};

/// How important a line is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Finest.
    Trace,
    /// For developers.
    Debug,
    /// The usual.
    Info,
    /// Worth a look.
    Warn,
    /// Something broke.
    Error,
}

impl Level {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }

    /// Its number in the store, and back.
    pub fn from_number(number: u8) -> Level {
        [Level::Trace, Level::Debug, Level::Info, Level::Warn].get(usize::from(number)).copied().unwrap_or(Level::Error)
    }
}

/// A line of a guest's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogLine {
    /// How important.
    pub level: Level,
    /// The text, without its newline.
    pub text: String,
}

/// Where SDKs put the message of a panic before they trap.
const PANIC_PREFIX: &str = "panicked at ";

/// The lines of one turn, bounded in bytes.
#[derive(Debug, Default)]
pub struct LogBuffer {
    lines: Vec<LogLine>,
    bytes: usize,
    partial: [Vec<u8>; 2],
    last_panic: Option<String>,
}

/// The two streams of a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// stdout, logged as `info`.
    Out,
    /// stderr, logged as `warn`.
    Err,
}

impl LogBuffer {
    /// Begins a turn: the bytes count from zero.
    pub fn begin_turn(&mut self) {
        self.bytes = 0;
    }

    /// Takes the lines written since the last call.
    pub fn take(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.lines)
    }

    /// The message of the last panic that was announced.
    pub fn last_panic(&self) -> Option<&str> {
        self.last_panic.as_deref()
    }

    /// Adds a line. `silent` in replay: it counts for nothing and is not kept, but a panic is remembered.
    pub fn line(&mut self, level: Level, text: String, silent: bool, limit: usize) -> Result<(), LimitExceeded> {
        // An SDK says it in one line of its own; a bare runtime only on stderr, within a sentence.
        match text.find(PANIC_PREFIX) {
            Some(0) => self.last_panic = Some(text.clone()),
            Some(start) if self.last_panic.is_none() => self.last_panic = Some(text[start..].to_owned()),
            _ => {}
        }
        if silent {
            return Ok(());
        }
        const LINE_OVERHEAD: usize = 16;
        self.bytes += text.len() + LINE_OVERHEAD;
        check("log-bytes-per-turn", "the workflow wrote too much to its log in bytes", self.bytes, limit)?;
        self.lines.push(LogLine { level, text });
        Ok(())
    }

    /// Adds bytes of a stream; a line is kept once its newline came.
    pub fn stream(&mut self, stream: Stream, bytes: &[u8], silent: bool, limit: usize) -> Result<(), LimitExceeded> {
        let (index, level) = match stream {
            Stream::Out => (0, Level::Info),
            Stream::Err => (1, Level::Warn),
        };
        let held = self.partial[index].len() + bytes.len();
        check("log-bytes-per-turn", "the workflow wrote a line too long in bytes", held, limit)?;
        self.partial[index].extend_from_slice(bytes);
        while let Some(end) = self.partial[index].iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial[index].drain(..=end).collect();
            let text = String::from_utf8_lossy(&line[..end]).into_owned();
            self.line(level, text, silent, limit)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_into_lines_across_writes() {
        let mut log = LogBuffer::default();
        for piece in ["one\ntw", "o\n\nthree"] {
            log.stream(Stream::Out, piece.as_bytes(), false, 1000).unwrap();
        }
        let texts: Vec<String> = log.take().into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["one", "two", ""]);
    }

    #[test]
    fn a_flood_is_stopped_and_replay_is_silent() {
        let mut log = LogBuffer::default();
        assert!(log.line(Level::Info, "x".repeat(200), true, 100).is_ok());
        assert!(log.take().is_empty());
        assert_eq!(log.line(Level::Info, "x".repeat(200), false, 100).unwrap_err().name, "log-bytes-per-turn");
        assert!(log.stream(Stream::Err, &[b'x'; 200], false, 100).is_err());
    }

    #[test]
    fn the_message_of_a_panic_is_remembered_even_in_replay() {
        let mut log = LogBuffer::default();
        log.line(Level::Error, "panicked at src/x.rs:1:2: no luck".into(), true, 100).unwrap();
        log.line(Level::Warn, "thread 'main' panicked at src/x.rs:1:2:".into(), true, 100).unwrap();
        assert_eq!(log.last_panic(), Some("panicked at src/x.rs:1:2: no luck"));
    }
}
