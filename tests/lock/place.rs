//! A state directory of its own, and commands that hold a lock until they are told to go on.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use svckit_testbed::command::{Outcome, Running, ours, run, sh, start};

pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `svc-lock` in this place, under no lock of a caller.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.program("svc-lock", args)
    }

    pub(crate) fn program<S: AsRef<OsStr>>(&self, name: &str, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = ours(name, args);
        let own = svckit_testbed::command::program("svc-lock");
        let path = std::env::join_paths(
            std::iter::once(own.parent().unwrap().to_owned())
                .chain(std::env::split_paths("/usr/sbin:/usr/bin:/sbin:/bin")),
        );
        command.env("SVCKIT_STATE_DIR", self.path("state")).env_remove("SVCKIT_LOCK").env("PATH", path.unwrap());
        command.current_dir(self.dir.path());
        command
    }

    #[track_caller]
    pub(crate) fn lock<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Outcome {
        run(self.command(args), WAIT_MAX)
    }

    /// `svc-lock run --name a -- sh -c SCRIPT`.
    #[track_caller]
    pub(crate) fn under_lock(&self, script: &str) -> Outcome {
        self.lock(["run", "--name", "a", "--", "sh", "-c", script])
    }

    #[track_caller]
    pub(crate) fn is_free(&self) {
        self.lock(["run", "--name", "a", "--", "true"]).expect(0);
    }

    /// Free by now or within moments: a killed process gives its descriptors back when the kernel gets to it.
    #[track_caller]
    pub(crate) fn becomes_free(&self) {
        self.lock(["run", "--name", "a", "--wait", "30s", "--", "true"]).expect(0);
    }

    #[track_caller]
    pub(crate) fn is_held(&self) -> Outcome {
        self.lock(["run", "--name", "a", "--", "true"]).expect(75)
    }

    /// A command that holds the lock.
    pub(crate) fn hold(&self) -> Held {
        let ready = Gate::new(self.path("ready"));
        let go = Gate::new(self.path("go"));
        let script = "echo $$ > ready; read line < go";
        let run = start(self.command(["run", "--name", "a", "--step", "waiting", "--", "sh", "-c", script]));
        let child = ready.line().trim().parse().unwrap();
        Held { run, child, go }
    }
}

/// A named pipe that is open for both ends here, so that no opening of it ever waits.
pub(crate) struct Gate {
    file: File,
}

impl Gate {
    pub(crate) fn new(path: PathBuf) -> Self {
        if !path.exists() {
            sh("mkfifo", [&path]).expect(0);
        }
        Self { file: OpenOptions::new().read(true).write(true).open(&path).unwrap() }
    }

    /// The next line that somebody writes.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        let ready = svckit::world::wait::readable(&[self.file.as_fd()], Instant::now() + WAIT_MAX).unwrap();
        assert!(!ready.is_empty(), "nobody wrote to the gate");
        let mut bytes = [0; 4096];
        let len = (&self.file).read(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }

    pub(crate) fn open(&self) {
        (&self.file).write_all(b"\n").unwrap();
    }
}

pub(crate) struct Held {
    pub(crate) run: Running,
    pub(crate) child: i32,
    pub(crate) go: Gate,
}

impl Held {
    #[track_caller]
    pub(crate) fn let_go(self) -> Outcome {
        self.go.open();
        self.run.finish(WAIT_MAX)
    }
}
