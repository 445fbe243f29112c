//! A server in a container, with data, and the tool against it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use svckit_testbed::command::{Outcome, run};

use crate::shared;
use svckit_testbed::docker::{Engine, QUICK};

/// A password with everything that a shell, an option file or SQL could take for something else.
pub(crate) const PASSWORD: &str = "Kan\"arie'n\\x #$(id)-7391";

/// A server that runs.
pub(crate) struct Server {
    pub(crate) engine: &'static Engine,
    pub(crate) name: String,
    client: &'static [&'static str],
}

pub(crate) fn image(kind: &str) -> String {
    shared().server_image(kind)
}

impl Server {
    /// A MariaDB server with two databases, users, and what else there can be.
    pub(crate) fn mysql(name: &str) -> Self {
        let server = Self::mysql_empty(name, PASSWORD);
        server.sql(include_str!("shop.sql"));
        server
    }

    pub(crate) fn mysql_empty(name: &str, password: &str) -> Self {
        let variable = format!("MARIADB_ROOT_PASSWORD={password}");
        let server = Self::start(
            "mysql",
            name,
            &variable,
            &["--log-bin", "--innodb-flush-log-at-trx-commit=0"],
            &["mariadb", "--user=root", "--batch"],
        );
        // The temporary server of its installation says the same before.
        server.wait_for_log("port: 3306");
        server
    }

    /// One of an image that is known by its name, with one label that says no more than that it is to be backed up.
    pub(crate) fn mysql_with_a_label(name: &str) -> Self {
        let engine = shared();
        engine.docker(["tag", &image("mysql"), "mariadb:11"]).expect(0);
        let variable = format!("MARIADB_ROOT_PASSWORD={PASSWORD}");
        let label = "--label=svckit.backup=yes";
        engine.docker(["run", "-d", "--network=none", "--name", name, label, "-e", &variable, "mariadb:11"]).expect(0);
        let server = Self { engine, name: name.to_owned(), client: &["mariadb", "--user=root", "--batch"] };
        server.wait_for_log("port: 3306");
        server.sql(include_str!("shop.sql"));
        server
    }

    pub(crate) fn start(
        kind: &str,
        name: &str,
        variable: &str,
        args: &[&str],
        client: &'static [&'static str],
    ) -> Self {
        Self::start_with(kind, name, &[variable], args, client)
    }

    pub(crate) fn start_with(
        kind: &str,
        name: &str,
        variables: &[&str],
        args: &[&str],
        client: &'static [&'static str],
    ) -> Self {
        let engine = shared();
        let mut words = vec!["run", "-d", "--network=none", "--name", name];
        words.extend(variables.iter().flat_map(|variable| ["-e", variable]));
        let image = image(kind);
        words.push(&image);
        words.extend(args);
        let mut command = Command::new("docker");
        command.args(words).env("DOCKER_HOST", engine.host());
        run(command, Duration::from_secs(60)).expect(0);
        Self { engine, name: name.to_owned(), client }
    }

    /// Waits until its log says so.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) {
        self.engine.wait_for_log(&self.name, text);
    }

    /// The client as a command, with `options` for its container.
    pub(crate) fn client(&self, docker_options: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("exec").args(docker_options).arg(&self.name).args(self.client);
        command.env("DOCKER_HOST", self.engine.host());
        command
    }

    /// Runs statements; what they answer.
    #[track_caller]
    pub(crate) fn sql(&self, text: &str) -> String {
        let input = self.engine.path(&format!("{}.{}.sql", self.name, unique()));
        std::fs::write(&input, text).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec docker exec -i \"$@\" <\"$0\""]).arg(&input);
        shell.args(["-e", &format!("MYSQL_PWD={PASSWORD}"), &self.name]).args(self.client);
        shell.env("DOCKER_HOST", self.engine.host());
        let outcome = run(shell, Duration::from_secs(120)).expect(0);
        std::fs::remove_file(input).unwrap();
        outcome.stdout
    }

    /// `svc-backup` against its engine; three minutes at most.
    #[track_caller]
    pub(crate) fn svc_backup(&self, args: &[&str]) -> Outcome {
        run(self.engine.tool("svc-backup", args), Duration::from_secs(180))
    }

    /// A store of its own.
    pub(crate) fn store(&self) -> PathBuf {
        self.engine.path(&format!("{}.store", self.name))
    }

    /// Dumps it.
    #[track_caller]
    pub(crate) fn back_up(&self, engine: &str, more: &[&str]) -> Outcome {
        let store = self.store();
        let mut args = vec!["backup", "--engine", engine, "--container", &self.name, "--to", store.to_str().unwrap()];
        args.extend(more);
        self.svc_backup(&args)
    }

    /// The names in the store's directory of the target; none where there is none.
    pub(crate) fn stored(&self) -> Vec<String> {
        let listing = std::fs::read_dir(self.store().join(&self.name));
        let mut names: Vec<String> =
            listing.into_iter().flatten().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn remove(&self) {
        self.engine.docker(["rm", "-f", "-v", &self.name]);
        drop(std::fs::remove_dir_all(self.store()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.remove();
        }
    }
}

fn unique() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// Stories run two at a time. Those with restore tests look for what restore tests leave: one of them at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// No scratch container is left.
#[track_caller]
pub(crate) fn assert_no_scratch(engine: &Engine) {
    let left = engine.docker(["ps", "-aq", "--filter", "label=svckit.scratch"]).expect(0).stdout;
    assert_eq!(left, "", "scratch containers are left");
}

/// Statements that run one after the other until this is dropped.
pub(crate) struct Writer {
    child: std::process::Child,
    end: std::sync::Arc<std::sync::atomic::AtomicBool>,
    feeder: Option<std::thread::JoinHandle<u64>>,
}

impl Writer {
    /// `statement` is given a number, and is one transaction.
    pub(crate) fn start(server: &Server, statement: fn(u64) -> String) -> Self {
        Self::of(server.client(&["-i", "-e", &format!("MYSQL_PWD={PASSWORD}")]), statement)
    }

    /// The same, of another program that reads a line for each.
    pub(crate) fn of(mut command: Command, statement: fn(u64) -> String) -> Self {
        use std::io::Write;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let end = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let ends = end.clone();
        let feeder = std::thread::spawn(move || {
            let mut number = 0;
            // A full pipe paces it by the server.
            while !ends.load(std::sync::atomic::Ordering::SeqCst) && writeln!(input, "{}", statement(number)).is_ok() {
                number += 1;
            }
            number
        });
        Self { child, end, feeder: Some(feeder) }
    }

    /// How many there were.
    pub(crate) fn finish(mut self) -> u64 {
        self.end.store(true, std::sync::atomic::Ordering::SeqCst);
        let count = self.feeder.take().unwrap().join().unwrap();
        self.child.wait().unwrap();
        count
    }
}

/// Waits until `look` is true, looking again at each change in `directory`, at least every second.
#[track_caller]
pub(crate) fn wait_until(directory: &std::path::Path, what: &str, look: impl FnMut() -> bool) {
    wait_longer_until(directory, what, QUICK, look);
}

/// The same, of what may take longer.
#[track_caller]
pub(crate) fn wait_longer_until(
    directory: &std::path::Path,
    what: &str,
    wait_max: Duration,
    mut look: impl FnMut() -> bool,
) {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
    let _absent = inotify.add_watch(directory, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MODIFY);
    let until = Instant::now() + wait_max;
    while !look() {
        assert!(Instant::now() < until, "{what} did not happen");
        let soon = until.min(Instant::now() + Duration::from_millis(200));
        svckit::world::wait::readable(&[std::os::fd::AsFd::as_fd(&inotify)], soon).unwrap();
        while inotify.read_events().is_ok_and(|some| !some.is_empty()) {}
    }
}
