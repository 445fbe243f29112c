//! Tables for people, and the file that keeps them.

use std::fmt;
use std::fmt::Write as _;
use std::path::Path;

use crate::bench::{Bench, megabytes};
use crate::{Outcome, environment, measures};

/// The outcome of one measure.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) title: String,
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    /// How it was measured, and whether the goal is met.
    pub(crate) notes: Vec<String>,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}: {}\n", self.name, self.title)?;
        writeln!(f, "| {} |", self.columns.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(self.columns.len()))?;
        for row in &self.rows {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        writeln!(f)?;
        for note in &self.notes {
            writeln!(f, "- {note}")?;
        }
        Ok(())
    }
}

/// `met`, or what is missing.
pub(crate) fn goal(text: &str, met: bool) -> String {
    format!("Goal: {text}: **{}**.", if met { "met" } else { "missed" })
}

/// Puts the section in its place in the file; the other measures' sections stay as they are.
pub(crate) fn keep(path: &Path, section: &Section, bench: &Bench) -> Outcome<()> {
    let old = std::fs::read_to_string(path).unwrap_or_default();
    let mut text = String::from(
        "# Measured side by side\n\nWritten by `cargo run --release -p svckit-benches -- all`. Read the ratios: the absolute figures are those of \
         one machine.\nMedians, ranges in brackets; contestants run in turns after a warm-up, each from the same state: everything\n\
         synced, the database in the page cache, but where a row is called cold.\n",
    );
    for name in measures::ALL {
        let heading = format!("## {name}: ");
        if *name == section.name {
            write!(text, "\n{section}- Measured with {} and {}", megabytes(bench.size), runs(bench.runs))?;
            writeln!(text, "; {}.", environment::facts(&bench.dir).join("; "))?;
        } else if let Some(kept) = split(&old).into_iter().find(|part| part.starts_with(&heading)) {
            write!(text, "\n{}\n", kept.trim_end())?;
        }
    }
    std::fs::write(path, text)?;
    Ok(())
}

fn runs(count: usize) -> String {
    if count == 1 { "one run".to_owned() } else { format!("{count} runs of each") }
}

/// The sections of a file, each with its heading.
fn split(text: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = text.match_indices("\n## ").map(|(at, _)| at + 1).collect();
    starts.push(text.len());
    starts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}
