//! `svc-repair check`.

use std::fmt::Write;

use svckit::FailureKind;
use svckit::database::sqlite::DeepKind;
use svckit::database::sqlite::pages::{Consistency, Finding, Loss, ObjectKind};
use svckit::operation::{self, CheckReport, CheckRequest};

use crate::app::App;
use crate::cli::repair::CheckArgs;
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::{render, service};

/// Findings that are shown to people; `--json` has them all.
const SHOWN_MAX: usize = 20;

pub(super) fn check(app: &App, args: &CheckArgs) -> Result<Outcome, ToolError> {
    let request = CheckRequest {
        database: service::absolute(&args.path)?,
        deep: args.deep,
        scratch: service::absolute(&args.scratch.clone().unwrap_or_else(std::env::temp_dir))?,
        threads: args.threads.map(usize::from),
        hold_max: args.hold_max,
    };
    let report = operation::check(&app.context()?, &request)?;
    let outcome = if report.damaged { Outcome::Failed(FailureKind::Corrupt) } else { Outcome::Done };
    Ok(app.output.done(outcome, &report, || text(&report)))
}

fn text(report: &CheckReport) -> String {
    let mut text = String::new();
    let verdict = match (report.damaged, report.rows_at_risk) {
        (false, _) => "nothing is damaged",
        (true, false) => "damaged, no row is at risk",
        (true, true) => "damaged, ROWS ARE AT RISK",
    };
    // Writing to a String can't fail.
    let _infallible = writeln!(text, "{}: {verdict}", render::path(report.database.as_ref()));
    let pages = &report.pages;
    let tables = pages.trees.iter().filter(|tree| tree.kind == ObjectKind::Table);
    let (tables, rows) = tables.fold((0_u64, 0_u64), |(tables, rows), tree| (tables + 1, rows + tree.entries));
    let size = render::bytes(u64::from(pages.pages) * pages.page_size as u64);
    let _infallible = writeln!(
        text,
        "  read: {} pages ({size}), {rows} rows of {tables} tables, {} indices compared with their table",
        pages.pages, pages.indices_compared
    );
    let _infallible = writeln!(text, "  how: {}", how(pages.consistency));
    for finding in pages.findings.iter().take(SHOWN_MAX) {
        let _infallible = writeln!(text, "  {}", line(finding));
    }
    let found: u64 = pages.totals.values().sum();
    let shown = pages.findings.len().min(SHOWN_MAX) as u64;
    if found > shown {
        let _infallible = writeln!(text, "  and {} more: --json has them", found - shown);
    }
    for tree in pages.trees.iter().filter(|tree| tree.damaged && tree.kind == ObjectKind::Table) {
        let before = tree.rows_by_index.map_or_else(String::new, |rows| format!(" of {rows} that its indices know of"));
        let name = render::one_line(&tree.name);
        let _infallible = writeln!(text, "  {name}: {} rows can be reached{before}", tree.entries);
    }
    if let Some(deep) = &report.deep {
        for (kind, word) in [
            (DeepKind::Integrity, "SQLite"),
            (DeepKind::FullText, "full text"),
            (DeepKind::Spatial, "R-trees"),
            (DeepKind::ForeignKey, "foreign keys (no damage)"),
        ] {
            let of_kind = || deep.findings.iter().filter(|finding| finding.kind == kind);
            for finding in of_kind().take(SHOWN_MAX) {
                let _infallible = writeln!(text, "  {word}: {}", render::one_line(&finding.what));
            }
            if let Some(more) = of_kind().count().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
                let _infallible = writeln!(text, "  {word}: and {more} more: --json has them");
            }
        }
        for what in &deep.not_judged {
            let _infallible = writeln!(text, "  not judged by SQLite: {}", render::one_line(what));
        }
    }
    for not in &pages.not_checked {
        let (object, why) = (render::one_line(&not.object), render::one_line(&not.why));
        let _infallible = writeln!(text, "  not compared: {object}: {why}");
    }
    if let Some(next) = &report.next {
        let _infallible = writeln!(text, "  next: {}", render::one_line(next));
    }
    text
}

fn how(how: Consistency) -> &'static str {
    match how {
        Consistency::ReadMark => "in use; as of one commit, through the log, under a reader's locks",
        Consistency::ReadLock => "in use; as of one commit, and writers waited meanwhile",
        Consistency::Compared => "in use; without a lock, and nobody wrote meanwhile",
        Consistency::Quiet => "nobody had it open",
        Consistency::Own => "a copy of our own",
    }
}

fn line(finding: &Finding) -> String {
    let mut text = String::new();
    if let Some(object) = &finding.object {
        text.push_str(&render::one_line(object));
    }
    if let Some(page) = finding.page {
        text.push_str(if text.is_empty() { "page " } else { ", page " });
        text.push_str(&page.to_string());
    }
    if !text.is_empty() {
        text.push_str(": ");
    }
    text.push_str(&render::one_line(&finding.what));
    text.push_str(match finding.loss {
        Loss::Nothing => " (nothing is lost)",
        Loss::Index => " (can be built anew)",
        Loss::Rows => " (rows are lost)",
        Loss::Commits => " (commits are lost)",
        Loss::Unknown => " (what is lost can't be told)",
    });
    if let Some(rowids) = finding.rowids {
        let end = |end: Option<i64>| end.map_or_else(|| "?".to_owned(), |end| end.to_string());
        let _infallible = write!(text, ", rowids after {} up to {}", end(rowids.after), end(rowids.up_to));
    }
    text
}
