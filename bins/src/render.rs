//! What is printed: results on standard output, for people or as JSON; everything else on standard error.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::error::ToolError;
use crate::exit::Outcome;

/// Where and how results are printed.
#[derive(Debug, Clone)]
pub struct Output {
    program: &'static str,
    json: bool,
}

impl Output {
    /// For this program; `json`: one object per result.
    #[must_use]
    pub fn new(program: &'static str, json: bool) -> Self {
        Self { program, json }
    }

    /// Whether results are printed as JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints the result of something that has an outcome whether or not it can be told: what was done is done, and the
    /// exit code says so. That it could not be printed is told beside it.
    pub fn done(&self, outcome: Outcome, value: &impl Serialize, text: impl FnOnce() -> String) -> Outcome {
        if let Err(error) = self.result(outcome, value, text) {
            self.complain(&error, None);
        }
        outcome
    }

    /// Prints one result: its JSON with the outcome as `kind`, or the text for people.
    ///
    /// # Errors
    /// When standard output can't be written to.
    pub fn result(
        &self,
        outcome: Outcome,
        value: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), ToolError> {
        if !self.json {
            return self.text(&text());
        }
        let value = serde_json::to_value(value)
            .map_err(|error| ToolError::io("write", "the result as JSON")(std::io::Error::other(error)))?;
        let mut object = serde_json::Map::new();
        object.insert("kind".to_owned(), outcome.word().into());
        match value {
            serde_json::Value::Object(fields) => object.extend(fields),
            other => drop(object.insert("value".to_owned(), other)),
        }
        self.text(&format!("{}\n", serde_json::Value::Object(object)))
    }

    /// Prints a text for people. Where its reader went away nobody is left to tell, and nothing failed.
    ///
    /// # Errors
    /// When standard output can't be written to.
    pub fn text(&self, text: &str) -> Result<(), ToolError> {
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(ToolError::io("write to", "standard output")),
        }
    }

    /// Tells why it failed; with `--json` also as an object on standard output.
    pub fn failure(&self, error: &ToolError, target: Option<&str>) {
        self.complain(error, target);
        self.failure_as_json(error, target);
    }

    /// The object of a failure alone, where results are JSON.
    pub(crate) fn failure_as_json(&self, error: &ToolError, target: Option<&str>) {
        if self.json {
            let outcome = Outcome::Failed(error.kind());
            let value = serde_json::json!({
                "target": target, "error": with_causes(error), "hint": error.hint(), "exit": outcome.code(),
            });
            if let Err(error) = self.result(outcome, &value, String::new) {
                tracing::debug!(%error, "the failure could not be printed");
            }
        }
    }

    fn complain(&self, error: &ToolError, target: Option<&str>) {
        let on = target.map_or_else(String::new, |target| format!("{target}: "));
        let mut text = format!("{}: {on}{}\n", self.program, one_line(&with_causes(error)));
        if let Some(hint) = error.hint() {
            text.push_str(&format!("hint: {}\n", one_line(&hint)));
        }
        // Nobody is left to tell when this fails too; the exit code still says it.
        let _nobody_to_tell = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

/// The message, and the causes that it does not repeat itself.
fn with_causes(error: &ToolError) -> String {
    svckit::failure::with_causes(error.to_string(), error.cause())
}

/// A message in one line without control characters: it may quote a name that somebody chose.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// A path for people: as it is where every byte can be shown, else quoted with escapes.
#[must_use]
pub fn path(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.contains(|c: char| c.is_control()) => text.to_owned(),
        _ => format!("{path:?}"),
    }
}

/// A number of bytes for people.
#[must_use]
pub fn bytes(count: u64) -> String {
    if count < 1024 { format!("{count} B") } else { indicatif::BinaryBytes(count).to_string() }
}

/// A duration for people, to three digits or so.
#[must_use]
pub fn milliseconds(ms: f64) -> String {
    if ms < 1000.0 {
        return format!("{} ms", if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") });
    }
    if ms < 60_000.0 {
        return format!("{:.1} s", ms / 1000.0);
    }
    // Cut to seconds: nobody needs the nanoseconds of an hour.
    humantime::format_duration(Duration::from_secs((ms / 1000.0) as u64)).to_string()
}

/// A table with its columns aligned: the first row is the heading.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    // What ends a row before the last column may be long, and makes no column wide.
    let in_columns = |column: usize| rows.iter().filter(move |row| row.len() == columns || column + 1 < row.len());
    let width = |column| in_columns(column).filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_path_can_not_forge_a_line() {
        assert_eq!(path(Path::new("/srv/äpfel.db")), "/srv/äpfel.db");
        assert_eq!(path(Path::new("/srv/a\nsvc-backup: done")), "\"/srv/a\\nsvc-backup: done\"");
        assert_eq!(path(Path::new(OsStr::from_bytes(b"/a\xff\x1b[2J"))), "\"/a\\xFF\\u{1b}[2J\"");
        assert_eq!(one_line("a\r\nb\u{1b}c"), "a\\r\\nb\\u{1b}c");
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(milliseconds(0.42), "0.4 ms");
        assert_eq!(milliseconds(432.0), "432 ms");
        assert_eq!(milliseconds(1234.0), "1.2 s");
        assert_eq!(milliseconds(125_000.0), "2m 5s");
        assert_eq!(bytes(12), "12 B");
        assert_eq!(bytes(1536), "1.50 KiB");
        let rows = [vec!["a".to_owned(), "b".to_owned()], vec!["long".to_owned(), "x".to_owned()]];
        assert_eq!(table(&rows), "a     b\nlong  x\n");
        let rows = [&["a", "b", "c"][..], &["long", "a sentence"], &["x", "y", "z"]];
        let rows = rows.map(|row| row.iter().map(|&cell| cell.to_owned()).collect());
        assert_eq!(table(&rows), "a     b  c\nlong  a sentence\nx     y  z\n");
    }
}
