//! What the demonstration found, as a table.

use std::time::Duration;

use serde::Serialize;
use svckit::FailureKind;
use svckit::operation::{BackupMode, BackupReport};

use crate::app::App;
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::render;

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    mode: Option<BackupMode>,
    /// Rows that the service had acknowledged before the backup began.
    acknowledged: Option<u64>,
    /// How many of those are in the restored copy.
    restored: Option<u64>,
    /// The longest time between two commits of the service while the backup ran, by the service's own log.
    longest_gap_ms: f64,
    downtime_ms: Option<f64>,
    content_bytes: Option<u64>,
    stored_bytes: Option<u64>,
    rungs: Vec<String>,
}

impl Row {
    /// The service alone.
    pub(super) fn alone(longest_gap: Duration) -> Self {
        Self {
            mode: None,
            acknowledged: None,
            restored: None,
            longest_gap_ms: longest_gap.as_secs_f64() * 1000.0,
            downtime_ms: None,
            content_bytes: None,
            stored_bytes: None,
            rungs: Vec::new(),
        }
    }

    pub(super) fn of(report: &BackupReport, acknowledged: u64, restored: u64, longest_gap: Duration) -> Self {
        Self {
            mode: Some(report.mode),
            acknowledged: Some(acknowledged),
            restored: Some(restored),
            downtime_ms: report.downtime_ms,
            content_bytes: Some(report.content_bytes),
            stored_bytes: Some(report.stored_bytes),
            rungs: report.rungs.clone(),
            ..Self::alone(longest_gap)
        }
    }

    /// How many acknowledged rows the restored copy lacks.
    pub(super) fn missing(&self) -> u64 {
        self.acknowledged.unwrap_or(0).saturating_sub(self.restored.unwrap_or(0))
    }

    fn outcome(&self) -> Outcome {
        if self.missing() > 0 { Outcome::Failed(FailureKind::Unverified) } else { Outcome::Done }
    }

    fn cells(&self) -> Vec<String> {
        let mode = match self.mode {
            None => "no backup",
            Some(BackupMode::Hot) => "hot",
            Some(BackupMode::Fenced) => "fenced",
            Some(BackupMode::Cold) => "cold",
        };
        let dash = || "-".to_owned();
        let rows = self.acknowledged.zip(self.restored).map(|(all, there)| format!("{there} of {all}"));
        let size = self.content_bytes.zip(self.stored_bytes);
        let size = size.map(|(content, stored)| format!("{} in {}", render::bytes(content), render::bytes(stored)));
        vec![
            mode.to_owned(),
            rows.unwrap_or_else(dash),
            render::milliseconds(self.longest_gap_ms),
            self.downtime_ms.map_or_else(dash, render::milliseconds),
            size.unwrap_or_else(dash),
        ]
    }
}

/// Prints the rows, and what the figures mean.
pub(super) fn print(app: &App, rows: &[Row]) -> Result<(), ToolError> {
    if app.output.is_json() {
        return rows.iter().try_for_each(|row| app.output.result(row.outcome(), row, String::new));
    }
    let head = ["MODE", "ACKNOWLEDGED ROWS RESTORED", "LONGEST WAIT FOR A COMMIT", "DOWNTIME", "SIZE"];
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    cells.extend(rows.iter().map(Row::cells));
    app.output.text(&render::table(&cells))?;
    let rungs = rows.last().map(|row| row.rungs.join(", ")).unwrap_or_default();
    app.output.text(&format!(
        "\nRows that the service had acknowledged before a backup began were looked for in its restored copy.\n\
         The longest wait is by the service's own log, from one commit to the next.\nEach backup passed: {rungs}.\n"
    ))
}
