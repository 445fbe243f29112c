//! A container with a database server, dumped by its own programs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use svckit_testbed::command::{Outcome, program, run};
use svckit_testbed::docker::Engine;
use tempfile::TempDir;

use crate::actors::actor;
use crate::engine::{Fault, Fixture, Interrupted, Program};
use crate::plain::scratch;
use crate::plain::store::{self, Backups};
use crate::plain::template::{TARGET, backups, copy_tree};

const NAME: &str = "served";
/// A dump, or the check of one in a scratch container.
const DUMP_MAX: Duration = Duration::from_secs(120);
const PASSWORD: &str = "Kan:arie-7395";

/// A server that runs, and a store with a dump of it.
pub(super) struct Server {
    engine: Engine,
    kind: &'static str,
    /// What dumps it, as `docker top` shows it.
    dumper: &'static str,
    directory: TempDir,
}

impl Server {
    pub(super) fn redis() -> Self {
        let server = Self::start("redis", "redis-cli", &["REDIS_PASSWORD"], "eady to accept connections");
        let script =
            "for n in 1 2 3 4 5 6 7 8 9; do echo SET key:$n value; done | redis-cli --no-auth-warning -a \"$0\"";
        server.engine.docker(["exec", NAME, "sh", "-c", script, PASSWORD]).expect(0);
        server.first_dump()
    }

    /// One whose programs need a file with the password.
    pub(super) fn postgres() -> Self {
        let variables = ["POSTGRES_PASSWORD", "LOCAL_AUTH"];
        let server = Self::start("postgres", "pg_dump", &variables, "ready to accept connections");
        let sql = "CREATE TABLE notes AS SELECT n, 'note ' || n AS text FROM generate_series(1, 1000) n";
        let password = format!("PGPASSWORD={PASSWORD}");
        server.engine.docker(["exec", "-e", &password, NAME, "psql", "-U", "postgres", "-c", sql]).expect(0);
        server.first_dump()
    }

    fn start(kind: &'static str, dumper: &'static str, variables: &[&str], ready: &str) -> Self {
        let engine = Engine::start();
        let image = engine.server_image(kind);
        let mut command = std::process::Command::new("docker");
        command.args(["run", "-d", "--network=none", "--name", NAME]).env("DOCKER_HOST", engine.host());
        for variable in variables {
            let value = if *variable == "LOCAL_AUTH" { "scram-sha-256" } else { PASSWORD };
            command.args(["-e", &format!("{variable}={value}")]);
        }
        command.arg(image);
        run(command, DUMP_MAX).expect(0);
        engine.wait_for_log(NAME, ready);
        Self { engine, kind, dumper, directory: scratch() }
    }

    fn first_dump(self) -> Self {
        let root = self.directory.path();
        self.svc_backup(root, &self.words(root)).expect(0);
        self
    }

    fn words(&self, root: &Path) -> Vec<String> {
        let words = format!("backup --json --engine {} --container {NAME} --name {TARGET} --to", self.kind);
        let words = words.split(' ').map(str::to_owned);
        words.chain([root.join("store").display().to_string()]).collect()
    }

    fn svc_backup<S: AsRef<str>>(&self, root: &Path, args: &[S]) -> Outcome {
        let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
        let mut command = self.engine.tool("svc-backup", &args);
        command.env("SVCKIT_STATE_DIR", root.join("state"));
        run(command, DUMP_MAX)
    }
}

pub(super) struct Dumped<'s> {
    server: &'s Server,
    is_naive: bool,
    directory: TempDir,
    store: Backups,
}

impl<'s> Dumped<'s> {
    pub(super) fn new(server: &'s Server, is_naive: bool) -> Self {
        let directory = scratch();
        let store = directory.path().join("store");
        copy_tree(&server.directory.path().join("store"), &store);
        Self { server, is_naive, directory, store: backups(&store) }
    }

    /// What is left in the container, on the engine, or hidden in the store.
    fn leftovers(&self) -> Result<(), String> {
        let engine = &self.server.engine;
        let shm = engine.docker(["exec", NAME, "ls", "-A", "/dev/shm"]).expect(0).stdout;
        if shm.contains("svckit") {
            return Err(format!("a secret is left in the container: {shm}"));
        }
        let scratches = engine.docker(["ps", "-aq", "--filter", "label=svckit.scratch"]).expect(0).stdout;
        if !scratches.is_empty() {
            return Err(format!("scratch containers are left: {scratches}"));
        }
        let top = engine.docker(["top", NAME, "-eo", "pid,args"]).expect(0).stdout;
        if top.lines().any(|line| line.contains(self.server.dumper)) {
            return Err(format!("a dump still runs in the container: {top}"));
        }
        let of_target = std::fs::read_dir(self.root().join("store").join(TARGET)).unwrap().flatten();
        let hidden = of_target.filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
        let hidden: Vec<PathBuf> = hidden.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        if hidden.is_empty() { Ok(()) } else { Err(format!("half a backup is left: {hidden:?}")) }
    }
}

impl Fixture for Dumped<'_> {
    // One server for all: what is left in it by one point would be another's.
    const ALONE: bool = true;
    const SAME_PLACE_MAX: u32 = 2;
    const POINTS_MAX: usize = 8;

    fn root(&self) -> &Path {
        self.directory.path()
    }

    fn program(&self) -> Program {
        let host = self.server.engine.host();
        if self.is_naive {
            let into = self.root().join("store").join(TARGET).join("20991231T000000Z-ffffff");
            return actor("naive-dump", [NAME.into(), into.into_os_string()]).env("DOCKER_HOST", host);
        }
        let words = self.server.words(self.root());
        let program = Program::new(&program("svc-backup"), words).env("DOCKER_HOST", host);
        program.env("SVCKIT_STATE_DIR", self.root().join("state"))
    }

    fn check(&mut self, end: &Interrupted, _fault: Fault) -> Result<Option<&'static str>, String> {
        let (root, store) = (self.root().to_owned(), self.root().join("store"));
        let tool = |args: &[&str]| self.server.svc_backup(&root, args);
        let partial = store::check(&store, &self.store, &[], &tool);
        if self.is_naive {
            // A next run of it would not look either.
            return partial
                .map_err(|why| format!("{why}; {:?}", self.leftovers()))
                .and(self.leftovers())
                .map(|()| None);
        }
        let new = partial?;
        if end.outcome.status == 0 && new.len() != 1 {
            return Err(format!("it reports success, and there are {} new backups", new.len()));
        }
        let next = self.server.svc_backup(&root, &self.server.words(&root));
        if next.status != 0 {
            return Err(format!("the next dump ends with {}: {}", next.status, next.stderr));
        }
        self.leftovers().map(|()| None)
    }

    fn tear_down(&mut self) {}
}
