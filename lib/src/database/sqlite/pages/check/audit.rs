//! What the files beside a database tell of commits that it does not have: SQLite's own pragmas call all of it ok.
//!
//! | found | evidence |
//! |---|---|
//! | commits behind a damaged frame | frames of the log's own salts, with commits among them, behind the first that does not check |
//! | a log that was cut | the `-shm` that its last user left knows of more frames |
//! | a log that was deleted | the same, and there is none; without a `-shm` there is no evidence |
//! | a database that was emptied | its log, or its journal, which SQLite deletes with the next who opens it |
//! | a log of something else | other salts or another page size than the `-shm` or the database says; or damage that is not there without it |
//!
//! Two states look like the first of them and are no loss. A writer that is killed before its commit counts leaves frames
//! that a shorter commit does not cover. And of a log that is in the database as a whole, nothing is needed any more. The
//! `-shm` tells both.
//!
//! A log that ends at a commit, and whose `-shm` is gone too, leaves no evidence of what followed.

use super::super::shm::Witness;
use super::super::view::{Logs, View};
use super::super::wal::WalScan;
use super::report::{Finding, FindingKind, Findings, Loss, WalReport};

/// Tells what the logs of a view say.
pub(super) fn audit(view: &View, findings: &Findings) -> Option<WalReport> {
    let logs = &view.logs;
    let add = |kind, loss, what: String| findings.add(Finding::new(kind, loss, what));
    // SQLite takes the logs of an empty file for those of an earlier one (pager.c: hasHotJournal, pagerOpenWalIfPresent).
    if view.image().file_len() == 0 {
        let what = if logs.hot { "-journal" } else { "-wal" };
        let what = format!(
            "the file is empty, and what is left of the database is in its {what}: SQLite deletes that when anybody opens it"
        );
        add(FindingKind::FileLength, Loss::Unknown, what);
    } else if logs.hot {
        journal(logs, &add);
    }
    if let Some(why) = &logs.wal_ignored {
        add(FindingKind::WalForeign, Loss::Unknown, format!("the -wal is not of this database: {why}"));
    }
    match (logs.live, &logs.wal) {
        (Some(frames), wal) => {
            let is_whole = wal.as_ref().is_some_and(|wal| {
                let mark = logs.witness.map(|witness| witness.mark);
                wal.last_commit == frames && mark.is_none_or(|m| m.salts == wal.salts && m.checksum == wal.checksum)
            });
            if frames > 0 && !is_whole {
                let valid = wal.as_ref().map_or(0, |wal| wal.last_commit);
                let what = format!("the service reads {frames} frames of its -wal, and only {valid} of them check");
                add(FindingKind::WalDamaged, Loss::Commits, what);
            }
        }
        (None, wal) => at_rest(logs, wal.as_ref().filter(|wal| !wal.is_empty()), &add),
    }
    logs.wal.as_ref().filter(|wal| !wal.is_empty()).map(|wal| WalReport {
        frames: wal.last_commit,
        commits: wal.commits,
        room: wal.room,
    })
}

fn journal(logs: &Logs, add: &dyn Fn(FindingKind, Loss, String)) {
    let Some(journal) = &logs.journal else {
        return;
    };
    let cut_off = "a transaction was cut off";
    if let Some(fault) = &journal.fault {
        let what = format!("{cut_off}, and the journal that would undo it can't be used: {fault}");
        add(FindingKind::JournalDamaged, Loss::Rows, what);
    } else if journal.missing > 0 {
        let what = format!("{cut_off}, and {} pages of the journal that would undo it do not check", journal.missing);
        add(FindingKind::JournalDamaged, Loss::Rows, what);
    } else {
        let what =
            format!("{cut_off}: the journal undoes it in {} pages when the database is opened", journal.records.len());
        add(FindingKind::HotJournal, Loss::Nothing, what);
    }
}

/// Nobody has the database open: everything that was committed must be in the log or in the file.
fn at_rest(logs: &Logs, wal: Option<&WalScan>, add: &dyn Fn(FindingKind, Loss, String)) {
    let known = logs.witness.filter(|witness| witness.mark.frame > witness.backfilled);
    if let (Some(witness), Some(wal)) = (logs.witness, wal)
        && is_whole_in_spite(witness, wal)
    {
        return;
    }
    let Some(wal) = wal else {
        if let Some(known) = known {
            let missing = known.mark.frame - known.backfilled;
            let what = format!(
                "there is no -wal, and the -shm knows of {} frames in it, of which {missing} never came into the database",
                known.mark.frame
            );
            add(FindingKind::WalDeleted, Loss::Commits, what);
        }
        return;
    };
    if let Some(fault) = &wal.header_fault {
        if wal.after_bad == 0 {
            let (loss, more) =
                known.map_or((Loss::Unknown, "whether commits are lost can't be told".to_owned()), |known| {
                    let missing = known.mark.frame - known.backfilled;
                    (Loss::Commits, format!("the -shm knows of {missing} that never came into the database"))
                });
            let what = format!(
                "the -wal can't be used, and SQLite drops it in silence: {fault}; no frame in it can be told, and {more}"
            );
            add(FindingKind::WalHeader, loss, what);
            return;
        }
        let what = format!(
            "the -wal can't be used, and SQLite drops it in silence: {fault}; it has {} frames of one writer, {} of them commits",
            wal.after_bad, wal.commits_after_bad
        );
        add(FindingKind::WalHeader, Loss::Commits, what);
        return;
    }
    if wal.bad > 0 && wal.commits_after_bad > 0 {
        let what = format!(
            "frame {} of the -wal does not check; SQLite drops it and the {} frames of the same writer behind it in silence: \
             {} commits are lost, with changes of pages up to {}",
            wal.bad,
            wal.after_bad - 1,
            wal.commits_after_bad,
            wal.highest_page_after_bad
        );
        add(FindingKind::WalLostCommits, Loss::Commits, what);
    }
    let Some(known) = known else {
        return;
    };
    if known.mark.salts != wal.salts {
        let what = "the -shm was left by the user of another -wal: this one was put here later, or the other is gone"
            .to_owned();
        add(FindingKind::WalForeign, Loss::Unknown, what);
    } else if known.mark.frame > wal.last_commit && wal.commits_after_bad == 0 {
        let what = format!(
            "the -wal has {} frames, and the -shm knows of {}: {} are missing at its end",
            wal.last_commit,
            known.mark.frame,
            known.mark.frame - wal.last_commit
        );
        add(FindingKind::WalCut, Loss::Commits, what);
    }
}

/// Whether nothing is missing although frames do not check, since the last user of the log knew of nothing more.
fn is_whole_in_spite(known: Witness, wal: &WalScan) -> bool {
    if known.mark.salts != wal.salts || wal.commits_after_bad == 0 {
        return false;
    }
    // With commits before the damage SQLite would put their pages over newer ones.
    let is_in_the_database =
        wal.last_commit == 0 && known.backfilled == known.mark.frame && known.mark.frame >= wal.last_commit_after_bad;
    // Who reads a damaged log anew knows no more than we do: a witness is only who has made all of its commits.
    let is_the_end = known.mark.frame == wal.last_commit
        && known.mark.checksum == wal.checksum
        && u64::from(known.commits) >= wal.commits;
    is_in_the_database || (wal.last_commit > 0 && is_the_end)
}
