//! What is in place when a restore can't be carried out.

use std::path::{Path, PathBuf};

use svckit_testbed::command::{sh, svc_backup};
use svckit_testbed::stories::Story;
use svckit_testbed::unit::{Recipe, Unit};

pub(crate) const STORIES: &[Story] =
    &[("a restore that can't move a file takes everything back and ends with 30", taken_back)];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What is ours or kept beside the service's files.
fn beside(unit: &Unit) -> Vec<PathBuf> {
    let all = std::fs::read_dir(&unit.directory).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.to_string_lossy().contains("svckit")).collect()
}

fn taken_back() {
    // Its crash leaves logs behind: they, and the whole first database, are moved before the file that can't be.
    let unit = Recipe::new().databases(2).args("--on-term crash").start("restore-stuck");
    let store = unit.directory.join("store");
    let mut args = vec!["backup", "--to", text(&store), "--name", "t"];
    for database in &unit.databases {
        args.extend(["--sqlite", text(database)]);
    }
    svc_backup(args).expect(0);
    unit.systemctl("stop").expect(0);
    assert!(unit.directory.join("data1.db-wal").exists());

    let restore = || svc_backup(["restore", "--from", text(&store), "t", "--to", text(&unit.directory)]);
    let stuck = unit.directory.join("data1.db-journal");
    std::fs::write(&stuck, "").unwrap();
    sh("mount", ["--bind", text(&stuck), text(&stuck)]).expect(0);
    let refused = restore();
    sh("umount", [text(&stuck)]).expect(0);
    let refused = refused.expect(30);
    assert!(refused.stderr.contains("data1.db-journal"), "{refused:?}");
    assert_eq!(beside(&unit), Vec::<PathBuf>::new());
    unit.systemctl("start").expect(0);
    unit.assert_running();
    unit.assert_nothing_lost();

    // With the hindrance gone it is carried out.
    unit.systemctl("stop").expect(0);
    restore().expect(0);
    assert_eq!(beside(&unit).len(), 2, "what was replaced is kept");
}
