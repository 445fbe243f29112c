//! Any bytes as a database, its log, its index of the log and its journal: a check never panics, never hangs, and
//! never takes more memory than the input and its options allow (`-rss_limit_mb`, `-timeout`).
//!
//! The input is cut at each `SVCKIT-FUZZ-CUT`: database, `-wal`, `-shm`, `-journal`.

#![no_main]

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use svckit::database::sqlite::pages::{CheckOptions, Met, View, check};
use svckit::progress::{Cancel, Silent};

const CUT: &[u8] = b"SVCKIT-FUZZ-CUT";

fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().expect("a directory");
    let db = dir.path().join("fuzzed.db");
    let mut rest = data;
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let end = rest.windows(CUT.len()).position(|window| window == CUT);
        let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
        if suffix.is_empty() || !part.is_empty() {
            let mut name = db.clone().into_os_string();
            name.push(suffix);
            std::fs::write(PathBuf::from(name), part).expect("a file");
        }
        rest = after.get(CUT.len()..).unwrap_or_default();
    }
    let cancel = Cancel::new().expect("a descriptor");
    let options = CheckOptions { threads: Some(1), own: true, ..CheckOptions::default() };
    let Ok(report) = check(&db, &options, &cancel, &Silent) else {
        return;
    };
    let Ok(view) = View::open_own(&db, &cancel) else {
        return;
    };
    for (first, last) in report.never_used.iter().take(10) {
        for page in (*first..=*last).take(10) {
            let _kind = view.image().rows_of_page(page, 1 << 20, &mut |met| matches!(met, Met::Row { .. }));
        }
    }
});
