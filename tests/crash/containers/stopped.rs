//! A container with a SQLite writer, stopped for a cold backup or a restore.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use svckit_testbed::command::{program, svc_backup};
use svckit_testbed::docker::Engine;
use tempfile::TempDir;

use crate::actors::{GUARD_KILLED, actor};
use crate::engine::{Fault, Fixture, Interrupted, Program};
use crate::plain::data::{self, InPlace};
use crate::plain::fixture::Guard;
use crate::plain::service::{self, QUICK};
use crate::plain::store::{self, Backups};
use crate::plain::template::{BACKUPS, TARGET, TEMPLATE, backups};
use crate::plain::{aftermath, scratch};

/// It is the engine that starts it again, and the policy is what a hold takes away.
const POLICY: &str = "unless-stopped";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    ColdBackup,
    Restore,
    /// `docker stop; cp; docker start` into the store.
    Naive,
}

pub(super) struct Stopped<'e> {
    engine: &'e Engine,
    directory: TempDir,
    name: String,
    work: Work,
    guard: Guard,
    pid: i32,
    store: Backups,
}

impl<'e> Stopped<'e> {
    pub(super) fn new(engine: &'e Engine, work: Work, guard: Guard) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (directory, name) = (scratch(), format!("swept-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let root = directory.path();
        TEMPLATE.copy_to(root);
        std::fs::write(service::directory(root).join(service::ARGUMENTS), "--on-term exit").unwrap();
        // With the pids of this machine, rows have an origin that no other run of it has.
        let options = [&format!("--restart={POLICY}"), "--pid=host"];
        engine.run(&name, &options, root, &service::command(root));
        service::record(root).wait_for_commits(2, QUICK);
        let (pid, store) = (service::record(root).starts()[0], backups(&root.join("store")));
        Self { engine, directory, name, work, guard, pid, store }
    }

    fn check_container(&self) -> Result<(), String> {
        let format = "{{.State.Status}} {{.HostConfig.RestartPolicy.Name}}";
        let found = self.engine.docker(["inspect", &format!("--format={format}"), &self.name]).stdout;
        let running = service::processes(self.root());
        if found.trim() != format!("running {POLICY}") || running.len() != 1 {
            return Err(format!("the container is not up as before: {}, processes {running:?}", found.trim()));
        }
        service::record(self.root()).wait_for_commits(2, QUICK);
        Ok(())
    }
}

impl Fixture for Stopped<'_> {
    // Most calls are messages to the engine, and a point takes seconds.
    const SAME_PLACE_MAX: u32 = 2;
    const POINTS_MAX: usize = 8;

    fn root(&self) -> &Path {
        self.directory.path()
    }

    fn program(&self) -> Program {
        let (root, newest) = (self.root(), &TEMPLATE.ids[BACKUPS - 1]);
        let (store, database) = (root.join("store"), service::database(root));
        let words = |text: &str| text.split(' ').map(PathBuf::from).collect::<Vec<_>>();
        let mut args = match self.work {
            Work::ColdBackup => words(&format!("backup --json --name {TARGET} --mode cold --to")),
            Work::Restore => words("restore --json --from"),
            Work::Naive => {
                let into = store.join(TARGET).join("20991231T000000Z-ffffff");
                let program =
                    actor("naive-container-backup", [self.name.clone().into(), TEMPLATE.backup(newest), into]);
                return program.env("DOCKER_HOST", self.engine.host());
            }
        };
        args.push(store);
        match self.work {
            Work::Restore => args.extend([TARGET.into(), newest.into(), "--to".into(), database]),
            _ => args.extend(["--sqlite".into(), database]),
        }
        args.extend(["--container".into(), PathBuf::from(&self.name)]);
        let program = Program::new(&program("svc-backup"), args).env("DOCKER_HOST", self.engine.host());
        let program = program.env("SVCKIT_STATE_DIR", root.join("state"));
        match self.guard {
            Guard::Alive => program,
            Guard::Killed => program.env("PATH", TEMPLATE.killing_path()).env(GUARD_KILLED, root.join("guard-killed")),
        }
    }

    fn check(&mut self, end: &Interrupted, _fault: Fault) -> Result<Option<&'static str>, String> {
        let root = self.directory.path();
        aftermath::await_helpers(root)?;
        let remark = aftermath::recover(root, self.guard)?;
        let container = self.check_container();
        store::check(&root.join("store"), &self.store, &[], &|args| svc_backup(args))?;
        container?;
        aftermath::check_state(root)?;
        match (self.work, data::check(&service::database(root), &service::record(root), self.pid)?) {
            (Work::ColdBackup | Work::Naive, InPlace::New) => Err("the database is that of an earlier time".to_owned()),
            (Work::Restore, InPlace::Old) if end.outcome.status == 0 => {
                Err("it reports success, and the old database is in place".to_owned())
            }
            _ => Ok(remark),
        }
    }

    fn tear_down(&mut self) {
        self.engine.docker(["rm", "-f", &self.name]);
        for pid in service::helpers(self.root()) {
            svckit_testbed::command::signal(pid, rustix::process::Signal::KILL);
        }
    }
}
