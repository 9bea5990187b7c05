//! Panics become failures with their message. A component's panic ends as a trap, which carries no text; so a
//! hook writes one line, `panicked at <file>:<line>:<column>: <message>`, at level `error` to the instance's
//! log first. The host takes the last line that starts so as the failure's message.

use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::sync::Once;

/// Puts the hook in front of std's own, which goes on writing to stderr.
pub(crate) fn log_panics(log: fn(&str)) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let then = take_hook();
        set_hook(Box::new(move |info| {
            log(&line(info));
            then(info);
        }));
    });
}

fn line(info: &PanicHookInfo<'_>) -> String {
    let message = info.payload_as_str().unwrap_or("no message");
    match info.location() {
        Some(at) => format!("panicked at {at}: {message}"),
        None => format!("panicked at an unknown place: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn a_panic_is_logged_with_its_place_and_message() {
        static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
        log_panics(|line| LINES.lock().unwrap().push(line.to_owned()));
        let _ = std::thread::spawn(|| panic!("no {}", "luck")).join();
        let lines = LINES.lock().unwrap();
        let line = lines.iter().find(|line| line.ends_with(": no luck")).expect("the line");
        assert!(line.starts_with("panicked at ") && line.contains("panics.rs:"), "{line}");
    }
}
