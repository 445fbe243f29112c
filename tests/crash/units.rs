//! The same under a real systemd, in a test machine: the steps are messages on the bus, drop-ins and holds as well.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use svckit_testbed::command::{ended, ours, picture, program, run, sh, svc_backup};
use svckit_testbed::leftovers::leftovers;
use svckit_testbed::unit::{QUICK, Recipe, Unit, property_of, reload, write_unit};

use crate::engine::{Fault, Fixture, Interrupted, Program, Tally, control, sweep};
use crate::plain::data::{self, InPlace};
use crate::plain::fixture::Guard;
use crate::plain::store::{self, Backups};
use crate::plain::template::{BACKUPS, TARGET, TEMPLATE, backups};

const GUARD_MAX: Duration = Duration::from_secs(60);
/// The drop-in that all guards get: what is started in their place does nothing until it is killed.
const DEAD_GUARD: &str = "/run/systemd/system/svckit-guard-.service.d/dead.conf";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    ColdBackup,
    Restore,
    Naive,
}

struct Guarded {
    unit: Unit,
    work: Work,
    guard: Guard,
    pid: i32,
    store: Backups,
}

impl Guarded {
    fn new(work: Work, guard: Guard) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("swept-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let unit = Recipe::new().args("--pause 2").install(&name);
        TEMPLATE.copy_store_to(&unit.directory.join("store"));
        TEMPLATE.copy_database_to(&unit.databases[0]);
        unit.systemctl("start").expect(0);
        unit.record.wait_for_commits(2, QUICK);
        let (pid, store) = (unit.main_pid(), backups(&unit.directory.join("store")));
        Self { unit, work, guard, pid, store }
    }

    /// The guards that still do something.
    fn guards() -> Vec<i32> {
        let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
        let is_guard = |pid: &i32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).nth(1) == Some(b"guard")
        };
        pids.filter(is_guard).collect()
    }

    fn recover(&self) -> Result<Option<&'static str>, String> {
        let mut by_hand = self.guard == Guard::Killed;
        let mut remark = None;
        if by_hand {
            // The stand-ins are killed: now nobody guards.
            sh("systemctl", ["kill", "--signal=KILL", "svckit-guard-*.service"]);
        } else {
            let until = Instant::now() + GUARD_MAX;
            // A guard that is just being executed is not seen yet: its unit is.
            while let Some(guard) = Self::guards().first() {
                if !ended(*guard, until.saturating_duration_since(Instant::now())) {
                    return Err(format!("the guard {guard} is still at it after {GUARD_MAX:?}:\n{}", picture()));
                }
            }
            let left = self.left();
            if !left.is_empty() {
                if !is_only_staging(&left) && self.unit.record.events().iter().any(|event| event.what == "signal") {
                    return Err(format!("the guard left {left:?}"));
                }
                by_hand = true;
                remark = Some("left a copy, or what touched no service; resume cleared it");
            }
        }
        if by_hand {
            let outcome = run(ours("svc-ctl", ["resume"]), GUARD_MAX);
            if outcome.status != 0 {
                return Err(format!("svc-ctl resume ends with {}: {}", outcome.status, outcome.stderr));
            }
        }
        Ok(remark)
    }

    /// What is on the unit. An entry that never was one, cut off while it was first written, says nothing of it.
    fn left(&self) -> Vec<String> {
        let all = leftovers(&self.unit.name).into_iter();
        all.filter(|text| !text.starts_with("/var/lib/svckit/journal/.")).collect()
    }

    fn check_unit(&self) -> Result<(), String> {
        let name = &self.unit.name;
        let state = property_of(name, "ActiveState");
        if state != "active" {
            return Err(format!("the service is not up as before: {state}"));
        }
        self.unit.record.wait_for_commits(2, QUICK);
        let left = self.left();
        if !left.is_empty() {
            return Err(format!("left on the unit: {left:?}"));
        }
        if !property_of(name, "DropInPaths").is_empty() || property_of(name, "NeedDaemonReload") != "no" {
            return Err("the manager still knows of a drop-in that is gone".to_owned());
        }
        Ok(())
    }
}

impl Fixture for Guarded {
    // One manager and one journal for all: the resume of one point would meet another's.
    const ALONE: bool = true;
    // Most calls are messages on the bus, and a point takes a second.
    const SAME_PLACE_MAX: u32 = 2;
    const POINTS_MAX: usize = 30;
    const OWN_ROOTS: &[&str] = &["/var/lib/svckit", "/run/svckit", "/run/systemd/system", "/etc/systemd/system"];

    fn root(&self) -> &Path {
        &self.unit.directory
    }

    fn program(&self) -> Program {
        let (store, database) = (self.unit.directory.join("store"), self.unit.databases[0].clone());
        let words = |text: &str| text.split(' ').map(PathBuf::from).collect::<Vec<_>>();
        let newest = &TEMPLATE.ids[BACKUPS - 1];
        let mut args = match self.work {
            Work::ColdBackup => {
                let mut args = words(&format!("backup --json --name {TARGET} --mode cold --to"));
                args.extend([store, "--sqlite".into(), database]);
                args
            }
            Work::Restore => {
                let mut args = words("restore --json --from");
                args.extend([store, TARGET.into(), newest.into(), "--to".into(), database]);
                args
            }
            Work::Naive => {
                let into = store.join(TARGET).join("20991231T000000Z-ffffff");
                return crate::actors::actor(
                    "naive-unit-backup",
                    [PathBuf::from(&self.unit.name), TEMPLATE.backup(newest), into],
                );
            }
        };
        args.extend(["--unit".into(), self.unit.name.clone().into()]);
        Program::new(&program("svc-backup"), args)
    }

    fn check(&mut self, end: &Interrupted, _fault: Fault) -> Result<Option<&'static str>, String> {
        let remark = self.recover()?;
        self.check_unit()?;
        store::check(&self.unit.directory.join("store"), &self.store, &[], &|args| svc_backup(args))?;
        let in_place = data::check(&self.unit.databases[0], &self.unit.record, self.pid)?;
        match (self.work, in_place) {
            (Work::ColdBackup | Work::Naive, InPlace::New) => Err("the database is that of an earlier time".to_owned()),
            (Work::Restore, InPlace::Old) if end.outcome.status == 0 => {
                Err("it reports success, and the old database is in place".to_owned())
            }
            _ => Ok(remark),
        }
    }

    fn tear_down(&mut self) {
        // Whatever state it is in: nothing of this point may meet the next one.
        sh("systemctl", ["kill", "--signal=KILL", "svckit-guard-*.service"]);
        run(ours("svc-ctl", ["resume"]), GUARD_MAX);
        sh("systemctl", ["stop", &self.unit.name]);
        for gone in [format!("/etc/systemd/system/{}", self.unit.name), DEAD_GUARD.to_owned()] {
            let _never_made = std::fs::remove_file(gone);
        }
    }
}

/// A copy beside the database that nobody uses takes space until the next resume or operation: no guard is needed.
fn is_only_staging(left: &[String]) -> bool {
    left.iter().all(|text| {
        let entry = text.split_once(": ").and_then(|(_, json)| serde_json::from_str::<serde_json::Value>(json).ok());
        entry.is_some_and(|entry| entry["services"] == serde_json::json!([]) && !entry["staging"].is_null())
    })
}

/// Once only: what fails for ever by strace also fails on the runtime's own descriptors, which no disk does.
const ERRORS: [Fault; 2] = [Fault::Error("ENOSPC"), Fault::Error("EIO")];

fn swept(name: &str, work: Work, guard: Guard, faults: &[Fault]) -> Tally {
    let prepare = move || {
        if guard == Guard::Killed {
            std::fs::create_dir_all(Path::new(DEAD_GUARD).parent().unwrap()).unwrap();
            std::fs::write(DEAD_GUARD, "[Service]\nExecStart=\nExecStart=/bin/sleep 3600\n").unwrap();
        }
        // Its reload covers the drop-in.
        Guarded::new(work, guard)
    };
    sweep(name, faults, prepare)
}

/// What a restore of a unit's database relies on after a power cut.
fn enable_resume_at_boot() {
    let template = std::fs::read_to_string("bins/units/svc-resume.service").unwrap();
    let bin = program("svc-ctl").parent().unwrap().to_string_lossy().into_owned();
    write_unit("svc-resume.service", &template.replace("@BINDIR@", &bin));
    sh("systemctl", ["enable", "svc-resume.service"]).expect(0);
    reload();
}

pub(crate) fn cold_backup() {
    let alive = swept("unit, cold backup, killed", Work::ColdBackup, Guard::Alive, &[Fault::Kill]);
    let killed = swept("unit, cold backup, killed with its guard", Work::ColdBackup, Guard::Killed, &[Fault::Kill]);
    Tally::assert_hold(&[alive, killed]);
}

pub(crate) fn restore() {
    enable_resume_at_boot();
    let alive = swept("unit, restore, killed", Work::Restore, Guard::Alive, &[Fault::Kill]);
    let killed = swept("unit, restore, killed with its guard", Work::Restore, Guard::Killed, &[Fault::Kill]);
    Tally::assert_hold(&[alive, killed]);
}

pub(crate) fn failing_disks() {
    enable_resume_at_boot();
    let backup = swept("unit, cold backup, failed", Work::ColdBackup, Guard::Alive, &ERRORS);
    let restore = swept("unit, restore, failed", Work::Restore, Guard::Alive, &ERRORS);
    Tally::assert_hold(&[backup, restore]);
}

pub(crate) fn naive_backup() {
    let build = || Guarded::new(Work::Naive, Guard::Alive);
    control("unit, naive backup", &[Fault::Kill], build, &["the service is not up as before"]);
}
