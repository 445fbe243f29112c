//! A Docker engine of our own, and containers of an image that borrows this machine's programs.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustix::process::Signal;
use svckit_testbed::command::{Outcome, ended, ours, program, run, signal};
use svckit_testbed::record::Record;
use tempfile::TempDir;

/// How long anything that should be quick may take on a machine that is busy with other stories.
pub(crate) const QUICK: Duration = Duration::from_secs(30);
const IMAGE: &str = "svckit-testbed:1";

/// A daemon with its data, its socket and svckit's state in a directory of its own.
pub(crate) struct Engine {
    directory: TempDir,
    daemon: Option<Child>,
}

impl Engine {
    /// Starts it, and makes the image.
    pub(crate) fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("svckit-docker-").tempdir_in("/var/tmp").unwrap();
        let mut engine = Self { directory, daemon: None };
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
    pub(crate) fn start_daemon(&mut self) {
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

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.path("sock").display())
    }

    /// Sends a signal to the daemon.
    pub(crate) fn signal(&self, which: Signal) {
        assert!(signal(i32::try_from(self.daemon.as_ref().unwrap().id()).unwrap(), which));
    }

    /// As a crash of it: its containers live on.
    pub(crate) fn kill_daemon(&mut self) {
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
    pub(crate) fn docker<const N: usize>(&self, args: [&str; N]) -> Outcome {
        let mut command = Command::new("docker");
        command.args(args).env("DOCKER_HOST", self.host());
        run(command, Duration::from_secs(60))
    }

    /// One of our programs against this engine, with its state here.
    pub(crate) fn tool(&self, name: &str, args: &[&str]) -> Command {
        let mut command = ours(name, args);
        command.env("DOCKER_HOST", self.host()).env("SVCKIT_STATE_DIR", self.path("state"));
        command
    }

    /// `svc-ctl`, two minutes at most.
    #[track_caller]
    pub(crate) fn svc_ctl(&self, args: &[&str]) -> Outcome {
        run(self.tool("svc-ctl", args), Duration::from_secs(120))
    }

    /// One that was started before.
    pub(crate) fn container(&self, name: &str) -> Container<'_> {
        let directory = self.path(name);
        let record = Record::at(directory.join("record"));
        Container { engine: self, name: name.to_owned(), record, database: directory.join("data.db") }
    }

    /// Starts a container of the test bed's service and waits for its first rows.
    #[track_caller]
    pub(crate) fn service(&self, name: &str, options: &[&str], args: &str) -> Container<'_> {
        let directory = self.path(name);
        std::fs::create_dir(&directory).unwrap();
        let container = self.container(name);
        let service = program("testbed-service");
        let at = |path: &Path| path.to_str().unwrap().to_owned();
        let mut words = vec!["run".into(), "-d".into(), "--name".into(), name.into(), "--network=none".into()];
        words.extend(options.iter().map(|word| (*word).to_owned()));
        // The service is given its own paths: those of the record and the database are the same in it and here.
        for volume in [
            "/usr:/usr:ro".to_owned(),
            format!("{0}:{0}:ro", at(service.parent().unwrap())),
            format!("{0}:{0}", at(&directory)),
        ] {
            words.extend(["-v".to_owned(), volume]);
        }
        words.extend([IMAGE.to_owned(), at(&service), "--record".to_owned(), at(container.record.path())]);
        words.extend(["--database".to_owned(), at(&container.database)]);
        words.extend(args.split_whitespace().map(str::to_owned));
        let mut command = Command::new("docker");
        command.args(words).env("DOCKER_HOST", self.host());
        run(command, QUICK).expect(0);
        container.record.wait_for_commits(3, QUICK);
        container
    }
}

fn with(command: &mut Command) -> Command {
    std::mem::replace(command, Command::new("true"))
}

impl Engine {
    /// Removes its containers, ends it, and removes its data.
    pub(crate) fn end(&self) {
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
pub(crate) struct Container<'a> {
    engine: &'a Engine,
    pub(crate) name: String,
    pub(crate) record: Record,
    pub(crate) database: PathBuf,
}

impl Container<'_> {
    /// A field of its description, as a template of docker's says it.
    #[track_caller]
    pub(crate) fn field(&self, template: &str) -> String {
        let format = format!("--format={{{{{template}}}}}");
        self.engine.docker(["inspect", &format, &self.name]).expect(0).stdout.trim().to_owned()
    }

    /// How often it was started.
    pub(crate) fn starts(&self) -> usize {
        self.record.starts().len()
    }

    /// It runs and commits, with the policy that it had, and nothing of svckit's speaks of it.
    #[track_caller]
    pub(crate) fn assert_back(&self, starts: usize, policy: &str) {
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
    pub(crate) fn wait_for_no_entry(&self) {
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
    pub(crate) fn assert_ended_in_order(&self) {
        let events = self.record.events();
        assert!(events.iter().any(|event| event.what == "end"), "{:?}", events.last());
    }
}
