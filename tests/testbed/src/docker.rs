//! A Docker engine of our own, and containers of an image that borrows this machine's programs.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::command::{Outcome, ended, ours, program, run, signal};
use crate::record::Record;
use crate::stories::INSIDE;

/// How long anything that should be quick may take on a machine that is busy with other stories.
pub const QUICK: Duration = Duration::from_secs(30);
const IMAGE: &str = "svckit-testbed:1";

/// A daemon with its data, its socket and svckit's state in a directory of its own.
#[derive(Debug)]
pub struct Engine {
    directory: TempDir,
    daemon: Option<Child>,
    /// The port of 127.0.0.1 on which it listens with TLS, and the name of its certificate; see `certificates`.
    pub tls: Option<(u16, &'static str)>,
    /// Of servers; made once.
    images: Mutex<Vec<String>>,
}

impl Engine {
    /// Starts it, and makes the image.
    #[must_use]
    pub fn start() -> Self {
        // In a test machine databases belong where files have one inode each.
        let base = if std::env::var_os(INSIDE).is_some() { "/srv/testbed" } else { "/var/tmp" };
        let directory = tempfile::Builder::new().prefix("svckit-docker-").tempdir_in(base).unwrap();
        let mut engine = Self { directory, daemon: None, tls: None, images: Mutex::default() };
        if std::env::var_os(INSIDE).is_none() {
            engine.make_certificates();
        }
        engine.start_daemon();
        let image = engine.path("image");
        for name in ["etc", "tmp", "proc", "dev", "sys", "run", "usr"] {
            std::fs::create_dir_all(image.join(name)).unwrap();
        }
        // Where /usr is merged, all else leads there.
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(Path::new("usr").join(name), image.join(name)).unwrap();
        }
        std::fs::write(image.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
        let archive = engine.path("image.tar");
        let mut tar = Command::new("tar");
        run(with(tar.arg("-C").arg(&image).arg("-cf").arg(&archive).arg(".")), QUICK).expect(0);
        engine.docker(["import", archive.to_str().unwrap(), IMAGE]).expect(0);
        engine
    }

    /// Starts the daemon where it does not run, and waits until it answers.
    pub fn start_daemon(&mut self) {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
        inotify.add_watch(self.directory.path(), AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MODIFY).unwrap();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new("dockerd");
        command
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs", "--live-restore"])
            .arg("--data-root")
            .arg(self.path("data"))
            .arg("--exec-root")
            .arg(self.path("exec"))
            .arg("--pidfile")
            .arg(self.path("pid"))
            .arg("-H")
            .arg(self.host())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if let Some((port, name)) = self.tls {
            let file = |name: &str| self.certificate(name).display().to_string();
            command.arg("-H").arg(format!("tcp://127.0.0.1:{port}")).arg("--tlsverify");
            for (option, name) in
                [("cacert", "ca".to_owned()), ("cert", name.to_owned()), ("key", format!("{name}-key"))]
            {
                command.arg(format!("--tls{option}={}", file(&name)));
            }
        }
        self.daemon = Some(command.spawn().unwrap());
        let until = Instant::now() + QUICK;
        while self.docker(["version"]).status != 0 {
            let log = || std::fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(Instant::now() < until, "dockerd does not answer: {}", log());
            // Its log says what it does; a look at least every second, since not all of its progress is told.
            let soon = until.min(Instant::now() + Duration::from_secs(1));
            svckit::world::wait::readable(&[std::os::fd::AsFd::as_fd(&inotify)], soon).unwrap();
            while inotify.read_events().is_ok_and(|some| !some.is_empty()) {}
        }
    }

    fn make_certificates(&mut self) {
        let directory = self.path("certificates");
        std::fs::create_dir(&directory).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../docker/certificates");
        run(with(Command::new(script).arg(&directory)), QUICK).expect(0);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        self.tls = Some((port, "server"));
    }

    /// A file that `certificates` has made.
    #[must_use]
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.path("certificates").join(format!("{name}.pem"))
    }

    /// A path in its directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// As `DOCKER_HOST` says it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.path("sock").display())
    }

    /// Sends a signal to the daemon.
    pub fn signal(&self, which: Signal) {
        assert!(signal(i32::try_from(self.daemon.as_ref().unwrap().id()).unwrap(), which));
    }

    /// As a crash of it: its containers live on.
    pub fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        // Its containerd dies with it: the next one would wait for the pid that it left.
        for file in ["pid", "exec/containerd/containerd.pid"] {
            drop(std::fs::remove_file(self.path(file)));
        }
    }

    /// `docker ARGUMENTS` against this engine.
    #[track_caller]
    pub fn docker<const N: usize>(&self, args: [&str; N]) -> Outcome {
        let mut command = Command::new("docker");
        command.args(args).env("DOCKER_HOST", self.host());
        run(command, Duration::from_secs(60))
    }

    /// One of our programs against this engine, with its state here.
    #[must_use]
    pub fn tool(&self, name: &str, args: &[&str]) -> Command {
        let mut command = ours(name, args);
        command.env("DOCKER_HOST", self.host()).env("SVCKIT_STATE_DIR", self.path("state"));
        command
    }

    /// `svc-ctl`, two minutes at most.
    #[track_caller]
    pub fn svc_ctl(&self, args: &[&str]) -> Outcome {
        run(self.tool("svc-ctl", args), Duration::from_secs(120))
    }

    /// One that was started before.
    #[must_use]
    pub fn container(&self, name: &str) -> Container<'_> {
        let directory = self.path(name);
        let record = Record::at(directory.join("record"));
        Container { engine: self, name: name.to_owned(), record, database: directory.join("data.db") }
    }

    /// Starts a container of the test bed's service and waits for its first rows.
    #[track_caller]
    pub fn service(&self, name: &str, options: &[&str], args: &str) -> Container<'_> {
        let directory = self.path(name);
        std::fs::create_dir(&directory).unwrap();
        let container = self.container(name);
        let mut service = Command::new(program("testbed-service"));
        service.arg("--record").arg(container.record.path()).arg("--database").arg(&container.database);
        service.args(args.split_whitespace());
        self.run(name, options, &directory, &service);
        container.record.wait_for_commits(3, QUICK);
        container
    }

    /// Starts a container of this machine's programs that runs `service`. It is given its own paths: those below
    /// `directory` are the same in it and here.
    #[track_caller]
    pub fn run(&self, name: &str, options: &[&str], directory: &Path, service: &Command) {
        self.make(&["run", "-d"], name, options, directory, service);
    }

    /// The same, not started.
    #[track_caller]
    pub fn create(&self, name: &str, options: &[&str], directory: &Path, service: &Command) {
        self.make(&["create"], name, options, directory, service);
    }

    #[track_caller]
    fn make(&self, words: &[&str], name: &str, options: &[&str], directory: &Path, service: &Command) {
        let own = |path: &Path, mode: &str| format!("{0}:{0}{mode}", path.display());
        let mut command = Command::new("docker");
        command.args(words).args(["--name", name, "--network=none"]).args(options).args(["-v", "/usr:/usr:ro"]);
        let programs = Path::new(service.get_program()).parent().unwrap();
        command.args(["-v", &own(programs, ":ro"), "-v", &own(directory, ""), IMAGE]);
        command.arg(service.get_program()).args(service.get_args()).env("DOCKER_HOST", self.host());
        run(command, QUICK).expect(0);
    }

    /// Waits until the log of a container says so.
    #[track_caller]
    pub fn wait_for_log(&self, name: &str, text: &str) {
        // No pipe: it would wait for the end of what follows the log too.
        let script = "grep -q -m1 -F -e \"$1\" < <(timeout 60 docker logs -f \"$0\" 2>&1)";
        let mut command = Command::new("bash");
        command.args(["-c", script, name, text]).env("DOCKER_HOST", self.host());
        let outcome = run(command, Duration::from_secs(90));
        let log = self.docker(["logs", "--tail", "20", name]);
        assert_eq!(outcome.status, 0, "it never said {text:?}: {log:?}");
    }

    /// The image of a database server that behaves as the well-known one, by `tests/testbed/server-image`.
    #[track_caller]
    pub fn server_image(&self, kind: &str) -> String {
        let image = format!("svckit-{kind}:1");
        let mut made = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if !made.contains(&image) {
            let archive = self.path(&format!("{kind}.tar"));
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("server-image");
            let mut command = Command::new("sh");
            command.args(["-c", "exec \"$0\" \"$1\" >\"$2\""]).arg(script).arg(kind).arg(&archive);
            run(command, Duration::from_secs(120)).expect(0);
            let user = if kind == "postgres" { "USER postgres" } else { "USER root" };
            let path = "ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
            let entry = "ENTRYPOINT [\"/entry\"]";
            self.docker(["import", "-c", entry, "-c", user, "-c", path, archive.to_str().unwrap(), &image]).expect(0);
            std::fs::remove_file(archive).unwrap();
            made.push(image.clone());
        }
        image
    }
}

fn with(command: &mut Command) -> Command {
    std::mem::replace(command, Command::new("true"))
}

impl Engine {
    /// Removes its containers, ends it, and removes its data.
    pub fn end(&self) {
        let containers = self.docker(["ps", "-aq"]).stdout;
        for id in containers.split_whitespace() {
            self.docker(["rm", "-f", id]);
        }
        if let Some(daemon) = &self.daemon {
            let pid = i32::try_from(daemon.id()).unwrap();
            signal(pid, Signal::TERM);
            if !ended(pid, QUICK) {
                signal(pid, Signal::KILL);
                assert!(ended(pid, QUICK), "dockerd does not end");
            }
        }
        // With live-restore the daemon leaves its data mounted on itself.
        let data = self.path("data");
        run(with(Command::new("umount").arg("-l").arg(data)), QUICK);
        drop(std::fs::remove_dir_all(self.directory.path()));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
        if let Some(mut daemon) = self.daemon.take() {
            drop(daemon.wait());
        }
    }
}

/// A container that runs the test bed's service.
#[derive(Debug)]
pub struct Container<'a> {
    engine: &'a Engine,
    /// Its name.
    pub name: String,
    /// What its service did.
    pub record: Record,
    /// Its service's database.
    pub database: PathBuf,
}

impl Container<'_> {
    /// A field of its description, as a template of docker's says it.
    #[track_caller]
    pub fn field(&self, template: &str) -> String {
        let format = format!("--format={{{{{template}}}}}");
        self.engine.docker(["inspect", &format, &self.name]).expect(0).stdout.trim().to_owned()
    }

    /// How often it was started.
    #[must_use]
    pub fn starts(&self) -> usize {
        self.record.starts().len()
    }

    /// It runs and commits, with the policy that it had, and nothing of svckit's speaks of it.
    #[track_caller]
    pub fn assert_back(&self, starts: usize, policy: &str) {
        self.record.wait_for("it is started again", QUICK, |events| {
            events.iter().filter(|event| event.what == "start").count() == starts
        });
        self.record.wait_for_commits(2, QUICK);
        self.wait_for_no_entry();
        assert_eq!(self.field(".State.Status"), "running");
        assert_eq!(self.field(".HostConfig.RestartPolicy.Name"), policy);
        assert_eq!(self.starts(), starts);
    }

    /// Waits until the journal says nothing of it.
    #[track_caller]
    pub fn wait_for_no_entry(&self) {
        let journal = self.engine.path("state/state/journal");
        let until = Instant::now() + QUICK;
        loop {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
            let _absent = inotify.add_watch(&journal, AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_TO);
            let entries = std::fs::read_dir(&journal).into_iter().flatten().flatten();
            let speaks = |path: &Path| std::fs::read_to_string(path).is_ok_and(|text| text.contains(&self.name));
            let left: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| speaks(path)).collect();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < until, "left in the journal: {left:?}");
            svckit::world::wait::readable(&[std::os::fd::AsFd::as_fd(&inotify)], until).unwrap();
        }
    }

    /// The last run ended by itself, not by SIGKILL: it says so as its last act, with its database closed.
    #[track_caller]
    pub fn assert_ended_in_order(&self) {
        let events = self.record.events();
        assert!(events.iter().any(|event| event.what == "end"), "{:?}", events.last());
    }
}
