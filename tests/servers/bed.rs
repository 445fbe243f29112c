//! Servers of this host, as private processes on a socket and on loopback, and the tool against them.

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use svckit_testbed::command::{Outcome, ours, run, sh};

/// A password with everything that a shell, an option file or SQL could take for something else.
pub(crate) const PASSWORD: &str = "Kan\"arie:n\\x #$(id)-7395";
/// What an escaped form of it would still have.
pub(crate) const CORE: &str = "-7395";
/// What is certain to happen happens within this time.
pub(crate) const SOON: Duration = Duration::from_secs(60);

const POSTGRES: &str = "/usr/lib/postgresql/15/bin";

/// What the stories need and this host lacks.
pub(crate) fn missing() -> Option<&'static str> {
    let has = |program: &str| Path::new(program).exists() || !sh("which", [program]).stdout.is_empty();
    let wanted = [
        ("/usr/lib/postgresql/15/bin/postgres", "postgresql-15"),
        ("mariadbd", "mariadb-server-core"),
        ("mariadb-dump", "mariadb-client"),
        ("redis-server", "redis-server"),
    ];
    wanted.into_iter().find(|(program, _)| !has(program)).map(|(_, package)| package)
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Which server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    Mariadb,
    Redis,
}

/// A server that runs, with a directory of its own for it and for the tool.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) dir: tempfile::TempDir,
    port: u16,
    /// PostgreSQL leaves whoever started it.
    child: Option<Child>,
}

impl Server {
    /// A PostgreSQL server that asks everybody for a password, whose first user is `admin`.
    pub(crate) fn postgres() -> Self {
        Self::postgres_with(&["--auth=scram-sha-256", "--username=admin"])
    }

    pub(crate) fn postgres_with(init: &[&str]) -> Self {
        let server = Self::place(Kind::Postgres);
        let (data, password) = (server.path("server/data"), server.path("server/password"));
        secret_file(&password, &format!("{PASSWORD}\n"));
        server.give(&password);
        let mut initdb = server.command(&format!("{POSTGRES}/initdb"));
        initdb.args(["--no-sync", "--encoding=UTF8", "--locale=C"]).args(init);
        initdb.arg(format!("--pwfile={}", password.display())).arg(format!("--pgdata={}", data.display()));
        run(initdb, SOON).expect(0);
        std::fs::remove_file(password).unwrap();
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\nfsync = off\n",
            server.port,
            server.path("server").display()
        );
        let file = data.join("postgresql.auto.conf");
        std::fs::write(file, settings).unwrap();
        let mut start = server.command(&format!("{POSTGRES}/pg_ctl"));
        start.args(["start", "--wait", "--timeout=60", "--silent"]);
        start.arg(format!("--log={}", server.path("server/log").display())).arg(format!("--pgdata={}", data.display()));
        run(start, SOON).expect(0);
        server
    }

    /// A MariaDB server whose root has the password.
    pub(crate) fn mariadb() -> Self {
        let mut server = Self::place(Kind::Mariadb);
        let data = format!("--datadir={}", server.path("server/data").display());
        let mut install = server.command("mariadb-install-db");
        install.args(["--no-defaults", &data, "--auth-root-authentication-method=normal", "--skip-test-db"]);
        run(install, SOON).expect(0);
        let mut daemon = server.command("mariadbd");
        daemon.args(["--no-defaults", &data, "--bind-address=127.0.0.1", "--log-bin"]);
        daemon.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M"]);
        for (option, file) in [("socket", "sock"), ("pid-file", "pid"), ("log-error", "log")] {
            daemon.arg(format!("--{option}={}", server.path(&format!("server/{file}")).display()));
        }
        daemon.arg(format!("--port={}", server.port)).stdout(Stdio::null()).stderr(Stdio::null());
        server.child = Some(daemon.spawn().unwrap());
        let socket = format!("--socket={}", server.path("server/sock").display());
        let wait = ["--no-defaults", &socket, "--user=root", "--wait=60", "--connect-timeout=60", "ping"];
        sh("mariadb-admin", wait).expect(0);
        let quoted = PASSWORD.replace('\\', "\\\\");
        let mut first = Command::new("mariadb");
        first.args(["--no-defaults", &socket, "--user=root", "--execute"]);
        run(arg(first, format!("ALTER USER root@localhost IDENTIFIED BY '{quoted}'")), SOON).expect(0);
        server
    }

    /// A Redis server that asks for the password.
    pub(crate) fn redis() -> Self {
        let mut server = Self::place(Kind::Redis);
        let (conf, socket) = (server.path("server/conf"), server.path("server/sock"));
        let quoted = PASSWORD.replace('\\', "\\\\").replace('"', "\\\"");
        secret_file(
            &conf,
            &format!(
                "port {}\nbind 127.0.0.1\nunixsocket {}\nsave \"\"\nrequirepass \"{quoted}\"\n",
                server.port,
                socket.display()
            ),
        );
        server.give(&conf);
        let mut daemon = server.command("redis-server");
        server.child = Some(daemon.arg(conf).stdout(Stdio::null()).spawn().unwrap());
        until("the server", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        server
    }

    fn place(kind: Kind) -> Self {
        let dir = tempfile::Builder::new().prefix("svckit-server-").tempdir().unwrap();
        // The server's user passes through.
        for directory in ["", "server", "scratch"] {
            let path = dir.path().join(directory);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        // Free at this moment, and nobody else asks for ports here.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { kind, dir, port, child: None };
        server.give(&server.path("server"));
        secret_file(&server.path("password"), &format!("{PASSWORD}\n"));
        server
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As whom the server runs, where we are root.
    fn user(&self) -> Option<(u32, u32)> {
        let name = if self.kind == Kind::Postgres { "postgres" } else { "nobody" };
        let user = nix::unistd::User::from_name(name).unwrap().unwrap();
        is_root().then(|| (user.uid.as_raw(), user.gid.as_raw()))
    }

    fn give(&self, path: &Path) {
        if let Some((user, group)) = self.user() {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path("server"));
        if let Some((user, group)) = self.user() {
            command.uid(user).gid(group);
        }
        command
    }

    /// Its socket, as `--server` names it.
    pub(crate) fn socket(&self) -> String {
        match self.kind {
            Kind::Postgres => format!("unix:{}", self.path("server").display()),
            _ => self.path("server/sock").display().to_string(),
        }
    }

    pub(crate) fn tcp(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn engine(&self) -> &'static str {
        match self.kind {
            Kind::Postgres => "postgres",
            Kind::Mariadb => "mysql",
            Kind::Redis => "redis",
        }
    }

    /// A client that reads statements; the password is in no argument and no environment.
    pub(crate) fn client(&self) -> Command {
        match self.kind {
            Kind::Postgres => {
                let passwords = self.path("pgpass");
                let escaped = PASSWORD.replace('\\', "\\\\").replace(':', "\\:");
                once(&passwords, &format!("*:*:*:*:{escaped}\n"));
                let mut command = Command::new(format!("{POSTGRES}/psql"));
                command.args([
                    "--username=admin",
                    "--dbname=postgres",
                    "--no-psqlrc",
                    "-AtqX",
                    "-v",
                    "ON_ERROR_STOP=1",
                ]);
                command.arg(format!("--host={}", self.path("server").display())).arg(format!("--port={}", self.port));
                command.env("PGPASSFILE", passwords);
                command
            }
            _ => {
                let options = self.path("options");
                let quoted = PASSWORD.replace('\\', "\\\\").replace('"', "\\\"");
                once(&options, &format!("[client]\npassword=\"{quoted}\"\n"));
                let mut command = Command::new("mariadb");
                command.arg(format!("--defaults-file={}", options.display()));
                command.args(["--user=root", "--batch", "--skip-column-names", "--unbuffered"]);
                command.arg(format!("--socket={}", self.path("server/sock").display()));
                command
            }
        }
    }

    /// Runs statements; what they answer.
    #[track_caller]
    pub(crate) fn sql(&self, text: &str) -> String {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let outcome = svckit_testbed::command::start_with_input(self.client(), file).finish(SOON);
        outcome.expect(0).stdout
    }

    /// A client that holds what the statements took until it is dropped.
    pub(crate) fn hold(&self, statements: &str) -> Held {
        let mut child = self.client().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "{statements} SELECT 'held';").unwrap();
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        assert_eq!(line, "held\n");
        Held { child, input: Some(input) }
    }

    /// The tool with state and scratch space of this server's own.
    pub(crate) fn tool(&self, args: &[&str]) -> Command {
        let mut command = ours("svc-backup", args);
        command.env("SVCKIT_STATE_DIR", self.path("state")).env("TMPDIR", self.path("scratch"));
        command.env_remove("DOCKER_HOST").env_remove("XDG_CONFIG_HOME").env("HOME", self.dir.path());
        command
    }

    #[track_caller]
    pub(crate) fn svc_backup(&self, args: &[&str]) -> Outcome {
        run(self.tool(args), Duration::from_secs(180))
    }

    /// Who asks, and where the password is.
    pub(crate) fn login(&self) -> Vec<String> {
        let user: &[&str] = match self.kind {
            Kind::Postgres => &["--user", "admin"],
            Kind::Mariadb => &["--user", "root"],
            Kind::Redis => &[],
        };
        let mut words: Vec<String> = user.iter().map(|word| (*word).to_owned()).collect();
        words.extend(["--password-file".to_owned(), self.path("password").display().to_string()]);
        words
    }

    /// The arguments of a backup of it as `shop`.
    pub(crate) fn backup_args(&self, address: &str, more: &[&str]) -> Vec<String> {
        let store = self.store();
        let mut args = vec!["backup", "--engine", self.engine(), "--server", address, "--name", "shop", "--to", &store];
        args.extend(more);
        args.into_iter().map(str::to_owned).chain(self.login()).collect()
    }

    #[track_caller]
    pub(crate) fn back_up(&self, more: &[&str]) -> Outcome {
        self.svc_backup(&words(&self.backup_args(&self.socket(), more)))
    }

    pub(crate) fn store(&self) -> String {
        self.path("store").display().to_string()
    }

    /// The names in the store's directory of the target; none where there is none.
    pub(crate) fn stored(&self) -> Vec<String> {
        names(&self.path("store/shop"))
    }

    /// So many backups can be seen, and nothing else is left: not in the store, not in memory, not as a process.
    #[track_caller]
    pub(crate) fn assert_only(&self, backups: usize) {
        let stored = self.stored();
        assert_eq!(stored.iter().filter(|name| !name.starts_with('.')).count(), backups, "{stored:?}");
        assert!(!stored.iter().any(|name| name.starts_with(".partial")), "{stored:?}");
        assert_eq!(self.secrets(), Vec::<String>::new());
        assert_eq!(names(&self.path("scratch")), Vec::<String>::new());
    }

    /// Files with secrets that lie in memory now. Only this story's: they have its own password.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let ours = |name: &String| name.starts_with("svckit-secret.");
        let is_held = |name: &String| {
            let owner = std::fs::read_to_string(Path::new("/dev/shm").join(name)).unwrap_or_default();
            owner.contains(CORE)
        };
        names(Path::new("/dev/shm")).into_iter().filter(|name| ours(name) && is_held(name)).collect()
    }

    /// Its main process, as its own file says.
    pub(crate) fn pid(&self) -> i32 {
        match &self.child {
            Some(child) => i32::try_from(child.id()).unwrap(),
            None => {
                let text = std::fs::read_to_string(self.path("server/data/postmaster.pid")).unwrap();
                text.lines().next().unwrap().parse().unwrap()
            }
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("server/log")).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.kind == Kind::Postgres {
            let mut stop = self.command(&format!("{POSTGRES}/pg_ctl"));
            stop.args(["stop", "--mode=immediate", "--silent"]);
            stop.arg(format!("--pgdata={}", self.path("server/data").display()));
            drop(run(stop, SOON));
        }
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A client that holds something.
pub(crate) struct Held {
    child: Child,
    input: Option<ChildStdin>,
}

impl Held {
    /// It lets go.
    pub(crate) fn release(mut self) {
        drop(self.input.take());
        self.child.wait().unwrap();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.child.wait());
    }
}

fn arg(mut command: Command, last: String) -> Command {
    command.arg(last);
    command
}

pub(crate) fn words(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let listing = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = listing.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

pub(crate) fn secret_file(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Somebody else may read it at this moment.
fn once(path: &Path, text: &str) {
    if !path.exists() {
        secret_file(path, text);
    }
}

/// Looks again and again until `look` is true.
#[track_caller]
pub(crate) fn until(what: &str, mut look: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !look() {
        assert!(Instant::now() < end, "{what} did not happen");
        let soon = Instant::now() + Duration::from_millis(50);
        svckit::world::wait::readable(&[], soon).unwrap();
    }
}
