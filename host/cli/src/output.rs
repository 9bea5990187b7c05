//! Printing: tables for people, the host's JSON for programs.
//!
//! Text that came from elsewhere is cleaned before it reaches a terminal: an instance's log must not be able to
//! move the cursor. JSON goes out as it came.

use std::fmt::Write as _;
use std::io::{self, Write as _};

/// How a command ended that did not fail itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Well.
    Well,
    /// It did what it should, but the instance it was about did not end well.
    InstanceFailed,
}

/// Prints one line (or several) to stdout at once.
pub fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.trim_end_matches('\n').as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Whether an error only says that nobody reads our output any more.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    // Only our own writes fail with a bare I/O error; a connection's is wrapped with what it was for.
    error.downcast_ref::<io::Error>().is_some_and(broken)
}

/// The text with control characters spelled out, line breaks and tabs kept.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' && c != '\t' {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// The same on one line of at most `chars` characters.
pub fn brief(text: &str, chars: usize) -> String {
    let text = clean(text).replace(['\n', '\t'], " ");
    match text.char_indices().nth(chars) {
        None => text,
        Some(_) => text.chars().take(chars.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// A table with aligned columns; the last one is not padded.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these titles.
    pub fn new(titles: &[&str]) -> Table {
        Table { rows: vec![titles.iter().map(|title| title.to_uppercase()).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| brief(&cell, 200)).collect());
    }

    /// The lines.
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut text = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(text, "{cell:<width$}  ", width = *width);
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Bytes in units that people read.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut unit = 0;
    let mut scaled = count;
    let mut tenths = 0;
    while scaled >= 1024 && unit + 1 < UNITS.len() {
        tenths = (scaled % 1024) * 10 / 1024;
        scaled /= 1024;
        unit += 1;
    }
    if unit == 0 { format!("{scaled} B") } else { format!("{scaled}.{tenths} {}", UNITS[unit]) }
}

/// An RFC 3339 time from the host, cut to milliseconds.
pub fn time(text: &str) -> String {
    match (text.get(..23), text.get(23..)) {
        (Some(millis), Some(rest)) if rest.ends_with('Z') && millis.as_bytes().get(19) == Some(&b'.') => {
            format!("{millis}Z")
        }
        _ => text.to_owned(),
    }
}

/// How long it was from one time to another, if both are times.
pub fn between(from: &str, to: &str) -> Option<String> {
    let (from, to): (jiff::Timestamp, jiff::Timestamp) = (from.parse().ok()?, to.parse().ok()?);
    let millis = to.as_millisecond().saturating_sub(from.as_millisecond());
    Some(match millis {
        ..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1_000),
        _ => format!("{} h {} min", millis / 3_600_000, millis % 3_600_000 / 60_000),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_the_last_is_not_padded() {
        let mut table = Table::new(&["id", "state"]);
        table.row(["ä-long-id".to_owned(), "running".to_owned()]);
        table.row(["b".to_owned(), String::new()]);
        assert_eq!(table.render(), "ID         STATE\nä-long-id  running\nb\n");
    }

    #[test]
    fn a_log_line_cannot_move_the_cursor() {
        assert_eq!(clean("a\u{1b}[2Jb\u{9b}c\rd\n"), "a\\u{1b}[2Jb\\u{9b}c\\u{d}d\n");
        assert_eq!(brief("one\ntwo three", 8), "one two…");
        assert_eq!(brief("ääää", 4), "ääää");
    }

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!((bytes(0).as_str(), bytes(1023).as_str(), bytes(1536).as_str()), ("0 B", "1023 B", "1.5 KiB"));
        assert_eq!(bytes(u64::MAX), "17179869183.9 GiB");
        assert_eq!(time("2023-11-14T22:13:20.123456789Z"), "2023-11-14T22:13:20.123Z");
        assert_eq!(time("soon"), "soon");
        let from = "2023-11-14T22:13:20.000000000Z";
        assert_eq!(between(from, "2023-11-14T22:13:20.250000000Z").as_deref(), Some("250 ms"));
        assert_eq!(between(from, "2023-11-14T22:13:25.250000000Z").as_deref(), Some("5.2 s"));
        assert_eq!(between(from, "2023-11-14T22:14:25.000000000Z").as_deref(), Some("1 min 5 s"));
        assert_eq!(between(from, "2023-11-15T00:14:25.000000000Z").as_deref(), Some("2 h 1 min"));
        assert_eq!(between(from, "soon"), None);
    }
}
