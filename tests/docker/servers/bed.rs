//! A server in a container, with data, and the tool against it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use svckit_testbed::command::{Outcome, run};

use crate::engine::{Engine, QUICK};
use crate::shared;

/// A password with everything that a shell, an option file or SQL could take for something else.
pub(super) const PASSWORD: &str = "Kan\"arie'n\\x #$(id)-7391";

/// A server that runs.
pub(super) struct Server {
    pub(super) engine: &'static Engine,
    pub(super) name: String,
    client: &'static [&'static str],
}

/// Images are made once.
static IMAGES: Mutex<Vec<String>> = Mutex::new(Vec::new());

pub(super) fn image(kind: &str) -> String {
    let image = format!("svckit-{kind}:1");
    let mut made = IMAGES.lock().unwrap_or_else(PoisonError::into_inner);
    if !made.contains(&image) {
        let engine = shared();
        let archive = engine.path(&format!("{kind}.tar"));
        let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("server-image");
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$1\" >\"$2\""]).arg(script).arg(kind).arg(&archive);
        run(command, Duration::from_secs(120)).expect(0);
        let user = if kind == "postgres" { "USER postgres" } else { "USER root" };
        let path = "ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let archive_path = archive.to_str().unwrap();
        let changes = ["-c", "ENTRYPOINT [\"/entry\"]", "-c", user, "-c", path];
        let [a, b, c, d, e, f] = changes;
        engine.docker(["import", a, b, c, d, e, f, archive_path, &image]).expect(0);
        std::fs::remove_file(archive).unwrap();
        made.push(image.clone());
    }
    image
}

impl Server {
    /// A MariaDB server with two databases, users, and what else there can be.
    pub(super) fn mysql(name: &str) -> Self {
        let server = Self::mysql_empty(name, PASSWORD);
        server.sql(include_str!("shop.sql"));
        server
    }

    pub(super) fn mysql_empty(name: &str, password: &str) -> Self {
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
    pub(super) fn mysql_with_a_label(name: &str) -> Self {
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

    pub(super) fn start(
        kind: &str,
        name: &str,
        variable: &str,
        args: &[&str],
        client: &'static [&'static str],
    ) -> Self {
        Self::start_with(kind, name, &[variable], args, client)
    }

    pub(super) fn start_with(
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
    pub(super) fn wait_for_log(&self, text: &str) {
        // No pipe: it would wait for the end of what follows the log too.
        let script = "grep -q -m1 -F -e \"$1\" < <(timeout 60 docker logs -f \"$0\" 2>&1)";
        let mut command = Command::new("bash");
        command.args(["-c", script, &self.name, text]).env("DOCKER_HOST", self.engine.host());
        let outcome = run(command, Duration::from_secs(90));
        let log = self.engine.docker(["logs", "--tail", "20", &self.name]);
        assert_eq!(outcome.status, 0, "it never said {text:?}: {log:?}");
    }

    /// The client as a command, with `options` for its container.
    pub(super) fn client(&self, docker_options: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("exec").args(docker_options).arg(&self.name).args(self.client);
        command.env("DOCKER_HOST", self.engine.host());
        command
    }

    /// Runs statements; what they answer.
    #[track_caller]
    pub(super) fn sql(&self, text: &str) -> String {
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
    pub(super) fn svc_backup(&self, args: &[&str]) -> Outcome {
        run(self.engine.tool("svc-backup", args), Duration::from_secs(180))
    }

    /// A store of its own.
    pub(super) fn store(&self) -> PathBuf {
        self.engine.path(&format!("{}.store", self.name))
    }

    /// Dumps it.
    #[track_caller]
    pub(super) fn back_up(&self, engine: &str, more: &[&str]) -> Outcome {
        let store = self.store();
        let mut args = vec!["backup", "--engine", engine, "--container", &self.name, "--to", store.to_str().unwrap()];
        args.extend(more);
        self.svc_backup(&args)
    }

    /// The names in the store's directory of the target; none where there is none.
    pub(super) fn stored(&self) -> Vec<String> {
        let listing = std::fs::read_dir(self.store().join(&self.name));
        let mut names: Vec<String> =
            listing.into_iter().flatten().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(super) fn remove(&self) {
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
pub(super) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// No scratch container is left.
#[track_caller]
pub(super) fn assert_no_scratch(engine: &Engine) {
    let left = engine.docker(["ps", "-aq", "--filter", "label=svckit.scratch"]).expect(0).stdout;
    assert_eq!(left, "", "scratch containers are left");
}

/// Statements that run one after the other until this is dropped.
pub(super) struct Writer {
    child: std::process::Child,
    end: std::sync::Arc<std::sync::atomic::AtomicBool>,
    feeder: Option<std::thread::JoinHandle<u64>>,
}

impl Writer {
    /// `statement` is given a number, and is one transaction.
    pub(super) fn start(server: &Server, statement: fn(u64) -> String) -> Self {
        use std::io::Write;
        let mut command = server.client(&["-i", "-e", &format!("MYSQL_PWD={PASSWORD}")]);
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
    pub(super) fn finish(mut self) -> u64 {
        self.end.store(true, std::sync::atomic::Ordering::SeqCst);
        let count = self.feeder.take().unwrap().join().unwrap();
        self.child.wait().unwrap();
        count
    }
}

/// Waits until `look` is true, looking again at each change in `directory`, at least every second.
#[track_caller]
pub(super) fn wait_until(directory: &std::path::Path, what: &str, mut look: impl FnMut() -> bool) {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
    let _absent = inotify.add_watch(directory, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MODIFY);
    let until = Instant::now() + QUICK;
    while !look() {
        assert!(Instant::now() < until, "{what} did not happen");
        let soon = until.min(Instant::now() + Duration::from_millis(200));
        svckit::world::wait::readable(&[std::os::fd::AsFd::as_fd(&inotify)], soon).unwrap();
        while inotify.read_events().is_ok_and(|some| !some.is_empty()) {}
    }
}
