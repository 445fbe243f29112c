//! Runs the programs as a person does, in a directory and with a state of their own.

// Helpers of tests: a panic is how a test fails; not every test file uses each of them.
#![allow(clippy::unwrap_used, dead_code)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A place for one test.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

/// What a run said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn backup<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Said {
        said(self.command(env!("CARGO_BIN_EXE_svc-backup")).args(arguments).output().unwrap())
    }

    pub(crate) fn ctl<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Said {
        said(self.command(env!("CARGO_BIN_EXE_svc-ctl")).args(arguments).output().unwrap())
    }

    pub(crate) fn repair<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Said {
        said(self.command(env!("CARGO_BIN_EXE_svc-repair")).args(arguments).output().unwrap())
    }

    pub(crate) fn lock<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Said {
        said(self.command(env!("CARGO_BIN_EXE_svc-lock")).args(arguments).output().unwrap())
    }

    pub(crate) fn tend<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Said {
        said(self.command(env!("CARGO_BIN_EXE_svc-tend")).args(arguments).output().unwrap())
    }

    pub(crate) fn publish<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Said {
        said(self.command(env!("CARGO_BIN_EXE_svc-publish")).args(arguments).output().unwrap())
    }

    /// The program in this place: nothing of the machine's own configuration or state is seen or touched.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.dir.path())
            .env("SVCKIT_STATE_DIR", self.path("state"))
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }
}

fn said(output: Output) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Said {
    /// The exit code is this, and standard error has each of these.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, wanted: &[&str]) {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        for word in wanted {
            assert!(self.err.contains(word), "{word:?} is not in:\n{}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }

    #[track_caller]
    pub(crate) fn succeeds(&self) -> &str {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        &self.out
    }
}
