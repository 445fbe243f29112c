//! The Debian package on a machine with systemd: installed, used as its README says, and purged.
//!
//! `tests/run` builds it into target/debian before.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a story that can't go on has failed: the panic is its report"
)]

use std::path::{Path, PathBuf};

use svckit_testbed::command::{Outcome, sh};
use svckit_testbed::stories::{Story, run};
use svckit_testbed::unit::{QUICK, Recipe, Unit, property_of};

const STORIES: &[Story] = &[("the package is installed, backs a service up by its timer's unit, and is purged", life)];

/// systemd-analyze(1): up to here a service counts as protected well enough.
const EXPOSURE_MAX: f64 = 3.0;

fn main() -> std::process::ExitCode {
    run(STORIES)
}

fn package() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("target/debian")
        .expect("bins/package builds it")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn systemctl<const N: usize>(words: [&str; N]) -> Outcome {
    sh("systemctl", words)
}

fn life() {
    let package = package();
    sh("dpkg", ["--install", package.to_str().unwrap()]).expect(0);
    files();
    units();
    let unit = Recipe::new().databases(2).start("packaged");
    let store = unit.directory.join("store");
    for mode in ["hot", "cold"] {
        backed_up(&unit, &store, mode);
    }
    tended(&unit);
    enabled_by_the_program();
    purged();
    unit.assert_running();
    unit.assert_nothing_lost();
}

fn files() {
    for program in ["svc-backup", "svc-ctl", "svc-repair", "svc-lock", "svc-publish", "svc-tend"] {
        let path = format!("/usr/bin/{program}");
        assert!(sh(&path, ["--version"]).expect(0).stdout.starts_with(program));
        let page = format!("/usr/share/man/man1/{program}.1.gz");
        assert!(sh("zcat", [page.as_str()]).expect(0).stdout.contains(".SH EXAMPLES"), "{page}");
        let completion = format!("/usr/share/bash-completion/completions/{program}");
        sh("bash", ["-n", completion.as_str()]).expect(0);
        assert!(Path::new(&format!("/usr/share/zsh/vendor-completions/_{program}")).exists());
        assert!(Path::new(&format!("/usr/share/fish/vendor_completions.d/{program}.fish")).exists());
    }
    assert!(Path::new("/usr/share/doc/svckit/copyright").exists());
}

const UNITS: [&str; 6] = [
    "svc-backup@.service",
    "svc-backup@.timer",
    "svc-backup-all.service",
    "svc-backup-all.timer",
    "svc-resume.service",
    "svc-tend.service",
];

fn units() {
    let directory = "/usr/lib/systemd/system";
    for unit in UNITS {
        let text = std::fs::read_to_string(format!("{directory}/{unit}")).unwrap();
        assert!(!text.contains("@BINDIR@"), "{text}");
    }
    for unit in UNITS.map(|unit| unit.replace('@', "@any")) {
        let verified = sh("systemd-analyze", ["verify", &unit]).expect(0);
        assert!(!verified.stderr.contains("svc-"), "{}", verified.stderr);
    }
    assert_eq!(systemctl(["is-enabled", "svc-resume.service"]).stdout.trim(), "enabled");
    for (unit, most) in [("svc-backup@any.service", EXPOSURE_MAX), ("svc-tend.service", 2.0)] {
        let score = sh("systemd-analyze", ["security", "--no-pager", unit]).stdout;
        let last = score.lines().rev().find(|line| line.contains("Overall exposure level")).expect(&score);
        let figure: f64 = last.split_whitespace().find_map(|word| word.parse().ok()).expect(last);
        assert!(figure <= most, "{last}");
    }
}

/// In its sandbox, beside a service that has its database in /srv; also after the daemon was killed.
fn tended(unit: &Unit) {
    let database = unit.directory.join("tended.db");
    let db = rusqlite::Connection::open(&database).unwrap();
    db.busy_timeout(QUICK).unwrap();
    db.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE notes(id INTEGER PRIMARY KEY, old)").unwrap();
    let owner = Some(1234);
    std::os::unix::fs::chown(&database, owner, owner).unwrap();
    let rule = format!(
        "[rule.notes]\ndatabase = {database:?}\nunit = {:?}\nevery = \"1s\"\ntable = \"notes\"\nkey = \"id\"\nexpired = \"old\"\n",
        unit.name
    );
    std::fs::write("/etc/svckit/tend.toml", rule).unwrap();
    systemctl(["start", "svc-tend.service"]).expect(0);
    for _ in ["at first", "after a crash"] {
        db.execute_batch("INSERT INTO notes(old) VALUES(1), (0), (1)").unwrap();
        let until = std::time::Instant::now() + QUICK;
        while db.query_row("SELECT count(*) FROM notes WHERE old", [], |row| row.get::<_, i64>(0)).unwrap() > 0 {
            let said = || sh("journalctl", ["--no-pager", "-u", "svc-tend.service"]).stdout;
            assert!(std::time::Instant::now() < until, "nothing is pruned: {}", said());
            svckit::world::wait::readable(&[], std::time::Instant::now() + std::time::Duration::from_millis(50))
                .unwrap();
        }
        assert_eq!(property_of("svc-tend.service", "ActiveState"), "active");
        sh("systemctl", ["kill", "--signal=KILL", "svc-tend.service"]).expect(0);
    }
    systemctl(["stop", "svc-tend.service"]).expect(0);
    unit.assert_running();
}

fn backed_up(unit: &Unit, store: &Path, mode: &str) {
    let list = |paths: &[PathBuf]| paths.iter().map(|path| format!("{path:?}")).collect::<Vec<_>>().join(", ");
    let settings = format!(
        "[target.{mode}]\nunit = {:?}\nsqlite = [{}]\nmode = {mode:?}\nstore = {store:?}\n",
        unit.name,
        list(&unit.databases)
    );
    std::fs::create_dir_all("/etc/svckit").unwrap();
    std::fs::write("/etc/svckit/svckit.toml", settings).unwrap();
    sh("svc-backup", ["config", "check"]).expect(0);
    let acknowledged = unit.record.acknowledged();
    let service = format!("svc-backup@{mode}.service");
    let started = systemctl(["start", &service]);
    if started.status != 0 {
        panic!("{started:?}\n{}", sh("journalctl", ["--no-pager", "-u", &service]).stdout);
    }
    unit.assert_running();
    unit.assert_clean();
    let to = unit.directory.join(format!("back-{mode}"));
    std::fs::create_dir(&to).unwrap();
    let words = ["restore", "--from", store.to_str().unwrap(), mode, "--to", to.to_str().unwrap()];
    sh("svc-backup", words).expect(0);
    for database in &unit.databases {
        let restored = to.join(database.file_name().unwrap());
        svckit_testbed::unit::assert_has_rows(&restored, &acknowledged);
    }
    let timer = format!("svc-backup@{mode}.timer");
    systemctl(["enable", "--now", &timer]).expect(0);
    assert_eq!(property_of(&timer, "ActiveState"), "active");
    assert_eq!(property_of(&timer, "Persistent"), "yes");
    systemctl(["disable", "--now", &timer]).expect(0);
    // The same by the unit of all targets.
    systemctl(["start", "svc-backup-all.service"]).expect(0);
    unit.assert_running();
    let status = sh("svc-backup", ["status", "--json"]).expect(0).json();
    assert_eq!((&status["target"], &status["failures"]), (&mode.into(), &0.into()), "{status}");
    sh("svc-backup", ["forget", mode]).expect(0);
}

/// Without the package's own hooks: as somebody who copied the programs would.
fn enabled_by_the_program() {
    systemctl(["disable", "svc-resume.service"]).expect(0);
    sh("svc-backup", ["install-units"]).expect(0);
    assert_eq!(systemctl(["is-enabled", "svc-resume.service"]).stdout.trim(), "enabled");
    assert_eq!(property_of("svc-resume.service", "FragmentPath"), "/etc/systemd/system/svc-resume.service");
    // Nothing to resume: it says so and is done.
    systemctl(["start", "svc-resume.service"]).expect(0);
    systemctl(["disable", "svc-resume.service"]).expect(0);
    for unit in UNITS {
        std::fs::remove_file(format!("/etc/systemd/system/{unit}")).unwrap();
    }
    systemctl(["daemon-reload"]).expect(0);
    systemctl(["enable", "svc-resume.service"]).expect(0);
}

fn purged() {
    sh("dpkg", ["--purge", "svckit"]).expect(0);
    let programs = ["svc-backup", "svc-ctl", "svc-repair", "svc-lock"].map(|name| format!("/usr/bin/{name}"));
    for path in programs.into_iter().chain(["/usr/lib/systemd/system/svc-resume.service".to_owned()]) {
        assert!(!Path::new(&path).exists(), "{path}");
    }
    let left = sh("find", ["/etc/systemd", "/run/systemd/system", "-name", "*svc-*"]).stdout;
    assert_eq!(left, "");
    assert!(Path::new("/etc/svckit/svckit.toml").exists(), "what its owner wrote stays");
}
